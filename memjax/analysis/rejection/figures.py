"""Pictures of a study of rejection: arrays in, a matplotlib Figure out."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Shaped

from memjax.analysis import drawing
from memjax.analysis.drawing import Figure
from memjax.analysis.page import format_number

__all__ = ['distances', 'sample_grid', 'training_curves']

Vector = Shaped[np.ndarray, '_']
Images = Shaped[np.ndarray, '_ _ _ _']

# Arms are told apart by colour and by line.
_STYLES = {
  'plain': (drawing.VERMILION, '--', 'without rejection'),
  'rejection': (drawing.BLUE, '-', 'with rejection'),
}
_COLUMNS = 10


def sample_grid(images: Images) -> Figure:
  """Samples in rows of ten, as they come.

  Args:
    images: uint8 [k, h, w, c].
  """
  count, height, width, _ = images.shape
  if not count:
    return drawing.sentence('There are no samples to show.')
  cell = drawing.WIDTH / _COLUMNS
  tall = cell * height / width
  down = -(-count // _COLUMNS) * tall
  figure = Figure(figsize=(drawing.WIDTH, down), facecolor='white')
  for k in range(count):
    row, column = divmod(k, _COLUMNS)
    box = (
      column / _COLUMNS,
      1 - (row + 1) * tall / down,
      0.94 / _COLUMNS,
      0.94 * tall / down,
    )
    drawing.image(figure, box, images[k])
  return figure


def distances(
  test: Vector, arms: Mapping[str, Vector], threshold: float, metric: str
) -> Figure:
  """How many test images and samples lie nearer to the training set than x.

  Args:
    test: [t], distance of each test image to its nearest training image.
    arms: of each arm's samples, [n].
    threshold: τ.
    metric: names the axis.
  """
  below = {name: float((d <= threshold).mean()) for name, d in arms.items()}
  headline = f'{100 * float((test <= threshold).mean()):.2g} % of the test '
  headline += 'images lie within the threshold; of samples '
  headline += ', '.join(
    f'{100 * share:.2g} % {_STYLES[name][2]}' for name, share in below.items()
  )
  figure, (ax,) = drawing.start(3.5, headline)
  rows = [(test, drawing.INK, drawing.DASHED, 'test images')]
  rows += [(d, *_STYLES[name]) for name, d in arms.items()]
  for values, color, style, label in rows:
    x = np.sort(values)
    share = np.arange(1, len(x) + 1) / len(x)
    ax.step(x, share, where='post', color=color, ls=style, lw=2, label=label)
  ax.axvline(
    threshold, color=drawing.GREY, lw=1, label=f'τ = {format_number(threshold)}'
  )
  ax.set(
    xlabel=f'{metric} distance to the nearest training image',
    ylabel='share that is nearer',
    ylim=(0, 1.02),
  )
  return drawing.finish(figure)


def training_curves(rows: list[dict], threshold: float) -> Figure:
  """Fréchet distance and distance kept, over steps, a line a seed.

  Args:
    rows: of metrics.jsonl.
    threshold: τ.
  """
  if not rows:
    return drawing.sentence('No step was logged.')
  final = max(row['step'] for row in rows)
  headline = f'Quality and distance kept over {final:,} steps'
  figure, panels = drawing.start(4.4, headline, rows=2)
  names = ('frechet', 'share_above_threshold')
  labels = (
    'Fréchet distance to test',
    f'share farther than\nτ = {format_number(threshold)}',
  )
  for ax, name, ylabel in zip(panels, names, labels, strict=True):
    for arm, (color, style, label) in _STYLES.items():
      seeds = sorted({r['seed'] for r in rows if r['arm'] == arm})
      for seed in seeds:
        own = [r for r in rows if (r['arm'], r['seed']) == (arm, seed)]
        value = [np.nan if r[name] is None else r[name] for r in own]
        ax.plot(
          [r['step'] for r in own], value, color=color, ls=style, lw=1.4,
          label=label if seed == seeds[0] else None,
        )  # fmt: skip
    ax.set_ylabel(ylabel)
  panels[0].set_yscale('log')
  panels[-1].set_ylim(-0.02, 1.02)
  panels[-1].set_xlabel('step')
  return drawing.finish(figure)
