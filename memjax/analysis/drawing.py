"""What the figures share: canvas, colours, axis ranges, quantiles, sentences.

The only module that imports matplotlib. It uses the object interface and no
global setting, so that figures can be drawn in any thread and without a
display. Values that are not finite count as missing.
"""

import textwrap
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import scipy.stats
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import (
  FuncFormatter,
  LogLocator,
  MaxNLocator,
  NullLocator,
)

from memjax.analysis.page import format_number
from memjax.stats import LEVEL

__all__ = ['Axes', 'Figure']

Style = dict[str, Any]

# Okabe and Ito's colours stay apart for colour-blind readers; whatever must be
# told apart differs in shape or line style as well.
BLUE, LIGHT_BLUE, VERMILION = '#0072b2', '#8fc1de', '#d55e00'
INK, GREY, PALE = '#222222', '#5f6368', '#c3c7cd'
DASHED = (0, (4, 2))
# In inches: type of 8.5 points stays legible when this fills a telephone.
WIDTH = 5.4
SCORE = 'memorization score (nats)  → more memorized'


def start(
  height: float, headline: str, *notes: str, rows: int = 1
) -> tuple[Figure, list[Axes]]:
  """A figure with a headline, grey notes below it, and panels in rows."""
  size = (WIDTH, height)
  figure = Figure(figsize=size, layout='constrained', facecolor='white')
  panels = list(figure.subplots(rows, 1, sharex=True, squeeze=False)[:, 0])
  style = {'x': 0.012, 'ha': 'left', 'fontsize': 10.5, 'weight': 'bold'}
  figure.suptitle(fill(headline), color=INK, parse_math=False, **style)
  note = fill('; '.join(filter(None, notes)), 66)
  panels[0].set_title(note, loc='left', fontsize=8.5, color=GREY)
  for ax in panels:
    ax.spines[['top', 'right']].set_visible(False)
    ax.spines[['left', 'bottom']].set_color(GREY)
    ax.tick_params(colors=INK, labelsize=9)
    for axis in (ax.xaxis, ax.yaxis):
      axis.label.set(fontsize=9.5, color=INK)
  return figure, panels


def finish(figure: Figure) -> Figure:
  """Adds one legend below the axes, where it hides no data."""
  handles, labels = figure.axes[0].get_legend_handles_labels()
  style = {'fontsize': 8.5, 'frameon': False, 'labelcolor': INK}
  style['ncols'] = 2 if max(map(len, labels), default=0) < 40 else 1
  if labels:
    figure.legend(handles, labels, loc='outside lower left', **style)
  return figure


def sentence(text: str) -> Figure:
  """A figure that says why there is nothing to draw."""
  figure = Figure(figsize=(WIDTH, 0.7), facecolor='white')
  figure.text(0.03, 0.5, text, fontsize=9.5, va='center', color=GREY)
  return figure


def fill(text: str, width: int = 58) -> str:
  """Breaks a text into the fewest lines, of about equal length."""
  # A number and its per cent sign stay together.
  tied = text.replace(' %', '\u00a0%')
  wrap = lambda width: textwrap.wrap(tied, width, break_on_hyphens=False)
  count = len(wrap(width))
  while width > 12 and len(wrap(width - 1)) <= count:
    width -= 1
  return '\n'.join(wrap(width)).replace('\u00a0', ' ')


def band(ax: Axes, x: Any, low: Any, high: Any, **style: Any) -> None:
  """Fills between two curves; between two points, a short piece of a band."""
  if len(x) == 1:
    x, low, high = x[0] + np.array([-0.1, 0.1]), [*low, *low], [*high, *high]
  # The outline keeps a band in sight that is thinner than a pixel.
  ax.fill_between(x, low, high, lw=0.8, **style)


def ticks(ax: Axes, x: np.ndarray, label: str) -> None:
  """Marks values on the x-axis, whatever the scale of the other."""
  style: Style = {'color': VERMILION, 'ls': '', 'marker': '|', 'ms': 9}
  place = ax.get_xaxis_transform()
  height = np.full(x.shape, 0.025)
  ax.plot(x, height, label=label, transform=place, **style)


def density(ax: Axes, points: np.ndarray) -> None:
  """Shows how many of the points [k, 2] lie where."""
  style: Style = {'gridsize': 45, 'bins': 'log', 'cmap': 'Blues', 'mincnt': 1}
  cells = ax.hexbin(*points.T, lw=0, rasterized=True, **style)
  ax.figure.colorbar(cells, ax=ax, label='items per cell', pad=0.02)


def image(
  figure: Figure, box: tuple[float, float, float, float], pixels: np.ndarray
) -> Axes:
  """Shows bytes [h, w, c] with a dark border in a box, grey if c = 1."""
  ax = figure.add_axes(box, xticks=[], yticks=[])
  # Pixels stay squares if they are few; many would alias when made smaller.
  how = 'nearest' if max(pixels.shape) <= 128 else 'antialiased'
  style = {'cmap': 'gray', 'vmin': 0, 'vmax': 255, 'interpolation': how}
  grey = pixels.shape[-1] == 1
  ax.imshow(pixels[..., 0] if grey else pixels, aspect='auto', **style)
  ax.spines[:].set(color=INK, linewidth=0.9)
  return ax


