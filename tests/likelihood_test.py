import re
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

from memjax import importance_log_prob
from memjax.likelihood import (
  evidence_lower_bound,
  pareto_shape,
  reliable_below,
  summarize_weights,
)
from memjax.models.base import DiagonalGaussian
from memjax.models.vae import bernoulli_mlp_vae


class LinearGaussian(NamedTuple):
  """p(z) = N(0, I), p(x | z) = N(Wz + b, s² I): everything is exact.

  `widen` scales the exact posterior's standard deviation in the encoder;
  `prior` proposes from the prior instead.
  """

  latent_dim: int
  widen: float = 1.0
  prior: bool = False

  def encode(self, variables, x):
    w, b, s = variables
    if self.prior:
      zero = jnp.zeros(self.latent_dim)
      return DiagonalGaussian(zero, zero)
    # The columns of W are orthogonal, so the posterior is diagonal.
    precision = 1 + (w**2).sum(0) / s**2
    mean = w.T @ (x.reshape(-1) - b) / s**2 / precision
    return DiagonalGaussian(mean, -jnp.log(precision) + 2 * jnp.log(self.widen))

  def log_likelihood(self, variables, x, z):
    w, b, s = variables
    error = (x.reshape(-1) - w @ z - b) / s
    return -0.5 * (error**2).sum() - error.size * (
      jnp.log(s) + 0.5 * jnp.log(2 * jnp.pi)
    )


def linear_gaussian(seed=0, d=12, latent=3):
  rng = np.random.default_rng(seed)
  w = np.linalg.qr(rng.normal(size=(d, latent)))[0] * np.array([3.0, 2.0, 1.0])
  b, s = rng.normal(size=d), 0.7
  x = rng.normal(size=(20, d)) @ np.diag(np.ones(d)) + b
  exact = scipy.stats.multivariate_normal(b, w @ w.T + s**2 * np.eye(d)).logpdf(
    x
  )
  variables = tuple(jnp.asarray(a, jnp.float32) for a in (w, b, s))
  return variables, jnp.asarray(x, jnp.float32).reshape(20, d, 1, 1), exact


def estimate(model, variables, x, num_samples, seed=0, **options):
  keys = jax.random.split(jax.random.key(seed), len(x))
  one = lambda x, key: importance_log_prob(
    model, variables, x, key, num_samples=num_samples, **options
  )
  return jax.jit(jax.vmap(one))(x, keys)


def test_exact_posterior_as_proposal_has_no_variance():
  variables, x, exact = linear_gaussian()
  result = estimate(LinearGaussian(3), variables, x, 32)
  np.testing.assert_allclose(result.log_px, exact, atol=1e-3)
  np.testing.assert_allclose(result.std_err, 0, atol=1e-3)
  np.testing.assert_allclose(result.ess, 32, rtol=1e-3)
  assert bool(result.is_reliable.all())


def test_prior_as_proposal_averages_the_likelihood():
  variables, x, exact = linear_gaussian()
  model = LinearGaussian(3, prior=True)
  result = estimate(model, variables, x[:3], 200_000, samples_at_once=8192)
  np.testing.assert_allclose(result.log_px, exact[:3], atol=0.25)
  key = jax.random.split(jax.random.key(0), 3)[0]
  noise = np.asarray(jax.random.normal(key, (200_000, 3)), np.float64)
  w, b, s = (np.asarray(v, np.float64) for v in variables)
  error = (np.asarray(x[0]).reshape(-1) - noise @ w.T - b) / s
  log_likelihood = -0.5 * (error**2).sum(1) - 12 * (
    np.log(s) + 0.5 * np.log(2 * np.pi)
  )
  expected = scipy.special.logsumexp(log_likelihood) - np.log(200_000)
  np.testing.assert_allclose(result.log_px[0], expected, rtol=1e-4)


def test_standard_error_covers():
  """|estimate − exact| ≤ 2 standard errors in about 95 % of many draws."""
  variables, x, exact = linear_gaussian()
  model = LinearGaussian(3, widen=1.3)
  within = []
  for seed in range(30):
    result = estimate(model, variables, x, 400, seed)
    error = np.asarray(result.log_px) - exact
    within.append(np.abs(error) <= 2 * np.asarray(result.std_err) + 1e-4)
  assert 0.92 < np.mean(within) < 0.98


