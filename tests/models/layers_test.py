import functools
import pathlib

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memjax.models import layers

# Made by tests/golden/make_torch_goldens.py with torch 2.13.0 in float64, and
# rounded to float32.
GOLDEN = np.load(pathlib.Path(__file__).parents[1] / 'golden/torch_layers.npz')


def golden(case):
  names = [name for name in GOLDEN.files if name.startswith(f'{case}/')]
  return {name.removeprefix(f'{case}/'): GOLDEN[name] for name in names}


def nhwc(array):
  return array.transpose(0, 2, 3, 1)


@functools.partial(jax.jit, static_argnums=0)
def value_and_pullback(fun, inputs, cotangent):
  y, pullback = jax.vjp(fun, *inputs)
  return y, pullback(cotangent)


def assert_close(actual, expected):
  np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)


def pixel_conv_transpose(x, kernel):
  layer = layers.PixelConvTranspose(kernel.shape[1:])
  return layer.apply({'params': {'kernel': kernel}}, x[:, 0, 0])


@pytest.mark.parametrize(
  ('case', 'fun', 'axes'),
  [
    ('conv', layers.conv, (2, 3, 1, 0)),
    ('conv_transpose', layers.conv_transpose, (0, 2, 3, 1)),
    ('pixel_conv_transpose', pixel_conv_transpose, (0, 2, 3, 1)),
  ],
)
def test_convolutions_equal_pytorch(case, fun, axes):
  torch = golden(case)
  inputs = nhwc(torch['input_0']), torch['input_1'].transpose(axes)
  y, gradients = value_and_pullback(fun, inputs, nhwc(torch['cotangent']))
  assert_close(y, nhwc(torch['y']))
  assert_close(gradients[0], nhwc(torch['grad_0']))
  assert_close(gradients[1], torch['grad_1'].transpose(axes))


@pytest.mark.parametrize(
  ('shape', 'features'),
  [((2, 4, 6, 3), 5), ((3, 2, 2, 1), 2)],
)
@pytest.mark.parametrize('is_transpose', [False, True])
def test_convolutions_equal_flax(shape, features, is_transpose):
  rng = np.random.default_rng(0)
  draw = lambda *shape: rng.normal(size=shape).astype(np.float32)
  options = {'strides': (2, 2), 'padding': 'SAME', 'use_bias': False}
  if is_transpose:
    kernel_shape = (shape[-1], 4, 4, features)
    module, ours, scale = nn.ConvTranspose, layers.conv_transpose, 2
    to_flax = lambda k: k.transpose(1, 2, 0, 3)[::-1, ::-1]
  else:
    kernel_shape = (4, 4, shape[-1], features)
    module, ours, scale = nn.Conv, layers.conv, 0.5
    to_flax = lambda k: k

  def theirs(x, kernel):
    variables = {'params': {'kernel': to_flax(kernel)}}
    return module(features, (4, 4), **options).apply(variables, x)

  inputs = jnp.asarray(draw(*shape)), jnp.asarray(draw(*kernel_shape))
  height, width = int(shape[1] * scale), int(shape[2] * scale)
  cotangent = draw(shape[0], height, width, features)
  tangents = draw(*shape), draw(*kernel_shape)

  @functools.partial(jax.jit, static_argnums=0)
  def derivatives(fun):
    # Forwards too: Gauss-Newton needs it.
    y, pullback = jax.vjp(fun, *inputs)
    return y, pullback(cotangent), jax.jvp(fun, inputs, tangents)[1]

  jax.tree.map(assert_close, derivatives(ours), derivatives(theirs))


def test_each_form_is_the_transpose_of_the_other():
  rng = np.random.default_rng(0)
  x, y = rng.normal(size=(2, 8, 6, 3)), rng.normal(size=(2, 4, 3, 5))
  kernel = rng.normal(size=(4, 4, 3, 5))
  x, y, kernel = (a.astype(np.float32) for a in (x, y, kernel))
  forward = jax.jit(layers.conv)(x, kernel)
  backward = jax.jit(layers.conv_transpose)(y, kernel.transpose(3, 0, 1, 2))
  np.testing.assert_allclose((forward * y).sum(), (x * backward).sum(), 1e-4)


def test_an_odd_image_is_refused():
  with pytest.raises(
    ValueError, match=r'\(1, 5, 4, 1\): expected even h and w'
  ):
    layers.conv(jnp.ones((1, 5, 4, 1)), jnp.ones((4, 4, 1, 1)))


@pytest.mark.parametrize(
  ('layer', 'shape', 'fan_in'),
  [
    (layers.Dense(64), (1, 100), 100),
    (layers.Conv(32), (1, 4, 4, 8), 128),
    # Fan-in of a transposed convolution: OUTPUT channels times kernel.
    (layers.ConvTranspose(32), (1, 4, 4, 8), 512),
    (layers.PixelConvTranspose((2, 2, 64)), (1, 10), 256),
  ],
)
def test_weights_start_as_in_pytorch(layer, shape, fan_in):
  params = jax.jit(layer.init)(jax.random.key(0), np.zeros(shape))['params']
  assert ('bias' in params) == isinstance(layer, layers.Dense)
  bound = fan_in**-0.5
  for values in map(np.asarray, params.values()):
    assert np.abs(values).max() <= bound
  kernel = np.asarray(params['kernel'])
  assert np.abs(kernel).max() > 0.99 * bound
  np.testing.assert_allclose(kernel.mean(), 0, atol=0.06 * bound)
  np.testing.assert_allclose(kernel.std(), bound / 3**0.5, rtol=0.05)


