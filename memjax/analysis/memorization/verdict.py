"""What the numbers of a K-fold study mean, in words, with their uncertainty."""

from typing import NamedTuple

import numpy as np

from memjax.analysis import page
from memjax.analysis.memorization.analysis import Analysis, Interval
from memjax.stats import LEVEL

__all__ = ['Verdict', 'judge']

# Below this effect, in nats, a find is a small one: a factor of e = 2.7.
_SMALL = 1.0
# The verdict looks at the mean, at the 0.95 quantile, and at single items.
_LOOKS = 3
# More models missing than this and what is left may be a biased selection.
_MOST_EXCLUDED = 0.2
_MOST_ROUGH = 0.5


class Verdict(NamedTuple):
  """The first thing a reader sees.

  Attributes:
    kind: 'memorizes' | 'weak' | 'none_found' | 'not_valid'.
    headline: one sentence.
    uncertainty: how sure, in one or two sentences.
    p_value: of the tests behind it, corrected for their number.
    caveats: further sentences; each limits what may be concluded.
  """

  kind: str
  headline: str
  uncertainty: str
  p_value: float
  caveats: tuple[str, ...]


def judge(
  analysis: Analysis,
  *,
  share_excluded: float = 0.0,
  share_rough: float = 0.0,
  num_twins: int = 0,
  loses_colours: bool = False,
) -> Verdict:
  """Turns scores and their null into a verdict.

  It rests on three tests: of the mean score, of the 0.95 quantile of the
  scores, and of the single item that stands out most (the smallest q-value,
  which is a valid p-value of "nothing is memorized"). The smallest p is tripled
  for having looked three times. Up to 0.01 the verdict is 'memorizes', up to
  0.05 'weak'; it is no more than 'weak' when most log-probabilities are poor
  estimates. With so few permutations that 0.05 cannot be reached, it is
  'not_valid'.

  Args:
    analysis: the scores of the last epoch and their null.
    share_excluded: of models that diverged and are in no score.
    share_rough: of log-probabilities whose estimate is known to be poor.
    num_twins: scored items of which a copy was trained on while they were held
      out.
    loses_colours: models see each pixel of each channel as black or white.
  """
  smallest_q = float(np.nanmin(analysis.test.q_value))
  smallest = min(float(analysis.test.global_p_value.min()), smallest_q)
  # q-values pool the permutations of all items; the verdict claims no more
  # than the permutations themselves can show.
  floor = _LOOKS / (1 + analysis.num_permutations)
  p_value = min(1.0, max(floor, _LOOKS * smallest))
  found = analysis.test.q_value[analysis.is_scored] <= LEVEL
  if share_excluded > _MOST_EXCLUDED:
    kind = 'not_valid'
    headline = (
      f'No verdict: {100 * share_excluded:.0f} % of the models diverged, and '
      'those that are left may be a biased selection.'
    )
  elif floor > LEVEL:
    kind = 'not_valid'
    headline = (
      f'No verdict: {analysis.num_permutations} permutations are too few to '
      'tell memorization from chance. Take 300 or more.'
    )
  elif p_value <= LEVEL:
    # Membership shows in the estimates for certain; whether it does in the
    # model, estimates of which most are poor cannot say.
    is_sure = p_value <= 0.01 and share_rough <= _MOST_ROUGH
    kind = 'memorizes' if is_sure else 'weak'
    headline = _found_headline(analysis, kind, found)
  else:
    kind = 'none_found'
    headline = _none_headline(analysis, found)
  return Verdict(
    kind,
    headline,
    _uncertainty(analysis, p_value, floor),
    p_value,
    _caveats(analysis, share_excluded, share_rough, num_twins, loses_colours),
  )


def _found_headline(analysis: Analysis, kind: str, found: np.ndarray) -> str:
  """What was found and how large it is; a small effect is called small."""
  mean = _excess_mean(analysis)
  largest = max(mean, analysis.quantile_95.value - _null_quantile(analysis))
  overall = float(analysis.test.global_p_value.min()) * _LOOKS <= LEVEL
  size = 'few' if not overall else 'little' if largest < _SMALL else 'large'
  answer = {
    ('memorizes', 'few'): 'Yes, a few items: this kind of model memorizes',
    ('memorizes', 'little'): 'Yes, but little: this kind of model memorizes',
    ('memorizes', 'large'): 'Yes: this kind of model memorizes',
    ('weak', 'few'): 'Possibly a few items: this kind of model may memorize',
    ('weak', 'little'): 'Possibly a little: this kind of model may memorize',
    ('weak', 'large'): 'Possibly: this kind of model may memorize',
  }[kind, size]
  if not overall:
    effect = 'The items as a whole show nothing beyond chance'
  elif mean > 0:
    effect = f'On average training on an item {_gain(mean)}'
  else:
    effect = 'The highest scores are higher than chance allows'
  return f'{answer}. {effect}; {_name_found(found)}.'


