"""The study of dynamics: every variant, repeats apart, kills, bad values."""

import json
import os
import pathlib
import runpy
import signal
import subprocess
import sys

import jax
import numpy as np
import pytest

from memjax.analysis.dynamics.curves import read_dynamics, shares
from memjax.studies import dynamics, dynamics_programs
from memjax.training.preemption import Preempted

ROOT = pathlib.Path(__file__).parents[2]
VARIANTS = (
  '',
  'small',
  'noise',
  'figure_1',
  'figure_2',
  'figure_3',
  'figure_4',
)


def tiny(variant='small'):
  """One epoch of one step for two repeats of a few points."""
  path = ROOT / 'configs' / 'moons_dynamics.py'
  config = runpy.run_path(str(path))['get_config'](variant)
  config.num_repeats = 2
  config.data.num_inliers = 12
  config.outliers.num = config.duplicates.num = 3
  config.model.hidden, config.model.num_blocks = 4, 1
  config.model.embedding_dim, config.model.num_steps = 4, 3
  config.train.batch_size, config.train.epochs = 8, 1
  config.evaluate.every = 1
  return config


@pytest.fixture
def no_report(monkeypatch):
  """Reports take longer than all the rest of so small a study."""
  monkeypatch.setattr(dynamics.dynamics_report, 'write', lambda *args: None)


@pytest.mark.parametrize('variant', VARIANTS)
def test_one_step_of_every_variant(variant, tmp_path):
  dynamics.run(tiny(variant), tmp_path)
  report = json.loads((tmp_path / 'report.json').read_text())
  assert report['numbers']['num_samples'] == 18
  assert report['numbers']['members'] == {
    'all': 15, 'inlier': 9, 'outlier': 3, 'duplicate': 3, 'inlier_subset': 3,
  }  # fmt: skip
  html = (tmp_path / 'report.html').read_text()
  assert html.count('<img') == 5
  assert len(list((tmp_path / 'figures').glob('*.png'))) == 5
  found = read_dynamics(tmp_path)
  assert found.epochs.tolist() == [0, 1]
  assert found.memorized.shape == (2, 2, 2, 4, 5)
  np.testing.assert_allclose(found.ratios, [1.5, 2, 1.5**0.5, 2**0.5])
  # Every sample is near one kind; a higher ratio flags fewer.
  assert (found.near_train[..., 0] == 18).all()
  np.testing.assert_array_equal(
    found.near_train[..., 1:4].sum(-1), found.near_train[..., 0]
  )
  assert (found.memorized[..., 1, 0] <= found.memorized[..., 0, 0]).all()


def test_nothing_injected(tmp_path):
  config = tiny()
  config.outliers.num = config.duplicates.num = 0
  dynamics.run(config, tmp_path)
  assert read_dynamics(tmp_path).members.tolist() == [12, 12, 0, 0, 0]
  assert 'outliers against' not in (tmp_path / 'report.html').read_text()


def test_all_points_duplicated(tmp_path):
  """No inliers are left to compare with; a report is written all the same."""
  config = tiny()
  config.duplicates.num = 12
  dynamics.run(config, tmp_path)
  assert read_dynamics(tmp_path).members.tolist() == [15, 0, 3, 12, 0]


def test_repeats_together_equal_each_alone(tmp_path, no_report):
  config = tiny()
  config.train.epochs = 3
  config.evaluate.sample_epochs = (0, 3)
  dynamics.run(config, tmp_path / 'two')
  config.num_repeats = 1
  dynamics.run(config, tmp_path / 'one')
  for epoch in (0, 3):
    name = f'arrays/samples_epoch_{epoch:06d}.npz'
    two, one = (np.load(tmp_path / n / name)['samples'] for n in ('two', 'one'))
    np.testing.assert_allclose(two[0], one[0], atol=1e-4)
    assert not np.allclose(two[0], two[1])


def test_maps_and_vmaps_agree(tmp_path, no_report):
  found = []
  for how in ('map', 'vmap'):
    config = tiny()
    config.evaluate.lift = how
    dynamics.run(config, tmp_path / how)
    name = 'arrays/samples_epoch_000001.npz'
    found.append(np.load(tmp_path / how / name)['samples'])
  np.testing.assert_allclose(*found, atol=1e-4)


def test_divergence_is_told_and_left_out(tmp_path):
  config = tiny()
  config.train.learning_rate, config.train.clip_norm = 1e3, 1e9
  config.train.weight_decay = 1e30
  config.train.epochs = 3
  with pytest.raises(
    RuntimeError, match='All 2 repeats diverged, the first in'
  ):
    dynamics.run(config, tmp_path)


