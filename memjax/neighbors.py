"""Exact nearest neighbours, right for near-duplicates too.

|x|² + |y|² − 2xy is fast, and wrong where it matters: 20 % off for a copy with
a little noise in 3,072 dimensions. Here it only nominates candidates. Its
rounding error has a bound; whatever the bound cannot rule out is measured by
direct differences, and only those are reported.
"""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Float, Int

from memjax import validate
from memjax.devices import lay_out, over_devices
from memjax.types import Points

__all__ = ['METRICS', 'Neighbors', 'nearest_neighbors']

METRICS = ('euclidean', 'cosine')

# Spacing of float32 at 1: twice the unit roundoff.
_EPS = float(np.finfo(np.float32).eps)

# Fewer queries than this are not worth another device.
_QUERIES_PER_DEVICE = 256


class Neighbors(NamedTuple):
  """The k nearest references of each query, nearest first.

  Attributes:
    distance: [q, k], Euclidean (not squared) or 1 − cos.
    index: [q, k], row in the references; ties go to the lower index.
  """

  distance: Float[np.ndarray | jax.Array, 'q k']
  index: Int[np.ndarray | jax.Array, 'q k']


def nearest_neighbors(
  queries: Points,
  references: Points,
  *,
  metric: str = 'euclidean',
  k: int = 1,
  exclude_self: bool = False,
) -> Neighbors:
  """Finds the k nearest references of every query, exactly, on the device.

    d(x, y) = |x − y|               for metric 'euclidean'
    d(x, y) = ½ |x/|x| − y/|y||²    for metric 'cosine', which is 1 − cos

  with x a row of `queries` and y a row of `references`. A pure JAX function:
  jit, vmap and shard_map it. Outside of these, with arrays that nobody put on a
  device, it spreads many queries over all local devices, which changes rounding
  at most. Memory grows with the inputs, not with their product. It checks
  shapes and static arguments alone: NaN or inf in a query makes its distances
  NaN, in a reference all distances.

  'Exact' is meant as: no other reference is nearer in float32 direct
  differences, whose own relative error is of the order 1e-6. Queries for which
  the matmul's rounding leaves a doubt are compared with every reference
  directly, about ten times slower; that happens where clusters lie much
  farther apart than they are wide, or where very many references tie.

  Not differentiable: inside a loss, pass `jax.lax.stop_gradient(queries)`.

  Args:
    queries: [q, d], converted to float32.
    references: [r, d], converted to float32.
    metric: 'euclidean' | 'cosine'. The cosine distance of a zero vector is
      undefined; here it is 1 to everything, another zero vector included.
    k: number of neighbours, from 1 to r (r − 1 with `exclude_self`).
    exclude_self: query i is reference i and no neighbour of itself; q = r.

  Returns:
    Neighbors(distance, index), each [q, k], nearest first. Ties go to the
    lower index.

  Raises:
    ValueError: unequal numbers of features, k out of range, an unknown metric,
      exclude_self with q ≠ r.

  Example:
    >>> grid = np.arange(4.0)[:, None]
    >>> near = nearest_neighbors(np.array([[1.25]]), grid, k=2)
    >>> near.distance.tolist(), near.index.tolist()
    ([[0.25, 0.75]], [[1, 2]])
  """
  validate.one_of('metric', metric, METRICS)
  num_queries, num_references = len(queries), len(references)
  if queries.shape[1] != references.shape[1]:
    raise ValueError(
      f'queries has {queries.shape[1]} features and references '
      f'{references.shape[1]}: expected the same number.'
    )
  if exclude_self and num_queries != num_references:
    raise ValueError(
      f'exclude_self=True with {num_queries} queries and {num_references} '
      'references: expected the same points in both.'
    )
  k = validate.integer('k', k, 1, num_references - bool(exclude_self))
  layout = lay_out(num_queries, _devices(queries, references))
  plan = make_plan(
    layout.rows_per_device, (num_references, references.shape[1]), k
  )
  if len(layout.devices) < 2:
    return _search(queries, references, metric, bool(exclude_self), plan)
  queries = layout.pad(np.asarray(queries))
  near = _search(
    queries, references, metric, bool(exclude_self), plan, layout.devices
  )
  return Neighbors(*layout.gather(tuple(near)))


