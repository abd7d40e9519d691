"""Groups of near-duplicates, so that folds need not cut them apart."""

import numpy as np
import scipy.special
from jaxtyping import Float, Int
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from memjax import validate
from memjax.distances import exact_neighbors, sample_sets, within_radius
from memjax.types import Samples

__all__ = ['duplicate_threshold', 'near_duplicates']


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
  radius = float(np.nextafter(threshold, np.inf))
  groups = np.arange(len(points))
  pairs = within_radius(points, points, [radius], metric=metric)
  for start, (is_near,) in pairs:
    row, column = np.nonzero(is_near)
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

  With r_{k,i} the Euclidean leave-one-out distance of item i to its k-th
  nearest other, locally uniform points of intrinsic dimension D have about
  (k − 1)(t/r_{k,i})^D others within a small distance t of item i. The rule sets
  the sum over items to α = `expected_pairs`, with k = 10 and j = 5:

    t = (α / Σ_i (k − 1) r_{k,i}^{−D})^{1/D},  at most ¼ med_i r_{k,i},
    D = (ψ(k) − ψ(j)) / mean_i log(r_{k,i}/r_{j,i}),  ψ the digamma function.

  (For 'cosine' these are distances of the unit vectors, and the result is ½t².)
  Dense regions dominate the sum, so they raise no false alarm; the limit of ¼
  keeps 'near-duplicate' from meaning 'rather close' in high dimensions. Groups
  of up to 5 near-duplicates leave the rule unmoved. More than 10 exact copies
  of an item make t = 0: then only exact copies count, unless you pass a t.

  Args:
    x: [n, …], at least 3 items.
    metric: 'euclidean' | 'cosine'.
    expected_pairs: α > 0, how many items may lie so close to another by chance.

  Returns:
    t, in units of the metric.

  Raises:
    ValueError: fewer than 3 items; as for `near_duplicates`.

  Example:
    >>> x = np.random.default_rng(0).normal(size=(500, 2))
    >>> 0 < duplicate_threshold(x) < 0.002
    True

  Reference:
    The estimate of D from two neighbours: Facco et al. (2017), here with
    farther ones, which duplicates do not reach.
  """
  (points,) = sample_sets(metric, x=x)
  expected_pairs = validate.real(
    'expected_pairs', expected_pairs, 0.0, strict=True
  )
  if len(points) < 3:
    raise ValueError(f'x has {len(points)} items: expected 3 or more.')
  k = min(10, len(points) - 1)
  near = exact_neighbors(
    points, points, metric=metric, k=k, exclude_self=True
  ).distance
  if metric == 'cosine':
    near = np.sqrt(2 * near)
  threshold = _threshold(near[:, k // 2 - 1], near[:, -1], k, expected_pairs)
  return threshold**2 / 2 if metric == 'cosine' else threshold


def _threshold(
  nearer: Float[np.ndarray, ' n'],
  farther: Float[np.ndarray, ' n'],
  k: int,
  expected_pairs: float,
) -> float:
  """The rule, from the distances to the neighbours k // 2 and k."""
  if not farther.all():
    return 0.0
  # More than k // 2 exact copies say nothing about the dimension.
  ratio = farther[nearer > 0] / nearer[nearer > 0]
  growth = np.log(ratio).mean() if len(ratio) else 0.0
  digamma = scipy.special.digamma
  # The bound serves points at equal distances, such as the unit vectors.
  dimension = (digamma(k) - digamma(k // 2)) / max(growth, 1e-3)
  log_rate = scipy.special.logsumexp(
    np.log(max(1, k - 1)) - dimension * np.log(farther)
  )
  threshold = np.exp((np.log(expected_pairs) - log_rate) / dimension)
  return float(min(threshold, np.median(farther) / 4))


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
