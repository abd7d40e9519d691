"""Trains and scores one group of models, from wherever it was.

A group is `models_at_once` models in one program of fixed width. Everything it
needs to go on is in its checkpoint, and scoring is saved in stretches.
"""

import pathlib
import time
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

from memjax.data.dataset import Dataset
from memjax.training.carry import Carry
from memjax.training.checkpoints import Checkpoint, Checkpoints
from memjax.training.metrics_writer import MetricsWriter
from memjax.training.parts import Parts
from memjax.training.plan import Group, LoopOptions, ModelGrid
from memjax.training.preemption import StopSignal
from memjax.training.programs import Programs, score_key
from memjax.training.progress import Progress, describe_resumption
from memjax.training.scoring import score_block

__all__ = ['GroupRunner', 'Outcome']

# A program call lasts about this long, so that a signal is answered soon.
_SECONDS_PER_CALL = 1.0


class Outcome(NamedTuple):
  """How a group's models ended, one entry a model.

  Attributes:
    failed: the epoch in which it diverged, 0 if it did not.
    in_scoring: it trained, but gave an item no finite log p.
  """

  failed: list[int]
  in_scoring: list[bool]


class GroupRunner:
  """Runs groups one after another: what they share is programs and data."""

  def __init__(
    self,
    programs: Programs,
    dataset: Dataset,
    grid: ModelGrid,
    options: LoopOptions,
    *,
    models: np.ndarray,
    parts: Parts,
    checkpoints: pathlib.Path,
    writer: MetricsWriter,
    stop: StopSignal,
  ):
    self._programs, self._grid, self._options = programs, grid, options
    self._images = programs.layout.replicate(dataset.images)
    self._ids = programs.layout.replicate(dataset.ids.astype(np.uint32))
    self._steps = grid.steps_per_epoch(options.batch_size)
    self._parts, self._checkpoints = parts, checkpoints
    self._writer, self._stop = writer, stop
    self._saved = time.monotonic()
    total = {'score': 0, 'final': 0}
    for epoch in parts.epochs:
      total[self._kind(epoch)] += len(models) * len(parts.items(epoch))
    self._progress = Progress(
      {
        'train': int((~grid.held_out[models]).sum()) * options.epochs,
        **total,
      },
      options.scoring.num_samples,
      options.progress_seconds,
    )

  def run(self, group: Group) -> Outcome:
    """Trains and scores one group from wherever it was."""
    options = self._options
    directory = self._checkpoints / group.name
    was_begun = directory.exists()
    with Checkpoints(directory) as checkpoints:
      carry, epoch, step = self._restore(group, checkpoints)
      if was_begun:
        self._tell_resumption(group, epoch, step)
      self._stop_if_asked()
      while True:
        if step == 0 and epoch in self._parts.epochs:
          is_new = self._score(group, carry, epoch) & (carry.failed == 0)
          self._stop_if_asked()
          carry = carry._replace(
            failed=jnp.where(is_new, epoch, carry.failed),
            in_scoring=carry.in_scoring | is_new,
          )
        failed = np.asarray(carry.failed)[: group.size]
        if epoch == options.epochs or (failed > 0).all():
          break
        carry = self._train_epoch(group, carry, epoch, step, checkpoints)
        epoch, step = epoch + 1, 0
    in_scoring = np.asarray(carry.in_scoring)[: group.size]
    return Outcome(failed.tolist(), in_scoring.tolist())

  def _restore(
    self, group: Group, checkpoints: Checkpoints
  ) -> tuple[Carry, int, int]:
    """A group's state, epoch and step, from its checkpoint or from scratch."""
    layout = self._programs.layout
    start = Carry(
      self._programs.init(group.keys),
      self._programs.zero(group.keys),
      jnp.zeros(layout.size, jnp.int32),
      jnp.zeros(layout.size, bool),
    )
    fresh = Checkpoint(0, start, {'epoch': 0, 'step': 0})
    found = checkpoints.restore(self._on_disk(start)) or fresh
    missing = self._parts.missing(group.name, found.metadata['epoch'])
    if missing is not None:
      logging.error(
        '%s is missing or damaged: %s starts over.', missing, group.name
      )
      found = fresh
    epoch, step = found.metadata['epoch'], found.metadata['step']
    self._writer.keep(
      lambda row: row['group'] != group.name or row['epoch'] <= epoch
    )
    if group.attempt == 0:
      self._progress.skip('train', self._items_trained(group, epoch, step))
      for earlier in self._parts.epochs:
        if earlier < epoch:
          passed = len(self._parts.items(earlier)) * group.size
          self._progress.skip(self._kind(earlier), passed)
    carry = found.state
    if found is not fresh:
      # Bound to no device, as a fresh start is: programs are compiled once.
      host = jax.device_get((carry.state, carry.metrics))
      state, metrics = layout.spread(jax.tree.map(jnp.array, host))
      carry = carry._replace(state=state, metrics=metrics)
    return carry, epoch, step

  def _train_epoch(
    self,
    group: Group,
    carry: Carry,
    epoch: int,
    step: int,
    checkpoints: Checkpoints,
  ) -> Carry:
    """The rest of one epoch, in program calls of about a second each."""
    keys = jax.vmap(jax.random.fold_in, (0, None))(group.keys, epoch)
    order = self._programs.order(keys, group.is_train)
    stride = 1
    where = self._where(group, f'epoch {epoch + 1}/{self._options.epochs}')
    while step < self._steps:
      until = min(step + stride, self._steps)
      self._progress.start('train', where)
      begin = time.monotonic()
      state, metrics = self._programs.train(
        carry.state,
        carry.metrics,
        self._images,
        order,
        jnp.int32(step),
        jnp.int32(until),
        keys,
      )
      jax.block_until_ready(metrics)
      carry = carry._replace(state=state, metrics=metrics)
      seconds = time.monotonic() - begin
      self._progress.advance(
        'train',
        self._items_trained(group, epoch, until)
        - self._items_trained(group, epoch, step),
        seconds,
        where,
      )
      stride = max(1, round((until - step) * _SECONDS_PER_CALL / seconds))
      step = until
      if step < self._steps and self._must_save():
        self._save(checkpoints, carry, epoch, step)
    carry = self._end_epoch(group, carry, epoch + 1)
    is_last = epoch + 1 == self._options.epochs
    is_scored = epoch + 1 in self._parts.epochs
    if is_last or is_scored or self._must_save():
      self._save(checkpoints, carry, epoch + 1, 0)
    return carry

  def _end_epoch(self, group: Group, carry: Carry, epoch: int) -> Carry:
    """Writes the epoch's metrics and notes which models diverged."""
    score_keys = self._score_keys(group, epoch)
    held_out_loss = self._programs.evaluate_loss(
      carry.state.variables, self._images, self._ids, group.held_out, score_keys
    )
    metrics = jax.device_get(carry.metrics)
    held_out_loss = np.asarray(held_out_loss, np.float64)
    rows = []
    for index, model in enumerate(group.models[: group.size]):
      held_out = int(self._grid.held_out[model].sum())
      rows.append(
        {
          'group': group.name,
          'repeat': int(self._grid.repeat[model]),
          'fold': int(self._grid.fold[model]),
          'attempt': group.attempt,
          'epoch': epoch,
          'train_loss': float(metrics.loss[index] / metrics.count[index]),
          'held_out_loss': float(held_out_loss[index]) / max(held_out, 1),
        }
      )
    self._writer.write_scalars(rows)
    is_finite = metrics.is_finite[: self._programs.layout.size]
    is_new = ~is_finite & (carry.failed == 0)
    return carry._replace(
      metrics=self._programs.zero(group.keys),
      failed=jnp.where(is_new, epoch, carry.failed),
    )

  def _score(self, group: Group, carry: Carry, epoch: int) -> np.ndarray:
    """Scores an epoch's items, saving as it goes; True for models without a
    log p.
    """
    items = self._parts.items(epoch)
    images, ids = self._images, self._ids
    if len(items) < len(ids):
      images, ids = images[items], ids[items]
    arrays, done = self._parts.load(group.name, epoch)
    kind = self._kind(epoch)
    where = self._where(group, f'scoring epoch {epoch}')
    self._progress.skip(kind, done * group.size)
    keys = self._score_keys(group, epoch)
    while done < len(items):
      self._progress.start(kind, where)
      begin = time.monotonic()
      stop = min(done + self._options.scoring.items_at_once, len(items))
      found = score_block(
        self._programs,
        self._options.scoring,
        (carry.state.variables, images, ids, keys),
        range(done, stop),
        is_last=kind == 'final',
      )
      for name, array in arrays.items():
        array[:, done:stop] = found[name]
      self._progress.advance(
        kind, (stop - done) * group.size, time.monotonic() - begin, where
      )
      done = stop
      if done < len(items) and self._must_save():
        self._parts.save(group.name, epoch, arrays, done)
        self._saved = time.monotonic()
        self._stop_if_asked()
      elif done == len(items):
        self._parts.save(group.name, epoch, arrays, done)
    return np.logical_not(np.isfinite(arrays['log_px']).all(axis=1))

  def _score_keys(self, group: Group, epoch: int) -> jax.Array:
    grid, options = self._grid, self._options
    return jnp.stack(
      [
        score_key(
          options.seed,
          int(grid.repeat[index]),
          *((int(grid.fold[index]), epoch) if options.redraw else ()),
        )
        for index in group.models
      ]
    )

  def _must_save(self) -> bool:
    late = time.monotonic() - self._saved > self._options.checkpoint_seconds
    return late or self._stop.received

  def _save(
    self, checkpoints: Checkpoints, carry: Carry, epoch: int, step: int
  ) -> None:
    """Checkpoints, and ends the run in good order if somebody asked for it."""
    position = epoch * self._steps + step
    metadata = {'epoch': epoch, 'step': step}
    checkpoints.save(position, self._on_disk(carry), metadata)
    self._saved = time.monotonic()
    self._stop_if_asked()

  def _on_disk(self, carry: Carry) -> Carry:
    """The same without the padding and the devices of this run."""
    state, metrics = self._programs.layout.gather((carry.state, carry.metrics))
    return carry._replace(state=state, metrics=metrics)

  def _stop_if_asked(self) -> None:
    if self._stop.received:
      self._stop.stop()

  def _items_trained(self, group: Group, epoch: int, step: int) -> int:
    """Items that the group's models have seen after so many steps."""
    members = group.models[: group.size]
    num_train = (~self._grid.held_out[members]).sum(axis=1)
    seen = np.minimum(step * self._options.batch_size, num_train)
    return int((epoch * num_train + seen).sum())

  def _kind(self, epoch: int) -> str:
    """Of the work that scoring an epoch is, for the progress line."""
    return 'final' if epoch == self._options.last_score_epoch else 'score'

  def _tell_resumption(self, group: Group, epoch: int, step: int) -> None:
    found = describe_resumption(
      group.models[: group.size] + 1,
      len(self._grid.repeat),
      (epoch, self._options.epochs),
      (step, self._steps),
      group.attempt,
    )
    logging.info('Training of %s.', found)

  def _where(self, group: Group, what: str) -> str:
    members = group.models[: group.size]
    first, last = self._grid.repeat[[members[0], members[-1]]] + 1
    repeats = f'{first}' if first == last else f'{first}-{last}'
    return f'repeat {repeats}/{self._grid.repeat.max() + 1}, {what}'
