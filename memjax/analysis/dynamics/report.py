"""The report of a study of dynamics: curves, times, pictures, words."""

import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from memjax.analysis import page, report_parts
from memjax.analysis.dynamics import figures
from memjax.analysis.dynamics.curves import (
  DYNAMICS_FILE,
  Delay,
  Dynamics,
  HalfTime,
  mean_curve,
  shares,
)
from memjax.analysis.dynamics.verdict import (
  MEASURES,
  Timing,
  Verdict,
  judge,
  measure_timing,
)
from memjax.analysis.page import format_number
from memjax.neighbors_tree import few_dimensional_neighbors
from memjax.scores.distance_ratio import memorized_null_rate
from memjax.scores.kind_references import MarkedSets
from memjax.scores.relabelling import is_nearer

__all__ = ['Study', 'write']

_METHOD = (
  'Model: tiny-diffusion. Question: Outliers Memorized Last (anonymous, 2023). '
  'The null, the intervals and the conditional rates are memjax’s.'
)
_HOW_TO_READ = (
  'A sample is **memorized** where a training point is {ratio:g} times nearer '
  'than any test point, and counts for the kind of that training point. By '
  'chance alone this happens to about {chance:.0f} % of the samples of a '
  'perfect generator in the plane.\n\n'
  '**Chance** is therefore measured: the same samples with train and test '
  'swapped. The test set is a second draw of the same process, with the same '
  'kinds. **Excess** is the difference; without memorization it is 0 for every '
  'kind, whatever the generator does.\n\n'
  'A share **of all samples** cannot exceed how often a kind is generated at '
  'all: it rises late where a kind is generated late. A share **of the samples '
  'near a kind** does not depend on that. A kind is compared with as many '
  'inliers.\n\n'
  'Against a test set **without outliers** all samples near the cluster are '
  'far from every test point, so that "memorized" means "generated" there.'
)
_KINDS = ('inlier', 'outlier', 'duplicate')
_COMPARED = ('inlier_subset', 'outlier', 'duplicate')


class Study(NamedTuple):
  """What a report needs.

  Attributes:
    dynamics: counts.
    shape: of the inliers.
    gaps: [R], distance of each outlier cluster to the shape.
    failed: int [R], the epoch in which a repeat diverged, or 0.
    stopped_at: the epoch at which canaries ended training, or None.
    marked: of the first repeat, with the first test set.
    samples: by epoch, those of the first repeat.
  """

  dynamics: Dynamics
  shape: str
  gaps: Float[np.ndarray, ' R']
  failed: Int[np.ndarray, ' R']
  stopped_at: int | None
  marked: MarkedSets
  samples: Mapping[int, Float[np.ndarray, 'g 2']]


def write(workdir: pathlib.Path, study: Study) -> Verdict:
  """Writes report.html, report.json and figures into a study's folder."""
  dynamics = study.dynamics
  timings = [
    measure_timing(dynamics, test_set=s) for s in range(len(dynamics.test_sets))
  ]
  verdict = judge(dynamics, timings[0])
  sections = [
    report_parts.write_figure(workdir, section)
    for section in _sections(study, timings[0])
  ]
  record = report_parts.write_record(
    workdir,
    {'verdict': verdict._asdict(), 'numbers': _numbers(study, timings)},
  )
  tables = [
    _timing_table(name, timing)
    for name, timing in zip(dynamics.test_sets, timings, strict=True)
  ]
  ratio = dynamics.ratios[0]
  how = _HOW_TO_READ.format(
    ratio=ratio, chance=100 * memorized_null_rate(ratio, 2.0)
  )
  report_parts.write_page(
    workdir,
    page.Page(
      title=f'Dynamics of memorization on {study.shape}',
      question='When are inliers, outliers and near-duplicates memorized?',
      verdict_kind=verdict.kind,
      verdict=verdict.headline,
      uncertainty='\n\n'.join([verdict.uncertainty, *_notes(study)]),
      key_numbers=_cards(dynamics, timings[0]),
      sections=[
        *sections,
        *tables,
        _rates_table(dynamics),
        page.Section('What these numbers mean', body=how),
        report_parts.settings(record),
      ],
      footer=report_parts.footer(record, _METHOD),
    ),
  )
  return verdict


