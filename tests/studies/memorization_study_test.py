"""One step of every config, on data of the right shape."""

import json
import logging
import pathlib
import runpy

import jax
import numpy as np
import pytest

from memjax.studies import memorization

CONFIGS = pathlib.Path(__file__).parents[2] / 'configs'
SHAPES = {
  'digits_vae': (8, 8),
  'mnist_vae': (28, 28),
  'fashion_vae': (28, 28),
  'cifar_vae': (32, 32, 3),
  'celeba_vae': (32, 32, 3),
}
VARIANTS = [
  ('digits_vae', ''), ('digits_vae', 'small'),
  ('mnist_vae', ''), ('mnist_vae', 'lr3'), ('mnist_vae', 'lr4'),
  ('mnist_vae', 'one_repeat'), ('mnist_vae', 'small'),
  ('fashion_vae', ''), ('fashion_vae', 'small'),
  ('cifar_vae', ''), ('cifar_vae', 'small'),
  ('celeba_vae', ''), ('celeba_vae', 'small'),
]  # fmt: skip


def load(name, variant=''):
  get_config = runpy.run_path(str(CONFIGS / f'{name}.py'))['get_config']
  return get_config(variant)


def shrink(config, folder, shape):
  """One epoch of one step for two folds of eight images."""
  rng = np.random.default_rng(0)
  np.savez(
    folder / 'tiny.npz',
    images=rng.integers(0, 256, (14, *shape)).astype(np.uint8),
    labels=np.arange(14) % 2,
    is_test=np.arange(14) >= 8,
  )
  config.data.source = f'npz:{folder / "tiny.npz"}'
  config.data.num_items = 8
  config.folds.num_folds, config.folds.num_repeats = 2, 1
  config.train.epochs, config.train.models_at_once = 1, 2
  config.score.epochs, config.score.num_samples = (1,), 2
  config.score.num_permutations = 5
  config.score.encoder_num_samples = 2
  if 'num_features' in config.model:
    config.model.num_features = 2
    config.score.escalation = ()  # ten seconds of compilation
  else:
    config.model.hidden = (4,)
  return config


def test_every_config_is_tried():
  texts = {path.stem: path.read_text() for path in CONFIGS.glob('*.py')}
  files = {
    name
    for name, text in texts.items()
    if "config.study = 'memorization'" in text
  }
  assert files == set(SHAPES) == {name for name, _ in VARIANTS}


@pytest.mark.parametrize('name', list(SHAPES))
def test_one_step_of_every_config(name, tmp_path):
  config = shrink(load(name), tmp_path, SHAPES[name])
  memorization.run(config, tmp_path / 'run')
  report = json.loads((tmp_path / 'run/report.json').read_text())
  assert report['numbers']['num_items_scored'] == 8
  log_px = np.load(tmp_path / 'run/arrays/log_px_epoch_0001.npz')['log_px']
  assert log_px.shape == (2, 8)
  assert np.isfinite(log_px).all()
  if config.transform == 'dequantize_logit':
    # Noise has 8 bits a dimension; an untrained model, with the variance that
    # CelebA's starts from, needs more.
    bits = report['numbers']['mean_log_px_out']['bits_per_dim']
    assert 6 < bits < 20
  assert ('full_run' in report['numbers']) == config.full.is_run


@pytest.mark.parametrize(('name', 'variant'), VARIANTS)
def test_configs_hold_the_settings_of_the_paper(name, variant):
  """Papers-and-their-code.md, A1."""
  config = load(name, variant)
  assert config.train.batch_size == 64
  assert max(config.score.epochs) == config.train.epochs
  if name == 'digits_vae':
    return
  rate = 1e-4 if variant == 'lr4' else 1e-3
  assert config.train.learning_rate == rate
  latent = {'cifar_vae': 64, 'celeba_vae': 32}.get(name, 16)
  assert config.model.latent_dim == latent
  if variant == 'small':
    return
  repeats = 1 if variant == 'one_repeat' else 10
  assert (config.folds.num_folds, config.folds.num_repeats) == (10, repeats)
  expected = {
    'mnist_vae': (100, 256, 20),
    'fashion_vae': (100, 256, 20),
    'cifar_vae': (100, 128, 2),
    'celeba_vae': (50, 128, 2),
  }[name]
  assert expected == (
    config.train.epochs,
    config.score.encoder_num_samples,  # the published estimator's N
    len(config.score.epochs) + len(config.score.tracked_epochs),
  )  # fmt: skip


def test_unknown_variants_are_refused():
  for name in SHAPES:
    with pytest.raises(ValueError, match='variant='):
      load(name, 'smal')


