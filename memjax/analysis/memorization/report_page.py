"""The page of a K-fold study: what it says around its pictures."""

from typing import Any

import numpy as np

from memjax.analysis import page, report_parts
from memjax.analysis.memorization.analysis import Analysis
from memjax.analysis.memorization.attacks_section import (
  section as membership_section,
)
from memjax.analysis.memorization.study import (
  Study,
  loses_intensities,
  share_rough,
)
from memjax.analysis.memorization.verdict import Verdict
from memjax.stats import LEVEL

__all__ = ['make_page', 'make_unscored_page']

_QUESTION = (
  'Does a model give an item more probability because it was trained on it?'
)
_METHOD = (
  'Method: van den Burg and Williams, “On Memorization in Probabilistic Deep '
  'Generative Models”, 2021.'
)


def make_page(
  study: Study, analysis: Analysis, verdict: Verdict, sections, record
) -> page.Page:
  """The whole page: verdict, key numbers, pictures, explanations, settings."""
  score = analysis.scores.score[analysis.is_scored]
  found = int((analysis.test.q_value[analysis.is_scored] <= LEVEL).sum())
  number = page.format_number
  cards = [
    page.KeyNumber(
      'Mean score',
      number(analysis.mean.value, 'nats'),
      _interval_text(analysis.mean),
      'What training on an item adds to its log-probability. Chance alone: '
      + number(float(np.nanmean(analysis.test.null_mean)), 'nats'),
    ),
    page.KeyNumber(
      'Top 5 % score above',
      number(analysis.quantile_95.value, 'nats'),
      _interval_text(analysis.quantile_95),
      'Chance alone: '
      + number(float(np.quantile(analysis.null, 0.95, axis=1).mean()), 'nats'),
    ),
    page.KeyNumber(
      'Items that stand out',
      f'{found:,} of {score.size:,}',
      f'at most {100 * LEVEL:g} % of them falsely (q ≤ {LEVEL:g})',
      'Memorized beyond chance, one by one.',
    ),
    page.KeyNumber(
      'Highest score',
      number(float(score.max()), 'nats'),
      '',
      f'Of item {study.ids[int(np.nanargmax(analysis.scores.score))]}.',
    ),
  ]
  uncertainty = verdict.uncertainty
  if verdict.caveats:
    uncertainty += '\n\nBut: ' + ' '.join(verdict.caveats)
  return page.Page(
    title=f'Memorization of {study.name}',
    question=_QUESTION,
    verdict_kind=verdict.kind,
    verdict=verdict.headline,
    uncertainty=uncertainty,
    key_numbers=cards,
    sections=[
      *sections,
      *_estimator_section(analysis),
      membership_section(analysis.membership),
      _how_to_read(analysis),
      *_model_section(study),
      report_parts.settings(record),
    ],
    footer=report_parts.footer(record, _METHOD),
  )


def make_unscored_page(
  study: Study, verdict: Verdict, record: dict[str, Any]
) -> page.Page:
  """The page of a study of which too few models are left."""
  return page.Page(
    title=f'Memorization of {study.name}',
    question=_QUESTION,
    verdict_kind=verdict.kind,
    verdict=verdict.headline,
    uncertainty=verdict.uncertainty,
    sections=[
      *_model_section(study._replace(estimates=None)),
      report_parts.settings(record),
    ],
    footer=report_parts.footer(record, _METHOD),
  )


def _interval_text(interval) -> str:
  if np.isnan(interval.low):
    return 'no interval: one repeat'
  low, high = map(page.format_number, interval[1:])
  return f'95 % interval {low} to {high}'


def _estimator_section(analysis: Analysis) -> list[page.Section]:
  """How much of the published score is its estimator of log p(x)."""
  part = analysis.estimator_part
  if part is None:
    return []
  floor = 1 / (1 + analysis.num_permutations)
  accurate, test = analysis.scores.score[analysis.is_scored], analysis.test
  rows = [
    _part_row('accurate proposal (the scores above)', accurate, test, floor),
    _part_row(
      'encoder’s proposal (published)',
      part.encoder.score,
      part.encoder_test,
      floor,
    ),
    _part_row(
      'their difference: the estimator’s part',
      part.part.score,
      part.part_test,
      floor,
    ),
  ]
  body = (
    'Log p(x) can only be estimated. By the encoder’s proposal, the published '
    f'way, it came out {page.format_number(part.gap, "nats")} lower on average.'
    ' '
    'Where that loss differs between models that trained on an item and models '
    'that did not, it looks like memorization although no density changed. '
    'The table takes the published score apart (by mean log-probability, for '
    'which the parts add up exactly).'
  )
  if analysis.estimator != 'mean_log':
    body += f' The scores above are by {analysis.estimator}.'
  columns = ['log p(x) by', 'mean', '0.95 quantile', 'maximum', 'p (mean)']
  return [
    page.Section(
      'What the estimator adds', body, table=page.Table(columns, rows)
    )
  ]


