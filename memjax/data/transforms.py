"""From the pixels of one image to what a model sees, with the Jacobian.

A transform is random: dynamic binarization and dequantization draw anew at
every call, from the key. A transform is for ONE image; the caller vmaps. Flips
are for training only, and for a batch.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

__all__ = [
  'LOGIT_LAMBDA',
  'Transform',
  'binarize',
  'dequantize_logit',
  'flip_batch',
  'flip_images',
]

# The paper gives no value; its public code uses this one.
LOGIT_LAMBDA = 0.05


class Transform(NamedTuple):
  """How one image becomes a model's input.

  Attributes:
    apply: (uint8 image [h, w, c], key) -> float32 [h, w, c].
    log_det: transformed image -> what to ADD to the model's log-density, in
      nats, to get that of the pixels on their 0 … 256 scale.
    to_unit: model space -> pixels in [0, 1], for the means of samples; any
      shape, and not clipped.
  """

  apply: Callable[[jax.Array, jax.Array], jax.Array]
  log_det: Callable[[jax.Array], jax.Array]
  to_unit: Callable[[jax.Array], jax.Array]


def binarize() -> Transform:
  """Each pixel becomes 1 with probability pixel/255: a probability mass.

  Example:
    >>> image = jnp.array([[[0], [255]]], jnp.uint8)
    >>> binarize().apply(image, jax.random.key(0)).tolist()
    [[[0.0], [1.0]]]

  Reference:
    van den Burg and Williams (2021), Supplement B.1.
  """

  def apply(image, key):
    # Flat, because XLA's CPU loops do not vectorize over a channel axis of 1.
    probability = image.reshape(-1).astype(jnp.float32) / 255.0
    uniform = jax.random.uniform(key, probability.shape)
    binary = (uniform < probability).astype(jnp.float32)
    return binary.reshape(image.shape)

  return Transform(apply, lambda x: jnp.zeros((), x.dtype), lambda x: x)


def dequantize_logit(logit_lambda: float = LOGIT_LAMBDA) -> Transform:
  """Uniform dequantization, then a logit squeezed away from 0 and 1.

    y = logit(λ + (1 − 2λ) (u + pixel)/256),  u ~ U[0, 1)

  The log-determinant brings a density of y to the 0 … 256 pixel scale:
  D log(1 − 2λ) − D log 256 − Σ_d [y_d − 2 softplus(y_d)], so that
  −log p/(D log 2) is bits a dimension.

  Args:
    logit_lambda: λ, in [0, 0.5).

  Raises:
    ValueError: if λ is outside.

  Example:
    >>> transform = dequantize_logit()
    >>> y = transform.apply(jnp.uint8([[[0], [255]]]), jax.random.key(0))
    >>> bool(-2.9445 < y[0, 0, 0] < -2.85), bool(2.85 < y[0, 1, 0] < 2.9445)
    (True, True)

  Reference:
    van den Burg and Williams (2021), Supplement B.1; Papamakarios et al.
    (2017), eq. (27).
  """
  if not 0 <= logit_lambda < 0.5:
    raise ValueError(
      f'logit_lambda={logit_lambda!r}: expected a number in [0, 0.5).'
    )

  def apply(image, key):
    # Flat, because XLA's CPU loops do not vectorize over few channels.
    pixels = image.reshape(-1).astype(jnp.float32)
    unit = (pixels + jax.random.uniform(key, pixels.shape)) / 256.0
    # float32 rounds 255 + u to 256 now and then, and u may be 0; with λ = 0 the
    # logit would be infinite. The bounds: half the least positive draw, and the
    # largest float32 below 1.
    unit = jnp.clip(unit, 2.0**-32, 1 - 2.0**-24)
    y = jax.scipy.special.logit(logit_lambda + (1 - 2 * logit_lambda) * unit)
    return y.reshape(image.shape)

  def log_det(y: Float[Array, 'h w c']) -> Float[Array, '']:
    constant = math.log(1 - 2 * logit_lambda) - math.log(256)
    # y − 2 softplus(y) is even in y, and does not overflow when written so.
    y = jnp.abs(y.reshape(-1))
    return y.size * constant + (y + 2 * jnp.log1p(jnp.exp(-y))).sum()

  def to_unit(y: Float[Array, '*any']) -> Float[Array, '*any']:
    return (jax.nn.sigmoid(y) - logit_lambda) / (1 - 2 * logit_lambda)

  return Transform(apply, log_det, to_unit)


def flip_batch(
  x: Float[Array, 'b h w c'], key: jax.Array
) -> Float[Array, 'b h w c']:
  """Mirrors ALL images left to right, or none: one coin for the batch.

  The published way. It acts on what a transform made, in training only.

  Example:
    >>> x = jnp.arange(4.0).reshape(2, 1, 2, 1)
    >>> flip_batch(x, jax.random.key(1)).ravel().tolist()
    [1.0, 0.0, 3.0, 2.0]

  Reference:
    The public code of van den Burg and Williams (2021); their Supplement B.1
    says 'random horizontal flips'.
  """
  return jnp.where(jax.random.bernoulli(key), x[:, :, ::-1], x)


def flip_images(
  x: Float[Array, 'b h w c'], key: jax.Array
) -> Float[Array, 'b h w c']:
  """Mirrors each image left to right with probability ½, in training only.

  Example:
    >>> x = jnp.arange(4.0).reshape(2, 1, 2, 1)
    >>> flip_images(x, jax.random.key(1)).ravel().tolist()
    [1.0, 0.0, 2.0, 3.0]
  """
  coin = jax.random.bernoulli(key, shape=(x.shape[0], 1, 1, 1))
  return jnp.where(coin, x[:, :, ::-1], x)