@pytest.mark.parametrize(
  ('key', 'value', 'message'),
  [
    ('train.epochs', 0, 'config.train.epochs=0'),
    ('model.latent_dim', 0, 'latent_dim=0'),
    ('model.hidden', (0,), 'hidden=0'),
    ('seed', 2**32, 'config.seed=4294967296'),
    ('train.learning_rate', -1.0, 'config.train.learning_rate=-1.0'),
    ('train.flip', 'per_img', "Did you mean 'per_image'"),
    ('train.precision', 'float16', 'config.train.precision'),
    ('score.epochs', (1, 9), r'config.score.epochs=9: .* in \[1, 1\]'),
    ('score.num_samples', 0, 'config.score.num_samples=0'),
    ('model.name', 'bernouli_mlp_vae', "Did you mean 'bernoulli_mlp_vae'"),
    ('transform', 'binarise', "Did you mean 'binarize'"),
    ('folds.num_folds', 9, r'num_folds=9: .* in \[2, 8\]'),
    ('folds.use_groups', True, 'config.folds.use_groups=True'),
    ('data.num_items', 99, '99'),
  ],
)
def test_bad_values_are_named_before_anything_is_trained(
  key, value, message, tmp_path
):
  config = shrink(load('digits_vae'), tmp_path, (8, 8))
  section, _, name = key.rpartition('.')
  (config[section] if section else config)[name] = value
  with pytest.raises(ValueError, match=message):
    memorization.run(config, tmp_path / 'run')
  assert not (tmp_path / 'run').exists()


def test_a_missing_test_set_is_told_before_anything_is_trained(tmp_path):
  config = shrink(load('mnist_vae'), tmp_path, SHAPES['mnist_vae'])
  rng = np.random.default_rng(0)
  images = rng.integers(0, 256, (14, 28, 28)).astype(np.uint8)
  np.savez(tmp_path / 'tiny.npz', images=images)
  message = "config.full.test_split='test'.*--config.full.is_run=False"
  with pytest.raises(ValueError, match=message):
    memorization.run(config, tmp_path / 'run')
  assert not (tmp_path / 'run').exists()
  config.full.is_run = False
  memorization.run(config, tmp_path / 'run')
  assert (tmp_path / 'run/report.html').exists()


def test_if_every_model_diverges_the_report_names_them(tmp_path):
  config = shrink(load('digits_vae'), tmp_path, (8, 8))
  config.train.learning_rate = 1000.0
  config.train.epochs, config.score.epochs = 40, (40,)
  config.train.max_attempts = 1
  with pytest.raises(RuntimeError, match='2 of 2 models diverged'):
    memorization.run(config, tmp_path / 'run')
  report = json.loads((tmp_path / 'run/report.json').read_text())
  assert report['verdict']['kind'] == 'not_valid'
  assert [d['fold'] for d in report['models']['diverged']] == [0, 1]
  assert 'diverged' in (tmp_path / 'run/report.html').read_text()
  rows = (tmp_path / 'run/scores.csv').read_text().splitlines()
  assert len(rows) == 9
  assert rows[1].startswith('0,0,nan')


def test_another_estimator_needs_no_training(tmp_path, caplog):
  config = shrink(load('digits_vae'), tmp_path, (8, 8))
  with caplog.at_level(logging.INFO, logger='absl'):
    memorization.run(config, tmp_path / 'run')
  report = json.loads((tmp_path / 'run/report.json').read_text())
  assert report['verdict']['headline'] in caplog.text
  page = (tmp_path / 'run/report.html').read_text()
  assert 'each pixel is drawn black or white' in page  # these are noise
  before = (tmp_path / 'run/metrics.jsonl').stat().st_mtime_ns
  config.score.estimator = 'log_mean_exp'
  memorization.run(config, tmp_path / 'run')
  report = json.loads((tmp_path / 'run/report.json').read_text())
  assert report['numbers']['estimator'] == 'log_mean_exp'
  assert (tmp_path / 'run/metrics.jsonl').stat().st_mtime_ns == before


def test_a_study_leaves_samples_and_test_loss_of_the_full_run(tmp_path):
  config = shrink(load('mnist_vae'), tmp_path, (28, 28))
  memorization.run(config, tmp_path / 'run')
  assert (tmp_path / 'run/figures/samples.png').exists()
  assert (tmp_path / 'run/figures/loss_on_the_test_set.png').exists()
  rows = (tmp_path / 'run/full/metrics.jsonl').read_text().splitlines()
  assert json.loads(rows[0])['held_out_loss'] > 0
  before = (tmp_path / 'run/scores.csv').read_bytes()
  with jax.log_compiles(False):
    memorization.run(config, tmp_path / 'run')
  assert (tmp_path / 'run/scores.csv').read_bytes() == before
