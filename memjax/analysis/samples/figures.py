"""Pictures of an audit of samples: arrays in, a matplotlib Figure out."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Shaped

from memjax.analysis import drawing
from memjax.analysis.drawing import Figure
from memjax.analysis.page import format_number

__all__ = [
  'cells_that_copy',
  'distance_curves',
  'ratio_curves',
  'suspicious_pairs',
]

Vector = Shaped[np.ndarray, '_']
Images = Shaped[np.ndarray, '_ _ _ _']

_ROWS = ('sample', 'nearest\ntraining', 'nearest\ntest')


def suspicious_pairs(
  generated: Images, train: Images, test: Images, captions: Sequence[str]
) -> Figure:
  """Samples above their nearest training items, above their nearest test items.

  Args:
    generated: uint8 [k, h, w, c].
    train: uint8 [k, h, w, c], the nearest of each.
    test: uint8 [k, h, w, c], the nearest of each.
    captions: k short texts.
  """
  count, height, width, _ = generated.shape
  if not count:
    return drawing.sentence('There are no samples to show.')
  left = 0.75
  cell = min((drawing.WIDTH * 1.25 - left) / max(count, 6), 1.1)
  captions, size, below = drawing.fit(captions, cell)
  tall = 0.92 * cell * height / width
  across = left + cell * count
  down = 3 * (tall + 0.06) + below + 0.12
  figure = Figure(figsize=(across, down), facecolor='white')
  for row, (name, images) in enumerate(
    zip(_ROWS, (generated, train, test), strict=True)
  ):
    # The captions stand below the first row's pictures' column, at the end.
    y = down - 0.04 - (row + 1) * (tall + 0.06)
    figure.text(
      0.0, (y + tall / 2) / down, name, fontsize=8.5, va='center',
      color=drawing.INK,
    )  # fmt: skip
    for k in range(count):
      box = (
        (left + k * cell) / across,
        y / down,
        0.92 * cell / across,
        tall / down,
      )
      ax = drawing.image(figure, box, images[k])
      if row == 2:
        ax.set_xlabel(captions[k], fontsize=size, labelpad=2.5, va='top',
                      color=drawing.INK, parse_math=False)  # fmt: skip
  return figure


def distance_curves(test: Vector, generated: Vector, metric: str) -> Figure:
  """How many test points and samples are nearer to train than x.

  Args:
    test: [t], distance of each test point to its nearest training point.
    generated: [n], of each sample.
    metric: names the axis.
  """
  positive = np.concatenate([test, generated])
  positive = positive[positive > 0]
  if not positive.size:
    return drawing.sentence('All points coincide with training points.')
  low = np.quantile(positive, 0.001) / 1.5
  zero = int((generated == 0).sum())
  median = [float(np.median(x)) for x in (test, generated)]
  side = 'nearer to' if median[1] < median[0] else 'farther from'
  headline = f'The median sample is {side} the training set than the median '
  headline += f'test point: {format_number(median[1])}, '
  headline += f'{format_number(median[0])}'
  note = f'{drawing.count_of(zero, "sample")} at distance 0' if zero else ''
  figure, (ax,) = drawing.start(3.5, headline, note)
  for values, color, style, name in (
    (test, drawing.INK, drawing.DASHED, 'test points'),
    (generated, drawing.BLUE, '-', 'generated samples'),
  ):
    x = np.sort(np.maximum(values, low))
    share = np.arange(1, len(x) + 1) / len(x)
    ax.step(x, share, where='post', color=color, ls=style, lw=2, label=name)
  drawing.log_ticks(ax)
  unit = 'Euclidean' if metric == 'euclidean' else metric
  ax.set(
    xlabel=f'{unit} distance to the nearest training point',
    ylabel='share that is nearer',
    ylim=(0, 1.02),
  )
  return drawing.finish(figure)


def ratio_curves(
  sample_ratio: Vector, ratios: Vector, null_rate: Vector
) -> Figure:
  """How many samples are r times nearer to train than to test.

  Args:
    sample_ratio: [n], d_test / d_train of each sample.
    ratios: [r], where the test asked.
    null_rate: [r], the same share of test points.
  """
  grid = np.unique(np.concatenate([ratios, np.geomspace(1, 100, 60)]))
  sorted_ratio = np.sort(sample_ratio)
  count = len(sample_ratio) - np.searchsorted(sorted_ratio, grid, side='left')
  at = int(np.argmin(np.abs(ratios - 2)))
  rate = float((sample_ratio >= ratios[at]).mean())
  headline = (
    f'{100 * rate:.2g} % of the samples are {ratios[at]:g} times nearer '
  )
  headline += 'to train than to test; of test points '
  headline += f'{100 * float(null_rate[at]):.2g} %'
  figure, (ax,) = drawing.start(3.3, headline)
  ax.plot(
    ratios, 100 * null_rate, 'o', ls=drawing.DASHED, color=drawing.INK,
    label='test points, each against the others', lw=1.4, ms=4,
  )  # fmt: skip
  ax.plot(
    grid, 100 * count / len(sample_ratio), color=drawing.BLUE, lw=2,
    label='generated samples',
  )  # fmt: skip
  ax.set_xscale('log')
  ax.set_xticks([1, 2, 5, 10, 100], ['1', '2', '5', '10', '100'])
  ax.minorticks_off()
  ax.set(
    xlabel='ratio r = distance to test / distance to train',
    ylabel='% with a ratio of r or more',
  )
  ax.set_ylim(bottom=-1)
  return drawing.finish(figure)


def cells_that_copy(
  names: Sequence[str],
  value: Vector,
  null_mean: Vector,
  null_std: Vector,
  is_copying: Vector,
  what: str,
) -> Figure:
  """C_T of cells or classes beside their nulls.

  Args:
    names: one a row.
    value: [rows], C_T or Z_U; NaN is left out. Negative = nearer than test.
    null_mean: [rows].
    null_std: [rows].
    is_copying: bool [rows].
    what: 'cell' or 'class'.
  """
  known = np.flatnonzero(np.isfinite(value))
  if not known.size:
    return drawing.sentence('No cell has enough samples to be told.')
  count = int(is_copying[known].sum())
  headline = f'In {count} of {known.size} {what}'
  headline += 'es' if what.endswith('s') else 's'
  headline += ' samples are nearer to train than test points are'
  figure, (ax,) = drawing.start(1.6 + 0.22 * known.size, headline)
  rows = np.arange(known.size)
  low = null_mean[known] - 1.96 * null_std[known]
  ax.barh(
    rows, 3.92 * null_std[known], left=low, height=0.7, color=drawing.PALE,
    label='95 % of an honest generator',
  )  # fmt: skip
  for chosen, color, marker, label in (
    (is_copying[known], drawing.VERMILION, 'D', 'nearer than chance allows'),
    (~is_copying[known], drawing.BLUE, 'o', 'not beyond chance'),
  ):
    if chosen.any():
      ax.scatter(
        value[known][chosen], rows[chosen], color=color, marker=marker, s=34,
        label=label, zorder=3,
      )  # fmt: skip
  ax.axvline(0, color=drawing.INK, lw=0.8, zorder=0)
  drawing.name_rows(ax, [names[int(k)] for k in known], what)
  ax.set_xlabel('Z_U or C_T  ← nearer to train than test points are')
  return drawing.finish(figure)
