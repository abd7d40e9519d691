"""Curves over training with bands over repeats, and when they rise.

Everything is a mean over repeats, and every interval comes from repeats: other
initial weights, other orders, other draws of the data.
"""

import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import scipy.optimize
from jaxtyping import Float, Shaped

from memjax import stats, validate

__all__ = [
  'DYNAMICS_FILE',
  'Curve',
  'Delay',
  'Dynamics',
  'HalfTime',
  'Shares',
  'delay',
  'half_time',
  'mean_curve',
  'read_dynamics',
  'shares',
]

# Where a study leaves its counts, in its folder.
DYNAMICS_FILE = 'arrays/dynamics.npz'

# The share of the evaluations whose mean is the final value.
_TAIL = 0.2
# If more of the resamples than this have no final rise, there is no interval.
_MOST_UNDEFINED = 0.05
# Of fewer repeats there are too few different resamples for an interval.
_FEWEST_RESAMPLED = 5


class Dynamics(NamedTuple):
  """Counts of a study, with axes [epochs, repeats, test sets, ratios, kinds].

  Attributes:
    epochs: int [E], epochs trained; 0 is the untrained model.
    memorized: [E, R, S, r, k]; this and the others as in `KindCounts`, NaN in
      repeats that diverged.
    swapped: [E, R, S, r, k].
    near_train: [E, R, S, k].
    near_test: [E, R, S, k].
    copied: [E, R, S, r, k].
    swapped_copied: [E, R, S, r, k].
    loss: [E, R].
    num_samples: samples at each epoch.
    members: [k], training points of each kind, copies once.
    kinds: k names.
    test_sets: S names.
    ratios: r numbers, of true distances.
  """

  epochs: Shaped[np.ndarray, ' E']
  memorized: Float[np.ndarray, 'E R S r k']
  swapped: Float[np.ndarray, 'E R S r k']
  near_train: Float[np.ndarray, 'E R S k']
  near_test: Float[np.ndarray, 'E R S k']
  copied: Float[np.ndarray, 'E R S r k']
  swapped_copied: Float[np.ndarray, 'E R S r k']
  loss: Float[np.ndarray, 'E R']
  num_samples: int
  members: Shaped[np.ndarray, ' k']
  kinds: Sequence[str]
  test_sets: Sequence[str]
  ratios: Sequence[float]


class Shares(NamedTuple):
  """Shares over epochs and repeats of one kind, ratio and test set, [E, R].

  Attributes:
    rate: of all samples, memorized from this kind; what the paper draws.
    null: the same with train and test swapped.
    excess: rate − null; 0 without memorization.
    conditional: of the samples near this kind, memorized, less its null; does
      not depend on how many samples are near. NaN where none is. A kind that
      the test set lacks has a null of 0.
    generated: of all samples, those near this kind.
    copied: of the kind's members, those that a sample is memorized from, less
      its null.
  """

  rate: Float[np.ndarray, 'E R']
  null: Float[np.ndarray, 'E R']
  excess: Float[np.ndarray, 'E R']
  conditional: Float[np.ndarray, 'E R']
  generated: Float[np.ndarray, 'E R']
  copied: Float[np.ndarray, 'E R']


class Curve(NamedTuple):
  """A mean over repeats with its 95 % interval; NaN with fewer than two."""

  mean: Float[np.ndarray, ' E']
  low: Float[np.ndarray, ' E']
  high: Float[np.ndarray, ' E']


class HalfTime(NamedTuple):
  """When a curve reaches a share of its final value.

  Attributes:
    time: in epochs; NaN if there is no final rise.
    low: of its interval over repeats.
    high: of it.
    final: the final value, mean over the last fifth of the epochs.
    final_low: of its interval; a rise is there only if it is above 0.
    final_high: of it.
    is_rising: the last fifth is surely above the fifth before, so that the
      final value is no end of the rise, and half of it comes too early.
  """

  time: float
  low: float
  high: float
  final: float
  final_low: float
  final_high: float
  is_rising: bool


class Delay(NamedTuple):
  """How much later one curve rises than another: the ratio of their times.

  Attributes:
    factor: > 1: the first curve rises LATER than the second.
    low: of its 95 % interval over repeats.
    high: of it.
  """

  factor: float
  low: float
  high: float


def read_dynamics(workdir: pathlib.Path) -> Dynamics:
  """The counts that a study left in its folder.

  Raises:
    FileNotFoundError: if it left none.
  """
  path = pathlib.Path(workdir) / DYNAMICS_FILE
  if not path.exists():
    raise FileNotFoundError(
      f'{path}: expected the counts of a finished study; run `python -m '
      f'memjax.main --config=configs/moons_dynamics.py --workdir={workdir}`.'
    )
  with np.load(path) as saved:
    found = {name: saved[name] for name in saved.files}
  found['num_samples'] = int(found['num_samples'])
  for name in ('kinds', 'test_sets', 'ratios'):
    found[name] = tuple(found[name].tolist())
  return Dynamics(**found)


