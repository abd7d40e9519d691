"""Are outliers memorized last? The claim, tested where it can be.

  python experiments/outliers_last.py --runs=runs/outliers_last

For each setting, 20 repeats of the tiny model train at once until it memorizes;
when do outliers and duplicated points reach half of their final excess, and
when do as many inliers? T = 50, as published, and T = 250, which reaches noise;
clusters farther, tighter, wider, smaller. Each against test sets with and
without outliers. Resumes; writes `results/outliers_last.json`, where settings
that are not run again stay, and a figure. Small sets (100 inliers), because
only there does a model of this size memorize within minutes on a CPU.
"""

import json
import pathlib

import numpy as np
from absl import app, flags, logging
from outliers_last_drawing import write_png

from memjax.analysis.dynamics.curves import mean_curve, read_dynamics, shares
from memjax.analysis.dynamics.verdict import MEASURES, measure_timing
from memjax.files import write_json
from memjax.main import read_config
from memjax.studies import dynamics
from memjax.training.canary import CanaryCounts, canaries_are_memorized

_RUNS = flags.DEFINE_string('runs', 'runs/outliers_last', 'Where runs go.')
_OUT = flags.DEFINE_string(
  'out', 'experiments/results/outliers_last.json', 'Where results go.'
)
_REPEATS = flags.DEFINE_integer('repeats', 20, 'Repeats of each setting.')
_EPOCHS = flags.DEFINE_integer('epochs', 4000, 'Epochs, of two steps each.')
_ONLY = flags.DEFINE_list('only', [], 'Names of settings; empty: all.')

# Of each test; there are 17 visits.
_CANARY_LEVEL = 0.01
_BASE = {
  'num_inliers': 100, 'num_outliers': 20, 'distance': 2.0, 'spread': 0.3,
  'num_steps': 50, 'seed': 0,
}  # fmt: skip
# Median distance to the nearest other point: inliers 0.13; outliers of spread
# 0.1, 0.3 and 1.0: 0.04 (tight), 0.11, and 0.38 (wide).
SETTINGS = {
  'published schedule': {},
  'to noise': {'num_steps': 250},
  'to noise tight': {'num_steps': 250, 'spread': 0.1},
  'to noise wide': {'num_steps': 250, 'spread': 1.0},
  'tight': {'spread': 0.1},
  'wide': {'spread': 1.0},
  'far': {'distance': 3.0},
  'few': {'num_outliers': 5},
}


def make_config(setting):
  """The study's config with a setting's values."""
  values = {**_BASE, **setting}
  config = read_config('configs/moons_dynamics.py:small')
  config.seed = values['seed']
  config.num_repeats = _REPEATS.value
  config.data.num_inliers = values['num_inliers']
  config.outliers.num = config.duplicates.num = values['num_outliers']
  config.outliers.distance = values['distance']
  config.outliers.spread = values['spread']
  config.model.num_steps = values['num_steps']
  num_points = values['num_inliers'] + 2 * values['num_outliers']
  config.train.batch_size = num_points // 2
  config.train.epochs = _EPOCHS.value
  first = max(1, _EPOCHS.value // 200)
  grid = np.geomspace(first, _EPOCHS.value, 16).round().astype(int)
  config.evaluate.epochs = (0, *(int(epoch) for epoch in np.unique(grid)))
  return config


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
        'lead': {
          kind: lead(found, kind, ratio=r, test_set=s)
          for kind in ('outlier', 'duplicate')
        },
      }
  return {**summary, 'canaries': stop_early(found)}


def lead(found, kind, **where):
  """How much more memorized a kind is than as many inliers, over training.

  The mean over the evaluations, whose epochs are about equal steps of log
  time, of the difference in excess among the samples near each.
  """
  own, inliers = (
    shares(found, k, **where).conditional for k in (kind, 'inlier_subset')
  )
  curve = mean_curve((own - inliers).mean(axis=0)[None])
  return {name: float(value[0]) for name, value in curve._asdict().items()}


def stop_early(found):
  """Where outliers, as canaries, stop training; the inliers' excess there."""
  at = (slice(None), slice(None), 0, 0, list(found.kinds).index('outlier'))
  copied, control = found.copied[at], found.swapped_copied[at]
  inliers = shares(found, 'inlier').conditional

  def first_alarm(trained, held_out):
    for visit, pair in enumerate(zip(trained, held_out, strict=True)):
      counts = CanaryCounts(*(int(count) for count in pair))
      if canaries_are_memorized(counts, level=_CANARY_LEVEL):
        return visit
    return None

  pooled = first_alarm(copied.sum(axis=1), control.sum(axis=1))
  single = [
    first_alarm(*pair) for pair in zip(copied.T, control.T, strict=True)
  ]
  stopped = [(visit, r) for r, visit in enumerate(single) if visit is not None]
  return {
    'all_repeats': None if pooled is None else {
      'epoch': found.epochs[pooled],
      'inlier_excess': inliers[pooled].mean(),
    },
    'single_repeats': {
      'stopped': len(stopped),
      'epochs': [found.epochs[visit] for visit, _ in stopped],
      'inlier_excess': [inliers[visit, r] for visit, r in stopped],
    },
    'inlier_excess_at_end': inliers[-1].mean(),
  }  # fmt: skip


def main(_) -> None:
  """Goes on with what is missing, and prints."""
  logging.set_verbosity(logging.INFO)
  out = pathlib.Path(_OUT.value)
  results = json.loads(out.read_text()) if out.exists() else {}
  for name, setting in SETTINGS.items():
    if _ONLY.value and name not in _ONLY.value:
      continue
    folder = pathlib.Path(_RUNS.value) / name.replace(' ', '_')
    if not (folder / 'report.html').exists():
      dynamics.run(make_config(setting), folder)
    results[name] = summarize(folder)
    write_json(out, results)
  write_png(out.with_suffix('.png'), results)
  print('| setting | test set | ' + ' | '.join(MEASURES) + ' | lead, % |')
  for name, summary in results.items():
    for test_set in ('with_outliers', 'without_outliers'):
      own = summary[f'{test_set}, r = 1.5']
      cells = [
        '{factor:.2f} ({low:.2f} to {high:.2f})'.format(**delay)
        for delay in own['delays']['outlier'].values()
      ]
      ahead = {k: 100 * v for k, v in own['lead']['outlier'].items()}
      cells.append('{mean:.1f} ({low:.1f} to {high:.1f})'.format(**ahead))
      print(f'| {name} | {test_set} | {" | ".join(cells)} |')


if __name__ == '__main__':
  app.run(main)