def whole_numbers(axis: Axis) -> None:
  """Puts the ticks of an axis at integers."""
  axis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))


def log_ticks(ax: Axes) -> None:
  """A logarithmic x-axis with few, plain numbers."""
  ax.set_xscale('log')
  low, high = ax.get_xlim()
  is_short = high / low < 30
  ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if is_short else (1,)))
  ax.xaxis.set_minor_locator(NullLocator())
  ax.xaxis.set_major_formatter(
    FuncFormatter(lambda value, _: format_number(float(value)))
  )


def label_epochs(ax: Axes, epochs: np.ndarray) -> None:
  """Labels the x-axis with whole epochs."""
  ax.set_xlabel('epoch')
  whole_numbers(ax.xaxis)
  if len(epochs) == 1:
    ax.set(xlim=(epochs[0] - 1, epochs[0] + 1), xticks=epochs)


def name_panel(ax: Axes, level: float) -> None:
  """Says in words which quantile of the scores a panel shows."""
  share = f'{100 * (1 - level):.3g}'
  words = f'Exceeded by {share} % of the items ({level:g} quantile)'
  words = 'The median item' if level == 0.5 else words
  ax.set_title(words, loc='left', fontsize=9.5, color=INK)
  ax.set_ylabel('score (nats)')


def name_rows(ax: Axes, names: Sequence[str], what: str) -> None:
  """Names the rows from the top; scores run along them."""
  ax.set_yticks(range(len(names)), names, fontsize=8.5, parse_math=False)
  ax.set(ylim=(len(names) - 0.4, -0.6), ylabel=what, xlabel=SCORE)
  ax.tick_params(axis='y', length=0)
  ax.grid(axis='x', color=PALE, lw=0.6)
  ax.set_axisbelow(True)


def fit(captions: Sequence[str], cell: float) -> tuple[list[str], float, float]:
  """Captions that fit a cell of so many inches, their points and inches."""
  lines = [caption.split('\n') for caption in captions]
  longest = max(max(map(len, caption)) for caption in lines)
  size = float(np.clip(72 * cell / (0.6 * max(longest, 1)), 6.5, 8.5))
  most = int(72 * cell / (0.6 * size))
  cut = lambda line: line if len(line) <= most else line[: most - 1] + '…'
  tall = 1.25 * size / 72 * max(map(len, lines))
  return ['\n'.join(map(cut, caption)) for caption in lines], size, tall


def finite(values: Any) -> np.ndarray:
  """The finite values, flat, as float64."""
  values = np.asarray(values, np.float64).ravel()
  return values[np.isfinite(values)]


def quantiles_of(rows: Iterable, levels: Sequence[float]) -> np.ndarray:
  """[rows, levels] quantiles of each row's finite values; NaN without any."""
  kept = [finite(row) for row in rows]
  none = np.full(len(levels), np.nan)
  found = [np.quantile(k, levels) if k.size else none for k in kept]
  return np.reshape(found, (len(kept), len(levels)))


def mean_quantile(rows: Iterable, level: float) -> float:
  """The quantile of each row, on average; NaN without finite values."""
  found = finite(quantiles_of(rows, [level]))
  return float(found.mean()) if found.size else np.nan


def robust_range(
  *groups: np.ndarray, widths: float = 4.0
) -> tuple[float, float]:
  """Ends of an axis that shows the bulk of the values, whatever their tails.

  From the 0.1 % to the 99.9 % quantile, widened by a quarter; yet no farther
  from the central 90 % than `widths` times its width, and not past the values.
  """
  ends = []
  for group in filter(len, groups):
    tail, low, high, head = np.quantile(group, (0.001, 0.05, 0.95, 0.999))
    wide = 0.25 * (head - tail)
    reach = widths * (high - low) if high > low else np.inf
    ends.append(max(tail - wide, low - reach, group.min()))
    ends.append(min(head + wide, high + reach, group.max()))
  return _with_margin(ends, 0.03)