def test_one_diverged_repeat_leaves_the_others(tmp_path, monkeypatch):
  make = dynamics.make_programs

  def poisoned(config, draws):
    programs = make(config, draws)

    def init():
      state = programs.init()
      loss = state.loss.at[1].set(np.nan)
      return state._replace(loss=loss, failed=state.failed.at[1].set(1))

    def sample(state, epoch):
      samples = programs.sample(state, epoch)
      samples[1] = np.nan
      return samples

    return programs._replace(init=init, sample=sample)

  monkeypatch.setattr(dynamics, 'make_programs', poisoned)
  config = tiny()
  config.num_repeats = 3
  dynamics.run(config, tmp_path)
  html = (tmp_path / 'report.html').read_text()
  assert '1 of 3 repeats diverged, the first in epoch 1' in html
  found = read_dynamics(tmp_path)
  assert np.isnan(found.memorized[:, 1]).all()
  assert np.isfinite(found.memorized[:, [0, 2]]).all()


def test_canaries_stop_training(tmp_path, monkeypatch):
  monkeypatch.setattr(
    dynamics, 'canaries_are_memorized', lambda counts, level: True
  )
  config = tiny()
  config.train.epochs, config.stop.canary_level = 5, 0.01
  dynamics.run(config, tmp_path)
  assert read_dynamics(tmp_path).epochs.tolist() == [0]
  text = (tmp_path / 'report.html').read_text()
  assert 'stopped at epoch 0' in text
  # The same command again changes nothing.
  dynamics.run(config, tmp_path)
  assert read_dynamics(tmp_path).epochs.tolist() == [0]


def test_the_level_of_canaries_is_divided_among_the_evaluations(
  tmp_path, monkeypatch
):
  """Else a run that looks often would stop by chance."""
  levels = []
  monkeypatch.setattr(
    dynamics,
    'canaries_are_memorized',
    lambda counts, level: bool(levels.append(level)),
  )
  config = tiny()
  config.stop.canary_level = 0.01
  dynamics.run(config, tmp_path)
  count = len(read_dynamics(tmp_path).epochs)
  assert count > 1
  assert levels == [pytest.approx(0.01 / count)] * count


def test_initial_weights_and_training_share_no_stream(monkeypatch):
  """fold_in(key, 1) is split(key)[1], bit for bit, so they could collide."""
  used = []
  make = dynamics_programs._keys
  monkeypatch.setattr(
    dynamics_programs,
    '_keys',
    lambda *args: used.append(make(*args)) or used[-1],
  )
  config = tiny()
  draws = [dynamics.draw_repeat(config, r) for r in range(config.num_repeats)]
  dynamics.make_programs(config, draws)
  data = np.concatenate([jax.random.key_data(keys) for keys in used])
  assert len(used) == 3
  assert len(np.unique(data, axis=0)) == len(data)


@pytest.mark.slow
def test_canaries_stop_before_the_inliers_are_memorized(tmp_path):
  """Half a minute of real training: 80 canaries, in four repeats of 20."""
  path = ROOT / 'configs' / 'moons_dynamics.py'
  config = runpy.run_path(str(path))['get_config']('small')
  config.num_repeats, config.outliers.spread = 4, 0.5
  config.train.epochs, config.evaluate.every = 1000, 25
  config.stop.canary_level = 1e-3
  dynamics.run(config, tmp_path)
  found = read_dynamics(tmp_path)
  excess = shares(found, 'inlier').conditional.mean(axis=1)
  assert 0 < found.epochs[-1] < config.train.epochs
  assert excess[-1] < 0.25  # without a stop it passes 0.35


def test_another_config_is_refused(tmp_path, no_report):
  config = tiny()
  dynamics.run(config, tmp_path)
  config.outliers.spread = 0.2
  with pytest.raises(ValueError, match=r'config.outliers.spread: 0.3 there'):
    dynamics.run(config, tmp_path)


