"""Which metric reacts to which change of the samples, and how strongly?

  python experiments/sanity_suite.py

Known changes of an honest generator's samples, in 2 to 1,024 dimensions. Each
cell is how far a metric moves from where it is for honest samples, in standard
deviations of honest draws: within ±3 it does not react. The last column is no
distance but the share of draws in which `copying_test` has p ≤ 0.05. Resumes;
prints the table; results go to `experiments/results/sanity_suite.json`.
"""

import json
import pathlib

import numpy as np
from absl import app, flags

import memjax
from memjax.files import write_json

_OUT = flags.DEFINE_string(
  'out',
  str(pathlib.Path(__file__).parent / 'results' / 'sanity_suite.json'),
  'Where results go.',
)
_DRAWS = flags.DEFINE_integer('draws', 3, 'Draws of each case.')
_SIZE = flags.DEFINE_integer('size', 400, 'Points in each of the three sets.')
_DIMENSIONS = flags.DEFINE_list('dimensions', ['2', '16', '128', '1024'], 'd.')

_SHIFT, _SHARE = 0.3, 0.2
_HONEST = 3  # times as many honest draws, which set the scale
CASES = (
  'honest', 'shifted by 0.3', 'scaled by 0.8', 'scaled by 1.25',
  'a mode dropped', 'a mode invented', 'copies 20 %', 'near-copies 20 %',
  'copies 100 %', 'modes shrunk',
)  # fmt: skip
METRICS = (
  'kernel distance', 'Fréchet', 'FLD', 'FLD gap', 'gap ratio', 'DCR share',
  'MiFID distance', 'precision', 'recall', 'density', 'coverage', 'C_T',
  'authenticity', 'attack AUROC',
)  # fmt: skip


def draw(case: str, dimension: int, rng: np.random.Generator):
  """(train, test, generated): four modes of unit variance, and a change."""
  size = _SIZE.value
  means = 3 * np.random.default_rng(5).normal(size=(5, dimension))
  sets = []
  for _ in range(3):
    mode = rng.integers(0, 4, size)
    sets.append(means[mode] + rng.normal(size=(size, dimension)))
  train, test, generated = sets
  count = round(_SHARE * size)
  if case == 'shifted by 0.3':
    generated = generated + _SHIFT
  elif case.startswith('scaled by'):
    centre = means[:4].mean(axis=0)
    generated = centre + float(case.split()[-1]) * (generated - centre)
  elif case == 'a mode dropped':
    generated += (means[mode % 3] - means[mode]) * (mode == 3)[:, None]
  elif case == 'a mode invented':
    generated[:count] += means[4] - means[mode[:count]]
  elif case == 'modes shrunk':
    generated = means[mode] + 0.6 * (generated - means[mode])
  elif 'copies' in case:
    count = size if '100' in case else count
    generated[:count] = train[rng.choice(size, count, replace=False)]
    if case.startswith('near'):
      generated[:count] += 0.1 * rng.normal(size=(count, dimension))
  return train, test, generated


def measure(train, test, generated, seed: int) -> list[float]:
  """Every metric, and the p-value of `copying_test`."""
  null = {'num_permutations': 1, 'seed': seed}
  likelihood = memjax.feature_likelihood_divergence(
    train, test, generated, num_baselines=1, seed=seed
  )
  near = lambda points: np.asarray(
    memjax.nearest_neighbors(points, generated).distance
  )[:, 0].astype(float)
  attack = memjax.membership_inference(-near(train), -near(test))
  copied = memjax.memorization_informed_frechet(train, generated, **null)
  balls = memjax.precision_recall(train, generated)
  values = (
    memjax.kernel_distance(test, generated).value,
    memjax.frechet_distance(test, generated),
    likelihood.value,
    likelihood.gap,
    memjax.gap_ratio(train, generated).fraction,
    memjax.dcr_share(train, test, generated, **null).share,
    copied.distance,
    *balls,
    memjax.data_copying_test(train, test, generated, **null).c_t,
    memjax.authenticity(train, generated).fraction,
    attack.auroc,
    memjax.copying_test(
      train, test, generated, num_permutations=99, seed=seed
    ).p_value,
  )
  return [float(value) for value in values]


def reactions(found: list[list[float]], honest: list[list[float]]) -> list[str]:
  """Cells of one row."""
  values, null = np.array(found)[:, :-1], np.array(honest)[:, :-1]
  # A share that no honest draw moves is told in steps of one sample.
  spread = null.std(axis=0, ddof=1)
  spread = np.where(spread > 0, spread, 1 / _SIZE.value)
  z = (values.mean(axis=0) - null.mean(axis=0)) / spread
  cells = [f'{v:+.0f}' if abs(v) < 1000 else f'{v:+.0e}' for v in z]
  p_values = np.array(found)[:, -1]
  return [*cells, f'{(p_values <= 0.05).mean():.2f}']


def main(_) -> None:
  """Goes on with what is missing, and prints the table."""
  path = pathlib.Path(_OUT.value)
  done = json.loads(path.read_text()) if path.exists() else {}
  dimensions = [int(d) for d in _DIMENSIONS.value]
  for dimension in dimensions:
    for case in CASES:
      rows = done.setdefault(f'{case}, d = {dimension}', [])
      draws = _DRAWS.value * (_HONEST if case == 'honest' else 1)
      for seed in range(len(rows), draws):
        rng = np.random.default_rng([seed, dimension])
        rows.append(measure(*draw(case, dimension, rng), seed + 10_000))
        write_json(path, done)
  print(f'| case | {" | ".join(METRICS)} | copying_test |')
  print('|' + '---|' * (len(METRICS) + 2))
  for dimension in dimensions:
    honest = done[f'{CASES[0]}, d = {dimension}']
    for case in CASES:
      name = f'{case}, d = {dimension}'
      print(f'| {name} | {" | ".join(reactions(done[name], honest))} |')


if __name__ == '__main__':
  app.run(main)
