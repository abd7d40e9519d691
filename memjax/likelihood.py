"""Importance-sampled log p(x) of a latent-variable model, with its error."""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from memjax import validate

if TYPE_CHECKING:
  from memjax.models.base import LatentVariableModel

__all__ = [
  'PROPOSALS',
  'LogProb',
  'evidence_lower_bound',
  'importance_log_prob',
  'pareto_shape',
  'reliable_below',
]

PROPOSALS = ('encoder',)


class LogProb(NamedTuple):
  """An estimate of log p(x) of one item, and how far to trust it.

  Attributes:
    log_px: in nats.
    std_err: its Monte Carlo standard error in nats, by the delta method. It
      sees only the weights that were drawn: read it together with `pareto_k`.
    ess: effective sample size 1/Σ w̃², from 1 to the number of samples.
    pareto_k: k̂, the shape of the weights' upper tail. Large = the estimate
      hangs on few draws and is likely too LOW. NaN below 25 samples.
    is_reliable: k̂ < min(1 − 1/log₁₀ N, 0.7).
  """

  log_px: Float[Array, '']
  std_err: Float[Array, '']
  ess: Float[Array, '']
  pareto_k: Float[Array, '']
  is_reliable: Bool[Array, '']


class Proposal(NamedTuple):
  """A distribution over latents, as a transport of standard noise.

  Attributes:
    transport: noise [latent] ~ N(0, I) -> latent z [latent].
    log_prob: noise [latent] -> log q(z) of the z that it is carried to.
  """

  transport: Callable[[jax.Array], jax.Array]
  log_prob: Callable[[jax.Array], jax.Array]


def importance_log_prob(
  model: 'LatentVariableModel',
  variables: Any,
  x: Float[Array, 'h w c'],
  key: jax.Array,
  *,
  num_samples: int,
  proposal: str = 'encoder',
  samples_at_once: int = 1024,
) -> LogProb:
  r"""Estimates log p(x) = log ∫ p(x | z) p(z) dz of ONE item; vmap it.

    log p̂(x) = log (1/N) Σ_s w_s,  w_s = p(x | z_s) p(z_s) / q(z_s),  z_s ~ q

  N is `num_samples`. Everything stays in log space and in float32, whatever
  the backend's default matmul precision. The estimate of p(x) is unbiased, so
  that of log p(x) is on average too LOW, by about half its squared standard
  error while the weights behave.

  Args:
    model: has `encode`, `log_likelihood` and `latent_dim`.
    variables: the model's variables.
    x: one item as the model sees it, after the transform. A density of the
      pixels needs the transform's `log_det` added.
    key: decides the noise. The same key for two models makes their difference
      free of it (common random numbers).
    num_samples: N.
    proposal: q. 'encoder' is the amortized posterior, the published way.
    samples_at_once: how many latents are decoded together; bounds the memory
      and changes nothing else.

  Returns:
    LogProb(log_px, std_err, ess, pareto_k, is_reliable), scalars.

  Raises:
    ValueError: for num_samples < 1 or an unknown proposal.

  Example:
    >>> from memjax.models.vae import bernoulli_mlp_vae
    >>> model = bernoulli_mlp_vae((4, 4, 1), latent_dim=2, hidden=(8,))
    >>> variables = model.init(jax.random.key(0))
    >>> x = jnp.ones((4, 4, 1))
    >>> estimate = jax.jit(
    ...   lambda x: importance_log_prob(
    ...     model, variables, x, jax.random.key(1), num_samples=64
    ...   )
    ... )(x)
    >>> bool(estimate.log_px < 0), bool(estimate.ess <= 64)
    (True, True)

  Reference:
    van den Burg and Williams (2021), §4.1, after Burda et al. (2016). Pareto
    k̂: Vehtari et al. (2024).
  """
  validate.integer('num_samples', num_samples, 1)
  validate.integer('samples_at_once', samples_at_once, 1)
  validate.one_of('proposal', proposal, PROPOSALS)
  with jax.default_matmul_precision('float32'):
    q = encoder_proposal(model, variables, x)

    def log_weight(noise):
      z = q.transport(noise)
      log_prior = _log_standard_normal(z)
      likelihood = model.log_likelihood(variables, x, z)
      return likelihood + log_prior - q.log_prob(noise)

    noise = jax.random.normal(key, (num_samples, model.latent_dim))
    if num_samples <= samples_at_once:
      log_weights = jax.vmap(log_weight)(noise)
    else:
      log_weights = jax.lax.map(log_weight, noise, batch_size=samples_at_once)
  return summarize_weights(log_weights)


