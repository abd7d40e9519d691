"""Learners in closed form: a kernel density estimate and a fitted Gaussian.

They show what the score means without any training noise (Figure 1 of the
paper), and give the tests an exact answer. Each is the log-density of ONE item
given a data set and a mask of the items that it was fitted to; vmap them.
"""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

__all__ = ['gaussian_mle_log_prob', 'kde_log_prob']


def kde_log_prob(
  x: Float[Array, ' d'],
  data: Float[Array, 'n d'],
  is_train: Bool[Array, ' n'],
  *,
  bandwidth: float,
) -> Float[Array, '']:
  """Log-density of x under a Gaussian kernel density estimate, in nats.

    log p(x) = log (1/|T|) Σ_{j ∈ T} N(x; x_j, h² I)

  Args:
    x: one item.
    data: all items.
    is_train: T, the items that the estimate is made of; at least one.
    bandwidth: h, the kernel's standard deviation.

  Example:
    >>> data = jnp.zeros((3, 2))
    >>> log_p = kde_log_prob(
    ...   data[0], data, jnp.array([True, True, False]), bandwidth=1.0
    ... )
    >>> round(float(log_p), 4)  # −log 2π
    -1.8379
  """
  square = jnp.square(data - x[None]).sum(axis=1) / bandwidth**2
  constant = 0.5 * x.size * math.log(2 * math.pi * bandwidth**2)
  kernel = jnp.where(is_train, -0.5 * square - constant, -jnp.inf)
  return jax.nn.logsumexp(kernel) - jnp.log(is_train.sum())


def gaussian_mle_log_prob(
  x: Float[Array, ' d'], data: Float[Array, 'n d'], is_train: Bool[Array, ' n']
) -> Float[Array, '']:
  """Log-density of x under the maximum-likelihood Gaussian, in nats.

    μ = (1/|T|) Σ_{j ∈ T} x_j,  Σ = (1/|T|) Σ_{j ∈ T} (x_j − μ)(x_j − μ)ᵀ

  Args:
    x: one item.
    data: all items.
    is_train: T, more than d items in general position.

  Example:
    >>> data = jnp.array([[-1.0], [1.0], [9.0]])
    >>> log_p = gaussian_mle_log_prob(
    ...   jnp.zeros(1), data, jnp.array([True, True, False])
    ... )
    >>> round(float(log_p), 4)  # a standard normal at its mean
    -0.9189
  """
  weight = is_train / is_train.sum()
  mean = weight @ data
  centred = data - mean[None]
  covariance = (centred * weight[:, None]).T @ centred
  factor = jnp.linalg.cholesky(covariance)
  white = jax.scipy.linalg.solve_triangular(factor, x - mean, lower=True)
  log_det = jnp.log(jnp.diagonal(factor)).sum()
  return -0.5 * (white @ white + x.size * math.log(2 * math.pi)) - log_det