def test_a_slow_obvious_twin_agrees():
  log_weights = np.random.default_rng(0).normal(size=50) * 2 - 100
  result = summarize_weights(jnp.asarray(log_weights, jnp.float32))
  weights = np.exp(log_weights + 100)
  np.testing.assert_allclose(
    result.log_px, np.log(weights.mean()) - 100, rtol=1e-6
  )
  share = weights / weights.sum()
  np.testing.assert_allclose(result.ess, 1 / (share**2).sum(), rtol=1e-4)
  relative = weights.std(ddof=1) / weights.mean() / np.sqrt(50)
  np.testing.assert_allclose(result.std_err, relative, rtol=1e-4)


def test_one_sample_has_no_standard_error():
  result = summarize_weights(jnp.array([-3.0]))
  assert float(result.log_px) == -3.0
  assert bool(jnp.isnan(result.std_err))
  assert not bool(result.is_reliable)


def test_samples_at_once_changes_nothing():
  variables, x, _ = linear_gaussian()
  model = LinearGaussian(3, widen=1.2)
  whole = estimate(model, variables, x, 96)
  for chunk in (1, 7, 32, 96):
    parts = estimate(model, variables, x, 96, samples_at_once=chunk)
    np.testing.assert_allclose(parts.log_px, whole.log_px, rtol=1e-5)
    np.testing.assert_allclose(parts.ess, whole.ess, rtol=1e-3)


@pytest.mark.parametrize('shape', [0.1, 0.3, 0.5, 0.7, 1.0])
def test_pareto_shape_finds_the_tail(shape):
  rng = np.random.default_rng(0)
  uniform = rng.uniform(size=(60, 4000))
  weights = (uniform**-shape - 1) / shape  # generalized Pareto
  found = jax.vmap(pareto_shape)(jnp.asarray(np.log(weights), jnp.float32))
  # Shrunk towards 1/2 by ten of about 200 tail weights.
  assert abs(float(found.mean()) - (190 * shape + 5) / 200) < 0.04


def test_pareto_shape_at_its_edges():
  assert float(pareto_shape(jnp.full(100, -3.0))) == 0.0
  assert bool(jnp.isnan(pareto_shape(jnp.zeros(10))))
  log_weights = jnp.asarray(np.random.default_rng(0).normal(size=200) * 3)
  np.testing.assert_allclose(
    pareto_shape(log_weights), pareto_shape(log_weights - 9999.0), atol=2e-2
  )
  reversed_weights = pareto_shape(log_weights[::-1])
  np.testing.assert_allclose(pareto_shape(log_weights), reversed_weights)


def test_reliable_below():
  assert reliable_below(100) == pytest.approx(0.5)
  assert reliable_below(10_000) == 0.7


def test_a_poor_proposal_is_not_called_reliable():
  variables, x, exact = linear_gaussian()
  result = estimate(LinearGaussian(3, widen=0.3), variables, x, 200)
  assert (np.asarray(result.log_px) < exact).mean() > 0.5
  assert float(result.is_reliable.mean()) < 0.5


def test_evidence_lower_bound_is_below_log_px():
  variables, x, exact = linear_gaussian()
  model = LinearGaussian(3, widen=1.5)
  keys = jax.random.split(jax.random.key(0), 4000)
  bound = jax.vmap(lambda k: evidence_lower_bound(model, variables, x[0], k))(
    keys
  )
  # KL(N(m, 1.5² Σ) ‖ N(m, Σ)) in three dimensions.
  gap = 0.5 * 3 * (1.5**2 - 1 - np.log(1.5**2))
  np.testing.assert_allclose(bound.mean(), exact[0] - gap, atol=0.12)


def test_scoring_matmuls_are_float32_whatever_the_default():
  model = bernoulli_mlp_vae((4, 4, 1), latent_dim=2, hidden=(8,))
  variables = model.init(jax.random.key(0))
  x = jnp.ones((4, 4, 1))
  one = lambda x: importance_log_prob(
    model, variables, x, jax.random.key(1), num_samples=8
  )
  with jax.default_matmul_precision('bfloat16'):
    text = jax.jit(one).lower(x).as_text()
  dots = re.findall(r'stablehlo\.dot_general.*', text)
  assert dots
  assert all('precision = [HIGHEST, HIGHEST]' in dot for dot in dots)


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'num_samples': 0}, 'num_samples=0: .* 1 or more'),
    (
      {'num_samples': 4, 'proposal': 'enocder'},
      "proposal='enocder'.*'encoder'",
    ),
    ({'num_samples': 4, 'samples_at_once': 0}, 'samples_at_once=0'),
  ],
)
def test_bad_arguments_are_named(options, message):
  variables, x, _ = linear_gaussian()
  with pytest.raises(ValueError, match=message):
    importance_log_prob(
      LinearGaussian(3), variables, x[0], jax.random.key(0), **options
    )
