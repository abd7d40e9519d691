"""The report of a K-fold memorization study: numbers, tables, pictures, words.

`write` leaves `report.html` and `report.json`, `scores.csv`, `figures/*.png`
and `arrays/scores.npz` in the workdir; every number names its array.
"""

import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from memjax import files
from memjax.analysis import report_parts
from memjax.analysis.memorization.analysis import QUANTILES, Analysis
from memjax.analysis.memorization.attacks_section import (
  ARRAYS,
  membership_arrays,
  membership_record,
)
from memjax.analysis.memorization.report_page import (
  make_page,
  make_unscored_page,
)
from memjax.analysis.memorization.report_sections import make_sections
from memjax.analysis.memorization.study import (
  FullRun,
  Study,
  has_twin,
  loses_colours,
  share_rough,
)
from memjax.analysis.memorization.verdict import Verdict, judge
from memjax.stats import LEVEL

__all__ = ['FullRun', 'Study', 'write', 'write_unscored']

_SCORES = 'arrays/scores.npz'
_COLUMNS = ('score', 'std_err', 'p', 'q', 'U', 'V', 'null_mean', 'log_mean_exp')


def write(workdir: pathlib.Path, study: Study, analysis: Analysis) -> Verdict:
  """Writes every result of a study into its folder; returns the verdict."""
  excluded = sum(d['excluded'] for d in study.divergences)
  twins = has_twin(study)
  num_twins = None if twins is None else int(twins[analysis.is_scored].sum())
  verdict = judge(
    analysis,
    share_excluded=excluded / len(study.repeat),
    share_rough=share_rough(study),
    num_twins=num_twins or 0,
    loses_colours=loses_colours(study),
  )
  _write_arrays(workdir, study, analysis)
  _write_csv(workdir / 'scores.csv', study, analysis)
  sections = [
    report_parts.write_figure(workdir, section)
    for section in make_sections(study, analysis)
  ]
  attacks = analysis.membership
  files.save_arrays(workdir / ARRAYS, **membership_arrays(attacks))
  record = _write_record(
    workdir,
    study,
    verdict,
    {**_numbers(study, analysis), 'num_items_with_twin': num_twins},
    membership_inference=membership_record(attacks),
  )
  report_parts.write_page(
    workdir, make_page(study, analysis, verdict, sections, record)
  )
  return verdict


def write_unscored(workdir: pathlib.Path, study: Study) -> None:
  """Says which models diverged, when too few are left to score anything."""
  excluded = sum(d['excluded'] for d in study.divergences)
  verdict = Verdict(
    'not_valid',
    f'No verdict: {excluded} of {len(study.repeat)} models diverged, and '
    'nothing can be scored with those that are left.',
    'Try a lower learning rate.',
    float('nan'),
    (),
  )
  nothing = np.full(len(study.ids), np.nan)
  _write_table(workdir / 'scores.csv', study, dict.fromkeys(_COLUMNS, nothing))
  record = _write_record(workdir, study, verdict, {})
  report_parts.write_page(workdir, make_unscored_page(study, verdict, record))


def _write_record(workdir, study, verdict, numbers, **more) -> dict[str, Any]:
  """Writes report.json; returns what config.json knows."""
  return report_parts.write_record(
    workdir,
    {
      'verdict': verdict._asdict(),
      'numbers': numbers,
      **more,
      'models': {
        'number': len(study.repeat),
        'excluded': sum(d['excluded'] for d in study.divergences),
        'diverged': study.divergences,
      },
    },
  )


def _write_arrays(workdir, study: Study, analysis: Analysis) -> None:
  files.save_arrays(
    workdir / 'arrays' / 'held_out.npz',
    held_out=study.held_out,
    repeat=study.repeat,
  )
  files.save_arrays(
    workdir / _SCORES,
    ids=study.ids,
    epochs=analysis.epochs,
    score_by_epoch=analysis.score_by_epoch,
    null_quantiles=analysis.null_quantiles,
    null=analysis.null,
    published=analysis.published,
    **_estimator_arrays(analysis),
    **analysis.scores._asdict(),
    **analysis.test._asdict(),
  )


def _estimator_arrays(analysis: Analysis) -> dict[str, np.ndarray]:
  """`_estimator_columns`, and the global p-values behind them."""
  part = analysis.estimator_part
  if part is None:
    return {}
  return {
    **_estimator_columns(analysis),
    'encoder_global_p_value': part.encoder_test.global_p_value,
    'estimator_part_global_p_value': part.part_test.global_p_value,
  }


def _write_csv(path: pathlib.Path, study: Study, analysis: Analysis) -> None:
  values = (
    analysis.scores.score,
    analysis.scores.std_err,
    analysis.test.p_value,
    analysis.test.q_value,
    analysis.scores.log_px_in,
    analysis.scores.log_px_out,
    analysis.test.null_mean,
    analysis.published,
  )
  columns = dict(zip(_COLUMNS, values, strict=True))
  if analysis.estimator_part is not None:
    columns |= _estimator_columns(analysis)
  _write_table(path, study, columns)


