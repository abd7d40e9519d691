"""Layers with PyTorch's conventions, and convolutions as matrix products.

XLA's own convolutions are slow where memjax needs them: on a CPU inside a loop
a weight gradient takes some 50 times as long as the matrix product it is, and
under `vmap` over models they become grouped convolutions on every backend. All
convolutions of the papers' models have kernel 4, stride 2 and padding 1, so
they are written as what they are: blocks of pixels, then one matrix product.
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

__all__ = [
  'BatchNorm',
  'Conv',
  'ConvTranspose',
  'Dense',
  'PixelConvTranspose',
  'conv',
  'conv_transpose',
  'matmul',
]


def conv(
  x: Float[Array, 'b h w c'], kernel: Float[Array, '4 4 c out']
) -> Float[Array, 'b h//2 w//2 out']:
  """Convolution with kernel 4, stride 2 and padding 1: it halves an image.

    y[i, j] = Σ_{r, s} x[2i + r − 1, 2j + s − 1] · kernel[r, s],  0 ≤ r, s < 4

  It equals `flax.linen.Conv` with 'SAME' padding and the same kernel.

  Args:
    x: images; h and w are even.
    kernel: rows, columns, channels in, channels out.

  Example:
    >>> y = conv(jnp.ones((1, 4, 4, 1)), jnp.ones((4, 4, 1, 1)))
    >>> y[0, :, :, 0].tolist()
    [[9.0, 9.0], [9.0, 9.0]]
  """
  batch, height, width, channels = x.shape
  if height % 2 or width % 2:
    raise ValueError(f'x has shape {x.shape}: expected even h and w.')
  # Space to depth: blocks of 2 × 2 pixels. A window is 2 × 2 of these blocks.
  blocks = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0))).reshape(
    batch, height // 2 + 1, 2, width // 2 + 1, 2 * channels
  )
  windows = [
    blocks[:, down : down + height // 2, row, right : right + width // 2]
    for down in (0, 1)
    for row in (0, 1)
    for right in (0, 1)
  ]
  # In the order of the kernel's axes: row, column, channel.
  windows = jnp.concatenate(windows, axis=-1)
  return _matmul(windows, kernel.reshape(16 * channels, -1))


def conv_transpose(
  x: Float[Array, 'b h w c'], kernel: Float[Array, 'c 4 4 out']
) -> Float[Array, 'b 2*h 2*w out']:
  """The transpose of `conv`: kernel 4, stride 2, padding 1, doubles an image.

    y[2i + r − 1, 2j + s − 1] += x[i, j] · kernel[:, r, s],  0 ≤ r, s < 4

  It equals PyTorch's ConvTranspose2d, and `flax.linen.ConvTranspose` with
  'SAME' padding and the kernel's rows and columns reversed.

  Args:
    x: images.
    kernel: channels in, rows, columns, channels out: the product's matrix.

  Example:
    >>> y = conv_transpose(jnp.ones((1, 1, 1, 1)), jnp.ones((1, 4, 4, 1)))
    >>> y[0, :, :, 0].tolist()
    [[1.0, 1.0], [1.0, 1.0]]
  """
  batch, height, width, channels = x.shape
  windows = _matmul(x, kernel.reshape(channels, -1))
  windows = windows.reshape(batch, height, width, 4, 4, -1)
  rows = _overlap_add(windows, axis=1, taps=3)
  y = _overlap_add(rows, axis=3, taps=4)
  return y.reshape(batch, 2 * height, 2 * width, -1)


def _matmul(x: jax.Array, matrix: jax.Array) -> jax.Array:
  """`x @ matrix`, as ONE product of matrices.

  With more axes XLA's CPU backend copies and transposes for the gradient of
  `matrix`: a backward pass took up to twice as long.
  """
  y = matmul(x.reshape(-1, x.shape[-1]), matrix)
  return y.reshape(*x.shape[:-1], matrix.shape[-1])


def matmul(
  x: Float[Array, 'b inner'], matrix: Float[Array, 'inner out']
) -> Float[Array, 'b out']:
  """`x @ matrix`, in float32 or with bfloat16 operands.

  Under `jax.default_matmul_precision('bfloat16')` x, the matrix, and in the
  backward pass the gradient of the product are rounded to bfloat16; sums and
  results stay float32. Written out, because that setting alone does so on TPUs
  only: GPUs take TensorFloat-32, and CPUs ignore it.

  Example:
    >>> x = jnp.full((1, 1), 1 + 2.0**-9)
    >>> with jax.default_matmul_precision('bfloat16'):
    ...   print(matmul(x, jnp.ones((1, 1))).item())
    1.0
  """
  # The attribute is made when JAX is imported, which type checkers cannot see.
  if jax.config.jax_default_matmul_precision == 'bfloat16':  # pyrefly: ignore
    return _bfloat16_matmul(x, matrix)
  return x @ matrix


@jax.custom_vjp
def _bfloat16_matmul(x: jax.Array, matrix: jax.Array) -> jax.Array:
  return _bfloat16_forward(x, matrix)[0]


def _bfloat16_forward(x, matrix):
  x, matrix = x.astype(jnp.bfloat16), matrix.astype(jnp.bfloat16)
  return _contract(x, matrix, 1, 0), (x, matrix)


def _bfloat16_backward(operands, gradient):
  x, matrix = operands
  gradient = gradient.astype(jnp.bfloat16)
  return _contract(gradient, matrix, 1, 1), _contract(x, gradient, 0, 0)


_bfloat16_matmul.defvjp(_bfloat16_forward, _bfloat16_backward)


def _contract(a, b, axis_a: int, axis_b: int) -> jax.Array:
  """Sums over one axis of each, in float32."""
  dimensions = (((axis_a,), (axis_b,)), ((), ()))
  return jax.lax.dot_general(
    a, b, dimensions, preferred_element_type=jnp.float32
  )


def _overlap_add(windows: jax.Array, axis: int, taps: int) -> jax.Array:
  """Adds windows of 4 at every second place, and drops the ends.

    y[2i] = w[i, 1] + w[i − 1, 3],  y[2i + 1] = w[i, 2] + w[i + 1, 0]

  Args:
    windows: w, with i on `axis` and the tap on `taps`, a later axis.
    axis: place.
    taps: of size 4; it is dropped.

  Returns:
    y, with i on `axis` and the parity on the axis after it.
  """
  tap = [t.squeeze(taps) for t in jnp.split(windows, 4, axis=taps)]
  last = windows.shape[axis] - 1
  edge = jnp.zeros_like(jax.lax.slice_in_dim(tap[0], 0, 1, axis=axis))
  before = jax.lax.slice_in_dim(tap[3], 0, last, axis=axis)
  after = jax.lax.slice_in_dim(tap[0], 1, last + 1, axis=axis)
  even = tap[1] + jnp.concatenate([edge, before], axis)
  odd = tap[2] + jnp.concatenate([after, edge], axis)
  return jnp.stack([even, odd], axis + 1)


def uniform_fan_in(fan_in: int):
  """PyTorch's default for weights and biases: U(−b, b) with b = 1/√fan_in."""
  bound = 1.0 / math.sqrt(fan_in)

  def initializer(key, shape, dtype=jnp.float32):
    # Flat: the same numbers, and a model's `init` compiles in 1/7 of the time.
    size = math.prod(shape)
    values = jax.random.uniform(key, (size,), dtype, -bound, bound)
    return values.reshape(shape)

  return initializer


