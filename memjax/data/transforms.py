"""From the pixels of one image to what a model sees, with the Jacobian.

A transform is random: dynamic binarization and dequantization draw anew at
every call, from the key. Everything is for ONE image; the caller vmaps.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

__all__ = ['LOGIT_LAMBDA', 'Transform', 'binarize', 'dequantize_logit']

# The paper gives no value; its public code uses this one.
LOGIT_LAMBDA = 0.05


class Transform(NamedTuple):
  """How one image becomes a model's input.

  Attributes:
    apply: (uint8 image [h, w, c], key) -> float32 [h, w, c].
    log_det: transformed image -> what to ADD to the model's log-density, in
      nats, to get that of the pixels on their 0 … 256 scale.
  """

  apply: Callable[[jax.Array, jax.Array], jax.Array]
  log_det: Callable[[jax.Array], jax.Array]


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

  return Transform(apply, lambda x: jnp.zeros((), x.dtype))


def dequantize_logit(logit_lambda: float = LOGIT_LAMBDA) -> Transform:
  """Uniform dequantization, then a logit squeezed away from 0 and 1.

    y = logit(λ + (1 − 2λ) (u + pixel)/256),  u ~ U[0, 1)

  The log-determinant brings a density of y to the 0 … 256 pixel scale:
  D log(1 − 2λ) − D log 256 − Σ_d [y_d − 2 softplus(y_d)], so that
  −log p/(D log 2) is bits a dimension.

  Args:
    logit_lambda: λ, in [0, 0.5).

  Reference:
    van den Burg and Williams (2021), Supplement B.1; Papamakarios et al.
    (2017), eq. (27).
  """

  def apply(image, key):
    uniform = jax.random.uniform(key, image.shape)
    unit = (image.astype(jnp.float32) + uniform) / 256.0
    # λ > 0 keeps the argument inside (0, 1).
    return jax.scipy.special.logit(logit_lambda + (1 - 2 * logit_lambda) * unit)

  def log_det(y: Float[Array, 'h w c']) -> Float[Array, '']:
    constant = math.log(1 - 2 * logit_lambda) - math.log(256)
    return y.size * constant - (y - 2 * jax.nn.softplus(y)).sum()

  return Transform(apply, log_det)
