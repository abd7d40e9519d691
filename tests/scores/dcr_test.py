import numpy as np
import pytest
import scipy.stats

from memjax import dcr_share


def slow_share(train, test, generated):
  count = 0.0
  for g in generated:
    d_train = min(np.linalg.norm(train - g, axis=1))
    d_test = min(np.linalg.norm(test - g, axis=1))
    count += 1.0 if d_train < d_test else 0.5 if d_train == d_test else 0.0
  return count / len(generated)


def test_equals_the_definition():
  rng = np.random.default_rng(0)
  train, test = rng.normal(size=(40, 3)), rng.normal(size=(25, 3))
  generated = rng.normal(size=(30, 3))
  test[0] = generated[0] = train[0]  # a tie
  generated[1], generated[2] = train[1], test[2]
  found = dcr_share(train, test, generated)
  np.testing.assert_allclose(
    found.share, slow_share(train, test, generated), rtol=1e-12
  )
  assert round(found.share * 60) % 2 == 1  # one half among thirty
  np.testing.assert_allclose(found.null_share, 40 / 65)
  assert (found.d_train[[0, 1]] == 0).all()
  assert (found.d_test[[0, 2]] == 0).all()


def test_the_null_where_many_points_tie():
  # A sample at which all points lie is nearer to neither, half of it each.
  found = dcr_share(np.zeros((9, 2)), np.zeros((3, 2)), np.zeros((4, 2)))
  assert (found.share, found.null_share, found.null_std) == (0.5, 0.5, 0.0)
  assert found.p_value == 1.0


def test_by_hand():
  """SDMetrics' vectors: distances 0.2·10 and 0 of synthetic [3, 5] to real."""
  real = np.array([[0.0], [5.0], [8.0], [9.0], [10.0]])
  found = dcr_share(real, np.array([[1.0], [5.0]]), np.array([[3.0], [5.0]]))
  np.testing.assert_allclose(found.d_train, [2, 0])
  assert found.share == 0.5  # 3 is as far from 5 as from 1; 5 is in both


@pytest.mark.parametrize(('l', 't'), [(60, 60), (90, 30), (30, 90)])
def test_under_the_null_p_is_uniform_at_any_sizes(l, t):
  """Samples share neighbours: a binomial test would reject far too often."""
  rng = np.random.default_rng(l)
  p, binomial, shares = [], [], []
  for seed in range(150):
    train, test = rng.normal(size=(l, 2)), rng.normal(size=(t, 2))
    # Far more samples than neighbours, of another distribution than the data.
    generated = 0.5 * rng.normal(size=(200, 2)) + 0.3
    found = dcr_share(train, test, generated, num_permutations=99, seed=seed)
    p.append(found.p_value)
    shares.append(found.share)
    binomial.append(
      scipy.stats.binomtest(
        round(found.share * 200), 200, l / (l + t), alternative='greater'
      ).pvalue
    )
  p = np.array(p)
  assert scipy.stats.kstest(p, 'uniform').pvalue > 0.005
  assert (p <= 0.05).mean() <= 0.05 + 3 * 0.018
  assert (np.array(binomial) <= 0.05).mean() > 0.15
  error = np.std(shares) / np.sqrt(150)
  assert abs(np.mean(shares) - l / (l + t)) < 4 * error


@pytest.mark.parametrize('dimension', [2, 8, 64])
def test_copies_are_found(dimension):
  rng = np.random.default_rng(0)
  train, test, generated = rng.normal(size=(3, 300, dimension))
  generated[:75] = train[:75]
  found = dcr_share(train, test, generated, num_permutations=199)
  assert found.share > found.null_share
  assert found.p_value <= 0.05


def test_null_std_and_symmetry():
  """With the labels swapped the share is what is left of 1."""
  rng = np.random.default_rng(0)
  train, test, generated = rng.normal(size=(3, 80, 3))
  one = dcr_share(train, test, generated)
  two = dcr_share(test, train, generated)
  np.testing.assert_allclose(one.share + two.share, 1)
  assert one.null_share == two.null_share == 0.5
  np.testing.assert_allclose(one.null_std, two.null_std, rtol=0.15)


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'test': np.ones((3, 4))}, 'test has 4 features and train 2'),
    ({'num_permutations': 0}, 'num_permutations=0'),
    ({'metric': 'cosine', 'generated': np.zeros((2, 2))}, 'is a zero vector'),
  ],
)
def test_bad_arguments_are_named(changes, message):
  arguments = {
    'train': np.eye(2), 'test': np.eye(2), 'generated': np.ones((4, 2)),
    **changes,
  }  # fmt: skip
  with pytest.raises(ValueError, match=message):
    dcr_share(**arguments)
