import numpy as np
import pytest
import scipy.stats

from memjax.scores.authenticity import authenticity


def slow_fraction(train, generated):
  """The definition, one sample at a time."""
  authentic = []
  for g in generated:
    d = np.linalg.norm(train - g, axis=1)
    nearest = d.argmin()
    others = np.delete(train, nearest, axis=0)
    reach = np.linalg.norm(others - train[nearest], axis=1).min()
    authentic.append(d[nearest] > reach)
  return np.mean(authentic)


def slow_null_mean(train):
  """Each training point as a sample of a generator that never saw it."""
  return np.mean(
    [
      slow_fraction(np.delete(train, i, axis=0), train[i : i + 1])
      for i in range(len(train))
    ]
  )


@pytest.mark.parametrize('metric', ['euclidean', 'cosine'])
def test_fraction_and_null_equal_the_definitions(metric):
  train, generated = np.random.default_rng(0).normal(size=(2, 60, 3)) + 1
  unit = lambda x: x / np.linalg.norm(x, axis=1, keepdims=True)
  see = unit if metric == 'cosine' else np.asarray
  result = authenticity(train, generated, metric=metric)
  assert result.fraction == slow_fraction(see(train), see(generated))
  np.testing.assert_allclose(result.null_mean, slow_null_mean(see(train)))
  assert np.isnan(result.p_value)


def test_hand_computed():
  train = np.array([[0.0], [1.0], [3.0], [7.0]])
  # 0.5 from {0}, whose neighbour is 1 away: not; 5 from {3} is 2, as far as
  # {1} from {3}: not; 9 from {7} is 2, whose neighbour is 4 away: not;
  # −2 from {0} is 2: authentic.
  for g, is_authentic in ((-0.5, 0), (5.0, 0), (9.0, 0), (-2.0, 1), (3.0, 0)):
    assert authenticity(train, np.array([[g]])).fraction == is_authentic


@pytest.mark.parametrize(
  ('num_features', 'size', 'share', 'tolerance'),
  [(2, 2000, 0.37, 0.04), (1024, 400, 0.92, 0.08)],
)
def test_the_null_moves_with_the_dimension(
  num_features, size, share, tolerance
):
  """Design, rule 2: an honest generator has no fixed AuthPct."""
  rng = np.random.default_rng(0)
  train, generated = rng.normal(size=(2, size, num_features))
  result = authenticity(train, generated)
  assert abs(result.fraction - share) < tolerance
  assert abs(result.null_mean - result.fraction) < 0.05


def test_under_the_null_p_is_uniform():
  p = []
  for seed in range(200):
    train, generated, test = np.random.default_rng(seed).normal(size=(3, 80, 4))
    p.append(
      authenticity(
        train, generated, test=test[:60], num_permutations=99, seed=seed
      ).p_value
    )
  p = np.array(p)
  # A difference of two shares has ties: p is valid, a little conservative.
  assert (p <= 0.05).mean() <= 0.05 + 3 * 0.0155
  assert (p <= 0.5).mean() <= 0.5 + 3 * 0.036
  assert scipy.stats.kstest(p, 'uniform', alternative='greater').pvalue > 0.01
  assert (p <= 0.2).mean() > 0.08


@pytest.mark.parametrize('num_features', [2, 8, 64])
def test_copies_are_found(num_features):
  found = 0
  for seed in range(10):
    rng = np.random.default_rng(seed)
    train, generated, test = rng.normal(size=(3, 200, num_features))
    generated[:90] = train[:90] + 1e-3 * rng.normal(size=(90, num_features))
    result = authenticity(train, generated, test=test, num_permutations=199)
    found += result.p_value <= 0.05
    assert result.fraction < result.null_mean
  assert found >= 9


def test_permuted_and_scaled_sets():
  rng = np.random.default_rng(0)
  train, generated, test = rng.normal(size=(3, 50, 3))
  one = authenticity(train, generated, test=test)
  order = rng.permutation(50)
  two = authenticity(5 * train[order] + 1, 5 * generated + 1, test=5 * test + 1)
  assert two == one
  copies = authenticity(train, train, test=test)
  assert copies.fraction == 0.0
  assert copies.p_value == 1 / 1001


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    ({'train': np.ones((2, 2))}, 'train has 2 points: expected 3 or more'),
    ({'generated': np.ones((4, 3))}, 'generated has 3 features and train 2'),
    ({'test': np.full((4, 2), np.nan)}, r'test\[0, 0\]=nan'),
    ({'metric': 'cosine', 'test': np.zeros((4, 2))}, r'test\[0\] is a zero'),
    ({'test': np.ones((4, 2)), 'num_permutations': 0}, 'num_permutations=0'),
  ],
)
def test_bad_arguments_are_named(arguments, message):
  arguments = {
    'train': np.eye(2)[[0, 1, 0, 1]], 'generated': np.ones((4, 2)), **arguments
  }  # fmt: skip
  with pytest.raises(ValueError, match=message):
    authenticity(**arguments)
