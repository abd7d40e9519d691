"""When what is memorized, in words that claim no more than the repeats show."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from memjax.analysis.dynamics.curves import (
  Delay,
  Dynamics,
  HalfTime,
  Shares,
  delay,
  half_time,
  shares,
)
from memjax.analysis.page import format_number

__all__ = ['MEASURES', 'Timing', 'Verdict', 'judge', 'measure_timing']

# Of `Shares`; what each answers.
MEASURES = {
  'excess': 'of all samples',
  'conditional': 'of the samples near them',
  'copied': 'of the points themselves',
  'generated': 'samples near them, memorized or not',
}
_TIMED = ('inlier', 'inlier_subset', 'outlier', 'duplicate')


class Timing(NamedTuple):
  """When kinds are memorized, against one test set and ratio.

  Attributes:
    half: by kind and measure.
    delays: of outliers and of duplicates behind as many inliers, by kind and
      measure; > 1 = LATER.
  """

  half: Mapping[str, Mapping[str, HalfTime]]
  delays: Mapping[str, Mapping[str, Delay]]


class Verdict(NamedTuple):
  """The answer: a kind of `page.VERDICTS`, sentences, and how sure."""

  kind: str
  headline: str
  uncertainty: str


def measure_timing(
  dynamics: Dynamics, *, ratio: int = 0, test_set: int = 0
) -> Timing:
  """Half times of all kinds and measures, and what is later than what."""
  found = {
    kind: shares(dynamics, kind, ratio=ratio, test_set=test_set)
    for kind in (*_TIMED, 'all')
  }
  half = {
    kind: {
      name: half_time(dynamics.epochs, getattr(own, name)) for name in MEASURES
    }
    for kind, own in found.items()
  }
  delays = {
    kind: {name: _delay(dynamics, found, kind, name) for name in MEASURES}
    for kind in ('outlier', 'duplicate')
  }
  return Timing(half, delays)


def _delay(
  dynamics: Dynamics, found: Mapping[str, Shares], kind: str, name: str
) -> Delay:
  own, inliers = (getattr(found[k], name) for k in (kind, 'inlier_subset'))
  return delay(dynamics.epochs, own, inliers)


def judge(dynamics: Dynamics, timing: Timing) -> Verdict:
  """Words for whether it memorizes, and for what comes later.

  Args:
    dynamics: counts.
    timing: against the first test set, at the first ratio.
  """
  total = timing.half['all']['excess']
  everything = shares(dynamics, 'all')
  tail = max(1, round(0.2 * len(dynamics.epochs)))
  rate, null = (float(np.nanmean(values[-tail:])) for values in everything[:2])
  measured = (
    f'At the end {_percent(rate)} of the samples count as memorized, '
    f'{_percent(null)} with train and test swapped, which is chance.'
  )
  if not np.isfinite(total.final_low):
    return Verdict(
      'weak',
      f'{measured} One repeat shows no uncertainty, so nothing is concluded.',
      'Set config.num_repeats to 5 or more.',
    )
  interval = (
    f'The excess over chance is {_percent(total.final)} '
    f'({_percent(total.final_low)} to {_percent(total.final_high)}, 95 % over '
    'repeats).'
  )
  if total.final_low <= 0:
    return Verdict(
      'none_found', f'No memorization is found. {measured}', interval
    )
  members = dict(zip(dynamics.kinds, dynamics.members, strict=True))
  order = ' '.join(
    _order(timing, kind) for kind in ('outlier', 'duplicate') if members[kind]
  )
  return Verdict(
    'memorizes', f'It memorizes. {measured}\n\n{order}'.strip(), interval
  )


def _order(timing: Timing, kind: str) -> str:
  """One sentence: later, earlier, or not to be told."""
  name = {'outlier': 'Outliers', 'duplicate': 'Duplicated points'}[kind]
  half, behind = (
    timing.half[kind]['conditional'],
    timing.delays[kind]['conditional'],
  )
  inliers = timing.half['inlier_subset']['conditional']
  if not np.isfinite(half.final_low):
    return f'Whether {name.lower()} are memorized cannot be told.'
  if not half.final_low > 0:
    ends = f'{_percent(half.final_low)} to {_percent(half.final_high)}'
    return (
      f'{name} are not found to be memorized (excess among the samples near '
      f'them {ends}).'
    )
  if not np.isfinite([behind.low, behind.high]).all():
    return f'{name} are memorized; when, these repeats do not tell.'
  times = (
    f'half of the final excess among the samples near them at epoch '
    f'{_epoch(half)}, against {_epoch(inliers)} for as many inliers'
  )
  factor = (
    f'× {format_number(behind.factor, digits=2)}, '
    f'{format_number(behind.low, digits=2)} to '
    f'{format_number(behind.high, digits=2)}'
  )
  order = 'neither surely later nor earlier'
  if behind.low > 1:
    order = 'LATER'
  if behind.high < 1:
    order = 'EARLIER'
  rising = ''
  if half.is_rising or inliers.is_rising:
    rising = (
      ' Curves still rise at the end, so that half of the final value is no '
      'half of a whole: train for longer.'
    )
  return f'{name} are memorized {order}: {times} ({factor}).{rising}'


def _epoch(half: HalfTime) -> str:
  return format_number(float(half.time), digits=2)


def _percent(share: Any) -> str:
  return format_number(100 * float(share), '%', digits=2)
