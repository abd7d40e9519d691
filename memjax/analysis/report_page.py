"""The page of a K-fold study: its pictures, their order, and its words."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from memjax.analysis import figures, page, report_parts
from memjax.analysis.attacks_report import section as membership_section
from memjax.analysis.memorization import QUANTILES, Analysis
from memjax.analysis.verdict import Q_LIMIT, Verdict

__all__ = [
  'FullRun',
  'Study',
  'make_page',
  'make_sections',
  'make_unscored_page',
  'share_rough',
]

_QUESTION = (
  'Does a model give an item more probability because it was trained on it?'
)
_METHOD = (
  'Method: van den Burg and Williams, “On Memorization in Probabilistic Deep '
  'Generative Models”, 2021.'
)
# Items that the table shows with their pictures.
_NUM_PICTURES = 400


class FullRun(NamedTuple):
  """One model trained on all items.

  Attributes:
    train_loss: [1, epochs] in nats an item.
    test_loss: [1, epochs] on the official test set.
    samples: uint8 [k, h, w, c]: means of p(x | z), z from the prior; or None.
  """

  train_loss: np.ndarray
  test_loss: np.ndarray
  samples: np.ndarray | None


class Study(NamedTuple):
  """What is known about the items and models beside their scores.

  Attributes:
    name: of the data.
    ids: int [n].
    labels: int [n], or None.
    images: uint8 [n, h, w, c], or None.
    held_out: bool [m, n].
    repeat: int [m].
    divergences: one dict an attempt that failed, with 'excluded'.
    losses: 'train_loss' and 'held_out_loss' [m, epochs], or None.
    estimates: 'std_err', 'ess', 'pareto_k', 'is_reliable' and 'round' (of the
      escalation), [kept models, n]; or None.
    num_samples: importance samples an item at first; 0 if unknown.
    full: the model trained on all items, or None.
    is_dequantized: log p is a density on the 0 … 256 scale of the pixels, so
      that it can be told in bits a dimension.
  """

  name: str
  ids: np.ndarray
  labels: np.ndarray | None
  images: np.ndarray | None
  held_out: np.ndarray
  repeat: np.ndarray
  divergences: list[dict[str, Any]]
  losses: Mapping[str, np.ndarray] | None
  estimates: Mapping[str, np.ndarray] | None
  num_samples: int
  full: FullRun | None = None
  is_dequantized: bool = False


def share_rough(study: Study) -> float:
  """Share of the log-probabilities whose estimate is not reliable."""
  if study.estimates is None:
    return 0.0
  is_known = np.isfinite(study.estimates['pareto_k'])  # else too few samples
  return float((is_known & ~study.estimates['is_reliable']).mean())


def make_page(
  study: Study, analysis: Analysis, verdict: Verdict, sections, record
) -> page.Page:
  """The whole page: verdict, key numbers, pictures, explanations, settings."""
  score = analysis.scores.score[analysis.is_scored]
  found = int((analysis.test.q_value[analysis.is_scored] <= Q_LIMIT).sum())
  number = page.format_number
  cards = [
    page.KeyNumber(
      'Mean score',
      number(analysis.mean.value, 'nats'),
      _interval_text(analysis.mean),
      'What training on an item adds to its log-probability.',
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
      f'at most {Q_LIMIT:.0%} of them falsely (q ≤ {Q_LIMIT:g})',
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


def make_sections(study: Study, analysis: Analysis) -> list[page.Section]:
  """The pictures, in the order in which a reader asks."""
  q_value = analysis.test.q_value
  score = analysis.scores.score
  sections = _item_sections(study, analysis)
  sections.append(
    page.Section(
      'Scores beside chance',
      figure=figures.score_distribution(score, analysis.null, q_value=q_value),
      alt='Histogram of the scores of all items and of scores under the null.',
      caption='If nothing were memorized, the bars would follow the outline. '
      'What lies to its right is memorization, overall or of some items.',
    )
  )
  if analysis.num_repeats > 1:
    sections.append(
      page.Section(
        'How sure of the highest scores',
        figure=figures.score_intervals(
          score, analysis.scores.std_err, analysis.num_repeats, ids=study.ids
        ),
        alt='The twenty highest scores with their 95 % intervals.',
        caption='Intervals come from repeating the whole experiment with other '
        'folds and other random numbers. The highest of many noisy scores are '
        'partly high by luck: expect them to be lower in a new experiment.',
      )
    )
  if study.labels is not None and len(np.unique(study.labels)) > 1:
    sections.append(_class_section(study, analysis))
  if len(analysis.epochs) > 1:
    sections.append(_epoch_section(study, analysis))
  if study.losses is not None:
    train, held_out = study.losses['train_loss'], study.losses['held_out_loss']
    sections.append(
      page.Section(
        'Loss over training',
        figure=figures.loss_curves(
          np.arange(1, train.shape[1] + 1), train, held_out
        ),
        alt='Training and held-out loss by epoch.',
        caption='A gap that opens between the curves is overfitting. Single '
        'items can be memorized before it opens.',
      )
    )
  if study.full is not None:
    sections += _full_sections(study.full)
  sections.append(
    page.Section(
      'Score against probability',
      figure=figures.score_against_log_prob(
        analysis.scores.log_px_in, score, q_value=q_value
      ),
      alt='Scatter of the score against the log-probability of each item.',
      caption='Memorized items need not be outliers: look for high scores '
      'among items that are as probable as most.',
    )
  )
  sections.append(_all_items_section(study, analysis))
  return sections


def _all_items_section(study: Study, analysis: Analysis) -> page.Section:
  """Every scored item, most memorized first, to sort and filter."""
  scores, test = analysis.scores, analysis.test
  order = np.argsort(-np.nan_to_num(scores.score, nan=-np.inf), stable=True)
  order = order[: int(analysis.is_scored.sum())]
  columns = {'id': study.ids[order]}
  filters = {'score': 'least', 'p': 'most', 'q': 'most'}
  if study.labels is not None and len(np.unique(study.labels)) > 1:
    columns['class'] = np.asarray(study.labels)[order]
    filters = {'class': 'equal', **filters}
  columns |= {
    'score': scores.score[order],
    'std_err': scores.std_err[order],
    'p': test.p_value[order],
    'q': test.q_value[order],
    'U': scores.log_px_in[order],
    'V': scores.log_px_out[order],
  }
  images = None
  if study.images is not None and study.images.shape[-1] in (1, 3, 4):
    images = study.images[order[:_NUM_PICTURES]]
  return page.Section(
    'All items',
    'Sort by a column with its button; filter with the fields. U and V are the '
    'log-probabilities in nats when trained on and when held out. The '
    f'{_NUM_PICTURES} highest scores come with their pictures.',
    items=page.ItemTable(columns, filters, 'score', images),
  )


def _full_sections(full: FullRun) -> list[page.Section]:
  epochs = np.arange(1, full.train_loss.shape[1] + 1)
  sections = [
    page.Section(
      'Loss on the test set',
      figure=figures.loss_curves(epochs, full.train_loss, full.test_loss),
      alt='Training and test loss of one model trained on all items, by epoch.',
      caption='One more model, trained on all items; "held-out" is the '
      'official test set.',
    )
  ]
  if full.samples is not None and full.samples.shape[-1] in (1, 3, 4):
    sections.append(
      page.Section(
        'Samples',
        figure=figures.item_grid(full.samples, [''] * len(full.samples)),
        alt='Images drawn from the model that was trained on all items.',
        caption='Means of p(x | z) for latents from the prior: what this kind '
        'of model generates.',
      )
    )
  return sections


def _class_section(study: Study, analysis: Analysis) -> page.Section:
  is_scored = analysis.is_scored
  names, labels = np.unique(np.asarray(study.labels), return_inverse=True)
  return page.Section(
    'Scores by class',
    figure=figures.score_by_class(
      labels[is_scored],
      analysis.scores.score[is_scored],
      analysis.null,
      class_names=[str(name) for name in names],
    ),
    alt='Spread of the scores within each class, over that of the null.',
    caption='Classes differ in how much their items vary, and so in how much '
    'a model gains by remembering them.',
  )


def _epoch_section(study: Study, analysis: Analysis) -> page.Section:
  tracked = int(np.isfinite(analysis.score_by_epoch).all(axis=0).sum())
  some = ''
  if tracked < analysis.is_scored.sum():
    some = f' Of {tracked:,} items that were followed over training.'
  if study.estimates is not None and study.estimates['round'].any():
    some += (
      ' At the last epoch estimates that were not reliable were made anew: a '
      'small step there may be the estimator’s.'
    )
  return page.Section(
    'Scores over training',
    figure=figures.score_quantiles_over_epochs(
      analysis.epochs,
      analysis.score_by_epoch,
      analysis.null_quantiles,
      quantiles=QUANTILES,
    ),
    alt='Quantiles of the scores by epoch, with the band of the null.',
    caption='Where a line leaves its band, memorization has begun.' + some,
  )


def _item_sections(study: Study, analysis: Analysis) -> list[page.Section]:
  if study.images is None or study.images.shape[-1] not in (1, 3, 4):
    return []
  order = np.argsort(-np.nan_to_num(analysis.scores.score, nan=-np.inf))
  order = order[: int(analysis.is_scored.sum())]
  shown = min(20, len(order))

  def grid(items):
    captions = [
      f'{_short(analysis.scores.score[i])} nats\nid {study.ids[i]}'
      for i in items
    ]
    return figures.item_grid(study.images[items], captions, columns=10)

  return [
    page.Section(
      'Most memorized items',
      figure=grid(order[:shown]),
      alt=f'The {shown} items with the highest scores.',
      caption='Highest first. The number is the score: how many nats training '
      'on the item adds to its log-probability.',
    ),
    page.Section(
      'Least memorized items',
      figure=grid(order[::-1][:shown]),
      alt=f'The {shown} items with the lowest scores.',
      caption='Lowest first. A negative score says that the models that never '
      'saw the item gave it more probability; far below zero that is noise.',
    ),
  ]


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


def _short(score: float) -> str:
  """What fits below a small picture."""
  return f'{score:+.1f}' if abs(score) < 1000 else f'{score:+.0f}'


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
      f'{page.format_number(analysis.published_null_mean, "nats")}.'
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
