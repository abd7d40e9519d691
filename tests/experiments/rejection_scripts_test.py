"""Scripts of bai2022 on folders of studies that were written by hand."""

import json
import pathlib

import numpy as np
import pytest

from memjax.analysis.rejection.analysis import ModelScores
from memjax.files import save_arrays, write_json
from memjax.studies.rejection import TrainingFailed

EXPERIMENTS = pathlib.Path(__file__).parents[2] / 'experiments'
CONFIG = str(EXPERIMENTS.parent / 'configs/digits_gan.py')


@pytest.fixture(autouse=True)
def scripts(monkeypatch):
  monkeypatch.syspath_prepend(str(EXPERIMENTS))


def model(c_t):
  scores = ModelScores(*[0.5] * len(ModelScores._fields))
  return scores._replace(c_t=c_t, by_class=[c_t, None])._asdict()


def write_study(folder, threshold, c_t, failed, embedding='pixels'):
  """As a study leaves it: seeds with these C_T, some of them failed."""
  arm = 'rejection' if threshold else 'plain'
  seeds = [{'rejecting': model(x), 'judging': model(x)} for x in c_t]
  numbers = {
    'threshold': threshold,
    'policy': 'drop',
    'embeddings': {'rejecting': embedding, 'judging': 'pixels'},
    'arms': {arm: {'models': seeds, 'failed_step': failed}},
  }
  write_json(folder / 'report.json', {'numbers': numbers})
  images = np.arange(len(c_t), dtype=np.uint8).reshape(-1, 1, 1, 1, 1)
  save_arrays(
    folder / f'arrays/samples_{arm}.npz',
    images=images, labels=images[..., 0, 0, 0], failed_step=np.array(failed),
  )  # fmt: skip


def test_seeds_that_stopped_are_left_out_and_named(tmp_path):
  import rejection_folder

  write_study(tmp_path / 'plain', 0, [-3.0, -2.0, -1.0], [-1, -1, 4])
  write_study(tmp_path / 'with', 0.1, [-2.5, 99.0, 0.0], [-1, 7, -1])
  plain, kept = (
    rejection_folder.models_of(tmp_path / name, 'judging')
    for name in ('plain', 'with')
  )
  assert {k: m.c_t for k, m in kept.items()} == {0: -2.5, 2: 0.0}
  assert np.isnan(kept[0].by_class[1])
  assert rejection_folder.left_out(tmp_path / 'with') == [
    'with, seed 1: stopped before step 7, left out'
  ]
  # Seed 0 alone lasted in both.
  assert rejection_folder.differences(plain, kept)['c_t']['mean'] == 0.5
  assert rejection_folder.differences({}, kept) == {}
  images, labels = rejection_folder.read_samples(tmp_path / 'with')
  assert images.ravel().tolist() == labels.ravel().tolist() == [0, 2]


def sweep(out, monkeypatch, embedding='pixels'):
  """A sweep of which the last threshold loses all of its seeds."""
  import rejection_frontier

  def run(config, folder):
    threshold = float(config.threshold)
    if threshold > 0.2:
      raise TrainingFailed('rejection, seed 0: stopped before step 9')
    c_t = [-3 + 10 * threshold, -2 + 10 * threshold]
    write_study(folder, threshold, c_t, [-1, -1], embedding)
    write_json(folder / 'config.json', {'config': config.to_dict()})

  monkeypatch.setattr(rejection_frontier.rejection, 'run', run)
  rejection_frontier.main(CONFIG, str(out), ['0', '0.1', '0.3'], [])
  return json.loads((out / 'frontier.json').read_text())


def test_a_sweep_goes_on_without_a_threshold_that_failed(tmp_path, monkeypatch):
  found = sweep(tmp_path, monkeypatch)
  assert [row['threshold'] for row in found['rows']] == [0.0, 0.1]
  assert found['failed'] == {'0.3': 'rejection, seed 0: stopped before step 9'}
  change = found['rows'][1]['judging']['difference']['c_t']
  np.testing.assert_allclose(change['mean'], 1.0)


def test_a_sweep_of_another_config_is_refused(tmp_path, monkeypatch):
  import rejection_frontier

  first = sweep(tmp_path, monkeypatch)
  assert sweep(tmp_path, monkeypatch) == first  # goes on
  changes = ['train.steps=7']
  with pytest.raises(SystemExit, match='config.train.steps=.*, not 7'):
    rejection_frontier.main(CONFIG, str(tmp_path), ['0'], changes)


