"""The tables of a study of rejection."""

from typing import NamedTuple

import numpy as np

from memjax.analysis import page
from memjax.analysis.page import format_number
from memjax.analysis.rejection.analysis import ArmScores, Difference
from memjax.analysis.rejection.verdict import (
  WORDS,
  ArmResult,
  Study,
  with_interval,
)

__all__ = ['Summary', 'both_arms', 'by_class', 'by_seed']


class Summary(NamedTuple):
  """Each arm over its seeds, in both embeddings, and the differences."""

  arms: dict[str, tuple[ArmScores, ArmScores]]
  differences: tuple[dict[str, Difference], ...]  # none with one arm
  num_seeds: int


_LABELS = {
  'copied_share': 'estimated share of copies',
  'c_t': 'C_T (negative = nearer to train than test images)',
  'class_c_t': 'C_T, mean over classes',
  'frechet': 'Fréchet distance to test images',
  'frechet_train': 'Fréchet distance to training images',
  'precision': 'precision (share on the data)',
  'recall': 'recall (share of the data reached)',
  'density': 'density',
  'coverage': 'coverage',
  'mean_distance': 'mean distance to the nearest training image',
  'share_below': 'share within the threshold',
}


def both_arms(study: Study, summary: Summary) -> page.Section:
  """All means with intervals, both embeddings."""
  rows = []
  for k, kind in enumerate(('rejecting', 'judging')):
    for key, label in _LABELS.items():
      values = [arm[k].mean[key] for arm in summary.arms.values()]
      if not np.isfinite(values).any():
        continue
      row = [f'{label} [{kind}]', *map(format_number, values)]
      if summary.differences:
        row.append(with_interval(summary.differences[k][key]))
      rows.append(row)
  columns = ['number', *(WORDS[name] for name in summary.arms)]
  if summary.differences:
    columns.append('difference')
  return page.Section(
    'With and without rejection',
    body=f'Rejecting embedding: {study.sets[0].name}. Judging embedding: '
    f'{study.sets[1].name}. Distances: {study.sets[0].metric}.',
    table=page.Table(columns, rows),
  )


def by_class(study: Study, name: str, result: ArmResult) -> page.Section:
  """C_T of each class over seeds, in the judging embedding."""
  lasted = np.flatnonzero(result.failed_step < 0)
  values = np.array([result.models[seed][1].by_class for seed in lasted])
  with np.errstate(invalid='ignore'):
    mean = values.mean(axis=0)
  spread = (
    values.std(axis=0, ddof=1)
    if len(values) > 1
    else np.full(len(mean), np.nan)
  )
  rows = [
    [int(label), mean[label], spread[label]]
    for label in np.flatnonzero(np.isfinite(mean))
  ]
  return page.Section(
    f'Classes {WORDS[name]}',
    table=page.Table(
      ['class', 'C_T (mean over seeds)', 'standard deviation over seeds'],
      [[a, float(b), float(c)] for a, b, c in rows],
      f'C_T of each class against its own images, {study.sets[1].name}',
      True,
    ),
  )


def by_seed(study: Study, results: dict[str, ArmResult]) -> page.Section:
  """C_T and Fréchet distance of every model."""
  rows = [
    [
      f'{WORDS[name]}, seed {seed}'
      + (' (stopped early)' if result.failed_step[seed] >= 0 else ''),
      *(
        value
        for scores in model
        for value in (scores.c_t, scores.c_t_p_value, scores.frechet)
      ),
    ]
    for name, result in results.items()
    for seed, model in enumerate(result.models)
  ]
  columns = ['model', 'C_T [rejecting]', 'p', 'Fréchet [rejecting]',
             'C_T [judging]', 'p', 'Fréchet [judging]']  # fmt: skip
  return page.Section(
    'Every seed', table=page.Table(columns, rows, 'Seed by seed', True)
  )
