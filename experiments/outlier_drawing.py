"""Are highly memorized items outliers? Figures 3, 10 and 11, on one axis."""

from typing import Any

import numpy as np
import scipy.stats
from matplotlib.offsetbox import AnnotationBbox, OffsetImage
from matplotlib.ticker import MaxNLocator

from memjax.analysis import drawing
from memjax.analysis.page import format_number

_BINS = 13


def proportion(count: int, total: int) -> dict[str, float]:
  """A share with Wilson's 95 % interval."""
  if not total:
    return {'estimate': np.nan, 'low': np.nan, 'high': np.nan}
  test = scipy.stats.binomtest(int(count), int(total))
  low, high = test.proportion_ci(method='wilson')
  return {'estimate': count / total, 'low': float(low), 'high': float(high)}


def bins_of(values: np.ndarray, count: int = _BINS) -> tuple[Any, Any]:
  """Round edges of the bulk, and each value's bin; the end bins are open."""
  ends = np.quantile(values, (0.002, 0.998))
  edges = MaxNLocator(count, steps=[1, 2, 2.5, 5, 10]).tick_values(*ends)
  return edges, np.clip(np.digitize(values, edges) - 1, 0, len(edges) - 2)


def measure(score, log_px_in, log_px_out, q_value) -> dict[str, Any]:
  """What the figure says, the paper's claim included."""
  is_high = score > np.quantile(score, 0.95)
  edges, place = bins_of(log_px_in)
  count = lambda chosen: np.bincount(place[chosen], minlength=len(edges) - 1)
  high, every = count(is_high), count(np.ones_like(is_high))
  low, top = np.quantile(log_px_in, (0.05, 0.95))
  central = lambda values: (values >= low) & (values <= top)
  own = np.quantile(log_px_out, (0.05, 0.95))
  shares = {
    'share_of_high_in_central_90_percent': central(log_px_in)[is_high],
    # Central among all items as they are WITH training.
    'share_of_high_there_when_held_out': central(log_px_out)[is_high],
    'share_of_high_in_central_90_percent_held_out': (
      (log_px_out >= own[0]) & (log_px_out <= own[1])
    )[is_high],
    'share_of_high_below_it': (log_px_in < low)[is_high],
    'share_of_found_in_central_90_percent': central(log_px_in)[q_value <= 0.05],
  }
  return {
    'limit_of_high_score': np.quantile(score, 0.95),
    'num_high': int(is_high.sum()),
    'num_high_with_q_at_most_0.05': int((q_value[is_high] <= 0.05).sum()),
    **{name: proportion(v.sum(), v.size) for name, v in shares.items()},
    'edges': edges,
    'high': high,
    'items': every,
    'proportion': [proportion(*pair) for pair in zip(high, every, strict=True)],
  }


def draw(score, log_px_in, images, found: dict[str, Any]) -> drawing.Figure:
  """Examples, counts and proportions in bins of log p; `images` are bytes."""
  edges, high, every = (found[key] for key in ('edges', 'high', 'items'))
  share = found['share_of_high_in_central_90_percent']['estimate']
  headline = f'{100 * share:.0f} % of the highly memorized items lie in the '
  headline += 'central 90 % of log-probability'
  out = found['share_of_high_there_when_held_out']['estimate']
  limit = format_number(found['limit_of_high_score'], 'nats')
  note = (
    f'when held out, {100 * out:.0f} % of them do; highly memorized: score '
  )
  note += f'above {limit}, one item in 20; of those with q ≤ 0.05: '
  note += f'{found["num_high_with_q_at_most_0.05"]}'
  figure, panels = drawing.start(6.5, headline, note, rows=3)
  panels[0].get_gridspec().set_height_ratios([1.15, 1.9, 1.5])
  middle, width = (edges[1:] + edges[:-1]) / 2, 0.9 * np.diff(edges)
  bars = {'width': width, 'color': drawing.VERMILION}
  _show_examples(panels[0], score, log_px_in, images, middle)
  label = 'other items'
  style = {'color': drawing.LIGHT_BLUE, 'label': label}
  panels[1].bar(middle, every - high, width, **style)
  label = 'highly memorized (number above)'
  panels[1].bar(middle, high, bottom=every - high, label=label, **bars)
  for x, y, text in zip(middle, every, high, strict=True):
    y += 0.015 * every.max()
    style = {'ha': 'center', 'va': 'bottom', 'fontsize': 8}
    style['bbox'] = {'fc': 'white', 'ec': 'none', 'pad': 0.4, 'alpha': 0.85}
    panels[1].text(x, y, f'{text:,}', **style)
  low, mid, top = np.array(
    [[p[k] for k in ('low', 'estimate', 'high')] for p in found['proportion']]
  ).T
  error = np.nan_to_num([mid - low, top - mid])
  style = {'ecolor': drawing.INK, 'error_kw': {'lw': 1}, 'alpha': 0.8}
  panels[2].bar(middle, np.nan_to_num(mid), yerr=error, **bars, **style)
  style = {'color': drawing.INK, 'lw': 1, 'ls': drawing.DASHED}
  panels[2].axhline(0.05, **style)
  label = 'one in 20: if log-probability did not matter'
  panels[1].plot([], [], label=label, **style)
  style = {'color': drawing.GREY, 'lw': 1.2, 'ls': (0, (1, 1.5))}
  for k, end in enumerate(np.quantile(log_px_in, (0.05, 0.95))):
    panels[2].axvline(end, **style)
    label = None if k else 'ends of the central 90 %'
    panels[1].axvline(end, label=label, **style)
  panels[1].set(ylabel='items', ylim=(0, 1.1 * every.max()))
  panels[2].set(
    ylabel='proportion highly\nmemorized',
    ylim=(0, min(1, 1.1 * top[every > 9].max(initial=0.1))),
  )
  panels[2].set(xlim=(edges[0], edges[-1]))
  panels[2].set_xlabel('log-probability when trained on (nats), end bins open')
  handles, labels = panels[1].get_legend_handles_labels()
  style = {'loc': 'outside lower left', 'ncols': 1, 'frameon': False}
  figure.legend(handles, labels, fontsize=8.5, **style)
  return figure


def _show_examples(ax, score, log_px_in, images, middle) -> None:
  """One random item of each kind above each bin."""
  place = bins_of(log_px_in)[1]
  is_high = score > np.quantile(score, 0.95)
  rng = np.random.default_rng(555)
  zoom = 0.9 * 72 * (drawing.WIDTH - 0.9) / len(middle) / images.shape[2]
  for row, kind, color in (
    (1, is_high, drawing.VERMILION),
    (0, ~is_high, drawing.BLUE),
  ):
    for k, x in enumerate(middle):
      members = np.flatnonzero(kind & (place == k))
      if members.size:
        picture = images[rng.choice(members)]
        picture = np.broadcast_to(picture, (*picture.shape[:2], 3))
        box = OffsetImage(picture, zoom=0.8 * zoom, interpolation='nearest')
        frame = {'edgecolor': color, 'linewidth': 1.8}
        style = {'pad': 0.05, 'bboxprops': frame}
        ax.add_artist(AnnotationBbox(box, (x, row), **style))
  ax.set(
    ylim=(-0.6, 1.6), yticks=[0, 1], yticklabels=['other', 'highly\nmemorized']
  )
  ax.spines[:].set_visible(False)
  ax.tick_params(length=0, labelbottom=False)
