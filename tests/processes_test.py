"""Several processes on one machine, against one: the same scores, bit for bit.

Each is the real program. The shared folder is all that they have in common.
"""

import os
import pathlib
import platform
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from memjax import processes, run_folder
from memjax.processes import Heartbeat, Processes, meet, wait_for
from memjax.training.metrics_writer import (
  MetricsWriter,
  join_metrics,
  metrics_path,
  read_metrics,
)
from memjax.training.preemption import Preempted

ROOT = pathlib.Path(__file__).parents[1]
ARGUMENTS = (
  '--config=configs/digits_vae.py:small',
  '--config.data.num_items=40',
  '--config.folds.num_repeats=3',
  '--config.train.models_at_once=2',
  '--config.train.epochs=3',
  '--config.score.epochs=(1,3)',
  '--config.score.items_at_once=16',
  '--config.score.proposal=encoder',
  '--config.score.escalation=()',
  '--config.score.num_permutations=20',
  '--config.train.batch_size=8',
  '--config.model.hidden=(16,8)',
  '--config.train.checkpoint_seconds=0.0',
)
NUM_MODELS, NUM_EPOCHS = 9, 3

DIES = """
import os, runpy, signal, sys
from memjax.training.checkpoints import Checkpoints

save, left = Checkpoints.save, [int(sys.argv.pop(1))]

def dying(*args):
  left[0] -= 1
  if left[0] == 0:
    os.kill(os.getpid(), signal.SIGKILL)
  save(*args)

Checkpoints.save = dying
runpy.run_module('memjax.main', run_name='__main__')
"""


def start(folder, *flags, arguments=ARGUMENTS, dies_at=None):
  program = ['-m', 'memjax.main']
  if dies_at is not None:
    program = ['-c', DIES, str(dies_at)]
  return subprocess.Popen(
    [sys.executable, *program, *arguments, *flags, f'--workdir={folder}'],
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
    cwd=ROOT,
    env={**os.environ, 'JAX_PLATFORMS': 'cpu'},
  )


def share(index, count):
  return f'--process_id={index}', f'--num_processes={count}'


def finish(process, timeout=600):
  output = process.communicate(timeout=timeout)[0]
  return process.returncode, output


def finish_all(started):
  for process in started:
    code, output = finish(process)
    assert code == 0, output


def assert_same(folder, reference):
  for name in ('scores.csv', 'metrics.jsonl', 'arrays/models.json'):
    assert (folder / name).read_bytes() == (reference / name).read_bytes()
  for epoch in (1, 3):
    name = f'arrays/log_px_epoch_{epoch:04d}.npz'
    one, many = np.load(reference / name), np.load(folder / name)
    assert one.files == many.files
    for field in one.files:
      np.testing.assert_array_equal(many[field], one[field])
  assert not list(folder.rglob('*.tmp'))


@pytest.fixture(scope='module')
def reference(tmp_path_factory):
  folder = tmp_path_factory.mktemp('one')
  code, output = finish(start(folder))
  assert code == 0, output
  assert len(read_metrics(folder / 'metrics.jsonl')) == NUM_MODELS * NUM_EPOCHS
  return folder


def test_two_processes_score_as_one_does(reference, tmp_path):
  started = [start(tmp_path, *share(index, 2)) for index in (1, 0)]
  outputs = [finish(process) for process in started]
  assert [code for code, _ in outputs] == [0, 0], outputs
  assert 'process 1 of 2 has done its share' in outputs[0][1]
  assert f'report: {(tmp_path / "report.html").resolve()}' in outputs[1][1]
  assert_same(tmp_path, reference)
  # Both had work, and neither did the other's.
  others = {r['group'] for r in read_metrics(metrics_path(tmp_path, 1))}
  assert others == {'attempt_0_group_001', 'attempt_0_group_003'}


@pytest.mark.slow
def test_four_processes_meet_and_score_as_one_does(reference, tmp_path):
  with socket.socket() as free:
    free.bind(('127.0.0.1', 0))
    address = f'127.0.0.1:{free.getsockname()[1]}'
  finish_all(
    [
      start(tmp_path, *share(index, 4), f'--coordinator_address={address}')
      for index in range(4)
    ]
  )
  assert_same(tmp_path, reference)


@pytest.mark.slow
@pytest.mark.parametrize('index', [0, 1])
def test_a_process_that_is_killed_is_started_again_alone(
  reference, tmp_path, index
):
  """The other one goes on, or waits, and nothing is lost."""
  other = start(tmp_path, *share(1 - index, 2))
  killed = start(tmp_path, *share(index, 2), dies_at=3)
  code, output = finish(killed)
  assert code == -signal.SIGKILL, output
  again = start(tmp_path, *share(index, 2))
  code, output = finish(again)
  assert code == 0, output
  assert 'goes on after epoch' in output  # and did not begin anew
  finish_all([other])
  assert_same(tmp_path, reference)


