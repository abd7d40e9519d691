"""A mixture of Gaussians around given points, one bandwidth each.

The density behind `feature_likelihood_divergence`: centres are samples, and
their variances are fitted to other points by gradient steps. Work is blocked
over rows; memory is that of the table of distances, or of a batch of it where
the table is too large.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Float

from memjax.types import Matrix

__all__ = ['Mixture', 'fit_mixture', 'log_likelihood', 'squared_distances']

# The published settings: Adam, so many passes, batches of so many points, and
# how much of the way to the centre of the data the fallback component covers.
_LEARNING_RATE = 0.5
_EPOCHS = 50
_BATCH = 10_000
_ORIGIN = 0.9**2
_LOWEST, _HIGHEST = -40.0, 20.0  # log variances
_JITTER = 1e-3
# Distances kept from pass to pass: 4 GB in float32. Beyond, they are computed
# anew for each batch.
_TABLE = 2**30
_BLOCK = 2**23
# A block of the table that stays in cache.
_CHUNK = 2**16
# Below this share of |x|² + |y|² the product form has lost digits in float64.
_NEAR = 1e-6


class Mixture(NamedTuple):
  """Equally weighted Gaussians N(centre_j, exp(log_variance_j) I).

  Attributes:
    centres: float64 [m, d].
    log_variance: float64 [m].
    nearest: float64 [m], squared distance of each centre to the nearest point
      of those that it was fitted to.
  """

  centres: Matrix
  log_variance: Float[np.ndarray, ' m']
  nearest: Float[np.ndarray, ' m']


def fit_mixture(
  centres: Matrix, points: Matrix, rng: np.random.Generator
) -> tuple[Mixture, Float[np.ndarray, ' l']]:
  """Fits the bandwidths to points by maximum likelihood, as published.

    L(λ) = −(1/(b d)) Σ_i log [ (1/m) Σ_j N(x_i; c_j, e^{λ_j} I)
                                + N(0.9 (x_i − x̄); 0, e^{λ_0} I) ],

  50 passes of Adam at rate 0.5 over batches of b = 10,000 points in random
  order, from λ_j = log((min_i |x_i − c_j|² + 0.001)/d), kept within [−40, 20].
  The last component, at the mean of the points and without weight, keeps far
  points from dominating; it takes no part in the likelihood afterwards.

  Args:
    centres: float64 [m, d].
    points: x, float64 [l, d].
    rng: of the order of the points.

  Returns:
    The mixture, and log p of the points under it, float64 [l] in nats.
  """
  num_features = points.shape[1]
  order = rng.permutation(len(points))
  points = points[order]
  offset = points - points.mean(axis=0)
  origin = (_ORIGIN * np.square(offset).sum(axis=1)).astype(np.float32)
  parts = [
    slice(start, start + _BATCH) for start in range(0, len(points), _BATCH)
  ]
  table = lambda part: squared_distances(points[part], centres)
  nearest = np.full(len(centres), np.inf)
  kept = []
  is_kept = len(points) * len(centres) <= _TABLE
  for part in parts:
    block = table(part)
    nearest = np.minimum(nearest, block.min(axis=0))
    if is_kept:
      kept.append(_chunks(block))
  params = (
    jnp.asarray(np.log((nearest + _JITTER) / num_features), jnp.float32),
    jnp.zeros((), jnp.float32),
  )
  state = _optimizer().init(params)
  for _ in range(_EPOCHS):
    for index, part in enumerate(parts):
      chunks = kept[index] if is_kept else _chunks(table(part))
      far = _chunks_of(origin[part], chunks)
      params, state = _step(
        params, state, chunks, far, len(origin[part]), num_features
      )
  mixture = Mixture(
    centres, np.asarray(params[0], np.float64), nearest.astype(np.float64)
  )
  values = np.empty(len(points))
  for index, part in enumerate(parts):
    chunks = kept[index] if is_kept else _chunks(table(part))
    values[order[part]] = _log_sums_of(mixture, chunks, len(order[part]))
  return mixture, values


def _optimizer():
  # Imported here, so that `import memjax` stays light.
  import optax

  return optax.adam(_LEARNING_RATE)


def log_likelihood(mixture: Mixture, points: Matrix) -> Float[np.ndarray, ' n']:
  """log p(x) of each point under the mixture, in nats.

    log p(x_i) = log (1/m) Σ_j N(x_i; c_j, e^{λ_j} I)

  Args:
    mixture: from `fit_mixture`.
    points: x, float64 [n, d].
  """
  values = np.empty(len(points))
  for start in range(0, len(points), _BATCH):
    part = points[start : start + _BATCH]
    chunks = _chunks(squared_distances(part, mixture.centres))
    values[start : start + _BATCH] = _log_sums_of(mixture, chunks, len(part))
  return values


def squared_distances(x: Matrix, y: Matrix) -> Float[np.ndarray, 'n m']:
  """|x_i − y_j|² as float32, right for near-duplicates too.

  The product form in float64, and direct differences for pairs so near that it
  has lost digits.

  Args:
    x: float64 [n, d].
    y: float64 [m, d].
  """
  norm_x, norm_y = (np.square(points).sum(axis=1) for points in (x, y))
  table = np.empty((len(x), len(y)), np.float32)
  rows = max(1, _BLOCK // len(y))
  for start in range(0, len(x), rows):
    block = x[start : start + rows]
    norms = norm_x[start : start + rows, None] + norm_y
    squared = norms - 2 * (block @ y.T)
    row, column = np.nonzero(squared <= _NEAR * norms)
    pairs = max(1, _CHUNK // x.shape[1])
    for first in range(0, len(row), pairs):
      near = slice(first, first + pairs)
      difference = block[row[near]] - y[column[near]]
      squared[row[near], column[near]] = np.square(difference).sum(axis=1)
    table[start : start + rows] = squared
  return table


def _chunks(table: Float[np.ndarray, 'n m']) -> jax.Array:
  """Rows in groups that stay in cache, on the device; padded with zeros."""
  rows = max(1, _CHUNK // table.shape[1])
  count = -(-len(table) // rows)
  padding = count * rows - len(table)
  padded = np.pad(table, ((0, padding), (0, 0))) if padding else table
  return jnp.asarray(padded.reshape(count, rows, -1))


def _chunks_of(values: Float[np.ndarray, ' n'], chunks: jax.Array) -> jax.Array:
  padding = chunks.shape[0] * chunks.shape[1] - len(values)
  return jnp.asarray(np.pad(values, (0, padding)).reshape(chunks.shape[:2]))


def _log_density(squared, log_variance, num_features):
  """Of isotropic Gaussians, given squared distances."""
  scale = num_features * (log_variance + jnp.log(2 * jnp.pi))
  return -0.5 * (squared * jnp.exp(-log_variance) + scale)


def _log_sums_of(
  mixture: Mixture, chunks: jax.Array, num_points: int
) -> Float[np.ndarray, ' n']:
  """log p of the points whose distances are in the chunks."""
  num_centres, num_features = mixture.centres.shape
  log_variance = jnp.asarray(mixture.log_variance, jnp.float32)
  found = np.asarray(_log_sums(chunks, log_variance, num_features))
  return found.reshape(-1)[:num_points] - np.log(num_centres)


@functools.partial(jax.jit, static_argnums=(2,))
def _log_sums(chunks, log_variance, num_features: int):
  """log Σ_j N(x_i; c_j, e^{λ_j} I), a chunk at a time."""
  row = lambda squared: jax.nn.logsumexp(
    _log_density(squared, log_variance[None], num_features), axis=1
  )
  return lax.map(row, chunks)


@functools.partial(jax.jit, static_argnums=(5,))
def _step(params, state, chunks, origin, num_points, num_features: int):
  """One step of Adam; the gradient in closed form.

  ∂L/∂λ_j = −(1/(b d)) Σ_i p_ij (½ |x_i − c_j|² e^{−λ_j} − ½ d), with p_ij the
  share of component j in the density at x_i.
  """
  log_variance, origin_log_variance = params
  num_centres = log_variance.shape[0]
  is_point = jnp.arange(chunks.shape[0] * chunks.shape[1]) < num_points
  is_point = is_point.reshape(chunks.shape[:2])

  def add(sums, chunk):
    squared, far, weight = chunk
    part = _log_density(squared, log_variance[None], num_features)
    part -= jnp.log(num_centres)
    rest = _log_density(far, origin_log_variance, num_features)
    highest = jnp.maximum(part.max(axis=1), rest)
    part = jnp.exp(part - highest[:, None])
    rest = jnp.exp(rest - highest)
    share = weight / (part.sum(axis=1) + rest)
    # Sums over the points by a product with their weights.
    mass, moment, rest_mass, rest_moment = sums
    with jax.default_matmul_precision('float32'):
      mass += share @ part
      moment += share @ (part * squared)
      rest_mass += share @ rest
      rest_moment += share @ (rest * far)
    return (mass, moment, rest_mass, rest_moment), None

  zero = jnp.zeros_like(log_variance)
  sums = (zero, zero, jnp.float32(0), jnp.float32(0))
  weights = is_point.astype(jnp.float32)
  sums, _ = lax.scan(add, sums, (chunks, origin, weights))
  mass, moment, rest_mass, rest_moment = sums
  slope = lambda mass, moment, log_variance: (
    -0.5
    * (moment * jnp.exp(-log_variance) - num_features * mass)
    / (num_points * num_features)
  )
  gradient = (
    slope(mass, moment, log_variance),
    slope(rest_mass, rest_moment, origin_log_variance),
  )
  updates, state = _optimizer().update(gradient, state, params)
  updated: Any = jax.tree.map(jnp.add, params, updates)
  log_variance, origin_log_variance = updated
  log_variance = jnp.clip(log_variance, min=_LOWEST, max=_HIGHEST)
  return (log_variance, origin_log_variance), state
