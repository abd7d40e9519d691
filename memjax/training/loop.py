"""Trains and scores many models, group by group, and joins what they leave.

A run that is killed at any moment goes on where it was and gives the same bits.
Several processes each run their own groups; the first joins the files of all.
"""

import json
import pathlib
from collections.abc import Callable, Mapping

import jax
import numpy as np
import optax
from absl import logging

from memjax.data.dataset import Dataset
from memjax.data.transforms import Transform
from memjax.devices import lay_out
from memjax.files import write_json
from memjax.models.base import LatentVariableModel
from memjax.processes import ALONE, Heartbeat, Processes, wait_for
from memjax.training.carry import load_variables
from memjax.training.groups import GroupRunner, Outcome
from memjax.training.metrics_writer import (
  MetricsWriter,
  join_metrics,
  metrics_path,
)
from memjax.training.parts import Parts
from memjax.training.plan import (
  Divergence,
  LoopOptions,
  ModelGrid,
  make_group,
)
from memjax.training.preemption import StopSignal
from memjax.training.programs import make_programs

__all__ = ['load_variables', 'train_and_score']


def train_and_score(
  model: LatentVariableModel,
  optimizer: optax.GradientTransformation,
  transform: Transform,
  dataset: Dataset,
  grid: ModelGrid,
  options: LoopOptions,
  workdir: pathlib.Path,
  augment: Callable[[jax.Array, jax.Array], jax.Array] | None = None,
  processes: Processes = ALONE,
) -> list[Divergence]:
  """Trains all models and scores all items under each; resumes what is there.

  Leaves `arrays/log_px_epoch_*.npz` for each scored epoch, with `log_px`
  float64 [m, n] in nats and its `std_err`, `ess`, `pareto_k`, `is_reliable`;
  the rows of excluded models and the columns of items that were not scored are
  NaN. The last one also has `round`, of the escalation that the estimate comes
  from, and `encoder_log_px`, by the encoder's proposal, where asked for.

  Of several processes each trains every `count`-th group, whole groups as one
  process would. The first one waits for the others, trains again what
  diverged, and joins; the others return as soon as their groups are done.

  Args:
    model: the description that all models share.
    optimizer: fresh for each model.
    transform: pixels to model input.
    dataset: put on the device once, as uint8.
    grid: which model holds out what.
    options: see `LoopOptions`.
    workdir: holds checkpoints, partial scores, and metrics.
    augment: changes a training batch, see `make_train_steps`.
    processes: which of how many this is; they share `workdir`.

  Returns:
    Every attempt that diverged; for all but the first process, nothing.

  Raises:
    Preempted: on SIGTERM or Ctrl-C, after saving.
    RuntimeError: another process was lost.
  """
  stop, workdir = StopSignal(), pathlib.Path(workdir)
  writer = MetricsWriter(metrics_path(workdir, processes.index))
  parts = Parts(workdir / 'arrays', options, len(dataset.ids))
  models = np.arange(len(grid.repeat))
  is_own = models // options.models_at_once % processes.count == processes.index
  programs = make_programs(
    model,
    optimizer,
    transform,
    how=options.lift,
    layout=lay_out(options.models_at_once, options.devices),
    batches=(grid.steps_per_epoch(options.batch_size), options.batch_size),
    scoring=options.scoring,
    augment=augment,
    precision=options.precision,
  )
  runner = GroupRunner(
    programs,
    dataset,
    grid,
    options,
    models=models[is_own],
    parts=parts,
    checkpoints=workdir / 'checkpoints',
    writer=writer,
    stop=stop,
  )
  loop = _Loop(runner, programs.layout.width, grid, options, parts)
  with stop, Heartbeat(workdir, processes):
    pending = loop.run_attempt(0, models, processes)
    if processes.index:
      return []
    owners = {
      name: number % processes.count for number, name in enumerate(loop.groups)
    }
    pending += loop.wait(owners, workdir, stop)
    for attempt in range(1, options.max_attempts):
      if pending:
        pending = loop.run_attempt(attempt, np.array(sorted(pending)))
    parts.join(loop.groups, len(models), np.array(pending, np.int64))
    join_metrics(workdir, owners)
  return sorted(loop.divergences, key=lambda d: (d.attempt, d.model))