def _estimator_columns(analysis: Analysis) -> dict[str, np.ndarray]:
  """The published scores and the estimator's part, [n]; NaN without a score."""
  part = analysis.estimator_part
  assert part is not None
  columns = {}
  for name, scores, test in (
    ('encoder', part.encoder, part.encoder_test),
    ('estimator_part', part.part, part.part_test),
  ):
    for field, values in (
      ('score', scores.score),
      ('std_err', scores.std_err),
      ('p', test.p_value),
      ('q', test.q_value),
      ('null_mean', test.null_mean),
      ('null_std', test.null_std),
    ):
      whole = np.full(analysis.is_scored.size, np.nan)
      whole[analysis.is_scored] = values
      columns[f'{name}_{field}'] = whole
  return columns


def _write_table(
  path: pathlib.Path, study: Study, columns: Mapping[str, np.ndarray]
) -> None:
  """One row an item."""
  labels = [''] * len(study.ids) if study.labels is None else study.labels
  floats = {key: column.astype(float) for key, column in columns.items()}
  files.write_csv(path, {'id': study.ids, 'label': labels, **floats})


def _numbers(study: Study, analysis: Analysis) -> dict[str, Any]:
  """The numbers of the report, each beside the array that it comes from."""
  score = analysis.scores.score[analysis.is_scored]
  found = analysis.test.q_value[analysis.is_scored] <= LEVEL

  def number(value, array, **more):
    return {'value': value, 'array': f'{_SCORES}:{array}', **more}

  numbers: dict[str, Any] = {
    'estimator': analysis.estimator,
    'num_items': len(study.ids),
    'num_items_scored': int(analysis.is_scored.sum()),
    'num_repeats': analysis.num_repeats,
    'num_folds': analysis.num_folds,
    'num_permutations': analysis.num_permutations,
    'mean_score': number(*_with_interval(analysis.mean, 'score')),
    'quantile_95': number(*_with_interval(analysis.quantile_95, 'score')),
    'min_score': number(score.min(), 'score'),
    'max_score': number(score.max(), 'score'),
    'null_mean': number(
      float(np.nanmean(analysis.test.null_mean)), 'null_mean'
    ),
    'num_found': number(int(found.sum()), 'q_value', q_limit=LEVEL),
    'global_p_value_of_mean': number(
      analysis.test.global_p_value[0], 'global_p_value'
    ),
    'global_p_value_of_quantile_95': number(
      analysis.test.global_p_value[1], 'global_p_value'
    ),
    'published_estimator': number(
      {
        'median': float(np.nanmedian(analysis.published)),
        'max': float(np.nanmax(analysis.published)),
        'null_median': analysis.published_null_median,
      },
      'published',
    ),
    'quantiles': {
      f'{level:g}': number(float(np.quantile(score, level)), 'score')
      for level in QUANTILES
    },
  }
  for name, array in (
    ('mean_log_px_in', analysis.scores.log_px_in),
    ('mean_log_px_out', analysis.scores.log_px_out),
  ):
    mean = float(np.nanmean(array))
    numbers[name] = number(mean, name.removeprefix('mean_'))
    if study.is_dequantized and study.images is not None:
      dimensions = int(np.prod(study.images.shape[1:]))
      numbers[name]['bits_per_dim'] = -mean / (dimensions * np.log(2))
  if analysis.estimator_part is not None:
    part = analysis.estimator_part
    numbers['estimator_part'] = {
      'encoder_mean_score': number(part.encoder.score.mean(), 'encoder_score'),
      'encoder_global_p_value': number(
        part.encoder_test.global_p_value[0], 'encoder_global_p_value'
      ),
      'part_mean': number(part.part.score.mean(), 'estimator_part_score'),
      'part_global_p_value': number(
        part.part_test.global_p_value[0], 'estimator_part_global_p_value'
      ),
      'mean_log_px_gap': part.gap,
    }
  if study.full is not None:
    numbers['full_run'] = {
      'train_loss': study.full.train_loss[0, -1],
      'test_loss': study.full.test_loss[0, -1],
      'array': 'full/metrics.jsonl',
    }
  if study.estimates is not None:
    numbers['log_px_estimates'] = {
      'num_samples': study.num_samples,
      'median_std_err': float(np.median(study.estimates['std_err'])),
      'median_ess': float(np.median(study.estimates['ess'])),
      'share_unreliable': share_rough(study),
      'share_estimated_anew': float((study.estimates['round'] > 0).mean()),
      'array': f'arrays/log_px_epoch_{analysis.epochs[-1]:04d}.npz',
    }
  return numbers


def _with_interval(interval, array: str):
  value, low, high = interval
  return {'estimate': value, 'low': low, 'high': high, 'level': 0.95}, array