def shares(
  dynamics: Dynamics, kind: str, *, ratio: int = 0, test_set: int = 0
) -> Shares:
  """The curves of one kind; NaN throughout in repeats that diverged.

  Args:
    dynamics: counts.
    kind: one of `dynamics.kinds`.
    ratio: which of `dynamics.ratios`.
    test_set: which of `dynamics.test_sets`.

  Raises:
    ValueError: an unknown kind.
  """
  kinds = list(dynamics.kinds)
  k = kinds.index(validate.one_of('kind', kind, kinds))
  at = (slice(None), slice(None), test_set, ratio, k)
  total = float(dynamics.num_samples)
  has_failed = ~np.isfinite(dynamics.memorized[at]).all(axis=0)
  memorized, swapped = (
    np.where(has_failed, np.nan, counts[at])
    for counts in (dynamics.memorized, dynamics.swapped)
  )
  near_train = dynamics.near_train[:, :, test_set, k]
  near_test = dynamics.near_test[:, :, test_set, k]
  excess_copied = dynamics.copied[at] - dynamics.swapped_copied[at]
  excess_copied = np.where(has_failed, np.nan, excess_copied)
  return Shares(
    rate=memorized / total,
    null=swapped / total,
    excess=(memorized - swapped) / total,
    conditional=_divide(memorized, near_train)
    - (_divide(swapped, near_test) if near_test.any() else 0.0),
    generated=np.where(has_failed, np.nan, near_train) / total,
    copied=excess_copied / max(1, int(dynamics.members[k])),
  )


def _divide(count: np.ndarray, total: np.ndarray) -> np.ndarray:
  """A share; NaN of nothing, which says nothing of memorization."""
  return count / np.where(total == 0, np.nan, total)


def mean_curve(
  values: Float[np.ndarray, 'E R'], *, confidence: float = 0.95
) -> Curve:
  """Mean over repeats with Student's interval; NaN is left out, each epoch.

  Example:
    >>> curve = mean_curve(np.array([[1.0, 3.0, np.nan]]))
    >>> curve.mean.item(), round(curve.high.item(), 1)
    (2.0, 14.7)
  """
  kept = [row[np.isfinite(row)] for row in values]
  mean = np.array([row.mean() if len(row) else np.nan for row in kept])
  half = np.array([
    stats.student_reach(row, confidence=confidence) for row in kept
  ])  # fmt: skip
  return Curve(mean, mean - half, mean + half)


def half_time(
  epochs: Shaped[np.ndarray, ' E'],
  values: Float[np.ndarray, 'E R'],
  *,
  level: float = 0.5,
  num_resamples: int = 500,
  seed: int = 0,
) -> HalfTime:
  """When the mean curve rises through a share of its final value.

  The final value is the mean over the last fifth of the evaluations. The time
  is that of the increasing curve that fits best (isotonic regression),
  interpolated between evaluations; 0 is a curve that is there from the start.
  The final value's interval is Student's, the time's comes from resampling
  whole repeats, five or more. Without a final value surely above 0 there is no
  time.

  Args:
    epochs: increasing.
    values: a curve of each repeat; NaN where it is not known.
    level: the share.
    num_resamples: of the bootstrap over repeats.
    seed: of it.

  Returns:
    HalfTime.

  Example:
    >>> epochs = np.arange(11.0)
    >>> values = np.minimum(epochs, 8.0)[:, None] * np.ones((1, 5))
    >>> half_time(epochs, values).time
    4.0
  """
  level = validate.real('level', level, 0.0, 1.0, strict=True)
  epochs = np.asarray(epochs, np.float64)
  values = values[:, np.isfinite(values).any(axis=0)]
  final, low, high = _final_value(values)
  is_rising = bool(_late_rise(values) > 0)
  if not low > 0:
    return HalfTime(np.nan, np.nan, np.nan, final, low, high, is_rising)
  time = _rise_time(epochs, _mean(values), level)
  curves = _resampled(values, num_resamples, seed)
  times = np.array([_rise_time(epochs, curve, level) for curve in curves])
  ends = _interval(times, values.shape[1])
  return HalfTime(time, *ends, final, low, high, is_rising)