def evidence_lower_bound(
  model: 'LatentVariableModel',
  variables: Any,
  x: Float[Array, 'h w c'],
  key: jax.Array,
) -> Float[Array, '']:
  """One-sample ELBO of ONE item in eval mode, ≤ log p(x) on average, in nats.

    ELBO = log p(x | z) + log p(z) − log q(z | x),  z ~ q(z | x)

  Reference:
    van den Burg and Williams (2021), eq. (4).
  """
  with jax.default_matmul_precision('float32'):
    q = encoder_proposal(model, variables, x)
    noise = jax.random.normal(key, (model.latent_dim,))
    z = q.transport(noise)
    likelihood = model.log_likelihood(variables, x, z)
    return likelihood + _log_standard_normal(z) - q.log_prob(noise)


def encoder_proposal(
  model: 'LatentVariableModel', variables: Any, x: Float[Array, 'h w c']
) -> Proposal:
  """The amortized posterior q(z | x) as a proposal."""
  mean, logvar = model.encode(variables, x)
  return Proposal(
    transport=lambda noise: mean + jnp.exp(0.5 * logvar) * noise,
    log_prob=lambda noise: _log_standard_normal(noise) - 0.5 * logvar.sum(),
  )


def _log_standard_normal(z: Float[Array, ' latent']) -> Float[Array, '']:
  return -0.5 * (jnp.square(z).sum() + z.size * math.log(2 * math.pi))


def summarize_weights(log_weights: Float[Array, ' samples']) -> LogProb:
  """The estimate and its diagnostics, from N importance log-weights.

  With w̃ = w/Σw, the delta method gives std_err² = (N Σw̃² − 1)/(N − 1).
  """
  num_samples = log_weights.shape[0]
  log_px = jax.nn.logsumexp(log_weights) - math.log(num_samples)
  ess = 1.0 / jnp.square(jax.nn.softmax(log_weights)).sum()
  # Rounding must not make equal weights count for more than N samples.
  ess = jnp.minimum(ess, num_samples)
  variance = (num_samples / ess - 1.0) / max(num_samples - 1, 1)
  shape = pareto_shape(log_weights)
  return LogProb(
    log_px=log_px,
    std_err=jnp.sqrt(variance) if num_samples > 1 else log_px * jnp.nan,
    ess=ess,
    pareto_k=shape,
    is_reliable=shape < reliable_below(num_samples),
  )


def reliable_below(num_samples: int) -> float:
  """The k̂ below which N samples make a reliable estimate.

  Reference:
    Vehtari et al. (2024), §3.2.4: min(1 − 1/log₁₀ N, 0.7).
  """
  return min(1 - 1 / math.log10(max(num_samples, 2)), 0.7)


def pareto_shape(log_weights: Float[Array, ' samples']) -> Float[Array, '']:
  """Shape k̂ of a generalized Pareto fit to the largest importance weights.

  The tail holds min(N/5, 3√N) weights. The fit is the empirical-Bayes one of
  Zhang and Stephens, shrunk towards ½ by ten pseudo-observations. k̂ < ½: the
  weights have a finite variance; k̂ > 0.7: no practical sample size suffices.

  Args:
    log_weights: N log-weights; any common shift is irrelevant.

  Returns:
    k̂; NaN when the tail would hold fewer than 5 weights (N < 25), and 0 when
    the tail's weights are all equal.

  Reference:
    Zhang and Stephens (2009); Vehtari et al. (2024), §3 and Appendix D.
  """
  num_samples = log_weights.shape[0]
  tail = min(num_samples // 5, math.ceil(3 * math.sqrt(num_samples)))
  if tail < 5:
    return jnp.full((), jnp.nan, log_weights.dtype)
  largest = jax.lax.top_k(log_weights, tail + 1)[0]
  weights = jnp.exp(largest - largest[0])
  excess = weights[:-1] - weights[-1]  # descending
  is_flat = excess[0] < 1e-5
  excess = jnp.where(is_flat, jnp.linspace(1.0, 0.5, tail), excess)
  # Ties with the cutoff carry no excess; the fit takes logarithms of 1 − bx.
  shape = _zhang_stephens(excess[::-1] / excess[0])
  shape = (tail * shape + 10 * 0.5) / (tail + 10)
  return jnp.where(is_flat, 0.0, shape)


def _zhang_stephens(x: Float[Array, ' tail']) -> Float[Array, '']:
  """The unshrunk shape, from exceedances in ascending order, largest 1."""
  size = x.shape[0]
  num_points = 30 + math.isqrt(size)
  quartile = x[int(size / 4 + 0.5) - 1]
  grid = jnp.arange(1, num_points + 1) - 0.5
  b = 1.0 / x[-1] + (1.0 - jnp.sqrt(num_points / grid)) / (
    3.0 * jnp.maximum(quartile, 1e-30)
  )

  def mean_log(b):
    return jnp.log1p(-b * x).mean()

  k = jax.vmap(mean_log)(b)
  profile = size * (jnp.log(-b / k) - k - 1.0)
  # A grid point at b = 0 is the exponential's limit: 0/0, and of no weight.
  profile = jnp.where(jnp.isfinite(profile), profile, -jnp.inf)
  return mean_log((b * jax.nn.softmax(profile)).sum())