def _devices(*arrays) -> tuple[jax.Device, ...]:
  """All local devices, or none where the caller has chosen, or the work is
  little: then JAX's own rules say where it is done.
  """
  is_placed = any(
    isinstance(array, jax.core.Tracer) or getattr(array, 'committed', False)
    for array in arrays
  )
  devices = jax.local_devices()
  num_used = min(len(devices), len(arrays[0]) // _QUERIES_PER_DEVICE)
  return () if is_placed or num_used < 2 else tuple(devices[:num_used])


class Plan(NamedTuple):
  """Static sizes of one search; they change its cost, not its result.

  References are cut into blocks, and a block into `lanes` groups of every
  `lanes`-th row, so that the minimum of a group is an elementwise minimum of
  contiguous slices.
  """

  k: int
  num_kept: int  # groups whose members are measured directly
  group: int  # references in a group
  lanes: int  # groups in a block
  num_blocks: int
  query_block: int
  refine_block: int  # queries refined at a time
  fallback_block: int  # queries compared with all references at a time


def make_plan(
  num_queries: int,
  references_shape: tuple[int, int],
  k: int,
  *,
  slack: int = 3,
  group: int | None = None,
  query_block: int = 1024,
  reference_block: int = 4096,
  fallback_block: int = 8,
) -> Plan:
  """Chooses block sizes; `slack` more groups than neighbours are kept."""
  num_references, num_features = references_shape
  num_features = max(1, num_features)
  divide = lambda number, size: max(1, -(-number // size))
  if group is None:
    # Large groups make the selection cheap, small ones the refinement; their
    # sum is least at about the square root of this.
    ratio = 4 * num_references / ((k + slack) * num_features)
    group = 2 ** round(min(5, max(0, math.log2(ratio) / 2)))
  num_blocks = divide(num_references, reference_block)
  lanes = divide(num_references, num_blocks * group)
  num_kept = min(k + slack, num_blocks * lanes)
  return Plan(
    k=k,
    num_kept=num_kept,
    group=group,
    lanes=lanes,
    num_blocks=num_blocks,
    query_block=divide(num_queries, divide(num_queries, query_block)),
    refine_block=max(1, 2**21 // (num_kept * group * num_features)),
    fallback_block=fallback_block,
  )


@functools.partial(jax.jit, static_argnums=(2, 3, 4, 5))
def _search(
  queries, references, metric, exclude_self, plan, devices=()
) -> Neighbors:
  """The search for one plan; see `nearest_neighbors`."""
  queries, references, scale = _prepare(queries, references, metric)
  centre = _centre(references)
  blocks = _reference_blocks(references - centre, plan)
  # The reference that a query may not have: itself, or none.
  self_index = jnp.where(exclude_self, jnp.arange(len(queries)), -1)

  def search_rows(rows, references, centre, blocks):
    def search_block(rows):
      x, own = rows
      bound, candidates = _nominate(x - centre, own, blocks, exclude_self, plan)
      refine = lambda rows: _refine(rows, references, plan.k)
      near = _map_blocks(refine, (x, own, candidates), plan.refine_block)
      # No reference that was left out is nearer than `bound`, and its computed
      # direct distance could be smaller by the error of that sum at most. A
      # strict comparison leaves exact ties, hence their order, to the fallback.
      error = (x.shape[1] + 4) * _EPS
      is_proven = near.distance[:, -1] < bound * (1 - error)
      return _compare_with_all(x, own, near, is_proven, references, plan)

    return _map_blocks(search_block, rows, plan.query_block)

  search = over_devices(search_rows, (0, None, None, None), devices)
  squared, index = search((queries, self_index), references, centre, blocks)
  # NaN and inf take part in no comparison: they must not go unnoticed.
  squared += 0 * (centre.sum() + queries.sum(axis=1, keepdims=True))
  if metric == 'cosine':
    return Neighbors(squared / 2, index)
  return Neighbors(jnp.sqrt(squared) / scale, index)


def _prepare(queries, references, metric):
  """Float32 points whose Euclidean distance decides, and their scale.

  A power of two puts the largest entry near 2^48, so that squares neither
  overflow nor, down to 1e-34 of it, underflow; scaling by it rounds nothing.
  """
  queries = jnp.asarray(queries, jnp.float32)
  references = jnp.asarray(references, jnp.float32)
  if metric == 'cosine':
    return _unit(queries, side=0), _unit(references, side=1), 1.0
  largest = lambda points: jnp.abs(points).max(initial=0)
  peak = jnp.maximum(largest(queries), largest(references))
  exponent = jnp.clip(48 - jnp.frexp(peak)[1], -126, 126)
  scale = jnp.ldexp(jnp.float32(1), exponent)
  return queries * scale, references * scale, scale


def _unit(x, side: int):
  """Rows of length one; a zero row becomes one of two unit vectors apart.

  Zero queries and zero references point into one extra dimension each, which
  makes them orthogonal to everything: distance 1.
  """
  peak = jnp.abs(x).max(axis=1, keepdims=True, initial=0)
  x = x / jnp.where(peak > 0, peak, 1)
  norm = jnp.sqrt(jnp.square(x).sum(axis=1, keepdims=True))
  x = x / jnp.where(norm > 0, norm, 1)
  is_zero = (peak == 0).astype(x.dtype)
  extra = (is_zero, jnp.zeros_like(is_zero))
  return jnp.concatenate([x, extra[side], extra[1 - side]], axis=1)


def _centre(references):
  """The mean, roughly; any point will do, if it is the same for all.

  Hence the rounding to 16 bits: XLA fuses the mean's last product into some
  subtractions, unrounded, which gave queries and references two centres.
  """
  mean = references.mean(axis=0, keepdims=True)
  return lax.reduce_precision(mean, exponent_bits=8, mantissa_bits=16)


def _reference_blocks(centred, plan: Plan):
  """Points, shrunken squared norms (inf for padding) and start of blocks."""
  rows = plan.group * plan.lanes
  padding = plan.num_blocks * rows - len(centred)
  points = jnp.pad(centred, ((0, padding), (0, 0)))
  norm = _shrink(centred.shape[1]) * jnp.square(centred).sum(axis=1)
  norm = jnp.pad(norm, (0, padding), constant_values=jnp.inf)
  split = lambda array, *shape: array.reshape(plan.num_blocks, rows, *shape)
  return split(points, -1), split(norm), rows * jnp.arange(plan.num_blocks)


def _shrink(num_features: int) -> float:
  """The factor on |x|² + |y|² that makes the matmul form a lower bound.

  A dot product of d terms, summed in any order, is wrong by at most d·u·|x||y|
  ≤ ½ d·u·(|x|² + |y|²), with u = ½ eps (Higham 2002, section 3.1), and so are
  both squared norms: together d·eps·(|x|² + |y|²). Centring rounds x and y, by
  2·eps·(|x|² + |y|²) in all, and so did a conversion from float64; the
  additions add a few eps. A matmul in six bfloat16 passes (TPU) is off by less
  than another 4·eps.
  """
  return 1 - (num_features + 16) * _EPS


def _nominate(x, own, blocks, exclude_self: bool, plan: Plan):
  """A lower bound [q] on |x − y|² of all references but candidates [q, c]."""

  def group_minima(block):
    points, squared_norm, start = block
    with jax.default_matmul_precision('float32'):
      dot = jnp.dot(x, points.T)
    minima = None
    for first in range(0, plan.group * plan.lanes, plan.lanes):
      part = slice(first, first + plan.lanes)
      lower = squared_norm[None, part] - 2 * dot[:, part]
      if exclude_self:
        index = start + first + jnp.arange(plan.lanes)
        lower = jnp.where(index[None] == own[:, None], jnp.inf, lower)
      minima = lower if minima is None else jnp.minimum(minima, lower)
    return minima

  minima = lax.map(group_minima, blocks).transpose(1, 0, 2)
  minima = minima.reshape(len(x), plan.num_blocks * plan.lanes)
  minima += _shrink(x.shape[1]) * jnp.square(x).sum(axis=1)[:, None]
  # Use the outputs of top_k whole: XLA on CPU makes a sliced one a full sort,
  # ten times slower, and crashes on one behind a barrier (jax 0.10.2).
  lowest, group = lax.top_k(-minima, plan.num_kept)
  bound = -lowest.min(axis=1)  # the highest that was kept
  if plan.num_kept == minima.shape[1]:
    bound = jnp.full_like(bound, jnp.inf)
  block, lane = jnp.divmod(group, plan.lanes)
  first = block * plan.group * plan.lanes + lane
  index = first[..., None] + plan.lanes * jnp.arange(plan.group)[None, None]
  return bound, index.reshape(len(x), plan.num_kept * plan.group)


def _refine(rows, references, k: int) -> Neighbors:
  """The k nearest among the candidates, by direct differences, squared.

  Every reported distance is this sum, however its reference was found.
  """
  x, own, candidates = rows
  num_references = len(references)
  clipped = jnp.minimum(candidates, num_references - 1)
  y = references.at[clipped].get(mode='promise_in_bounds')
  squared = jnp.square(x[:, None] - y).sum(axis=2)
  is_none = (candidates >= num_references) | (candidates == own[:, None])
  return _smallest(jnp.where(is_none, jnp.inf, squared), candidates, k)


def _smallest(squared, index, k: int) -> Neighbors:
  """The k smallest of each row in order; ties to the lower index."""

  def take(squared, _):
    least = squared.min(axis=1, keepdims=True)
    chosen = jnp.where(squared == least, index, np.iinfo(np.int32).max)
    chosen = chosen.min(axis=1, keepdims=True)
    rest = jnp.where(index == chosen, jnp.inf, squared)
    return rest, (least[:, 0], chosen[:, 0])

  _, (least, chosen) = lax.scan(take, squared, length=k)
  return Neighbors(least.T, chosen.T)


def _compare_with_all(x, own, near, is_proven, references, plan) -> Neighbors:
  """Replaces the unproven rows by a search through all references."""

  def replace(state):
    is_proven, near = state
    # The padding of `rows` is row 0, whose result is right either way.
    rows = jnp.nonzero(~is_proven, size=plan.fallback_block, fill_value=0)[0]
    squared = jnp.square(x[rows][:, None] - references[None]).sum(axis=2)
    is_self = jnp.arange(len(references))[None] == own[rows][:, None]
    _, index = lax.top_k(-jnp.where(is_self, jnp.inf, squared), plan.k)
    found = _refine((x[rows], own[rows], index), references, plan.k)
    return is_proven.at[rows].set(True), Neighbors(
      near.distance.at[rows].set(found.distance),
      near.index.at[rows].set(found.index),
    )

  is_unfinished = lambda state: ~state[0].all()
  return lax.while_loop(is_unfinished, replace, (is_proven, near))[1]


def _map_blocks(function, rows, size: int):
  """Applies `function` to blocks of rows, one after another, and joins them."""
  num_rows = len(jax.tree.leaves(rows)[0])
  size = max(1, min(size, num_rows))
  num_blocks = max(1, -(-num_rows // size))

  def split(array):
    padding = [(0, num_blocks * size - num_rows)] + [(0, 0)] * (array.ndim - 1)
    return jnp.pad(array, padding).reshape(num_blocks, size, *array.shape[1:])

  blocks = lax.map(function, jax.tree.map(split, rows))
  return jax.tree.map(
    lambda a: a.reshape(num_blocks * size, *a.shape[2:])[:num_rows], blocks
  )
