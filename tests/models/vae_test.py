import functools
import json
import pathlib
from unittest import mock

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memjax.data.transforms import dequantize_logit
from memjax.models import vae
from memjax.models.base import DiagonalGaussian, LatentVariableModel
from memjax.models.dcvae import GaussianImage
from memjax.models.pytorch_weights import (
  pytorch_shapes,
  variables_from_pytorch,
)

FOLDER = pathlib.Path(__file__).parents[1] / 'golden'
# Both made by tests/golden/make_torch_goldens.py with torch 2.13.0 in float64.
FORWARD = json.loads((FOLDER / 'torch_forward.json').read_text())
TRAINING = np.load(FOLDER / 'torch_training.npz')

FULL = {
  'bernoulli': vae.bernoulli_mlp_vae((32, 32, 1)),
  'diagonal': vae.diagonal_gaussian_dcvae((32, 32, 3)),
  'constant': vae.constant_gaussian_dcvae((32, 32, 3)),
}
SMALL = {
  'bernoulli': vae.bernoulli_mlp_vae((4, 4, 1), latent_dim=3, hidden=(5, 4)),
  'diagonal': vae.diagonal_gaussian_dcvae(
    (32, 32, 3), latent_dim=3, num_features=2
  ),
  'constant': vae.constant_gaussian_dcvae(
    (32, 32, 3), latent_dim=3, num_features=2
  ),
}
every_kind = pytest.mark.parametrize('kind', list(SMALL))
gaussian_kinds = pytest.mark.parametrize('kind', ['diagonal', 'constant'])


def golden(kind, part=''):
  prefix = f'{kind}/{part}'
  names = [name for name in TRAINING.files if name.startswith(prefix)]
  return {name.removeprefix(prefix): TRAINING[name] for name in names}


def converted(kind, parameters='before/', statistics='before/'):
  """Our variables from PyTorch's parameters (or gradients) and statistics."""
  running = {
    name: value
    for name, value in golden(kind, statistics).items()
    if 'running' in name
  }
  return variables_from_pytorch(SMALL[kind], golden(kind, parameters) | running)


def batch(kind):
  """PyTorch's three images [b, h, w, c] and latent noise, padded; the mask."""
  rng = np.random.default_rng(0)

  def pad(a):
    rubbish = 100 * rng.normal(size=(2, *a.shape[1:]))
    return np.concatenate([a, rubbish.astype(np.float32)])

  x, noise = golden(kind)['x'].transpose(0, 2, 3, 1), golden(kind)['noise']
  return pad(x), np.array([True] * 3 + [False] * 2), pad(noise)


# Compiled once a kind in all tests of this file: shapes alone decide it.
@functools.partial(jax.jit, static_argnums=0)
@chex.assert_max_traces(n=len(SMALL))
def loss_and_gradient(model, variables, x, mask, noise):
  """The loss, the new state and the gradient, with given noise for ε."""

  def loss(params):
    with mock.patch.object(jax.random, 'normal', return_value=noise):
      key = jax.random.key(0)
      return model.loss({**variables, 'params': params}, x, mask, key)

  (value, state), gradient = jax.value_and_grad(loss, has_aux=True)(
    variables['params']
  )
  return value, state, gradient


def assert_trees_close(actual, expected, rtol=1e-5, atol=1e-5):
  chex.assert_trees_all_close(actual, expected, rtol=rtol, atol=atol)


def assert_relatively_close(actual, expected):
  """To 1e-5 of each array's largest entry; gradients are sums of many terms."""
  scale = lambda a, b: a / np.abs(b).max()
  assert_trees_close(
    jax.tree.map(scale, actual, expected),
    jax.tree.map(scale, expected, expected),
  )


@pytest.mark.parametrize(
  ('kind', 'count'),
  [('bernoulli', 1325600), ('diagonal', 1579456), ('constant', 1479553)],
)
def test_parameter_counts(kind, count):
  shapes = jax.eval_shape(FULL[kind].init, jax.random.key(0))
  sizes = [leaf.size for leaf in jax.tree.leaves(shapes['params'])]
  assert sum(sizes) == count


