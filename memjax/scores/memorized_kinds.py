"""Which kinds of training points samples are memorized from, beside the null.

A sample is memorized where it is r times nearer to train than to test, and
counts for the kind of its nearest training point. By chance that happens to
31 % of the samples of a perfect generator in the plane (r = 1.5). The null is
the same count with train and test swapped: if the test set is another draw of
the same process, marked with the same kinds, then without memorization both
counts have the same distribution for every kind, whatever the generator does.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from memjax import validate
from memjax.neighbors_tree import few_dimensional_neighbors
from memjax.scores.relabelling import is_nearer
from memjax.types import Matrix

__all__ = ['KindCounts', 'Reference', 'count_memorized']


class Reference(NamedTuple):
  """Points that samples are compared with, and the kinds they belong to.

  Attributes:
    points: float64 [n, d].
    member: bool [n, k], kinds may overlap; for instance all, and outliers.
    group: [n], copies of one point share a number ≥ 0 and count once.
  """

  points: Float[np.ndarray, 'n d']
  member: Bool[np.ndarray, 'n k']
  group: Int[np.ndarray, ' n']


class KindCounts(NamedTuple):
  """Counts for k kinds and r ratios; `excess` is what memorization adds.

  Attributes:
    memorized: [r, k], samples memorized from points of a kind.
    swapped: [r, k], the same with train and test swapped: its null.
    near_train: [k], samples whose nearest training point is of the kind.
    near_test: [k], samples whose nearest test point is of the kind.
    copied: [r, k], points of the kind (copies once) that a sample is memorized
      from.
    swapped_copied: [r, k], its null.
  """

  memorized: Int[np.ndarray, 'r k']
  swapped: Int[np.ndarray, 'r k']
  near_train: Int[np.ndarray, ' k']
  near_test: Int[np.ndarray, ' k']
  copied: Int[np.ndarray, 'r k']
  swapped_copied: Int[np.ndarray, 'r k']


def count_memorized(
  train: Reference,
  test: Reference,
  generated: Matrix,
  *,
  ratios: tuple[float, ...] = (1.5, 2.0),
) -> KindCounts:
  """Counts the samples that are memorized from each kind of training point.

    g is memorized  iff  d_test(g) ≥ r · d_train(g)  and  d_test(g) > 0

  with r one of `ratios` and true distances; a ratio of squared distances of
  1.5 is r = √1.5. SIGN: memorized > swapped = memorization.

  Args:
    train: what the generator was trained on.
    test: held out; a kind without test points has no null: its `swapped` is 0.
    generated: float64 [g, d].
    ratios: each r > 1.

  Returns:
    KindCounts.

  Raises:
    ValueError: a ratio ≤ 1.

  Example:
    >>> rng = np.random.default_rng(0)
    >>> sets = rng.normal(size=(2, 100, 2))
    >>> everything = np.ones((100, 1), bool)
    >>> train, test = (Reference(x, everything, np.arange(100)) for x in sets)
    >>> counts = count_memorized(train, test, sets[0] + 1e-6)
    >>> counts.memorized.ravel(), counts.swapped.ravel()
    (array([100, 100]), array([0, 0]))

  Reference:
    Outliers Memorized Last (2023), sections 3 and 4; the null is memjax's.
  """
  limits = np.array([_ratio(r) for r in ratios])
  near_train = few_dimensional_neighbors(generated, train.points)
  near_test = few_dimensional_neighbors(generated, test.points)
  d_train, d_test = near_train.distance, near_test.distance
  of_train = train.member[near_train.index[:, 0]]
  of_test = test.member[near_test.index[:, 0]]
  flagged = is_nearer(d_train, d_test, limits[None])
  swapped = is_nearer(d_test, d_train, limits[None])
  return KindCounts(
    memorized=flagged.T.astype(np.int64) @ of_train,
    swapped=swapped.T.astype(np.int64) @ of_test,
    near_train=of_train.sum(axis=0),
    near_test=of_test.sum(axis=0),
    copied=_copied(train, near_train.index[:, 0], flagged),
    swapped_copied=_copied(test, near_test.index[:, 0], swapped),
  )


def _ratio(ratio: float) -> float:
  return validate.real('ratio', ratio, 1.0, np.inf, strict=True)


def _copied(reference: Reference, index, flagged) -> np.ndarray:
  """[r, k], groups of each kind that flagged samples are nearest to."""
  counts = []
  for column in flagged.T:
    rows = index[column]
    rows = rows[np.unique(reference.group[rows], return_index=True)[1]]
    counts.append(reference.member[rows].sum(axis=0))
  return np.array(counts).reshape(flagged.shape[1], -1)
