import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

from memjax import importance_log_prob
from memjax.likelihood import choose_proposal
from memjax.models import vae
from memjax.models.base import DecoderModel, DiagonalGaussian
from memjax.models.dcvae import Gaussian, GaussianImage
from memjax.posterior import (
  encoder_proposal,
  find_mode,
  inverse_cholesky,
  laplace_proposal,
  log_joint,
  posterior_precision,
  variational_proposal,
)
from memjax.training.lift import lift

MODELS = {
  'bernoulli': vae.bernoulli_mlp_vae((4, 4, 1), latent_dim=2, hidden=(8, 6)),
  'diagonal': vae.diagonal_gaussian_dcvae(
    (16, 16, 1), latent_dim=2, num_features=2
  ),
  'constant': vae.constant_gaussian_dcvae(
    (16, 16, 1), latent_dim=2, num_features=2
  ),
}
every_kind = pytest.mark.parametrize('kind', list(MODELS))


class LinearGaussian(NamedTuple):
  """p(z) = N(0, I), p(x | z) = N(Wz + b, s² I), with a useless encoder."""

  latent_dim: int
  likelihood: Gaussian = Gaussian()

  def encode(self, variables, x):
    return DiagonalGaussian(jnp.ones(self.latent_dim), jnp.ones(2))

  def decoder_output(self, variables, z):
    w, b, s = variables
    return GaussianImage((w @ z + b).reshape(-1, 1, 1), 2 * jnp.log(s))

  def log_likelihood(self, variables, x, z):
    return self.likelihood.log_prob(self.decoder_output(variables, z), x)


def linear_gaussian(latent, d, seed=0):
  """Variables, 10 items drawn from the model, and their exact log p(x)."""
  rng = np.random.default_rng(seed)
  w, b, s = rng.normal(size=(d, latent)), rng.normal(size=d), 0.7
  marginal = scipy.stats.multivariate_normal(b, w @ w.T + s**2 * np.eye(d))
  x = marginal.rvs(10, random_state=rng)
  variables = tuple(jnp.asarray(a, jnp.float32) for a in (w, b, s))
  images = jnp.asarray(x, jnp.float32).reshape(10, d, 1, 1)
  return variables, images, marginal.logpdf(x)


def exact_posterior(variables, x):
  w, b, s = (np.asarray(v, np.float64) for v in variables)
  precision = np.eye(w.shape[1]) + w.T @ w / s**2
  right = w.T @ (np.asarray(x, np.float64).reshape(-1) - b) / s**2
  return np.linalg.solve(precision, right), precision


def lively(kind, seed=0, factor=3.0):
  """A small VAE whose images depend on z, and an image that it drew."""
  model = MODELS[kind]
  variables = model.init(jax.random.key(seed))
  factor = factor if kind == 'bernoulli' else 2.0
  decoder = jax.tree.map(lambda a: factor * a, variables['params']['decoder'])
  if kind == 'constant':
    decoder['loggamma'] = jnp.float32(-1.0)
  variables['params']['decoder'] = decoder
  key = jax.random.key(seed + 1)
  x = model.sample(variables, jax.random.normal(key, (2,)), key)
  return model, variables, x


@pytest.mark.parametrize('size', [1, 2, 16, 64])
def test_inverse_cholesky_is_that_of_lapack(size):
  rng = np.random.default_rng(0)
  root = rng.normal(size=(3, size, 2 * size))
  matrices = np.eye(size) + 30 * root @ root.transpose(0, 2, 1)
  found = jax.jit(jax.vmap(inverse_cholesky))(jnp.asarray(matrices, 'float32'))
  expected = np.linalg.inv(np.linalg.cholesky(matrices))
  scale = np.abs(expected).max()
  np.testing.assert_allclose(found, expected, atol=1e-4 * scale)
  assert not np.triu(found, 1).any()


def test_inverse_cholesky_of_a_singular_matrix_is_finite():
  singular = jnp.outer(jnp.arange(1.0, 5.0), jnp.arange(1.0, 5.0))
  found = inverse_cholesky(singular)
  assert bool(jnp.isfinite(found).all())
  assert bool((jnp.diagonal(found) > 0).all())


