"""What an audit of samples found, in words that claim no more than its tests.

Each view has a test against its own null and an effect size; a difference that
is certain but small is called small. Whether samples are copies is decided by
`copying_test` alone: C_T and AuthPct also fall for a generator that keeps to
the dense regions of the data.
"""

from typing import NamedTuple

import numpy as np

from memjax.analysis.page import format_number, format_p
from memjax.analysis.samples.analysis import SampleAnalysis
from memjax.scores.copying import CopyingTest
from memjax.stats import LEVEL

__all__ = ['SampleVerdict', 'View', 'judge_samples']

# Of 100 audits of honest generators, one may be told that it copies.
_SURE = 0.01
# Samples that are at least so much nearer to a training than to a test point
# are near-copies; below, any fitted generator leans towards its training set.
_COPY_RATIO = 1.5
# Effects that are certain but smaller than this are called small: shares of
# the value that test points reach, and of neighbours of the own set.
_SMALL = 0.05
_SMALL_MIXING = 0.02
_SMALL_NEARNESS = 0.05
# Three views beside copying, two tests each.
_LEVEL_EACH = LEVEL / 6
# Training and test points that keep apart so clearly are not of one kind.
_REFERENCE_LEVEL = 0.001
# Test points that are training points, beyond what training points repeat.
_MOST_OVERLAP = 0.01
# So many samples, a hundred times nearer to train than to test, are no chance.
_FEW_COPIES = 10


class View(NamedTuple):
  """One question with its answer.

  Attributes:
    question: for readers.
    answer: a few words.
    value: the number that answers, as text.
    chance: what an honest generator would give, as text.
    p_value: of the tests behind it: the smallest, times their number.
    num_tests: how many these are.
  """

  question: str
  answer: str
  value: str
  chance: str
  p_value: float
  num_tests: int = 1


class SampleVerdict(NamedTuple):
  """The answer of an audit.

  Attributes:
    kind: 'copies', 'leans', 'differs', 'no_copying' or 'not_valid'.
    headline: one or two sentences.
    uncertainty: how sure that is.
    views: one line a question.
    caveats: what weakens the answer, in sentences.
  """

  kind: str
  headline: str
  uncertainty: str
  views: tuple[View, ...]
  caveats: tuple[str, ...]


def judge_samples(
  analysis: SampleAnalysis, num_permutations: int = 1000
) -> SampleVerdict:
  """Words for each view, and for all together.

  Args:
    analysis: from `analyze_samples`.
    num_permutations: of its tests; no p is below 1/(1 + P).

  Returns:
    SampleVerdict.
  """
  floor = 1 / (1 + num_permutations)
  copying, answer, uncertainty = _copying(analysis, floor)
  others = [_fidelity(analysis), _diversity(analysis), _distribution(analysis)]
  different = [phrase for _, phrase in others if phrase]
  caveats = _caveats(analysis, floor)
  kind = copying
  not_valid = _why_not_valid(analysis, floor)
  if not_valid:
    kind, answer, uncertainty, different = 'not_valid', not_valid, '', []
  elif copying == 'no_copying' and different:
    kind = 'differs'
  if different:
    answer += ' ' + ' '.join(different)
  elif kind == 'no_copying':
    answer += ' No other difference from the data was found.'
  return SampleVerdict(
    kind,
    answer,
    uncertainty,
    (_copying_view(analysis, copying), *(view for view, _ in others)),
    tuple(caveats),
  )


