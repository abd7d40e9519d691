"""Layers of SAGAN and BigGAN: spectral norms, conditioning, self-attention.

Each weight has a spectral norm, estimated by power iteration; its vectors are
in the collection 'spectral', running statistics in 'batch_stats'. `train` says
whether they move. 3×3 convolutions are matrix products, for the reasons that
`memjax.models.layers` gives.
"""

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from memjax.models import layers

__all__ = [
  'ConditionalBatchNorm',
  'SelfAttention',
  'SpectralConv',
  'SpectralDense',
  'SpectralEmbed',
  'conv_3x3',
  'orthogonal',
  'power_iteration',
  'upsample_conv_3x3',
]

Images = Float[Array, 'b _ _ _']

_EPSILON = 1e-6  # of the power iteration


@jax.custom_vjp
def conv_3x3(
  x: Float[Array, 'b h w c'], kernel: Float[Array, '3 3 c out']
) -> Float[Array, 'b h w out']:
  """Convolution with kernel 3, stride 1 and padding 1: three matrix products.

    y[i, j] = Σ_{r, s} x[i + r − 1, j + s − 1] · kernel[r, s],  0 ≤ r, s < 3

  It equals `flax.linen.Conv` with 'SAME' padding. The derivatives are the same
  products again, so that only `x` is kept for them, and no window of it.

  Args:
    x: images.
    kernel: rows, columns, channels in, channels out.

  Example:
    >>> conv_3x3(jnp.ones((1, 2, 3, 1)), jnp.ones((3, 3, 1, 1)))[0, :, :, 0]
    Array([[4., 6., 4.],
           [4., 6., 4.]], dtype=float32)
  """
  rows = _row_windows(x)
  y = sum(
    layers.matmul(_columns(rows, r), kernel[r].reshape(-1, kernel.shape[3]))
    for r in range(3)
  )
  return jnp.reshape(y, (*x.shape[:3], kernel.shape[3]))


def _conv_forward(x, kernel):
  return conv_3x3(x, kernel), (x, kernel)


def _conv_backward(saved, slope):
  x, kernel = saved
  # The transpose: the kernel turned by half a circle, channels exchanged.
  turned = kernel[::-1, ::-1].transpose(0, 1, 3, 2)
  rows, flat = _row_windows(x), slope.reshape(-1, slope.shape[3])
  of_kernel = jnp.stack(
    [layers.matmul(_columns(rows, r).T, flat) for r in range(3)]
  )
  return conv_3x3(slope, turned), of_kernel.reshape(kernel.shape)


conv_3x3.defvjp(_conv_forward, _conv_backward)


def _row_windows(x):
  """Three neighbours in a row side by side: [b, h + 2, w, 3c]."""
  width = x.shape[2]
  padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
  shifted = [padded[:, :, s : s + width] for s in range(3)]
  return jnp.concatenate(shifted, axis=3)


def _columns(rows, r: int):
  """The windows of row r of the kernel, a matrix [b·h·w, 3c]."""
  height = rows.shape[1] - 2
  return rows[:, r : r + height].reshape(-1, rows.shape[3])


def upsample_conv_3x3(
  x: Float[Array, 'b h w c'], kernel: Float[Array, '3 3 c out']
) -> Float[Array, 'b 2*h 2*w out']:
  """Makes each pixel 2×2, then convolves, in less than half the products.

  It is the transposed convolution with kernel 4 and stride 2 whose kernel sums
  the taps that meet the same pixel:

    k[r] = Σ_{t − s + 2 = r} kernel[s],  t ∈ {0, 1}, s ∈ {0, 1, 2}

  in rows and in columns.

  Args:
    x: images.
    kernel: as for `conv_3x3`.

  Example:
    >>> ones = jnp.ones((1, 1, 1, 1)), jnp.ones((3, 3, 1, 1))
    >>> upsample_conv_3x3(*ones)[0, :, :, 0].tolist()
    [[4.0, 4.0], [4.0, 4.0]]
  """
  turned = kernel[::-1, ::-1]
  pad = lambda top, left: jnp.pad(
    turned, ((top, 1 - top), (left, 1 - left), (0, 0), (0, 0))
  )
  summed = pad(0, 0) + pad(0, 1) + pad(1, 0) + pad(1, 1)
  return layers.conv_transpose(x, summed.transpose(2, 0, 1, 3))


