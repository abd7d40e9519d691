"""The report of an audit of samples: numbers, tables, pictures, words.

`write_samples` leaves `report.html` and `report.json`, `samples.csv` (a row for
each generated sample), `figures/*.png` and `arrays/samples.npz` in the workdir;
for a second embedding also `arrays/second_samples.npz`.
"""

import pathlib
from typing import Any

from memjax import files
from memjax.analysis import page, report_parts
from memjax.analysis.samples.analysis import SampleAnalysis
from memjax.analysis.samples.comparison import (
  SecondView,
  comparison_record,
  comparison_section,
  disagreement,
)
from memjax.analysis.samples.metrics_section import (
  metrics_arrays,
  metrics_record,
  metrics_section,
)
from memjax.analysis.samples.report_page import (
  HOW_TO_READ,
  METHOD,
  Audit,
  all_numbers,
  class_name,
  classes_of,
  key_numbers,
  make_sections,
  most_suspicious,
  views,
)
from memjax.analysis.samples.sample_table import all_samples
from memjax.analysis.samples.verdict import SampleVerdict, judge_samples
from memjax.stats import LEVEL

__all__ = ['Audit', 'SecondView', 'most_suspicious', 'write_samples']

_ARRAYS = 'arrays/samples.npz'
_SECOND_ARRAYS = 'arrays/second_samples.npz'


def write_samples(
  workdir: pathlib.Path,
  audit: Audit,
  analysis: SampleAnalysis,
  second: SecondView | None = None,
) -> SampleVerdict:
  """Writes every result of an audit into its folder.

  Args:
    workdir: of the audit, with its config.json.
    audit: what was audited.
    analysis: what was found, in the embedding of the audit.
    second: what was found in another one, to be shown beside it.
  """
  verdict = judge_samples(analysis, audit.num_permutations)
  if second is not None:
    caveat = disagreement(verdict, second.verdict, second.embedding)
    verdict = verdict._replace(
      caveats=(*verdict.caveats, *([caveat] if caveat else []))
    )
  _write_arrays(workdir / _ARRAYS, analysis)
  _write_csv(workdir / 'samples.csv', audit, analysis)
  sections = [
    report_parts.write_figure(workdir, section)
    for section in make_sections(audit, analysis)
  ]
  numbers = _numbers(audit, analysis, _ARRAYS)
  metrics = _metrics(audit, analysis)
  if second is None:
    (workdir / _SECOND_ARRAYS).unlink(missing_ok=True)  # of an earlier audit
  else:
    _write_arrays(workdir / _SECOND_ARRAYS, second.analysis)
    other = audit._replace(
      embedding=second.embedding, is_canonical=second.is_canonical
    )
    numbers['second_embedding'] = {
      **comparison_record(analysis, second),
      **_numbers(other, second.analysis, _SECOND_ARRAYS),
    }
    metrics += _metrics(other, second.analysis, ', in the second embedding')
  record = report_parts.write_record(
    workdir, {'verdict': _verdict_record(verdict), 'numbers': numbers}
  )
  how = HOW_TO_READ.format(permutations=audit.num_permutations)
  uncertainty = verdict.uncertainty
  if verdict.caveats:
    uncertainty += '\n\nBut:\n' + '\n'.join(f'- {c}' for c in verdict.caveats)
  report_parts.write_page(
    workdir,
    page.Page(
      title=f'Audit of {audit.name}',
      question='Are these samples copies of the training data?',
      verdict_kind=verdict.kind,
      verdict=verdict.headline,
      uncertainty=uncertainty,
      key_numbers=key_numbers(analysis, verdict),
      sections=[
        views(verdict, audit.num_permutations, audit.embedding),
        *_compared(audit, analysis, verdict, second),
        *sections,
        all_samples(audit, analysis),
        *metrics,
        all_numbers(analysis, audit.num_permutations),
        page.Section('What these numbers mean', body=how),
        report_parts.settings(record),
      ],
      footer=report_parts.footer(record, METHOD),
    ),
  )
  return verdict


def _compared(audit: Audit, analysis, verdict, second) -> list[page.Section]:
  if second is None:
    return []
  return [
    comparison_section(audit.embedding or 'as given', analysis, verdict, second)
  ]


