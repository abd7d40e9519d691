import dataclasses
import gc
import logging
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from orbax.checkpoint import v1 as ocp

from memjax.data.dataset import Dataset
from memjax.data.transforms import binarize
from memjax.evaluate import make_score_items
from memjax.folds import make_folds
from memjax.likelihood import importance_log_prob
from memjax.models.vae import VAE, bernoulli_mlp_vae
from memjax.training import loop
from memjax.training.checkpoints import Checkpoints
from memjax.training.loop import train_and_score
from memjax.training.metrics_writer import MetricsWriter, read_metrics
from memjax.training.plan import LoopOptions, ModelGrid
from memjax.training.programs import ScoringOptions, score_key, train_key

NUM_ITEMS = 21
OPTIONS = LoopOptions(
  seed=3,
  epochs=3,
  batch_size=4,
  score_epochs=(1, 3),
  scoring=ScoringOptions(8, 30, 'encoder'),
  redraw=False,
  models_at_once=4,
  lift='vmap',
  max_attempts=3,
  checkpoint_seconds=60.0,
  progress_seconds=60.0,
)
MODEL = bernoulli_mlp_vae((4, 4, 1), latent_dim=2, hidden=(8,))


def dataset():
  rng = np.random.default_rng(0)
  return Dataset(
    rng.integers(0, 256, (NUM_ITEMS, 4, 4, 1)).astype(np.uint8),
    np.zeros(NUM_ITEMS, np.int64),
    np.arange(NUM_ITEMS) * 7 + 3,
  )


def grid(num_repeats=2, num_folds=3):
  return ModelGrid(
    np.repeat(np.arange(num_repeats), num_folds),
    np.tile(np.arange(num_folds), num_repeats),
    make_folds(NUM_ITEMS, num_folds, num_repeats=num_repeats),
    num_folds,
  )


def run(workdir, *, model=MODEL, models=None, **change):
  divergences = train_and_score(
    model,
    optax.adam(1e-2),
    binarize(),
    dataset(),
    models or grid(),
    OPTIONS._replace(**change),
    workdir,
  )
  return divergences, {
    epoch: dict(np.load(workdir / f'arrays/log_px_epoch_{epoch:04d}.npz'))
    for epoch in OPTIONS.score_epochs
  }


@pytest.fixture(scope='module')
def reference(tmp_path_factory):
  workdir = tmp_path_factory.mktemp('reference')
  divergences, arrays = run(workdir)
  assert not divergences
  return workdir, arrays


def test_every_item_is_scored_under_every_model(reference):
  _, arrays = reference
  for saved in arrays.values():
    assert saved['log_px'].shape == (6, NUM_ITEMS)
    assert saved['log_px'].dtype == np.float64
    assert np.isfinite(saved['log_px']).all()
    assert (saved['ess'] >= 1).all()
    assert (saved['ess'] <= 30).all()
  assert (arrays[1]['log_px'] != arrays[3]['log_px']).all()


@pytest.mark.parametrize(
  'change',
  [
    {'models_at_once': 1},
    {
      'models_at_once': 6,
      'scoring': OPTIONS.scoring._replace(items_at_once=21),
    },
    {'lift': 'map', 'scoring': OPTIONS.scoring._replace(items_at_once=5)},
  ],
)
def test_how_models_and_items_are_packed_changes_no_score(
  reference, tmp_path, change
):
  """15 steps of Adam; float sums differ between program widths."""
  _, arrays = run(tmp_path, **change)
  for epoch, saved in arrays.items():
    np.testing.assert_allclose(
      saved['log_px'], reference[1][epoch]['log_px'], rtol=2e-4
    )


def test_a_model_depends_on_its_seed_repeat_fold_and_number_of_folds_alone(
  reference, tmp_path
):
  """One repeat alone gives the same bits as beside another."""
  _, arrays = run(tmp_path, models=grid(num_repeats=1), models_at_once=4)
  np.testing.assert_array_equal(
    arrays[3]['log_px'], reference[1][3]['log_px'][:3]
  )
  streams = {
    tuple(jax.random.key_data(train_key(*numbers)).tolist())
    for numbers in [
      (0, 3, 0, 0, 0), (1, 3, 0, 0, 0), (0, 4, 0, 0, 0),
      (0, 3, 1, 0, 0), (0, 3, 0, 1, 0), (0, 3, 0, 0, 1),
    ]
  }  # fmt: skip
  assert len(streams) == 6


@pytest.mark.filterwarnings('ignore:Sharding info not provided')
def test_log_px_is_that_of_the_checkpoint(reference):
  """The slow way: restore one model, score one item."""
  workdir, arrays = reference
  directory = workdir / 'checkpoints' / 'attempt_0_group_001'
  with ocp.training.Checkpointer(directory) as checkpointer:
    restored = checkpointer.load(checkpointer.latest.step)
  variables = jax.tree.map(
    lambda leaf: jnp.asarray(leaf[1]), restored['state']['variables']
  )
  # Group 1 holds models 4 and 5: repeat 1, folds 1 and 2.
  data, item = dataset(), 13
  key = jax.random.fold_in(score_key(3, 1), int(data.ids[item]))
  transform_key, noise_key = jax.random.split(key)
  x = binarize().apply(jnp.asarray(data.images[item]), transform_key)
  estimate = importance_log_prob(
    MODEL, variables, x, noise_key, num_samples=30, proposal='encoder'
  )
  saved = arrays[3]
  np.testing.assert_allclose(
    estimate.log_px, saved['log_px'][5, item], rtol=1e-5
  )
  np.testing.assert_allclose(estimate.ess, saved['ess'][5, item], rtol=1e-3)


