"""The pictures of a K-fold study, their order, and what to see in each."""

import numpy as np

from memjax.analysis import page
from memjax.analysis.memorization import figures
from memjax.analysis.memorization.analysis import QUANTILES, Analysis
from memjax.analysis.memorization.study import FullRun, Study

__all__ = ['make_sections']

# Items that the table shows with their pictures.
_NUM_PICTURES = 400


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
  body = (
    'Sort by a column with its button; filter with the fields. U and V are the '
    'log-probabilities in nats when trained on and when held out.'
  )
  if study.images is not None and study.images.shape[-1] in (1, 3, 4):
    images = study.images[order[:_NUM_PICTURES]]
    body += f' The {len(images)} highest scores come with their pictures.'
  return page.Section(
    'All items',
    body,
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


def _short(score: float) -> str:
  """What fits below a small picture."""
  text = f'{score:+.1f}' if abs(score) < 1000 else f'{score:+.0f}'
  return text.replace('-', '−')
