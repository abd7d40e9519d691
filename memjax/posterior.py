"""Distributions over the latents of ONE item, to draw importance samples from.

The amortized posterior; the Laplace approximation, a Student-t about the
posterior's mode as wide as the curvature there says; and one that is refitted
to the posterior about the mode. Nothing here calls
LAPACK: on a CPU its batched factorizations and solves inside a jitted program
have been seen to wait for one another for ever.
"""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

if TYPE_CHECKING:
  from memjax.models.base import DecoderModel, LatentVariableModel

__all__ = [
  'PosteriorMode',
  'Proposal',
  'encoder_proposal',
  'find_mode',
  'inverse_cholesky',
  'laplace_proposal',
  'log_joint',
  'log_standard_normal',
  'posterior_precision',
  'variational_proposal',
]

VARIATIONAL_ROUNDS = 4

# Draws in a round of `variational_proposal`; both even.
_CURVATURE_DRAWS, _GRADIENT_DRAWS = 4, 16

# The t distribution's degrees of freedom; a chi-square variate is the sum of so
# many squared normal ones, which needs no rejection loop.
_DEGREES_OF_FREEDOM = 8

# Fractions of a quasi-Newton step that are tried together. Below a ReLU's kink
# the curvature can be many times that above it, and a full step too long.
_STEP_LENGTHS = (1.0, 0.5, 0.25, 0.1, 0.03)


class Proposal(NamedTuple):
  """A distribution over latents, as a transport of standard normal noise.

  Attributes:
    noise_dim: how many normal variates make one latent.
    transport: noise [noise_dim] ~ N(0, I) -> (latent z [latent], log q(z)).
  """

  noise_dim: int
  transport: Callable[[jax.Array], tuple[jax.Array, jax.Array]]


class PosteriorMode(NamedTuple):
  """Where p(x, z) is largest, as far as the search came.

  Attributes:
    z: the latent.
    log_joint: log p(x, z) there, in nats; never below that of the start.
  """

  z: Float[Array, ' latent']
  log_joint: Float[Array, '']


def encoder_proposal(
  model: 'LatentVariableModel', variables: Any, x: Float[Array, 'h w c']
) -> Proposal:
  """The amortized posterior q(z | x) as a proposal."""
  mean, logvar = model.encode(variables, x)

  def transport(noise):
    z = mean + jnp.exp(0.5 * logvar) * noise
    return z, log_standard_normal(noise) - 0.5 * logvar.sum()

  return Proposal(model.latent_dim, transport)


def laplace_proposal(
  model: 'DecoderModel',
  variables: Any,
  x: Float[Array, 'h w c'],
  *,
  num_steps: int | None = None,
) -> Proposal:
  r"""A Student-t about the posterior's mode, with the curvature's precision.

    z = ẑ + H^{−1/2} ε / √(c/ν),  ε ~ N(0, I),  c ~ χ²_ν,  ν = 8

  ẑ maximizes log p(x, z) and H is the Gauss-Newton precision there. Where the
  decoder is linear and the likelihood Gaussian, N(ẑ, H⁻¹) is the posterior; the
  t has the same shape and heavier tails, so that no weight is far too large.

  Args:
    model: has `decoder_output` and a likelihood with `fisher`.
    variables: the model's variables.
    x: one item, as the model sees it.
    num_steps: of the search for the mode, see `find_mode`.

  Reference:
    Tierney and Kadane (1986); Geweke (1989) for the t.
  """
  mode = find_mode(model, variables, x, num_steps=num_steps)
  precision = posterior_precision(model, variables, mode.z)
  return _student_t(mode.z, inverse_cholesky(precision))