@every_kind
def test_models_fulfil_the_contract(kind):
  model = FULL[kind]
  assert isinstance(model, LatentVariableModel)
  assert model.is_convolutional == (kind != 'bernoulli')
  # Equal descriptions share a compiled program.
  again = {
    'bernoulli': vae.bernoulli_mlp_vae,
    'diagonal': vae.diagonal_gaussian_dcvae,
    'constant': vae.constant_gaussian_dcvae,
  }[kind]([*model.image_shape])
  assert hash(again) == hash(model)
  assert again == model


def test_initial_variables():
  variables = jax.jit(SMALL['constant'].init)(jax.random.key(0))
  assert variables['params']['decoder']['loggamma'] == -2.0
  for network in variables['batch_stats'].values():
    for statistics in network.values():
      assert (statistics['mean'] == 0).all()
      assert (statistics['var'] == 1).all()


@pytest.mark.parametrize('shape', [(16, 16, 1), (48, 32, 3)])
def test_other_image_sizes(shape):
  model = vae.diagonal_gaussian_dcvae(shape, latent_dim=2, num_features=1)
  variables = jax.eval_shape(model.init, jax.random.key(0))
  image = jax.ShapeDtypeStruct(shape, np.float32)
  posterior = jax.eval_shape(model.encode, variables, image)
  assert posterior.mean.shape == posterior.logvar.shape == (2,)
  assert jax.eval_shape(model.decode, variables, posterior.mean).shape == shape


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    ({'image_shape': (28, 32, 3)}, r'image_shape=\(28, 32, 3\): .* of 16'),
    ({'image_shape': (32, 32)}, r'image_shape=\(32, 32\): .*\(h, w, c\)'),
    ({'image_shape': (32, 32, 3), 'latent_dim': 0}, 'latent_dim=0'),
    ({'image_shape': (32, 32, 3), 'num_features': 0}, 'num_features=0'),
  ],
)
def test_bad_arguments_are_named(arguments, message):
  with pytest.raises(ValueError, match=message):
    vae.constant_gaussian_dcvae(**arguments)


@every_kind
def test_a_padded_training_step_equals_pytorch_without_padding(kind):
  x, mask, noise = batch(kind)
  loss, state, gradient = loss_and_gradient(
    SMALL[kind], converted(kind), x, mask, noise
  )
  np.testing.assert_allclose(loss, golden(kind)['loss'], rtol=1e-6)
  expected = converted(kind, 'grad/', 'after/')
  expected_gradient = expected.pop('params')
  assert_trees_close(state, expected)
  assert_relatively_close(gradient, expected_gradient)


@every_kind
def test_loss_equals_the_twin(kind):
  variables, (x, mask, noise) = converted(kind), batch(kind)
  loss, _, _ = loss_and_gradient(SMALL[kind], variables, x, mask, noise)
  params = jax.tree.map(np.float64, variables['params'])
  expected = twin_loss(kind, params, x[mask], noise[mask])
  np.testing.assert_allclose(loss, expected, rtol=1e-5)


