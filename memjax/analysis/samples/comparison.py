"""One audit in two embeddings: where do they agree?

An embedding decides what "near" means. Copies are near in every one that sees
them; what stands out in one alone is as likely its blind spot as a copy.
"""

from typing import Any, NamedTuple

import numpy as np
import scipy.stats
from jaxtyping import Int

from memjax.analysis import page
from memjax.analysis.page import format_number
from memjax.analysis.samples.analysis import SampleAnalysis
from memjax.analysis.samples.verdict import SampleVerdict
from memjax.stats import LEVEL

__all__ = [
  'Comparison',
  'SecondView',
  'compare',
  'comparison_record',
  'comparison_section',
  'disagreement',
]

_SHOWN = 10


class SecondView(NamedTuple):
  """The same samples in another embedding.

  Attributes:
    embedding: its name.
    analysis: what was found.
    verdict: in words.
    is_canonical: whether it is the one by which FID is called FID.
  """

  embedding: str
  analysis: SampleAnalysis
  verdict: SampleVerdict
  is_canonical: bool = False


class Comparison(NamedTuple):
  """How far two embeddings agree about single samples.

  Attributes:
    num_both: samples that stand out (q ≤ 0.05) in both.
    num_first: in the first alone.
    num_second: in the second alone.
    same_nearest: share of samples with the same nearest training point.
    rank_correlation: Spearman's, of the ratios d_test/d_train; NaN if constant.
    only_first: the samples that stand out in the first alone, farthest first
      from doing so in the second.
    only_second: the other way round.
  """

  num_both: int
  num_first: int
  num_second: int
  same_nearest: float
  rank_correlation: float
  only_first: Int[np.ndarray, ' _']
  only_second: Int[np.ndarray, ' _']


def compare(first: SampleAnalysis, second: SampleAnalysis) -> Comparison:
  """Compares two analyses of the same samples, sample by sample."""
  one, two = first.copying, second.copying
  found_one, found_two = (part.q_value <= LEVEL for part in (one, two))
  order = lambda is_chosen, ratio: np.flatnonzero(is_chosen)[
    np.argsort(ratio[is_chosen], kind='stable')
  ]
  ratios = one.sample_ratio, two.sample_ratio
  is_constant = any(np.ptp(scipy.stats.rankdata(r)) == 0 for r in ratios)
  return Comparison(
    num_both=int((found_one & found_two).sum()),
    num_first=int((found_one & ~found_two).sum()),
    num_second=int((~found_one & found_two).sum()),
    same_nearest=float((one.nearest_train == two.nearest_train).mean()),
    rank_correlation=float('nan')
    if is_constant
    else float(
      scipy.stats.pearsonr(*map(scipy.stats.rankdata, ratios)).statistic
    ),
    only_first=order(found_one & ~found_two, two.sample_ratio),
    only_second=order(~found_one & found_two, one.sample_ratio),
  )


def disagreement(
  first: SampleVerdict, second: SampleVerdict, embedding: str
) -> str:
  """A caveat where only one embedding finds copies; '' otherwise."""
  found = {'copies', 'leans'}
  if (first.kind in found) == (second.kind in found):
    return ''
  if first.kind in found:
    return (
      f'In {embedding} no copying was found: {second.headline} What is near in '
      'one embedding alone may be what that embedding cannot tell apart.'
    )
  return f'But in {embedding}: {second.headline}'


def comparison_section(
  embedding: str,
  analysis: SampleAnalysis,
  verdict: SampleVerdict,
  second: SecondView,
) -> page.Section:
  """Both embeddings side by side, and the samples they disagree about.

  Args:
    embedding: name of the first.
    analysis: in the first.
    verdict: in the first.
    second: the other one.
  """
  found = compare(analysis, second.analysis)
  both = verdict, second.verdict
  rows = [['verdict', *(page.VERDICTS[each.kind][0] for each in both)]]
  for one, two in zip(*(each.views for each in both), strict=True):
    shown = (f'{view.answer}: {view.value}' for view in (one, two))
    rows.append([one.question, *shown])
  listed = lambda samples: ', '.join(map(str, samples[:_SHOWN])) or 'none'
  more = lambda samples: ', …' if len(samples) > _SHOWN else ''
  body = (
    f'**First:** {embedding}. **Second:** {second.embedding}.\n\n'
    f'{found.num_both:,} samples stand out in both embeddings, '
    f'{found.num_first:,} in the first alone and {found.num_second:,} in the '
    'second alone. The nearest training point is the same for '
    f'{format_number(100 * found.same_nearest, "%", digits=2)} of the samples, '
    'and the rank correlation of how much nearer they are to train than to '
    f'test is {format_number(found.rank_correlation, digits=2)}. Samples that '
    'stand out in both are the surest copies.\n\n'
    f'- In the first alone: {listed(found.only_first)}'
    f'{more(found.only_first)}\n'
    f'- In the second alone: {listed(found.only_second)}'
    f'{more(found.only_second)}'
  )
  columns = ['', 'first', 'second']
  return page.Section(
    'Two embeddings side by side', body, table=page.Table(columns, rows)
  )


def comparison_record(
  analysis: SampleAnalysis, second: SecondView
) -> dict[str, Any]:
  """For report.json."""
  found = compare(analysis, second.analysis)
  return {
    'embedding': second.embedding,
    'kind': second.verdict.kind,
    'headline': second.verdict.headline,
    'stand_out_in_both': found.num_both,
    'stand_out_in_first_alone': found.only_first.tolist(),
    'stand_out_in_second_alone': found.only_second.tolist(),
    'same_nearest_train': found.same_nearest,
    'rank_correlation': found.rank_correlation,
  }
