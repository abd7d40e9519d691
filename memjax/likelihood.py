"""Importance-sampled log p(x) of a latent-variable model, with its error."""

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from memjax import validate
from memjax.posterior import (
  Proposal,
  encoder_proposal,
  laplace_proposal,
  log_joint,
  variational_proposal,
)

if TYPE_CHECKING:
  from memjax.models.base import LatentVariableModel

__all__ = [
  'PROPOSALS',
  'LogProb',
  'choose_proposal',
  'evidence_lower_bound',
  'importance_log_prob',
  'pareto_shape',
  'reliable_below',
]

PROPOSALS = ('encoder', 'laplace', 'variational')

# Beyond it the Laplace proposal's algebra outweighs the decodes.
_MAX_LATENT_DIM = 256


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


def importance_log_prob(
  model: 'LatentVariableModel',
  variables: Any,
  x: Float[Array, 'h w c'],
  key: jax.Array,
  *,
  num_samples: int,
  proposal: str = 'auto',
  samples_at_once: int = 1024,
) -> LogProb:
  r"""Estimates log p(x) = log ∫ p(x | z) p(z) dz of ONE item; vmap it.

    log p̂(x) = log (1/N) Σ_s w_s,  w_s = p(x | z_s) p(z_s) / q(z_s),  z_s ~ q

  N is `num_samples`. Everything stays in log space and in float32, whatever
  the backend's default matmul precision. The estimate of p(x) is unbiased, so
  that of log p(x) is on average too LOW, by about half its squared standard
  error while the weights behave.

  Args:
    model: has `encode`, `log_likelihood` and `latent_dim`; all but 'encoder'
      need `decoder_output` and `likelihood.fisher` too.
    variables: the model's variables.
    x: one item as the model sees it, after the transform. A density of the
      pixels needs the transform's `log_det` added.
    key: decides the noise. The same key for two models makes their difference
      free of it (common random numbers).
    num_samples: N.
    proposal: q. 'encoder' is the amortized posterior, the published way: far
      too low where the encoder is, by hundreds of nats on convolutional VAEs.
      'laplace' is a t about the posterior's mode; 'variational' the same,
      refitted to the posterior around it: dearer, and better where 'laplace' is
      not reliable. 'auto' is 'laplace' where the model allows it, else
      'encoder'.
    samples_at_once: how many latents are decoded together; bounds the memory
      and changes nothing else.

  Returns:
    LogProb(log_px, std_err, ess, pareto_k, is_reliable), scalars.

  Raises:
    ValueError: for num_samples < 1, an unknown proposal, or one for which the
      model lacks what `choose_proposal` names.

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
  proposal = choose_proposal(model, proposal)
  with jax.default_matmul_precision('float32'):
    q, noise_key = _make_proposal(model, variables, x, key, proposal)

    def log_weight(noise):
      z, log_q = q.transport(noise)
      return log_joint(model, variables, x, z) - log_q

    noise = jax.random.normal(noise_key, (num_samples, q.noise_dim))
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
    z, log_q = q.transport(jax.random.normal(key, (q.noise_dim,)))
    return log_joint(model, variables, x, z) - log_q


def choose_proposal(
  model: 'LatentVariableModel', proposal: str = 'auto'
) -> str:
  """Resolves 'auto', and checks that the model has what a proposal needs.

  Args:
    model: see `importance_log_prob`.
    proposal: 'auto' is 'laplace' where the model allows it (see the error) and
      'encoder' elsewhere.

  Raises:
    ValueError: for an unknown proposal, or one for which the model lacks
      `decoder_output`, `likelihood.fisher`, or has over 256 latent dimensions:
      a matrix of that size an item is more work than the decodes.
  """
  validate.one_of('proposal', proposal, ('auto', *PROPOSALS))
  if proposal == 'encoder':
    return proposal
  lacks = ''
  if not hasattr(model, 'decoder_output'):
    lacks = 'a model with decoder_output(variables, z)'
  elif not hasattr(getattr(model, 'likelihood', None), 'fisher'):
    lacks = 'a model with likelihood.fisher(output)'
  elif model.latent_dim > _MAX_LATENT_DIM:
    lacks = f'latent_dim={model.latent_dim} to be at most {_MAX_LATENT_DIM}'
  if proposal == 'auto':
    return 'encoder' if lacks else 'laplace'
  if lacks:
    raise ValueError(
      f'proposal={proposal!r}: expected {lacks}; '
      f"{type(model).__name__} can use proposal='encoder'."
    )
  return proposal


def _make_proposal(
  model: Any, variables: Any, x: jax.Array, key: jax.Array, proposal: str
) -> tuple[Proposal, jax.Array]:
  """The named proposal, and the key of the noise that is left for it."""
  if proposal == 'encoder':
    return encoder_proposal(model, variables, x), key
  own_key, key = jax.random.split(key)
  if proposal == 'laplace':
    return laplace_proposal(model, variables, x), key
  return variational_proposal(model, variables, x, own_key), key


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
