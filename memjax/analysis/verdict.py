"""What the numbers of a K-fold study mean, in words, with their uncertainty."""

from typing import NamedTuple

import numpy as np

from memjax.analysis.memorization import Analysis, Interval

__all__ = ['Verdict', 'judge']

# Below this effect, in nats, a find is a small one: a factor of e = 2.7.
_SMALL = 1.0
# More models missing than this and what is left may be a biased selection.
_MOST_EXCLUDED = 0.2
Q_LIMIT = 0.05


class Verdict(NamedTuple):
  """The first thing a reader sees.

  Attributes:
    kind: 'memorizes' | 'weak' | 'none_found' | 'not_valid'.
    headline: one sentence.
    uncertainty: how sure, in one or two sentences.
    p_value: of the test behind it: twice the smaller global p.
    caveats: further sentences; each limits what may be concluded.
  """

  kind: str
  headline: str
  uncertainty: str
  p_value: float
  caveats: tuple[str, ...]


def judge(
  analysis: Analysis, *, share_excluded: float = 0.0, share_rough: float = 0.0
) -> Verdict:
  """Turns scores and their null into a verdict.

  The verdict rests on two tests of all items at once, of the mean score and of
  its 0.95 quantile; the smaller p is doubled for having looked twice. Below
  0.01 it is 'memorizes', up to 0.05 'weak'.

  Args:
    analysis: the scores of the last epoch and their null.
    share_excluded: of models that diverged and are in no score.
    share_rough: of log-probabilities whose estimate is not reliable.
  """
  p_value = min(1.0, 2 * float(np.min(analysis.test.global_p_value)))
  score = analysis.scores.score[analysis.is_scored]
  found = analysis.test.q_value[analysis.is_scored] <= Q_LIMIT
  if share_excluded > _MOST_EXCLUDED:
    kind = 'not_valid'
    headline = (
      f'No verdict: {share_excluded:.0%} of the models diverged, and those '
      'that are left may be a biased selection.'
    )
  elif p_value <= 0.05:
    kind = 'memorizes' if p_value <= 0.01 else 'weak'
    headline = _found_headline(analysis, kind, found)
  else:
    kind = 'none_found'
    headline = (
      f'No memorization found in these {score.size:,} items: models that '
      'trained on an item give it no more probability than models that did '
      'not, beyond chance.'
    )
  return Verdict(
    kind,
    headline,
    _uncertainty(analysis, p_value),
    p_value,
    _caveats(analysis, share_excluded, share_rough),
  )


def _found_headline(analysis: Analysis, kind: str, found: np.ndarray) -> str:
  """What was found and how large it is; a small effect is called small."""
  null = float(np.quantile(analysis.null, 0.95, axis=1).mean())
  largest = max(analysis.mean.value, analysis.quantile_95.value - null)
  answer = {
    ('memorizes', True): 'Yes, but little: this kind of model memorizes',
    ('memorizes', False): 'Yes: this kind of model memorizes',
    ('weak', True): 'Possibly a little: this kind of model may memorize',
    ('weak', False): 'Possibly: this kind of model may memorize',
  }[kind, largest < _SMALL]
  if analysis.mean.value > 0:
    effect = (
      'Training on an item multiplies its probability by '
      f'{_factor(analysis.mean.value)} on average'
    )
  else:
    effect = 'The highest scores are higher than chance allows'
  which = (
    f'{int(found.sum()):,} of {found.size:,} items stand out one by one'
    if found.any()
    else 'no single item stands out for certain'
  )
  return f'{answer}. {effect}; {which}.'


def _factor(nats: float) -> str:
  if nats > 700:
    return f'e^{nats:.0f}'
  factor = float(np.exp(nats))
  return f'{factor:.2f}' if factor < 10 else f'{factor:,.3g}'


def _uncertainty(analysis: Analysis, p_value: float) -> str:
  smallest = 2 / (1 + analysis.num_permutations)
  p_text = (
    f'p ≤ {smallest:.2g}' if p_value <= smallest else f'p = {p_value:.2g}'
  )
  null = np.quantile(analysis.null, 0.95, axis=1).mean()
  text = f'Mean score {_interval(analysis.mean)} nats; '
  text += (
    f'the top 5 % score {analysis.quantile_95.value:.2f} nats or more, where '
    f'chance alone would give {null:.2f} ({p_text} against models that ignore '
    'who trained on what).'
  )
  return text


def _interval(interval: Interval) -> str:
  if np.isnan(interval.low):
    return f'{interval.value:.2f} (no interval: one repeat)'
  return (
    f'{interval.value:.2f} (95 % interval {interval.low:.2f} to '
    f'{interval.high:.2f})'
  )


def _caveats(analysis, share_excluded, share_rough) -> tuple[str, ...]:
  caveats = []
  if analysis.num_repeats == 1:
    caveats.append(
      f'With one repeat of {analysis.num_folds} folds an item has only '
      f'{analysis.num_folds} possible scores, so its own p-value cannot go '
      f'below {1 / analysis.num_folds:.2g} and no score has an interval. The '
      'verdict rests on all items together, which is valid at one repeat.'
    )
  if share_excluded:
    caveats.append(
      f'{share_excluded:.0%} of the models diverged and are excluded. If '
      'divergence has to do with the data, this biases every number here.'
    )
  if share_rough > 0.05:
    caveats.append(
      f'{share_rough:.0%} of the log-probabilities hang on few importance '
      'samples (Pareto k̂ above its limit) and are likely too low. What '
      'differs in this error between models that trained on an item and '
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
      'out.'
    )
  return tuple(caveats)