def test_common_random_numbers_and_redraw():
  data = lambda key: tuple(jax.random.key_data(key).tolist())
  assert data(score_key(0, 1)) == data(score_key(0, 1))
  assert data(score_key(0, 1)) != data(score_key(0, 2))
  assert data(score_key(0, 1, 0, 3)) != data(score_key(0, 1, 1, 3))
  assert data(score_key(0, 1, 0, 3)) != data(score_key(0, 1, 0, 4))


def test_models_of_one_repeat_see_the_same_draws_unless_redrawn():
  """Two copies of one model differ by the noise between draws alone."""
  score = make_score_items(
    MODEL, binarize(), block=8, num_samples=30, proposal='encoder'
  )
  variables = MODEL.init(jax.random.key(0))
  data = dataset()
  ids = jnp.asarray(data.ids.astype(np.uint32))

  def log_px(key):
    images = jnp.asarray(data.images)
    return np.asarray(jax.jit(score)(variables, images, ids, 0, key).log_px)

  shared = log_px(score_key(0, 1))
  np.testing.assert_array_equal(shared, log_px(score_key(0, 1)))
  assert (shared != log_px(score_key(0, 1, 0, 3))).all()
  assert (log_px(score_key(0, 1, 1, 3)) != log_px(score_key(0, 1, 0, 3))).all()


def test_metrics_hold_each_model_and_epoch_once(reference):
  rows = read_metrics(reference[0] / 'metrics.jsonl')
  places = [(r['repeat'], r['fold'], r['epoch']) for r in rows]
  assert len(places) == len(set(places)) == 6 * 3
  assert all(r['train_loss'] > 0 and r['held_out_loss'] > 0 for r in rows)


def test_running_again_trains_nothing_and_keeps_every_bit(reference):
  workdir, arrays = reference
  before = (workdir / 'metrics.jsonl').read_text()
  _, again = run(workdir)
  for epoch in arrays:
    np.testing.assert_array_equal(
      again[epoch]['log_px'], arrays[epoch]['log_px']
    )
  assert (workdir / 'metrics.jsonl').read_text() == before


def test_a_run_that_goes_on_says_so_and_compiles_once(
  reference, tmp_path, caplog, monkeypatch
):
  shutil.copytree(reference[0], tmp_path / 'copy')
  # As a kill before the first checkpoint leaves it.
  second = tmp_path / 'copy/checkpoints/attempt_0_group_001'
  shutil.rmtree(second)
  second.mkdir()
  for part in (tmp_path / 'copy/arrays/parts').glob('*_group_001_*'):
    part.unlink()
  is_bound, make_programs = [], loop.make_programs

  def spied(*args, **options):
    programs = make_programs(*args, **options)

    def train(state, *inputs):
      is_bound.extend(leaf.committed for leaf in jax.tree.leaves(state))
      return programs.train(state, *inputs)

    return programs._replace(train=train)

  monkeypatch.setattr(loop, 'make_programs', spied)
  with caplog.at_level(logging.INFO, logger='absl'):
    _, arrays = run(tmp_path / 'copy', epochs=4)
  assert 'of models 1 to 4 of 6 goes on after epoch 3 of 4.' in caplog.text
  assert 'of models 5 to 6 of 6 starts anew: there is no' in caplog.text
  for where in ('repeat 1-2/2, epoch 4/4', 'repeat 2/2, scoring epoch 3'):
    assert f'Compiling for {where} …' in caplog.text
  assert caplog.text.count('Compiling for') == 3  # training, epochs 1 and 3
  assert not any(is_bound)  # with the rest unbound, one program serves both
  np.testing.assert_array_equal(arrays[3]['log_px'], reference[1][3]['log_px'])


@dataclasses.dataclass(frozen=True)
class Fragile(VAE):
  """Starts broken for some keys, or whenever it is told to."""

  share: float = 0.5

  def init(self, key):
    variables = super().init(key)
    is_broken = jax.random.uniform(jax.random.fold_in(key, 99)) < self.share
    return jax.tree.map(
      lambda leaf: jnp.where(is_broken, jnp.nan, leaf), variables
    )


def fragile(share):
  fields = {f.name: getattr(MODEL, f.name) for f in dataclasses.fields(MODEL)}
  return Fragile(**fields, share=share)


def broken_at(index, attempt, share=0.5):
  models = grid()
  key = train_key(
    3, 3, int(models.repeat[index]), int(models.fold[index]), attempt
  )
  return float(jax.random.uniform(jax.random.fold_in(key, 99))) < share


