"""Pictures of scores, losses and items: arrays in, a matplotlib Figure out.

This is the only module that imports matplotlib. It uses its object interface
and none of its global settings, so that figures can be drawn in any thread and
without a display. Every function is pure, and a headline computed from the
data says what to see. Items without a finite score are left out, and the
figure says how many; where nothing is left, a sentence stands in the figure's
place, since the report of a failed run is still worth reading.
"""

import math
import textwrap
from collections.abc import Sequence

import numpy as np
import scipy.stats
from jaxtyping import Shaped
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from memjax import validate

__all__ = [
  'item_grid',
  'loss_curves',
  'score_against_log_prob',
  'score_by_class',
  'score_distribution',
  'score_intervals',
  'score_quantiles_over_epochs',
]

Vector = Shaped[np.ndarray, '_']
Matrix = Shaped[np.ndarray, '_ _']
Cube = Shaped[np.ndarray, '_ _ _']

# Okabe and Ito's colours stay apart for colour-blind readers; where two things
# must be told apart, their shape differs as well.
_BLUE, _VERMILION, _GREEN = '#0072b2', '#d55e00', '#009e73'
_INK, _GREY, _PALE = '#222222', '#5f6368', '#b8bcc2'
# Inches. With type of 9 points and more this is legible at a phone's width.
_WIDTH = 5.4
_SCORE = 'memorization score (nats)  → more memorized'
_DISCOVERY = 0.05
_MANY_POINTS = 20_000
_MANY_CLASSES = 30


def score_distribution(
  score: Vector, null: Matrix, *, q_value: Vector | None = None
) -> Figure:
  """Histogram of the scores, with the scores of the null as an outline.

  Args:
    score: [n] scores in nats.
    null: [P, n] scores under P permutations of the folds; P may be 0.
    q_value: [n]; items at 0.05 or less are ticked below the axis.
  """
  kept, null = _finite(score), _finite(null)
  if not kept.size:
    return _sentence('No item has a finite score: no distribution to show.')
  low, high = _robust_range(kept, null)
  edges = np.linspace(low, high, 1 + int(np.clip(2 * kept.size**0.5, 10, 60)))
  top = np.quantile(kept, 0.95)
  headline = f'One item in 20 scores above {top:.3g} nats'
  if null.size:
    null_top = np.quantile(null, 0.95)
    headline += f'; if nothing were memorized, above {null_top:.3g}'
  outside = (kept < low) | (kept > high)
  figure, (ax,) = _start(
    3.7,
    headline,
    _note_dropped(score),
    _note_outside(int(outside.sum()), kept, 'are outside the axis'),
  )
  ax.stairs(
    np.histogram(kept, edges)[0],
    edges,
    fill=True,
    color=_BLUE,
    alpha=0.55,
    label=f'observed scores ({kept.size:,} items)',
  )
  ax.axvline(top, color=_BLUE, lw=1.8, label=f'0.95 quantile: {top:.3g} nats')
  if null.size:
    # Counts of one permutation on average, comparable with the observed ones.
    share = np.full(null.size, kept.size / null.size)
    ax.stairs(
      np.histogram(null, edges, weights=share)[0],
      edges,
      color=_INK,
      lw=1.5,
      label='null: folds shuffled',
    )
    label = f'its 0.95 quantile: {null_top:.3g} nats'
    ax.axvline(null_top, color=_INK, lw=1.5, ls=(0, (4, 2)), label=label)
  if q_value is not None:
    _tick_discoveries(ax, np.clip(_discoveries(score, q_value), low, high))
  ax.set(xlim=(low, high), xlabel=_SCORE, ylabel='items')
  return _finish(figure, columns=2)


def score_quantiles_over_epochs(
  epochs: Vector,
  score: Matrix,
  null_quantiles: Cube,
  *,
  quantiles: Sequence[float] = (0.5, 0.95, 0.999),
) -> Figure:
  """Quantiles of the scores by epoch, one panel each, with the null's band.

  Args:
    epochs: [E] increasing epochs; a single one is drawn as a point.
    score: [E, n] scores in nats at each.
    null_quantiles: [E, P, Q] the same quantiles under P permutations of the
      folds; P may be 0.
    quantiles: the Q quantiles.
  """
  if null_quantiles.shape[::2] != (len(epochs), len(quantiles)):
    raise ValueError(
      f'null_quantiles has shape {null_quantiles.shape}: expected '
      f'({len(epochs)} epochs, permutations, {len(quantiles)} quantiles).'
    )
  values = _by_epoch(score, quantiles)
  if not np.isfinite(values).any():
    return _sentence('No epoch has finite scores: no trend to show.')
  null = np.moveaxis(_by_row(null_quantiles, (0.05, 0.95)), -1, 0)
  above = [
    f'{q:g}' for q, v, n in zip(quantiles, values[-1], null[-1], strict=True)
    if v > n[1]
  ]
  figure, panels = _start(
    1.1 + 1.35 * len(quantiles),
    _say_above(above, epochs[-1], null_quantiles.shape[1]),
    rows=len(quantiles),
  )
  for ax, q, value, band in zip(
    panels, quantiles, values.T, null.transpose(2, 0, 1), strict=True
  ):
    pass
  return _finish(figure, columns=2)