def _none_headline(analysis: Analysis, found: np.ndarray) -> str:
  text = f'No memorization detected in these {found.size:,} items'
  if not np.isnan(analysis.mean.high):
    bias = analysis.mean.value - _excess_mean(analysis)
    most = max(analysis.mean.high - bias, 0.0)
    text += f': on average at most {most:.2f} nats beyond chance'
  if found.any():
    text += f'; {_name_found(found)}, which may be chance'
  return text + '.'


def _name_found(found: np.ndarray) -> str:
  count = int(found.sum())
  if not count:
    return 'no single item stands out for certain'
  verb = 'stands' if count == 1 else 'stand'
  return f'{count:,} of {found.size:,} items {verb} out one by one'


def _excess_mean(analysis: Analysis) -> float:
  """The mean score less what the estimator gives when nothing is memorized."""
  return analysis.mean.value - float(np.nanmean(analysis.test.null_mean))


def _null_quantile(analysis: Analysis) -> float:
  return float(np.quantile(analysis.null, 0.95, axis=1).mean())


def _gain(nats: float) -> str:
  text = f'adds {nats:.3g} nats beyond chance to its log-probability'
  # Nobody has a feeling for a factor of a billion.
  if nats > np.log(1000):
    return text
  factor = float(np.exp(nats))
  return f'{text}, a factor of ' + (
    f'{factor:.2f}' if factor < 10 else f'{factor:.0f}'
  )


def _uncertainty(analysis: Analysis, p_value: float, floor: float) -> str:
  return (
    f'Mean score {_interval(analysis.mean)} nats; the top 5 % score '
    f'{analysis.quantile_95.value:.2f} nats or more, where chance alone would '
    f'give {_null_quantile(analysis):.2f} '
    f'({page.format_p(p_value, min(floor, 1.0))} against models that ignore '
    'who trained on what).' + _why_both(analysis, p_value)
  )


def _why_both(analysis: Analysis, p_value: float) -> str:
  """Why p can be small although the interval of the mean holds 0."""
  mean = analysis.mean
  if p_value > LEVEL or not mean.low <= 0 <= mean.high:
    return ''
  if float(analysis.test.global_p_value[0]) * _LOOKS > LEVEL:
    return (
      ' The interval of the mean holds 0: p is small by the highest scores, '
      'not by the mean.'
    )
  return (
    ' The interval holds 0 although p is small: it says what other repeats '
    f'would give, by Student’s t over {analysis.num_repeats}; p is from '
    'shuffles within them.'
  )


def _interval(interval: Interval) -> str:
  if np.isnan(interval.low):
    return f'{interval.value:.2f} (no interval: one repeat)'
  return (
    f'{interval.value:.2f} (95 % interval {interval.low:.2f} to '
    f'{interval.high:.2f})'
  )


def _caveats(
  analysis: Analysis,
  share_excluded: float,
  share_rough: float,
  num_twins: int,
  loses_colours: bool,
) -> tuple[str, ...]:
  caveats = []
  if loses_colours:
    caveats.append(
      'These models see each pixel of each colour channel as black or white, '
      'not the images as they are; configs/cifar_vae.py is for colours.'
    )
  if num_twins:
    verb = 'has' if num_twins == 1 else 'have'
    caveats.append(
      f'{num_twins:,} of {int(analysis.is_scored.sum()):,} items {verb} an '
      'exact copy that was trained on while they were held out. A twin in '
      'training hides memorization: group copies with memjax.near_duplicates, '
      'and keep groups together with --config.folds.use_groups=True.'
    )
  if analysis.num_repeats == 1 and not analysis.is_partition:
    caveats.append(
      'The models are no repeated partition of the items, so no score has an '
      'interval.'
    )
  elif analysis.num_repeats == 1:
    caveats.append(
      f'With one repeat of {analysis.num_folds} folds an item has only '
      f'{analysis.num_folds} possible scores, so its own p-value cannot go '
      f'below {1 / analysis.num_folds:.2g} and no score has an interval. The '
      'verdict’s three tests pool all items, which is valid at one repeat.'
    )
  if 0.01 < _LOOKS / (1 + analysis.num_permutations) <= LEVEL:
    caveats.append(
      f'{analysis.num_permutations} permutations can give no more than a weak '
      'verdict; take 300 or more.'
    )
  if share_excluded:
    caveats.append(
      f'{100 * share_excluded:.0f} % of the models diverged and are excluded. '
      'If divergence has to do with the data, this biases every number here.'
    )
  if share_rough > 0.05:
    caveats.append(
      f'{100 * share_rough:.0f} % of the log-probabilities hang on few '
      'importance samples (Pareto k̂ above its limit) and are likely too low. '
      'What differs in this error between models that trained on an item and '
      'models that did not is counted as memorization.'
    )
  if analysis.estimator == 'log_mean_exp':
    bias = analysis.test.null_mean[analysis.is_scored].mean()
    caveats.append(
      'The log-mean-exp estimator is biased upward: models that memorize '
      f'nothing would score {bias:.2f} nats on average here. Its intervals '
      'cover too rarely; the p-values take the bias into account.'
    )
  n_missing = int((~analysis.is_scored).sum())
  if n_missing:
    caveats.append(
      f'{n_missing} items have no score, because no remaining model held them '
      'out, or none trained on them.'
    )
  return tuple(caveats)