def test_a_diverged_model_is_named_and_trained_again(reference, tmp_path):
  divergences, arrays = run(tmp_path, model=fragile(0.5), max_attempts=8)
  expected = set()
  for index in range(6):
    for attempt in range(8):
      if not broken_at(index, attempt):
        break
      expected.add((index, attempt))
  assert {(d.model, d.attempt) for d in divergences} == expected
  assert {d.epoch for d in divergences} == {1}
  assert not any(d.is_excluded for d in divergences)
  assert np.isfinite(arrays[3]['log_px']).all()
  # Models that never failed are not touched by those beside them that did.
  healthy = [i for i in range(6) if not broken_at(i, 0)]
  assert 0 < len(healthy) < 6
  np.testing.assert_array_equal(
    arrays[3]['log_px'][healthy], reference[1][3]['log_px'][healthy]
  )
  # Running again finds the same divergences, from the files.
  again, _ = run(tmp_path, model=fragile(0.5), max_attempts=8)
  assert again == divergences


def test_a_model_without_attempts_left_is_excluded_and_never_averaged(
  tmp_path,
):
  divergences, arrays = run(tmp_path, model=fragile(0.5), max_attempts=1)
  excluded = {d.model for d in divergences if d.is_excluded}
  assert excluded == {i for i in range(6) if broken_at(i, 0)}
  for saved in arrays.values():
    for index in range(6):
      rows = np.isnan(saved['log_px'][index])
      assert rows.all() if index in excluded else not rows.any()


def test_a_lost_part_is_made_again(reference, tmp_path):
  shutil.copytree(reference[0], tmp_path / 'copy')
  (tmp_path / 'copy/arrays/parts/attempt_0_group_000_epoch_0001.npz').unlink()
  _, arrays = run(tmp_path / 'copy')
  for epoch, saved in arrays.items():
    np.testing.assert_array_equal(
      saved['log_px'], reference[1][epoch]['log_px']
    )


def test_if_every_model_diverges_nothing_is_scored(tmp_path):
  divergences, arrays = run(tmp_path, model=fragile(1.1), max_attempts=2)
  assert sum(d.is_excluded for d in divergences) == 6
  assert np.isnan(arrays[3]['log_px']).all()


# TensorStore leaves the reads that it abandons un-awaited.
@pytest.mark.filterwarnings('ignore::pytest.PytestUnraisableExceptionWarning')
@pytest.mark.filterwarnings('ignore:coroutine:RuntimeWarning')
def test_checkpoints_fall_back_when_one_is_damaged(tmp_path, caplog):
  state = {'a': jnp.arange(4000.0), 'b': (jnp.ones(3),)}
  with Checkpoints(tmp_path) as checkpoints:
    assert checkpoints.restore(state) is None
    for step in (1, 2, 3):
      checkpoints.save(
        step, jax.tree.map(lambda x: x + step, state), {'epoch': step}
      )
  assert not (tmp_path / '1').exists()
  largest = max(
    (p for p in (tmp_path / '3').rglob('*') if p.is_file()),
    key=lambda p: p.stat().st_size,
  )
  content = bytearray(largest.read_bytes())
  content[len(content) // 2] ^= 255
  largest.write_bytes(content)
  with Checkpoints(tmp_path) as checkpoints:
    found = checkpoints.restore(state)
    assert (found.step, found.metadata) == (2, {'epoch': 2})
    np.testing.assert_array_equal(found.state['a'], state['a'] + 2)
  largest = max(
    (p for p in (tmp_path / '2').rglob('*') if p.is_file()),
    key=lambda p: p.stat().st_size,
  )
  largest.write_bytes(largest.read_bytes()[:10])
  with Checkpoints(tmp_path) as checkpoints:
    assert checkpoints.restore(state) is None
  gc.collect()


def test_a_foreign_checkpoint_is_named_and_not_used(tmp_path, caplog):
  with Checkpoints(tmp_path) as checkpoints:
    checkpoints.save(1, {'a': jnp.zeros(3)}, {})
  with Checkpoints(tmp_path) as checkpoints:
    assert checkpoints.restore({'a': jnp.zeros(4)}) is None
  assert 'a has shape (3,) there, expected (4,)' in caplog.text
  assert (tmp_path / 'unusable-1').exists()


def test_a_torn_metrics_line_is_skipped(tmp_path):
  path = tmp_path / 'metrics.jsonl'
  writer = MetricsWriter(path)
  writer.write_scalars(
    [{'epoch': 1, 'loss': 2.5}, {'epoch': 2, 'loss': np.nan}]
  )
  with path.open('a') as file:
    file.write('{"epoch": 3, "lo')
  assert read_metrics(path) == [
    {'epoch': 1, 'loss': 2.5}, {'epoch': 2, 'loss': None},
  ]  # fmt: skip
  writer.keep(lambda row: row['epoch'] < 2)
  writer.write_scalars([{'epoch': 2, 'loss': 1.0}])
  assert [row['epoch'] for row in read_metrics(path)] == [1, 2]
