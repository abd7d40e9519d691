import numpy as np
import pytest
import scipy.stats

from memjax.scores.distance_ratio import (
  distance_ratio,
  memorized_null_rate,
  memorized_rates,
  memorized_samples,
)


def normal(*shape, seed=0):
  return np.random.default_rng(seed).normal(size=shape)


def nearest(x, y):
  """Distance and index of the nearest row of y, one row of x at a time."""
  d = np.array([np.linalg.norm(y - a, axis=1) for a in x])
  return d.min(axis=1), d.argmin(axis=1)


def test_rho_is_equation_6():
  x, v, s = normal(30, 3), normal(40, 3, seed=1), normal(40, 3, seed=2)
  expected = nearest(x, v)[0] / nearest(x, s)[0]
  np.testing.assert_allclose(distance_ratio(x, v, s), expected)
  # A copy of a training point is nearer than validation data.
  s[7] = x[3] + 1e-6
  rho = distance_ratio(x, v, s)
  assert rho[3] > 1e3
  np.testing.assert_allclose(distance_ratio(x, s, v), 1 / rho)
  np.testing.assert_allclose(distance_ratio(5 * x, 5 * v, 5 * s), rho)


def test_exact_copies():
  x = np.array([[0.0], [5.0], [9.0]])
  rho = distance_ratio(x, np.array([[1.0], [5.0]]), np.array([[0.0], [5.0]]))
  np.testing.assert_array_equal(rho, [np.inf, 1.0, 1.0])


def slow_published(train, validation, generated, block):
  """dd[0, idxs] where row i is meant: part A8."""
  rho = []
  for start in range(0, len(train), block):
    rows = train[start : start + block]
    ratio = []
    for points in (validation, generated):
      dd = np.linalg.norm(rows[:, None] - points[None], axis=2)
      ratio.append(dd[0, dd.argmin(axis=1)])
    rho.extend(ratio[0] / ratio[1])
  return np.array(rho)


def test_the_published_script_is_reproduced_and_unrelated():
  x, v, s = normal(1024, 24), normal(500, 24, seed=1), normal(500, 24, seed=2)
  rho = distance_ratio(x, v, s)
  published = distance_ratio(x, v, s, as_published=True)
  np.testing.assert_allclose(published, slow_published(x, v, s, 256))
  # Right for the first point of each block of 256 alone.
  right = np.isclose(published, rho)
  np.testing.assert_array_equal(np.flatnonzero(right), [0, 256, 512, 768])
  # A8: correlation −0.016; the standard error of 1,024 pairs is 0.03.
  assert abs(np.corrcoef(rho, published)[0, 1]) < 0.1
  one = distance_ratio(x, v, s, as_published=True, block_size=1)
  np.testing.assert_allclose(one, rho)


def test_memorized_is_the_definition():
  train, test, g = normal(50, 2), normal(60, 2, seed=1), normal(40, 2, seed=2)
  g[:5] = train[:5]
  d_train, index = nearest(g, train)
  d_test, _ = nearest(g, test)
  result = memorized_samples(train, test, g, ratio=2.0)
  np.testing.assert_allclose(result.d_train, d_train)
  np.testing.assert_allclose(result.d_test, d_test)
  np.testing.assert_array_equal(result.nearest_train, index)
  np.testing.assert_array_equal(result.is_memorized, d_test >= 2 * d_train)
  assert result.is_memorized[:5].all()


def test_boundary_and_ties():
  train = np.array([[0.0], [100.0]])
  test = np.array([[5.0], [100.0]])
  generated = np.array([[2.0], [1.9999], [2.0001], [100.0], [0.0], [5.0]])
  result = memorized_samples(train, test, generated, ratio=1.5)
  # d_test = 1.5 · d_train counts; a sample equal to both does not.
  np.testing.assert_array_equal(
    result.is_memorized, [True, True, False, False, True, False]
  )


@pytest.mark.parametrize(
  ('ratio', 'num_test', 'rate'),
  [(1.5, 4000, 0.306), (2.0, 4000, 0.200), (1.5**0.5, 4000, 0.400),
   (2**0.5, 4000, 0.332), (1.5, 1000, 0.638), (2.0, 1000, 0.495)],
)  # fmt: skip
def test_null_rates_of_a_perfect_generator(ratio, num_test, rate):
  """Part E3, here with 4,000 instead of 20,000 training points."""
  rng = np.random.default_rng(0)
  train, generated = rng.uniform(size=(2, 4000, 2))
  test = rng.uniform(size=(num_test, 2))
  result = memorized_samples(
    train, test, generated, ratio=ratio, num_permutations=1
  )
  theory = memorized_null_rate(ratio, 2.0, size_ratio=num_test / 4000)
  assert abs(theory - rate) < 0.006
  # Neighbours are shared, so the standard error is about 0.015.
  assert abs(result.is_memorized.mean() - rate) < 0.045
  equal = memorized_null_rate(ratio, 2.0)
  assert abs(result.null_rate - equal) < 0.06
  rates = memorized_rates(train, test, generated, ratio=ratio)
  assert rates.size == num_test
  assert rates.swapped_rate == result.null_rate
  assert abs(rates.rate - equal) < 0.06


