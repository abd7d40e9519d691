"""What a study of dynamics begins with: its config, checked, as objects."""

from typing import NamedTuple

import numpy as np
from ml_collections import ConfigDict

from memjax import validate
from memjax.data import synthetic
from memjax.scores.kind_references import TEST_SETS, MarkedSets, mark_kinds

__all__ = ['Setting', 'draw_repeat', 'make_setting', 'mark_repeat']

_SUBSET = 7  # 0, 1 and 2 are the draws of `synthetic.draw_points`


class Setting(NamedTuple):
  """The checked numbers of a config."""

  visits: list[int]
  shown: list[int]
  ratios: tuple[float, ...]
  canary_level: float  # of each visit's test; 0: none
  canary_set: int  # of the test sets, the one with outliers
  checkpoint_seconds: float


def draw_repeat(config: ConfigDict, repeat: int) -> synthetic.Draw:
  """One repeat's data."""
  outliers, duplicates = config.outliers, config.duplicates
  return synthetic.draw_points(
    config.data.shape,
    config.data.num_inliers,
    synthetic.Injection(
      num_outliers=outliers.num,
      outlier_distance=outliers.distance,
      outlier_spread=outliers.spread,
      outlier_direction=outliers.direction,
      min_gap=outliers.min_gap,
      num_duplicates=duplicates.num,
      num_copies=duplicates.copies,
      jitter=duplicates.jitter,
    ),
    seed=config.seed,
    repeat=repeat,
    num_test_inliers=config.data.num_test_inliers or None,
    noise=config.data.noise,
    data_dir=config.data.directory or None,
  )


def mark_repeat(
  config: ConfigDict, draw: synthetic.Draw, repeat: int
) -> list[MarkedSets]:
  """What the samples of a repeat are compared with, each test set."""
  names = config.evaluate.test_sets
  if not names:
    raise ValueError(
      f'config.evaluate.test_sets=(): expected one of {TEST_SETS} or more.'
    )
  sequence = np.random.SeedSequence([config.seed, repeat, _SUBSET])
  seed = int(sequence.generate_state(1)[0])
  return [mark_kinds(draw, name, seed=seed) for name in names]


def make_setting(config: ConfigDict) -> Setting:
  """The checked numbers of a config."""
  visits = _visits(config)
  train = config.train
  return Setting(
    visits=visits,
    shown=_shown(config, visits),
    ratios=_ratios(config),
    canary_level=_canary_level(config) / len(visits),
    canary_set=list(config.evaluate.test_sets).index('with_outliers')
    if config.stop.canary_level
    else 0,
    checkpoint_seconds=validate.real(
      'config.train.checkpoint_seconds', train.checkpoint_seconds, 0.0
    ),
  )


def _visits(config: ConfigDict) -> list[int]:
  """Epochs after which to sample: 0, every so many, and the last."""
  last = validate.integer('config.train.epochs', config.train.epochs, 1)
  if config.evaluate.epochs:
    given = (
      validate.integer('config.evaluate.epochs', epoch, 0, last)
      for epoch in config.evaluate.epochs
    )
    return sorted({*given, last})
  every = validate.integer('config.evaluate.every', config.evaluate.every, 1)
  return sorted({*range(0, last, every), last})


def _shown(config: ConfigDict, visits: list[int]) -> list[int]:
  """The visits whose samples are kept: the nearest to the given ones."""
  last = config.train.epochs
  given = config.evaluate.sample_epochs or (0, last // 4, last // 2, last)
  nearest = lambda epoch: min(visits, key=lambda visit: abs(visit - epoch))
  return sorted({nearest(epoch) for epoch in given})


def _ratios(config: ConfigDict) -> tuple[float, ...]:
  """Ratios of true distances: the given ones, then those of squared ones."""
  ratios = [
    validate.real('config.evaluate.ratios', r, 1.0, np.inf, strict=True)
    for r in config.evaluate.ratios
  ]
  if not ratios:
    raise ValueError(
      'config.evaluate.ratios=(): expected one ratio above 1 or more.'
    )
  return (*ratios, *(float(np.sqrt(r)) for r in ratios))


def _canary_level(config: ConfigDict) -> float:
  """The level at which to stop; 0: never. Canaries need controls."""
  level = config.stop.canary_level
  if not level:
    return 0.0
  validate.real('config.stop.canary_level', level, 0.0, 1.0, strict=True)
  validate.integer('config.outliers.num', config.outliers.num, 1)
  if 'with_outliers' not in config.evaluate.test_sets:
    raise ValueError(
      f'config.evaluate.test_sets={tuple(config.evaluate.test_sets)}: expected '
      "'with_outliers' among them, the controls of config.stop.canary_level."
    )
  return float(level)
