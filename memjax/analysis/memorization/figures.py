"""Pictures of scores, losses and items: arrays in, a matplotlib Figure out.

Pure functions. Headlines are computed from the data and say what to see. Items
without a finite score are left out, and the figure says how many; where nothing
is left a sentence takes its place, so that failed runs have a report as well.
Arguments that return:

  score: [n] memorization scores in nats, positive = more memorized.
  null: [P, n] scores under P permutations of the folds; P may be 0.
  q_value: [n]; items at 0.05 or less are marked.
"""

from collections.abc import Sequence

import numpy as np
import scipy.stats
from jaxtyping import Shaped

from memjax import validate
from memjax.analysis import drawing
from memjax.analysis.drawing import Figure, Style, check_shape, count_of, finite
from memjax.analysis.page import format_number
from memjax.stats import LEVEL

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

_NOTHING = 'No item has a finite score: there is nothing to show.'
_MANY_POINTS = 20_000
_MANY_CLASSES = 30


def score_distribution(
  score: Vector, null: Matrix, *, q_value: Vector | None = None
) -> Figure:
  """Histogram of the scores beside the scores of the null."""
  found = drawing.discoveries(score, q_value)
  kept, pooled = finite(score), finite(null)
  if not kept.size:
    return drawing.sentence(_NOTHING)
  ends = drawing.robust_range(kept, pooled)
  edges = np.linspace(*ends, 2 + 2 * int(np.clip(kept.size**0.5, 5, 30)))
  top = np.quantile(kept, 0.95)
  headline = f'One item in 20 scores above {format_number(top, "nats")}'
  # As the test has it: the quantile of each permutation, on average.
  null_top = drawing.mean_quantile(null, 0.95)
  if pooled.size:
    headline += f'; with shuffled folds, above {format_number(null_top)}'
  notes = drawing.note_missing(score), drawing.note_beyond(kept, ends)
  figure, (ax,) = drawing.start(3.7, headline, *notes)
  counts = np.histogram(kept, edges)[0]
  style = {'fill': True, 'color': drawing.LIGHT_BLUE}
  ax.stairs(counts, edges, label=f'observed: {count_of(kept.size)}', **style)
  label = f'their 0.95 quantile: {format_number(top)}'
  ax.axvline(top, color=drawing.BLUE, lw=2, label=label)
  if pooled.size:
    # Counts of one permutation on average, comparable with the observed ones.
    counts = np.histogram(pooled, edges)[0] * (kept.size / pooled.size)
    style = {'color': drawing.INK, 'lw': 1.4}
    ax.stairs(counts, edges, label='null: shuffled folds', **style)
    label = f'its 0.95 quantile: {format_number(null_top)}'
    ax.axvline(null_top, ls=drawing.DASHED, label=label, **style)
  if q_value is not None:
    label = drawing.name_found(found)
    drawing.ticks(ax, np.clip(score[found], *ends), label)
  ax.set(xlim=ends, xlabel=drawing.SCORE, ylabel='items')
  drawing.whole_numbers(ax.yaxis)
  return drawing.finish(figure)


