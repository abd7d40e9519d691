"""The study of rejection: every config, resuming, stopping, its report."""

import importlib
import json
import os
import pathlib
import runpy
import signal
import subprocess
import sys

import numpy as np
import pytest

from memjax.embeddings import encoder
from memjax.studies import rejection as study
from memjax.studies import rejection_setting
from memjax.training.metrics_writer import read_metrics

ROOT = pathlib.Path(__file__).parents[2]
TINY = {
  'embedding.rejecting': 'pixels',
  'train.steps': 2,
  'train.evaluate_every': 1,
  'train.num_evaluated': 30,
  'score.num_samples': 60,
  'score.num_cells': 1,
  'score.num_permutations': 19,
}


def load(name, variant='small', **changes):
  config = runpy.run_path(str(ROOT / f'configs/{name}.py'))['get_config'](
    variant
  )
  config.update_from_flattened_dict({**TINY, **changes})
  return config


def report(workdir):
  return json.loads((workdir / 'report.json').read_text())


@pytest.fixture(scope='module')
def digits(tmp_path_factory):
  workdir = tmp_path_factory.mktemp('digits')
  study.run(load('digits_gan'), workdir)
  return workdir


def test_what_it_leaves(digits):
  found = report(digits)
  assert set(found['numbers']['arms']) == {'plain', 'rejection'}
  assert found['numbers']['threshold'] > 0
  assert len(found['numbers']['arms']['plain']['models']) == 2
  assert set(found['numbers']['differences']) == {'rejecting', 'judging'}
  page = (digits / 'report.html').read_text()
  for words in (
    'without rejection',
    'with rejection',
    'Nearest samples',
    'C_T',
    'All samples without rejection, seed 0',
    'All samples with rejection, seed 0',
  ):
    assert words in page
  rows = read_metrics(digits / 'metrics.jsonl')
  assert len(rows) == 2 * 2 * 2  # arms, seeds, visits
  for row in rows:
    assert 0 <= row['acceptance'] <= 1
    assert row['frechet'] > 0
  for arm in ('plain', 'rejection'):
    with np.load(digits / f'arrays/samples_{arm}.npz') as saved:
      assert saved['images'].shape == (2, 60, 8, 8, 1)
      assert saved['images'].dtype == np.uint8
      assert (saved['failed_step'] == -1).all()
    assert (digits / f'figures/{arm}_000002.png').exists()


def test_the_shown_samples_are_of_one_seed_that_lasted(digits, monkeypatch):
  rows = (digits / 'samples_rejection.csv').read_text().splitlines()[1:]
  labels = [int(row.split(',')[1]) for row in rows]
  assert labels == [k % 10 for k in range(60)]
  setting = rejection_setting.prepare(load('digits_gan'), digits)
  monkeypatch.setattr(study, 'score_model', lambda *_, **__: None)
  with np.load(digits / 'arrays/samples_plain.npz') as saved:
    arrays = {**saved, 'failed_step': np.array([1, -1])}
  _, shown = study._score(setting, **arrays)
  assert shown.seed == 1
  np.testing.assert_array_equal(shown.images, arrays['images'][1])
  np.testing.assert_array_equal(shown.labels, arrays['labels'][1])


def test_arms_differ_by_rejection_alone(digits):
  """Seeds share their start: the first discriminator loss is the same."""
  rows = read_metrics(digits / 'metrics.jsonl')
  first = {
    (r['arm'], r['seed']): r['discriminator_loss']
    for r in rows
    if r['step'] == 1
  }
  for seed in range(2):
    assert first['plain', seed] == first['rejection', seed]
  assert first['plain', 0] != first['plain', 1]


def test_another_scoring_needs_no_training(digits, monkeypatch):
  monkeypatch.setattr(study, '_train', None)
  before = report(digits)['numbers']['arms']['plain']['judging']['mean']
  study.run(load('digits_gan', **{'score.k': 3}), digits)
  after = report(digits)['numbers']['arms']['plain']['judging']['mean']
  assert after['c_t'] == before['c_t']
  with pytest.raises(ValueError, match='holds a run of another config'):
    study.run(load('digits_gan', seed=1), digits)


def test_plain_alone(tmp_path):
  config = load('digits_gan', threshold='0', **{'train.num_repeats': 1})
  study.run(config, tmp_path)
  found = report(tmp_path)
  assert set(found['numbers']['arms']) == {'plain'}
  assert found['numbers']['differences'] == {}


@pytest.mark.parametrize('search', ['exact', 'approximate'])
def test_collapse_stops_with_the_step_and_keeps_the_state(tmp_path, search):
  config = load(
    'digits_gan', threshold='50.0', compare=False,
    **{
      'train.patience': 1, 'train.num_repeats': 1, 'embedding.search': search,
    },
  )  # fmt: skip
  message = 'seed 0: stopped before step 0, every sample was rejected'
  for _ in range(2):  # and again, at once, when it is run again
    with pytest.raises(RuntimeError, match=message):
      study.run(config, tmp_path)
  assert list((tmp_path / 'checkpoints/rejection').iterdir())
  assert not (tmp_path / 'report.html').exists()


