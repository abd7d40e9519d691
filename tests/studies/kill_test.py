"""A run that is killed, stopped, or out of disk loses nothing.

Each test starts the real program in a process of its own. A small driver makes
it die by SIGKILL at a chosen moment, such as in the middle of a save.
"""

import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

ARGUMENTS = (
  '--config=configs/digits_vae.py:small',
  '--config.data.num_items=40',
  '--config.train.epochs=3',
  '--config.score.epochs=(1,3)',
  '--config.score.items_at_once=16',
  '--config.score.num_permutations=20',
  '--config.train.batch_size=8',
  '--config.model.hidden=(16,8)',
  # A checkpoint after every program call: more moments to die at.
  '--config.train.checkpoint_seconds=0.0',
)

DRIVER = """
import os, runpy, signal, sys
from memjax import files
from memjax.training.checkpoints import Checkpoints

what, when, number = sys.argv.pop(1).split(':')
count = 0

def dying(function):
  def wrapper(*args, **kwargs):
    global count
    count += 1
    if count == int(number) and when == 'before':
      os.kill(os.getpid(), signal.SIGKILL)
    result = function(*args, **kwargs)
    if count == int(number):
      os.kill(os.getpid(), signal.SIGKILL)
    return result
  return wrapper

if what == 'checkpoint':
  Checkpoints.save = dying(Checkpoints.save)
elif what == 'rename':  # the file is written, but not yet in its place
  import pathlib
  pathlib.Path.replace = dying(pathlib.Path.replace)
elif what == 'disk':  # writes beyond so many bytes fail, as on a full disk
  import resource
  signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
  resource.setrlimit(resource.RLIMIT_FSIZE, (int(number), int(number)))
elif what == 'write':
  files.write_atomically = dying(files.write_atomically)
runpy.run_module('memjax.main', run_name='__main__')
"""


def start(workdir, *, driver=None):
  program = ['-m', 'memjax.main'] if driver is None else ['-c', DRIVER, driver]
  return subprocess.Popen(
    [sys.executable, *program, *ARGUMENTS, f'--workdir={workdir}'],
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
    cwd=pathlib.Path(__file__).parents[2],
    env={**os.environ, 'JAX_PLATFORMS': 'cpu'},
  )


def finish(process, timeout=240):
  stdout, stderr = process.communicate(timeout=timeout)
  return process.returncode, stdout + stderr


def results(workdir):
  csv = (workdir / 'scores.csv').read_bytes()
  arrays = {
    path.name: np.load(path)['log_px']
    for path in (workdir / 'arrays').glob('log_px_epoch_*.npz')
  }
  return csv, arrays


def assert_same(workdir, reference):
  csv, arrays = results(workdir)
  expected_csv, expected = reference
  assert arrays.keys() == expected.keys()
  for name in arrays:
    np.testing.assert_array_equal(arrays[name], expected[name])
  assert csv == expected_csv


@pytest.fixture(scope='module')
def reference(tmp_path_factory):
  workdir = tmp_path_factory.mktemp('uninterrupted')
  code, output = finish(start(workdir))
  assert code == 0, output
  assert 'report.html' in output
  return results(workdir)


def test_kill_at_every_kind_of_moment(reference, tmp_path):
  """One folder, killed again and again, ends with the same bits."""
  workdir = tmp_path / 'run'
  kills = 0
  for moment in (
    'checkpoint:before:1',
    'checkpoint:after:3',
    'write:before:4',
    'rename:before:6',
    'rename:before:16',
  ):
    code, output = finish(start(workdir, driver=moment))
    assert code in (-signal.SIGKILL, 0), output
    if code == 0:  # so far along that the moment never came
      break
    kills += 1
  assert kills >= 3
  code, output = finish(start(workdir))
  assert code == 0, output
  assert_same(workdir, reference)
  # Not a file is left half-written, and no epoch is told twice.
  assert not list(workdir.rglob('*.tmp'))
  lines = (workdir / 'metrics.jsonl').read_text().splitlines()
  assert len(lines) == 6 * 3


def test_sigterm_saves_and_exits(reference, tmp_path):
  workdir = tmp_path / 'run'
  process = start(workdir)
  deadline = time.monotonic() + 120
  while not (workdir / 'metrics.jsonl').exists():
    assert time.monotonic() < deadline, 'no epoch was finished'
    assert process.poll() is None
    time.sleep(0.02)
  process.send_signal(signal.SIGTERM)
  code, output = finish(process, timeout=60)
  if code != 0:  # it may have finished first
    assert code == 128 + signal.SIGTERM, output
    assert 'stopped by SIGTERM: everything is saved' in output
    assert 'Traceback' not in output
    assert not (workdir / 'scores.csv').exists()
  code, output = finish(start(workdir))
  assert code == 0, output
  assert_same(workdir, reference)


def test_a_full_disk_is_a_clear_error_and_loses_nothing(reference, tmp_path):
  workdir = tmp_path / 'run'
  code, output = finish(start(workdir, driver='disk:beyond:6000'))
  assert code == 1, output
  assert 'memjax: Could not write' in output
  assert 'run the same command again' in output
  code, output = finish(start(workdir))
  assert code == 0, output
  assert_same(workdir, reference)
