"""The K-fold memorization score of a density model, and its null.

The score compares the log-probability of an item under models that trained on
it with that under models that held it out. POSITIVE = more likely when trained
on = memorized. Everything here is host NumPy in float64 on finished arrays.
"""

from collections.abc import Iterator
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Float, Int, Shaped

from memjax import validate
from memjax.analysis import stats

__all__ = [
  'ESTIMATORS',
  'MemorizationScores',
  'MemorizationTest',
  'check_log_px',
  'fold_permutations',
  'memorization_score',
  'memorization_test',
  'null_scores',
]

ESTIMATORS = ('log_mean_exp', 'mean_log', 'matched')

_INSTEAD = (
  'on the device, compute the log-probabilities with importance_log_prob and '
  'call this on the result'
)
# How many null scores the pooled q-values rest on.
_POOL = 2_000_000

Matrix = Shaped[np.ndarray | jax.Array, '_ _'] | list
Vector = Shaped[np.ndarray | jax.Array, ' _'] | list


class MemorizationScores(NamedTuple):
  """One entry an item, in nats.

  Attributes:
    score: M = U − V. POSITIVE = more likely when trained on.
    log_px_in: U, the log-probability under models that trained on the item.
    log_px_out: V, the log-probability under models that held it out.
    std_err: jackknife standard error of the score over repeats; use it with
      Student's t at L − 1 degrees of freedom. NaN at one repeat.
  """

  score: Float[np.ndarray, ' n']
  log_px_in: Float[np.ndarray, ' n']
  log_px_out: Float[np.ndarray, ' n']
  std_err: Float[np.ndarray, ' n']


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


