"""Pictures and table of the published score's two parts."""

import numpy as np

from memjax.analysis import drawing
from memjax.analysis.page import format_number

_NAMES = {
  'published': 'Published estimator of log p',
  'accurate': 'Accurate estimator',
  'estimator': "Their difference: the estimator's part",
}


def _share(numbers: dict, what: str) -> str:
  """The estimator's part of the published number, in words."""
  parts = (numbers[k][what]['estimate'] for k in ('estimator', 'published'))
  mine, whole = map(format_number, parts)
  return f'{mine} of {whole} nats'


def draw_scatter(scores: dict, numbers: dict) -> drawing.Figure:
  """One score against the other."""
  headline = f'{_share(numbers, "mean")} of the mean published score are the '
  headline += "estimator's error"
  rank = numbers['rank_correlation_of_the_scores']['estimate']
  points = np.stack([scores['accurate'], scores['published']], axis=1)
  ends = [drawing.robust_range(values) for values in points.T]
  shown = np.clip(points, *np.transpose(ends))
  notes = f'rank correlation {format_number(round(rank, 3))}'
  clipped = drawing.note_clipped(points, shown)
  figure, (ax,) = drawing.start(4.4, headline, notes, clipped)
  size = float(np.clip(4000 / len(points), 3, 30))
  style = {'s': size, 'alpha': 0.4, 'color': drawing.BLUE, 'lw': 0}
  label = drawing.count_of(len(points))
  ax.scatter(*shown.T, rasterized=True, clip_on=False, label=label, **style)
  style = {'color': drawing.INK, 'ls': drawing.DASHED, 'lw': 1}
  ax.axline((0, 0), slope=1, label='equal scores', **style)
  ax.set(xlim=ends[0], ylim=ends[1], ylabel='score, published (nats)')
  ax.set_xlabel('score, accurate estimator of log p (nats)')
  return drawing.finish(figure)


def draw_parts(scores: dict, nulls: dict, numbers: dict) -> drawing.Figure:
  """The published score and its parts on one axis, each beside its null."""
  found = numbers['estimator']
  headline = "The estimator's part alone has a 0.95 quantile of "
  headline += format_number(found['quantile_0.95']['estimate'], 'nats')
  headline += f'; by chance, {format_number(found["null_quantile_0.95"])}'
  figure, panels = drawing.start(6.2, headline, rows=3)
  ends = drawing.robust_range(*scores.values())
  edges = np.linspace(*ends, 71)
  for ax, (key, name) in zip(panels, _NAMES.items(), strict=True):
    score, null = scores[key], nulls[key]
    style = {'fill': True, 'color': drawing.LIGHT_BLUE, 'label': 'observed'}
    ax.stairs(np.histogram(score, edges)[0], edges, **style)
    style = {'color': drawing.INK, 'lw': 1.3, 'label': 'null: shuffled folds'}
    ax.stairs(np.histogram(null, edges)[0] / len(null), edges, **style)
    style = {'color': drawing.BLUE, 'lw': 2, 'label': 'its 0.95 quantile'}
    ax.axvline(np.quantile(score, 0.95), **style)
    ax.set_title(name, loc='left', fontsize=9.5, color=drawing.INK)
    beyond = drawing.note_beyond(score, ends)
    style = {'transform': ax.transAxes, 'ha': 'right', 'va': 'top'}
    style |= {'fontsize': 8, 'color': drawing.GREY}
    ax.text(1, 0.98, drawing.fill(beyond, 32), **style)
    ax.set_ylabel('items')
  panels[-1].set(xlim=ends, xlabel='nats')
  return drawing.finish(figure)


def table(numbers: dict) -> str:
  """Markdown: each part's summaries with intervals."""
  lines = [
    '| part | mean | 0.95 quantile | max | p of mean |',
    '|---' * 5 + '|',
  ]
  for key, name in _NAMES.items():
    cells = [name]
    for what in ('mean', 'quantile_0.95', 'max'):
      found = numbers[key][what]
      value, low, high = map(format_number, found.values())
      known = np.isfinite(found['low'])
      cells.append(f'{value} ({low} to {high})' if known else value)
    cells.append(format_number(numbers[key]['p_of_mean']))
    lines.append(f'| {" | ".join(cells)} |')
  return '\n'.join(lines)