def twin_loss(kind, params, x, noise):
  """Training loss in NumPy, float64, as slow and as obvious as can be."""
  relu = lambda a: np.maximum(a, 0)
  dense = lambda p, a: a @ p['kernel'] + p['bias']

  def norm(p, a):
    a = (a - a.mean((0, 1, 2))) / np.sqrt(a.var((0, 1, 2)) + 1e-5)
    return a * p['scale'] + p['bias']

  encoder, decoder = params['encoder'], params['decoder']
  if kind == 'bernoulli':
    h = x.reshape(len(x), -1)
    for name in ('hidden_0', 'hidden_1'):
      h = relu(dense(encoder[name], h))
  else:
    h = x
    for index in range(4):
      h = twin_conv(h, encoder[f'conv_{index}']['kernel'])
      h = norm(encoder[f'norm_{index}'], h) if index else h
      h = np.where(h > 0, h, 0.2 * h)
    h = np.stack([item.transpose(2, 0, 1).ravel() for item in h])
  mean, logvar = dense(encoder['mean'], h), dense(encoder['logvar'], h)
  z = mean + np.exp(logvar / 2) * noise
  kl = -0.5 * (1 + logvar - mean**2 - np.exp(logvar)).sum()
  if kind == 'bernoulli':
    for name in ('hidden_0', 'hidden_1'):
      z = relu(dense(decoder[name], z))
    p = 1 / (1 + np.exp(-dense(decoder['logits'], z).reshape(x.shape)))
    return kl - np.where(x == 1, np.log(p), np.log(1 - p)).sum()
  h = np.einsum('bi,ihwc->bhwc', z, decoder['conv_0']['kernel'])
  for index in range(1, 5):
    h = relu(norm(decoder[f'norm_{index - 1}'], h))
    h = twin_conv_transpose(h, decoder[f'conv_{index}']['kernel'])
  v = np.maximum(h[..., 3:], -7) if kind == 'diagonal' else decoder['loggamma']
  square = (x - h[..., :3]) ** 2 / np.exp(v)
  return kl + 0.5 * (np.log(2 * np.pi) + v + square).sum()


def twin_conv(x, kernel):
  b, h, w, _ = x.shape
  padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
  y = np.zeros((b, h // 2, w // 2, kernel.shape[-1]))
  for i, j in np.ndindex(h // 2, w // 2):
    window = padded[:, 2 * i : 2 * i + 4, 2 * j : 2 * j + 4]
    y[:, i, j] = np.einsum('brsc,rsco->bo', window, kernel)
  return y


def twin_conv_transpose(x, kernel):
  b, h, w, _ = x.shape
  y = np.zeros((b, 2 * h + 2, 2 * w + 2, kernel.shape[-1]))
  for i, j in np.ndindex(h, w):
    window = np.einsum('bc,crso->brso', x[:, i, j], kernel)
    y[:, 2 * i : 2 * i + 4, 2 * j : 2 * j + 4] += window
  return y[:, 1:-1, 1:-1]


@every_kind
def test_padding_and_order_of_a_batch_do_not_matter(kind):
  variables, (x, mask, noise) = converted(kind), batch(kind)
  result = loss_and_gradient(SMALL[kind], variables, x, mask, noise)
  other = np.where(mask[:, None, None, None], x, 0.5)
  again = loss_and_gradient(SMALL[kind], variables, other, mask, noise)
  chex.assert_trees_all_equal(again, result)
  order = np.array([3, 1, 4, 0, 2])
  shuffled = (a[order] for a in (x, mask, noise))
  again = loss_and_gradient(SMALL[kind], variables, *shuffled)
  assert_trees_close(again, result, rtol=1e-4, atol=1e-3)


@every_kind
def test_a_batch_without_items_is_harmless(kind):
  variables, (x, _, noise) = converted(kind), batch(kind)
  loss, state, gradient = loss_and_gradient(
    SMALL[kind], variables, x, np.zeros(5, bool), noise
  )
  assert loss == 0
  assert all((g == 0).all() for g in jax.tree.leaves(gradient))
  chex.assert_trees_all_equal(
    state, {k: v for k, v in variables.items() if k != 'params'}
  )


def test_models_lifted_by_vmap_equal_each_alone():
  model, (x, mask, noise) = SMALL['diagonal'], batch('diagonal')
  models = [
    jax.tree.map(lambda a, scale=scale: scale * a, converted('diagonal'))
    for scale in (1.0, 0.9)
  ]
  arguments = jnp.asarray(x), jnp.asarray(mask), jax.random.key(0)

  @jax.jit
  @jax.vmap
  def lifted(variables):
    with mock.patch.object(jax.random, 'normal', return_value=noise):
      return model.loss(variables, *arguments)

  variables = jax.tree.map(lambda *leaves: jnp.stack(leaves), *models)
  together = lifted(variables)
  for index, one in enumerate(models):
    value, state, _ = loss_and_gradient(model, one, x, mask, noise)
    actual = jax.tree.map(lambda leaf, i=index: leaf[i], together)
    assert_trees_close(actual, (value, state))


# Design rule 5: XLA's own convolutions are slow in loops and under vmap.
def test_no_program_holds_a_convolution():
  model, (x, mask, _) = SMALL['diagonal'], map(jnp.asarray, batch('diagonal'))

  def train(variables, key):
    loss = lambda params: model.loss(
      {**variables, 'params': params}, x, mask, key
    )
    return jax.grad(loss, has_aux=True)(variables['params'])

  def score(variables, z):
    posterior = model.encode(variables, x[0])
    log_prob = lambda z: model.log_likelihood(variables, x[0], z)
    return posterior, jax.vmap(log_prob)(z)

  keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), 2))
  variables = jax.eval_shape(jax.vmap(model.init), keys)
  z = jax.ShapeDtypeStruct((2, 7, model.latent_dim), np.float32)
  for fun, argument in ((train, keys), (score, z)):
    text = jax.jit(jax.vmap(fun)).lower(variables, argument).as_text()
    assert 'dot_general' in text
    assert 'convolution' not in text


