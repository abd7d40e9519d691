"""Convolutions and pools of fixed networks, in forms that are fast everywhere.

Weights are constants here, so batch normalization is part of them.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

__all__ = ['Conv', 'avg_pool', 'conv', 'depthwise_conv', 'fold', 'max_pool']

_LAYOUT = ('NHWC', 'HWIO', 'NHWC')


class Conv(NamedTuple):
  """A convolution with what came after it.

  Attributes:
    kernel: [rows, columns, channels in, channels out]; channels in is 1 for a
      depthwise convolution.
    bias: [channels out].
  """

  kernel: Float[Array, '_ _ _ _']
  bias: Float[Array, ' _']


def fold(
  weight: Float[np.ndarray, 'out c h w'],
  gamma: Float[np.ndarray, ' out'],
  beta: Float[np.ndarray, ' out'],
  mean: Float[np.ndarray, ' out'],
  var: Float[np.ndarray, ' out'],
  *,
  epsilon: float = 1e-3,
) -> Conv:
  """A PyTorch convolution without bias, then batch normalization, as one.

  (w∗x − mean)/√(var + ε) · γ + β  =  (w·s)∗x + (β − mean·s),
  s = γ/√(var + ε)
  """
  factor = gamma.astype(np.float64) / np.sqrt(var.astype(np.float64) + epsilon)
  kernel = weight * factor[:, None, None, None]
  return Conv(
    jnp.asarray(kernel.transpose(2, 3, 1, 0), jnp.float32),
    jnp.asarray(beta - mean * factor, jnp.float32),
  )


def conv(
  x: Float[Array, 'b h w c'],
  layer: Conv,
  *,
  stride: int = 1,
  padding: str = 'SAME',
) -> Float[Array, 'b _ _ out']:
  """Convolution plus bias; 'SAME' pads as TensorFlow does."""
  rows, columns, channels, features = layer.kernel.shape
  if rows == columns == stride == 1:
    # As a convolution it takes XLA's CPU backend up to 3 times as long.
    y = x.reshape(-1, channels) @ layer.kernel.reshape(channels, features)
    y = y.reshape(*x.shape[:3], features)
  else:
    y = lax.conv_general_dilated(
      x, layer.kernel, (stride, stride), padding, dimension_numbers=_LAYOUT
    )
  return y + layer.bias.reshape(1, 1, 1, -1)


def depthwise_conv(
  x: Float[Array, 'b h w c'], layer: Conv, *, stride: int = 1
) -> Float[Array, 'b _ _ c']:
  """One kernel a channel, 'SAME' padding, plus bias."""
  kernel = layer.kernel.transpose(0, 1, 3, 2)
  rows, columns = layer.kernel.shape[:2]
  pads = lax.padtype_to_pads(
    x.shape[1:3], (rows, columns), (stride, stride), 'SAME'
  )
  x = jnp.pad(x, ((0, 0), *pads, (0, 0)))
  height = (x.shape[1] - rows) // stride + 1
  width = (x.shape[2] - columns) // stride + 1
  y = layer.bias.reshape(1, 1, 1, -1)
  for row in range(rows):
    for column in range(columns):
      window = x[
        :,
        row : row + (height - 1) * stride + 1 : stride,
        column : column + (width - 1) * stride + 1 : stride,
      ]
      y = y + window * kernel[row, column].reshape(1, 1, 1, -1)
  return y


def max_pool(
  x: Float[Array, 'b h w c'], *, stride: int = 1, padding: str = 'SAME'
) -> Float[Array, 'b _ _ c']:
  """Largest of 3 × 3; padding never wins."""
  return lax.reduce_window(
    x, -jnp.inf, lax.max, (1, 3, 3, 1), (1, stride, stride, 1), padding
  )


def avg_pool(x: Float[Array, 'b h w c']) -> Float[Array, 'b h w c']:
  """Mean of 3 × 3, stride 1; padding does not count."""
  window = lambda y: lax.reduce_window(
    y, 0.0, lax.add, (1, 3, 3, 1), (1, 1, 1, 1), 'SAME'
  )
  return window(x) / window(jnp.ones((1, *x.shape[1:3], 1), x.dtype))
