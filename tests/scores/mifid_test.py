import numpy as np
import pytest

from memjax import frechet_distance, memorization_informed_frechet


def slow_nearest(queries, references):
  """Least 1 − |cos| of each query."""
  return np.array(
    [
      min(
        1 - abs(q @ r) / np.linalg.norm(q) / np.linalg.norm(r)
        for r in references
      )
      for q in queries
    ]
  )


def test_equals_the_definition_in_both_directions():
  rng = np.random.default_rng(0)
  train, generated, test = rng.normal(size=(3, 40, 6))
  generated[:10] = -2 * train[:10]  # a negative multiple is a copy
  for direction in ('nearest_real', 'nearest_generated'):
    of_real = direction == 'nearest_real'
    pair = (generated, train) if of_real else (train, generated)
    near = slow_nearest(*pair)
    null = slow_nearest(*((test, train) if of_real else (train, test)))
    for threshold in (0.01, 0.9):
      found = memorization_informed_frechet(
        train, generated, test=test, threshold=threshold, direction=direction
      )
      np.testing.assert_allclose(found.distance, near.mean(), atol=1e-12)
      np.testing.assert_allclose(found.null_distance, null.mean(), atol=1e-12)
      np.testing.assert_allclose(
        found.distance_std_err, near.std(ddof=1) / np.sqrt(40)
      )
      assert found.frechet == frechet_distance(train, generated)
      assert found.is_penalized == (threshold == 0.9)
      expected = found.frechet / (near.mean() if threshold == 0.9 else 1)
      np.testing.assert_allclose(found.value, expected, rtol=1e-9)
      assert np.isnan(found.p_value) != of_real


def test_the_directions_differ_where_few_points_are_copied():
  """Copies of one point again and again: the original is not fooled."""
  rng = np.random.default_rng(0)
  train = np.abs(rng.normal(size=(100, 8)))
  generated = np.repeat(train[:2], 50, axis=0)
  generated += 1e-4 * rng.normal(size=generated.shape)
  original = memorization_informed_frechet(train, generated)
  other = memorization_informed_frechet(
    train, generated, direction='nearest_generated'
  )
  assert original.is_penalized
  assert not other.is_penalized
  assert original.value > 1e4 * other.value


def test_copies_give_a_huge_number_and_no_infinity():
  train = np.abs(np.random.default_rng(0).normal(size=(50, 4)))
  found = memorization_informed_frechet(train, train[:30])
  assert found.distance < 1e-12
  assert 1e6 < found.value < np.inf


def test_under_the_null_p_is_uniform():
  rng = np.random.default_rng(0)
  p = np.array(
    [
      memorization_informed_frechet(
        *rng.normal(size=(2, 60, 3)),
        test=rng.normal(size=(50, 3)),
        num_permutations=99,
        seed=seed,
      ).p_value
      for seed in range(200)
    ]
  )
  assert (p <= 0.05).mean() <= 0.05 + 3 * 0.0155
  assert 0.5 - 3 * 0.036 <= (p <= 0.5).mean() <= 0.5 + 3 * 0.036


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'generated': np.zeros((3, 2))}, r'generated\[0\] is a zero vector'),
    ({'generated': np.ones((1, 2))}, 'generated has 1 point'),
    ({'threshold': 0.0}, 'threshold=0'),
    ({'direction': 'real'}, "direction='real': expected one of 'nearest_real'"),
    ({'test': np.ones((3, 4))}, 'test has 4 features and train 2'),
  ],
)
def test_bad_arguments_are_named(changes, message):
  arguments = {'train': np.eye(2), 'generated': np.ones((4, 2)), **changes}
  with pytest.raises(ValueError, match=message):
    memorization_informed_frechet(**arguments)