@every_kind
def test_fisher_is_the_mean_squared_score(kind):
  """Its definition, over images drawn from the likelihood itself."""
  model, variables, _ = lively(kind)
  output = model.decoder_output(variables, jnp.array([0.3, -0.8]))
  score = jax.grad(model.likelihood.log_prob)

  def square(key):
    x = model.likelihood.sample(output, key)
    return jax.tree.map(jnp.square, score(output, x))

  keys = jax.random.split(jax.random.key(0), 4000)
  expected = jax.tree.map(
    lambda s: s.mean(axis=0), jax.jit(jax.vmap(square))(keys)
  )
  found = model.likelihood.fisher(output)
  for a, b in zip(
    jax.tree.leaves(found), jax.tree.leaves(expected), strict=True
  ):
    assert a.shape == b.shape
    np.testing.assert_allclose(a, b, rtol=0.2, atol=0.01)
    np.testing.assert_allclose(a.mean(), b.mean(), rtol=0.1)


def test_a_bounded_log_variance_says_nothing():
  output = GaussianImage(jnp.zeros((1, 2, 1)), jnp.array([[[-9.0], [-6.0]]]))
  fisher = Gaussian(min_logvar=-7.0).fisher(output)
  np.testing.assert_allclose(fisher.logvar.reshape(-1), [0.0, 0.5])
  np.testing.assert_allclose(fisher.mean.reshape(-1), np.exp([7.0, 6.0]))


@every_kind
def test_precision_is_the_slow_obvious_sum(kind):
  model, variables, _ = lively(kind)
  z = jnp.array([0.3, -0.8])
  output = functools.partial(model.decoder_output, variables)
  expected = np.eye(2)
  for jacobian, weight in zip(
    jax.tree.leaves(jax.jacrev(output)(z)),
    jax.tree.leaves(model.likelihood.fisher(output(z))),
    strict=True,
  ):
    rows = np.asarray(jacobian, np.float64).reshape(-1, 2)
    for row, w in zip(rows, np.asarray(weight).reshape(-1), strict=True):
      expected += w * np.outer(row, row)
  found = posterior_precision(model, variables, z)
  np.testing.assert_allclose(found, expected, rtol=1e-4)
  np.testing.assert_array_equal(found, found.T)
  assert expected[0, 0] > 1.01


def test_mode_and_precision_of_a_linear_gaussian_are_exact():
  variables, x, _ = linear_gaussian(5, 12)
  model = LinearGaussian(5)
  mode = jax.vmap(lambda x: find_mode(model, variables, x, num_steps=2))(x)
  for index in range(len(x)):
    mean, precision = exact_posterior(variables, x[index])
    np.testing.assert_allclose(mode.z[index], mean, atol=1e-4)
    found = posterior_precision(model, variables, mode.z[index])
    np.testing.assert_allclose(found, precision, rtol=1e-5, atol=1e-4)


@every_kind
@pytest.mark.parametrize('factor', [1.0, 3.0, 30.0])
def test_the_search_never_goes_down(kind, factor):
  model, variables, _ = lively(kind, factor=factor)
  x = jax.random.normal(jax.random.key(5), (6, *model.image_shape))
  x = (x > 0).astype(jnp.float32) if kind == 'bernoulli' else 3 * x
  values = []
  for num_steps in (0, 1, 2, 5, 20):
    mode = jax.jit(
      jax.vmap(lambda x: find_mode(model, variables, x, num_steps=num_steps))
    )(x)
    joint = jax.vmap(functools.partial(log_joint, model, variables))(x, mode.z)
    np.testing.assert_allclose(mode.log_joint, joint, rtol=1e-5)
    values.append(np.asarray(mode.log_joint))
  assert (np.diff(values, axis=0) >= -1e-3).all()
  assert (values[-1] > values[0]).all()


