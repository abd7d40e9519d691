"""When is what memorized? Inliers, outliers and near-duplicates over training
(Outliers Memorized Last, 2023): all repeats train at once, and at chosen epochs
as many samples as training points are compared with train and test.
"""

import pathlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from absl import logging
from ml_collections import ConfigDict

from memjax import files, run_folder, validate
from memjax.analysis.dynamics import report as dynamics_report
from memjax.analysis.dynamics.curves import DYNAMICS_FILE, Dynamics
from memjax.data import synthetic
from memjax.scores.kind_references import KINDS, MarkedSets, count_repeats
from memjax.studies.dynamics_programs import make_programs
from memjax.studies.dynamics_setting import (
  Setting,
  draw_repeat,
  make_setting,
  mark_repeat,
)
from memjax.training.canary import CanaryCounts, canaries_are_memorized
from memjax.training.epochs import EpochState
from memjax.training.resumable import run_resumable

__all__ = ['run']

# What may change in a folder that holds a run.
_FREE = ('config.train.checkpoint_seconds',)


def run(config: ConfigDict, workdir: pathlib.Path) -> None:
  """Trains, samples, counts and reports; resumes what is in the folder.

  Args:
    config: as in `configs/moons_dynamics.py`.
    workdir: created if missing; refused if it belongs to another config.
  """
  num_repeats = validate.integer('config.num_repeats', config.num_repeats, 1)
  validate.integer('config.seed', config.seed, 0, 2**32 - 1)
  setting = make_setting(config)
  draws = [draw_repeat(config, repeat) for repeat in range(num_repeats)]
  marked = [mark_repeat(config, draw, r) for r, draw in enumerate(draws)]
  programs = make_programs(config, draws)
  run_folder.claim(
    workdir,
    config.to_dict(),
    files.fingerprint(
      array for draw in draws for part in draw[:2] for array in part
    ),
    free=_FREE,
  )
  logging.info(
    '%d repeats of %d points (%s) for %d epochs, sampled %d times, on %s.',
    num_repeats,
    len(draws[0].train.points),
    config.data.shape,
    config.train.epochs,
    len(setting.visits),
    jax.default_backend(),
  )
  finished = run_resumable(
    programs.init(),
    programs.advance,
    config.train.epochs,
    workdir / 'checkpoints',
    visits=setting.visits,
    visit=_make_visit(setting, programs, marked, workdir),
    unit='points·models trained',
    units_per_step=num_repeats * len(draws[0].train.points),
    checkpoint_seconds=setting.checkpoint_seconds,
  )
  failed = np.asarray(finished.state.failed)
  if failed.all():
    raise RuntimeError(
      f'All {num_repeats} repeats diverged, the first in epoch {failed.min()}. '
      f'Try --config.train.learning_rate={config.train.learning_rate / 3:.1g}.'
    )
  visited = [epoch for epoch in setting.visits if epoch <= finished.step]
  dynamics_report.write(
    workdir,
    dynamics_report.Study(
      dynamics=_join(config, workdir, visited, draws, setting, marked),
      shape=config.data.shape,
      gaps=np.array([draw.gap for draw in draws]),
      failed=failed,
      stopped_at=finished.step if finished.is_stopped else None,
      marked=marked[0][0],
      samples={
        epoch: _load_samples(workdir, epoch)[0]
        for epoch in setting.shown
        if epoch in visited
      },
    ),
  )


def _make_visit(setting, programs, marked, workdir) -> Callable:
  """Samples all repeats, counts, and says whether to stop."""

  def visit(epoch: int, state: EpochState) -> bool:
    samples = programs.sample(state, epoch)
    counts = count_repeats(samples, marked, setting.ratios)
    loss = np.where(state.failed > 0, np.nan, np.asarray(state.loss))
    files.save_arrays(_part(workdir, epoch), **counts, loss=loss)
    if epoch in setting.shown:
      files.save_arrays(_samples(workdir, epoch), samples=samples)
    if (np.asarray(state.failed) > 0).all():
      return True
    return bool(setting.canary_level) and _must_stop(counts, setting)

  return visit


def _must_stop(counts: dict[str, Any], setting: Setting) -> bool:
  """Whether the outliers, as canaries, begin to be memorized: all repeats."""
  at = (slice(None), setting.canary_set, 0, KINDS.index('outlier'))
  return canaries_are_memorized(
    CanaryCounts(
      copied=int(np.nansum(counts['copied'][at])),
      control=int(np.nansum(counts['swapped_copied'][at])),
    ),
    level=setting.canary_level,
  )


def _part(workdir: pathlib.Path, epoch: int) -> pathlib.Path:
  return workdir / 'arrays' / 'parts' / f'counts_{epoch:06d}.npz'


def _samples(workdir: pathlib.Path, epoch: int) -> pathlib.Path:
  return workdir / 'arrays' / f'samples_epoch_{epoch:06d}.npz'


def _load_samples(workdir: pathlib.Path, epoch: int) -> np.ndarray:
  with np.load(_samples(workdir, epoch)) as saved:
    return saved['samples']


def _join(
  config: ConfigDict,
  workdir: pathlib.Path,
  epochs: list[int],
  draws: list[synthetic.Draw],
  setting: Setting,
  marked: list[list[MarkedSets]],
) -> Dynamics:
  """All visits' counts, in one file."""
  parts = []
  for epoch in epochs:
    with np.load(_part(workdir, epoch)) as part:
      parts.append({name: part[name] for name in part.files})
  train = marked[0][0].train
  dynamics = Dynamics(
    epochs=np.array(epochs),
    **{name: np.stack([part[name] for part in parts]) for name in parts[0]},
    num_samples=len(draws[0].train.points),
    members=np.array([len(np.unique(train.group[m])) for m in train.member.T]),
    kinds=KINDS,
    test_sets=tuple(config.evaluate.test_sets),
    ratios=setting.ratios,
  )
  files.save_arrays(workdir / DYNAMICS_FILE, **dynamics._asdict())
  return dynamics
