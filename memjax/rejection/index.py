"""How near generated samples are to the nearest embedded training item."""

import dataclasses
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int, Shaped

from memjax.distances import sample_sets, unit

__all__ = ['Nearest', 'TrainingIndex', 'host_distance', 'make_index', 'nearest']

Points = Shaped[np.ndarray | jax.Array, '...']

# Vectors of length one, each entry rounded to float32, are this far apart in
# 1 − cos when they were the same: ½ (4 · 1.2e-7)².
_SAME = 1e-13


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainingIndex:
  """Embedded training items, prepared for `nearest`; a pytree of arrays.

  Hand it to a jitted function as an argument: closed over, 50,000 × 2,048
  numbers would become a constant of the program.

  Attributes:
    points: float32 [n, d]; for the cosine of length one, else less `centre`.
    half_squared_norm: [n], ½|y|² of each.
    centre: [d], the mean of the items, or 0 for the cosine. Far from the origin
      products would lose what tells items apart.
    metric: 'cosine' | 'euclidean'.
  """

  points: Float[Array, 'n d']
  half_squared_norm: Float[Array, ' n']
  centre: Float[Array, ' d']
  metric: str = dataclasses.field(metadata={'static': True})


class Nearest(NamedTuple):
  """The nearest training item of each query.

  Attributes:
    distance: [b], 1 − cos or Euclidean.
    index: int [b], its row in the training set.
  """

  distance: Float[Array, ' b']
  index: Int[Array, ' b']


def make_index(train: Points, *, metric: str = 'cosine') -> TrainingIndex:
  """Prepares embedded training items for the search.

  Args:
    train: [n, …] embeddings of ALL training items, with the embedding that the
      generated samples will get.
    metric: 'cosine' (1 − cos) | 'euclidean'.

  Returns:
    A TrainingIndex of some n · (d + 1) float32 numbers.

  Raises:
    ValueError: NaN, zero vectors under 'cosine', an unknown metric.

  Example:
    >>> make_index(np.array([[3.0, 4.0]])).points.tolist()
    [[0.6000000238418579, 0.800000011920929]]
  """
  (points,) = sample_sets(metric, train=train)
  centre = np.zeros(points.shape[1])
  if metric == 'cosine':
    points = unit(points)
  else:
    # As float32 has it, so that queries lose the same.
    centre = points.mean(axis=0).astype(np.float32).astype(np.float64)
    points = points - centre
  half = 0.5 * np.square(points).sum(axis=1)
  return TrainingIndex(
    jnp.asarray(points, jnp.float32),
    jnp.asarray(half, jnp.float32),
    jnp.asarray(centre, jnp.float32),
    metric,
  )


def nearest(index: TrainingIndex, queries: Float[Array, 'b ...']) -> Nearest:
  """The nearest training item of each query: one matrix product and a maximum.

  The product nominates ŷ = argmax_y x·y − ½|y|², and the distance to ŷ is then
  measured by direct differences, ½|x/|x| − ŷ|² or |x − ŷ|, so that a near-copy
  has the right distance and an exact one has 0. (Under the cosine, directions
  that differ by less than float32 can tell, 1e-13, count as the same.)

  ERROR: the distance is never below the true one, but for the 1e-6 of itself
  that a float32 sum loses. Rounding of the product may nominate a training item
  that is farther than the nearest one, for the cosine by at most
  (2d + 32)·1.2e-7 with d features (for the Euclidean, in its square, by twice
  that times the largest squared distance from the items' mean). So
  `distance > threshold` accepts wrongly at most samples whose true distance is
  that little below the threshold, and rejects none wrongly.
  `memjax.nearest_neighbors` has no such margin and costs some five times more.

  A pure JAX function without gradient: jit and vmap it.

  Args:
    index: of `make_index`.
    queries: [b, …], embedded as the training items were. A zero vector has the
      cosine distance 1 to everything; one that is not finite has the distance
      NaN, which no threshold accepts.

  Returns:
    Nearest(distance, index), each [b].

  Example:
    >>> index = make_index(np.eye(2))
    >>> found = nearest(index, jnp.array([[0.0, 2.0], [1.0, 1.0]]))
    >>> found.distance.round(4).tolist()
    [0.0, 0.2928999960422516]
  """
  shape = len(queries), math.prod(queries.shape[1:])
  x = lax.stop_gradient(queries).reshape(shape).astype(jnp.float32)
  if x.shape[1] != index.points.shape[1]:
    raise ValueError(
      f'queries has {x.shape[1]} features and index {index.points.shape[1]}: '
      'expected the same number.'
    )
  is_cosine = index.metric == 'cosine'
  is_zero, is_finite = ~x.any(axis=1), jnp.isfinite(x).all(axis=1)
  if is_cosine:
    # The largest entry first: squares neither overflow nor underflow.
    x = x / jnp.where(is_zero, 1, jnp.abs(x).max(axis=1))[:, None]
    x = x / jnp.where(is_zero, 1, jnp.linalg.norm(x, axis=1))[:, None]
  else:
    x = x - index.centre[None]
  with jax.default_matmul_precision('float32'):
    score = x @ index.points.T
  if not is_cosine:
    score = score - index.half_squared_norm[None]
  found = jnp.argmax(score, axis=1)
  squared = jnp.square(x - index.points[found]).sum(axis=1)
  if is_cosine:
    distance = jnp.where(squared < 2 * _SAME, 0.0, squared / 2)
    distance = jnp.where(is_zero, 1.0, distance)
  else:
    distance = jnp.sqrt(squared)
  return Nearest(jnp.where(is_finite, distance, jnp.nan), found)


def host_distance(
  search: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]],
) -> Callable[[Float[Array, 'b ...']], Float[Array, ' b']]:
  """A search on the host as a `distance` inside a jitted step.

  For training sets too large to be compared with in every step: give it
  `memjax.neighbors_approximate.approximate_search(train)`, by faiss. An
  approximate search may miss the nearest item, so that some near-copies are
  accepted; it never rejects wrongly.

  Args:
    search: features [b, d] -> (distance [b], index [b]), NumPy.

  Returns:
    features [b, …] -> distance [b], without gradient. Where features are not
    finite it is NaN, which no threshold accepts.

  Example:
    >>> origin = lambda x: (np.linalg.norm(x, axis=1), np.zeros(len(x), int))
    >>> jax.jit(host_distance(origin))(jnp.array([[3.0, 4.0]])).tolist()
    [5.0]
  """

  def on_host(features) -> np.ndarray:
    features = np.asarray(features)
    distance = np.full(len(features), np.nan, np.float32)
    is_finite = np.isfinite(features).all(axis=1)
    if is_finite.any():
      distance[is_finite] = search(features[is_finite])[0]
    return distance

  def distance(features):
    features = lax.stop_gradient(features).reshape(len(features), -1)
    shape = jax.ShapeDtypeStruct((len(features),), jnp.float32)
    return jax.pure_callback(on_host, shape, features, vmap_method='sequential')

  return distance