def wave_variables(kind):
  """A10's parameters, 0.2 sin(1), 0.2 sin(2), … row-major in PyTorch's layout.

  Batch normalization's scale gets 1 added; `loggamma` and the running
  statistics are as at the start.
  """
  model, state_dict = FULL[kind], {}
  for name, shape in pytorch_shapes(model).items():
    values = 0.2 * np.sin(np.arange(1, np.prod(shape) + 1)).reshape(shape)
    is_scale = name.endswith('.weight') and len(shape) == 1
    state_dict[name] = values + is_scale
    if 'running' in name:
      state_dict[name] = np.full(shape, float(name.endswith('var')))
  if kind == 'constant':
    state_dict['loggamma'] = np.array(-2.0)
  return variables_from_pytorch(model, state_dict)


# In float64, as the numbers were made.
@every_kind
def test_forward_check(kind):
  model, expected = FULL[kind], FORWARD[kind]
  h, w, c = model.image_shape
  with jax.enable_x64(True):
    variables = wave_variables(kind)
    x = np.sin(0.37 * np.arange(h * w * c)).reshape(c, h, w)
    x = np.float64(x > 0) if kind == 'bernoulli' else 1.5 * x
    x = jnp.asarray(x.transpose(1, 2, 0))
    z = jnp.linspace(-1, 1, model.latent_dim)

    @jax.jit
    def check(variables, x, z):
      output = model.decoder.apply(
        {k: v['decoder'] for k, v in variables.items() if 'decoder' in v},
        z[None],
      )
      posterior = model.encode(variables, x)
      log_prob = jax.vmap(model.likelihood.log_prob)(output, x[None])[0]
      kl, log_det = vae.kl_divergence(posterior), dequantize_logit().log_det(x)
      return posterior, kl, output, log_prob, log_prob + log_det

    posterior, kl, output, log_prob, pixel_space = check(variables, x, z)

  np.testing.assert_allclose(posterior.mean, expected['mean'], rtol=1e-9)
  # Both heads are filled alike.
  np.testing.assert_array_equal(posterior.mean, posterior.logvar)
  np.testing.assert_allclose(kl, expected['kl'], rtol=1e-9)
  np.testing.assert_allclose(log_prob, expected['log_prob'], rtol=1e-10)
  if kind == 'bernoulli':
    pixels = np.asarray(jax.nn.sigmoid(output))[0].transpose(2, 0, 1)
  else:
    logvar = output.logvar if kind == 'diagonal' else output.mean[..., :0]
    pixels = np.concatenate([output.mean, logvar], -1)[0].transpose(2, 0, 1)
    np.testing.assert_allclose(pixel_space, expected['log_prob_pixel'], 1e-10)
  actual = {
    'output[0,0,0]': pixels[0, 0, 0],
    'output[0,5,7]': pixels[0, 5, 7],
    'output[last,31,31]': pixels[-1, 31, 31],
    'output_sum': pixels.sum(),
    'output_every_97': pixels.ravel()[::97],
  }
  for name, value in actual.items():
    np.testing.assert_allclose(value, expected[name], 1e-8, 1e-10, err_msg=name)


