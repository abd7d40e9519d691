"""Pictures of the nearest-neighbour ratio: Figures 5, 12 and 13."""

import numpy as np

from memjax.analysis import drawing
from memjax.analysis.page import format_number


def draw_bins(correct: dict, published: dict) -> drawing.Figure:
  """Mean ρ in bins of the score, by both ways to compute it."""
  corr = correct['rank_correlation']
  range_ = ' to '.join(
    format_number(round(corr[k], 3)) for k in ('low', 'high')
  )
  headline = 'Rank correlation of score and neighbour ratio: '
  headline += f'{format_number(round(corr["estimate"], 3))} ({range_})'
  note = 'means in bins of the score, end bins open, with 95 % intervals'
  figure, panels = drawing.start(4.6, headline, note, rows=2)
  for ax, found, color, name in (
    (panels[0], correct, drawing.BLUE, 'ρ by eq. (6)'),
    (panels[1], published, drawing.VERMILION, 'ρ as the script has it'),
  ):
    x, y = found['bin_middle'], found['bin_mean']
    style = {'fmt': 'o', 'ms': 5, 'lw': 1.6, 'color': color}
    ax.errorbar(x, y, yerr=found['bin_half_width'], **style)
    ax.axhline(1, color=drawing.GREY, lw=0.8, zorder=0)
    ax.set_ylabel(name)
  panels[1].set_xlabel(drawing.SCORE)
  return drawing.finish(figure)


def draw_distribution(score, rho, found: dict) -> drawing.Figure:
  """Density of ρ among the highly memorized and among the others."""
  high, rest = (found[f'median_of_{k}'] for k in ('top_5_percent', 'others'))
  headline = f'Median ratio {format_number(high)} among the highest 5 % of '
  headline += f'scores, {format_number(rest)} among the others'
  is_high, kept = score > np.quantile(score, 0.95), np.isfinite(rho)
  ends = drawing.robust_range(rho[kept])
  note = drawing.note_beyond(rho[kept], ends)
  figure, (ax,) = drawing.start(3.6, headline, note)
  edges = np.linspace(*ends, 41)
  for chosen, fill, color, name in (
    (~is_high, True, drawing.LIGHT_BLUE, 'others'),
    (is_high, False, drawing.VERMILION, 'highest 5 % of scores'),
  ):
    counts = np.histogram(rho[chosen & kept], edges)[0]
    share = 100 * counts / max(chosen.sum(), 1)
    label = f'{name}: {drawing.count_of(int(chosen.sum()))}'
    ax.stairs(share, edges, fill=fill, color=color, lw=1.8, label=label)
  ax.axvline(1, color=drawing.INK, lw=1, ls=drawing.DASHED)
  ax.set(xlabel='ρ  → samples come nearer than test items', ylabel='% of items')
  return drawing.finish(figure)
