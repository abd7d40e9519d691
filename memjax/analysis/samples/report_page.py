"""The page of an audit of samples: its pictures, their order, and its words."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Int, Shaped

from memjax.analysis import page
from memjax.analysis.page import format_number, format_p
from memjax.analysis.samples import figures as sample_figures
from memjax.analysis.samples.analysis import (
  FRECHET_PERMUTATIONS,
  SampleAnalysis,
)
from memjax.analysis.samples.verdict import SampleVerdict
from memjax.data.samples import as_images
from memjax.stats import LEVEL

__all__ = [
  'HOW_TO_READ',
  'METHOD',
  'Audit',
  'all_numbers',
  'class_name',
  'classes_of',
  'key_numbers',
  'make_sections',
  'most_suspicious',
  'shown_range',
  'views',
]

_NUM_SHOWN = 10
METHOD = (
  'Methods: Meehan et al. 2020 (C_T), Alaa et al. 2022 (authenticity), Naeem '
  'et al. 2020 (precision, coverage), “Outliers Memorized Last” 2023 (distance '
  'ratio); the relabelling null is memjax’s.'
)
HOW_TO_READ = (
  'The audit compares three sets: the training set, test points that the '
  'generator never saw, and generated samples. It needs test points from the '
  'same source as the training points: everything is read beside them.\n\n'
  '**Copies.** To a generator that copies nothing, training and test points '
  'are the same: its samples are as often far nearer to one as to the other. '
  'The test shuffles which points are called training points, '
  '{permutations:,} times, and looks whether the samples are nearer to the '
  'true training points than to shuffled ones, at any ratio of distances from '
  '1 to 100. This holds for a generator of any quality. The share of copies is '
  'what exceeds the rate of test points, each held against the others.\n\n'
  '**C_T** asks whether samples are nearer to the training set than test '
  'points are, cell by cell. Negative is often read as copying; but samples '
  'that keep to the dense regions of the data score negative too, without a '
  'copy. **Authenticity** shares this weakness.\n\n'
  '**On the data** (precision): the share of samples within reach of a '
  'training point. **All of the data** (coverage): the share of training '
  'points with a sample within reach. Both are compared with as many test '
  'points.\n\n'
  'No distance says what an attacker could learn; a generator can leak without '
  'any near-copy.'
)


class Audit(NamedTuple):
  """What was audited.

  Attributes:
    name: of the generated samples.
    train: [l, …] as they were given.
    test: [t, …].
    generated: [n, …].
    labels: int [n] of the generated samples, or None.
    metric: 'euclidean' or 'cosine'.
    num_permutations: of every test.
    embedding: name of the embedding in which points were compared; '' for the
      numbers as they were given.
    is_canonical: whether it is the one by which FID is called FID.
    class_names: of the labels, where they are folders; else empty.
  """

  name: str
  train: Shaped[np.ndarray, '...']
  test: Shaped[np.ndarray, '...']
  generated: Shaped[np.ndarray, '...']
  labels: Int[np.ndarray, ' n'] | None
  metric: str
  num_permutations: int
  embedding: str = ''
  is_canonical: bool = False
  class_names: tuple[str, ...] = ()


def class_name(audit: Audit, label: int) -> str:
  """The folder of a class, or its number."""
  return audit.class_names[label] if audit.class_names else str(label)


def classes_of(audit: Audit) -> Shaped[np.ndarray, ' n'] | None:
  """The class of each sample, by its name if it has one; None without any."""
  if audit.labels is None or not audit.class_names:
    return audit.labels
  return np.array(audit.class_names)[audit.labels]


def shown_range(audit: Audit) -> tuple[float, float]:
  """One scale for pictures of all sets: a copy looks like what it copies."""
  sets = audit.train, audit.test, audit.generated
  return (
    min(float(values.min()) for values in sets),
    max(float(values.max()) for values in sets),
  )


def most_suspicious(analysis: SampleAnalysis) -> Int[np.ndarray, ' n']:
  """Samples by how much nearer they are to train than to test, highest first.

  Exact copies all have an infinite ratio; among them those come first that are
  farthest from any test point, so that common content comes last.
  """
  copying = analysis.copying
  return np.lexsort((-copying.d_test, -copying.sample_ratio))


def key_numbers(
  analysis: SampleAnalysis, verdict: SampleVerdict
) -> list[page.KeyNumber]:
  """Copying, quality and diversity in four numbers."""
  copying = analysis.copying
  low, high = copying.interval
  percent = lambda share: format_number(100 * share, '%', digits=2)
  coverage = analysis.coverage
  share = page.KeyNumber(
    'Copies among the samples',
    percent(copying.copied_share),
    f'95 % interval {percent(low)} to {percent(high)}',
    f'Samples {copying.ratio:g} times nearer to train than to test, less the '
    'rate of test points.',
  )
  if verdict.kind != 'copies' or low == 0:
    share = page.KeyNumber(
      'Copies among the samples',
      'cannot be told',
      f'p = {format_number(copying.p_value, digits=2)}',
      'No share is stated where no copying is found for sure.',
    )
  found = int((copying.q_value <= LEVEL).sum())
  lowest = format_number(copying.q_value.min(), digits=2)
  return [
    share,
    page.KeyNumber(
      'Samples that stand out',
      f'{found:,} of {analysis.sizes[2]:,}',
      'at most 5 % of them falsely' if found else f'the lowest q is {lowest}',
      'One by one, nearer to a training point than chance allows.',
    ),
    page.KeyNumber(
      'On the data',
      percent(coverage.precision.value),
      f'test points {percent(coverage.test_precision)}',
      'Share of samples within reach of a training point.',
    ),
    page.KeyNumber(
      'Data reached',
      percent(coverage.equal_coverage),
      f'as many test points {percent(coverage.test_coverage)}',
      'Share of training points with a sample within reach.',
    ),
  ]


def views(
  verdict: SampleVerdict, num_permutations: int, embedding: str
) -> page.Section:
  """The four questions with their answers."""
  floor = lambda view: min(1.0, view.num_tests / (1 + num_permutations))
  rows = [
    [v.question, v.answer, v.value, v.chance, format_p(v.p_value, floor(v))]
    for v in verdict.views
  ]
  columns = ['question', 'answer', 'samples', 'to compare', 'p']
  body = f'Near means near in the features of {embedding}.' if embedding else ''
  return page.Section('Four questions', body, table=page.Table(columns, rows))


def make_sections(audit: Audit, analysis: SampleAnalysis) -> list[page.Section]:
  """The pictures, most suspicious samples first."""
  copying = analysis.copying
  sections = [_suspicious(audit, analysis)]
  sections.append(
    page.Section(
      'How much nearer to train than to test',
      figure=sample_figures.ratio_curves(
        copying.sample_ratio, copying.ratios, copying.null_rate
      ),
      alt='Share of samples by the ratio of their distances to test and train, '
      'beside that of test points.',
      caption='Copies lift the line above the points, and keep it above zero '
      'at high ratios. Without copying it follows the points.',
    )
  )
  sections.append(
    page.Section(
      'Distance to the training set',
      figure=sample_figures.distance_curves(
        analysis.distances.test, analysis.distances.generated, audit.metric
      ),
      alt='Cumulative distribution of the distances of samples and of test '
      'points to their nearest training points.',
      caption='Copies are a step at the left end of the samples’ line. A line '
      'that is shifted as a whole tells of diversity (left) or noise (right), '
      'not of copies.',
    )
  )
  cells = analysis.cells
  kept = cells.weight > 0
  sections.append(
    page.Section(
      'Where samples are nearer to train than test points are',
      body='The training set was cut into cells of similar points (k-means). '
      'Being nearer is not yet copying: narrow samples are nearer too. So the '
      'samples that stand out one by one are counted beside each cell.',
      figure=sample_figures.cells_that_copy(
        _named_groups(analysis),
        np.where(kept, cells.z_u, np.nan),
        cells.null_mean,
        cells.null_std,
        cells.is_copying,
        'cell',
      ),
      alt='Z_U of each cell beside the range of an honest generator.',
      caption='Left of its band: samples of this cell are nearer to the '
      'training set than test points are.',
    )
  )
  if analysis.classwise is not None:
    sections.append(_classes(audit, analysis))
  return sections


def _suspicious(audit: Audit, analysis: SampleAnalysis) -> page.Section:
  copying = analysis.copying
  shown = most_suspicious(analysis)[:_NUM_SHOWN]
  ratio = lambda i: (
    'copy' if np.isinf(copying.sample_ratio[i])
    else f'×{copying.sample_ratio[i]:.3g}'
  )  # fmt: skip
  rows = [
    [
      int(i),
      ratio(i),
      float(copying.d_train[i]),
      int(copying.nearest_train[i]),
      float(copying.d_test[i]),
      int(copying.nearest_test[i]),
      float(copying.q_value[i]),
    ]
    for i in shown
  ]
  columns = ['sample', 'ratio', 'distance to train', 'nearest training item',
             'distance to test', 'nearest test item', 'q']  # fmt: skip
  title = 'The most suspicious samples'
  table = page.Table(columns, rows, 'Their distances; samples.csv has all')
  limits = shown_range(audit)
  samples = as_images(audit.generated[shown], limits)
  near_train = as_images(audit.train[copying.nearest_train[shown]], limits)
  near_test = as_images(audit.test[copying.nearest_test[shown]], limits)
  if samples is None or near_train is None or near_test is None:
    return page.Section(title, table=table)
  return page.Section(
    title,
    figure=sample_figures.suspicious_pairs(
      samples,
      near_train,
      near_test,
      [f'{ratio(i)}\nno. {i}' for i in shown],
    ),
    alt=f'The {len(shown)} samples that are most times nearer to a training '
    'than to a test item, each above its nearest training and test item.',
    caption='Compare each sample with the training item below it, and that '
    'with the test item: × is how many times nearer the training item is.',
    table=table._replace(folded=True),
  )


def _named_groups(analysis: SampleAnalysis) -> list[str]:
  """Each cell with its samples, and how many of them stand out."""
  found = analysis.copying.q_value <= LEVEL
  sizes = analysis.cells.num_generated
  # One cell stands for all where the cells were too small.
  cell = np.minimum(analysis.distances.generated_cell, len(sizes) - 1)
  counts = np.bincount(cell[found], minlength=len(sizes))
  return [
    f'{k} ({n:,} samples, {count:,} stand out)'
    for k, (n, count) in enumerate(zip(sizes, counts, strict=True))
  ]


def _classes(audit: Audit, analysis: SampleAnalysis) -> page.Section:
  classes = analysis.classwise
  assert classes is not None
  return page.Section(
    'Which classes are nearer to train than test points are',
    figure=sample_figures.cells_that_copy(
      [class_name(audit, label) for label in classes.label.tolist()],
      classes.c_t,
      classes.null_mean,
      classes.null_std,
      classes.p_value <= LEVEL / max(1, len(classes.label)),
      'class',
    ),
    alt='C_T of each class beside the range of an honest generator.',
    caption='Each class against its own training points. Mean over classes '
    f'{format_number(classes.mean_c_t)} '
    f'({format_number(classes.mean_null_mean)} ± '
    f'{format_number(classes.mean_null_std)} by chance).',
  )


def all_numbers(
  analysis: SampleAnalysis, num_permutations: int
) -> page.Section:
  """The numbers behind the four questions, in one table."""
  floor = 1 / (1 + num_permutations)
  frechet_floor = 1 / (1 + min(num_permutations, FRECHET_PERMUTATIONS))
  c_t, quality = analysis.data_copying, analysis.quality
  low, high = analysis.data_copying_interval
  null_c_t = float(
    np.nansum(analysis.cells.weight * np.nan_to_num(analysis.cells.null_mean))
  )
  authentic, frechet = analysis.authenticity, analysis.frechet
  components = analysis.frechet_components
  rows = [
    ['C_T (negative = nearer to train than test points are)',
     format_number(c_t.c_t), format_number(null_c_t),
     f'{format_p(c_t.p_value, floor)}; 95 % {format_number(low)} to '
     f'{format_number(high)}'],
    ['Z_U without cells', format_number(c_t.z_u), '0', ''],
    ['authentic share (AuthPct / 100)', format_number(authentic.fraction),
     format_number(authentic.null_mean), format_p(authentic.p_value, floor)],
    [f'Fréchet distance to test ({components} dimensions)',
     format_number(frechet.value), format_number(frechet.null_mean),
     format_p(frechet.p_value, frechet_floor)],
    ['precision', format_number(quality.precision), '', ''],
    ['recall', format_number(quality.recall), '', ''],
    ['density', format_number(quality.density), '', ''],
    ['coverage', format_number(quality.coverage), '', ''],
    ['nearer to held-out data than data are (share of pairs)',
     format_number(analysis.nearness.to_held_out), '0.5', ''],
    ['nearer to train than test points are (share of pairs)',
     format_number(analysis.nearness.to_train), '0.5', ''],
    ['points in train, test, generated',
     ', '.join(f'{n:,}' for n in analysis.sizes), '', ''],
    ['numbers a point', f'{analysis.num_features:,}', '', ''],
  ]  # fmt: skip
  return page.Section(
    'All numbers',
    body='\n\n'.join(analysis.notes),
    table=page.Table(['number', 'samples', 'exchanged', 'how sure'], rows),
  )