@pytest.mark.parametrize(
  ('key', 'value', 'message'),
  [
    ('threshold', 'much', "config.threshold='much'"),
    ('threshold', '-1', 'config.threshold=-1.0'),
    ('policy', 'reject', "config.policy='reject'"),
    ('embedding.judging', 'vgg', "config.embedding.judging='vgg'"),
    ('embedding.search', 'faiss', "config.embedding.search='faiss'"),
    ('model.name', 'gan', "config.model.name='gan'"),
    ('train.batch_size', 1, 'config.train.batch_size=1'),
    ('score.num_samples', 20, 'num_samples=20: expected an integer 21'),
    ('score.num_cells', 3, 'num_samples=60: expected an integer 61'),
    ('score.k', 60, r'score.k=60: expected an integer in \[1, 59'),
    ('score.num_class_cells', 900, r'num_class_cells=900: .* in \[1, '),
    ('train.num_evaluated', 1, 'config.train.num_evaluated=1'),
    ('data.num_train', 5000, 'num_train=5000'),
    ('data.num_train', 8, 'num_train=8: expected an image of every class'),
  ],
)
def test_bad_values_are_named(tmp_path, key, value, message):
  with pytest.raises(ValueError, match=message):
    study.run(load('digits_gan', **{key: value}), tmp_path)
  assert not list(tmp_path.iterdir())


def test_an_automatic_threshold_of_zero_is_no_rejection(tmp_path, monkeypatch):
  """It would train plainly, and not say so."""
  zero = lambda *_, **__: 0.0
  monkeypatch.setattr(rejection_setting, 'rejection_threshold', zero)
  with pytest.raises(ValueError, match="config.threshold='auto' is 0"):
    rejection_setting.prepare(load('digits_gan', threshold='auto'), tmp_path)


def test_an_encoder_of_the_training_images_is_refused(tmp_path):
  config = load(
    'digits_gan', **{'embedding.rejecting': 'encoder', 'data.num_further': 0}
  )
  with pytest.raises(ValueError, match='config.data.num_further=0'):
    study.run(config, tmp_path)
  assert not list(tmp_path.iterdir())


def test_an_encoder_is_trained_once_in_a_folder(tmp_path, monkeypatch):
  """Another device would train another one, and be refused."""
  config = load('digits_gan', **{'embedding.rejecting': 'encoder'})
  begun = rejection_setting.prepare(config, tmp_path)
  monkeypatch.setattr(encoder, 'train_encoder', None)
  resumed = rejection_setting.prepare(config, tmp_path)
  assert resumed.threshold == begun.threshold
  np.testing.assert_array_equal(resumed.sets[0].train, begun.sets[0].train)


def test_an_approximate_search_needs_no_exact_index(tmp_path):
  pytest.importorskip('faiss')
  config = load('digits_gan', **{'embedding.search': 'approximate'})
  setting = rejection_setting.prepare(config, tmp_path)
  assert setting.data.index is None
  quality = study._quality(setting, setting.images.train.images)
  assert quality['share_above_threshold'] == 0.0


def test_one_arm_is_reported_where_the_other_failed(digits, monkeypatch):
  """Its samples are there, those of the other were never drawn."""

  def fail(setting, arm, path):
    raise study.TrainingFailed(f'{arm.name}, seed 0: stopped before step 3')

  monkeypatch.setattr(study, '_train', fail)
  path = digits / 'arrays/samples_rejection.npz'
  path.rename(path.with_suffix('.away'))
  try:
    study.run(load('digits_gan'), digits)
    found = report(digits)
  finally:
    path.with_suffix('.away').rename(path)
  assert set(found['numbers']['arms']) == {'plain'}
  assert found['numbers']['failed'] == [
    'rejection, seed 0: stopped before step 3'
  ]
  assert 'stopped before step 3' in found['verdict']['uncertainty']


def fake_source(tmp_path, channels):
  rng = np.random.default_rng(0)
  path = tmp_path / 'images.npz'
  images = rng.integers(0, 256, (60, 32, 32, channels), dtype=np.uint8)
  np.savez(path, images=images, labels=np.arange(60) % 10)
  return f'npz:{path}'


# Others than this one compile for a minute.
LARGE = [
  pytest.param(name, marks=pytest.mark.slow)
  for name in ('cifar_sagan', 'cifar_biggan', 'cifar_biggan_diffaug')
]