class Dense(nn.Module):
  """A linear layer whose weights and biases start as PyTorch's do."""

  features: int

  @nn.compact
  def __call__(self, x: Float[Array, 'b _']) -> Float[Array, 'b _']:
    """Maps [b, in] to [b, features]."""
    initializer = uniform_fan_in(x.shape[-1])
    kernel = self.param('kernel', initializer, (x.shape[-1], self.features))
    bias = self.param('bias', initializer, (self.features,))
    return matmul(x, kernel) + jnp.broadcast_to(
      bias, (*x.shape[:-1], self.features)
    )


class Conv(nn.Module):
  """The layer of `conv`, without a bias."""

  features: int

  @nn.compact
  def __call__(self, x: Float[Array, 'b h w _']) -> Float[Array, 'b _ _ _']:
    """Maps [b, h, w, in] to [b, h/2, w/2, features]."""
    shape = (4, 4, x.shape[-1], self.features)
    initializer = uniform_fan_in(16 * x.shape[-1])
    return conv(x, self.param('kernel', initializer, shape))


class ConvTranspose(nn.Module):
  """The layer of `conv_transpose`, without a bias.

  PyTorch counts the fan-in of a transposed convolution from its OUTPUT
  channels.
  """

  features: int

  @nn.compact
  def __call__(self, x: Float[Array, 'b h w _']) -> Float[Array, 'b _ _ _']:
    """Maps [b, h, w, in] to [b, 2h, 2w, features]."""
    shape = (x.shape[-1], 4, 4, self.features)
    initializer = uniform_fan_in(16 * self.features)
    return conv_transpose(x, self.param('kernel', initializer, shape))