def memorization_score(
  log_px: Matrix,
  held_out: Matrix,
  *,
  repeat: Vector | None = None,
  estimator: str = 'log_mean_exp',
) -> MemorizationScores:
  r"""Scores each item by what training on it adds to its log-probability.

  With π_{j,i} = `log_px[j, i]` and h_{j,i} = `held_out[j, i]`,

    M_i = U_i − V_i,  U_i = avg_{j: ¬h_{j,i}} π_{j,i},
                      V_i = avg_{j: h_{j,i}} π_{j,i}.

  `estimator` names the average:

    'log_mean_exp': log of the mean probability, the paper's eq. (3). It is
      biased UPWARD: U averages K − 1 times as many values as V, so a model
      that memorizes nothing but whose log p fluctuates by σ nats scores > 0
      (σ = 5, L = K = 10: 2.7). Its jackknife interval covers too rarely under
      such noise (0.71 instead of 0.95 at σ = 5, L = 10).
    'mean_log': mean of the log-probabilities. Unbiased under that null, and
      its t-interval covers.
    'matched': log-mean-exp of one training model a repeat against the one
      that held the item out, averaged over the K − 1 cyclic choices of the
      training model. Equal counts, hence no bias of that kind.

  Args:
    log_px: [m, n] log p of item i under model j, in nats. Finite.
    held_out: bool [m, n], True where model j did not train on item i; for
      instance from `make_folds`. Any design will do, also random halves, as
      long as each item is both held out and trained on.
    repeat: int [m], the repeat of each model. None: equal blocks of rows, each
      a partition of the items; a design that is no such thing counts as one
      repeat.
    estimator: 'log_mean_exp' | 'mean_log' | 'matched'.

  Returns:
    MemorizationScores(score, log_px_in, log_px_out, std_err), each [n] in nats.

  Raises:
    ValueError: for non-finite log-probabilities, shapes that do not match, an
      item that is never or always held out, an unknown estimator.

  Example:
    >>> from memjax import make_folds
    >>> held_out = make_folds(4, 2)
    >>> log_px = np.where(held_out, -12.0, -10.0)
    >>> memorization_score(log_px, held_out).score
    array([2., 2., 2., 2.])

  Reference:
    van den Burg and Williams (2021), eq. (3) and Algorithm 1.
  """
  design = _make_design(log_px, held_out, repeat, estimator)
  score, inside, outside = _averages(design, design.pattern, estimator)
  return MemorizationScores(
    score, inside, outside, _jackknife(design, estimator)
  )


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
  item's permutations.

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
  design = _make_design(log_px, held_out, repeat, estimator)
  num_permutations = validate.integer('num_permutations', num_permutations, 1)
  score = _averages(design, design.pattern, estimator)[0]
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
  """Draws scores from the null of `memorization_test`, to be shown beside it.

  Args:
    log_px: as for `memorization_test`, and so are the other arguments.
    held_out: bool [m, n].
    repeat: int [m] or None.
    estimator: as for `memorization_test`.
    num_permutations: P, the number of rows returned.
    seed: of the permutations.
    groups: [n] labels or None.

  Returns:
    [P, n] scores in nats, the first P that `memorization_test` draws.
  """
  design = _make_design(log_px, held_out, repeat, estimator)
  num_permutations = validate.integer('num_permutations', num_permutations, 1)
  return np.stack(
    list(_null_scores(design, estimator, num_permutations, seed, groups))
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


def check_log_px(
  log_px: Matrix, held_out: Matrix, repeat: Vector | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Checks what the score is made of, and fills in the repeats.

  Returns:
    log_px float64 [m, n], held_out bool [m, n], repeat int [m].

  Raises:
    ValueError: as `memorization_score`.
  """
  log_px = validate.finite('log_px', log_px, rank=2, instead=_INSTEAD)
  if log_px.shape[0] < 2 or log_px.shape[1] < 1:
    raise ValueError(
      f'log_px has shape {log_px.shape}: expected two models or more, and one '
      'item or more.'
    )
  held_out = _check_held_out(held_out, log_px.shape)
  return log_px, held_out, _check_repeat(repeat, held_out)


class _Design(NamedTuple):
  """The models in blocks, each of which holds an item out at most once.

  A block is a repeat, or a single model where repeats are no partitions. An
  item's `pattern` in a block is the position of the model that holds it out,
  or the block's padded size if none does; the score of an item depends on the
  folds through its patterns alone, which makes permutations cheap.
  """

  values: Float[np.ndarray, 'blocks width_plus_1 n']  # padded: the identity
  rest: Float[np.ndarray, 'blocks width_plus_1 n']  # reduced over the others
  size: Shaped[np.ndarray, ' blocks']
  pattern: Shaped[np.ndarray, 'blocks n']
  repeat: Shaped[np.ndarray, ' blocks']


def _make_design(log_px, held_out, repeat, estimator) -> _Design:
  """Checks the arguments and sorts the models into blocks."""
  validate.one_of('estimator', estimator, ESTIMATORS)
  log_px, held_out, repeat = check_log_px(log_px, held_out, repeat)
  block = np.unique(repeat, return_inverse=True)[1]
  if _held_out_twice(held_out, block):
    if estimator == 'matched':
      raise ValueError(
        "estimator='matched' pairs models of one repeat: expected repeats "
        'that hold each item out at most once. Pass `repeat`, or choose '
        "'mean_log'."
      )
    block = np.arange(len(block))
  size = np.bincount(block)
  reduce = _ufunc(estimator)
  shape = (size.size, size.max() + 1, log_px.shape[1])
  values = np.full(shape, float(reduce.identity))
  pattern = np.full((size.size, log_px.shape[1]), size.max())
  for b in range(size.size):
    rows = np.flatnonzero(block == b)
    values[b, : size[b]] = log_px[rows]
    inside, item = np.nonzero(held_out[rows])
    pattern[b, item] = inside
  if estimator == 'matched':
    # A model without a partner in its repeat can be paired with none.
    pattern[size < 2] = size.max()
    alone = (pattern == size.max()).all(axis=0)
    if alone.any():
      raise ValueError(
        f"estimator='matched' finds no repeat in which item "
        f'{int(np.argmax(alone))} is held out beside a model that trained on '
        'it: expected one or more.'
      )
  first = np.unique(block, return_index=True)[1]
  rest = np.empty((0,)) if estimator == 'matched' else _rest(values, reduce)
  return _Design(values, rest, size, pattern, repeat[first])


def _ufunc(estimator: str) -> np.ufunc:
  return np.add if estimator == 'mean_log' else np.logaddexp


def _rest(values: np.ndarray, reduce: np.ufunc) -> np.ndarray:
  """Reduces each block over all its models but one; the last row over all."""
  edge = np.full_like(values[:, :1], float(reduce.identity))
  before = reduce.accumulate(np.concatenate([edge, values], axis=1), axis=1)
  reverse = np.concatenate([edge, values[:, ::-1]], axis=1)
  after = reduce.accumulate(reverse, axis=1)[:, ::-1]
  return reduce(before[:, :-1], after[:, 1:])


def _averages(
  design: _Design, pattern: np.ndarray, estimator: str, keep=slice(None)
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Score, U and V of all items if they had this pattern of held-out models."""
  values, size = design.values[keep], design.size[keep, None]
  pattern = pattern[keep]
  width = values.shape[1] - 1
  is_held_out = pattern < width
  reduce = _ufunc(estimator)
  outside = _average(_take(values, pattern), is_held_out, reduce)
  if estimator != 'matched':
    total = _take(design.rest[keep], pattern)
    inside = _average(total, size - is_held_out, reduce)
    return inside - outside, inside, outside
  inside = np.zeros_like(outside)
  for offset in range(width - 1):
    # The offset-th model after the held-out one, in its repeat's cyclic order.
    step = 1 + offset % np.maximum(size - 1, 1)
    partner = np.where(is_held_out, (pattern + step) % size, width)
    inside += _average(_take(values, partner), is_held_out, reduce)
  inside /= max(width - 1, 1)
  return inside - outside, inside, outside


def _take(table: np.ndarray, pattern: np.ndarray) -> np.ndarray:
  return np.take_along_axis(table, pattern[:, None], axis=1)[:, 0]


def _average(totals, counts, reduce: np.ufunc) -> np.ndarray:
  """Averages blocks given their totals and how many values each holds."""
  total = reduce.reduce(totals, axis=0)
  count = np.broadcast_to(counts, totals.shape).sum(axis=0)
  with np.errstate(divide='ignore', invalid='ignore'):
    return total / count if reduce is np.add else total - np.log(count)


def _jackknife(design: _Design, estimator: str) -> np.ndarray:
  """Standard error over repeats; NaN where a repeat is all that an item has."""
  repeats = np.unique(design.repeat)
  num_items = design.pattern.shape[1]
  if repeats.size < 2:
    return np.full(num_items, np.nan)
  without = []
  for repeat in repeats:
    keep = design.repeat != repeat
    score, inside, outside = _averages(design, design.pattern, estimator, keep)
    defined = np.isfinite(inside) & np.isfinite(outside)
    without.append(np.where(defined, score, np.nan))
  return stats.jackknife(np.stack(without))


def _null_scores(
  design: _Design, estimator: str, num_permutations: int, seed: int, groups
) -> Iterator[np.ndarray]:
  """Scores under one joint permutation of the folds' columns after another."""
  num_items = design.pattern.shape[1]
  for order in fold_permutations(
    num_items, num_permutations, seed=seed, groups=groups
  ):
    yield _averages(design, design.pattern[:, order], estimator)[0]


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
        for null in _null_scores(design, estimator, enough, seed, groups)
      ]
    )
  )
  standardized = (score - mean) / scale
  exceed = pool.size - np.searchsorted(pool, standardized - 1e-9)
  return (1 + exceed) / (1 + pool.size)


