"""More data, later memorization: τ_mem grows with n, τ_gen does not.

  python experiments/memorization_time.py --runs=runs/memorization_time

The tiny model on n points of the moons, nothing injected, batches of 32
whatever n is; time is counted in steps. τ_mem: the excess of memorized samples
over chance reaches a tenth, or a fifth. τ_gen: the energy distance of the
samples to fresh points has come 19/20 of the way from the untrained
model's to its least. T = 250, since 50 steps of the published schedule start
from the wrong noise, and so never generate well.
Resumes; writes `results/memorization_time.json` and `memorization_time.png`.

Reference: Bonnaire et al. (2025), arXiv 2505.17638.
"""

import pathlib

import numpy as np
from absl import app, flags, logging
from scipy.optimize import isotonic_regression
from scipy.spatial.distance import cdist

from memjax.analysis import drawing
from memjax.analysis.dynamics.curves import mean_curve, read_dynamics, shares
from memjax.analysis.page import png
from memjax.data.synthetic import draw_shape
from memjax.files import write_atomically, write_json
from memjax.main import read_config
from memjax.studies import dynamics

_BATCH = 32
_LEVELS = {'memorization': 0.1, 'more memorization': 0.2}
_DONE = 0.95
_LABELS = {
  'memorization': (drawing.VERMILION, 's', 'excess of memorized samples 0.1'),
  'more memorization': (drawing.INK, '^', 'excess of memorized samples 0.2'),
  'generalization': (drawing.BLUE, 'o', '19/20 of the way to the best samples'),
}


