"""What samples of points with injected kinds are compared with.

Of each repeat: its training points and a test set, the kinds marked in both,
and as many of each kind in both.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from memjax import validate
from memjax.data.synthetic import (
  DUPLICATE,
  INLIER,
  OUTLIER,
  Draw,
  LabelledPoints,
)
from memjax.data.synthetic import KINDS as INJECTED
from memjax.scores.memorized_kinds import (
  KindCounts,
  Reference,
  count_memorized,
)

__all__ = [
  'KINDS',
  'TEST_SETS',
  'MarkedSets',
  'count_repeats',
  'equal_rows',
  'equal_subset',
  'mark_kinds',
]

# The last is a part of the inliers that is as large as the smallest kind that
# was injected: kinds of one size have curves of one noise.
KINDS = ('all', *INJECTED, 'inlier_subset')
TEST_SETS = ('with_outliers', 'without_outliers')


class MarkedSets(NamedTuple):
  """One repeat's training points and one of its test sets."""

  train: Reference
  test: Reference


def mark_kinds(draw: Draw, test_set: str, *, seed: int) -> MarkedSets:
  """Marks the kinds of a draw and leaves as many of each in train and test.

  Args:
    draw: of one repeat.
    test_set: 'with_outliers', or 'without_outliers': all samples near the
      cluster then are far from all test points, and count as memorized.
    seed: of the subsets.

  Raises:
    ValueError: an unknown test set.

  Example:
    >>> from memjax.data.synthetic import Injection, draw_points
    >>> draw = draw_points('line', 50, Injection(num_outliers=4), seed=0)
    >>> marked = mark_kinds(draw, 'with_outliers', seed=0)
    >>> marked.train.member.sum(axis=0)
    array([54, 50,  4,  0,  4])
  """
  validate.one_of('test_set', test_set, TEST_SETS)
  train, test = draw.train, draw.test
  sizes = (
    len(np.unique(train.group[train.kind == kind]))
    for kind in (OUTLIER, DUPLICATE)
  )
  size = min((size for size in sizes if size), default=0)
  kept = np.arange(len(test.kind))
  if test_set == 'without_outliers':
    kept = np.flatnonzero(test.kind != OUTLIER)
  rows, test_rows = equal_rows(train.kind, test.kind[kept], seed=seed)
  test_rows = kept[test_rows]
  return MarkedSets(
    _reference(train, rows, size, seed), _reference(test, test_rows, size, seed)
  )


def _reference(
  part: LabelledPoints, rows: np.ndarray, size: int, seed: int
) -> Reference:
  kind = part.kind[rows]
  injected = kind[:, None] == np.arange(len(INJECTED))[None]
  everything = np.ones((len(kind), 1), bool)
  subset = equal_subset(kind, INLIER, size, seed=seed)[:, None]
  member = np.concatenate([everything, injected, subset], axis=1)
  return Reference(part.points[rows], member, part.group[rows])


def count_repeats(
  samples: Float[np.ndarray, 'R g d'],
  marked: Sequence[Sequence[MarkedSets]],
  ratios: Sequence[float],
) -> dict[str, Float[np.ndarray, 'R S *_']]:
  """`count_memorized` of each repeat's samples against each of its test sets.

  Args:
    samples: of R repeats.
    marked: [R][S].
    ratios: r numbers.

  Returns:
    The fields of `KindCounts` as float64, [R, S, r, k] or [R, S, k]; NaN for a
    repeat with samples that are not finite.
  """
  shapes = {
    name: (len(KINDS),)
    if name.startswith('near')
    else (len(ratios), len(KINDS))
    for name in KindCounts._fields
  }
  counts = {
    name: np.full((len(samples), len(marked[0]), *shape), np.nan)
    for name, shape in shapes.items()
  }
  for r, points in enumerate(samples):
    if not np.isfinite(points).all():
      continue
    for s, (train, test) in enumerate(marked[r]):
      found = count_memorized(train, test, points, ratios=tuple(ratios))
      for name, value in found._asdict().items():
        counts[name][r, s] = value
  return counts


def equal_rows(
  train_kind: Int[np.ndarray, ' n'],
  test_kind: Int[np.ndarray, ' m'],
  *,
  seed: int,
) -> tuple[Int[np.ndarray, ' _'], Int[np.ndarray, ' _']]:
  """Rows of train and test that leave as many of each kind in both.

  The larger set of a kind is nearer to everything; of it a random part is
  kept. A kind that one side lacks is left as it is.

  Args:
    train_kind: of each training point.
    test_kind: of each test point.
    seed: of the choice.

  Example:
    >>> train, test = equal_rows(
    ...   np.array([0, 0, 0, 1]), np.array([0, 0]), seed=0
    ... )
    >>> len(train), len(test)
    (3, 2)
  """
  rng = np.random.default_rng(validate.integer('seed', seed, 0))
  kept: tuple[list, list] = ([], [])
  for kind in np.union1d(train_kind, test_kind):
    rows = [np.flatnonzero(k == kind) for k in (train_kind, test_kind)]
    size = min(map(len, rows)) or max(map(len, rows))
    for side, own in zip(kept, rows, strict=True):
      side.append(rng.permutation(own)[:size])
  train, test = (np.sort(np.concatenate(side)) for side in kept)
  return train, test


def equal_subset(
  kind: Int[np.ndarray, ' n'], chosen: int, size: int, *, seed: int
) -> Bool[np.ndarray, ' n']:
  """Marks a random part of one kind, so that kinds of equal size are compared.

  Args:
    kind: of each point.
    chosen: the kind.
    size: how many to mark; all, if there are fewer.
    seed: of the choice.
  """
  rng = np.random.default_rng(validate.integer('seed', seed, 0))
  rows = rng.permutation(np.flatnonzero(kind == chosen))[:size]
  return np.isin(np.arange(len(kind)), rows)