def _metrics(
  audit: Audit, analysis: SampleAnalysis, where: str = ''
) -> list[page.Section]:
  if analysis.metrics is None:
    return []
  section = metrics_section(
    analysis.metrics,
    analysis.sizes,
    analysis.num_features,
    audit.num_permutations,
    embedding=audit.embedding,
    is_canonical=audit.is_canonical,
  )
  return [section._replace(title=section.title + where)]


def _verdict_record(verdict: SampleVerdict) -> dict[str, Any]:
  views = [view._asdict() for view in verdict.views]
  return {**verdict._asdict(), 'views': views}


def _write_arrays(path: pathlib.Path, analysis: SampleAnalysis) -> None:
  copying = analysis.copying
  files.save_arrays(
    path,
    ratio=copying.sample_ratio,
    q_value=copying.q_value,
    d_train=copying.d_train,
    d_test=copying.d_test,
    nearest_train=copying.nearest_train,
    nearest_test=copying.nearest_test,
    test_d_train=analysis.distances.test,
    cell=analysis.distances.generated_cell,
    ratios=copying.ratios,
    rate=copying.rate,
    null_rate=copying.null_rate,
    ratio_p_value=copying.ratio_p_value,
    cell_z_u=analysis.cells.z_u,
    cell_p_value=analysis.cells.p_value,
    cell_q_value=analysis.cells.q_value,
    **({} if analysis.metrics is None else metrics_arrays(analysis.metrics)),
  )


def _write_csv(path: pathlib.Path, audit: Audit, analysis) -> None:
  """One row a generated sample."""
  copying, classes = analysis.copying, classes_of(audit)
  count = len(copying.d_train)
  columns = {
    'index': range(count),
    'label': [''] * count if classes is None else classes,
    'cell': analysis.distances.generated_cell,
    'nearest_train': copying.nearest_train,
    'nearest_test': copying.nearest_test,
    'd_train': copying.d_train,
    'd_test': copying.d_test,
    'ratio': copying.sample_ratio,
    'q': copying.q_value,
  }
  files.write_csv(path, columns)


def _numbers(
  audit: Audit, analysis: SampleAnalysis, arrays: str
) -> dict[str, Any]:
  """The numbers of the report; per-sample ones are in the file of arrays."""
  copying, coverage = analysis.copying, analysis.coverage
  numbers: dict[str, Any] = {
    'sizes': dict(
      zip(('train', 'test', 'generated'), analysis.sizes, strict=True)
    ),
    'copying': {
      'p_value': copying.p_value,
      'ratio': copying.ratio,
      'copied_share_if_copying_is_found': copying.copied_share,
      'interval': copying.interval._asdict(),
      'num_found': int((copying.q_value <= LEVEL).sum()),
      'detectable_share': analysis.detectable,
      'array': f'{arrays}:ratio',
    },
    'data_copying': {
      'c_t': analysis.data_copying.c_t,
      'z_u': analysis.data_copying.z_u,
      'null_std': analysis.data_copying.null_std,
      'p_value': analysis.data_copying.p_value,
      'interval': analysis.data_copying_interval._asdict(),
      'array': f'{arrays}:cell_z_u',
    },
    'authenticity': analysis.authenticity._asdict(),
    'precision': coverage.precision._asdict(),
    'coverage': coverage.coverage._asdict(),
    'quality': analysis.quality._asdict(),
    'mixing': analysis.mixing._asdict(),
    'reference': analysis.reference._asdict(),
    'nearness': analysis.nearness._asdict(),
    'frechet_distance': {
      **analysis.frechet._asdict(),
      'components': analysis.frechet_components,
    },
    'repeats': {'generated': analysis.repeats[0], 'train': analysis.repeats[1]},
    'overlap': analysis.overlap,
    'warnings': list(analysis.warnings),
    'notes': list(analysis.notes),
  }
  if audit.embedding:
    numbers['embedding'] = audit.embedding
  if analysis.metrics is not None:
    numbers['metrics'] = metrics_record(
      analysis.metrics,
      arrays,
      embedding=audit.embedding,
      is_canonical=audit.is_canonical,
    )
  if analysis.classwise is not None:
    classwise = analysis.classwise
    names = [class_name(audit, label) for label in classwise.label.tolist()]
    numbers['classwise'] = {**classwise._asdict(), 'class': names}
  return numbers
