"""Exact nearest neighbours of points in few dimensions, by a k-d tree.

In the plane a tree takes milliseconds where comparing all pairs takes seconds;
beyond about ten dimensions it compares all pairs too, and slowly.
"""

import numpy as np
from scipy.spatial import KDTree

from memjax.distances import ExactNeighbors, exact_neighbors
from memjax.types import Matrix

__all__ = ['few_dimensional_neighbors']

_MAX_DIMENSIONS = 6


def few_dimensional_neighbors(
  queries: Matrix, references: Matrix
) -> ExactNeighbors:
  """Finds the nearest reference of each query, in float64.

  Gives what `exact_neighbors` gives, but for which of several references at
  the same distance is named. Above six dimensions it is that function.

  Args:
    queries: float64 [q, d], finite.
    references: float64 [r, d], finite.

  Returns:
    ExactNeighbors(distance, index), each [q, 1], Euclidean.

  Example:
    >>> points = np.arange(4.0)[:, None]
    >>> few_dimensional_neighbors(np.array([[2.2]]), points).index.item()
    2
  """
  if queries.shape[1] > _MAX_DIMENSIONS:
    return exact_neighbors(queries, references)
  distance, index = KDTree(references).query(queries)
  return ExactNeighbors(distance[:, None], index[:, None].astype(np.int64))
