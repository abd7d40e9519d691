"""Pictures of sweeps over thresholds: rows in, a matplotlib Figure out."""

from collections.abc import Mapping, Sequence

import numpy as np

from memjax.analysis import drawing
from memjax.analysis.drawing import Figure
from memjax.analysis.page import format_number

NAMES = {'c_t': 'C_T', 'class_c_t': 'C_T, mean of classes'}
_MARKERS = 'osD^v'
_COLORS = (drawing.BLUE, drawing.VERMILION, drawing.INK, drawing.GREY)


def frontier(
  sweeps: Mapping[str, Sequence[dict]], kind: str, number: str = 'c_t'
) -> Figure:
  """Fréchet distance against C_T, a point a threshold, a line a sweep.

  Args:
    sweeps: rows of `rejection_frontier.collect`, by name.
    kind: 'rejecting' or 'judging' embedding.
    number: of NAMES.
  """
  first, last = (next(iter(sweeps.values()))[k][kind]['mean'] for k in (0, -1))
  headline = f'{NAMES[number]} goes from {format_number(first[number])} to '
  headline += f'{format_number(last[number])}, the Fréchet distance from '
  headline += f'{format_number(first["frechet"])} to '
  headline += f'{format_number(last["frechet"])}'
  figure, (ax,) = drawing.start(4.0, headline, f'{kind} embedding')
  for k, (name, rows) in enumerate(sweeps.items()):
    color = _COLORS[k % len(_COLORS)]
    x, y = (
      np.array([row[kind]['mean'][key] for row in rows])
      for key in ('frechet', number)
    )
    reach = [
      np.abs(
        np.array([row[kind]['interval'][key] for row in rows], float).T - value
      )
      for key, value in (('frechet', x), (number, y))
    ]
    ax.errorbar(
      x, y, xerr=np.nan_to_num(reach[0]), yerr=np.nan_to_num(reach[1]),
      color=color, marker=_MARKERS[k % len(_MARKERS)], lw=1.2, capsize=2,
      label=name,
    )  # fmt: skip
    for row, a, b in zip(rows, x, y, strict=True):
      ax.annotate(
        f'{row["threshold"]:g}', (a, b), xytext=(5, 4),
        textcoords='offset points', fontsize=8, color=color,
      )  # fmt: skip
  ax.axhline(0, color=drawing.GREY, lw=0.6, zorder=0)
  ax.set(
    xlabel='Fréchet distance to test images  → unlike',
    ylabel=f'{NAMES[number]}  ← nearer to training images',
  )
  return drawing.finish(figure)


def classes(rows: Sequence[dict], kind: str = 'judging') -> Figure:
  """C_T of each class over thresholds, mean over seeds."""
  values = np.array([np.mean(row[kind]['by_class'], axis=0) for row in rows])
  headline = 'C_T of each class over the threshold of rejection'
  figure, (ax,) = drawing.start(3.8, headline, f'{kind} embedding')
  at = [row['threshold'] for row in rows]
  for label in np.flatnonzero(np.isfinite(values).any(axis=0)):
    ax.plot(
      at, values[:, label], lw=1.2, marker=_MARKERS[label % 5], ms=4,
      color=_COLORS[label % 4], ls=('-', '--', ':')[label % 3],
      label=f'class {label}',
    )  # fmt: skip
  ax.axhline(0, color=drawing.GREY, lw=0.6, zorder=0)
  ax.set(xlabel='threshold τ', ylabel='C_T  ← nearer to training images')
  return drawing.finish(figure)


def nearest(distances: Mapping[str, np.ndarray], metric: str) -> Figure:
  """How many of each set lie nearer to the training images than x.

  Args:
    distances: of each set's images to the nearest (other) training image.
    metric: of the distances.
  """
  middle = {name: np.median(values) for name, values in distances.items()}
  headline = 'Half of each set is nearer than: ' + ', '.join(
    f'{name} {format_number(value)}' for name, value in middle.items()
  )
  figure, (ax,) = drawing.start(3.8, headline)
  for k, (name, values) in enumerate(distances.items()):
    share = np.arange(1, len(values) + 1) / len(values)
    ax.step(
      np.sort(values), share, where='post', label=name, lw=1.6,
      color=_COLORS[k % 4], ls=('-', '--', ':')[k // 4 % 3],
    )  # fmt: skip
  ax.set(
    xlabel=f'{metric} distance to the nearest training image',
    ylabel='share that is nearer',
    ylim=(0, 1.02),
  )
  return drawing.finish(figure)


def lines(
  series: Mapping[str, Sequence[Sequence[float]]],
  what: str,
  number: str = 'c_t',
) -> Figure:
  """C_T over thresholds with intervals, a line a series.

  Args:
    series: by name, rows of threshold, mean, low, high, …
    what: the series differ in.
    number: of NAMES.
  """
  headline = f'{NAMES[number]} over the threshold of rejection, by {what}'
  figure, (ax,) = drawing.start(3.8, headline)
  for k, (name, rows) in enumerate(series.items()):
    at, mean, low, high = np.array(rows, float).T[:4]
    reach = np.nan_to_num(np.stack([mean - low, high - mean]))
    ax.errorbar(
      at, mean, yerr=reach, color=_COLORS[k % 4], marker=_MARKERS[k % 5],
      lw=1.2, capsize=2, label=name,
    )  # fmt: skip
  ax.axhline(0, color=drawing.GREY, lw=0.6, zorder=0)
  ax.set(
    xlabel='threshold τ', ylabel=f'{NAMES[number]}  ← nearer to training images'
  )
  return drawing.finish(figure)


def points(
  panels: Mapping[str, tuple[np.ndarray, np.ndarray]], headline: str
) -> Figure:
  """Two sets of points [n, 2] over one another, a panel a name."""
  figure, axes = drawing.start(3.2 * len(panels), headline, rows=len(panels))
  for ax, (name, (train, generated)) in zip(axes, panels.items(), strict=True):
    ax.scatter(*train.T, s=5, color=drawing.PALE, label='training images')
    ax.scatter(*generated.T, s=4, color=drawing.BLUE, label='samples')
    ax.set_title(name, fontsize=9, loc='left', color=drawing.INK)
    ax.set(xticks=[], yticks=[])
  return drawing.finish(figure)