@pytest.mark.slow
def test_the_number_of_processes_may_change(reference, tmp_path):
  """All of three are killed in the middle; two go on."""
  killed = [start(tmp_path, *share(i, 3), dies_at=3) for i in range(3)]
  for process in killed:
    code, output = finish(process)
    assert code == -signal.SIGKILL, output
  finish_all([start(tmp_path, *share(index, 2)) for index in range(2)])
  assert_same(tmp_path, reference)


def test_wait_for_returns_when_it_is_done(tmp_path):
  answers = iter([False, False, True])
  wait_for(1, lambda: next(answers), 'its files', tmp_path)


def test_a_lost_process_is_named(tmp_path, monkeypatch):
  monkeypatch.setattr(processes, '_PATIENCE_SECONDS', 0.3)
  monkeypatch.setattr(processes, '_POLL_SECONDS', 0.01)
  message = 'Process 2 showed no life for .* before it left its files'
  # It never came.
  with pytest.raises(RuntimeError, match=message):
    wait_for(2, lambda: False, 'its files', tmp_path)
  # It was killed, and its file is still there.
  (tmp_path / 'processes').mkdir()
  (tmp_path / 'processes' / '2').touch()
  with pytest.raises(RuntimeError, match=message):
    wait_for(2, lambda: False, 'its files', tmp_path)


def test_a_process_that_ended_early_is_named_at_once(tmp_path, monkeypatch):
  monkeypatch.setattr(processes, '_POLL_SECONDS', 0.01)
  heartbeat = Heartbeat(tmp_path, Processes(2, 3))
  heartbeat.__enter__()
  calls = []

  def is_done():
    if len(calls) == 2:
      heartbeat.__exit__()
    calls.append(None)
    return False

  with pytest.raises(RuntimeError, match='Process 2 ended before it left'):
    wait_for(2, is_done, 'its files', tmp_path)


def test_a_living_process_is_waited_for(tmp_path, monkeypatch):
  monkeypatch.setattr(processes, '_PATIENCE_SECONDS', 0.5)
  monkeypatch.setattr(processes, '_HEARTBEAT_SECONDS', 0.05)
  monkeypatch.setattr(processes, '_POLL_SECONDS', 0.01)
  until = time.monotonic() + 1.5
  with Heartbeat(tmp_path, Processes(1, 2)):
    wait_for(1, lambda: time.monotonic() > until, 'its files', tmp_path)
  assert not (tmp_path / 'processes' / '1').exists()


def test_a_lone_process_leaves_no_heartbeat(tmp_path):
  with Heartbeat(tmp_path, processes.ALONE):
    assert not list(tmp_path.iterdir())


def test_waiting_ends_when_somebody_asks(tmp_path):
  def stop():
    raise KeyboardInterrupt

  with pytest.raises(KeyboardInterrupt):
    wait_for(1, lambda: False, 'its files', tmp_path, stop_if_asked=stop)


def test_meet_takes_the_flags():
  assert meet(None, 4, 3) == (3, 4)
  assert meet() == (0, 1)  # no cluster here


@pytest.mark.parametrize(
  ('flags', 'message'),
  [
    ((None, 4, None), 'num_processes=4 and --process_id=None: expected both'),
    ((None, None, 1), 'expected both'),
    (('host:1', None, None), '--coordinator_address=host:1: expected'),
    ((None, 0, 0), '--num_processes=0: expected an integer 1 or more'),
    ((None, 2, 2), r'--process_id=2: expected an integer in \[0, 1\]'),
  ],
)
def test_meet_names_the_flag_that_is_wrong(flags, message):
  with pytest.raises(ValueError, match=message):
    meet(*flags)


def test_processes_that_do_not_meet_say_so(monkeypatch):
  monkeypatch.setattr(processes, '_MEETING_SECONDS', 1)
  with pytest.raises(RuntimeError, match='The processes did not meet: '):
    meet('127.0.0.1:1', 2, 1)


def test_a_slurm_step_is_found(monkeypatch):
  """A step of one task; `jax.distributed` reads these."""
  asked = []

  def meeting(given):
    asked.append(given)
    return Processes(2, 4)

  monkeypatch.setattr(processes, '_meet_in_child', meeting)
  monkeypatch.setenv('SLURM_STEP_ID', '0')
  monkeypatch.setenv('SLURM_STEP_NUM_TASKS', '1')
  assert meet() == (0, 1)
  monkeypatch.setenv('SLURM_STEP_NUM_TASKS', '4')
  assert meet() == (2, 4)
  assert asked == [{}]


def test_a_tpu_slice_is_asked_for_and_may_not_be_there(monkeypatch):
  monkeypatch.delenv('SLURM_STEP_ID', raising=False)
  monkeypatch.setattr(
    processes.importlib.util, 'find_spec', lambda name: name == 'libtpu' or None
  )
  monkeypatch.setattr(processes, '_meet_in_child', lambda _: Processes(3, 4))
  assert meet() == (3, 4)

  def refuse(_):
    raise RuntimeError('no slice')

  monkeypatch.setattr(processes, '_meet_in_child', refuse)
  assert meet() == (0, 1)