def score_quantiles_over_epochs(
  epochs: Vector,
  score: Matrix,
  null_quantiles: Shaped[np.ndarray, '_ _ _'],
  *,
  quantiles: Sequence[float] = (0.5, 0.95, 0.999),
) -> Figure:
  """Quantiles of the scores by epoch, a panel each, with the null's band.

  Args:
    epochs: [E] increasing epochs; a single one is drawn as a point.
    score: [E, n] scores in nats.
    null_quantiles: [E, P, Q] the same quantiles of the scores under P
      permutations of the folds; P may be 0.
    quantiles: the Q quantiles.
  """
  shape = (len(epochs), None, len(quantiles))
  check_shape('score', score, shape[:2])
  check_shape('null_quantiles', null_quantiles, shape)
  values = drawing.quantiles_of(score, quantiles)
  if not np.isfinite(values).any():
    return drawing.sentence(_NOTHING)
  ends = (0.05, 0.95)
  bands = np.stack([drawing.quantiles_of(e.T, ends) for e in null_quantiles])
  headline = drawing.say_above(epochs[-1], quantiles, values[-1], bands[-1])
  height = 1.2 + 1.3 * len(quantiles)
  figure, panels = drawing.start(height, headline, rows=len(quantiles))
  label = f'null: 5–95 % of {count_of(null_quantiles.shape[1], "fold shuffle")}'
  marker = 'o' if len(epochs) <= 20 else None
  style = {'color': drawing.BLUE, 'lw': 2, 'marker': marker, 'ms': 4.5}
  for k, ax in enumerate(panels):
    low, high = bands[:, k].T
    if np.isfinite(low).any():
      drawing.band(ax, epochs, low, high, color=drawing.PALE, label=label)
    ax.plot(epochs, values[:, k], label='observed', **style)
    ax.axhline(0, color=drawing.GREY, lw=0.6, zorder=0)
    drawing.name_panel(ax, quantiles[k])
  drawing.label_epochs(panels[-1], epochs)
  return drawing.finish(figure)


def loss_curves(
  epochs: Vector, train_loss: Matrix, held_out_loss: Matrix
) -> Figure:
  """Mean loss over the models by epoch, with the range from model to model.

  Args:
    epochs: [E].
    train_loss: [m, E] in nats per item; what is not finite is left out.
    held_out_loss: [m, E] on the items that a model did not train on.
  """
  shape = (len(train_loss), len(epochs))
  check_shape('train_loss', train_loss, shape)
  check_shape('held_out_loss', held_out_loss, shape)
  both = (train_loss, held_out_loss)
  drawn = np.concatenate([finite(loss) for loss in both])
  if not drawn.size:
    return drawing.sentence('No model has a finite loss: nothing to show.')
  ends = drawing.loss_range(both)
  notes = [drawing.note_gaps(*both)]
  notes.append(drawing.note_beyond(drawn, ends, noun='loss value'))
  figure, (ax,) = drawing.start(3.5, drawing.say_gap(*both), *notes)
  for name, loss, color, dashes in (
    ('training', train_loss, drawing.BLUE, '-'),
    ('held-out', held_out_loss, drawing.VERMILION, drawing.DASHED),
  ):
    epoch = epochs[np.isfinite(loss).any(axis=0)]
    columns = [kept for kept in map(finite, loss.T) if kept.size]
    if not columns:
      continue
    style: Style = {'color': color, 'ls': dashes, 'lw': 2}
    style['marker'] = 'o' if len(epoch) == 1 else None
    label = f'{name}: mean of {count_of(len(loss), "model")}'
    ax.plot(epoch, [kept.mean() for kept in columns], label=label, **style)
    if len(loss) > 1:
      low, high = zip(*((min(c), max(c)) for c in columns), strict=True)
      style = {'color': color, 'alpha': 0.2}
      label = f'{name}: lowest to highest model'
      drawing.band(ax, epoch, low, high, label=label, **style)
  ax.set(ylim=ends, ylabel='loss (nats per item)')
  drawing.label_epochs(ax, epochs)
  return drawing.finish(figure)