class PixelConvTranspose(nn.Module):
  """A transposed convolution of a single pixel: a matrix product, no bias.

  Attributes:
    shape: (h, w, channels) of its output; the kernel is h × w.
  """

  shape: tuple[int, int, int]

  @nn.compact
  def __call__(self, x: Float[Array, 'b _']) -> Float[Array, 'b h w c']:
    """Maps [b, in] to [b, h, w, channels]."""
    initializer = uniform_fan_in(math.prod(self.shape))
    kernel = self.param('kernel', initializer, (x.shape[-1], *self.shape))
    y = matmul(x, kernel.reshape(x.shape[-1], -1))
    return y.reshape(-1, *self.shape)


class BatchNorm(nn.Module):
  """Normalizes each channel, as PyTorch's BatchNorm2d does.

    y = (x − m)/√(v + ε) · scale + bias

  With a mask, in training, m and v are the mean and the biased variance over
  the batch's REAL items and all their pixels, and the running statistics move
  a tenth of the way to the mean and the UNBIASED variance of this batch; a
  batch without real items leaves them alone. Without a mask, when scoring, m
  and v are the running statistics.

  Reference:
    Ioffe and Szegedy (2015), Algorithms 1 and 2.
  """

  momentum: float = 0.9  # PyTorch's 0.1
  epsilon: float = 1e-5

  @nn.compact
  def __call__(
    self, x: Float[Array, 'b h w c'], mask: Bool[Array, ' b'] | None = None
  ) -> Float[Array, 'b h w c']:
    """Maps [b, h, w, c]; `mask` tells real items from padding."""
    shape = x.shape[-1:]
    scale = self.param('scale', nn.initializers.ones, shape)
    bias = self.param('bias', nn.initializers.zeros, shape)
    running_mean = self.variable('batch_stats', 'mean', jnp.zeros, shape)
    running_var = self.variable('batch_stats', 'var', jnp.ones, shape)
    if mask is None:
      mean, var = running_mean.value, running_var.value
    else:
      mean, var, count = _masked_moments(x, mask)
      rate = jnp.where(count > 0, 1 - self.momentum, 0.0)
      unbiased = var * (count / jnp.maximum(count - 1, 1))
      running_mean.value += rate * (mean - running_mean.value)
      running_var.value += rate * (unbiased - running_var.value)
    factor = scale * jax.lax.rsqrt(var + self.epsilon)
    mean, factor, bias = (v.reshape(1, 1, 1, -1) for v in (mean, factor, bias))
    return (x - mean) * factor + bias


def _masked_moments(
  x: Float[Array, 'b h w c'], mask: Bool[Array, ' b']
) -> tuple[Float[Array, ' c'], Float[Array, ' c'], Float[Array, '']]:
  """Mean and biased variance over real items' pixels, and how many these are.

  Each item is summed first: the mask then meets [b, c] numbers instead of
  [b, h, w, c], and float32 sums of many pixels lose less.
  """
  count = (mask.sum() * (x.shape[1] * x.shape[2])).astype(x.dtype)

  def masked_mean(values):
    sums = jnp.where(mask[:, None], values.sum(axis=(1, 2)), 0.0)
    return sums.sum(axis=0) / jnp.maximum(count, 1)

  mean = masked_mean(x)
  # Two passes: E[x²] − E[x]² cancels where the mean is large.
  var = masked_mean(jnp.square(x - mean.reshape(1, 1, 1, -1)))
  return mean, var, count