@pytest.mark.slow
def test_jax_distributed_reads_slurm(tmp_path):
  """Two tasks of a made step find each other and their numbers."""
  program = 'from memjax import processes; print(*processes.meet())'
  tasks = [
    subprocess.Popen(
      [sys.executable, '-c', program],
      stdout=subprocess.PIPE,
      text=True,
      cwd=ROOT,
      env={
        **os.environ,
        'SLURM_JOB_ID': str(os.getpid()),
        'SLURM_STEP_ID': '0',
        'SLURM_STEP_NODELIST': 'localhost',
        'SLURM_STEP_NUM_TASKS': '2',
        'SLURM_STEP_NUM_NODES': '1',
        'SLURM_NTASKS': '2',
        'SLURM_PROCID': str(index),
        'SLURM_LOCALID': str(index),
      },
    )
    for index in range(2)
  ]
  assert [finish(t) for t in tasks] == [(0, '0 2\n'), (0, '1 2\n')]


def test_metrics_of_processes_are_joined_in_order(tmp_path):
  row = lambda group, epoch, loss: {
    'group': group, 'repeat': 0, 'fold': 0, 'epoch': epoch, 'loss': loss,
  }  # fmt: skip
  write = lambda index, rows: MetricsWriter(
    metrics_path(tmp_path, index)
  ).write_scalars(rows)
  write(0, [row('b', 1, 1.0), row('a', 1, 2.0), row('a', 2, 9.0)])
  join_metrics(tmp_path, {})
  assert [r['group'] for r in read_metrics(tmp_path / 'metrics.jsonl')] == [
    'b', 'a', 'a',
  ]  # fmt: skip
  # Process 1 has taken over group a after its first epoch.
  write(1, [row('a', 2, 3.0), row('c', 1, 4.0)])
  for _ in range(2):  # joining twice is joining once
    join_metrics(tmp_path, {'a': 1, 'b': 0, 'c': 1})
    found = read_metrics(tmp_path / 'metrics.jsonl')
    assert [(r['group'], r['epoch'], r['loss']) for r in found] == [
      ('a', 1, 2.0), ('a', 2, 3.0), ('b', 1, 1.0), ('c', 1, 4.0),
    ]  # fmt: skip


def test_whoever_comes_first_claims_the_folder(tmp_path):
  folder = tmp_path / 'run'
  run_folder.claim(folder, {'a': 0}, 'an earlier run')
  for _ in range(2):
    run_folder.claim(folder, {'a': 1}, 'data')
  (folder / 'arrays').mkdir()
  run_folder.claim(folder, {'a': 1}, 'data')
  with pytest.raises(ValueError, match=r'config\.a: 1 there, 2 now'):
    run_folder.claim(folder, {'a': 2}, 'data')
  with pytest.raises(ValueError, match="'data' there, '012345678901' now"):
    run_folder.claim(folder, {'a': 1}, '0123456789012345')


def test_processes_may_claim_at_the_same_moment(tmp_path, monkeypatch):
  """One begins and ends while the other is about to rename its file."""
  claim = lambda: run_folder.claim(tmp_path, {'a': 1}, 'data')
  first = iter([True])

  def interrupted(_):
    if next(first, False):
      with monkeypatch.context() as other:
        other.setattr(os, 'getpid', lambda: 1)
        claim()

  monkeypatch.setattr(os, 'fsync', interrupted)
  claim()
  assert [path.name for path in tmp_path.iterdir()] == ['config.json']


def test_who_is_at_work_in_a_folder_is_named(tmp_path):
  (tmp_path / '.lock_0').write_text('a process that was killed long ago')
  with run_folder.lock(tmp_path):
    with pytest.raises(
      ValueError,
      match=rf'there \(process {os.getpid()} on {platform.node()}\);',
    ):
      with run_folder.lock(tmp_path):
        pass


def test_a_process_that_is_to_come_back_is_waited_for(tmp_path):
  heartbeat = lambda: processes.Heartbeat(tmp_path, processes.Processes(1, 2))
  with pytest.raises(Preempted), heartbeat():
    raise Preempted(15)
  assert (tmp_path / 'processes' / '1').exists()
  with pytest.raises(ValueError, match='for good'), heartbeat():
    raise ValueError('for good')
  assert not (tmp_path / 'processes' / '1').exists()


def test_a_study_that_cannot_be_shared_says_so(tmp_path):
  code, output = finish(
    start(tmp_path, *share(0, 2), arguments=['--config=configs/audit.py'])
  )
  assert code == 1
  assert "config.study='audit' runs in one process, and there are 2" in output
  assert 'Traceback' not in output