def _check_held_out(held_out, shape: tuple[int, int]) -> np.ndarray:
  held_out = validate.host_array('held_out', held_out, rank=2, instead=_INSTEAD)
  if held_out.shape != shape:
    raise ValueError(
      f'held_out has shape {held_out.shape}: expected the shape of log_px, '
      f'{shape} = (models, items).'
    )
  if not np.isin(held_out, (0, 1)).all():
    raise ValueError('held_out holds values besides 0 and 1: expected bool.')
  held_out = held_out.astype(bool)
  count = held_out.sum(axis=0)
  for bad, word in ((count == 0, 'no'), (count == len(held_out), 'every')):
    if bad.any():
      raise ValueError(
        f'held_out[:, {int(np.argmax(bad))}] says that {word} model held the '
        f'item out ({int(bad.sum())} such items): expected from 1 to '
        f'{len(held_out) - 1} of the {len(held_out)} models.'
      )
  return held_out


def _check_repeat(repeat, held_out: np.ndarray) -> np.ndarray:
  """The repeat of each model; equal blocks if None and the design allows."""
  num_models = len(held_out)
  if repeat is not None:
    repeat = validate.host_array('repeat', repeat, rank=1, instead=_INSTEAD)
    if repeat.shape[0] != num_models or repeat.dtype.kind not in 'iu':
      raise ValueError(
        f'repeat has {repeat.shape[0]} entries of dtype {repeat.dtype}: '
        f'expected {num_models} integers, one a model.'
      )
    return repeat
  num_repeats = int(held_out[:, 0].sum())
  if num_models % num_repeats == 0:
    blocks = held_out.reshape(num_repeats, -1, held_out.shape[1])
    if (blocks.sum(axis=1) == 1).all():
      return np.repeat(np.arange(num_repeats), num_models // num_repeats)
  return np.zeros(num_models, np.int64)


def _held_out_twice(held_out: np.ndarray, block: np.ndarray) -> bool:
  return any(
    (held_out[block == b].sum(axis=0) > 1).any() for b in np.unique(block)
  )
