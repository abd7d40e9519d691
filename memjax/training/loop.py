"""Trains and scores many models, group by group; all of its I/O is here.

A group is `models_at_once` models in one program of fixed width. Everything a
group needs to go on is in its checkpoint, and scoring is saved in stretches, so
a run that is killed at any moment goes on where it was and gives the same bits.
"""

import pathlib
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import logging

from memjax import files
from memjax.data.dataset import Dataset
from memjax.data.transforms import Transform
from memjax.models.base import LatentVariableModel
from memjax.training.checkpoints import Checkpoint, Checkpoints
from memjax.training.metrics_writer import MetricsWriter
from memjax.training.plan import (
  Divergence,
  Group,
  LoopOptions,
  ModelGrid,
  make_group,
)
from memjax.training.preemption import StopSignal
from memjax.training.programs import make_programs, score_key
from memjax.training.progress import Progress
from memjax.training.scoring import (
  absent,
  array_types,
  empty_arrays,
  load_part,
  score_block,
)
from memjax.training.state import TrainState, init_state
from memjax.training.step import StepMetrics, no_metrics

__all__ = ['load_variables', 'train_and_score']

# A program call lasts about this long, so that a signal is answered soon.
_SECONDS_PER_CALL = 1.0


class _Carry(NamedTuple):
  """All that changes while a group trains; what a checkpoint holds.

  `failed` [width] is the epoch in which each model diverged, 0 for none;
  `in_scoring` says that it trained, but gave an item no finite log p.
  """

  state: TrainState
  metrics: StepMetrics
  failed: jax.Array
  in_scoring: jax.Array


def train_and_score(
  model: LatentVariableModel,
  optimizer: optax.GradientTransformation,
  transform: Transform,
  dataset: Dataset,
  grid: ModelGrid,
  options: LoopOptions,
  workdir: pathlib.Path,
  augment: Callable[[jax.Array, jax.Array], jax.Array] | None = None,
) -> list[Divergence]:
  """Trains all models and scores all items under each; resumes what is there.

  Leaves `arrays/log_px_epoch_XXXX.npz` for each scored epoch, with `log_px`
  float64 [m, n] in nats and its `std_err`, `ess`, `pareto_k`, `is_reliable`;
  the rows of excluded models and the columns of items that were not scored are
  NaN. The last one also has `round`, of the escalation that the estimate comes
  from, and `encoder_log_px`, by the encoder's proposal, where asked for.

  Args:
    model: the description that all models share.
    optimizer: fresh for each model.
    transform: pixels to model input.
    dataset: put on the device once, as uint8.
    grid: which model holds out what.
    options: see `LoopOptions`.
    workdir: holds checkpoints, partial scores, and metrics.
    augment: changes a training batch, see `make_train_steps`.

  Returns:
    Every attempt that diverged.

  Raises:
    Preempted: on SIGTERM or Ctrl-C, after saving.
  """
  loop = _Loop(
    model, optimizer, transform, dataset, grid, options, workdir, augment
  )
  pending = np.arange(len(grid.repeat))
  with loop.stop:
    for attempt in range(options.max_attempts):
      pending = loop.run_attempt(attempt, pending)
      if not pending.size:
        break
  loop.join(pending)
  return loop.divergences


def load_variables(
  model: LatentVariableModel,
  optimizer: optax.GradientTransformation,
  workdir: pathlib.Path,
  group: str,
  width: int,
) -> dict[str, Any]:
  """The variables of a group's last checkpoint, with a leading model axis.

  Args:
    model: as it was trained.
    optimizer: as it was trained.
    workdir: of `train_and_score`.
    group: its name, for instance 'attempt_0_group_000'.
    width: `models_at_once`.

  Raises:
    FileNotFoundError: if there is no checkpoint that can be used.
  """

  def start(keys):
    return _Carry(
      jax.vmap(lambda key: init_state(model, optimizer, key))(keys),
      jax.vmap(lambda key: no_metrics())(keys),
      jnp.zeros(width, jnp.int32),
      jnp.zeros(width, bool),
    )

  like = jax.eval_shape(start, jax.random.split(jax.random.key(0), width))
  directory = pathlib.Path(workdir) / 'checkpoints' / group
  with Checkpoints(directory) as checkpoints:
    found = checkpoints.restore(like)
  if found is None:
    raise FileNotFoundError(f'{directory}: expected a checkpoint there.')
  return found.state.state.variables