@pytest.mark.parametrize(
  ('key', 'value', 'message'),
  [
    ('evaluate.ratios', (1.0,), r'config.evaluate.ratios=1.0: .*\(1.0, inf\)'),
    ('evaluate.ratios', (), r'config.evaluate.ratios=\(\)'),
    ('outliers.num', 13, r'num_outliers=13: expected an integer in \[0, 12\]'),
    ('duplicates.num', 13, r'num_duplicates=13'),
    ('duplicates.copies', 0, r'num_copies=0'),
    ('num_repeats', 0, r'config.num_repeats=0'),
    ('data.shape', 'moon', "Did you mean 'moons'"),
    ('train.batch_size', 19, r'config.train.batch_size=19: .*\[1, 18\]'),
    ('train.epochs', 0, r'config.train.epochs=0'),
    ('train.clip_norm', 0.0, r'config.train.clip_norm=0.0'),
    ('evaluate.every', 0, r'config.evaluate.every=0'),
    ('evaluate.epochs', (9,), r'config.evaluate.epochs=9: .*\[0, 1\]'),
    ('evaluate.test_sets', ('with_outlier',), r"Did you mean 'with_outliers'"),
    ('evaluate.test_sets', (), r'config.evaluate.test_sets=\(\)'),
    ('evaluate.lift', 'wmap', r'config.evaluate.lift'),
    ('model.num_steps', 1, r'num_steps=1'),
    ('model.schedule_kind', 'cosine', r"schedule='cosine'"),
    ('stop.canary_level', 2.0, r'config.stop.canary_level=2.0'),
  ],
)
def test_bad_values_are_named_before_anything_is_written(
  key, value, message, tmp_path
):
  config = tiny()
  with config.unlocked():
    section, _, name = key.rpartition('.')
    (config[section] if section else config)[name] = value
  with pytest.raises(ValueError, match=message):
    dynamics.run(config, tmp_path / 'run')
  assert not (tmp_path / 'run').exists()


ARGUMENTS = (
  '--config=configs/moons_dynamics.py:small',
  '--config.num_repeats=2',
  '--config.data.num_inliers=12',
  '--config.outliers.num=3',
  '--config.duplicates.num=3',
  '--config.model.hidden=8',
  '--config.model.num_steps=3',
  '--config.train.batch_size=8',
  '--config.train.epochs=6',
  '--config.evaluate.every=2',
  # A checkpoint after every program call: more moments to die at.
  '--config.train.checkpoint_seconds=0.0',
)

DRIVER = """
import os, pathlib, runpy, signal, sys
from memjax.training.checkpoints import Checkpoints

what, number = sys.argv.pop(1).split(':')
count = 0

def dying(function):
  def wrapper(*args, **kwargs):
    global count
    count += 1
    if count == int(number):
      os.kill(os.getpid(), signal.SIGKILL)
    return function(*args, **kwargs)
  return wrapper

if what == 'save':
  Checkpoints.save = dying(Checkpoints.save)
else:  # a file is written, but not yet in its place
  pathlib.Path.replace = dying(pathlib.Path.replace)
runpy.run_module('memjax.main', run_name='__main__')
"""


def launch(workdir, driver=None):
  program = ['-m', 'memjax.main'] if driver is None else ['-c', DRIVER, driver]
  done = subprocess.run(
    [sys.executable, *program, *ARGUMENTS, f'--workdir={workdir}'],
    capture_output=True,
    text=True,
    cwd=ROOT,
    env={**os.environ, 'JAX_PLATFORMS': 'cpu'},
    timeout=300,
  )
  return done.returncode, done.stdout + done.stderr


def test_killed_and_resumed_is_the_same_bit_for_bit(tmp_path):
  code, output = launch(tmp_path / 'whole')
  assert code == 0, output
  workdir = tmp_path / 'killed'
  codes = [launch(workdir, moment)[0] for moment in ('save:2', 'rename:4')]
  assert codes[0] == -signal.SIGKILL
  assert codes[1] in (-signal.SIGKILL, 0)
  code, output = launch(workdir)
  assert code == 0, output
  assert 'report.html' in output
  whole, killed = (read_dynamics(tmp_path / n) for n in ('whole', 'killed'))
  for a, b in zip(whole, killed, strict=True):
    np.testing.assert_array_equal(a, b)
  name = 'arrays/samples_epoch_000006.npz'
  a, b = (np.load(tmp_path / n / name)['samples'] for n in ('whole', 'killed'))
  np.testing.assert_array_equal(a, b)
  assert not list(workdir.rglob('*.tmp'))


def test_preempted_after_saving(tmp_path, monkeypatch, no_report):
  """A signal in a visit: the run stops, and goes on from there."""
  config = tiny()
  config.train.epochs = 4
  dynamics.run(config, tmp_path / 'whole')
  make = dynamics._make_visit

  def interrupting(*args):
    visit = make(*args)

    def wrapper(epoch, state):
      if epoch == 2:
        os.kill(os.getpid(), signal.SIGTERM)
      return visit(epoch, state)

    return wrapper

  monkeypatch.setattr(dynamics, '_make_visit', interrupting)
  with pytest.raises(Preempted):
    dynamics.run(config, tmp_path / 'run')
  monkeypatch.setattr(dynamics, '_make_visit', make)
  dynamics.run(config, tmp_path / 'run')
  found = [read_dynamics(tmp_path / n).memorized for n in ('whole', 'run')]
  np.testing.assert_array_equal(*found)
