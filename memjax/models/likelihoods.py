"""Log-densities of observations given a decoder's output, for one item."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

__all__ = ['bernoulli_log_prob', 'gaussian_log_prob']

# PyTorch's binary cross-entropy bounds each logarithm so; the papers' numbers
# were made with it.
_LOG_FLOOR = -100.0


def bernoulli_log_prob(
  logits: Float[Array, '*event'], x: Float[Array, '*event']
) -> Float[Array, '']:
  """Log-probability of a binary image, Σ_d log σ(±l_d), in nats.

  The sign is + where x_d = 1 and − where x_d = 0. Each term is bounded below
  by −100, as in PyTorch's binary cross-entropy. The gradient is that of the
  unbounded log-probability, so that a pixel beyond the bound can still be
  corrected. (PyTorch's, taken through probabilities, fades for l < −28 where
  x_d = 1, and in float32 is 0 for l > 17 where x_d = 0: there the probability
  rounds to 1, and PyTorch's value is −100 although log σ(−l) is −17.)

  Args:
    logits: l, the log-odds of the decoder's means.
    x: the same shape, exactly 0 or 1.

  Example:
    >>> logits = jnp.full((1024,), jnp.log(0.25 / 0.75))
    >>> round(float(bernoulli_log_prob(logits, jnp.ones(1024))), 2)
    -1419.57

  Reference:
    van den Burg and Williams (2021), Supplement B.2.
  """
  # Flat, because XLA's CPU loops do not vectorize over an axis of one channel:
  # 0.9 instead of 45 ns a pixel.
  x, logits = x.reshape(-1), logits.reshape(-1)
  return _bounded_log_sigmoid(jnp.where(x > 0.5, logits, -logits)).sum()


@jax.custom_jvp
def _bounded_log_sigmoid(logit: Float[Array, ' d']) -> Float[Array, ' d']:
  # log σ(l) = min(l, 0) − log(1 + e^−|l|): no overflow for any l.
  value = jnp.minimum(logit, 0.0) - jnp.log1p(jnp.exp(-jnp.abs(logit)))
  return jnp.maximum(value, _LOG_FLOOR)


_bounded_log_sigmoid.defjvps(
  lambda tangent, _, logit: jax.nn.sigmoid(-logit) * tangent
)


def gaussian_log_prob(
  mean: Float[Array, '*event'],
  logvar: Float[Array, '*event'] | Float[Array, ''],
  x: Float[Array, '*event'],
) -> Float[Array, '']:
  """Log-density of an image under a diagonal Gaussian, in nats.

    log p = −½ Σ_d [log 2π + v_d + (x_d − μ_d)² e^{−v_d}]

  Args:
    mean: μ.
    logvar: v, the log-VARIANCE, one a pixel or one for all. The paper's CIFAR
      decoder bounds it below by −7 before it comes here.
    x: the observation, in the space in which the density is meant.

  Example:
    >>> mean, logvar, x = jnp.zeros(2), jnp.zeros(2), jnp.ones(2)
    >>> round(float(gaussian_log_prob(mean, logvar, x)), 4)
    -2.8379

  Reference:
    van den Burg and Williams (2021), Supplement B.2.
  """
  # One exponential, where there is one variance.
  precision = jnp.broadcast_to(jnp.exp(-logvar), x.shape).reshape(-1)
  logvar = jnp.broadcast_to(logvar, x.shape).reshape(-1)
  x, mean = x.reshape(-1), mean.reshape(-1)
  square = jnp.square(x - mean) * precision
  return -0.5 * (math.log(2 * math.pi) + logvar + square).sum()