def delay(
  epochs: Shaped[np.ndarray, ' E'],
  later: Float[np.ndarray, 'E R'],
  earlier: Float[np.ndarray, 'E R'],
  *,
  level: float = 0.5,
  value: float | None = None,
  num_resamples: int = 500,
  seed: int = 0,
) -> Delay:
  """By what factor `later` takes longer to half of its final value.

  Repeats are resampled together, since both curves are of the same models.
  Where curves still rise at the end, their final values are no ends, and times
  to half of them differ less than the curves do: give a `value` then.

  Args:
    epochs: as for `half_time`.
    later: a curve of each repeat.
    earlier: another, of the same repeats.
    level: as for `half_time`.
    value: the same for both, to be passed in place of half of the final ones.
    num_resamples: of the bootstrap over repeats.
    seed: of it.

  Returns:
    Delay; all NaN where one of the curves does not rise, or `earlier` is there
    from the start; without an interval for fewer than five repeats. With a
    `value` that one of them never passes, 0 or infinity.

  Example:
    >>> epochs = np.arange(11.0)
    >>> slow = epochs[:, None] * np.ones((1, 5))
    >>> delay(epochs, slow, 2 * slow, value=4.0).factor
    2.0
  """
  epochs = np.asarray(epochs, np.float64)
  kept = np.isfinite(later).any(axis=0) & np.isfinite(earlier).any(axis=0)
  both = [later[:, kept], earlier[:, kept]]
  is_risen = all(_final_value(values)[1] > 0 for values in both)
  time = lambda curve: _rise_time(epochs, curve, level, value)
  times = np.array([time(_mean(values)) for values in both])
  if not is_risen or not times[1] > 0 or np.isinf(times).all():
    return Delay(np.nan, np.nan, np.nan)
  resampled = np.array([
    [time(curve) for curve in _resampled(values, num_resamples, seed)]
    for values in both
  ])  # fmt: skip
  # Where both are there from the start, or neither comes, nothing is told.
  with np.errstate(divide='ignore', invalid='ignore'):
    factor, factors = times[0] / times[1], resampled[0] / resampled[1]
  return Delay(float(factor), *_interval(factors, int(kept.sum())))


def _mean(values: np.ndarray) -> np.ndarray:
  """[E] over the repeats that are known at each epoch; NaN without any."""
  return _divide(np.nansum(values, axis=1), np.isfinite(values).sum(axis=1))


def _resampled(values: np.ndarray, count: int, seed: int) -> np.ndarray:
  """[count, E] mean curves of repeats drawn with replacement."""
  rng = np.random.default_rng(validate.integer('seed', seed, 0))
  size = values.shape[1]
  drawn = rng.multinomial(size, np.full(size, 1 / size), count)
  is_known = np.isfinite(values)
  return _divide(drawn @ np.where(is_known, values, 0.0).T, drawn @ is_known.T)


def _final_value(values: np.ndarray) -> tuple[float, float, float]:
  """Mean over repeats of the tail, with Student's interval."""
  tail = values[-_tail_size(len(values)) :]
  finals = _mean(tail.T)
  curve = mean_curve(finals[None])
  return float(curve.mean[0]), float(curve.low[0]), float(curve.high[0])


def _late_rise(values: np.ndarray) -> float:
  """Low end of the interval of what the last fifth adds to the one before."""
  size = _tail_size(len(values))
  if len(values) < 2 * size or not values.size:
    return np.nan
  last, before = values[-size:], values[-2 * size : -size]
  return float(mean_curve((_mean(last.T) - _mean(before.T))[None]).low[0])


def _tail_size(num_epochs: int) -> int:
  return max(1, round(_TAIL * num_epochs))


def _rise_time(
  epochs: np.ndarray,
  curve: np.ndarray,
  level: float,
  value: float | None = None,
) -> float:
  """Where the nearest increasing curve crosses the level, interpolated.

  A first crossing of the curve itself would come early by noise, a last one
  late. NaN without a final value above 0, infinity where `value` is not
  reached; not after the first epoch at which the curve is known and above.
  """
  tail = curve[-_tail_size(len(curve)) :]
  target = level * float(_mean(tail[None])[0]) if value is None else value
  if not target > 0:
    return np.nan
  epochs, curve = epochs[np.isfinite(curve)], curve[np.isfinite(curve)]
  rising = scipy.optimize.isotonic_regression(curve).x
  if not (rising >= target).any():
    return np.inf
  k = int(np.argmax(rising >= target))
  if k == 0:
    return float(epochs[0])
  share = (target - rising[k - 1]) / (rising[k] - rising[k - 1])
  return float(epochs[k - 1] + share * (epochs[k] - epochs[k - 1]))


def _interval(values: np.ndarray, num_repeats: int) -> tuple[float, float]:
  known = values[~np.isnan(values)]
  if num_repeats < _FEWEST_RESAMPLED:
    return np.nan, np.nan
  if len(known) < (1 - _MOST_UNDEFINED) * len(values):
    return np.nan, np.nan
  # Between values, none may lie next to infinity.
  low, high = np.quantile(known, [0.025, 0.975], method='inverted_cdf')
  return float(low), float(high)
