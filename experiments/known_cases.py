"""Which test finds which fault of a generator? Known cases, repeated draws.

  python experiments/known_cases.py --out=known_cases.json

For each case and dimension: the share of draws in which each test has p ≤ 0.05,
and the verdicts. The row "honest" is each test's rate of false alarms. Resumes;
with --images the data are Fashion-MNIST and the generators kernel density
estimates of their training set. Prints the tables.
"""

import json
import pathlib
from collections import Counter

import numpy as np
from absl import app, flags

from memjax.analysis.samples.analysis import analyze_samples
from memjax.analysis.samples.verdict import judge_samples
from memjax.data.sources import load_dataset
from memjax.files import write_json
from memjax.scores.distance_ratio import memorized_samples

_OUT = flags.DEFINE_string(
  'out', '', 'Where results go; default: results/known_cases[_images].json.'
)
_DRAWS = flags.DEFINE_integer('draws', 50, 'Draws of each case.')
_SIZE = flags.DEFINE_integer('size', 500, 'Points in each of the three sets.')
_IMAGES = flags.DEFINE_bool('images', False, 'Fashion-MNIST instead.')

_PERMUTATIONS = 199
_CASES = (
  'honest', 'copies 1 %', 'copies 5 %', 'copies 20 %', 'near-copies 1 %',
  'near-copies 5 %', 'near-copies 20 %', 'shrunk modes', 'lost modes', 'noise',
  'fitted Gaussian',
)  # fmt: skip
_BANDWIDTHS = (0, 2, 5, 10, 20, 40, 80)  # of 255
_TESTS = ('copying', 'ratio 1.5', 'C_T', 'authenticity', 'precision',
          'coverage', 'mixing', 'Fréchet')  # fmt: skip


def mixture(rng, dimension):
  """Points of five Gaussian modes, 3 standard deviations apart on average."""
  means = np.random.default_rng(5).normal(size=(5, dimension)) * 3
  label = rng.integers(0, 5, _SIZE.value)
  return means[label] + rng.normal(size=(_SIZE.value, dimension)), label, means


def draw(case, dimension, rng):
  """(train, test, generated) of one case."""
  train, test = (mixture(rng, dimension)[0] for _ in range(2))
  generated, label, means = mixture(rng, dimension)
  name, _, share = case.partition('copies ')
  if share:
    count = round(int(share[:-2]) / 100 * len(train))
    generated[:count] = train[rng.choice(len(train), count, replace=False)]
    if name:  # near-copies
      generated[:count] += 0.2 * rng.normal(size=(count, dimension))
  elif case == 'shrunk modes':
    generated = means[label] + 0.6 * (generated - means[label])
  elif case == 'lost modes':
    generated += means[label % 3] - means[label]
  elif case == 'noise':
    generated += 0.7 * rng.normal(size=generated.shape)
  elif case == 'fitted Gaussian':
    covariance = np.cov(train.T)
    generated = rng.multivariate_normal(train.mean(0), covariance, len(train))
  return train, test, generated


def draw_images(bandwidth, rng):
  """Fashion-MNIST and a kernel density estimate of the training images."""
  pixels = load_dataset('fashion_mnist').images.reshape(60_000, -1)
  rows = rng.choice(60_000, 3 * _SIZE.value, replace=False)
  train, test, honest = np.split(pixels[rows].astype(np.float64), 3)
  if bandwidth is None:
    return train, test, honest
  centres = train[rng.integers(0, len(train), len(train))]
  noise = bandwidth * rng.normal(size=train.shape)
  return train, test, np.clip(np.round(centres + noise), 0, 255)


def measure(sets, seed):
  """p of each test, and the kind of verdict."""
  options = {'num_permutations': _PERMUTATIONS, 'seed': seed}
  found = analyze_samples(*sets, **options, estimate_power=False, measure=False)
  ratio = memorized_samples(*sets, **options)
  p_values = (
    found.copying.p_value, ratio.p_value, found.data_copying.p_value,
    found.authenticity.p_value, found.coverage.precision.p_value,
    found.coverage.coverage.p_value, found.mixing.p_value,
    found.frechet.p_value,
  )  # fmt: skip
  return [*map(float, p_values)], judge_samples(found, _PERMUTATIONS).kind


def main(_) -> None:
  """Goes on with what is missing, and prints."""
  name = 'known_cases_images' if _IMAGES.value else 'known_cases'
  default = pathlib.Path(__file__).parent / 'results' / f'{name}.json'
  path = pathlib.Path(_OUT.value or default)
  done = json.loads(path.read_text()) if path.exists() else {}
  keys = [(case, d) for d in (2, 8, 64) for case in _CASES]
  if _IMAGES.value:
    keys = [('honest', None), *((f'KDE, h = {h}', h) for h in _BANDWIDTHS)]
  for case, at in keys:
    rows = done.setdefault(f'{case}, d = {784 if _IMAGES.value else at}', [])
    for seed in range(len(rows), _DRAWS.value):
      rng = np.random.default_rng([seed, 1])
      sets = draw_images(at, rng) if _IMAGES.value else draw(case, at, rng)
      rows.append(measure(sets, seed + 10_000))
      write_json(path, done)
  print(f'| case | {" | ".join(_TESTS)} | verdicts |')
  for name, rows in done.items():
    rates = np.mean([np.array(p) <= 0.05 for p, _ in rows], axis=0)
    kinds = Counter(kind for _, kind in rows).most_common()
    verdicts = ', '.join(f'{kind} {count}' for kind, count in kinds)
    print(f'| {name} | {" | ".join(f"{r:.2f}" for r in rates)} | {verdicts} |')


if __name__ == '__main__':
  app.run(main)