def variational_proposal(
  model: 'DecoderModel',
  variables: Any,
  x: Float[Array, 'h w c'],
  key: jax.Array,
  *,
  num_steps: int | None = None,
  num_rounds: int = VARIATIONAL_ROUNDS,
) -> Proposal:
  """The Laplace proposal, refitted to more of the posterior than its mode.

  A ReLU decoder's posterior has kinks everywhere: gradient and curvature at one
  point say little about a posterior standard deviation away. Each round takes
  their means over draws of the current N(μ, H⁻¹), in pairs μ ± δ,

    H ← (1 − r) H + r E[I + JᵀFJ],  μ ← μ + r H⁻¹ E[∇ log p(x, z)]

  with r = 1/2, 1/3, 1/4, …, a stochastic search for the Gaussian closest to the
  posterior in KL(q ‖ p). It costs 4 `latent_dim` decodes a round.

  Args:
    model: has `decoder_output` and a likelihood with `fisher`.
    variables: the model's variables.
    x: one item, as the model sees it.
    key: decides the draws of the rounds; not that of the importance samples.
    num_steps: of the search for the mode, see `find_mode`.
    num_rounds: 0 is `laplace_proposal`.

  Reference:
    Opper and Archambeau (2009); Khan and Rue (2023), §4 for the updates.
  """
  mean = find_mode(model, variables, x, num_steps=num_steps).z
  precision = posterior_precision(model, variables, mean)
  gradient = jax.vmap(jax.grad(lambda z: log_joint(model, variables, x, z)))

  def refit(carry, index):
    mean, precision = carry
    factor = inverse_cholesky(precision)
    half = (_GRADIENT_DRAWS // 2, mean.size)
    noise = jax.random.normal(jax.random.fold_in(key, index), half)
    # Pairs lie next to each other: the curvature is taken at whole pairs.
    draws = jnp.stack([noise, -noise], axis=1).reshape(-1, mean.size) @ factor
    draws = mean[None] + draws
    seen = jax.vmap(lambda z: posterior_precision(model, variables, z))(
      draws[:_CURVATURE_DRAWS]
    ).mean(axis=0)
    rate = 1.0 / (index + 2.0)
    new = precision + rate * (seen - precision)
    factor = inverse_cholesky(new)
    shift = (factor @ gradient(draws).mean(axis=0)) @ factor
    return (mean + rate * shift, new), None

  (mean, precision), _ = jax.lax.scan(
    refit, (mean, precision), jnp.arange(num_rounds)
  )
  return _student_t(mean, inverse_cholesky(precision))


def _student_t(
  center: Float[Array, ' n'], factor: Float[Array, 'n n']
) -> Proposal:
  """t about `center`; R = `factor` is lower triangular, its shape is RᵀR."""
  size, df = center.size, _DEGREES_OF_FREEDOM
  log_det = jnp.log(jnp.diagonal(factor)).sum()
  constant = (
    math.lgamma(0.5 * (df + size))
    - math.lgamma(0.5 * df)
    - 0.5 * size * math.log(df * math.pi)
  )

  def transport(noise):
    normal, squares = noise[:size], jnp.square(noise[size:])
    t = normal * jax.lax.rsqrt(squares.mean())
    tail = 0.5 * (df + size) * jnp.log1p(jnp.square(t).sum() / df)
    return center + t @ factor, constant - tail - log_det

  return Proposal(size + df, transport)


def find_mode(
  model: 'DecoderModel',
  variables: Any,
  x: Float[Array, 'h w c'],
  *,
  num_steps: int | None = None,
) -> PosteriorMode:
  """Climbs log p(x, z) from the encoder's mean; it never goes down.

  Quasi-Newton (BFGS) steps that start from the inverse Gauss-Newton precision.
  Newton's own step would need a Jacobian each, `latent_dim` decodes, and the
  kinks of ReLU layers spoil its convergence all the same; here a step is one
  gradient and five trial decodes, and the differences of gradients tell the
  curvature across the kinks. All items take the same number of steps.

  Args:
    model: has `decoder_output` and a likelihood with `fisher`.
    variables: the model's variables.
    x: one item, as the model sees it.
    num_steps: 0 stays at the encoder's mean; None is 6 for up to 24 latent
      dimensions, a quarter of them beyond, and at most 12: on the MNIST VAE 6
      were as good as 12, on the CIFAR VAE they were not.

  Reference:
    Nocedal and Wright (2006), §6.1.
  """

  def climb(z):
    return log_joint(model, variables, x, z)

  start = model.encode(variables, x).mean
  if num_steps is None:
    num_steps = min(max(6, start.size // 4), 12)
  if num_steps == 0:
    return PosteriorMode(start, climb(start))
  factor = inverse_cholesky(posterior_precision(model, variables, start))
  value, gradient = jax.value_and_grad(climb)(start)
  lengths = jnp.array(_STEP_LENGTHS)

  def step(carry, _):
    z, value, gradient, inverse = carry
    direction = inverse @ gradient
    trials = z[None] + lengths[:, None] * direction[None]
    values = jax.vmap(climb)(trials)
    # NaN is never taken: every comparison with it is false.
    values = jnp.where(values > value, values, -jnp.inf)
    best = jnp.argmax(values)
    is_better = values[best] > value
    new_z = jnp.where(is_better, trials[best], z)
    new_gradient = jax.grad(climb)(new_z)
    new_inverse = _bfgs_update(inverse, new_z - z, gradient - new_gradient)
    # No trial was better: look closer next time.
    new_inverse = jnp.where(is_better, new_inverse, 0.1 * inverse)
    new_value = jnp.maximum(value, values[best])
    return (new_z, new_value, new_gradient, new_inverse), None

  carry = (start, value, gradient, factor.T @ factor)
  (z, value, _, _), _ = jax.lax.scan(step, carry, length=num_steps)
  return PosteriorMode(z, value)


def _bfgs_update(
  inverse: Float[Array, 'n n'], moved: Float[Array, ' n'], y: Float[Array, ' n']
) -> Float[Array, 'n n']:
  """The inverse Hessian B of −f after a move s that changed −∇f by y.

    B ← (I − ρsyᵀ) B (I − ρysᵀ) + ρssᵀ,  ρ = 1/yᵀs

  Left alone where −f is not clearly convex along s: B stays positive definite.
  """
  curvature = y @ moved
  is_convex = curvature > 1e-3 * jnp.sqrt((y @ y) * (moved @ moved))
  rho = 1.0 / jnp.where(is_convex, curvature, 1.0)
  by = inverse @ y
  cross = moved[:, None] * by[None]
  square = moved[:, None] * moved[None]
  updated = (
    inverse - rho * (cross + cross.T) + rho * (rho * (y @ by) + 1.0) * square
  )
  return jnp.where(is_convex, updated, inverse)


def posterior_precision(
  model: 'DecoderModel', variables: Any, z: Float[Array, ' latent']
) -> Float[Array, 'latent latent']:
  r"""The Gauss-Newton precision of z given an item: H = I + Jᵀ F J.

  J is the Jacobian of the decoder's outputs and F the likelihood's Fisher
  information in them, which is diagonal; the identity is the prior's. It is
  symmetric, its eigenvalues are 1 or more, and it costs `latent_dim` decodes.

  Reference:
    Schraudolph (2002); Martens (2020), §8.
  """
  output, pushforward = jax.linearize(
    lambda z: model.decoder_output(variables, z), z
  )
  fisher = jax.tree.leaves(model.likelihood.fisher(output))
  identity = jnp.eye(z.size, dtype=z.dtype)
  precision = identity
  for jacobian, weight in zip(
    jax.tree.leaves(jax.vmap(pushforward)(identity)), fisher, strict=True
  ):
    # √F on both sides keeps the product symmetric and its diagonal positive.
    root = jacobian.reshape(z.size, -1) * jnp.sqrt(weight).reshape(1, -1)
    precision += root @ root.T
  return precision


def inverse_cholesky(matrix: Float[Array, 'n n']) -> Float[Array, 'n n']:
  """The inverse R = L⁻¹ of the Cholesky factor: R A Rᵀ = I, A⁻¹ = RᵀR.

  Elimination in n steps of plain array operations, without pivoting, of which a
  positive definite matrix has no need.

  Args:
    matrix: A, symmetric and positive definite. Vmap for more.

  Returns:
    R, lower triangular. −Σ log R_ii = ½ log det A.

  Example:
    >>> inverse_cholesky(jnp.array([[4.0, 0.0], [0.0, 16.0]])).tolist()
    [[0.5, 0.0], [0.0, 0.25]]

  Reference:
    Golub and Van Loan (2013), §4.2.
  """
  size = matrix.shape[0]
  rows = jnp.arange(size)
  # Rounding may not make a pivot 0 or less.
  floor = jnp.finfo(matrix.dtype).eps * jnp.diagonal(matrix).max()

  def eliminate(index, pair):
    pivot_row = jax.lax.dynamic_index_in_dim(pair, index, 0, keepdims=False)
    column = jax.lax.dynamic_index_in_dim(pair, index, 1, keepdims=False)
    root = jax.lax.rsqrt(jnp.maximum(column[index], floor))
    below = jnp.where(rows > index, column * root, 0.0)
    pivot_row = pivot_row * root
    pair = pair - below[:, None] * pivot_row[None]
    return jnp.where((rows == index)[:, None], pivot_row[None], pair)

  pair = jnp.concatenate([matrix, jnp.eye(size, dtype=matrix.dtype)], axis=1)
  return jax.lax.fori_loop(0, size, eliminate, pair)[:, size:]


def log_joint(
  model: 'LatentVariableModel',
  variables: Any,
  x: Float[Array, 'h w c'],
  z: Float[Array, ' latent'],
) -> Float[Array, '']:
  """Returns log p(x | z) + log p(z), in nats."""
  return model.log_likelihood(variables, x, z) + log_standard_normal(z)


def log_standard_normal(z: Float[Array, ' latent']) -> Float[Array, '']:
  """Log-density of N(0, I)."""
  return -0.5 * (jnp.square(z).sum() + z.size * math.log(2 * math.pi))
