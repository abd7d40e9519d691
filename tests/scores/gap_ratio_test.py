import numpy as np
import pytest

from memjax import gap_ratio


def slow_gaps(train, generated, metric='euclidean'):
  ratios = []
  for g in generated:
    d = np.linalg.norm(train - g, axis=1)
    if metric == 'cosine':
      unit = train / np.linalg.norm(train, axis=1, keepdims=True)
      d = np.linalg.norm(unit - g / np.linalg.norm(g), axis=1)
    first, second = np.sort(d)[:2]
    ratios.append(first / second)
  return np.array(ratios)


@pytest.mark.parametrize('metric', ['euclidean', 'cosine'])
@pytest.mark.parametrize('threshold', [1 / 3, 0.7, 1.0])
def test_equals_the_definition(metric, threshold):
  rng = np.random.default_rng(0)
  train, generated, test = rng.normal(size=(3, 50, 3))
  found = gap_ratio(
    train, generated, test=test, metric=metric, threshold=threshold
  )
  ratio = slow_gaps(train, generated, metric)
  np.testing.assert_allclose(found.ratio, ratio, rtol=1e-9)
  np.testing.assert_array_equal(found.is_memorized, ratio < threshold)
  assert found.fraction == (ratio < threshold).mean()
  assert (
    found.null_fraction == (slow_gaps(train, test, metric) < threshold).mean()
  )


def test_by_hand():
  train = np.array([[0.0], [4.0], [4.0]])
  found = gap_ratio(train, np.array([[1.0], [0.9], [0.0], [4.0], [5.0]]))
  # 1/3 is not less than 1/3; a copy has ratio 0; a point that the training set
  # holds twice cannot be told.
  assert found.is_memorized.tolist() == [False, True, True, False, False]
  np.testing.assert_allclose(found.ratio, [1 / 3, 0.9 / 3.1, 0, 1, 1])
  assert found.nearest_train.tolist() == [0, 0, 0, 1, 1]
  assert np.isnan([found.null_fraction, found.p_value]).all()


@pytest.mark.parametrize('dimension', [1, 2, 4])
def test_a_perfect_generator_is_flagged_at_the_power_of_the_dimension(
  dimension,
):
  """P(d₁ < c d₂) = c^d where points are locally Poisson."""
  rng = np.random.default_rng(0)
  train, generated = rng.uniform(size=(2, 3000, dimension))
  fraction = gap_ratio(train, generated, threshold=0.5).fraction
  assert abs(fraction - 0.5**dimension) < 0.04


def test_under_the_null_p_is_uniform():
  rng = np.random.default_rng(0)
  p = np.array(
    [
      gap_ratio(
        *rng.normal(size=(2, 80, 2)),
        test=rng.normal(size=(60, 2)),
        num_permutations=99,
        seed=seed,
      ).p_value
      for seed in range(200)
    ]
  )
  assert (p <= 0.05).mean() <= 0.05 + 3 * 0.0155
  assert (p <= 0.5).mean() <= 0.5 + 3 * 0.036
  assert (p <= 0.3).mean() > 0.1  # ties make it conservative, not useless


@pytest.mark.parametrize('dimension', [2, 8, 64])
def test_copies_are_found_and_named(dimension):
  rng = np.random.default_rng(0)
  train, generated, test = rng.normal(size=(3, 300, dimension))
  generated[:60] = train[:60] + 1e-3 * rng.normal(size=(60, dimension))
  found = gap_ratio(train, generated, test=test)
  assert found.is_memorized[:60].mean() > 0.95
  assert found.nearest_train[:60].tolist() == list(range(60))
  assert found.p_value <= 0.01


def test_order_and_scale_change_nothing():
  rng = np.random.default_rng(0)
  train, generated, test = rng.normal(size=(3, 50, 3))
  one = gap_ratio(train, generated, test=test)
  two = gap_ratio(7 * train[rng.permutation(50)], 7 * generated, test=7 * test)
  np.testing.assert_allclose(two.ratio, one.ratio)
  assert (one.fraction, one.p_value) == (two.fraction, two.p_value)


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'train': np.ones((1, 2))}, 'train has 1 point: expected 2 or more'),
    ({'threshold': 0.0}, 'threshold=0'),
    ({'threshold': 1.5}, r'threshold=1.5: expected a number in \[0'),
    ({'test': np.ones((3, 4))}, 'test has 4 features and train 2'),
    ({'metric': 'cosine', 'generated': np.zeros((2, 2))}, 'is a zero vector'),
  ],
)
def test_bad_arguments_are_named(changes, message):
  arguments = {'train': np.eye(2), 'generated': np.ones((4, 2)), **changes}
  with pytest.raises(ValueError, match=message):
    gap_ratio(**arguments)
