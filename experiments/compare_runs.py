"""Two studies of overlapping items, item by item: before and after a change."""

from typing import Any

import numpy as np
import scipy.stats
import study_folder

from memjax import stats
from memjax.analysis import drawing
from memjax.analysis.page import format_number

_FIELDS = ('score', 'log_px_out')


def common(before: study_folder.Run, after: study_folder.Run) -> dict[str, Any]:
  """Ids [n] of the items in both, and each field before and after, [n, 2]."""
  ids, *rows = np.intersect1d(
    before.scores['ids'], after.scores['ids'], return_indices=True
  )
  if not len(ids):
    raise SystemExit(
      f'{before.folder} and {after.folder} share no item: expected studies of '
      'the same data.'
    )
  pair = list(zip((before, after), rows, strict=True))
  return {'ids': ids} | {
    name: np.stack([run.scores[name][k] for run, k in pair], axis=1)
    for name in _FIELDS
  }


def summarize(score: np.ndarray) -> dict[str, float]:
  """Of the scores [n] of one study."""
  return {
    'median': float(np.median(score)),
    'mean': float(score.mean()),
    'quantile_0.95': float(np.quantile(score, 0.95)),
    'max': float(score.max()),
  }


def mean_change(pairs: np.ndarray) -> dict[str, float]:
  """Mean of after − before, [n, 2], with a 95 % bootstrap interval over items.

  It says how sure the mean is over items, not over trainings: compare it with
  the change that a control makes.
  """
  change = pairs[:, 1] - pairs[:, 0]
  low, high = stats.bootstrap_interval(
    np.mean, change, method='percentile', num_resamples=499
  )
  return {'estimate': float(change.mean()), 'low': low, 'high': high}


def measure(
  pairs: dict[str, Any], chosen: np.ndarray | None = None
) -> dict[str, Any]:
  """Numbers of the items in both, or of those that are chosen [n]."""
  rows = slice(None) if chosen is None else chosen
  score, log_px_out = (pairs[name][rows] for name in _FIELDS)
  if len(score) < 2:
    return {'num_items': len(score)}
  return {
    'num_items': len(score),
    'score_before': summarize(score[:, 0]),
    'score_after': summarize(score[:, 1]),
    'score_change': mean_change(score),
    'held_out_log_px_change': mean_change(log_px_out),
    'rank_correlation': float(scipy.stats.spearmanr(*score.T).statistic),
  }


def draw(
  pairs: dict[str, Any], chosen: np.ndarray, title: str, kind: str
) -> drawing.Figure:
  """Score after against score before; the chosen items stand out."""
  change = mean_change(pairs['score'][chosen])
  ends = ' to '.join(format_number(change[k]) for k in ('low', 'high'))
  note = f'mean change of {kind}: {format_number(change["estimate"], "nats")} '
  note += f'({ends}); dashed: no change'
  figure, (ax,) = drawing.start(4.6, title, note)
  for rows, color, label, size in (
    (~chosen, drawing.LIGHT_BLUE, 'other items', 3),
    (chosen, drawing.VERMILION, kind, 7),
  ):
    before, after = pairs['score'][rows].T
    style = {'s': size, 'color': color, 'lw': 0, 'rasterized': True}
    ax.scatter(before, after, label=label, **style)
  ends = pairs['score'].min(), pairs['score'].max()
  ax.plot(ends, ends, color=drawing.INK, lw=1, ls=drawing.DASHED)
  ax.set(xlabel='score before (nats)', ylabel='score after (nats)')
  ax.legend(frameon=False, loc='upper left')
  return figure
