"""Many processes on many machines, each of which does its share of a study.

They share a folder, and nothing else: a process trains its own models, leaves
files, and the first one waits for the files of the others. So one that is lost
can be started again by itself.

`jax.distributed` only introduces the processes to one another, in a child that
ends before the work begins. In a process that stays connected Orbax could not
save a checkpoint of its own: v1 insists on one directory for all processes, and
v0 writes the arrays of process 0 alone.
"""

import importlib.util
import json
import os
import pathlib
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

from absl import logging

from memjax import validate
from memjax.training.preemption import Preempted

__all__ = ['ALONE', 'Heartbeat', 'Processes', 'meet', 'wait_for']

_HEARTBEAT_SECONDS = 10.0
# A process that shows no life for so long is given up.
_PATIENCE_SECONDS = 600.0
_POLL_SECONDS = 0.5
_TELL_SECONDS = 30.0
_MEETING_SECONDS = 300

_MEETING = """
import json, sys
import jax
jax.config.update('jax_platforms', 'cpu')
given, seconds = json.loads(sys.argv[1])
jax.distributed.initialize(**given, initialization_timeout=seconds)
print(json.dumps([jax.process_index(), jax.process_count()]))
"""


class Processes(NamedTuple):
  """Which process this is.

  Attributes:
    index: from 0; the first one joins what all leave, and reports.
    count: of all. Of numbered pieces of work it does each `count`-th.
  """

  index: int = 0
  count: int = 1


ALONE = Processes()


def meet(
  coordinator_address: str | None = None,
  num_processes: int | None = None,
  process_id: int | None = None,
) -> Processes:
  """Finds out which process this is, and of how many.

  Args:
    coordinator_address: 'host:port' of process 0, at which all meet first, so
      that a machine that is not there is noticed; None: they start apart, as
      the jobs of an array do.
    num_processes: how many.
    process_id: which one, from 0. Without these two, `jax.distributed` looks
      for a SLURM step or a TPU pod slice; elsewhere there is one process.

  Raises:
    ValueError: one of the two without the other, or out of range.
    RuntimeError: the processes did not meet.
  """
  if (num_processes is None) != (process_id is None):
    raise ValueError(
      f'--num_processes={num_processes} and --process_id={process_id}: '
      'expected both, or none.'
    )
  if num_processes is None or process_id is None:
    if coordinator_address is not None:
      raise ValueError(
        f'--coordinator_address={coordinator_address}: expected '
        '--num_processes and --process_id too.'
      )
    return _detect()
  validate.integer('--num_processes', num_processes, 1)
  validate.integer('--process_id', process_id, 0, num_processes - 1)
  if coordinator_address is not None and num_processes > 1:
    given = {
      'coordinator_address': coordinator_address,
      'num_processes': num_processes,
      'process_id': process_id,
    }
    _meet_in_child(given)
  return Processes(process_id, num_processes)


def _detect() -> Processes:
  """Asks `jax.distributed` where it may know more than we do."""
  is_slurm = 'SLURM_STEP_ID' in os.environ
  num_tasks = int(os.environ.get('SLURM_STEP_NUM_TASKS', 1))
  if is_slurm and num_tasks > 1:
    return _meet_in_child({})
  if importlib.util.find_spec('libtpu') is not None:
    try:
      return _meet_in_child({})
    except RuntimeError as error:
      logging.warning('No TPU pod slice was found (%s): one process.', error)
  return ALONE


def _meet_in_child(given: dict[str, str | int]) -> Processes:
  arguments = json.dumps([given, _MEETING_SECONDS])
  try:
    child = subprocess.run(
      [sys.executable, '-c', _MEETING, arguments],
      capture_output=True,
      text=True,
      timeout=2 * _MEETING_SECONDS,
      check=True,
    )
    return Processes(*json.loads(child.stdout.splitlines()[-1]))
  except subprocess.TimeoutExpired:
    reason = f'it took more than {2 * _MEETING_SECONDS} s'
  except subprocess.CalledProcessError as error:
    reason = ([''] + error.stderr.strip().splitlines())[-1]
  raise RuntimeError(
    f'The processes did not meet: {reason}. Start all of them within '
    f'{_MEETING_SECONDS // 60} minutes, or each by itself with '
    '--num_processes and --process_id alone.'
  )


def _heartbeat_path(folder: pathlib.Path, index: int) -> pathlib.Path:
  return pathlib.Path(folder) / 'processes' / str(index)


class Heartbeat:
  """While inside, a file shows the other processes that this one is alive."""

  def __init__(self, folder: pathlib.Path, processes: Processes):
    self._path = _heartbeat_path(folder, processes.index)
    self._is_needed = processes.count > 1
    self._ended = threading.Event()
    self._thread = threading.Thread(target=self._beat, daemon=True)

  def __enter__(self) -> 'Heartbeat':
    if self._is_needed:
      self._path.parent.mkdir(parents=True, exist_ok=True)
      self._path.touch()
      self._thread.start()
    return self

  def __exit__(self, kind: type[BaseException] | None = None, *details) -> None:
    if self._is_needed:
      self._ended.set()
      self._thread.join()
      # Whoever was told to stop is started again: the others are to wait.
      if kind is None or not issubclass(kind, Preempted):
        self._path.unlink(missing_ok=True)

  def _beat(self) -> None:
    while not self._ended.wait(_HEARTBEAT_SECONDS):
      try:
        self._path.touch()
      except OSError:
        continue  # a full disk, perhaps; whoever must write says so


def wait_for(
  index: int,
  is_done: Callable[[], bool],
  what: str,
  folder: pathlib.Path,
  *,
  stop_if_asked: Callable[[], object] = lambda: None,
) -> None:
  """Waits for files that another process is to leave.

  Args:
    index: of that process.
    is_done: whether they are there.
    what: they are, for messages.
    folder: the shared one.
    stop_if_asked: is called now and then; it may raise.

  Raises:
    RuntimeError: the process ended without leaving them, or it shows no life.
  """
  path = _heartbeat_path(folder, index)
  changed = told = time.monotonic()
  last = _last_beat(path)
  while not is_done():
    stop_if_asked()
    now, beat = time.monotonic(), _last_beat(path)
    if beat != last:
      if beat is None and not is_done():
        raise RuntimeError(_lost(index, what, 'ended'))
      last, changed = beat, now
    if now - changed > _PATIENCE_SECONDS:
      seconds = round(now - changed)
      raise RuntimeError(_lost(index, what, f'showed no life for {seconds} s'))
    if now - told > _TELL_SECONDS:
      told = now
      logging.info('Waits for process %d: %s.', index, what)
    time.sleep(_POLL_SECONDS)


def _last_beat(path: pathlib.Path) -> int | None:
  """When a process last showed life; compared with itself alone, as machines'
  clocks differ.
  """
  try:
    return path.stat().st_mtime_ns
  except OSError:
    return None


def _lost(index: int, what: str, how: str) -> str:
  return (
    f'Process {index} {how} before it left {what}. What is finished is kept: '
    'start it again, and this process when it is done.'
  )