def _copying(analysis: SampleAnalysis, floor: float) -> tuple[str, str, str]:
  """(kind, sentence, how sure)."""
  test = analysis.copying
  strong = test.ratio_p_value[test.ratios >= _COPY_RATIO]
  sure = (
    f'Nearer to training than to test points: {format_p(test.p_value, floor)} '
    f'against relabelled training and test points.{_exact(test)}'
  )
  is_strong = strong.size and strong.min() <= LEVEL
  if is_strong and test.interval.low > 0:
    count = int((test.q_value <= LEVEL).sum())
    low, high = (_percent(v) for v in test.interval)
    is_sure = strong.min() <= _SURE
    text = (
      f'{"It copies" if is_sure else "Possibly it copies"}: about '
      f'{_percent(test.copied_share)} of the samples are copies or near-copies '
      f'of training points ({test.ratio:g} times nearer to them than to test '
      'points).'
    )
    sure += f' 95 % interval of that share: {low} to {high}. '
    if count:
      sure += (
        f'{count:,} samples stand out one by one, at most {100 * LEVEL:g} % of '
        'them falsely.'
      )
    else:
      sure += (
        f'No single one stands out: {analysis.sizes[1]:,} test points are '
        'too few to say so of single samples.'
      )
    return 'copies' if is_sure else 'leans', text, sure
  found = test.q_value <= LEVEL
  if found.any():
    # Copies of few points cannot be told by relabelling: they may all be called
    # test points by chance. Sample by sample they can.
    copied = len(np.unique(test.nearest_train[found]))
    points = (
      '1 training point' if copied == 1 else f'{copied:,} training points'
    )
    exact = found & (test.sample_ratio >= test.ratios[-1])
    is_sure = exact.sum() >= _FEW_COPIES and test.null_rate[-1] == 0
    return (
      'copies' if is_sure else 'leans',
      f'{"It copies" if is_sure else "Possibly it copies"}: '
      f'{int(found.sum()):,} samples are so near to {points}, beside the test '
      'points, as hardly any test point is. Look at them.',
      f'At most {100 * LEVEL:g} % of them are expected to be so by chance. By '
      'relabelling, copies of few points, or beside few test points, cannot be '
      f'told: {format_p(test.p_value, floor)}.{_exact(test)}',
    )
  if test.p_value <= LEVEL:
    best = int(np.argmin(test.ratio_p_value))
    nearer, chance = (
      _percent(float(r[best])) for r in (test.rate, test.null_rate)
    )
    times = f'{test.ratios[best]:g} times ' if test.ratios[best] > 1 else ''
    return (
      'leans',
      f'It leans towards its training set: {nearer} of the samples are {times}'
      f'nearer to a training than to any test point, of test points {chance}; '
      'but how many are copies cannot be told. Any fitted generator leans a '
      'little; blurred or noisy copies do too.',
      sure,
    )
  share = analysis.detectable
  power = ''
  if share <= 1:
    power = (
      'Exact copies of different points would have been found, in 9 of 10 '
      f'trials, if they were {_percent(share)} of the samples or more. '
    )
  elif np.isinf(share):
    power = (
      'But even 20 % of exact copies would hardly have been found: take more '
      'samples and more test points. '
    )
  return 'no_copying', 'No copying found.', power + sure


def _exact(test: CopyingTest) -> str:
  """How many samples are training points, to the last bit."""
  count = int(np.isinf(test.sample_ratio).sum())
  if not count:
    return ''
  return (
    f' {count:,} samples are exactly a training point, and no test point.'
    if count > 1
    else ' 1 sample is exactly a training point, and no test point.'
  )


def _copying_view(analysis: SampleAnalysis, kind: str) -> View:
  test = analysis.copying
  chosen = int((test.ratios == test.ratio).argmax())
  answer = {'copies': 'yes', 'leans': 'leans', 'no_copying': 'not found'}
  return View(
    'Are samples copies of training points?',
    answer[kind],
    f'{_percent(float(test.rate[chosen]))} are {test.ratio:g} times nearer to '
    'train than to test',
    f'{_percent(float(test.null_rate[chosen]))} of test points',
    test.p_value,
  )


def _fidelity(analysis: SampleAnalysis) -> tuple[View, str]:
  test, nearness = analysis.coverage.precision, analysis.nearness
  expected = analysis.coverage.test_precision
  lost = 1 - test.value / expected if expected else 0.0
  p_value = min(1.0, 2 * min(test.p_value, nearness.p_wide))
  is_far = 0.5 - nearness.to_held_out >= _SMALL_NEARNESS
  phrase = ''
  if test.p_value <= _LEVEL_EACH and lost >= _SMALL:
    phrase = (
      'Samples lie off the data (noise, or other content): '
      f'{_percent(test.value)} lie among training points, of test points '
      f'{_percent(expected)}.'
    )
  elif nearness.p_wide <= _LEVEL_EACH and is_far:
    phrase = (
      'Samples lie off the data (noise, or other content): they are farther '
      'from held-out data than data are in '
      f'{_percent(1 - nearness.to_held_out)} of pairs (50 % expected).'
    )
  answer = 'no' if phrase else 'mostly' if p_value <= 2 * _LEVEL_EACH else 'yes'
  question = 'Do samples lie on the data?'
  shares = _percent(test.value), _percent(expected)
  return View(question, answer, *shares, p_value, num_tests=2), phrase


