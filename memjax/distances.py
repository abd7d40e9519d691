"""Distances between whole sets of points, in float64, for host statistics.

Small problems are solved by direct differences here, large ones by
`neighbors` on the device, whose winners are measured again in float64.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.spatial.distance import cdist

from memjax import validate
from memjax.neighbors import METRICS, nearest_neighbors
from memjax.types import Matrix, Samples

__all__ = [
  'ExactNeighbors',
  'exact_neighbors',
  'sample_sets',
  'unit',
  'within_radius',
]

# From the first row of a block and its radii to a code for each pair.
Compare = Callable[[int, list[np.ndarray]], list[np.ndarray]]

_INSTEAD = (
  'inside jit, call nearest_neighbors and compute the statistic from its '
  'distances outside'
)
# Pairs times features up to which direct differences cost less than compiling
# a search for the device does.
_SMALL = 10**9
# Numbers that a block of rows may take, 128 MB in float64; and a block of
# pairs, which is faster in cache.
_BLOCK = 2**24
_PAIRS_BLOCK = 2**18


class ExactNeighbors(NamedTuple):
  """The k nearest references of each query, nearest first.

  Attributes:
    distance: float64 [q, k], Euclidean (not squared) or 1 − cos.
    index: int64 [q, k], row in the references.
  """

  distance: Float[np.ndarray, 'q k']
  index: Int[np.ndarray, 'q k']


def sample_sets(
  metric: str = 'euclidean', /, **named: Samples
) -> tuple[Matrix, ...]:
  """Checks sets of samples and returns them as float64 [n, d].

  Args:
    metric: 'euclidean' | 'cosine', which refuses zero vectors.
    **named: arrays [n, …] by the name of the caller's argument; all axes but
      the first are flattened.

  Raises:
    ValueError: NaN or ±inf, an empty set, unequal numbers of features, a zero
      vector under 'cosine', a tracer.
  """
  validate.one_of('metric', metric, METRICS)
  sets = []
  for name, value in named.items():
    points = validate.finite(name, value, instead=_INSTEAD)
    if points.ndim < 2 or points.size == 0:
      raise ValueError(
        f'{name} has shape {points.shape}: expected [n, …], one sample a row, '
        'at least one sample and one feature.'
      )
    points = points.reshape(len(points), -1)
    if sets and points.shape[1] != sets[0].shape[1]:
      raise ValueError(
        f'{name} has {points.shape[1]} features and {next(iter(named))} '
        f'{sets[0].shape[1]}: expected the same number.'
      )
    is_zero = ~points.any(axis=1)
    if metric == 'cosine' and is_zero.any():
      raise ValueError(
        f'{name}[{int(np.argmax(is_zero))}] is a zero vector '
        f'({int(is_zero.sum())} of {len(points)} are): expected non-zero '
        "vectors under metric='cosine', which looks at directions."
      )
    sets.append(points)
  return tuple(sets)


def exact_neighbors(
  queries: Matrix,
  references: Matrix,
  *,
  metric: str = 'euclidean',
  k: int = 1,
  exclude_self: bool = False,
  small: int = _SMALL,
) -> ExactNeighbors:
  """Finds the k nearest references of each query; distances in float64.

  The device finds the nearest of the points rounded to float32, which are then
  measured in float64: a distance is exact for its index, and if another point
  is nearer, then by less than that rounding, 1e-7 of the data's spread.

  Args:
    queries: float64 [q, d], checked by `sample_sets`.
    references: float64 [r, d].
    metric: 'euclidean' | 'cosine'.
    k: number of neighbours.
    exclude_self: query i is reference i and no neighbour of itself.
    small: the product q·r·(d + 8) up to which no device is asked.

  Returns:
    ExactNeighbors(distance, index), each [q, k], nearest first.

  Raises:
    ValueError: k out of range.

  Example:
    >>> points = np.arange(3.0)[:, None] ** 2
    >>> exact_neighbors(points, points, exclude_self=True).distance.ravel()
    array([1., 1., 3.])
  """
  k = validate.integer('k', k, 1, len(references) - exclude_self)
  if metric == 'cosine':
    queries, references = unit(queries), unit(references)
  if _work(queries, references) <= small:
    index = _direct_neighbors(queries, references, k, exclude_self)
  else:
    index = _device_neighbors(queries, references, k, exclude_self)
  distance = _column_distances(queries, references, index)
  # Once more in order: these distances are the ones that are compared.
  order = np.lexsort((index, distance), axis=1)
  distance = np.take_along_axis(distance, order, 1)
  return ExactNeighbors(
    distance**2 / 2 if metric == 'cosine' else distance,
    np.take_along_axis(index, order, 1),
  )


def within_radius(
  queries: Matrix,
  references: Matrix,
  radii: Sequence[Float[np.ndarray, '_ _'] | float],
  *,
  metric: str = 'euclidean',
  small: int = _SMALL,
) -> Iterator[tuple[int, list[Bool[np.ndarray, '_ _']]]]:
  """Tells which pairs are closer than some radii: d(x_i, y_j) < ρ, strictly.

  The matmul form decides where its error bound allows, direct differences in
  float64 the rest.

  Args:
    queries: x, float64 [q, d].
    references: y, float64 [r, d].
    radii: each ρ, in units of the metric, is one number, or [1, r] for balls
      around the references, or [q, 1] for balls around the queries.
    metric: 'euclidean' | 'cosine'.
    small: as for `exact_neighbors`.

  Yields:
    (start, masks) for blocks of b queries from number start; one mask, bool
    [b, r], for each ρ.
  """
  limits = [np.atleast_2d(np.asarray(radius, np.float64)) for radius in radii]
  if metric == 'cosine':
    queries, references = unit(queries), unit(references)
    limits = [np.sqrt(2 * np.maximum(limit, 0)) for limit in limits]
  is_small = _work(queries, references) <= small
  make = _direct_comparison if is_small else _device_comparison
  rows = min(len(queries), max(1, _BLOCK // len(references)))
  compare = make(queries, references, rows)
  for start in range(0, len(queries), rows):
    block = [r[start : start + rows] if len(r) > 1 else r for r in limits]
    masks = []
    for limit, code in zip(block, compare(start, block), strict=True):
      mask = code == _INSIDE
      row, column = np.nonzero(code == _DOUBTFUL)
      distance = _pair_distances(queries, start + row, references, column)
      mask[row, column] = (
        distance < np.broadcast_to(limit, mask.shape)[row, column]
      )
      masks.append(mask)
    yield start, masks


def _work(queries: Matrix, references: Matrix) -> int:
  return len(queries) * len(references) * (queries.shape[1] + 8)


def unit(points: Matrix) -> Matrix:
  """Rows [n, d], none of them zero, divided by their lengths, however long."""
  points = points / np.abs(points).max(axis=1, keepdims=True)
  return points / np.linalg.norm(points, axis=1, keepdims=True)


def _direct_neighbors(queries, references, k, exclude_self) -> np.ndarray:
  """Indices [q, k] from all pairs, a block of queries at a time."""
  rows = max(1, _BLOCK // len(references))
  index = np.empty((len(queries), k), np.int64)
  for start in range(0, len(queries), rows):
    distance = cdist(queries[start : start + rows], references)
    if exclude_self:
      own = np.arange(len(distance))
      distance[own, start + own] = np.inf
    index[start : start + rows] = _smallest(distance, k)
  return index


def _smallest(distance: np.ndarray, k: int) -> np.ndarray:
  """Columns of the k smallest of each row in order; ties to the lower one."""
  if k <= 8:
    index = np.empty((len(distance), k), np.int64)
    for column in range(k):
      index[:, column] = distance.argmin(axis=1)
      distance[np.arange(len(distance)), index[:, column]] = np.inf
    return index
  limit = np.partition(distance, k - 1, axis=1)[:, k - 1 : k]
  is_candidate = distance <= limit
  index = np.empty((len(distance), k), np.int64)
  # A row has more than k candidates if several tie for the last place.
  for row, candidates in enumerate(is_candidate):
    columns = np.flatnonzero(candidates)
    order = np.argsort(distance[row, columns], kind='stable')[:k]
    index[row] = columns[order]
  return index


def _device_neighbors(queries, references, k, exclude_self) -> np.ndarray:
  """Indices [q, k] found in float32."""
  x, y, _ = _to_float32(queries, references)
  if not np.isfinite(x).all():
    return _direct_neighbors(queries, references, k, exclude_self)
  near = nearest_neighbors(x, y, k=k, exclude_self=exclude_self)
  return np.asarray(near.index).astype(np.int64)


def _column_distances(queries, references, index) -> np.ndarray:
  row = np.arange(len(queries))
  columns = [_pair_distances(queries, row, references, c) for c in index.T]
  return np.stack(columns, axis=1)


def _pair_distances(
  queries: Matrix,
  row: Int[np.ndarray, ' p'],
  references: Matrix,
  column: Int[np.ndarray, ' p'],
) -> Float[np.ndarray, ' p']:
  """|x − y| of p pairs of a query and a reference, by direct differences.

  All distances that leave this module come from here, so that equal points
  have equal distances, to the last bit, in problems of any size.
  """
  distance = np.empty(len(row))
  pairs = max(1, _PAIRS_BLOCK // queries.shape[1])
  for start in range(0, len(row), pairs):
    part = slice(start, start + pairs)
    difference = queries[row[part]] - references[column[part]]
    distance[part] = np.sqrt(np.square(difference).sum(axis=1))
  return distance


def _to_float32(
  queries: Matrix, references: Matrix
) -> tuple[Float[np.ndarray, '_ _'], Float[np.ndarray, '_ _'], float]:
  """Float32 copies, centred and scaled, and the scale.

  Centring saves what a large common offset would cost. The centre is rounded
  to 1/256 of the spread, and the scale to a power of two, so that pixels and
  integers survive unchanged.
  """
  spread = np.ptp(references, axis=0).max(initial=0)
  centre, scale = references[0], 1.0
  if spread > 0:
    scale = 2.0 ** -np.frexp(spread)[1]
    centre = np.round(references.mean(axis=0) * (256 * scale)) / (256 * scale)
  convert = lambda points: ((points - centre) * scale).astype(np.float32)
  # A query may lie too far out for float32: it becomes inf.
  with np.errstate(over='ignore'):
    return convert(queries), convert(references), float(scale)


_OUTSIDE, _INSIDE, _DOUBTFUL = 0, 1, 2


def _direct_comparison(
  queries: Matrix, references: Matrix, rows: int
) -> Compare:
  """Codes the pairs of a block of queries, doubtful at the last bits."""

  def compare(start: int, radii: list[np.ndarray]) -> list[np.ndarray]:
    distance = cdist(queries[start : start + rows], references)
    codes = []
    for radius in radii:
      gap, doubt = distance - radius, 1e-12 * np.abs(radius)
      code = np.where(gap < -doubt, _INSIDE, _DOUBTFUL)
      codes.append(np.where(gap > doubt, _OUTSIDE, code))
    return codes

  return compare


def _device_comparison(
  queries: Matrix, references: Matrix, rows: int
) -> Compare:
  """The same from the matmul form, with more doubtful pairs."""
  x, y, scale = _to_float32(queries, references)
  y = jnp.asarray(y)
  fill = lambda a: np.pad(a, ((0, rows - len(a)), (0, 0)))

  def compare(start: int, radii: list[np.ndarray]) -> list[np.ndarray]:
    block = x[start : start + rows]
    scaled = [np.maximum(radius, 0) * scale for radius in radii]
    scaled = [
      jnp.asarray(fill(r) if len(r) > 1 else r, jnp.float32) for r in scaled
    ]
    codes = _compare(jnp.asarray(fill(block)), y, scaled)
    return [np.asarray(code)[: len(block)] for code in codes]

  return compare


@jax.jit
def _compare(x, y, radii):
  """The code of each pair; the error bound is that of `neighbors`."""
  eps = float(np.finfo(np.float32).eps)
  with jax.default_matmul_precision('float32'):
    dot = jnp.dot(x, y.T)
  norms = jnp.square(x).sum(axis=1)[:, None] + jnp.square(y).sum(axis=1)[None]
  codes = []
  for squared_radius in map(jnp.square, radii):
    error = (x.shape[1] + 16) * eps * norms + 8 * eps * squared_radius
    gap = norms - 2 * dot - squared_radius
    code = jnp.where(gap < -error, _INSIDE, _DOUBTFUL)
    codes.append(jnp.where(gap >= error, _OUTSIDE, code).astype(jnp.int8))
  return codes
