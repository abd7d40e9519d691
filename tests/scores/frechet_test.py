import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

from memjax.scores.frechet import (
  Moments,
  frechet_distance,
  frechet_distance_from_moments,
  merge_moments,
  moments,
  moments_of_batches,
)


def slow_distance(x, y):
  """The textbook form with a matrix square root."""
  a, b = np.cov(x.T), np.cov(y.T)
  root = scipy.linalg.sqrtm(a @ b)
  shift = x.mean(axis=0) - y.mean(axis=0)
  return shift @ shift + np.trace(a + b - 2 * root.real)


@pytest.mark.parametrize('num_features', [2, 5, 40])
def test_equals_the_matrix_square_root(num_features):
  rng = np.random.default_rng(num_features)
  mix = rng.normal(size=(2, num_features, num_features))
  x = rng.normal(size=(300, num_features)) @ mix[0]
  y = rng.normal(size=(200, num_features)) @ mix[1] + 1
  expected = slow_distance(x, y)
  np.testing.assert_allclose(frechet_distance(x, y), expected, rtol=1e-8)
  np.testing.assert_allclose(frechet_distance(y, x), expected, rtol=1e-8)
  np.testing.assert_allclose(
    frechet_distance(jnp.asarray(x), y.tolist()), expected, rtol=1e-4
  )


def test_closed_forms():
  """Diagonal covariances: |Δμ|² + Σ (σ_x − σ_y)²."""
  x_std, y_std = np.array([1.0, 2.0, 0.5]), np.array([3.0, 2.0, 0.0])
  shift = np.array([1.0, -2.0, 0.0])
  a = Moments(10, np.zeros(3), np.diag(x_std**2))
  b = Moments(10, shift, np.diag(y_std**2))
  # The mean difference is squared: 5, and not √5 as in some code.
  np.testing.assert_allclose(
    frechet_distance_from_moments(a, b), 5 + 4 + 0 + 0.25, rtol=1e-12
  )


def test_invariances():
  rng = np.random.default_rng(0)
  x, y = rng.normal(size=(2, 100, 6))
  one = frechet_distance(x, y)
  rotation = np.linalg.qr(rng.normal(size=(6, 6)))[0]
  np.testing.assert_allclose(frechet_distance(x @ rotation, y @ rotation), one)
  np.testing.assert_allclose(frechet_distance(3 * x, 3 * y), 9 * one)
  np.testing.assert_allclose(frechet_distance(x + 1e6, y + 1e6), one, rtol=1e-6)
  order = rng.permutation(100)
  np.testing.assert_allclose(frechet_distance(x[order], y), one)
  images = frechet_distance(x.reshape(100, 1, 2, 3), y.reshape(100, 1, 2, 3))
  assert images == one


@pytest.mark.parametrize(
  'kind', ['few', 'constant', 'repeated', 'tiny', 'huge']
)
def test_singular_covariances(kind):
  """Never NaN, complex or negative: the fate of sqrtm."""
  rng = np.random.default_rng(0)
  x, y = rng.normal(size=(2, 30, 20))
  if kind == 'few':
    x, y = x[:3], y[:4]
  elif kind == 'constant':
    x[:, 5:], y[:, 3:] = 1.0, 2.0
  elif kind == 'repeated':
    x[:, 10:], y[:, 10:] = x[:, :10], y[:, :10]
  elif kind == 'tiny':
    x, y = 1e-150 * x, 1e-150 * y
  else:
    x, y = 1e100 * x, 1e100 * y
  for a, b in ((x, y), (x, x), (x, x + 1e-9)):
    distance = frechet_distance(a, b)
    assert isinstance(distance, float)
    assert np.isfinite(distance)
    assert distance >= 0
  spread = np.trace(np.cov(x.T))
  assert frechet_distance(x, x) <= 1e-10 * spread


def test_fewer_rows_than_features_equal_the_small_problem():
  """Zero features add nothing; neither does a rotation into more of them."""
  rng = np.random.default_rng(0)
  x, y = rng.normal(size=(2, 50, 4))
  frame = np.linalg.qr(rng.normal(size=(200, 4)))[0]
  np.testing.assert_allclose(
    frechet_distance(x @ frame.T, y @ frame.T),
    frechet_distance(x, y),
    rtol=1e-6,
  )


def test_few_rows_bias_it_upward():
  rng = np.random.default_rng(0)
  means = [
    np.mean(
      [frechet_distance(*rng.normal(size=(2, size, 5))) for _ in range(30)]
    )
    for size in (30, 120, 480)
  ]
  assert means[0] > 3 * means[1] > 9 * means[2] > 0


@pytest.mark.parametrize('size', [1, 7, 50, 1000])
def test_batches_equal_the_whole(size):
  x = 1e4 + np.random.default_rng(0).normal(size=(103, 6))
  whole = moments(x)
  np.testing.assert_allclose(whole.covariance, np.cov(x.T), rtol=1e-9)
  parts = moments_of_batches(x[i : i + size] for i in range(0, 103, size))
  assert parts.count == whole.count == 103
  np.testing.assert_allclose(parts.mean, whole.mean, rtol=1e-14)
  np.testing.assert_allclose(parts.covariance, whole.covariance, atol=1e-10)


def test_merging_is_symmetric():
  x = np.random.default_rng(0).normal(size=(20, 3))
  a, b = moments(x[:1]), moments(x[1:])
  assert (a.covariance == 0).all()
  one, two = merge_moments(a, b), merge_moments(b, a)
  np.testing.assert_allclose(one.covariance, two.covariance)
  np.testing.assert_allclose(one.mean, x.mean(axis=0))
  y = x[:, ::-1] + 1
  np.testing.assert_allclose(
    frechet_distance_from_moments(one, moments(y)), frechet_distance(x, y)
  )


def moments_with(**change):
  return Moments(5, np.zeros(2), np.eye(2))._replace(**change)


@pytest.mark.parametrize(
  ('call', 'message'),
  [
    (lambda: frechet_distance(np.ones((1, 2)), np.ones((3, 2))), 'x has 1 row'),
    (
      lambda: frechet_distance(np.ones((3, 2)), np.ones((3, 4))),
      'y has 4 feat',
    ),
    (
      lambda: frechet_distance([[1.0], [np.inf]], [[1.0], [2.0]]),
      r'x\[1, 0\]=inf',
    ),
    (
      lambda: frechet_distance_from_moments(
        moments_with(), moments_with(mean=np.array([0.0, np.nan]))
      ),
      r'b.mean\[1\]=nan',
    ),
    (
      lambda: frechet_distance_from_moments(
        moments_with(count=1), moments_with()
      ),
      'a.count=1: .* 2 or more',
    ),
    (
      lambda: frechet_distance_from_moments(moments_with(), moments(np.eye(3))),
      'a has 2 features and b 3',
    ),
    (lambda: moments_of_batches([]), 'batches is empty'),
    (
      lambda: moments_of_batches([np.ones((2, 2)), np.ones((2, 3))]),
      r'batches\[1\] has 3 features: expected 2',
    ),
  ],
)
def test_bad_arguments_are_named(call, message):
  with pytest.raises(ValueError, match=message):
    call()