def score_against_log_prob(
  log_px_in: Vector, score: Vector, *, q_value: Vector | None = None
) -> Figure:
  """Scatter of the score against U, the log-probability when trained on.

  Above 20,000 items only those that are marked keep a point of their own; the
  others become a map of their density.
  """
  check_shape('log_px_in', log_px_in, score.shape)
  both = np.isfinite(score) & np.isfinite(log_px_in)
  if not both.any():
    return drawing.sentence(_NOTHING)
  found = drawing.discoveries(score, q_value)[both]
  raw = np.stack([log_px_in[both], score[both]], axis=1).astype(np.float64)
  across, up = map(drawing.robust_range, raw.T)
  # An item beyond the axes may be the most interesting one: keep it in sight.
  points = np.clip(raw, *np.transpose([across, up]))
  notes = [drawing.note_missing(np.where(both, score, np.nan))]
  notes.append(drawing.note_clipped(raw, points))
  figure, (ax,) = drawing.start(3.8, drawing.say_correlation(*raw.T), *notes)
  ax.axhline(0, color=drawing.GREY, lw=0.6, zorder=0)
  style = {'lw': 0, 'rasterized': True, 'clip_on': False}
  if len(points) > _MANY_POINTS:
    drawing.density(ax, points)
  else:
    label = count_of(int((~found).sum()))
    label += '' if q_value is None else f' with q > {LEVEL:g}'
    size = float(np.clip(4000 / len(points), 6, 30))
    look = {'s': size, 'alpha': 0.4, 'color': drawing.BLUE}
    ax.scatter(*points[~found].T, label=label, **look, **style)
  if q_value is not None:
    look = {'marker': 'D', 's': 13, 'color': drawing.VERMILION, 'alpha': 0.75}
    label = drawing.name_found(found)
    ax.scatter(*points[found].T, label=label, **look, **style)
  ax.set(xlim=across, ylim=up, ylabel='memorization score (nats)')
  ax.set_xlabel('log-probability when trained on (nats)  → more likely')
  return drawing.finish(figure)