class _Loop:
  """Attempts at models, group by group, and what becomes of each.

  Attributes:
    groups: the models of each group by name, later attempts later.
    divergences: in the groups that this process ran or waited for.
  """

  def __init__(
    self,
    runner: GroupRunner,
    width: int,
    grid: ModelGrid,
    options: LoopOptions,
    parts: Parts,
  ):
    self.groups: dict[str, np.ndarray] = {}
    self.divergences: list[Divergence] = []
    self._runner, self._width = runner, width
    self._grid, self._options, self._parts = grid, options, parts

  def run_attempt(
    self, attempt: int, models: np.ndarray, processes: Processes = ALONE
  ) -> list[int]:
    """Trains and scores its share of the models; returns what diverged."""
    if attempt:
      logging.warning(
        '%d of %d models diverged; attempt %d, with new keys.',
        len(models),
        len(self._grid.repeat),
        attempt + 1,
      )
    size = self._options.models_at_once
    pending = []
    for number, start in enumerate(range(0, len(models), size)):
      name = f'attempt_{attempt}_group_{number:03d}'
      self.groups[name] = models[start : start + size]
      if number % processes.count == processes.index:
        outcome = self._run_group(name, attempt)
        if processes.count > 1:
          write_json(self._parts.outcome_path(name), outcome._asdict())
        pending += self._note(name, attempt, outcome)
    return pending

  def _run_group(self, name: str, attempt: int) -> Outcome:
    members = self.groups[name]
    return self._runner.run(
      make_group(name, attempt, members, self._grid, self._options, self._width)
    )

  def wait(
    self, owners: Mapping[str, int], workdir: pathlib.Path, stop: StopSignal
  ) -> list[int]:
    """Waits for the groups of other processes; returns what diverged there."""
    pending = []
    for name, owner in owners.items():
      if owner:
        wait_for(
          owner,
          lambda name=name: self._finished(name) is not None,
          f'its share of the scores ({name} next)',
          workdir,
          stop_if_asked=lambda: stop.received and stop.stop(),
        )
        outcome = self._finished(name)
        assert outcome is not None
        pending += self._note(name, 0, outcome)
    return pending

  def _finished(self, name: str) -> Outcome | None:
    """What another process says of its group, once all its files are there."""
    path = self._parts.outcome_path(name)
    if not path.exists():
      return None
    outcome = Outcome(**json.loads(path.read_text()))
    # Where all models diverge, a group ends before its last epoch.
    is_cut = all(outcome.failed)
    last = max(outcome.failed) if is_cut else self._options.epochs
    is_whole = self._parts.missing(name, last + 1) is None
    return outcome if is_whole else None

  def _note(self, name: str, attempt: int, outcome: Outcome) -> list[int]:
    """Tells of a group's models that diverged, and returns them."""
    is_excluded = attempt + 1 == self._options.max_attempts
    diverged = []
    for model, epoch, in_scoring in zip(
      self.groups[name].tolist(), *outcome, strict=True
    ):
      if not epoch:
        continue
      reason = (
        'log p(x) of an item is not finite'
        if in_scoring
        else 'its loss or parameters are not finite'
      )
      logging.warning(
        'The model of repeat %d, fold %d diverged in epoch %d (attempt %d): '
        '%s.',
        self._grid.repeat[model],
        self._grid.fold[model],
        epoch,
        attempt + 1,
        reason,
      )
      diverged.append(model)
      self.divergences.append(
        Divergence(model, attempt, epoch, reason, is_excluded)
      )
    return diverged
