import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from memjax.embeddings.convolution import (
  Conv,
  avg_pool,
  conv,
  depthwise_conv,
  fold,
  max_pool,
)

RNG = np.random.default_rng(0)


def draw(*shape):
  return jnp.asarray(RNG.normal(size=shape), jnp.float32)


def slow_conv(x, kernel, stride):
  """'VALID', output pixel by output pixel."""
  x, kernel = np.asarray(x), np.asarray(kernel)
  rows, columns, _, features = kernel.shape
  height = (x.shape[1] - rows) // stride + 1
  width = (x.shape[2] - columns) // stride + 1
  y = np.empty((len(x), height, width, features))
  for i in range(height):
    for j in range(width):
      top, left = i * stride, j * stride
      window = x[:, top : top + rows, left : left + columns]
      y[:, i, j] = np.einsum('brsc,rsco->bo', window, kernel)
  return y


@pytest.mark.parametrize('stride', [1, 2])
@pytest.mark.parametrize('size', [(1, 1), (3, 3), (1, 7), (7, 1)])
def test_conv_is_the_slow_one(size, stride):
  x, layer = draw(2, 9, 8, 3), Conv(draw(*size, 3, 4), draw(4))
  y = conv(x, layer, stride=stride, padding='VALID')
  expected = slow_conv(x, layer.kernel, stride) + np.asarray(layer.bias)
  np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('side', [8, 9])
@pytest.mark.parametrize('kernel', [3, 5])
@pytest.mark.parametrize('stride', [1, 2])
def test_depthwise_conv_is_a_grouped_one(side, kernel, stride):
  x = draw(2, side, side + 1, 4)
  layer = Conv(draw(kernel, kernel, 1, 4), draw(4))
  expected = lax.conv_general_dilated(
    x,
    layer.kernel,
    (stride, stride),
    'SAME',
    dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
    feature_group_count=4,
  )
  y = depthwise_conv(x, layer, stride=stride)
  np.testing.assert_allclose(
    y, expected + layer.bias.reshape(1, 1, 1, -1), rtol=1e-4, atol=1e-5
  )


def test_fold_is_convolution_then_normalization():
  x, weight = draw(2, 5, 5, 3), np.asarray(draw(4, 3, 3, 3))
  gamma, beta, mean, var = (np.asarray(draw(4)) for _ in range(4))
  var = np.exp(var)
  raw = slow_conv(x, weight.transpose(2, 3, 1, 0), 1)
  expected = (raw - mean) / np.sqrt(var + 1e-3) * gamma + beta
  y = conv(x, fold(weight, gamma, beta, mean, var), padding='VALID')
  np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)


def test_pools_ignore_their_padding():
  x = draw(1, 4, 5, 2) - 10.0  # a padding of 0 would win, and would count
  rows = np.asarray(x)
  mean, largest = np.empty(x.shape), np.empty(x.shape)
  for i in range(4):
    for j in range(5):
      window = rows[:, max(i - 1, 0) : i + 2, max(j - 1, 0) : j + 2]
      mean[:, i, j] = window.mean(axis=(1, 2))
      largest[:, i, j] = window.max(axis=(1, 2))
  np.testing.assert_allclose(avg_pool(x), mean, rtol=1e-5)
  np.testing.assert_allclose(max_pool(x), largest, rtol=1e-6)
  halved = max_pool(x, stride=2, padding='VALID')
  np.testing.assert_allclose(halved, largest[:, 1:3:2, 1:4:2], rtol=1e-6)


def test_differentiable():
  x = draw(1, 6, 6, 3)
  layer = Conv(draw(3, 3, 1, 3), draw(3))
  loss = lambda x: (max_pool(avg_pool(depthwise_conv(x, layer))) ** 2).sum()
  grads = jax.grad(loss)(x)
  step = 1e-2 * np.sign(grads)
  assert loss(x + step) > loss(x) > loss(x - step)