def item_grid(
  images: Shaped[np.ndarray, '_ _ _ _'],
  captions: Sequence[str],
  *,
  columns: int = 10,
  title: str = '',
) -> Figure:
  """Images in rows, in the given order, each with its caption below.

  Args:
    images: uint8 [k, h, w, c] with c = 1 (grey), 3 (RGB) or 4 (RGBA).
    captions: k short texts; line breaks are kept, what is too long is cut.
    columns: images in a row.
    title: what to see.
  """
  count, height, width, channels = images.shape
  columns = min(validate.integer('columns', columns, 1), max(count, 1))
  if images.dtype != np.uint8 or channels not in (1, 3, 4):
    raise ValueError(
      f'images has dtype {images.dtype} and {channels} channels: expected '
      'uint8 and 1, 3 or 4 channels.'
    )
  if len(captions) != count:
    raise ValueError(f'captions has {len(captions)} texts: expected {count}.')
  if not count:
    return drawing.sentence('There are no items to show.')
  # All lengths in inches. A strip of few images shows them larger.
  cell = float(np.clip(drawing.WIDTH / columns, 0.66, 1.1))
  captions, size, below = drawing.fit(captions, cell)
  tall = 0.92 * cell * height / width
  pitch = tall + 0.1 + below
  across = max(columns * cell, 3.0)
  title = drawing.fill(title, int(11 * across))
  head = 0.05 + 0.2 * len(title.splitlines())
  down = head + pitch * -(-count // columns)
  figure = Figure(figsize=(across, down), facecolor='white')
  style: Style = {'color': drawing.INK, 'va': 'top', 'parse_math': False}
  look = style | {'fontsize': 10.5, 'weight': 'bold'}
  figure.text(0.04 * cell / across, 1 - 0.04 / down, title, **look)
  for k in range(count):
    row, column = divmod(k, columns)
    x, y = (column + 0.04) * cell, down - head - row * pitch - tall
    box = (x / across, y / down, 0.92 * cell / across, tall / down)
    ax = drawing.image(figure, box, images[k])
    ax.set_xlabel(captions[k], fontsize=size, labelpad=2.5, **style)
  return figure


def score_by_class(
  labels: Vector,
  score: Vector,
  null: Matrix,
  *,
  class_names: Sequence[str] | None = None,
) -> Figure:
  """Spread of the scores within each class, over that of the null.

  Args:
    labels: int [n]; more than 30 different ones are not drawn.
    score: [n].
    null: [P, n].
    class_names: names that the labels index; None shows the labels.
  """
  check_shape('score', score, labels.shape)
  check_shape('null', null, (None, labels.size))
  classes = np.unique(labels[np.isfinite(score)])
  if not 0 < classes.size <= _MANY_CLASSES:
    many = f'{classes.size} classes are too many to show one by one.'
    return drawing.sentence(many if classes.size else _NOTHING)
  members = [labels == label for label in classes]
  levels = (0.05, 0.25, 0.5, 0.75, 0.95)
  observed = drawing.quantiles_of([score[m] for m in members], levels).T
  chance = drawing.quantiles_of([null[:, m] for m in members], levels).T
  named = str if class_names is None else lambda label: class_names[label]
  names = [named(int(label)) for label in classes]
  first = int(np.argmax(observed[4]))
  headline = f'Class {names[first]} reaches highest: one item in 20 scores '
  headline += f'above {format_number(observed[4, first], "nats")}'
  height, note = 1.7 + 0.24 * classes.size, drawing.note_missing(score)
  figure, (ax,) = drawing.start(height, headline, note)
  rows = np.arange(classes.size)
  if np.isfinite(chance).any():
    style = {'left': chance[0], 'height': 0.8, 'color': drawing.PALE}
    label = 'null: 5–95 % with shuffled folds'
    ax.barh(rows, chance[4] - chance[0], label=label, **style)
  for k, lw, label in ((0, 1.4, '5–95 % of the items'), (1, 5, 'middle half')):
    style = {'color': drawing.BLUE, 'lw': lw, 'label': label}
    ax.hlines(rows, observed[k], observed[4 - k], **style)
  style = {'color': 'white', 'ec': drawing.INK, 's': 24, 'zorder': 3}
  ax.scatter(observed[2], rows, label='median', **style)
  drawing.name_rows(ax, names, 'class')
  return drawing.finish(figure)


def score_intervals(
  score: Vector,
  std_err: Vector,
  num_repeats: int,
  *,
  count: int = 20,
  ids: Vector | None = None,
) -> Figure:
  """The items with the highest scores, with 95 % t-intervals over repeats.

  Args:
    score: [n].
    std_err: [n] jackknife standard errors over repeats, in nats.
    num_repeats: L; Student's t with L − 1 degrees of freedom, so none at 1.
    count: how many items.
    ids: [n] names of the items; None shows their positions.
  """
  check_shape('std_err', std_err, score.shape)
  count = validate.integer('count', count, 1)
  freedom = validate.integer('num_repeats', num_repeats, 1) - 1
  if not freedom:
    return drawing.sentence('One repeat gives no interval: run two or more.')
  order = drawing.highest(score, count)
  if not order.size:
    return drawing.sentence(_NOTHING)
  value, rows = score[order], np.arange(order.size)
  reach = scipy.stats.t.ppf(0.975, freedom) * std_err[order]
  above = value > reach
  headline = f'{int(above.sum())} of the {order.size} highest scores have a '
  headline += '95 % interval above zero'
  note = f"Student's t over {num_repeats} repeats; not corrected for having "
  note += 'picked the highest'
  low, high = value - reach, value + reach
  ends = drawing.robust_range(finite([low, value, high, 0 * value]), widths=2.0)
  beyond = drawing.note_beyond(value, ends, 'drawn at its edge')
  figure, (ax,) = drawing.start(1.6 + 0.2 * order.size, headline, note, beyond)
  low, value, high = np.clip((low, value, high), *ends)
  reach = np.stack([value - low, high - value])
  for chosen, color, face, label in (
    (above, drawing.BLUE, drawing.BLUE, 'interval above zero'),
    (~above, drawing.GREY, 'white', 'interval not above zero'),
  ):
    style = {'fmt': 'o', 'ms': 5, 'lw': 1.8, 'color': color, 'mfc': face}
    style['clip_on'] = False  # an item at the edge is whole
    x, y = value[chosen], rows[chosen]
    if chosen.any():
      ax.errorbar(x, y, xerr=reach[:, chosen], label=label, **style)
  ax.axvline(0, color=drawing.INK, lw=0.8, zorder=0)
  names = order if ids is None else ids[order]
  drawing.name_rows(ax, list(map(str, names)), 'item')
  ax.set_xlim(ends)
  return drawing.finish(figure)