def _notes(study: Study) -> list[str]:
  notes = []
  num_failed = int((study.failed > 0).sum())
  if num_failed:
    notes.append(
      f'{num_failed} of {len(study.failed)} repeats diverged, the first in '
      f'epoch {study.failed[study.failed > 0].min()}; they are left out.'
    )
  if study.stopped_at is not None:
    notes.append(
      f'Training was stopped at epoch {study.stopped_at:,}, when the outliers, '
      'as canaries, began to be memorized.'
    )
  if study.dynamics.test_sets[0] == 'without_outliers':
    notes.append(
      'The test set has no outliers: what is said of them is when they are '
      'generated.'
    )
  if _num_members(study.dynamics, 'outlier'):
    low, high = study.gaps.min(), study.gaps.max()
    notes.append(
      f'The centre of the outliers is {format_number(low, digits=2)} to '
      f'{format_number(high, digits=2)} away from the nearest inlier.'
    )
  return notes


def _cards(dynamics: Dynamics, timing: Timing) -> list[page.KeyNumber]:
  total = timing.half['all']['excess']
  percent = lambda share: format_number(100 * float(share), '%', digits=2)
  times = lambda value: format_number(float(value), digits=2)
  cards = [
    page.KeyNumber(
      'Memorized beyond chance',
      percent(total.final),
      f'95 % interval {percent(total.final_low)} to '
      f'{percent(total.final_high)}',
      'Of all samples, at the end; rate less its null.',
    )
  ]
  for kind, name in (('outlier', 'Outliers'), ('duplicate', 'Duplicates')):
    if not _num_members(dynamics, kind):
      continue
    behind = timing.delays[kind]['conditional']
    known = np.isfinite([behind.low, behind.high]).all()
    cards.append(
      page.KeyNumber(
        f'{name} against inliers',
        f'× {times(behind.factor)}' if known else 'cannot be told',
        f'95 % interval {times(behind.low)} to {times(behind.high)}'
        if known
        else '',
        'Time to half of the final excess among the samples near them; above 1 '
        'is later.',
      )
    )
  cards.append(
    page.KeyNumber(
      'Repeats',
      f'{int(np.isfinite(dynamics.loss).all(axis=0).sum())}',
      f'{len(dynamics.epochs)} evaluations each',
      'Other weights, other orders, other data.',
    )
  )
  return cards


def _sections(study: Study, timing: Timing) -> list[page.Section]:
  dynamics = study.dynamics
  epochs, ratio = dynamics.epochs, dynamics.ratios[0]
  found = {kind: shares(dynamics, kind) for kind in dynamics.kinds}
  present = [k for k in _KINDS if _num_members(dynamics, k)]
  compared = [k for k in _COMPARED if _num_members(dynamics, k)] or ['inlier']
  curve = lambda kind, name: mean_curve(getattr(found[kind], name))
  sections = []
  for name, title, label, headline, caption in (
    ('conditional', 'Memorized among the samples near each kind',
     'of those near, less chance',
     'How likely a sample near each kind is memorized',
     'Zero is chance. Dashed: half of the final value. Bands are 95 % '
     'intervals over repeats.'),
    ('excess', 'Memorized among all samples', 'of all samples, less chance',
     'Samples memorized from each kind, beyond chance',
     'As many inliers as outliers are counted, so that the curves are of one '
     'scale. A kind that is not generated cannot rise here.'),
    ('copied', 'Points that samples are memorized from',
     'of the points, less chance',
     'Share of each kind that a sample is memorized from',
     'Each point counts once, however many samples are memorized from it.'),
  ):  # fmt: skip
    sections.append(
      page.Section(
        title,
        figure=figures.kind_curves(
          epochs,
          {kind: curve(kind, name) for kind in compared},
          headline=headline,
          label=label,
          times={k: timing.half[k][name].time for k in compared},
        ),
        alt=f'{title}, by epoch, for {", ".join(compared)}.',
        caption=caption,
      )
    )
  sections.append(_places(study, ratio))
  sections.append(
    page.Section(
      'The published curve and its null',
      figure=figures.rate_beside_null(
        epochs,
        {k: (curve(k, 'rate'), curve(k, 'null')) for k in ('all', *present)},
        closed_form=memorized_null_rate(ratio, 2.0),
        headline='Share of samples that count as memorized, beside chance',
      ),
      alt='Share of samples that count as memorized by epoch, of each kind, '
      'beside the share with train and test swapped.',
      caption='The paper draws the solid lines alone. Only what is above the '
      'dashed line is memorization.',
    )
  )
  return sections


def _num_members(dynamics: Dynamics, kind: str) -> int:
  return int(dynamics.members[list(dynamics.kinds).index(kind)])


