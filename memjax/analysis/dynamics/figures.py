"""Pictures of what is memorized when: arrays in, a matplotlib Figure out."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from memjax.analysis import drawing
from memjax.analysis.drawing import Figure
from memjax.analysis.dynamics.curves import Curve

__all__ = ['kind_curves', 'memorized_places', 'rate_beside_null']

Style = drawing.Style
# Each kind with its colour, line and mark: told apart without colour too.
_LOOKS: dict[str, tuple[str, str, str]] = {
  'inlier': (drawing.BLUE, '-', '.'),
  'inlier_subset': (drawing.BLUE, '-', '.'),
  'outlier': (drawing.VERMILION, '-', '^'),
  'duplicate': (drawing.INK, '-', 's'),
  'all': (drawing.GREY, '-', 'o'),
}
NAMES = {
  'all': 'all',
  'inlier': 'inliers',
  'inlier_subset': 'as many inliers',
  'outlier': 'outliers',
  'duplicate': 'duplicated points',
}


def kind_curves(
  epochs: Shaped[np.ndarray, ' E'],
  curves: Mapping[str, Curve],
  *,
  headline: str,
  label: str,
  times: Mapping[str, float] | None = None,
) -> Figure:
  """One curve a kind with its band over repeats, in percent.

  Args:
    epochs: [E].
    curves: by kind; shares.
    headline: what to see.
    label: of the y-axis, without the unit.
    times: where each kind reaches half of its final value, marked on the axis.
  """
  figure, (ax,) = drawing.start(3.6, headline)
  ax.axhline(0, color=drawing.PALE, lw=1)
  for kind, curve in curves.items():
    color, line, marker = _LOOKS[kind]
    if np.isfinite(curve.low).any():
      drawing.band(
        ax, epochs, 100 * curve.low, 100 * curve.high, color=color, alpha=0.15
      )
    ax.plot(
      epochs, 100 * curve.mean, color=color, ls=line, marker=marker, ms=4,
      lw=1.6, label=NAMES[kind],
    )  # fmt: skip
    time = (times or {}).get(kind, np.nan)
    if np.isfinite(time):
      ax.axvline(time, color=color, ls=drawing.DASHED, lw=1.2)
  _epoch_axis(ax, epochs)
  ax.set_ylabel(f'% {label}')
  # With few samples near a kind, bands reach beyond what shares can be.
  low, high = ax.get_ylim()
  ax.set_ylim(max(low, -100), min(high, 105))
  return drawing.finish(figure)


def rate_beside_null(
  epochs: Shaped[np.ndarray, ' E'],
  rates: Mapping[str, tuple[Curve, Curve]],
  *,
  closed_form: float,
  headline: str,
) -> Figure:
  """The published curve of each kind beside its null; one panel a kind.

  Args:
    epochs: [E].
    rates: by kind: (rate, null), shares of all samples.
    closed_form: the null rate of a perfect generator, drawn for all.
    headline: what to see.
  """
  figure, panels = drawing.start(
    0.9 + 1.45 * len(rates),
    headline,
    'dashed: train and test swapped; dotted: 1/(1+ρr²), for a perfect '
    'generator in the plane',
    rows=len(rates),
  )
  for ax, (kind, (rate, null)) in zip(panels, rates.items(), strict=True):
    color, line, _ = _LOOKS[kind]
    for curve, style, name in (
      (rate, line, 'memorized'), (null, drawing.DASHED, 'by chance'),
    ):  # fmt: skip
      shade = color if curve is rate else drawing.GREY
      if np.isfinite(curve.low).any():
        drawing.band(
          ax, epochs, 100 * curve.low, 100 * curve.high, color=shade, alpha=0.15
        )
      ax.plot(
        epochs, 100 * curve.mean, color=shade, ls=style, lw=1.6, label=name
      )
    if kind == 'all':
      ax.axhline(100 * closed_form, color=drawing.INK, ls=':', lw=1.2)
    ax.text(
      0.01, 0.96, NAMES[kind], transform=ax.transAxes, va='top', fontsize=9,
      color=drawing.INK,
    )  # fmt: skip
    ax.set_ylabel('% of samples', fontsize=8.5)
    ax.set_ylim(bottom=0)
  _epoch_axis(panels[-1], epochs)
  return drawing.finish(figure)


def memorized_places(
  train: Float[np.ndarray, 'n 2'],
  kind: Int[np.ndarray, ' n'],
  epochs: Sequence[int],
  samples: Sequence[Float[np.ndarray, 'g 2']],
  memorized: Sequence[Bool[np.ndarray, ' g']],
  nearest: Sequence[Int[np.ndarray, ' g']],
) -> Figure:
  """Where the memorized samples of one repeat lie, at some epochs.

  Args:
    train: the training points.
    kind: of each: 0 inlier, 1 outlier, 2 duplicate.
    epochs: one panel each.
    samples: of each epoch.
    memorized: which of them are.
    nearest: row of the nearest training point of each sample.
  """
  if not len(epochs) or train.shape[1] != 2:
    return drawing.sentence('There are no samples in the plane to show.')
  count = len(epochs)
  columns = min(2, count)
  rows = -(-count // columns)
  figure = Figure(
    figsize=(drawing.WIDTH, 2.5 * rows + 0.4),
    layout='constrained',
    facecolor='white',
  )
  axes = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
  low, high = train.min(axis=0), train.max(axis=0)
  margin = 0.15 * (high - low)
  for ax in axes.flat[count:]:
    ax.set_visible(False)
  for ax, epoch, points, flag, near in zip(
    axes.flat, epochs, samples, memorized, nearest, strict=False
  ):
    ax.plot(*train.T, ls='', marker='.', ms=2, color=drawing.PALE,
            label='training points')  # fmt: skip
    for number, name in enumerate(('inlier', 'outlier', 'duplicate')):
      shown = points[flag & (kind[near] == number)]
      color, _, marker = _LOOKS[name]
      ax.plot(*shown.T, ls='', marker=marker, ms=3, color=color, mew=0,
              label=f'memorized from {NAMES[name]}')  # fmt: skip
    share = 100 * flag.mean()
    ax.set_title(f'after {epoch:,} epochs: {share:.0f} %', fontsize=9,
                 loc='left', color=drawing.INK)  # fmt: skip
    ax.set(
      xlim=(low[0] - margin[0], high[0] + margin[0]),
      ylim=(low[1] - margin[1], high[1] + margin[1]),
    )
    ax.tick_params(labelsize=8, colors=drawing.INK)
    ax.spines[['top', 'right']].set_visible(False)
  return drawing.finish(figure)


def _epoch_axis(ax: drawing.Axes, epochs: np.ndarray) -> None:
  """Logarithmic where most evaluations are early."""
  positive = epochs[epochs > 0]
  is_early = len(positive) > 4 and np.median(positive) < positive[-1] / 4
  if is_early:
    ax.set_xscale('symlog', linthresh=positive[0])
    decades = 10 ** np.arange(0, np.log10(positive[-1]) + 1)
    ticks = [0, *(d for d in decades if positive[0] <= d <= positive[-1])]
    ax.set_xticks(ticks, [f'{tick:,.0f}' for tick in ticks])
    ax.minorticks_off()
    ax.set_xlim(0, positive[-1])
    ax.set_xlabel('epochs trained')
  else:
    drawing.label_epochs(ax, epochs)
    ax.set_xlabel('epochs trained')