def make_config(size, repeats, steps):
  """The study without injected points, sampled at about equal log steps."""
  config = read_config('configs/moons_dynamics.py:small')
  config.num_repeats = repeats
  config.data.num_inliers = size
  config.outliers.num = config.duplicates.num = 0
  config.train.batch_size = _BATCH
  config.model.num_steps = 250
  steps = steps * max(size // 128, 1) ** 2
  config.train.epochs = steps * _BATCH // size
  grid = np.geomspace(30, steps, 24) * _BATCH / size
  visits = {*grid.round().astype(int), config.train.epochs}
  config.evaluate.epochs = (0, *sorted(int(v) for v in visits if v))
  config.evaluate.sample_epochs = config.evaluate.epochs
  config.evaluate.test_sets = ('with_outliers',)
  return config


def within(x):
  """E|X − X'|, unbiased."""
  return cdist(x, x).sum() / (len(x) * (len(x) - 1))


def crossing(steps, curve, target):
  """Where the nearest increasing curve is at the target, interpolated."""
  curve = isotonic_regression(curve).x
  above = np.flatnonzero(curve >= target)
  if not above.size:
    return float('inf')
  k = above[0]
  if k == 0:
    return float(steps[0])
  share = (target - curve[k - 1]) / (curve[k] - curve[k - 1])
  return float(steps[k - 1] + share * (steps[k] - steps[k - 1]))


def measure(folder, size):
  """Times of each repeat's bootstrap, in steps, and the curves."""
  found = read_dynamics(folder)
  steps = found.epochs * (size // _BATCH)
  excess = shares(found, 'all').excess
  fresh = draw_shape('moons', 2000, seed=12345, is_independent=True)
  spread = within(fresh)
  distance = []
  for epoch in found.epochs:
    with np.load(folder / 'arrays' / f'samples_epoch_{epoch:06d}.npz') as file:
      distance.append([
        2 * cdist(x, fresh).mean() - within(x) - spread
        for x in file['samples']
      ])  # fmt: skip
  distance = np.array(distance)

  def progress(rows):
    mean = distance[:, rows].mean(axis=1)
    return (mean[0] - mean) / (mean[0] - mean.min())

  rng = np.random.default_rng(0)
  times = {name: [] for name in (*_LEVELS, 'generalization')}
  draws = rng.integers(0, excess.shape[1], (500, excess.shape[1]))
  for rows in [np.arange(excess.shape[1]), *draws]:
    mean = excess[:, rows].mean(axis=1)
    for name, level in _LEVELS.items():
      times[name].append(crossing(steps, mean, level))
    times['generalization'].append(crossing(steps, progress(rows), _DONE))
  summary = {
    name: {
      'steps': values[0],
      # Resamples that never come so far are later than all others.
      'low': float(np.quantile(values[1:], 0.025, method='inverted_cdf')),
      'high': float(np.quantile(values[1:], 0.975, method='inverted_cdf')),
    }
    for name, values in times.items()
    if np.isfinite(values[0])
  }
  curves = {
    'steps': steps,
    'excess': mean_curve(excess).mean,
    'energy_distance': distance.mean(axis=1),
  }
  return {**summary, 'curves': curves}


def draw(results):
  """τ against n, both logarithmic; and the exponents."""
  sizes = np.array([int(n) for n in results])
  curves, exponents = {}, dict.fromkeys(_LABELS, float('nan'))
  for name in _LABELS:
    found = [results[n].get(name, {}) for n in results]
    curves[name] = [
      np.array([f.get(key, np.nan) for f in found], np.float64)
      for key in ('steps', 'low', 'high')
    ]
    middle = curves[name][0]
    known = np.isfinite(middle)
    if known.sum() > 1:
      line = np.polyfit(np.log(sizes[known]), np.log(middle[known]), 1)
      exponents[name] = float(line[0])
  figure, (ax,) = drawing.start(
    3.8,
    'Time to memorize grows like n^{memorization:.2f} or n^{more memorization:'
    '.2f}, time to generate like n^{generalization:.2f}'.format(**exponents),
    'tiny-diffusion on n points of the moons; 95 % intervals over repeats',
  )
  top = 2 * np.nanmax([values[0] for values in curves.values()])
  for name, (color, marker, label) in _LABELS.items():
    middle, low, high = curves[name]
    high = np.minimum(high, 10 * top)  # beyond the frame: never in the run
    ax.errorbar(
      sizes, middle, np.maximum([middle - low, high - middle], 0), color=color,
      marker=marker, capsize=3, lw=1.6, label=label,
    )  # fmt: skip
  ax.set(xscale='log', yscale='log', xlabel='training points n',
         ylabel='steps of 32 points')  # fmt: skip
  ax.set_ylim(top=top)
  ax.set_xticks(sizes, [str(n) for n in sizes])
  ax.minorticks_off()
  return drawing.finish(figure), exponents


def main(runs, out, sizes, repeats, steps):
  """Goes on with what is missing, prints and draws."""
  logging.set_verbosity(logging.INFO)
  out, results = pathlib.Path(out), {}
  for size in sizes:
    folder = pathlib.Path(runs) / f'n_{size}'
    dynamics.run(make_config(size, repeats, steps), folder)
    results[str(size)] = measure(folder, size)
    print(size, {**results[str(size)], 'curves': None}, flush=True)
    write_json(out, {'n': results})
  figure, exponents = draw(results)
  write_json(out, {'n': results, 'exponents': exponents})
  content = png(figure)
  write_atomically(out.with_suffix('.png'), lambda file: file.write(content))


if __name__ == '__main__':
  _RUNS = flags.DEFINE_string(
    'runs', 'runs/memorization_time', 'Where runs go.'
  )
  _OUT = flags.DEFINE_string(
    'out', 'experiments/results/memorization_time.json', 'Where results go.'
  )
  _SIZES = flags.DEFINE_list('sizes', ['32', '64', '128', '256'], 'n.')
  _REPEATS = flags.DEFINE_integer('repeats', 12, 'Repeats of each n.')
  _STEPS = flags.DEFINE_integer('steps', 8000, 'Steps; more for n > 128.')
  app.run(
    lambda _: main(
      _RUNS.value,
      _OUT.value,
      [int(size) for size in _SIZES.value],
      _REPEATS.value,
      _STEPS.value,
    )
  )
