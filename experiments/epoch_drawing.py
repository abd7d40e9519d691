"""Losses over epochs above score quantiles: Figure 4 (a) and (b) on one axis.

Which comes first, memorization or the generalization gap? The published curves
answer too late for the gap: the training loss is the mean over an epoch, during
which the model improves, and the held-out loss that at its end. Here a training
loss stands at the middle of its epoch, and is compared with the mean of the
held-out loss over that epoch. And the mean score by `mean_log` IS the
generalization gap of log p, tested as the other summaries are; trust it more,
above all with batch normalization, whose training loss is in training mode.
"""

from typing import Any

import numpy as np

from memjax.analysis import drawing
from memjax.scores.memorization import memorization_score
from memjax.scores.memorization_null import fold_permutations, null_scores

LEVELS = (0.95, 0.999)
NAMES = ('mean', *(f'quantile_{level:g}' for level in LEVELS))
_PERMUTATIONS = 99
_DOTS = {'color': drawing.GREY, 'lw': 1.2, 'ls': (0, (1, 1.5))}


def summarize(score: np.ndarray) -> np.ndarray:
  """Mean and quantiles over the items, [..., 3]."""
  parts = [score.mean(axis=-1), *np.quantile(score, LEVELS, axis=-1)]
  return np.stack(parts, axis=-1)


def first_lasting(epochs, is_so) -> int | None:
  """The first epoch from which on something holds to the end."""
  fails = np.flatnonzero(~np.asarray(is_so))
  start = fails[-1] + 1 if fails.size else 0
  return int(epochs[start]) if start < len(epochs) else None


def follow(log_px: dict, held_out, repeat, groups, estimator: str) -> dict:
  """Score summaries [E, 3], their nulls [E, P, 3], and when they leave them.

  Of the items that have log p at all epochs. A summary has left its null at
  p ≤ 0.05, one-sided, there and ever after; p is of permuted folds, the null
  what chance alone gives.
  """
  epochs = np.array(sorted(log_px))
  known = np.all([np.isfinite(log_px[e]).all(axis=0) for e in epochs], axis=0)
  options: dict[str, Any] = {'repeat': repeat, 'estimator': estimator}
  draw = {'groups': None if groups is None else groups[known]}
  draw |= {'num_permutations': _PERMUTATIONS, **options}
  value, null, p = [], [], []
  for epoch in epochs:
    given = log_px[epoch][:, known], held_out[:, known]
    value.append(summarize(memorization_score(*given, **options).score))
    null.append(summarize(null_scores(*given, **draw)))
    exceed = [
      summarize(
        memorization_score(given[0], given[1][:, order], **options).score
      )
      >= value[-1] - 1e-9
      for order in fold_permutations(
        len(given[1].T), _PERMUTATIONS, groups=draw['groups']
      )
    ]
    p.append((1 + np.sum(exceed, axis=0)) / (1 + _PERMUTATIONS))
  value, null, p = np.stack(value), np.stack(null), np.stack(p)
  leaves = {
    name: first_lasting(epochs, p[:, k] <= 0.05) for k, name in enumerate(NAMES)
  }
  found = {'epochs': epochs, 'value': value, 'null': null, 'p': p}
  found |= {'leaves_null': leaves, 'num_items': int(known.sum())}
  return {**found, 'estimator': estimator}


def numbers(compared: dict, found: dict) -> dict[str, Any]:
  """What the figure says, by the names of the summaries."""
  by_name = lambda rows: dict(zip(NAMES, rows.T, strict=True))
  return {
    **compared,
    **found,
    'gap': np.mean(compared['gap'], axis=0),
    'null': by_name(found['null'].mean(axis=1)),
    'value': by_name(found['value']),
    'p': by_name(found['p']),
  }


def compare_losses(epochs, repeat, train, held_out) -> dict[str, Any]:
  """The gap [L, E − 1] of each repeat in epochs 2 …, and when it opens.

  A repeat holds every item out once, so that hard folds do not matter. The mean
  over an epoch is that of the cubic through four ends of epochs.
  """
  mean = (held_out[:, 1:] + held_out[:, :-1]) / 2
  if len(epochs) > 2:
    bend = np.diff(held_out, 2, axis=1)
    bend = np.pad(bend, ((0, 0), (1, 1)), mode='edge')
    mean -= (bend[:, 1:] + bend[:, :-1]) / 24
  of_model = mean - train[:, 1:]
  rows = [np.nanmean(of_model[repeat == r], axis=0) for r in np.unique(repeat)]
  late = np.nanmean(held_out, axis=0) > np.nanmean(train, axis=0)
  return {
    'gap': np.stack(rows),
    'opens': first_lasting(epochs[1:], np.mean(rows, axis=0) > 0),
    'opens_as_published': first_lasting(epochs, late),
  }