def _part_row(name: str, score: np.ndarray, test, floor: float) -> list[Any]:
  """Mean, quantile, maximum and p of some scores."""
  return [
    name,
    float(score.mean()),
    float(np.quantile(score, 0.95)),
    float(score.max()),
    page.format_p(float(test.global_p_value[0]), floor),
  ]


def _how_to_read(analysis: Analysis) -> page.Section:
  if analysis.is_partition:
    design = (
      f'The data were split into {analysis.num_folds} folds, '
      f'{analysis.num_repeats} times over; each model trained on all folds but '
      'one. So every item was seen by most models and never seen by some.'
    )
  else:
    design = (
      'Every item was seen in training by some models and never seen by others.'
    )
  average = {
    'mean_log': 'average log-probability',
    'log_mean_exp': 'log of the average probability',
    'matched': 'log of the average probability (as many models on each side)',
  }[analysis.estimator]
  text = (
    f'{design}\n\nThe score of an item is its {average} under the models that '
    'trained on it (U) minus that under the models that did not (V), in nats. '
    'A score of 1 means e = 2.7 times, a score of 5 means 148 times more '
    'probable. The score describes the way of training, not one trained '
    'model, and it is no bound on what an attacker could learn.\n\n'
    'Chance is measured, not assumed: who held out what is shuffled among the '
    f'items {analysis.num_permutations:,} times, and everything is scored '
    'again. The p-value is the share of shuffles that score as high. The '
    'q-value bounds the share of false finds among items as extreme.'
  )
  if analysis.estimator != 'log_mean_exp':
    median = float(np.nanmedian(analysis.published))
    text += (
      '\n\nThe published estimator is the log of the average probability. It '
      f'has a median of {page.format_number(median, "nats")} here, of which '
      'chance alone explains '
      f'{page.format_number(analysis.published_null_median, "nats")}.'
    )
  return page.Section('What these numbers mean', body=text)


def _model_section(study: Study) -> list[page.Section]:
  rows = [
    [d['repeat'], d['fold'], d['attempt'], d['epoch'], d['reason'],
     'excluded' if d['excluded'] else 'trained again']
    for d in study.divergences
  ]  # fmt: skip
  columns = ['repeat', 'fold', 'attempt', 'epoch', 'reason', 'what was done']
  body = f'{len(study.repeat)} models were trained.'
  if loses_intensities(study):
    body += (
      ' They do not see intensities: each pixel is drawn black or white, with '
      'its intensity as the probability of white, which is the published way '
      'for handwritten digits.'
    )
  if study.estimates is not None:
    body += (
      f' Log p(x) was estimated with {study.num_samples} importance samples: '
      'median standard error '
      f'{page.format_number(float(np.median(study.estimates["std_err"])))} '
      'nats, median effective sample size '
      f'{page.format_number(float(np.median(study.estimates["ess"])))}; '
      + (
        'too few samples to tell how far to trust them.'
        if np.isnan(study.estimates['pareto_k']).all()
        else f'{share_rough(study):.1%} of the estimates hang on few samples '
        '(Pareto k̂ above its limit) and are likely too low.'
      )
    )
    again = float((study.estimates['round'] > 0).mean())
    if again:
      body += (
        f' {again:.1%} had been estimated anew, because the first estimate was '
        'not reliable.'
      )
  if not rows:
    if study.estimates is None:
      return []
    return [page.Section('The models', body=body + ' None diverged.')]
  body += (
    ' Some stopped being finite. A model that is excluded is in no score; '
    'that may bias what is left.'
  )
  return [page.Section('The models', body, table=page.Table(columns, rows))]
