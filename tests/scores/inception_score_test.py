import numpy as np
import pytest

from memjax import inception_score


def slow_score(logits):
  """exp of the mean Kullback-Leibler divergence, sample by sample."""
  p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
  mean = p.mean(axis=0)
  return np.exp(np.mean([sum(row * np.log(row / mean)) for row in p]))


def test_equals_the_definition():
  logits = np.random.default_rng(0).normal(size=(60, 7)) * 2
  one = inception_score(logits, num_splits=1)
  np.testing.assert_allclose(one.value, slow_score(logits), rtol=1e-12)
  assert np.isnan(one.std_err)
  order = np.random.default_rng(3).permutation(60)
  parts = [slow_score(logits[rows]) for rows in np.array_split(order, 4)]
  four = inception_score(logits, num_splits=4, seed=3)
  np.testing.assert_allclose(four.value, np.mean(parts), rtol=1e-12)
  np.testing.assert_allclose(four.split_std, np.std(parts), rtol=1e-10)
  np.testing.assert_allclose(
    four.std_err, np.std(parts, ddof=1) / 2, rtol=1e-10
  )


def test_closed_forms():
  """Nothing clear: 1. Clear and evenly spread over c classes: c."""
  assert inception_score(np.zeros((100, 9))).value == pytest.approx(1)
  clear = np.tile(1e4 * np.eye(6), (50, 1))
  assert inception_score(clear, num_splits=1).value == pytest.approx(6)
  one_class = np.tile(1e4 * np.eye(6)[:1], (50, 1))
  assert inception_score(one_class).value == pytest.approx(1)


def test_invariances():
  rng = np.random.default_rng(0)
  logits = rng.normal(size=(200, 5))
  shifted = logits + rng.normal(size=(200, 1)) * 100
  first, second = map(inception_score, (logits, shifted))
  np.testing.assert_allclose(second, first, rtol=1e-9)
  classes = inception_score(logits[:, rng.permutation(5)])
  np.testing.assert_allclose(classes, first, rtol=1e-9)


def test_samples_sorted_by_class_make_no_splits_of_one_class():
  clear = np.repeat(1e3 * np.eye(10), 50, axis=0)
  assert inception_score(clear).value > 8


def test_the_standard_error_is_the_spread_between_draws():
  rng = np.random.default_rng(0)
  found = [
    inception_score(3 * rng.normal(size=(300, 8)), seed=seed)
    for seed in range(200)
  ]
  spread = np.std([f.value for f in found])
  error = np.sqrt(np.mean([f.std_err**2 for f in found]))
  assert 0.8 < error / spread < 1.25
  assert np.mean([f.split_std for f in found]) > 2 * spread


@pytest.mark.parametrize(
  ('logits', 'options', 'message'),
  [
    (
      np.ones((19, 3)),
      {'num_splits': 10},
      'logits has 19 rows: expected 20 or more',
    ),
    (np.full((40, 3), np.inf), {}, r'logits\[0, 0\]=inf'),
    (np.ones((40, 3)), {'num_splits': 0}, 'num_splits=0'),
    (np.ones((40, 3)), {'seed': -1}, 'seed=-1'),
  ],
)
def test_bad_arguments_are_named(logits, options, message):
  with pytest.raises(ValueError, match=message):
    inception_score(logits, **options)
