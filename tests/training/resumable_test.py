"""The loop of studies whose state is one pytree."""

import os
import signal
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memjax.training.preemption import Preempted
from memjax.training.resumable import run_resumable


@jax.jit
def advance(state, begin, end):
  def step(index, state):
    noise = jax.random.normal(jax.random.fold_in(state['key'], index), (3,))
    return {'key': state['key'], 'x': 0.9 * state['x'] + noise}

  return jax.lax.fori_loop(begin, end, step, state)


def fresh():
  return {'key': jax.random.key(0), 'x': jnp.zeros(3)}


def reference(num_steps):
  state = fresh()
  for index in range(num_steps):
    state = advance(state, index, index + 1)
  return np.asarray(state['x'])


@pytest.mark.parametrize('num_steps', [0, 1, 7, 5000])
def test_cut_into_calls_changes_no_bit(tmp_path, num_steps):
  done = run_resumable(fresh(), advance, num_steps, tmp_path)
  np.testing.assert_array_equal(done.state['x'], reference(num_steps))
  assert (done.step, done.is_stopped) == (num_steps, False)


def test_visits_see_their_step_once_and_in_order(tmp_path):
  seen = []

  def visit(step, state):
    seen.append((step, np.asarray(state['x'])))

  run_resumable(
    fresh(), advance, 20, tmp_path, visits=(20, 3, 0, 3), visit=visit
  )
  assert [step for step, _ in seen] == [0, 3, 20]
  for step, x in seen:
    np.testing.assert_array_equal(x, reference(step))


def test_a_finished_run_is_not_repeated(tmp_path):
  calls = []
  for _ in range(2):
    done = run_resumable(
      fresh(),
      lambda *args: (calls.append(args), advance(*args))[1],
      9,
      tmp_path,
      visits=(9,),
      visit=lambda step, state: calls.append('visit'),
    )
    count = len(calls)
  assert count == calls.index('visit') + 1  # nothing came after the first run
  np.testing.assert_array_equal(done.state['x'], reference(9))


def test_a_visit_can_stop_it_for_good(tmp_path):
  def run():
    return run_resumable(
      fresh(),
      advance,
      50,
      tmp_path,
      visits=range(0, 51, 10),
      visit=lambda step, state: step == 30,
    )

  for done in (run(), run()):
    assert (done.step, done.is_stopped) == (30, True)
    np.testing.assert_array_equal(done.state['x'], reference(30))


@pytest.mark.parametrize('when', [1, 12, 29])
def test_sigterm_saves_and_the_next_run_ends_alike(tmp_path, when):
  def interrupted(state, begin, end):
    if begin <= when < end:
      os.kill(os.getpid(), signal.SIGTERM)
    return advance(state, begin, end)

  with pytest.raises(Preempted):
    run_resumable(fresh(), interrupted, 30, tmp_path)
  begins = []
  done = run_resumable(
    fresh(), lambda *a: (begins.append(a[1]), advance(*a))[1], 30, tmp_path
  )
  assert not begins or begins[0] > 0  # it went on
  np.testing.assert_array_equal(done.state['x'], reference(30))


KILLED = """
import os, signal, sys
sys.path.insert(0, {folder!r})
from resumable_test import advance, fresh
from memjax.training.resumable import run_resumable

def visit(step, state):
  if step == {step}:
    os.kill(os.getpid(), signal.SIGKILL)

run_resumable(fresh(), advance, 40, {directory!r}, visits=range(0, 41, 5),
              visit=visit, checkpoint_seconds=0.0)
"""


def test_kill_minus_9_in_a_visit_loses_no_bit(tmp_path):
  program = KILLED.format(
    folder=os.path.dirname(__file__), directory=str(tmp_path), step=25
  )
  killed = subprocess.run(
    [sys.executable, '-c', program],
    env={**os.environ, 'JAX_PLATFORMS': 'cpu'},
    check=False,
  )
  assert killed.returncode == -signal.SIGKILL
  seen = []
  done = run_resumable(
    fresh(),
    advance,
    40,
    tmp_path,
    visits=range(0, 41, 5),
    visit=lambda step, state: seen.append(step),
  )
  assert seen == [25, 30, 35, 40]
  np.testing.assert_array_equal(done.state['x'], reference(40))


@pytest.mark.parametrize('step', [-1, 11])
def test_a_visit_beyond_the_end_is_refused(tmp_path, step):
  with pytest.raises(ValueError, match=f'visits={step}'):
    run_resumable(
      fresh(), advance, 10, tmp_path, visits=(step,), visit=lambda *a: None
    )


def test_fewer_steps_than_were_taken_are_refused(tmp_path):
  run_resumable(fresh(), advance, 9, tmp_path)
  with pytest.raises(ValueError, match='num_steps=8.* holds a run of 9 steps'):
    run_resumable(fresh(), advance, 8, tmp_path)
  done = run_resumable(fresh(), advance, 12, tmp_path)
  np.testing.assert_array_equal(done.state['x'], reference(12))