def loss_range(losses: Iterable[np.ndarray]) -> tuple[float, float]:
  """Ends of an axis for losses [m, E] after the first tenth of the epochs.

  The first epochs, or a model that diverges, would flatten all the rest: a
  model counts up to five times the quartile range from the others.
  """
  ends = []
  for loss in losses:
    skip = max(1, loss.shape[1] // 10) if loss.shape[1] > 3 else 0
    late = loss[:, skip:] if np.isfinite(loss[:, skip:]).any() else loss
    for kept in filter(len, map(finite, late.T)):
      low, high = np.quantile(kept, (0.25, 0.75))
      reach = 5 * (high - low)
      ends.append(max(kept.min(), low - reach))
      ends.append(min(kept.max(), high + reach))
  return _with_margin(ends, 0.08)


def _with_margin(ends: list, share: float) -> tuple[float, float]:
  low, high = min(ends), max(ends)
  margin = share * (high - low) or max(0.5, 0.1 * abs(low))
  return float(low - margin), float(high + margin)


def discoveries(score: np.ndarray, q_value: np.ndarray | None) -> np.ndarray:
  """bool [n], the items with a finite score and q ≤ 0.05."""
  if q_value is None:
    return np.zeros(score.shape, bool)
  check_shape('q_value', q_value, score.shape)
  return np.isfinite(score) & (q_value <= LEVEL)


def highest(score: np.ndarray, count: int) -> np.ndarray:
  """Positions of the highest finite scores, the highest first."""
  known = np.flatnonzero(np.isfinite(score))
  return known[np.argsort(-score[known], stable=True)][:count]


def check_shape(name: str, array: np.ndarray, shape: Sequence) -> None:
  """ValueError unless the array has this shape; None in it stands for any."""
  pairs = zip(shape, array.shape, strict=True)
  if not all(want in (None, got) for want, got in pairs):
    wanted = ', '.join('any' if size is None else str(size) for size in shape)
    raise ValueError(f'{name} has shape {array.shape}: expected ({wanted}).')


def count_of(count: int, noun: str = 'item') -> str:
  """'1 item', '1,797 items'."""
  return f'{count:,} {noun}{"" if count == 1 else "s"}'


def name_found(found: np.ndarray) -> str:
  """The legend of the discoveries."""
  return f'{count_of(int(found.sum()))} with q ≤ {LEVEL:g}'


def note_missing(score: np.ndarray) -> str:
  """Says how many items were left out; '' if none."""
  count = int((~np.isfinite(score)).sum())
  return f'{count_of(count)} without a finite score left out' if count else ''


def note_beyond(
  values: np.ndarray,
  ends: tuple[float, float],
  fate: str = 'not drawn',
  noun: str = 'item',
) -> str:
  """Says how many values an axis leaves out, and how far they go; or ''."""
  low, high = values[values < ends[0]], values[values > ends[1]]
  farthest = [*np.sort(low)[:1], *np.sort(high)[-1:]]
  if not farthest:
    return ''
  count = count_of(low.size + high.size, noun)
  where = ' and '.join(map(format_number, farthest))
  return f'{count} beyond the axis {fate}, the farthest at {where}'


def note_clipped(points: np.ndarray, shown: np.ndarray) -> str:
  """Says how many points [k, 2] stand at the edge, and the highest; or ''."""
  count = int((points != shown).any(axis=1).sum())
  highest = format_number(points[:, 1].max())
  where = f'beyond the axes drawn at their edge, highest score {highest}'
  return f'{count_of(count)} {where}' if count else ''


def note_gaps(train: np.ndarray, held_out: np.ndarray) -> str:
  """Says how many models lack a training loss, or a loss that others have."""
  gaps = ~np.isfinite(train)
  gaps |= ~np.isfinite(held_out) & np.isfinite(held_out).any(axis=0)
  count = int(gaps.any(axis=1).sum())
  word = 'lacks' if count == 1 else 'lack'
  return f'{count} of {len(train)} models {word} a finite loss' if count else ''


def say_above(
  epoch: Any, levels: Sequence[float], values: np.ndarray, bands: np.ndarray
) -> str:
  """Which quantiles lie above the null's [Q, 2] bands."""
  if not np.isfinite(bands).all():
    return 'Quantiles of the scores by epoch'
  above = [
    f'{level:g}'
    for level, value, (_, high) in zip(levels, values, bands, strict=True)
    if value > high
  ]
  if not above:
    return f'At epoch {epoch:g}, no quantile lies above its null band'
  one = len(above) == 1
  names = above[0] if one else f'{", ".join(above[:-1])} and {above[-1]}'
  noun = 'quantile lies above its' if one else 'quantiles lie above their'
  return f'At epoch {epoch:g}, the {names} {noun} null band'


def say_gap(train: np.ndarray, held_out: np.ndarray) -> str:
  """How far the mean held-out loss ends from the mean training loss."""
  both = np.isfinite(train).any(axis=0) & np.isfinite(held_out).any(axis=0)
  if not both.any():
    return 'Loss by epoch'
  last = np.flatnonzero(both)[-1]
  gap = finite(held_out[:, last]).mean() - finite(train[:, last]).mean()
  side = 'above' if gap >= 0 else 'below'
  size = format_number(abs(gap), 'nats')
  return f'Held-out loss ends {size} {side} the training loss'


def say_correlation(log_px_in: np.ndarray, score: np.ndarray) -> str:
  """The rank correlation in words."""
  if not (np.ptp(log_px_in) > 0 and np.ptp(score) > 0):
    return 'Score by log-probability'
  rank = scipy.stats.spearmanr(log_px_in, score).statistic
  words = 'Scores hardly follow log-probability'
  if abs(rank) >= 0.1:
    side = 'higher' if rank > 0 else 'lower'
    words = f'Higher scores go with {side} log-probability'
  return f'{words} (rank correlation {format_number(round(rank, 2))})'