def say(name: str, verb: str, epoch, first) -> str:
  """'the gap opens in epoch 9', with care for what lies before the first."""
  if epoch is None:
    return f'{name} never {verb}'
  return f'{name} {verb} {"by" if epoch == first else "in"} epoch\xa0{epoch}'


def draw(losses: tuple, compared: dict, found: dict) -> drawing.Figure:
  """The figure; `losses` are epochs [E], training and held-out loss [m, E]."""
  epochs, train, held_out = losses
  scored, leaves = found['epochs'], found['leaves_null']
  is_gap = found['estimator'] == 'mean_log'
  pairs = [
    ('the generalization gap of log p' if is_gap else 'the mean score', 'mean'),
    ('the 0.95 score quantile', 'quantile_0.95'),
  ]
  headline = '; '.join(
    say(name, 'leaves its null', leaves[key], scored[0]) for name, key in pairs
  )
  headline = headline[0].upper() + headline[1:]
  note = say('the gap of the loss', 'opens', compared['opens'], epochs[:2][-1])
  late = compared['opens_as_published']
  note += '; ' + say('the curves as published', 'cross', late, epochs[0])
  note += f'; scores of {drawing.count_of(found["num_items"])}'
  figure, panels = drawing.start(8.4, headline, note, rows=5)
  middle, label = epochs - 0.5, 'training, at the middle of its epoch'
  spread(panels[0], middle, train, drawing.BLUE, ls='-', label=label)
  style = {'ls': drawing.DASHED, 'label': 'held-out, at the end of an epoch'}
  spread(panels[0], epochs, held_out, drawing.VERMILION, **style)
  panels[0].set(ylim=drawing.loss_range((train, held_out)), ylabel='nats')
  spread(panels[1], middle[1:], compared['gap'], drawing.VERMILION, ls='-')
  panels[1].set(ylim=drawing.loss_range([compared['gap']]), ylabel='nats')
  if compared['opens'] is not None:
    panels[1].axvline(compared['opens'] - 0.5, **_DOTS)
  titles = [
    'Loss: mean and range of the models',
    'Held-out − training loss: mean and range of the repeats',
  ]
  titles += ['Mean score' + ' = generalization gap of log p' * is_gap]
  for k, ax in enumerate(panels[2:]):
    low, high = np.quantile(found['null'][..., k], (0.05, 0.95), axis=1)
    drawing.band(ax, scored, low, high, color=drawing.PALE)
    ax.plot(scored, found['value'][:, k], 'o-', color=drawing.INK, ms=4)
    if leaves[NAMES[k]] is not None:
      ax.axvline(leaves[NAMES[k]], **_DOTS)
    drawing.name_panel(ax, (0.0, *LEVELS)[k])
  style = {'loc': 'left', 'fontsize': 9.5, 'color': drawing.INK}
  for title, ax in zip(titles[1:], panels[1:3], strict=True):
    ax.set_title(title, **style)
  panels[0].text(1, 0.98, titles[0], transform=panels[0].transAxes, ha='right',
                 va='top', fontsize=9.5, color=drawing.INK)  # fmt: skip
  for ax in panels[1:]:
    ax.axhline(0, color=drawing.GREY, lw=0.6, zorder=0)
  panels[0].plot([], [], 'o-', color=drawing.INK, ms=4, label='scores')
  style = {'color': drawing.PALE, 'label': 'their null: 5–95 %'}
  panels[0].fill_between([], [], [], **style)
  panels[0].plot([], [], label='above zero, or the null, from here', **_DOTS)
  drawing.label_epochs(panels[-1], epochs)
  return drawing.finish(figure)


def spread(ax, x, curves, color, **style) -> None:
  """Mean and range of curves [m, E]."""
  ax.plot(x, np.nanmean(curves, axis=0), color=color, lw=2, **style)
  ends = np.nanmin(curves, axis=0), np.nanmax(curves, axis=0)
  drawing.band(ax, x, *ends, color=color, alpha=0.2)