def test_the_forward_check_is_that_of_the_public_code():
  # reference/papers-and-their-code.md, A10: the numbers above agree with it.
  expected = {
    'kl': 1.658095,
    'output[0,0,0]': 0.02921601,
    'output[0,5,7]': 0.06333985,
    'output[last,31,31]': 0.01597713,
    'output_sum': -0.925380,
    'log_prob': -4599.793459,
    'log_prob_pixel': -16889.457421,
  }
  for name, value in expected.items():
    np.testing.assert_allclose(FORWARD['diagonal'][name], value, rtol=2e-6)
  np.testing.assert_allclose(
    FORWARD['diagonal']['mean'][:4],
    [0.24112405, 0.22911414, 0.04870826, -0.15816474],
    atol=1e-8,
  )


def test_kl_divergence_equals_its_integral():
  mean, logvar = np.array([0.5, -1.0]), np.array([-1.0, 0.7])
  posterior = DiagonalGaussian(jnp.asarray(mean), jnp.asarray(logvar))
  z = np.linspace(-12, 12, 20001)[:, None]
  normal = lambda m, v: (
    -0.5 * (np.log(2 * np.pi) + v + (z - m) ** 2 / np.exp(v))
  )
  log_q, log_p = normal(mean, logvar), normal(0.0, 0.0)
  expected = (np.exp(log_q) * (log_q - log_p)).sum() * (z[1, 0] - z[0, 0])
  np.testing.assert_allclose(vae.kl_divergence(posterior), expected, rtol=1e-5)


@every_kind
def test_samples_have_the_decoders_moments(kind):
  model, output = SMALL[kind], golden(kind)['output'][0].transpose(1, 2, 0)
  keys = jax.random.split(jax.random.key(0), 500)
  if kind == 'bernoulli':
    mean, var = output, output * (1 - output)
    output = np.log(output / (1 - output))
  else:
    logvar = output[..., 3:] if kind == 'diagonal' else np.float32(-2.0)
    mean, var = output[..., :3], np.exp(np.maximum(logvar, -7.0))
    output = GaussianImage(mean, logvar)
  sample = jax.jit(jax.vmap(model.likelihood.sample, (None, 0)))
  x = np.asarray(sample(output, keys))
  assert np.abs((x.mean(axis=0) - mean) / np.sqrt(var / 500)).max() < 5
  if kind == 'bernoulli':
    assert set(np.unique(x)) == {0.0, 1.0}
  else:
    np.testing.assert_allclose((x.var(axis=0) / var).mean(), 1, atol=0.01)


@every_kind
def test_a_sample_is_an_image(kind):
  model, key = SMALL[kind], jax.random.key(0)
  variables = jax.eval_shape(model.init, key)
  z = jax.ShapeDtypeStruct((3,), np.float32)
  sample = jax.eval_shape(model.sample, variables, z, key)
  assert (sample.shape, sample.dtype) == (model.image_shape, np.float32)


def test_floats_per_decode_counts_every_layer_of_the_decoder():
  model = vae.bernoulli_mlp_vae((4, 4, 1), latent_dim=2, hidden=(8, 5))
  # Dense 5, dense 8, the logits, and the decoder's own output.
  assert model.floats_per_decode() == 5 + 8 + 16 + 16
  small = vae.diagonal_gaussian_dcvae((16, 16, 3), latent_dim=2, num_features=4)
  large = vae.diagonal_gaussian_dcvae((16, 16, 3), latent_dim=2, num_features=8)
  assert small.floats_per_decode() < large.floats_per_decode()
