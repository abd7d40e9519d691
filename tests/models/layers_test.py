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
  return jnp.asarray(array.transpose(0, 2, 3, 1))


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
  x, kernel = nhwc(torch['input_0']), torch['input_1'].transpose(axes)
  y, pullback = jax.vjp(fun, x, jnp.asarray(kernel))
  assert_close(y, nhwc(torch['y']))
  x_grad, kernel_grad = pullback(nhwc(torch['cotangent']))
  assert_close(x_grad, nhwc(torch['grad_0']))
  assert_close(kernel_grad, torch['grad_1'].transpose(axes))


@pytest.mark.parametrize(
  ('shape', 'features'),
  [((2, 4, 6, 3), 5), ((1, 2, 2, 1), 1), ((3, 8, 8, 4), 2), ((2, 2, 4, 6), 3)],
)
@pytest.mark.parametrize('is_transpose', [False, True])
def test_convolutions_equal_flax(shape, features, is_transpose, getkey):
  x = jax.random.normal(getkey(), shape)
  options = {'strides': (2, 2), 'padding': 'SAME', 'use_bias': False}
  if is_transpose:
    kernel = jax.random.normal(getkey(), (shape[-1], 4, 4, features))
    module, ours = nn.ConvTranspose, layers.conv_transpose
    to_flax = lambda k: k.transpose(1, 2, 0, 3)[::-1, ::-1]
  else:
    kernel = jax.random.normal(getkey(), (4, 4, shape[-1], features))
    module, ours, to_flax = nn.Conv, layers.conv, lambda k: k

  def theirs(x, kernel):
    variables = {'params': {'kernel': to_flax(kernel)}}
    return module(features, (4, 4), **options).apply(variables, x)

  expected, pull_theirs = jax.vjp(theirs, x, kernel)
  actual, pull_ours = jax.vjp(ours, x, kernel)
  assert_close(actual, expected)
  cotangent = jax.random.normal(getkey(), expected.shape)
  jax.tree.map(assert_close, pull_ours(cotangent), pull_theirs(cotangent))
  # And forwards: Gauss-Newton needs it.
  tangents = (jnp.cos(x), jnp.cos(kernel))
  assert_close(
    jax.jvp(ours, (x, kernel), tangents)[1],
    jax.jvp(theirs, (x, kernel), tangents)[1],
  )


def test_each_form_is_the_transpose_of_the_other(getkey):
  x = jax.random.normal(getkey(), (2, 8, 6, 3))
  y = jax.random.normal(getkey(), (2, 4, 3, 5))
  kernel = jax.random.normal(getkey(), (4, 4, 3, 5))
  forward = (layers.conv(x, kernel) * y).sum()
  swapped = kernel.transpose(3, 0, 1, 2)
  assert_close(forward, (x * layers.conv_transpose(y, swapped)).sum())


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
def test_weights_start_as_in_pytorch(layer, shape, fan_in, getkey):
  params = layer.init(getkey(), jnp.zeros(shape))['params']
  bound = fan_in**-0.5
  for name, values in params.items():
    assert np.abs(values).max() <= bound
    if name == 'kernel':
      assert np.abs(values).max() > 0.99 * bound
      np.testing.assert_allclose(values.mean(), 0, atol=0.06 * bound)
      np.testing.assert_allclose(values.std(), bound / 3**0.5, rtol=0.05)
  assert ('bias' in params) == isinstance(layer, layers.Dense)


# A padded batch must give what PyTorch gives for the batch without padding.
@pytest.mark.parametrize('padding', [0, 2])
def test_batch_norm_equals_pytorch(padding):
  state = {'mean': jnp.zeros(4), 'var': jnp.ones(4)}
  for case in ('norm_first', 'norm_second'):
    torch = golden(case)
    x, cotangent = nhwc(torch['input_0']), nhwc(torch['cotangent'])
    size = len(x)
    mask = jnp.arange(size + padding) < size
    pad = lambda a: jnp.pad(
      a, ((0, padding), (0, 0), (0, 0), (0, 0)), constant_values=1e4
    )
    before = state

    def train(x, scale, bias, mask=mask, before=before):
      variables = {
        'params': {'scale': scale, 'bias': bias},
        'batch_stats': before,
      }
      return layers.BatchNorm().apply(
        variables, x, mask, mutable=['batch_stats']
      )

    scale, bias = jnp.asarray(torch['input_1']), jnp.asarray(torch['input_2'])
    y, pullback, new = jax.vjp(train, pad(x), scale, bias, has_aux=True)
    state = new['batch_stats']
    assert_close(y[:size], nhwc(torch['y']))
    assert_close(state['mean'], torch['mean'])
    assert_close(state['var'], torch['var'])
    zero_padded = jnp.pad(cotangent, ((0, padding), (0, 0), (0, 0), (0, 0)))
    x_grad, scale_grad, bias_grad = pullback(zero_padded)
    assert_close(x_grad[:size], nhwc(torch['grad_0']))
    assert (x_grad[size:] == 0).all()
    assert_close(scale_grad, torch['grad_1'])
    assert_close(bias_grad, torch['grad_2'])
  variables = {'params': {'scale': scale, 'bias': bias}, 'batch_stats': state}
  assert_close(layers.BatchNorm().apply(variables, x), nhwc(torch['scored']))


def batch_norm_gradient(x, mask):
  variables = layers.BatchNorm().init(jax.random.key(0), x)

  def loss(params, x):
    y, state = layers.BatchNorm().apply(
      {**variables, 'params': params}, x, mask, mutable=['batch_stats']
    )
    return jnp.square(y - 1).sum(), state['batch_stats']

  return jax.grad(loss, argnums=(0, 1), has_aux=True)(variables['params'], x)


def test_a_batch_without_real_items_changes_nothing_and_is_finite():
  gradient, state = batch_norm_gradient(
    jnp.ones((3, 2, 2, 4)), jnp.zeros(3, bool)
  )
  np.testing.assert_array_equal(state['mean'], 0)
  np.testing.assert_array_equal(state['var'], 1)
  assert all(np.isfinite(g).all() for g in jax.tree.leaves(gradient))


def test_one_pixel_in_all_is_finite():
  # PyTorch refuses it: there is no unbiased variance of one number.
  gradient, state = batch_norm_gradient(
    jnp.ones((2, 1, 1, 4)), jnp.array([True, False])
  )
  np.testing.assert_allclose(state['var'], 0.9)
  assert all(np.isfinite(g).all() for g in jax.tree.leaves(gradient))


def test_a_large_mean_costs_no_variance(getkey):
  x = 1e4 + jax.random.normal(getkey(), (64, 8, 8, 4))
  _, state = batch_norm_gradient(x, jnp.ones(64, bool))
  expected = np.asarray(x, np.float64).reshape(-1, 4).var(axis=0, ddof=1)
  np.testing.assert_allclose(state['var'], 0.9 + 0.1 * expected, rtol=1e-4)