def test_equal_sizes_need_no_subsample():
  train, test, generated = normal(3, 80, 2)
  one = memorized_samples(train, test, generated, seed=0)
  rates = memorized_rates(train, test, generated, seed=5)
  assert rates.rate == one.is_memorized.mean()
  assert rates.swapped_rate == one.null_rate
  swapped = memorized_samples(test, train, generated)
  assert swapped.null_rate == one.is_memorized.mean()


@pytest.mark.parametrize(('num_test', 'num_generated'), [(40, 300), (120, 60)])
def test_under_the_null_p_is_uniform(num_test, num_generated):
  """Also for more samples than points, where a sign test would reject often."""
  p, sign = [], []
  for seed in range(200):
    rng = np.random.default_rng(10_000 + seed)
    train, test = rng.normal(size=(60, 3)), rng.normal(size=(num_test, 3))
    generated = rng.normal(size=(num_generated, 3))
    result = memorized_samples(
      train, test, generated, num_permutations=99, seed=seed
    )
    p.append(result.p_value)
    memorized, swapped = (
      result.is_memorized,
      1.5 * result.d_test <= result.d_train,
    )
    sign.append(
      scipy.stats.binomtest(
        int(memorized.sum()), max(1, int((memorized | swapped).sum())),
        60 / (60 + num_test), alternative='greater',
      ).pvalue
    )  # fmt: skip
  # The excess has ties, which make p a little conservative, never too small.
  test = scipy.stats.kstest(np.array(p), 'uniform', alternative='greater')
  assert test.pvalue > 0.01
  assert (np.array(p) <= 0.3).mean() > 0.2
  assert (np.array(p) <= 0.05).mean() <= 0.05 + 3 * 0.0155
  if num_generated == 300:
    assert (np.array(sign) <= 0.05).mean() > 0.12


@pytest.mark.parametrize('num_features', [2, 8, 64])
@pytest.mark.parametrize('num_test', [200, 50])
def test_copies_are_found(num_features, num_test):
  found = 0
  for seed in range(10):
    rng = np.random.default_rng(seed)
    train, generated = rng.normal(size=(2, 200, num_features))
    test = rng.normal(size=(num_test, num_features))
    generated[:60] = train[:60] + 1e-3 * rng.normal(size=(60, num_features))
    result = memorized_samples(
      train, test, generated, num_permutations=199, seed=seed
    )
    found += result.p_value <= 0.05
    assert result.is_memorized[:60].all()
    np.testing.assert_array_equal(result.nearest_train[:60], np.arange(60))
  assert found == 10


def test_overlapping_sets_are_no_evidence():
  """All samples in train and in test: nothing is memorized, p = 1."""
  x = normal(50, 3)
  result = memorized_samples(x, x, x, num_permutations=50)
  assert not result.is_memorized.any()
  assert (result.null_rate, result.p_value) == (0.0, 1.0)


def test_cosine_and_seed():
  train, test, generated = normal(3, 60, 4) + 1
  run = lambda **k: memorized_samples(
    train, test[:40], generated, num_permutations=50, **k
  )
  scaled = memorized_samples(
    2 * train, test[:40], 3 * generated, metric='cosine', num_permutations=50
  )
  np.testing.assert_array_equal(
    scaled.is_memorized, run(metric='cosine').is_memorized
  )
  assert run(seed=1).p_value == run(seed=1).p_value
  assert run(seed=1).null_rate != run(seed=2).null_rate


def bad(**change):
  return {
    'train': np.ones((4, 2)), 'test': np.ones((4, 2)),
    'generated': np.ones((4, 2)), **change,
  }  # fmt: skip


@pytest.mark.parametrize(
  ('call', 'message'),
  [
    (lambda: memorized_samples(**bad(ratio=0.5)), r'ratio=0.5: .*\[1'),
    (lambda: memorized_samples(**bad(test=np.ones((4, 3)))), 'test has 3 feat'),
    (
      lambda: memorized_samples(**bad(num_permutations=0)),
      'num_permutations=0',
    ),
    (lambda: memorized_samples(**bad(seed=-1)), 'seed=-1'),
    (
      lambda: memorized_samples(**bad(train=np.empty((0, 2)))),
      r'train .*\(0, 2\)',
    ),
    (lambda: memorized_null_rate(0.0, 2.0), 'ratio=0.0'),
    (
      lambda: distance_ratio([[np.nan]], [[1.0]], [[1.0]]),
      r'train\[0, 0\]=nan',
    ),
    (
      lambda: distance_ratio([[1.0]], [[1.0, 2.0]], [[1.0]]),
      'validation has 2 features and train 1',
    ),
  ],
)
def test_bad_arguments_are_named(call, message):
  with pytest.raises(ValueError, match=message):
    call()
