"""A loop over steps that loses nothing: for studies whose state is one pytree.

The K-fold study has a loop of its own (`loop.py`), because its groups of models
diverge and are scored apart.
"""

import pathlib
import time
from collections.abc import Callable, Collection
from typing import Any, NamedTuple

import jax
from absl import logging

from memjax import validate
from memjax.training.checkpoints import Checkpoint, Checkpoints
from memjax.training.preemption import StopSignal
from memjax.training.progress import Progress

__all__ = ['Finished', 'run_resumable']

_SECONDS_PER_CALL = 1.0


class Finished(NamedTuple):
  """Where a loop ended.

  Attributes:
    state: the last state.
    step: steps taken.
    is_stopped: whether a visit ended it.
  """

  state: Any
  step: int
  is_stopped: bool


def run_resumable(
  state: Any,
  advance: Callable[[Any, int, int], Any],
  num_steps: int,
  directory: pathlib.Path,
  *,
  visits: Collection[int] = (),
  visit: Callable[[int, Any], bool | None] | None = None,
  unit: str = 'steps',
  units_per_step: int = 1,
  checkpoint_seconds: float = 300.0,
  progress_seconds: float = 5.0,
) -> Finished:
  """Advances a state to its last step, from wherever an earlier run came.

  Args:
    state: a pytree of arrays, the fresh start.
    advance: `advance(state, begin, end)` takes the steps begin, …, end − 1. How
      these are cut into calls must not change a bit of the result: jit it with
      dynamic bounds, and fold its keys from the step.
    num_steps: the last step, ≥ 0.
    directory: of the checkpoints.
    visits: steps, 0 to `num_steps`, after so many of which `visit` is called.
    visit: evaluates and writes files; True ends the loop there. It is called
      before the step's checkpoint, so that after a kill it may be called again
      for the same step: what it writes must replace what it wrote.
    unit: what the progress line counts.
    units_per_step: how many of them a step is.
    checkpoint_seconds: between checkpoints.
    progress_seconds: between lines.

  Returns:
    Finished(state, step, is_stopped).

  Raises:
    Preempted: on SIGTERM or Ctrl-C, after saving.
    ValueError: a visit beyond the last step; the folder holds more steps than
      asked for, and a later state cannot become an earlier one.

  Example:
    >>> import tempfile
    >>> add = jax.jit(lambda total, begin, end: total + (end - begin))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...   folder = pathlib.Path(folder)
    ...   done = run_resumable(jax.numpy.zeros(()), add, 5, folder)
    >>> float(done.state), done.step
    (5.0, 5)
  """
  validate.integer('num_steps', num_steps, 0)
  for step in visits:
    validate.integer('visits', step, 0, num_steps)
  progress = Progress(
    {'step': num_steps * units_per_step},
    every=progress_seconds,
    names={'step': unit},
  )
  with (
    Checkpoints(pathlib.Path(directory)) as checkpoints,
    StopSignal() as stop,
  ):
    found = checkpoints.restore(state) or Checkpoint(0, state, {})
    position = _Position(found.state, **found.metadata)
    if position.step > num_steps:
      raise ValueError(
        f'num_steps={num_steps}: {directory} holds a run of {position.step} '
        'steps; expected at least as many, or another folder.'
      )
    if position.step:
      logging.info('Goes on after step %d of %d.', position.step, num_steps)
      progress.skip('step', position.step * units_per_step)
    saved, saved_at = position, time.monotonic()
    stride = 1
    while True:
      is_late = time.monotonic() - saved_at > checkpoint_seconds
      is_over = position.is_over(num_steps, visits if visit else ())
      if position is not saved and (is_late or is_over or stop.received):
        _save(checkpoints, position)
        saved, saved_at = position, time.monotonic()
      if stop.received:
        stop.stop()
      if is_over:
        return Finished(position.state, position.step, position.is_stopped)
      if visit and position.step in visits and not position.is_visited:
        is_stopped = bool(visit(position.step, position.state))
        position = position._replace(is_visited=True, is_stopped=is_stopped)
        continue
      begin = time.monotonic()
      later = [step for step in visits if step > position.step]
      until = min([position.step + stride, num_steps, *later])
      state = jax.block_until_ready(
        advance(position.state, position.step, until)
      )
      seconds = time.monotonic() - begin
      taken = until - position.step
      where = f'step {until}/{num_steps}'
      progress.advance('step', taken * units_per_step, seconds, where)
      stride = max(1, round(taken * _SECONDS_PER_CALL / max(seconds, 1e-6)))
      position = _Position(state, until)


class _Position(NamedTuple):
  """Where the loop is; what a checkpoint holds."""

  state: Any
  step: int = 0
  is_visited: bool = False
  is_stopped: bool = False

  def is_over(self, num_steps: int, visits: Collection[int]) -> bool:
    is_left = self.step in visits and not self.is_visited
    return self.is_stopped or (self.step == num_steps and not is_left)


def _save(checkpoints: Checkpoints, position: _Position) -> None:
  """Saves; a step has one checkpoint before its visit and one after it."""
  metadata = position._asdict()
  state = metadata.pop('state')
  number = 2 * position.step + position.is_visited
  checkpoints.save(number, state, metadata)
