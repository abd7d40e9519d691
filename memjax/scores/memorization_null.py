"""The null of the K-fold memorization score: folds that change places.

Host NumPy in float64 on finished arrays.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from memjax import stats, validate
from memjax.scores.fold_design import (
  FoldDesign,
  Matrix,
  Vector,
  averages,
  check_log_px,
  make_design,
)
from memjax.scores.memorization import memorization_score

__all__ = [
  'MemorizationTest',
  'fold_permutations',
  'memorization_test',
  'null_scores',
]

# How many null scores the pooled q-values rest on.
_POOL = 2_000_000
# In a repeat, for an item's effect to be told from the noise of its folds.
_FEWEST_MODELS = 4
# Of a permutation, until no item keeps its folds.
_MOST_CHANGES = 20


class MemorizationTest(NamedTuple):
  """Is the score larger than a model that ignores its training set gives?

  Attributes:
    p_value: one-sided (upper) permutation p of each item. At one repeat of K
      folds it cannot go below 1/K.
    q_value: expected share of false discoveries among the items with a score
      at least as extreme (Benjamini-Hochberg on the pooled null).
    null_mean: mean of the item's score under the null, in nats: the bias of
      the estimator.
    null_std: standard deviation of the item's score under the null, in nats.
    global_p_value: [2], the p-values of the mean and of the 0.95 quantile of
      all items' scores. Valid at one repeat as well.
  """

  p_value: Float[np.ndarray, ' n']
  q_value: Float[np.ndarray, ' n']
  null_mean: Float[np.ndarray, ' n']
  null_std: Float[np.ndarray, ' n']
  global_p_value: Float[np.ndarray, ' 2']


def memorization_test(
  log_px: Matrix,
  held_out: Matrix,
  *,
  repeat: Vector | None = None,
  estimator: str = 'mean_log',
  num_permutations: int = 1000,
  seed: int = 0,
  groups: Vector | None = None,
) -> MemorizationTest:
  """Tests the scores against models whose log p ignores the folds.

  The null permutes the columns of `held_out` jointly and scores again: item i
  gets the folds of item j, in all repeats at once. If the log-probabilities do
  not depend on who trained on what, this changes nothing in distribution, so
  the p-values

    p_i = (1 + #{permutations with M*_i ≥ M_i}) / (1 + num_permutations)

  are valid however the models' noise is shared between items or repeats. The
  scores of all items under one permutation give the global p-values, of their
  mean and of their 0.95 quantile. For q-values, each item's scores are
  standardized by its own null mean and standard deviation and compared with
  the null scores of all items together, which resolves smaller tails than one
  item's permutations. Those are of permutations under which an item keeps fewer
  than half of the models that held it out: at one repeat every K-th would leave
  it its own score, and no q could be below 1/K.

  Args:
    log_px: [m, n] log-probabilities in nats, as for `memorization_score`.
    held_out: bool [m, n].
    repeat: int [m] or None, as for `memorization_score`.
    estimator: 'mean_log' | 'log_mean_exp' | 'matched'.
    num_permutations: P; p-values are multiples of 1/(1 + P).
    seed: of the permutations.
    groups: [n] labels, if the folds were drawn with groups. Whole groups of
      equal size then change places, since only they are exchangeable.

  Returns:
    MemorizationTest(p_value, q_value, null_mean, null_std, global_p_value).
    One-sided: small p = MORE memorized than the null. With one repeat of K
    folds an item has K possible scores, and p_value ≥ 1/K up to sampling.

  Raises:
    ValueError: as `memorization_score`, for num_permutations < 1, and for
      groups of which no two have the same size.

  Example:
    >>> from memjax import make_folds
    >>> held_out = make_folds(200, 10, num_repeats=3)
    >>> noise = np.random.default_rng(0).normal(size=held_out.shape)
    >>> test = memorization_test(noise - 5.0 * held_out, held_out)
    >>> bool(test.global_p_value.max() < 0.01), float(test.p_value.min())
    (True, 0.000999000999000999)
  """
  design = make_design(log_px, held_out, repeat, estimator)
  num_permutations = validate.integer('num_permutations', num_permutations, 1)
  score = averages(design, design.pattern, estimator)[0]
  observed = _summary(score)
  # A permutation that hands an item an equivalent fold is a tie, whatever the
  # order in which floats were added.
  tie = 1e-12 * (1.0 + np.abs(design.values[np.isfinite(design.values)]).max())
  mean, square = np.zeros_like(score), np.zeros_like(score)
  exceed, exceed_global = np.zeros_like(score), np.zeros(2)
  nulls = _null_scores(design, estimator, num_permutations, seed, groups)
  for count, null in enumerate(nulls, start=1):
    step = null - mean
    mean += step / count
    square += step * (null - mean)
    exceed += null >= score - tie
    exceed_global += _summary(null) >= observed - tie
  std = np.sqrt(square / max(1, num_permutations - 1))
  std[std <= tie] = 0.0
  return MemorizationTest(
    p_value=(1 + exceed) / (1 + num_permutations),
    q_value=stats.false_discovery_rate(
      _pooled_p_value(
        design, estimator, num_permutations, seed, groups, score, mean, std
      )
    ),
    null_mean=mean,
    null_std=std,
    global_p_value=(1 + exceed_global) / (1 + num_permutations),
  )


def null_scores(
  log_px: Matrix,
  held_out: Matrix,
  *,
  repeat: Vector | None = None,
  estimator: str = 'mean_log',
  num_permutations: int = 20,
  seed: int = 0,
  groups: Vector | None = None,
) -> Float[np.ndarray, '_ _']:
  """Draws scores as chance alone gives them, to be shown beside the scores.

  Folds change places as in `memorization_test`, but no item keeps half of the
  models that held it out, and each item's own effect, its score by 'mean_log',
  is first added to log p under the models that held it out. Else the scores of
  memorized items would be shown as chance, one of K at one repeat, and lower
  the others. It is for pictures: p-values come from permutations of log p as it
  is.

  The noise left is too small, by 1/(L (K − 1)²) of its variance at most; with
  fewer than four models a repeat, where that would be much, log p stays as it
  is.

  Args:
    log_px: as for `memorization_test`, and so are the other arguments.
    held_out: bool [m, n].
    repeat: int [m] or None.
    estimator: as for `memorization_test`.
    num_permutations: P, the number of rows returned.
    seed: of the permutations.
    groups: [n] labels or None.

  Returns:
    [P, n] scores in nats.
  """
  log_px, held_out, repeat = check_log_px(log_px, held_out, repeat)
  if np.unique(repeat, return_counts=True)[1].min() >= _FEWEST_MODELS:
    own = memorization_score(
      log_px, held_out, repeat=repeat, estimator='mean_log'
    )
    log_px = log_px + own.score * held_out
  design = make_design(log_px, held_out, repeat, estimator)
  num_permutations = validate.integer('num_permutations', num_permutations, 1)
  return np.stack(
    list(_foreign_scores(design, estimator, num_permutations, seed, groups))
  )


def fold_permutations(
  num_items: int,
  num_permutations: int,
  *,
  seed: int = 0,
  groups: Vector | None = None,
) -> Iterator[Int[np.ndarray, ' _']]:
  """Draws the null of every score that is made of folds.

  Args:
    num_items: n.
    num_permutations: P.
    seed: of the permutations.
    groups: [n] labels or None; items of a group move together, to the places
      of a group of the same size.

  Yields:
    P orders, int [n]: `held_out[:, order]` is as likely as `held_out` where
    log p ignores the folds.
  """
  rng = np.random.default_rng(validate.integer('seed', seed, 0))
  classes = _exchangeable(groups, num_items)
  for _ in range(num_permutations):
    order = np.empty(num_items, np.int64)
    for members in classes:
      order[members] = members[rng.permutation(len(members))]
    yield order


def _null_scores(
  design: FoldDesign, estimator: str, num_permutations: int, seed: int, groups
) -> Iterator[np.ndarray]:
  """Scores under one joint permutation of the folds' columns after another."""
  num_items = design.pattern.shape[1]
  for order in fold_permutations(
    num_items, num_permutations, seed=seed, groups=groups
  ):
    yield averages(design, design.pattern[:, order], estimator)[0]


def _foreign_scores(
  design: FoldDesign, estimator: str, num_permutations: int, seed: int, groups
) -> Iterator[np.ndarray]:
  """The same under permutations that leave no item its own folds.

  One permutation in K leaves an item the fold of its only repeat, and so its
  score: a memorized one would be counted as chance. Whether folds are an item's
  own is symmetric in both, so where log p ignores the folds, an item's score is
  distributed as these are.
  """
  rng = np.random.default_rng([seed, 1])
  classes = _exchangeable(groups, design.pattern.shape[1])
  for _ in range(num_permutations):
    order = np.empty(design.pattern.shape[1], np.int64)
    for members in classes:
      order[members] = members[_foreign_order(design, members, rng)]
    yield averages(design, design.pattern[:, order], estimator)[0]


def _foreign_order(
  design: FoldDesign, members: Int[np.ndarray, 'g s'], rng: np.random.Generator
) -> Int[np.ndarray, ' g']:
  """Random places of groups: those that keep their folds change once more."""
  order = rng.permutation(len(members))
  for _ in range(_MOST_CHANGES):
    kept = np.flatnonzero(_keeps_folds(design, members, members[order]))
    if not kept.size:
      break
    for row, other in zip(
      kept, rng.integers(0, len(order), kept.size), strict=True
    ):
      order[row], order[other] = order[other], order[row]
  return order


def _keeps_folds(design: FoldDesign, old, new) -> np.ndarray:
  """Whether half or more of the models that hold an item out are the same."""
  width = design.values.shape[1] - 1
  old, new = design.pattern[:, old], design.pattern[:, new]
  is_out, is_new_out = old < width, new < width
  same = (is_out & (old == new)).sum(axis=0)
  count = np.maximum(is_out.sum(axis=0), is_new_out.sum(axis=0))
  return (2 * same >= count).any(axis=-1)


def _exchangeable(groups, num_items: int) -> list[np.ndarray]:
  """Items [g, s] of the g groups of each size s; rows may change places."""
  if groups is None:
    return [np.arange(num_items)[:, None]]
  groups = validate.host_array('groups', groups, rank=1)
  if groups.shape[0] != num_items:
    raise ValueError(
      f'groups has {groups.shape[0]} entries: expected {num_items}.'
    )
  group, sizes = np.unique(groups, return_inverse=True, return_counts=True)[1:]
  if len(np.unique(sizes)) == len(sizes):
    raise ValueError(
      f'groups holds {len(sizes)} groups, no two of one size: expected some '
      'that can change places, else there is no null to compare with.'
    )
  by_group = np.split(np.argsort(group, kind='stable'), np.cumsum(sizes)[:-1])
  return [
    np.stack([m for m in by_group if len(m) == size])
    for size in np.unique(sizes)
  ]


def _summary(score: np.ndarray) -> np.ndarray:
  return np.array([score.mean(), np.quantile(score, 0.95)])


def _pooled_p_value(
  design, estimator, num_permutations, seed, groups, score, mean, std
) -> np.ndarray:
  """Upper tail of each standardized score in the null of all items."""
  # The observed score is standardized with the null's, as one of P + 1 equals:
  # else it alone would be judged by a mean and a deviation it has no part in.
  count = num_permutations
  shift = (score - mean) / (count + 1)
  square = std**2 * (count - 1) + (score - mean) * shift * count
  mean, std = mean + shift, np.sqrt(square / count)
  scale = np.where(std > 1e-12 * (1 + np.abs(mean)), std, np.inf)
  enough = min(num_permutations, -(-_POOL // score.size))
  pool = np.sort(
    np.concatenate(
      [
        (null - mean) / scale
        for null in _foreign_scores(design, estimator, enough, seed, groups)
      ]
    )
  )
  standardized = (score - mean) / scale
  exceed = pool.size - np.searchsorted(pool, standardized - 1e-9)
  return (1 + exceed) / (1 + pool.size)