def _diversity(analysis: SampleAnalysis) -> tuple[View, str]:
  test, nearness = analysis.coverage.coverage, analysis.nearness
  value = analysis.coverage.equal_coverage
  expected = analysis.coverage.test_coverage
  lost = 1 - value / expected if expected else 0.0
  p_value = min(1.0, 2 * min(test.p_value, nearness.p_narrow))
  is_near = nearness.to_held_out - 0.5 >= _SMALL_NEARNESS
  phrase = ''
  if test.p_value <= _LEVEL_EACH and lost >= _SMALL:
    # Noise leaves the data uncovered too; only samples that lie on it are
    # narrow.
    is_noise = _fidelity(analysis)[0].answer == 'no'
    start = 'They leave' if is_noise else 'Too little diversity: samples leave'
    phrase = (
      f'{start} {_percent(1 - value)} of the data uncovered, as many test '
      f'points {_percent(1 - expected)}.'
    )
  elif nearness.p_narrow <= _LEVEL_EACH and is_near:
    phrase = (
      'Too little diversity: samples keep to the dense regions, nearer to '
      f'held-out data than data are in {_percent(nearness.to_held_out)} of '
      'pairs (50 % expected).'
    )
  answer = 'no' if phrase else 'mostly' if p_value <= 2 * _LEVEL_EACH else 'yes'
  question = 'Do they reach all of the data?'
  shares = _percent(value), _percent(expected)
  return View(question, answer, *shares, p_value, num_tests=2), phrase


def _distribution(analysis: SampleAnalysis) -> tuple[View, str]:
  mixing, frechet = analysis.mixing, analysis.frechet
  p_value = min(1.0, 2 * min(mixing.p_value, frechet.p_value))
  answer, phrase = 'no difference found', ''
  if p_value <= 2 * _LEVEL_EACH:
    is_small = mixing.value - mixing.null_mean < _SMALL_MIXING
    answer = 'slightly different' if is_small else 'different'
    if not is_small:
      phrase = 'Their distribution differs from that of the data.'
  return (
    View(
      'Are they distributed as the data?',
      answer,
      f'shares of neighbours are {_points(mixing.value)} off mixing; Fréchet '
      f'distance {format_number(frechet.value)}',
      f'{_points(mixing.null_mean)}; {format_number(frechet.null_mean)}',
      p_value,
      num_tests=2,
    ),
    phrase,
  )


def _why_not_valid(analysis: SampleAnalysis, floor: float) -> str:
  """Why test points are none; '' if they are."""
  # Discrete data repeat themselves, within the training set as well.
  if analysis.overlap > _MOST_OVERLAP + 2 * analysis.repeats[1]:
    return (
      f'No verdict: {_percent(analysis.overlap)} of the test points are '
      'training points. Test points must be held out from training.'
    )
  if _is_unlike(analysis, floor):
    return (
      'No verdict: the test points differ from the training points, so being '
      'nearer to training points proves nothing.'
    )
  return ''


def _is_unlike(analysis: SampleAnalysis, floor: float) -> bool:
  test = analysis.reference
  is_sure = test.p_value <= max(_REFERENCE_LEVEL, floor)
  return is_sure and test.value - test.null_mean >= _SMALL_MIXING


def _caveats(analysis: SampleAnalysis, floor: float) -> list[str]:
  caveats = []
  reference = analysis.reference
  if _is_unlike(analysis, floor):
    caveats.append(
      'Test points keep apart from training points (shares of neighbours of '
      f'the same set are {_points(reference.value)} off, '
      f'{_points(reference.null_mean)} by chance): every comparison with test '
      'points is doubtful. Take both from one random split.'
    )
  if floor > _LEVEL_EACH:
    caveats.append(
      f'With so few permutations no p is below {format_number(floor)}, and no '
      'answer can be sure: take 1,000.'
    )
  if analysis.overlap:
    caveats.append(
      f'{_percent(analysis.overlap)} of the test points are training points: '
      'remove them.'
    )
  in_samples, in_train = analysis.repeats
  if in_samples > in_train + 0.001:
    caveats.append(
      f'{_percent(in_samples)} of the samples repeat an earlier one exactly '
      f'({_percent(in_train)} of the training points do).'
    )
  test = analysis.data_copying
  if test.p_value <= LEVEL and analysis.copying.p_value > LEVEL:
    share = analysis.nearness.to_held_out
    why = (
      'samples are as near to held-out data, so they keep to dense regions'
      if share - 0.5 >= _SMALL_NEARNESS
      else 'the test that compares with test points finds none'
    )
    caveats.append(
      f'C_T is {format_number(test.c_t)} ({format_p(test.p_value, floor)}), '
      f'which is commonly read as copying. But {why}.'
    )
  return caveats + list(analysis.warnings)


def _points(share: float) -> str:
  return f'{100 * share:.1f} points'


def _percent(share: float) -> str:
  if share != share:
    return 'not available'
  number = 100 * share
  digits = 0 if number >= 10 or number == 0 else 1 if number >= 1 else 2
  return f'{number:.{digits}f} %'
