"""What `outliers_last.py` reads from a run: times, lead, early stopping."""

import numpy as np

from memjax.analysis.dynamics.curves import (
  delay,
  mean_curve,
  read_dynamics,
  shares,
)
from memjax.analysis.dynamics.verdict import measure_timing
from memjax.training.canary import CanaryCounts, canaries_are_memorized

__all__ = ['lead', 'passing', 'stop_early', 'summarize']

# Excess among the samples near a kind: passing it is the measure that was
# chosen before these runs, since curves still rise when training stops.
_VALUES = (0.1, 0.2)
# Of a false alarm in the whole run.
_CANARY_LEVEL = 0.01
# Before the inliers' excess passes this, canaries should have stopped training.
_INLIER_LEVEL = 0.1


def summarize(folder):
  """Times and final values of a run, from its counts."""
  found = read_dynamics(folder)
  as_dict = lambda tree: {
    kind: {name: value._asdict() for name, value in own.items()}
    for kind, own in tree.items()
  }
  summary = {
    'epochs': found.epochs,
    'repeats': int(np.isfinite(found.loss).all(axis=0).sum()),
  }
  for s, test_set in enumerate(found.test_sets):
    for r, ratio in enumerate(found.ratios):
      timing = measure_timing(found, test_set=s, ratio=r)
      summary[f'{test_set}, r = {ratio:.4g}'] = {
        'half': as_dict(timing.half),
        'delays': as_dict(timing.delays),
        'passing': {
          kind: {
            str(value): passing(found, kind, value, ratio=r, test_set=s)
            for value in _VALUES
          }
          for kind in ('outlier', 'duplicate')
        },
        'lead': {
          kind: lead(found, kind, ratio=r, test_set=s)
          for kind in ('outlier', 'duplicate')
        },
      }
  return {**summary, 'canaries': stop_early(found)}


def passing(found, kind, value, **where):
  """How much later samples near a kind pass a value than those near inliers."""
  own, inliers = (
    shares(found, k, **where).conditional for k in (kind, 'inlier')
  )
  return delay(found.epochs, own, inliers, value=value)._asdict()


def lead(found, kind, **where):
  """How much more memorized a kind is than inliers, over training.

  The mean over the evaluations, whose epochs are about equal steps of log
  time, of the difference in excess among the samples near each.
  """
  own, inliers = (
    shares(found, k, **where).conditional for k in (kind, 'inlier')
  )
  ahead = own - inliers
  known = np.isfinite(ahead).any(axis=0)
  curve = mean_curve(np.nanmean(ahead[:, known], axis=0)[None])
  return {name: float(value[0]) for name, value in curve._asdict().items()}


def stop_early(found):
  """Where outliers, as canaries, stop training; the inliers' excess there."""
  at = (slice(None), slice(None), 0, 0, list(found.kinds).index('outlier'))
  lasted = np.isfinite(found.copied[at]).all(axis=0)
  copied, control = (
    counts[at][:, lasted] for counts in (found.copied, found.swapped_copied)
  )
  inliers = shares(found, 'inlier').conditional[:, lasted]
  mean = mean_curve(inliers).mean

  pooled = _first_alarm(copied.sum(axis=1), control.sum(axis=1))
  single = [
    _first_alarm(*pair) for pair in zip(copied.T, control.T, strict=True)
  ]
  stopped = [(visit, r) for r, visit in enumerate(single) if visit is not None]
  # One repeat's excess is mostly noise: that of all, at the same epoch.
  excess = [float(mean[visit]) for visit, _ in stopped]
  return {
    'false_alarm_level': _CANARY_LEVEL,
    'inlier_level': _INLIER_LEVEL,
    'inlier_excess_at_end': mean[-1],
    'all_repeats': None if pooled is None else {
      'epoch': found.epochs[pooled],
      'inlier_excess': mean[pooled],
      'is_before': bool(mean[pooled] < _INLIER_LEVEL),
    },
    'single_repeats': {
      'repeats': len(single),
      'stopped': len(stopped),
      'stopped_before': sum(value < _INLIER_LEVEL for value in excess),
      'epochs': [found.epochs[visit] for visit, _ in stopped],
      'inlier_excess': excess,
    },
  }  # fmt: skip


def _first_alarm(trained, held_out):
  """The first visit whose test alarms; None: none does."""
  level = _CANARY_LEVEL / len(trained)
  for visit, pair in enumerate(zip(trained, held_out, strict=True)):
    counts = CanaryCounts(*(int(count) for count in pair))
    if canaries_are_memorized(counts, level=level):
      return visit
  return None
