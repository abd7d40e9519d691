import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

from memjax.data.transforms import dequantize_logit
from memjax.models.dcvae import Gaussian, GaussianImage
from memjax.models.likelihoods import bernoulli_log_prob, gaussian_log_prob

SHAPE = (32, 32, 3)


def full(value, shape=SHAPE):
  return jnp.full(shape, value, jnp.float32)


# Goldens: reference/papers-and-their-code.md, A10, from the public code.
@pytest.mark.parametrize(
  ('min_logvar', 'logvar', 'logit_space', 'pixel_space'),
  [
    (-7.0, full(-0.5), -2156.2766, -15187.170),
    (-7.0, full(-9.0), -59448.137, None),
    (-np.inf, jnp.float32(-2.0), -204.9629, -13235.857),
  ],
)
def test_gaussian_closed_forms(min_logvar, logvar, logit_space, pixel_space):
  y = full(0.3)
  output = GaussianImage(full(0.1), logvar)
  actual = Gaussian(min_logvar).log_prob(output, y)
  np.testing.assert_allclose(actual, logit_space, rtol=1e-6)
  if pixel_space is not None:
    actual += dequantize_logit().log_det(y)
    np.testing.assert_allclose(actual, pixel_space, rtol=1e-6)


def test_gaussian_equals_scipy():
  mean, logvar, x = np.random.default_rng(0).normal(size=(3, 4, 5, 2))
  expected = scipy.stats.norm.logpdf(x, mean, np.exp(0.5 * logvar)).sum()
  actual = gaussian_log_prob(*map(jnp.asarray, (mean, logvar, x)))
  np.testing.assert_allclose(actual, expected, rtol=1e-5)


@pytest.mark.parametrize(
  ('logit', 'expected'),
  [(np.log(0.25 / 0.75), -1419.5656), (-np.inf, -102_400), (-1e30, -102_400)],
)
def test_bernoulli_closed_forms(logit, expected):
  ones = full(1.0, (32, 32, 1))
  logits = full(logit, ones.shape)
  np.testing.assert_allclose(bernoulli_log_prob(logits, ones), expected, 1e-6)
  actual = bernoulli_log_prob(-logits, 1 - ones)
  np.testing.assert_allclose(actual, expected, 1e-6)


def test_bernoulli_equals_the_obvious_formula():
  rng = np.random.default_rng(0)
  logits, x = 5 * rng.normal(size=(6, 6, 1)), rng.integers(0, 2, (6, 6, 1))
  p = scipy.special.expit(logits)
  expected = np.where(x == 1, np.log(p), np.log1p(-p)).sum()
  actual = bernoulli_log_prob(jnp.asarray(logits), jnp.asarray(x, jnp.float32))
  np.testing.assert_allclose(actual, expected, rtol=1e-5)


def test_bernoulli_gradient_is_alive_beyond_the_bound():
  logits = jnp.array([-1e3, -150.0, -20.0, 0.0, 20.0, 150.0, 1e3])
  expected = scipy.special.expit(-np.asarray(logits, np.float64))
  gradient = jax.jit(jax.grad(bernoulli_log_prob))
  actual = gradient(logits, jnp.ones(7))
  np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-30)
  actual = gradient(logits, jnp.zeros(7))
  np.testing.assert_allclose(actual, -expected[::-1], rtol=1e-5, atol=1e-30)
  # Differentiable again.
  hessian = jax.jit(jax.hessian(bernoulli_log_prob))(logits, jnp.ones(7))
  expected = np.diag(-expected * (1 - expected))
  np.testing.assert_allclose(hessian, expected, rtol=1e-5, atol=1e-7)


def test_the_least_variance_bounds_samples_too():
  output = GaussianImage(full(0.0), full(-20.0))
  sample = Gaussian(-7.0).sample(output, jax.random.key(0))
  np.testing.assert_allclose(sample.std(), np.exp(-3.5), rtol=0.05)