def test_the_search_finds_the_mode_of_a_grid():
  model, variables, x = lively('bernoulli')
  axis = jnp.linspace(-4, 4, 401)
  grid = jnp.stack(jnp.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
  joint = jax.vmap(lambda z: log_joint(model, variables, x, z))
  best = float(joint(grid).max())
  assert float(find_mode(model, variables, x).log_joint) > best - 0.01


def test_a_search_among_values_that_are_not_finite_stays():
  model, variables, x = lively('constant')
  mode = find_mode(model, variables, x.at[0].set(jnp.nan), num_steps=3)
  start = model.encode(variables, x.at[0].set(jnp.nan)).mean
  np.testing.assert_array_equal(mode.z, start)


@pytest.mark.parametrize('name', ['laplace', 'variational'])
def test_density_is_that_of_the_multivariate_t(name):
  variables, x, _ = linear_gaussian(3, 8)
  model, key = LinearGaussian(3), jax.random.key(0)
  if name == 'laplace':
    q = laplace_proposal(model, variables, x[0])
  else:
    q = variational_proposal(model, variables, x[0], key)
  noise = jax.random.normal(key, (4000, q.noise_dim))
  z, log_q = jax.vmap(q.transport)(noise)
  mean, precision = exact_posterior(variables, x[0])
  covariance = np.linalg.inv(precision)
  expected = scipy.stats.multivariate_t(mean, covariance, df=8).logpdf(z)
  np.testing.assert_allclose(log_q, expected, atol=2e-3)
  # Its variance is ν/(ν − 2) times the shape.
  np.testing.assert_allclose(
    np.cov(z.T) * 6 / 8, covariance, atol=0.1 * covariance.max()
  )
  np.testing.assert_allclose(z.mean(axis=0), mean, atol=0.02)


@pytest.mark.parametrize(('latent', 'd'), [(3, 8), (32, 48), (64, 96)])
@pytest.mark.parametrize('proposal', ['laplace', 'variational'])
def test_log_px_of_a_linear_gaussian_is_exact(latent, d, proposal):
  variables, x, exact = linear_gaussian(latent, d)
  keys = jax.random.split(jax.random.key(0), len(x))
  one = lambda variables, x, key: importance_log_prob(
    LinearGaussian(latent),
    variables,
    x,
    key,
    num_samples=1000,
    proposal=proposal,
  )
  # Arguments: XLA would be long about folding a loop over constants.
  found = jax.jit(jax.vmap(one, (None, 0, 0)))(variables, x, keys)
  np.testing.assert_allclose(found.log_px, exact, atol=0.15)
  error = np.asarray(found.log_px) - exact
  assert np.sqrt(np.mean((error / found.std_err) ** 2)) < 2
  assert bool(found.is_reliable.all())
  assert (np.asarray(found.ess) > 250).all()


@every_kind
def test_all_proposals_agree_with_a_million_draws_from_the_prior(kind):
  model, variables, x = lively(kind)
  # A convolutional decode takes some 20 times as long.
  total = 1_000_000 if kind == 'bernoulli' else 100_000
  block = 1000

  # The weights are arguments: XLA is long about folding them in.
  @jax.jit
  def log_mean(variables, key):
    z = jax.random.normal(key, (block, model.latent_dim))
    log_p = jax.vmap(lambda z: model.log_likelihood(variables, x, z))(z)
    return jax.nn.logsumexp(log_p) - jnp.log(block)

  keys = jax.random.split(jax.random.key(9), total // block)
  means = np.asarray([log_mean(variables, key) for key in keys], np.float64)
  exact = scipy.special.logsumexp(means) - np.log(len(means))
  exact_error = np.std(np.exp(means - exact)) / np.sqrt(len(means))
  assert exact_error < 0.05
  every = ('encoder', 'laplace', 'variational')
  for proposal in every if kind == 'bernoulli' else ('laplace',):
    score = functools.partial(
      importance_log_prob, model, num_samples=5000, proposal=proposal
    )
    found = jax.jit(score)(variables, x, jax.random.key(3))
    error = np.hypot(exact_error, found.std_err)
    assert abs(float(found.log_px) - exact) < 3.5 * error + 1e-3, proposal


def test_standard_error_covers():
  """|estimate − exact| ≤ 2 standard errors in about 95 % of many draws."""
  variables, x, exact = linear_gaussian(6, 10)
  keys = jax.random.split(jax.random.key(0), (60, len(x)))
  one = lambda variables, x, key: importance_log_prob(
    LinearGaussian(6), variables, x, key, num_samples=200, proposal='laplace'
  )
  items = jax.vmap(one, (None, 0, 0))
  found = jax.jit(jax.vmap(items, (None, None, 0)))(variables, x, keys)
  error = np.asarray(found.log_px) - exact
  within = np.abs(error) <= 2 * np.asarray(found.std_err) + 1e-3
  assert 0.92 < within.mean() < 0.98


def test_refitting_helps_where_the_mode_misleads():
  """The standard error of the weights, over images of a kinked posterior."""
  model = vae.bernoulli_mlp_vae((8, 8, 1), latent_dim=6, hidden=(16, 12))
  variables = model.init(jax.random.key(0))
  variables = jax.tree.map(lambda a: 3.0 * a, variables)
  keys = jax.random.split(jax.random.key(1), 24)
  sample = lambda key: model.sample(
    variables, jax.random.normal(key, (6,)), key
  )
  x = jax.vmap(sample)(keys)
  ess = {}
  for proposal in ('encoder', 'laplace', 'variational'):
    one = lambda x, key: importance_log_prob(
      model, variables, x, key, num_samples=256, proposal=proposal
    )
    ess[proposal] = float(jax.jit(jax.vmap(one))(x, keys).ess.mean())
  assert ess['variational'] > 1.2 * ess['laplace'] > 1.2 * ess['encoder']


@pytest.mark.parametrize('proposal', ['encoder', 'laplace', 'variational'])
def test_models_share_the_noise_of_a_key(proposal):
  model, variables, x = lively('bernoulli')
  other = jax.tree.map(lambda a: 1.01 * a, variables)

  @jax.jit
  def log_px(variables, key):
    estimate = importance_log_prob(
      model, variables, x, key, num_samples=32, proposal=proposal
    )
    return estimate.log_px

  keys = jax.random.split(jax.random.key(0), 60)
  first = jax.vmap(log_px, (None, 0))(variables, keys)
  second = jax.vmap(log_px, (None, 0))(other, keys)
  together = float(jnp.std(first - second))
  apart = float(jnp.std(first - jnp.roll(second, 1)))
  assert together < 0.3 * apart


@pytest.mark.parametrize('proposal', ['laplace', 'variational'])
def test_map_and_vmap_over_models_agree(proposal):
  model, _, x = lively('bernoulli')
  variables = jax.vmap(model.init)(jax.random.split(jax.random.key(0), 3))
  keys = jax.random.split(jax.random.key(1), 3)

  def score(variables, x, key):
    return importance_log_prob(
      model, variables, x, key, num_samples=64, proposal=proposal
    )

  axes = (0, None, 0)
  one = jax.jit(lift(score, 'vmap', axes))(variables, x, keys)
  two = jax.jit(lift(score, 'map', axes))(variables, x, keys)
  np.testing.assert_allclose(one.log_px, two.log_px, atol=1e-3)
  np.testing.assert_allclose(one.ess, two.ess, rtol=1e-2)


@pytest.mark.parametrize('proposal', ['laplace', 'variational'])
def test_nothing_is_left_to_lapack(proposal):
  """Batched LAPACK calls inside a jitted program have hung on 2 cores."""
  model, variables, x = lively('diagonal')
  one = lambda x, key: importance_log_prob(
    model, variables, x, key, num_samples=8, proposal=proposal
  )
  x, keys = jnp.stack([x, x]), jax.random.split(jax.random.key(0))
  text = jax.jit(jax.vmap(one)).lower(x, keys).as_text()
  assert 'lapack' not in text
  dots = [line for line in text.splitlines() if 'dot_general' in line]
  assert dots
  assert all('precision = [HIGHEST, HIGHEST]' in dot for dot in dots)


class NoDecoder(NamedTuple):
  latent_dim: int = 2


class NoFisher(NamedTuple):
  latent_dim: int = 2
  likelihood: object = None

  def decoder_output(self, variables, z):
    return z


@pytest.mark.parametrize('proposal', ['laplace', 'variational'])
@pytest.mark.parametrize(
  ('model', 'lacks'),
  [
    (NoDecoder(), 'decoder_output'),
    (NoFisher(), 'likelihood.fisher'),
    (LinearGaussian(300), 'latent_dim=300 to be at most 256'),
  ],
)
def test_what_a_model_lacks_is_named(model, lacks, proposal):
  message = f"proposal='{proposal}': expected .*{lacks}.*'encoder'"
  with pytest.raises(ValueError, match=message):
    importance_log_prob(
      model, {}, jnp.ones((1, 1, 1)), jax.random.key(0), num_samples=2,
      proposal=proposal,
    )  # fmt: skip
  assert choose_proposal(model) == 'encoder'


@every_kind
def test_automatic_choice(kind):
  assert isinstance(MODELS[kind], DecoderModel)
  assert choose_proposal(MODELS[kind]) == 'laplace'
  assert choose_proposal(MODELS[kind], 'encoder') == 'encoder'


def test_encoder_proposal_is_the_amortized_posterior():
  model, variables, x = lively('bernoulli')
  q = encoder_proposal(model, variables, x)
  mean, logvar = model.encode(variables, x)
  noise = jnp.array([0.5, -2.0])
  z, log_q = q.transport(noise)
  std = np.exp(0.5 * np.asarray(logvar))
  np.testing.assert_allclose(z, mean + std * noise, rtol=1e-6)
  expected = scipy.stats.norm(mean, std).logpdf(z).sum()
  np.testing.assert_allclose(log_q, expected, rtol=1e-5)