class _Loop:
  """What the groups share: programs, data, places, and the clock."""

  def __init__(
    self, model, optimizer, transform, dataset, grid, options, workdir, augment
  ):
    self.stop = StopSignal()
    self.divergences: list[Divergence] = []
    self._grid, self._options = grid, options
    # Every model takes as many steps an epoch as the one with the most items;
    # its spare steps change nothing.
    longest = int((~grid.held_out).sum(axis=1).max())
    self._steps = -(-longest // options.batch_size)
    self._programs = make_programs(
      model,
      optimizer,
      transform,
      how=options.lift,
      batches=(self._steps, options.batch_size),
      scoring=options.scoring,
      augment=augment,
      precision=options.precision,
    )
    self._images = jnp.asarray(dataset.images)
    self._ids = jnp.asarray(dataset.ids.astype(np.uint32))
    self._epochs = sorted({*options.score_epochs, *options.tracked_epochs})
    self._checkpoints = pathlib.Path(workdir) / 'checkpoints'
    self._arrays = pathlib.Path(workdir) / 'arrays'
    self._writer = MetricsWriter(pathlib.Path(workdir) / 'metrics.jsonl')
    last = options.last_score_epoch
    self._fields = {
      epoch: array_types(options.scoring, is_last=epoch == last)
      for epoch in self._epochs
    }
    self._parts: dict[str, np.ndarray] = {}
    self._saved = time.monotonic()
    self._progress = Progress(
      {
        'train': int((~grid.held_out).sum()) * options.epochs,
        'score': len(grid.repeat) * sum(map(self._num_scored, self._epochs)),
      },
      options.scoring.num_samples,
      options.progress_seconds,
    )

  def run_attempt(self, attempt: int, models: np.ndarray) -> np.ndarray:
    """Trains and scores these models; returns those that diverged."""
    if attempt:
      logging.warning(
        '%d of %d models diverged; attempt %d, with new keys.',
        len(models),
        len(self._grid.repeat),
        attempt + 1,
      )
    width = self._options.models_at_once
    failed = []
    for start in range(0, len(models), width):
      name = f'attempt_{attempt}_group_{start // width:03d}'
      members = models[start : start + width]
      group = make_group(name, attempt, members, self._grid, self._options)
      failed += self._run_group(group)
    return np.array(failed, np.int64)

  def join(self, excluded: np.ndarray) -> None:
    """Joins the groups' parts into one array a scored epoch."""
    for epoch in self._epochs:
      items = self._options.items_scored(epoch, len(self._ids))
      whole = empty_arrays(self._fields[epoch], self._grid.held_out.shape)
      # Later attempts come later, and replace what they repeat.
      for name, models in self._parts.items():
        part = self._part_path(name, epoch)
        if not part.exists():  # its models all diverged before this epoch
          continue
        with np.load(part) as arrays:
          for field, array in whole.items():
            array[np.ix_(models, items)] = arrays[field][: len(models)]
      for array in whole.values():
        array[excluded] = absent(array.dtype)
      files.save_arrays(self._arrays / f'log_px_epoch_{epoch:04d}.npz', **whole)

  def _run_group(self, group: Group) -> list[int]:
    """Trains and scores one group from wherever it was."""
    options = self._options
    self._parts[group.name] = group.models[: group.size]
    with Checkpoints(self._checkpoints / group.name) as checkpoints:
      carry, epoch, step = self._restore(group, checkpoints)
      self._stop_if_asked()
      while True:
        if step == 0 and epoch in self._epochs:
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
    for index in np.flatnonzero(failed).tolist():
      in_scoring = bool(carry.in_scoring[index])
      self._note_divergence(group, index, int(failed[index]), in_scoring)
    return [int(group.models[index]) for index in np.flatnonzero(failed)]

  def _restore(
    self, group: Group, checkpoints: Checkpoints
  ) -> tuple[_Carry, int, int]:
    """A group's state, epoch and step, from its checkpoint or from scratch."""
    carry = _Carry(
      self._programs.init(group.keys),
      self._programs.zero(group.keys),
      jnp.zeros(len(group.models), jnp.int32),
      jnp.zeros(len(group.models), bool),
    )
    fresh = Checkpoint(0, carry, {'epoch': 0, 'step': 0})
    found = checkpoints.restore(carry) or fresh
    missing = self._missing_part(group, found)
    if missing is not None:
      logging.error(
        '%s is missing or damaged: %s starts over.', missing, group.name
      )
      found = fresh
    epoch, step = found.metadata['epoch'], found.metadata['step']
    if epoch or step:
      logging.info('%s goes on after epoch %d.', group.name, epoch)
    self._writer.keep(
      lambda row: row['group'] != group.name or row['epoch'] <= epoch
    )
    if group.attempt == 0:
      self._progress.skip('train', self._items_trained(group, epoch, step))
      passed = sum(self._num_scored(e) for e in self._epochs if e < epoch)
      self._progress.skip('score', passed * group.size)
    return found.state, epoch, step

  def _missing_part(
    self, group: Group, found: Checkpoint
  ) -> pathlib.Path | None:
    """Scores that a checkpoint is past, but that are not there in full."""
    for epoch in self._epochs:
      path = self._part_path(group.name, epoch)
      if epoch < found.metadata['epoch']:
        num_items = self._num_scored(epoch)
        shape = (len(group.models), num_items)
        if load_part(path, shape, self._fields[epoch])[1] < num_items:
          return path
    return None

  def _train_epoch(
    self,
    group: Group,
    carry: _Carry,
    epoch: int,
    step: int,
    checkpoints: Checkpoints,
  ) -> _Carry:
    """The rest of one epoch, in program calls of about a second each."""
    keys = jax.vmap(jax.random.fold_in, (0, None))(group.keys, epoch)
    order = self._programs.order(keys, group.is_train)
    stride = 1
    while step < self._steps:
      until = min(step + stride, self._steps)
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
        self._where(group, f'epoch {epoch + 1}/{self._options.epochs}'),
      )
      stride = max(1, round((until - step) * _SECONDS_PER_CALL / seconds))
      step = until
      if step < self._steps and self._must_save():
        self._save(checkpoints, carry, epoch, step)
    carry = self._end_epoch(group, carry, epoch + 1)
    is_last = epoch + 1 == self._options.epochs
    is_scored = epoch + 1 in self._epochs
    if is_last or is_scored or self._must_save():
      self._save(checkpoints, carry, epoch + 1, 0)
    return carry

  def _end_epoch(self, group: Group, carry: _Carry, epoch: int) -> _Carry:
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
    is_new = ~carry.metrics.is_finite & (carry.failed == 0)
    return carry._replace(
      metrics=self._programs.zero(group.keys),
      failed=jnp.where(is_new, epoch, carry.failed),
    )

  def _score(self, group: Group, carry: _Carry, epoch: int) -> np.ndarray:
    """Scores an epoch's items, saving as it goes; True for models without a
    log p.
    """
    path = self._part_path(group.name, epoch)
    items = self._options.items_scored(epoch, len(self._ids))
    assert items is not None
    images, ids = self._images, self._ids
    if len(items) < len(ids):
      images, ids = images[items], ids[items]
    shape = (len(group.models), len(items))
    arrays, done = load_part(path, shape, self._fields[epoch])
    self._progress.skip('score', done * group.size)
    keys = self._score_keys(group, epoch)
    while done < len(items):
      begin = time.monotonic()
      stop = min(done + self._options.scoring.items_at_once, len(items))
      found = score_block(
        self._programs,
        self._options.scoring,
        (carry.state.variables, images, ids, keys),
        range(done, stop),
        is_last=epoch == self._options.last_score_epoch,
      )
      for name, array in arrays.items():
        array[:, done:stop] = found[name]
      self._progress.advance(
        'score',
        (stop - done) * group.size,
        time.monotonic() - begin,
        self._where(group, f'scoring epoch {epoch}'),
      )
      done = stop
      if done < len(items) and self._must_save():
        files.save_arrays(path, done=np.int64(done), **arrays)
        self._saved = time.monotonic()
        self._stop_if_asked()
      elif done == len(items):
        files.save_arrays(path, done=np.int64(done), **arrays)
    is_finite = np.isfinite(arrays['log_px'])
    return np.logical_not(is_finite.all(axis=1))

  def _num_scored(self, epoch: int) -> int:
    items = self._options.items_scored(epoch, len(self._ids))
    return 0 if items is None else len(items)

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
    return late or self.stop.received

  def _save(
    self, checkpoints: Checkpoints, carry: _Carry, epoch: int, step: int
  ) -> None:
    """Checkpoints, and ends the run in good order if somebody asked for it."""
    position = epoch * self._steps + step
    checkpoints.save(position, carry, {'epoch': epoch, 'step': step})
    self._saved = time.monotonic()
    self._stop_if_asked()

  def _stop_if_asked(self) -> None:
    if self.stop.received:
      self.stop.stop()

  def _note_divergence(
    self, group: Group, index: int, epoch: int, in_scoring: bool
  ) -> None:
    model = int(group.models[index])
    reason = (
      'log p(x) of an item is not finite'
      if in_scoring
      else 'its loss or parameters are not finite'
    )
    is_excluded = group.attempt + 1 == self._options.max_attempts
    logging.warning(
      'The model of repeat %d, fold %d diverged in epoch %d (attempt %d): %s.',
      self._grid.repeat[model],
      self._grid.fold[model],
      epoch,
      group.attempt + 1,
      reason,
    )
    self.divergences.append(
      Divergence(model, group.attempt, epoch, reason, is_excluded)
    )

  def _part_path(self, name: str, epoch: int) -> pathlib.Path:
    return self._arrays / 'parts' / f'{name}_epoch_{epoch:04d}.npz'

  def _items_trained(self, group: Group, epoch: int, step: int) -> int:
    """Items that the group's models have seen after so many steps."""
    members = group.models[: group.size]
    num_train = (~self._grid.held_out[members]).sum(axis=1)
    seen = np.minimum(step * self._options.batch_size, num_train)
    return int((epoch * num_train + seen).sum())

  def _where(self, group: Group, what: str) -> str:
    members = group.models[: group.size]
    first, last = self._grid.repeat[[members[0], members[-1]]] + 1
    repeats = f'{first}' if first == last else f'{first}-{last}'
    return f'repeat {repeats}/{self._grid.repeat.max() + 1}, {what}'