def test_every_config_is_tried():
  tried = {'digits_gan', 'fashion_gan', *(part.values[0] for part in LARGE)}
  studies = {
    path.stem: runpy.run_path(str(path))['get_config']().study
    for path in ROOT.glob('configs/[a-z]*.py')
  }
  assert {name for name, study in studies.items() if study == 'rejection'} == (
    tried
  )


@pytest.mark.parametrize('name', ['fashion_gan', *LARGE])
def test_one_step_of_every_config(tmp_path, name):
  is_grey = name == 'fashion_gan'
  config = load(
    name,
    threshold='0.0001',
    compare=False,
    **{
      'data.source': fake_source(tmp_path, 1 if is_grey else 3),
      'data.test_split': '', 'data.pad': 0, 'data.num_train': 40,
      'data.num_test': 20, 'data.num_further': 0,
      'train.num_repeats': 1, 'train.steps': 1, 'train.batch_size': 2,
      'train.discriminator_steps': 1, 'score.num_samples': 30,
    },
  )  # fmt: skip
  study.run(config, tmp_path / 'run')
  assert (tmp_path / 'run/report.html').exists()


# A driver that dies by SIGKILL in the middle of things; see kill_test.py.
DRIVER = """
import os, runpy, signal, sys
from memjax import files
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

if what == 'checkpoint':
  Checkpoints.save = dying(Checkpoints.save)
elif what == 'write':
  files.write_atomically = dying(files.write_atomically)
runpy.run_module('memjax.main', run_name='__main__')
"""


def start(workdir, moment):
  flags = {**TINY, 'train.num_repeats': 1, 'train.checkpoint_seconds': 0.0}
  done = subprocess.run(
    [
      sys.executable, '-c', DRIVER, moment,
      '--config=configs/digits_gan.py:small', f'--workdir={workdir}',
      *(f'--config.{key}={value}' for key, value in flags.items()),
    ],
    cwd=ROOT, env={**os.environ, 'JAX_PLATFORMS': 'cpu'},
    capture_output=True, text=True, check=False, timeout=600,
  )  # fmt: skip
  return done.returncode, done.stdout + done.stderr


def samples(workdir):
  found = {}
  for arm in ('plain', 'rejection'):
    with np.load(workdir / f'arrays/samples_{arm}.npz') as saved:
      found[arm] = saved['images']
  return found


def digest(workdir, arm):
  """SHA-256 of the last state."""
  last = max(
    (workdir / f'checkpoints/{arm}').iterdir(), key=lambda p: int(p.name)
  )
  found = json.loads((last / '_CHECKPOINT_METADATA').read_text())
  return found['custom_metadata']['digest']


@pytest.mark.slow
def test_killed_and_resumed_is_bit_for_bit_the_same(tmp_path):
  code, output = start(tmp_path / 'whole', 'never:0')
  assert code == 0, output
  workdir = tmp_path / 'killed'
  # In a checkpoint, then while a visit writes what it had written before.
  for moment in ('checkpoint:2', 'write:5'):
    code, output = start(workdir, moment)
    assert code == -signal.SIGKILL, output
  code, output = start(workdir, 'never:0')
  assert code == 0, output
  expected = samples(tmp_path / 'whole')
  for arm, images in samples(workdir).items():
    np.testing.assert_array_equal(images, expected[arm])
    # Of all that a checkpoint holds: nets, average, optimizers, record.
    assert digest(workdir, arm) == digest(tmp_path / 'whole', arm)
  assert not list(workdir.rglob('*.tmp'))
  rows = lambda path: [
    (r['arm'], r['step'], r['frechet'])
    for r in read_metrics(path / 'metrics.jsonl')
  ]
  assert rows(workdir) == rows(tmp_path / 'whole')
  assert report(workdir)['numbers'] == report(tmp_path / 'whole')['numbers']


def test_the_study_is_known_to_main():
  main = importlib.import_module('memjax.main')
  assert 'rejection' in main.STUDIES


@pytest.mark.slow
def test_seeds_over_eight_devices_are_those_of_one(tmp_path):
  """Two seeds lie on two of eight simulated devices; a minute of compiling."""
  command = [sys.executable, '-m', 'memjax.main']
  command.append('--config=configs/digits_gan.py:small')
  command += [f'--config.{k}={v}' for k, v in TINY.items()]
  images = []
  for count in (1, 8):
    workdir = tmp_path / f'devices_{count}'
    subprocess.run(
      [*command, f'--workdir={workdir}'],
      cwd=ROOT,
      env={
        **os.environ,
        'JAX_PLATFORMS': 'cpu',
        'XLA_FLAGS': f'--xla_force_host_platform_device_count={count}',
      },
      check=True,
    )
    with np.load(workdir / 'arrays/samples_rejection.npz') as saved:
      images.append(saved['images'].astype(int))
  one, eight = images
  assert np.abs(one - eight).max() <= 2  # of 255, after two steps
  assert np.abs(one[0] - one[1]).mean() > 2
