"""Are outliers memorized last? The claim, tested where it can be.

  python experiments/outliers_last.py --runs=runs/outliers_last

For each setting, 20 repeats of the tiny model train at once until it memorizes.
When does the excess among the samples near outliers pass 0.1, and when among
those near inliers? T = 50, as published, and T = 250, which reaches noise;
clusters tighter, wider, farther, and both. Each against test sets with and
without outliers. Resumes; writes `results/outliers_last.json` and a figure.
With `--only`, settings that are not run again stay in it. Small sets (100
inliers), because only there does a model of this size memorize within minutes
on a CPU; 'large' shows what it does with 2,000.
"""

import json
import pathlib

import numpy as np
from absl import app, flags, logging
from outlier_timing import summarize
from outliers_last_drawing import write_png

from memjax import validate
from memjax.files import write_json
from memjax.main import read_config
from memjax.studies import dynamics

_BASE = {
  'num_inliers': 100, 'num_outliers': 20, 'distance': 2.0, 'spread': 0.3,
  'num_steps': 50, 'batch_size': None, 'epochs': None,
}  # fmt: skip
# Median distance to the nearest other point: inliers 0.10; outliers of spread
# 0.1, 0.3 and 1.0: 0.04 (tight), 0.12, and 0.42 (wide). Wide clusters at two
# standard deviations overlap the inliers, at four they do not.
SETTINGS = {
  'published schedule': {},
  'to noise': {'num_steps': 250},
  'tight': {'num_steps': 250, 'spread': 0.1},
  'wide': {'num_steps': 250, 'spread': 1.0},
  'far': {'num_steps': 250, 'distance': 4.0},
  'far wide': {'num_steps': 250, 'distance': 4.0, 'spread': 1.0},
  'few': {'num_steps': 250, 'num_outliers': 8},
  'large': {
    'num_inliers': 2000,
    'num_outliers': 100,
    'batch_size': 100,
    'epochs': 500,
  },
}


def make_config(name, repeats, epochs):
  """The study's config with a setting's values, and a seed of its own."""
  values = {**_BASE, **SETTINGS[validate.one_of('only', name, SETTINGS)]}
  config = read_config('configs/moons_dynamics.py:small')
  config.seed = list(SETTINGS).index(name)
  config.num_repeats = repeats
  config.data.num_inliers = values['num_inliers']
  config.outliers.num = config.duplicates.num = values['num_outliers']
  config.outliers.distance = values['distance']
  config.outliers.spread = values['spread']
  config.model.num_steps = values['num_steps']
  num_points = values['num_inliers'] + 2 * values['num_outliers']
  config.train.batch_size = values['batch_size'] or num_points // 2
  epochs = min(values['epochs'] or epochs, epochs)
  config.train.epochs = epochs
  first = max(1, epochs // 200)
  grid = np.geomspace(first, epochs, 16).round().astype(int)
  config.evaluate.epochs = (0, *(int(epoch) for epoch in np.unique(grid)))
  return config


def cell(value, low, high, scale=1.0):
  """A number with its interval; a dash for what is not known."""
  numbers = scale * np.array([value, low, high], np.float64)
  if np.isnan(numbers).any():
    return '—'
  return '{:.2f} ({:.2f} to {:.2f})'.format(*numbers)


def main(runs, out, repeats, epochs, only):
  """Goes on with what is missing, and prints."""
  logging.set_verbosity(logging.INFO)
  out = pathlib.Path(out)
  results = json.loads(out.read_text()) if out.exists() else {}
  for name in only or SETTINGS:
    folder = pathlib.Path(runs) / name.replace(' ', '_')
    dynamics.run(make_config(name, repeats, epochs), folder)
    results[name] = summarize(folder)
    write_json(out, results)
  write_png(out.with_suffix('.png'), results)
  print('| setting | test set | passes 0.1 | 0.2 | ahead by, points | at end |')
  for name, summary in results.items():
    for test_set in ('with_outliers', 'without_outliers'):
      own = summary[f'{test_set}, r = 1.5']
      cells = [
        cell(*(late[k] for k in ('factor', 'low', 'high')))
        for late in own['passing']['outlier'].values()
      ]
      ahead = own['lead']['outlier']
      cells.append(
        cell(*(ahead[k] for k in ('mean', 'low', 'high')), scale=100)
      )
      ends = [
        100 * own['half'][kind]['conditional']['final']
        for kind in ('outlier', 'inlier')
        if own['half'][kind]['conditional']['final'] is not None
      ]
      cells.append(', '.join(f'{end:.0f}' for end in ends))
      print(f'| {name} | {test_set} | {" | ".join(cells)} |')


if __name__ == '__main__':
  _RUNS = flags.DEFINE_string('runs', 'runs/outliers_last', 'Where runs go.')
  _OUT = flags.DEFINE_string(
    'out', 'experiments/results/outliers_last.json', 'Where results go.'
  )
  _REPEATS = flags.DEFINE_integer('repeats', 20, 'Repeats of each setting.')
  _EPOCHS = flags.DEFINE_integer('epochs', 4000, 'At most.')
  _ONLY = flags.DEFINE_list('only', [], 'Names of settings; empty: all.')
  app.run(
    lambda _: main(
      _RUNS.value, _OUT.value, _REPEATS.value, _EPOCHS.value, _ONLY.value
    )
  )
