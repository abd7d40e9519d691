"""Groups of near-duplicates, so that folds need not cut them apart."""

import jax
import numpy as np
from jaxtyping import Float, Int, Shaped
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from memjax import validate
from memjax.distances import exact_neighbors, sample_sets, within_radius

__all__ = ['duplicate_threshold', 'near_duplicates']

Samples = Shaped[np.ndarray | jax.Array, '...'] | list


def near_duplicates(
  x: Samples,
  *,
  threshold: float | None = None,
  metric: str = 'euclidean',
) -> Int[np.ndarray, ' n']:
  """Groups the items that are connected by pairs at most `threshold` apart.

    i ~ j  if  d(x_i, x_j) ≤ t,   with t = `threshold`,

  and a group is a connected component: all such pairs are found, not only the
  nearest of each item. Items of one group should share a fold
  (`make_folds(..., groups=groups)`): a copy left in training hides that the
  held-out item was memorized.

  Args:
    x: [n, …], one item a row; images may keep their axes.
    threshold: t, in units of the metric. 0 groups exact copies. None:
      `duplicate_threshold(x)`. A chain of near-duplicates is one group, so a
      large threshold joins everything.
    metric: 'euclidean' | 'cosine' (1 − cos).

  Returns:
    groups, int [n], numbered by first appearance: 0, 1, … An item without
    near-duplicates has a number of its own.

  Raises:
    ValueError: NaN or ±inf, a negative threshold, a zero vector under
      'cosine'.

  Example:
    >>> x = np.random.default_rng(0).normal(size=(20, 8))
    >>> near_duplicates(np.concatenate([x, x[1:3] + 1e-4]))[-4:]
    array([18, 19,  1,  2])
  """
  (points,) = sample_sets(metric, x=x)
  if threshold is None:
    threshold = duplicate_threshold(points, metric=metric)
  threshold = validate.real('threshold', threshold, 0.0)
  # The next larger number turns the strict comparison into ≤.
  radius = np.nextafter(threshold, np.inf)
  groups = np.arange(len(points))
  for start, inside in within_radius(points, points, radius, metric=metric):
    row, column = np.nonzero(inside)
    groups = _join(groups, start + row, column)
  first = np.unique(groups, return_index=True, return_inverse=True)
  order = np.argsort(np.argsort(first[1]))
  return order[first[2]].astype(np.int64)


def duplicate_threshold(
  x: Samples,
  *,
  metric: str = 'euclidean',
  expected_pairs: float = 0.05,
) -> float:
  """The distance below which `x` should hold no pair by chance.

  With r₁ ≤ r₂ the leave-one-out distances of an item to its two nearest
  others and med the median over items, locally uniform points of intrinsic
  dimension D have P(r₁ < c·med r₁) ≈ ln 2 · c^D for small c. The rule is

    t = c · med r₁,   c = min(¼, (α / (n ln 2))^{1/D}),
    D = ln 2 / ln med(r₂/r₁),

  with α = `expected_pairs` the number of items expected to lie that close to
  another by chance, where density is typical. Medians make it blind to the
  near-duplicates themselves as long as less than half of the items have one;
  if half have exact copies, t = 0 and only exact copies count.

  Args:
    x: [n, …], at least 3 items.
    metric: 'euclidean' | 'cosine'.
    expected_pairs: α > 0.

  Returns:
    t, in units of the metric.

  Raises:
    ValueError: fewer than 3 items; as for `near_duplicates`.

  Example:
    >>> x = np.random.default_rng(0).normal(size=(500, 2))
    >>> 0 < duplicate_threshold(x) < 0.002
    True

  Reference:
    The estimate of D: Facco et al. (2017), Estimating the intrinsic dimension
    of datasets by a minimal neighborhood information.
  """
  (points,) = sample_sets(metric, x=x)
  expected_pairs = validate.real(
    'expected_pairs', expected_pairs, 0.0, strict=True
  )
  if len(points) < 3:
    raise ValueError(f'x has {len(points)} items: expected 3 or more.')
  near = exact_neighbors(
    points, points, metric=metric, k=2, exclude_self=True
  ).distance
  chance = expected_pairs / (len(points) * np.log(2))
  exponent = _inverse_dimension(near)
  return float(min(0.25, chance**exponent) * np.median(near[:, 0]))


def _inverse_dimension(near: Float[np.ndarray, 'n 2']) -> float:
  """1/D from the ratios of the second to the first distance."""
  near = near[near[:, 0] > 0]
  if not len(near):
    return 1.0
  return float(np.log2(np.median(near[:, 1] / near[:, 0])))


def _join(
  groups: Int[np.ndarray, ' n'],
  row: Int[np.ndarray, ' p'],
  column: Int[np.ndarray, ' p'],
) -> Int[np.ndarray, ' n']:
  """Joins the groups that the pairs connect; any numbering."""
  size = len(groups)
  edges = (np.ones(len(row), bool), (groups[row], groups[column]))
  joined = connected_components(coo_array(edges, shape=(size, size)))[1]
  return joined[groups]