def power_iteration(
  matrix: Float[Array, 'i o'], u: Float[Array, ' o']
) -> tuple[Float[Array, ' o'], Float[Array, ' i']]:
  """One step towards the first singular vectors, without gradient.

    v = W u/|W u|,  u' = Wᵀ v/|Wᵀ v|,  σ ≈ vᵀ W u'

  Args:
    matrix: W.
    u: the estimate of the right vector.

  Returns:
    (u', v).

  Reference:
    Miyato et al. (2018), Algorithm 1.
  """
  matrix = lax.stop_gradient(matrix)
  v = _normalize(matrix @ u)
  return _normalize(v @ matrix), v


def _normalize(x):
  return x / jnp.maximum(jnp.linalg.norm(x), _EPSILON)


def orthogonal(
  key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32
) -> jax.Array:
  """A uniformly random matrix with orthonormal rows or columns, by QR.

  As Flax's, but drawn flat: a model's `init` compiles in half of the time.

  Args:
    key: of the draw.
    shape: the last axis is the output; the others are flattened.
    dtype: of the numbers.

  Reference:
    Saxe et al. (2014).
  """
  rows, columns = math.prod(shape[:-1]), shape[-1]
  tall, short = max(rows, columns), min(rows, columns)
  normal = jax.random.normal(key, (tall * short,), dtype)
  q, r = jnp.linalg.qr(normal.reshape(tall, short))
  # Without the signs, q would not be uniform.
  q = q * jnp.where(jnp.diagonal(r) < 0, -1, 1)[None]
  return (q if rows >= columns else q.T).reshape(shape)


class _SpectralKernel(nn.Module):
  """A weight over its spectral norm.

  Attributes:
    shape: of the weight; the last axis is the output.
  """

  shape: tuple[int, ...]

  @nn.compact
  def __call__(self, train: bool) -> jax.Array:
    kernel = self.param('kernel', orthogonal, self.shape)
    matrix = kernel.reshape(-1, self.shape[-1])
    draw = lambda: _normalize(
      jax.random.normal(self.make_rng('params'), matrix.shape[1:])
    )
    u = self.variable('spectral', 'u', draw)
    start = lambda: power_iteration(matrix, u.value)[1]
    v = self.variable('spectral', 'v', start)
    if train:
      u.value, v.value = power_iteration(matrix, u.value)
    return kernel / (v.value @ matrix @ u.value)


class SpectralDense(nn.Module):
  """A linear layer with spectral norm; its bias starts at 0."""

  features: int
  use_bias: bool = True

  @nn.compact
  def __call__(self, x: Float[Array, '*b _'], train: bool) -> jax.Array:
    """Maps […, in] to […, features]; pixels are rows, a 1×1 convolution."""
    kernel = _SpectralKernel((x.shape[-1], self.features), name='weight')(train)
    # As ONE product of matrices: see `layers._matmul`.
    y = layers.matmul(x.reshape(-1, x.shape[-1]), kernel).reshape(
      *x.shape[:-1], self.features
    )
    if not self.use_bias:
      return y
    bias = self.param('bias', nn.initializers.zeros, (self.features,))
    return y + jnp.broadcast_to(bias, y.shape)


class SpectralConv(nn.Module):
  """The layer of `conv_3x3` with spectral norm; its bias starts at 0.

  Attributes:
    features: channels out.
    is_doubling: each pixel becomes 2×2 before.
  """

  features: int
  is_doubling: bool = False

  @nn.compact
  def __call__(self, x: Images, train: bool) -> Images:
    """Maps [b, h, w, in] to [b, h, w, features], or 2h and 2w."""
    shape = (3, 3, x.shape[-1], self.features)
    conv = upsample_conv_3x3 if self.is_doubling else conv_3x3
    y = conv(x, _SpectralKernel(shape, name='weight')(train))
    bias = self.param('bias', nn.initializers.zeros, (self.features,))
    return y + jnp.broadcast_to(bias, y.shape)