@jax.jit
def train_batch_norm(variables, x, mask, cotangent):
  """Output, new state, gradients for x, scale and bias."""

  def apply(x, params):
    return layers.BatchNorm().apply(
      {**variables, 'params': params}, x, mask, mutable=['batch_stats']
    )

  y, pullback, new = jax.vjp(apply, x, variables['params'], has_aux=True)
  return y, new['batch_stats'], *pullback(cotangent)


# A padded batch must give what PyTorch gives for the batch without padding.
@pytest.mark.parametrize('padding', [0, 2])
def test_batch_norm_equals_pytorch(padding):
  stats = {'mean': np.zeros(4, np.float32), 'var': np.ones(4, np.float32)}
  for case in ('norm_first', 'norm_second'):
    torch = golden(case)
    size = len(torch['input_0'])
    mask = np.arange(size + padding) < size
    pad = lambda a, value: np.pad(
      nhwc(a), ((0, len(mask) - len(a)), *[(0, 0)] * 3), constant_values=value
    )
    variables = {
      'params': {'scale': torch['input_1'], 'bias': torch['input_2']},
      'batch_stats': stats,
    }
    y, stats, x_grad, gradient = train_batch_norm(
      variables, pad(torch['input_0'], 1e4), mask, pad(torch['cotangent'], 0.0)
    )
    assert_close(y[:size], nhwc(torch['y']))
    assert_close(stats['mean'], torch['mean'])
    assert_close(stats['var'], torch['var'])
    assert_close(x_grad, pad(torch['grad_0'], 0.0))
    assert_close(gradient['scale'], torch['grad_1'])
    assert_close(gradient['bias'], torch['grad_2'])
  variables['batch_stats'] = stats
  scored = jax.jit(layers.BatchNorm().apply)(variables, nhwc(torch['input_0']))
  assert_close(scored, nhwc(torch['scored']))


def train_fresh_batch_norm(x, mask):
  variables = {
    'params': {'scale': np.ones(4), 'bias': np.zeros(4)},
    'batch_stats': {'mean': np.zeros(4), 'var': np.ones(4)},
  }
  variables = jax.tree.map(lambda a: a.astype(np.float32), variables)
  result = train_batch_norm(variables, x, mask, np.cos(x))
  assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(result))
  return result[1]


def test_a_batch_without_real_items_changes_nothing_and_is_finite():
  x = np.ones((3, 2, 2, 4), np.float32)
  stats = train_fresh_batch_norm(x, np.zeros(3, bool))
  np.testing.assert_array_equal(stats['mean'], 0)
  np.testing.assert_array_equal(stats['var'], 1)


def test_one_pixel_in_all_is_finite():
  # PyTorch refuses it: there is no unbiased variance of one number.
  x = np.ones((2, 1, 1, 4), np.float32)
  stats = train_fresh_batch_norm(x, np.array([True, False]))
  np.testing.assert_allclose(stats['var'], 0.9, rtol=1e-6)


def test_a_large_mean_costs_no_variance():
  x = 1e4 + np.random.default_rng(0).normal(size=(64, 8, 8, 4))
  x = x.astype(np.float32)
  stats = train_fresh_batch_norm(x, np.ones(64, bool))
  expected = x.astype(np.float64).reshape(-1, 4).var(axis=0, ddof=1)
  np.testing.assert_allclose(stats['var'], 0.9 + 0.1 * expected, rtol=1e-4)


def bfloat16(array):
  """Rounds to 8 significant bits, to even, by arithmetic on float64."""
  mantissa, exponent = np.frexp(np.asarray(array, np.float64))
  return np.ldexp(np.round(mantissa * 256) / 256, exponent)


def test_bfloat16_products_round_their_operands_and_nothing_else():
  """Both passes against NumPy in float64."""
  rng = np.random.default_rng(0)
  draw = lambda *shape: rng.normal(size=shape).astype(np.float32)
  x, matrix, cotangent = draw(5, 70), draw(70, 9), draw(5, 9)
  with jax.default_matmul_precision('bfloat16'):
    y, (x_bar, matrix_bar) = value_and_pullback(
      layers.matmul, (x, matrix), cotangent
    )
  np.testing.assert_allclose(y, bfloat16(x) @ bfloat16(matrix), atol=1e-4)
  rounded = bfloat16(cotangent)
  np.testing.assert_allclose(x_bar, rounded @ bfloat16(matrix).T, atol=1e-4)
  np.testing.assert_allclose(matrix_bar, bfloat16(x).T @ rounded, atol=1e-4)
  assert {a.dtype for a in (y, x_bar, matrix_bar)} == {jnp.dtype('float32')}
  assert np.abs(y - x @ matrix).max() > 1e-3  # so the rounding is seen


@pytest.mark.parametrize('precision', ['float32', 'tensorfloat32', 'highest'])
def test_other_precisions_leave_operands_alone(precision):
  x, matrix = jnp.ones((2, 3)), jnp.ones((3, 4))
  with jax.default_matmul_precision(precision):
    text = jax.jit(layers.matmul).lower(x, matrix).as_text()
  assert 'bf16' not in text