def _places(study: Study, ratio: float) -> page.Section:
  train, test = study.marked
  near = {
    epoch: few_dimensional_neighbors(samples, train.points)
    for epoch, samples in study.samples.items()
    if np.isfinite(samples).all()
  }
  memorized = []
  for epoch, found in near.items():
    d_test = few_dimensional_neighbors(
      study.samples[epoch], test.points
    ).distance
    memorized.append(is_nearer(found.distance, d_test, ratio)[:, 0])
  return page.Section(
    'Where memorized samples lie',
    figure=figures.memorized_places(
      train.points,
      train.member[:, 1:4].argmax(axis=1),
      list(near),
      [study.samples[epoch] for epoch in near],
      memorized,
      [found.index[:, 0] for found in near.values()],
    ),
    alt='Training points, and the samples that count as memorized, coloured by '
    'the kind of their nearest training point, at some epochs.',
    caption=f'One repeat. A perfect generator has '
    f'{100 * memorized_null_rate(ratio, 2.0):.0f} % flagged by chance; copies '
    'sit ON training points.',
  )


def _timing_table(name: str, timing: Timing) -> page.Section:
  rows = []
  for kind in ('inlier', *_COMPARED):
    for measure, words in MEASURES.items():
      half = timing.half[kind][measure]
      behind = timing.delays.get(kind, {}).get(measure)
      rows.append([
        f'{figures.NAMES[kind]}: {words}',
        _range(half.time, half.low, half.high),
        _range(*(100 * np.array(half[3:6]))),
        _delay(half, timing.half['inlier_subset'][measure], behind),
      ])  # fmt: skip
  columns = ['kind and share', 'epoch of half', 'final %, less chance',
             'times as many inliers’']  # fmt: skip
  return page.Section(
    f'When, against the test set {name.replace("_", " ")}',
    table=page.Table(
      columns, rows, 'Half of the final value; 95 % intervals', folded=False
    ),
  )


def _delay(half: HalfTime, inliers: HalfTime, behind: Delay | None) -> str:
  if behind is None:
    return ''
  if np.isfinite([half.time, inliers.time]).all() and not inliers.time:
    return 'inliers from the start'
  return _range(*behind)


def _range(value: float, low: float, high: float) -> str:
  if not np.isfinite(value):
    return 'no rise'
  text = format_number(float(value), digits=2)
  if not np.isfinite([low, high]).all():
    return text
  ends = (format_number(float(end), digits=2) for end in (low, high))
  return f'{text} ({" to ".join(ends)})'


def _final_rates(dynamics: Dynamics) -> list[dict[str, Any]]:
  """Rate, null and excess at the last epoch by test set, ratio and kind."""
  rows = []
  for s, name in enumerate(dynamics.test_sets):
    for r, ratio in enumerate(dynamics.ratios):
      for kind in ('all', *_KINDS):
        own = shares(dynamics, kind, ratio=r, test_set=s)
        last = {
          part: float(mean_curve(getattr(own, part)).mean[-1])
          for part in ('rate', 'null', 'excess', 'conditional', 'copied')
        }
        rows.append({'test_set': name, 'ratio': ratio, 'kind': kind, **last})
  return rows


def _rates_table(dynamics: Dynamics) -> page.Section:
  rows = [
    [
      f'{row["test_set"].replace("_", " ")}, r = {row["ratio"]:.4g}, '
      f'{figures.NAMES[row["kind"]]}',
      *(
        100 * row[k]
        for k in ('rate', 'null', 'excess', 'conditional', 'copied')
      ),
    ]
    for row in _final_rates(dynamics)
  ]
  columns = ['test set, ratio, kind', 'rate %', 'null %', 'excess %',
             'of those near %', 'of the points %']  # fmt: skip
  return page.Section(
    'All ratios at the last epoch',
    body='The ratios 1.225 and 1.414 of distances are 1.5 and 2 of squared '
    'distances, which FAISS returns; the paper does not say which it took.',
    table=page.Table(columns, rows, 'Means over repeats', folded=True),
  )


def _numbers(study: Study, timings: list[Timing]) -> dict[str, Any]:
  dynamics = study.dynamics
  as_dict = lambda tree: {
    key: value._asdict() if hasattr(value, '_asdict') else as_dict(value)
    for key, value in tree.items()
  }
  return {
    'array': DYNAMICS_FILE,
    'num_samples': dynamics.num_samples,
    'members': dict(
      zip(dynamics.kinds, dynamics.members.tolist(), strict=True)
    ),
    'outlier_gaps': study.gaps,
    'diverged': study.failed,
    'stopped_at': study.stopped_at,
    'half_times': {
      name: as_dict(timing.half)
      for name, timing in zip(dynamics.test_sets, timings, strict=True)
    },
    'delays_behind_inliers': {
      name: as_dict(timing.delays)
      for name, timing in zip(dynamics.test_sets, timings, strict=True)
    },
    'last_epoch': _final_rates(dynamics),
    'perfect_generator': {
      f'{ratio:.4g}': memorized_null_rate(ratio, 2.0)
      for ratio in dynamics.ratios
    },
  }