def test_sweeps_are_drawn_together(tmp_path, monkeypatch):
  import rejection_models

  runs = [str(tmp_path / name) for name in ('sagan', 'biggan')]
  for run in runs:
    sweep(pathlib.Path(run), monkeypatch)
  rejection_models.main(runs, str(tmp_path / 'out'))
  assert (tmp_path / 'out/models_judging.png').exists()
  numbers = json.loads((tmp_path / 'out/numbers.json').read_text())
  assert set(numbers['rejection_models']['judging']) == {'sagan', 'biggan'}
  sweep(tmp_path / 'other', monkeypatch, 'encoder')
  with pytest.raises(SystemExit, match='rejecting embeddings differ'):
    rejection_models.main([*runs, str(tmp_path / 'other')], str(tmp_path))


def test_samples_are_scored_against_another_test_set(tmp_path):
  """The route to CIFAR-10.1: one study's samples, its own class mean."""
  import rejection_folder
  import rejection_references
  import rejection_samples

  rng = np.random.default_rng(0)
  images = rng.integers(1, 256, (160, 4, 4, 3), np.uint8)
  labels = np.arange(160) % 2
  for name in ('cifar10', 'cifar10_1'):
    is_test = np.arange(160) < 80
    np.savez(
      tmp_path / f'{name}.npz', images=images, labels=labels, is_test=is_test
    )
  study = tmp_path / 'study'
  write_study(study, 0.1, [0.0, 0.0], [-1, 3])
  save_arrays(
    study / 'arrays/samples_rejection.npz',
    images=np.stack([images[:80], images[:80]]),
    labels=np.stack([labels[:80]] * 2), failed_step=np.array([-1, 3]),
  )  # fmt: skip
  config = rejection_folder.make_config(CONFIG, [])
  config.data.source = f'npz:{tmp_path}/cifar10.npz'
  config.data.test_split = 'test'
  for name in ('num_train', 'num_test', 'num_further'):
    config.data[name] = 0
  config.score.num_cells = config.score.k = 1
  config.score.num_permutations = 9
  config.embedding.rejecting = config.embedding.judging = 'pixels'
  write_json(study / 'config.json', {'config': config.to_dict()})
  other = f'npz:{tmp_path}/cifar10_1.npz'
  rejection_references.main(
    str(study), str(tmp_path / 'out'), ['pixels'], ['test', other]
  )
  found = json.loads((tmp_path / 'out/numbers.json').read_text())
  ((at, c_t, *_),) = found['rejection_references']['by_reference'][other]
  # The samples are the test images: far from the training set as these are.
  assert at == 0.1
  assert abs(c_t) < 1
  rejection_references.main(
    str(study), str(tmp_path / 'class'), ['pixels'], ['test'], 'judging',
    'class_c_t',
  )  # fmt: skip
  found = json.loads((tmp_path / 'class/numbers.json').read_text())
  ((_, class_c_t, *_),) = found['rejection_references']['by_reference']['test']
  assert abs(class_c_t) < 1
  assert class_c_t != c_t
  # Figures 1 and 5: this set, another, and training images among themselves.
  rejection_samples.main(str(study), str(tmp_path / 'near'), 1, ('test', other))
  found = json.loads((tmp_path / 'near/numbers.json').read_text())
  near = found['rejection_samples']
  assert near[other] == near['test']
  assert near['training images to one another']['mean'] > 0
  assert (tmp_path / 'near/references.png').exists()
  with pytest.raises(SystemExit, match='data.num_further > 0'):
    rejection_references.main(str(study), str(tmp_path), ['pixels'], ['train'])


@pytest.mark.slow
def test_a_narrow_biggan_leaves_pictures_and_resumes(tmp_path, monkeypatch):
  import biggan_samples

  from memjax.training.gan_state import GanOptions

  rng = np.random.default_rng(0)
  path = tmp_path / 'lossy.npz'
  images = rng.integers(0, 256, (20, 8, 8, 3), np.uint8)
  np.savez(path, images=images, labels=np.arange(20) % 2)
  options = GanOptions(batch_size=4, discriminator_steps=1, record_every=1)
  run = lambda: biggan_samples.main(
    f'npz:{path}', str(tmp_path / 'out'), 2, 4, options, 0
  )
  run()
  found = json.loads((tmp_path / 'out/biggan.json').read_text())
  assert found['is_finite']
  assert found['step'] == 2
  assert len(found['acceptance']) == 2
  assert 'LOSSY' in found['data']
  assert (tmp_path / 'out/samples_000002.png').exists()
  monkeypatch.setattr(biggan_samples, 'summary', None)  # nothing is left to do
  run()