class SpectralEmbed(nn.Module):
  """A vector for each class, over the spectral norm of their matrix."""

  num_classes: int
  features: int

  @nn.compact
  def __call__(
    self, label: Int[Array, ' b'], train: bool
  ) -> Float[Array, 'b f']:
    """Maps classes [b] to [b, features]."""
    shape = (self.num_classes, self.features)
    return _SpectralKernel(shape, name='weight')(train)[label]


class ConditionalBatchNorm(nn.Module):
  """Batch normalization whose gain and bias depend on a condition.

    y = (x − m)/√(v + ε) · (1 + gain(c)) + bias(c)

  m and v are those of the batch when training, running ones otherwise; the
  running variance is the unbiased one, as PyTorch's.

  Attributes:
    num_classes: 0: c is a vector, and gain and bias are linear in it, without
      biases of their own (BigGAN); otherwise c is a class, and they are its
      embeddings (SAGAN).

  Reference:
    Brock et al. (2019), appendix B; de Vries et al. (2017).
  """

  num_classes: int = 0
  momentum: float = 0.9  # PyTorch's 0.1
  epsilon: float = 1e-4

  @nn.compact
  def __call__(self, x: Images, condition: jax.Array, train: bool) -> Images:
    """Maps [b, h, w, c], given [b] classes or [b, features]."""
    channels = x.shape[-1]
    running_mean = self.variable('batch_stats', 'mean', jnp.zeros, (channels,))
    running_var = self.variable('batch_stats', 'var', jnp.ones, (channels,))
    mean, var = running_mean.value, running_var.value
    if train:
      mean = x.mean(axis=(0, 1, 2))
      # Two passes: E[x²] − E[x]² cancels where the mean is large.
      var = jnp.square(x - mean.reshape(1, 1, 1, -1)).mean(axis=(0, 1, 2))
      count = x.size // channels
      rate = 1 - self.momentum
      unbiased = var * (count / max(count - 1, 1))
      running_mean.value += rate * (mean - running_mean.value)
      running_var.value += rate * (unbiased - running_var.value)

    def of_condition(name):
      if self.num_classes:
        layer = SpectralEmbed(self.num_classes, channels, name=name)
      else:
        layer = SpectralDense(channels, use_bias=False, name=name)
      return layer(condition, train)[:, None, None]

    factor = lax.rsqrt(var + self.epsilon).reshape(1, 1, 1, -1)
    standard = (x - mean.reshape(1, 1, 1, -1)) * factor
    return standard * (1 + of_condition('gain')) + of_condition('bias')


class SelfAttention(nn.Module):
  """Each pixel adds what it finds in the others, at first nothing.

    y = x + γ · W_o softmax(W_q x (W_k pool x)ᵀ) (W_v pool x)

  with 2×2 maximum pooling after W_k and W_v, an eighth of the channels in
  queries and keys, half of them in values, and γ = 0 at the start.

  Reference:
    Zhang et al. (2019), section 3.
  """

  @nn.compact
  def __call__(self, x: Images, train: bool) -> Images:
    """Maps [b, h, w, c]; h and w are even, c is 8 or more."""
    batch, height, width, channels = x.shape
    project = lambda features, name: SpectralDense(
      features, use_bias=False, name=name
    )
    pool = lambda y: y.reshape(batch, height // 2, 2, width // 2, 2, -1).max(
      axis=(2, 4)
    )
    rows = lambda y: y.reshape(batch, -1, y.shape[-1])
    query = rows(project(channels // 8, 'query')(x, train))
    key = rows(pool(project(channels // 8, 'key')(x, train)))
    value = rows(pool(project(channels // 2, 'value')(x, train)))
    weight = jax.nn.softmax(query @ key.transpose(0, 2, 1), axis=-1)
    found = (weight @ value).reshape(batch, height, width, -1)
    found = project(channels, 'out')(found, train)
    return x + self.param('scale', nn.initializers.zeros, ()) * found
