"""What is to be trained: the models, the options, and groups of models."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from memjax.training.programs import ScoringOptions, train_key

__all__ = ['Divergence', 'Group', 'LoopOptions', 'ModelGrid', 'make_group']


class ModelGrid(NamedTuple):
  """The m models of a study.

  Attributes:
    repeat: int [m].
    fold: int [m].
    held_out: bool [m, n], items that the model does not train on.
    num_folds: K, part of every model's random stream.
  """

  repeat: np.ndarray
  fold: np.ndarray
  held_out: np.ndarray
  num_folds: int

  def steps_per_epoch(self, batch_size: int) -> int:
    """As many for every model as for the one with the most training items.

    The spare steps of the others change nothing.
    """
    longest = int((~self.held_out).sum(axis=1).max())
    return -(-longest // batch_size)


class LoopOptions(NamedTuple):
  """Numbers that decide what is trained and scored, and how.

  Attributes:
    seed: the root of all random streams.
    epochs: passes over a model's training items.
    batch_size: items a step; the ragged last batch is masked.
    score_epochs: after which epochs (from 1) all items are scored.
    scoring: how, see `ScoringOptions`.
    redraw: draw binarization and importance noise anew for each model and
      epoch, as the published code does, instead of sharing them.
    models_at_once: width of the program.
    lift: 'vmap' or 'map', in training.
    max_attempts: how often a model that diverges is trained before it is
      excluded; 1 excludes it at once.
    checkpoint_seconds: time between checkpoints inside a group.
    progress_seconds: time between progress lines.
    precision: of matrix products while training, see `make_train_steps`.
    tracked_epochs: after which epochs only the tracked items are scored.
    tracked: int, their rows in the data set.
    devices: that share the models of a program; None takes all of this process.
  """

  seed: int
  epochs: int
  batch_size: int
  score_epochs: tuple[int, ...]
  scoring: ScoringOptions
  redraw: bool
  models_at_once: int
  lift: str
  max_attempts: int
  checkpoint_seconds: float
  progress_seconds: float
  precision: str = 'float32'
  tracked_epochs: tuple[int, ...] = ()
  tracked: np.ndarray | None = None
  devices: tuple[jax.Device, ...] | None = None

  @property
  def last_score_epoch(self) -> int:
    """The epoch of which the verdict is; 0 if none is scored."""
    return max(self.score_epochs, default=0)

  def items_scored(self, epoch: int, num_items: int) -> np.ndarray | None:
    """The rows that are scored after an epoch, or None."""
    if epoch in self.score_epochs:
      return np.arange(num_items)
    return self.tracked if epoch in self.tracked_epochs else None


class Divergence(NamedTuple):
  """An attempt at a model that failed.

  Attributes:
    model: its row in the grid.
    attempt: from 0.
    epoch: in which it stopped being finite, from 1.
    reason: in words.
    is_excluded: no attempt was left, and the model is in no score.
  """

  model: int
  attempt: int
  epoch: int
  reason: str
  is_excluded: bool


class Group(NamedTuple):
  """Some models of one attempt, padded to the width of the program.

  Attributes:
    name: also of the files that belong to it.
    attempt: from 0.
    models: rows of the grid [width]; the last one is repeated as padding.
    size: how many are not padding.
    keys: [width], of the models' own streams.
    is_train: bool [width, n].
    held_out: held-out items in batches [width, steps, batch], −1 padded.
  """

  name: str
  attempt: int
  models: np.ndarray
  size: int
  keys: jax.Array
  is_train: jax.Array
  held_out: jax.Array


def make_group(
  name: str,
  attempt: int,
  members: np.ndarray,
  grid: ModelGrid,
  options: LoopOptions,
  width: int,
) -> Group:
  """Pads some models to a group and gathers what its programs need."""
  models = np.r_[members, np.repeat(members[-1], width - len(members))]
  keys = [
    train_key(
      options.seed,
      grid.num_folds,
      int(grid.repeat[model]),
      int(grid.fold[model]),
      attempt,
    )
    for model in models
  ]
  return Group(
    name,
    attempt,
    models,
    len(members),
    jnp.stack(keys),
    jnp.asarray(~grid.held_out[models]),
    jnp.asarray(_held_out_batches(grid.held_out, models, options.batch_size)),
  )


def _held_out_batches(
  held_out: np.ndarray, models: np.ndarray, batch_size: int
) -> np.ndarray:
  """Batches [width, steps, batch], as long for all models of a study."""
  longest = max(int(held_out.sum(axis=1).max()), 1)
  steps = -(-longest // batch_size)
  batches = np.full((len(models), steps * batch_size), -1, np.int32)
  for row, model in zip(batches, models, strict=True):
    items = np.flatnonzero(held_out[model])
    row[: len(items)] = items
  return batches.reshape(len(models), steps, batch_size)
