"""Which model held out which item, prepared for averages over models.

An item's score depends on the folds only through which model of each block held
it out: with that pattern at hand, scoring under other folds is cheap.
"""

from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Float, Shaped

from memjax import validate

__all__ = [
  'ESTIMATORS',
  'FoldDesign',
  'Matrix',
  'Vector',
  'averages',
  'check_log_px',
  'make_design',
]

ESTIMATORS = ('log_mean_exp', 'mean_log', 'matched')

_INSTEAD = (
  'on the device, compute the log-probabilities with importance_log_prob and '
  'call this on the result'
)

Matrix = Shaped[np.ndarray | jax.Array, '_ _'] | list
Vector = Shaped[np.ndarray | jax.Array, ' _'] | list


def check_log_px(
  log_px: Matrix, held_out: Matrix, repeat: Vector | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Checks what the score is made of, and fills in the repeats.

  Returns:
    log_px float64 [m, n], held_out bool [m, n], repeat int [m].

  Raises:
    ValueError: as `memorization_score`.
  """
  log_px = validate.finite('log_px', log_px, rank=2, instead=_INSTEAD)
  if log_px.shape[0] < 2 or log_px.shape[1] < 1:
    raise ValueError(
      f'log_px has shape {log_px.shape}: expected two models or more, and one '
      'item or more.'
    )
  held_out = _check_held_out(held_out, log_px.shape)
  return log_px, held_out, _check_repeat(repeat, held_out)


class FoldDesign(NamedTuple):
  """The models in blocks, each of which holds an item out at most once.

  A block is a repeat, or a single model where repeats are no partitions.

  Attributes:
    values: log p of each block's models, padded to one width with the identity
      of the average's sum; the last row is padding.
    rest: sums over all models of a block but one; the last row over all. Empty
      for 'matched'.
    size: models in each block.
    pattern: of each item, the position in the block of the model that holds it
      out, or the padded width if none does.
    repeat: of each block.
  """

  values: Float[np.ndarray, 'blocks width_plus_1 n']
  rest: Float[np.ndarray, '...']
  size: Shaped[np.ndarray, ' blocks']
  pattern: Shaped[np.ndarray, 'blocks n']
  repeat: Shaped[np.ndarray, ' blocks']


def make_design(log_px, held_out, repeat, estimator) -> FoldDesign:
  """Checks the arguments and sorts the models into blocks.

  Raises:
    ValueError: as `memorization_score`.
  """
  validate.one_of('estimator', estimator, ESTIMATORS)
  log_px, held_out, repeat = check_log_px(log_px, held_out, repeat)
  block = np.unique(repeat, return_inverse=True)[1]
  if _held_out_twice(held_out, block):
    if estimator == 'matched':
      raise ValueError(
        "estimator='matched' pairs models of one repeat: expected repeats "
        'that hold each item out at most once. Pass `repeat`, or choose '
        "'mean_log'."
      )
    block = np.arange(len(block))
  size = np.bincount(block)
  reduce = _ufunc(estimator)
  shape = (size.size, size.max() + 1, log_px.shape[1])
  values = np.full(shape, float(reduce.identity))
  pattern = np.full((size.size, log_px.shape[1]), size.max())
  for b in range(size.size):
    rows = np.flatnonzero(block == b)
    values[b, : size[b]] = log_px[rows]
    inside, item = np.nonzero(held_out[rows])
    pattern[b, item] = inside
  if estimator == 'matched':
    # A model without a partner in its repeat can be paired with none.
    pattern[size < 2] = size.max()
    alone = (pattern == size.max()).all(axis=0)
    if alone.any():
      raise ValueError(
        f"estimator='matched' finds no repeat in which item "
        f'{int(np.argmax(alone))} is held out beside a model that trained on '
        'it: expected one or more.'
      )
  first = np.unique(block, return_index=True)[1]
  rest = np.empty((0,)) if estimator == 'matched' else _rest(values, reduce)
  return FoldDesign(values, rest, size, pattern, repeat[first])


def _ufunc(estimator: str) -> np.ufunc:
  return np.add if estimator == 'mean_log' else np.logaddexp


def _rest(values: np.ndarray, reduce: np.ufunc) -> np.ndarray:
  """Reduces each block over all its models but one; the last row over all."""
  edge = np.full_like(values[:, :1], float(reduce.identity))
  before = reduce.accumulate(np.concatenate([edge, values], axis=1), axis=1)
  reverse = np.concatenate([edge, values[:, ::-1]], axis=1)
  after = reduce.accumulate(reverse, axis=1)[:, ::-1]
  return reduce(before[:, :-1], after[:, 1:])


def averages(
  design: FoldDesign, pattern: np.ndarray, estimator: str, keep=slice(None)
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Score, U and V of all items if they had this pattern of held-out models.

  Args:
    design: of `make_design`, for the same estimator.
    pattern: as `design.pattern`, or its columns in another order.
    estimator: one of `ESTIMATORS`.
    keep: which blocks take part.

  Returns:
    M, U and V, each [n] in nats.
  """
  values, size = design.values[keep], design.size[keep, None]
  pattern = pattern[keep]
  width = values.shape[1] - 1
  is_held_out = pattern < width
  reduce = _ufunc(estimator)
  outside = _average(_take(values, pattern), is_held_out, reduce)
  if estimator != 'matched':
    total = _take(design.rest[keep], pattern)
    inside = _average(total, size - is_held_out, reduce)
    return inside - outside, inside, outside
  inside = np.zeros_like(outside)
  for offset in range(width - 1):
    # The offset-th model after the held-out one, in its repeat's cyclic order.
    step = 1 + offset % np.maximum(size - 1, 1)
    partner = np.where(is_held_out, (pattern + step) % size, width)
    inside += _average(_take(values, partner), is_held_out, reduce)
  inside /= max(width - 1, 1)
  return inside - outside, inside, outside


def _take(table: np.ndarray, pattern: np.ndarray) -> np.ndarray:
  return np.take_along_axis(table, pattern[:, None], axis=1)[:, 0]


def _average(totals, counts, reduce: np.ufunc) -> np.ndarray:
  """Averages blocks given their totals and how many values each holds."""
  total = reduce.reduce(totals, axis=0)
  count = np.broadcast_to(counts, totals.shape).sum(axis=0)
  with np.errstate(divide='ignore', invalid='ignore'):
    return total / count if reduce is np.add else total - np.log(count)


def _check_held_out(held_out, shape: tuple[int, int]) -> np.ndarray:
  held_out = validate.host_array('held_out', held_out, rank=2, instead=_INSTEAD)
  if held_out.shape != shape:
    raise ValueError(
      f'held_out has shape {held_out.shape}: expected the shape of log_px, '
      f'{shape} = (models, items).'
    )
  if not np.isin(held_out, (0, 1)).all():
    raise ValueError('held_out holds values besides 0 and 1: expected bool.')
  held_out = held_out.astype(bool)
  count = held_out.sum(axis=0)
  for bad, word in ((count == 0, 'no'), (count == len(held_out), 'every')):
    if bad.any():
      raise ValueError(
        f'held_out[:, {int(np.argmax(bad))}] says that {word} model held the '
        f'item out ({int(bad.sum())} such items): expected from 1 to '
        f'{len(held_out) - 1} of the {len(held_out)} models.'
      )
  return held_out


def _check_repeat(repeat, held_out: np.ndarray) -> np.ndarray:
  """The repeat of each model; equal blocks if None and the design allows."""
  num_models = len(held_out)
  if repeat is not None:
    repeat = validate.host_array('repeat', repeat, rank=1, instead=_INSTEAD)
    if repeat.shape[0] != num_models or repeat.dtype.kind not in 'iu':
      raise ValueError(
        f'repeat has {repeat.shape[0]} entries of dtype {repeat.dtype}: '
        f'expected {num_models} integers, one a model.'
      )
    return repeat
  num_repeats = int(held_out[:, 0].sum())
  if num_models % num_repeats == 0:
    blocks = held_out.reshape(num_repeats, -1, held_out.shape[1])
    if (blocks.sum(axis=1) == 1).all():
      return np.repeat(np.arange(num_repeats), num_models // num_repeats)
  return np.zeros(num_models, np.int64)


def _held_out_twice(held_out: np.ndarray, block: np.ndarray) -> bool:
  return any(
    (held_out[block == b].sum(axis=0) > 1).any() for b in np.unique(block)
  )
