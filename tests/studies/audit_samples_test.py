"""The audit of somebody's files: from paths to a report, and every mistake."""

import json
import logging
import pathlib
import runpy
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
from PIL import Image

from memjax import make_folds
from memjax.embeddings.base import Embedding
from memjax.embeddings.pixels import pixels
from memjax.studies import audit, audit_embeddings

ROOT = pathlib.Path(__file__).parents[2]


def settings(folder, **changes):
  """The shipped config with the files of a folder."""
  config = runpy.run_path(str(ROOT / 'configs/audit.py'))['get_config']()
  config.num_permutations = 19
  for name, value in changes.items():
    is_file = isinstance(value, str) and '.' in value
    config[name] = str(folder / value) if is_file else value
  return config


@pytest.fixture
def files(tmp_path):
  """Two-dimensional points, of which a tenth are copied."""
  rng = np.random.default_rng(0)
  train, test, generated = rng.normal(size=(3, 200, 2))
  generated[:20] = train[:20]
  for name, values in (
    ('train', train), ('test', test), ('generated', generated)
  ):  # fmt: skip
    np.save(tmp_path / f'{name}.npy', values)
  return tmp_path


SETS = {
  'train': 'train.npy',
  'test': 'test.npy',
  'generated': 'generated.npy',
}


def read(folder):
  return json.loads((folder / 'run/report.json').read_text())


def mistake(folder, **changes):
  """One line that names what is wrong, before anything is written."""
  with pytest.raises((ValueError, OSError)) as error:
    audit.run(settings(folder, **changes), folder / 'run')
  message = str(error.value)
  assert '\n' not in message
  assert not (folder / 'run/report.json').exists()
  return message


def test_the_command_line(files):
  process = subprocess.run(
    [
      sys.executable, '-m', 'memjax.main', '--config=configs/audit.py',
      '--config.train=train.npy', '--config.test=test.npy',
      '--config.generated=generated.npy', '--config.num_permutations=199',
      '--workdir=run',
    ],
    capture_output=True, text=True, cwd=files, timeout=240,
  )  # fmt: skip
  output = process.stdout + process.stderr
  assert process.returncode == 0, output
  assert f'report: {(files / "run/report.html").resolve()}' in output
  assert 'It copies: about' in output
  assert 'Step 1 of 10' in output
  assert 'Step 10 of 10' in output
  report = read(files)
  assert report['verdict']['kind'] == 'copies'
  low, high = report['numbers']['copying']['interval'].values()
  assert low < 0.1 < high
  assert report['config']['train'] == 'train.npy'


def test_a_rerun_on_changed_files_gives_their_report(files):
  audit.run(settings(files, **SETS), files / 'run')
  before = read(files)
  audit.run(settings(files, **SETS), files / 'run')
  assert read(files) == before
  honest = np.random.default_rng(1).normal(size=(150, 2))
  np.save(files / 'generated.npy', honest)
  audit.run(settings(files, **SETS), files / 'run')
  after = read(files)
  assert after['numbers']['sizes']['generated'] == 150
  assert after['data'] != before['data']
  assert len((files / 'run/samples.csv').read_text().splitlines()) == 151
  # And with other settings.
  audit.run(settings(files, **SETS, k=3, seed=4), files / 'run')
  assert read(files)['config']['k'] == 3


def test_labels_come_from_files_archives_or_folders(files):
  label = np.arange(200) % 2
  np.save(files / 'labels.npy', label)
  np.savez(
    files / 'train.npz', samples=np.load(files / 'train.npy'), labels=label
  )
  audit.run(
    settings(
      files,
      train='train.npz',
      test='test.npy',
      generated='generated.npy',
      test_labels='labels.npy',
      generated_labels='labels.npy',
    ),
    files / 'run',
  )
  assert read(files)['numbers']['classwise']['label'] == [0, 1]
  assert (files / 'run/samples.csv').read_text().splitlines()[2][:4] == '1,1,'
  # Labels of one set alone are no classes.
  audit.run(settings(files, **SETS, train_labels='labels.npy'), files / 'run')
  assert 'classwise' not in read(files)['numbers']


def test_folders_of_images(tmp_path):
  rng = np.random.default_rng(0)
  for name in ('train', 'test', 'generated'):
    for label in ('cat', 'dog'):
      (tmp_path / f'{name}.d' / label).mkdir(parents=True)
    for i in range(30):
      pixels = rng.integers(0, 256, (5, 4), np.uint8)
      folder = tmp_path / f'{name}.d' / ('cat', 'dog')[i % 2]
      Image.fromarray(pixels).save(folder / f'{i:02}.png')
  audit.run(
    settings(tmp_path, train='train.d', test='test.d', generated='generated.d'),
    tmp_path / 'run',
  )
  assert read(tmp_path)['verdict']['kind'] in ('no_copying', 'differs')
  shown = tmp_path / 'run/figures/the_most_suspicious_samples.png'
  assert shown.exists()
  page = (tmp_path / 'run/report.html').read_text()
  assert 'Audit of generated.d' in page
  # Classes keep the names of their folders.
  assert '<option value="dog">dog</option>' in page
  rows = (tmp_path / 'run/samples.csv').read_text().splitlines()
  assert [row.split(',')[1] for row in rows[1:]] == ['cat'] * 15 + ['dog'] * 15


def save_images(folder, *, channels=3, scale=None):
  """Three sets of images of smooth patches, a fifth of the samples copied."""
  rng = np.random.default_rng(0)
  for name in ('train', 'test', 'generated'):
    coarse = rng.integers(0, 256, (120, 3, 3, channels))
    images = np.repeat(np.repeat(coarse, 4, axis=1), 4, axis=2)
    images = np.clip(images + rng.integers(-9, 9, images.shape), 0, 255)
    images = images.astype(np.uint8)
    if name == 'train':
      train = images
    elif name == 'generated':
      images[:24] = train[:24]
    if scale is not None:
      images = (scale[0] + images / 255 * (scale[1] - scale[0])).astype('f4')
    np.save(folder / f'{name}.npy', images)


def numbers(folder):
  return read(folder)['numbers']


def test_an_embedding_changes_what_near_means(tmp_path):
  save_images(tmp_path)
  audit.run(settings(tmp_path, **SETS, embedding='pixels'), tmp_path / 'run')
  found = numbers(tmp_path)
  assert found['embedding'] == 'pixels, x/255'
  assert read(tmp_path)['verdict']['kind'] in ('copies', 'leans')
  metrics = found['metrics']
  assert metrics['embedding'] == 'pixels, x/255'
  assert not metrics['frechet_distance_to_train']['is_fid']
  page = (tmp_path / 'run/report.html').read_text()
  assert 'Fréchet distance (pixels, x/255) to training points' in page
  assert 'FID' not in page
  assert 'Inception score' not in page
  # 432 features of 120 points: said, with the bias.
  assert 'No more points than features (120 and 432)' in page
  # Pictures are still of the images.
  shown = tmp_path / 'run/figures/the_most_suspicious_samples.png'
  assert shown.exists()


@pytest.mark.parametrize('scale', [(-1.0, 1.0)])
def test_images_in_any_stated_range_are_one(scale, tmp_path):
  (tmp_path / 'floats').mkdir()
  save_images(tmp_path)
  save_images(tmp_path / 'floats', scale=scale)
  for folder, given in ((tmp_path, ()), (tmp_path / 'floats', scale)):
    config = settings(folder, **SETS, embedding='pixels')
    config.value_range = given
    audit.run(config, folder / 'run')
  one, two = numbers(tmp_path), numbers(tmp_path / 'floats')
  assert one['copying']['num_found'] == two['copying']['num_found']
  np.testing.assert_allclose(
    two['metrics']['kernel_distance']['value'],
    one['metrics']['kernel_distance']['value'],
    rtol=1e-3,
  )


def test_two_embeddings_stand_side_by_side(tmp_path):
  """The numbers as they are, and a network trained on the images."""
  save_images(tmp_path, channels=1)
  for name in ('train', 'test', 'generated'):
    np.save(tmp_path / f'{name}_labels.npy', np.arange(120) % 3)
  labels = {f'{name}_labels': f'{name}_labels.npy' for name in SETS}
  audit.run(
    settings(tmp_path, **SETS, **labels, second_embedding='encoder'),
    tmp_path / 'run',
  )
  second = numbers(tmp_path)['second_embedding']
  assert 'trained on 360 images' in second['embedding']
  assert second['kind'] in ('copies', 'leans')
  assert second['stand_out_in_both'] >= 20
  assert second['metrics']['embedding'] == second['embedding']
  name, _, field = second['copying']['array'].partition(':')
  ratio = np.load(tmp_path / 'run' / name)[field]
  assert np.isinf(ratio[:24]).mean() > 0.9
  page = (tmp_path / 'run/report.html').read_text()
  assert 'Two embeddings side by side' in page
  assert 'Samples that stand out in both are the surest copies' in page
  assert list((tmp_path / 'run/features').rglob('*.npy'))


def test_the_canonical_network_earns_the_names(tmp_path, monkeypatch):
  """A small stand-in that says it is canonical, and has a classifier."""
  save_images(tmp_path)
  rng = np.random.default_rng(0)
  kernel = rng.normal(size=(27, 10)).astype(np.float32)
  stand_in = Embedding(
    'Inception-v3 stand-in',
    params={},
    forward=lambda _, images: images[:, ::4, ::4].reshape(len(images), -1),
    channels=(3,),
    is_canonical=True,
    classifier=(kernel, np.zeros(10, np.float32)),
  )
  monkeypatch.setattr(
    audit_embeddings, 'inception', lambda path, grey: stand_in
  )
  arrays = tmp_path / 'run/arrays/second_samples.npz'
  for names in (
    {'second_embedding': 'inception'},
    {'embedding': 'inception'},
  ):
    audit.run(settings(tmp_path, **SETS, **names), tmp_path / 'run')
    is_second = 'second_embedding' in names
    check_canonical(tmp_path, is_second)
    assert arrays.exists() == is_second


def check_canonical(folder, is_second):
  found = numbers(folder)
  metrics = (found['second_embedding'] if is_second else found)['metrics']
  assert metrics['frechet_distance_to_train']['is_fid']
  assert metrics['kernel_distance']['is_kid']
  assert 1 <= metrics['inception_score']['value'] <= 10
  page = (folder / 'run/report.html').read_text()
  for name in ('FID to training', 'KID to test', 'MiFID', 'Inception score'):
    assert name in page


def test_a_second_embedding_without_directions_is_left_out(tmp_path):
  """A black sample is a zero vector of pixels: the first view is reported."""
  save_images(tmp_path, scale=(-1, 1))
  generated = np.load(tmp_path / 'generated.npy')
  generated[50] = -1
  np.save(tmp_path / 'generated.npy', generated)
  config = settings(
    tmp_path, **SETS, second_embedding='pixels', metric='cosine'
  )
  config.value_range = (-1.0, 1.0)
  audit.run(config, tmp_path / 'run')
  found = numbers(tmp_path)
  assert 'second_embedding' not in found
  (warning,) = found['warnings']
  assert warning.startswith('The second embedding was left out. In the embed')
  assert 'generated[50] is a zero vector (1 of 120 are)' in warning
  assert warning in read(tmp_path)['verdict']['caveats']


def test_sets_are_checked_before_they_are_embedded(tmp_path, monkeypatch):
  save_images(tmp_path)
  train = np.load(tmp_path / 'train.npy')
  np.save(tmp_path / 'few.npy', train[:3])
  np.save(tmp_path / 'same.npy', np.repeat(train[:1], 9, axis=0))
  monkeypatch.setattr(audit, 'make_embedding', refuse)
  changes = {**SETS, 'embedding': 'encoder'}
  said = mistake(tmp_path, **{**changes, 'generated': 'few.npy'})
  assert 'generated has 3 points: expected more than k=5' in said
  said = mistake(tmp_path, **{**changes, 'train': 'few.npy', 'k': 1})
  assert 'train has 3 points: expected 4 or more' in said
  said = mistake(tmp_path, **{**changes, 'train': 'same.npy'})
  assert 'train holds one point again and again' in said


def refuse(*_, **__):
  raise AssertionError('this is too late, or takes too much memory')


def test_images_to_embed_do_not_become_float64(tmp_path, monkeypatch):
  save_images(tmp_path, scale=(0.0, 1.0))
  monkeypatch.setattr(audit, 'sample_sets', refuse)
  config = settings(tmp_path, **SETS, embedding='pixels')
  config.value_range = (0.0, 1.0)
  audit.run(config, tmp_path / 'run')


def test_the_encoder_gets_images_in_little_memory(monkeypatch):
  from memjax.embeddings import encoder

  got = []
  monkeypatch.setattr(
    encoder,
    'train_encoder',
    lambda images, *_, **__: [got.append(images), pixels()][1],
  )
  rng = np.random.default_rng(0)
  values = {
    name: rng.uniform(size=(2000, 16, 16, 1)).astype('f4') for name in SETS
  }
  config = settings(pathlib.Path(), embedding='encoder')
  config.value_range = (0.0, 1.0)
  tracemalloc.start()
  try:
    audit_embeddings.make_embedding(config, 'encoder', values, None)
    peak = tracemalloc.get_traced_memory()[1]
  finally:
    tracemalloc.stop()
  (images,) = got
  assert images.dtype == np.float32
  assert peak < 2.5 * images.nbytes
  np.testing.assert_allclose(
    np.sort(images.ravel()),
    np.sort(255 * np.concatenate(list(values.values())).ravel()),
    rtol=1e-6,
  )


def test_grey_images_written_as_rgb_are_grey(tmp_path):
  save_images(tmp_path, channels=1)
  grey = np.load(tmp_path / 'generated.npy')
  np.save(tmp_path / 'generated.npy', np.repeat(grey, 3, axis=3))
  audit.run(settings(tmp_path, **SETS, embedding='pixels'), tmp_path / 'run')
  assert numbers(tmp_path)['copying']['num_found'] >= 20


@pytest.mark.parametrize(
  ('changes', 'users'),
  [
    ({'embedding': 'efficientnet', 'scaling': 'banana'}, 'inception'),
    ({'embedding': 'pixels', 'resize': 'tf1'}, 'efficientnet, inception'),
    ({'embedding': 'encoder', 'resize': 'tf1'}, 'efficientnet, inception'),
    ({'second_embedding': 'pixels', 'grey': 'repeat'}, 'efficientnet, incep'),
    ({'value_range': (0.0, 1.0)}, 'pixels, efficientnet, inception, encoder'),
    ({'embedding': 'efficientnet', 'inception_weights': 'x'}, 'inception'),
  ],
)
def test_settings_that_nothing_uses_are_refused(changes, users, tmp_path):
  name = next(key for key in changes if 'embedding' not in key)
  said = mistake(tmp_path, **SETS, **changes)
  assert said.startswith(f'config.{name}={changes[name]!r} is set, and neither')
  assert f'expected one of {users}' in said


@pytest.mark.parametrize(
  ('options', 'changes', 'message'),
  [
    ({}, {'embedding': 'pixel'}, "config.embedding='pixel': expected one of"),
    (
      {},
      {'embedding': 'pixels', 'second_embedding': 'pixels'},
      "config.second_embedding='pixels' is config.embedding too",
    ),
    (
      {'scale': (0, 1)},
      {'embedding': 'pixels'},
      'say what is black and what is white',
    ),
    (
      {'scale': (0, 1)},
      {'embedding': 'pixels', 'value_range': (1.0, 0.0)},
      'config.value_range=(1.0, 0.0)',
    ),
    (
      {'scale': (-1, 1)},
      {'embedding': 'pixels', 'value_range': (0.0, 1.0)},
      'outside value_range=(0.0, 1.0)',
    ),
    (
      {'channels': 1},
      {'embedding': 'efficientnet'},
      'expected --config.grey=repeat',
    ),
    ({'channels': 1}, {'embedding': 'inception'}, 'config.train holds grey'),
    ({'channels': 2}, {'embedding': 'encoder'}, 'expected 1 or 3 channels'),
    ({}, {'embedding': 'efficientnet', 'resize': 'bicubic'}, 'config.resize='),
    ({}, {'embedding': 'inception', 'scaling': 'x/255'}, 'config.scaling='),
    (
      {},
      {'embedding': 'inception', 'inception_weights': 'absent.pth'},
      'absent.pth',
    ),
    ({}, {'grey': 'twice', 'embedding': 'pixels'}, "config.grey='twice'"),
  ],
)
def test_mistakes_with_images_are_named(options, changes, message, tmp_path):
  save_images(tmp_path, **options)
  assert message in mistake(tmp_path, **SETS, **changes)


def test_a_stated_range_is_checked_before_scales_are_guessed(tmp_path):
  save_images(tmp_path, scale=(0, 1))
  bytes_ = (255 * np.load(tmp_path / 'train.npy')).astype(np.uint8)
  np.save(tmp_path / 'train.npy', bytes_)
  changes = {**SETS, 'second_embedding': 'pixels', 'value_range': (0.0, 1.0)}
  message = mistake(tmp_path, **changes)
  assert message.startswith('config.train: images has dtype uint8')
  assert 'outside value_range=(0.0, 1.0)' in message


def test_rows_of_numbers_have_no_embedding(files):
  message = mistake(files, **SETS, embedding='pixels')
  assert 'config.train holds samples of shape (2,): expected images' in message


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'test': ''}, "config.test='': expected an .npy or .npz file"),
    ({'train': ''}, "config.train=''"),
    ({'generated': ''}, "config.generated=''"),
    ({'generated': 'absent.npy'}, 'generated='),
    (
      {'generated': 'wide.npy'},
      'generated holds samples of shape (3,) and train of shape (2,)',
    ),
    ({'test': 'nan.npy'}, 'test[3, 1]=nan: expected finite'),
    ({'train': 'bytes.npy'}, 'has values'),
    ({'train': 'zero.npy', 'metric': 'cosine'}, 'train[5] is a zero vector'),
    ({'train': 'few.npy'}, 'train has 4 points: expected more than k=5'),
    ({'test': 'one.npy'}, 'test has 1 point'),
    ({'train': 'object.npy'}, 'object.npy is not a NumPy file of plain'),
    ({'train': 'broken.npz'}, 'broken.npz'),
    ({'train': 'text.npy'}, 'dtype <U1'),
    ({'num_permutations': 5}, 'config.num_permutations=5: expected an integer'),
    ({'num_cells': 0}, 'config.num_cells=0'),
    ({'num_components': 0}, 'config.num_components=0'),
    ({'k': 0}, 'config.k=0'),
    ({'seed': -1}, 'config.seed=-1'),
    ({'metric': 'cosin'}, "config.metric='cosin': expected one of 'euclidean'"),
    ({'log_px': 'nan.npy'}, 'config.train and config.log_px are both given'),
    ({'held_out': 'nan.npy'}, 'config.train and config.log_px are both given'),
    ({'train_labels': 'nan.npy'}, 'train_labels has shape (200, 2)'),
    ({'train_labels': 'few.npy'}, 'train_labels has shape (4, 2)'),
    ({'test_labels': 'absent.npy'}, 'test_labels='),
    (
      {'train': '', 'test': '', 'generated': ''},
      'Nothing to audit: expected --config.train, --config.test and',
    ),
  ],
)
def test_mistakes_with_samples_are_named(changes, message, files):
  points = np.load(files / 'train.npy')
  np.save(files / 'wide.npy', np.ones((9, 3)))
  np.save(files / 'few.npy', points[:4])
  np.save(files / 'one.npy', points[:1])
  np.save(files / 'bytes.npy', (points * 99).astype(int))
  np.save(files / 'object.npy', np.array([[{}]]), allow_pickle=True)
  np.save(files / 'text.npy', np.array([['a', 'b']]))
  np.savez(files / 'broken.npz', samples=points)
  content = bytearray((files / 'broken.npz').read_bytes())
  content[300] ^= 255
  (files / 'broken.npz').write_bytes(bytes(content))
  for name, place, value in (
    ('nan', (3, 1), np.nan), ('zero', 5, 0.0)
  ):  # fmt: skip
    changed = points.copy()
    changed[place] = value
    np.save(files / f'{name}.npy', changed)
  found = mistake(files, **{**SETS, **changes})
  assert message in found
  for value in changes.values():
    if isinstance(value, str) and value.startswith('absent'):
      assert value in found


def test_a_folder_of_a_study_is_not_overwritten(files):
  (files / 'run/checkpoints').mkdir(parents=True)
  record = {
    'config': {'study': 'memorization', 'data': {'source': 'digits'}},
    'data': 'x',
    'ran_on': {},
  }
  (files / 'run/config.json').write_text(json.dumps(record))
  assert 'config.data.source' in mistake(files, **SETS)
  assert json.loads((files / 'run/config.json').read_text()) == record


@pytest.fixture
def log_px_files(tmp_path):
  rng = np.random.default_rng(0)
  held_out = make_folds(40, 4, num_repeats=3)
  np.save(tmp_path / 'log_px.npy', rng.normal(size=held_out.shape))
  np.save(tmp_path / 'held_out.npy', held_out)
  return tmp_path


GIVEN = {'log_px': 'log_px.npy', 'held_out': 'held_out.npy'}


def test_ids_labels_and_groups_are_used(log_px_files):
  folder = log_px_files
  np.save(folder / 'ids.npy', np.array([f'item-{i}' for i in range(40)]))
  np.save(folder / 'labels.npy', np.arange(40) % 3)
  audit.run(
    settings(folder, **GIVEN, ids='ids.npy', labels='labels.npy'),
    folder / 'run',
  )
  rows = (folder / 'run/scores.csv').read_text().splitlines()
  assert rows[1].startswith('item-0,0,')
  assert rows[40].startswith('item-39,0,')


def test_a_rerun_on_changed_log_probabilities_gives_their_report(
  log_px_files, caplog
):
  folder = log_px_files
  with caplog.at_level(logging.INFO, logger='absl'):
    audit.run(settings(folder, **GIVEN), folder / 'run')
  before = read(folder)
  assert before['verdict']['headline'] in caplog.text
  log_px = np.load(folder / 'log_px.npy')
  held_out = np.load(folder / 'held_out.npy')
  log_px[:, :3] -= 50 * held_out[:, :3]
  np.save(folder / 'log_px.npy', log_px)
  audit.run(settings(folder, **GIVEN), folder / 'run')
  after = read(folder)
  assert (before['numbers']['mean_score']['value']['estimate']
          < after['numbers']['mean_score']['value']['estimate'])  # fmt: skip
  assert before['data'] != after['data']


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'log_px': ''}, "config.log_px='': expected the path of an .npy file"),
    ({'held_out': ''}, "config.held_out=''"),
    ({'log_px': 'absent.npy'}, 'absent.npy'),
    ({'log_px': 'object.npy'}, 'config.log_px='),
    ({'log_px': 'empty.npy'}, 'config.log_px='),
    ({'held_out': 'archive.npz'}, 'expected an .npy file with one array'),
    ({'log_px': 'nan.npy'}, 'log_px[2, 7]=nan'),
    ({'held_out': 'square.npy'}, 'held_out has shape (40, 2)'),
    ({'repeat': 'short.npy'}, 'repeat has 5 entries'),
    ({'labels': 'short.npy'}, 'config.labels holds 5 items: expected 40'),
    ({'ids': 'short.npy'}, 'config.ids holds 5 items: expected 40'),
    ({'groups': 'short.npy'}, 'config.groups holds 5 items: expected 40'),
    ({'images': 'images.npy'}, 'config.images holds 5 items: expected 40'),
    ({'labels': 'floats.npy'}, 'config.labels has shape (40,) and dtype float'),
    ({'groups': 'square.npy'}, 'config.groups has shape (40, 2)'),
    ({'ids': 'scalar.npy'}, 'config.ids holds 1 items: expected 40'),
    ({'ids': 'twice.npy'}, 'config.ids holds an id twice: expected unique ids'),
    ({'estimator': 'mean'}, "config.estimator='mean'"),
    ({'num_permutations': 0}, 'config.num_permutations=0'),
    ({'seed': 2**32}, 'config.seed=4294967296'),
    ({'train': 'short.npy'}, 'config.train and config.log_px are both given'),
  ],
)
def test_mistakes_with_log_probabilities_are_named(
  changes, message, log_px_files
):
  folder = log_px_files
  log_px = np.load(folder / 'log_px.npy')
  np.savez(folder / 'archive.npz', held_out=np.load(folder / 'held_out.npy'))
  log_px[2, 7] = np.nan
  twice = np.arange(40)
  twice[9] = 3
  for name, values in {
    'nan': log_px,
    'short': np.arange(5),
    'floats': np.zeros(40),
    'square': np.zeros((40, 2), int),
    'scalar': np.int64(3),
    'twice': twice,
    'images': np.zeros((5, 6, 6), np.uint8),
    'object': np.array([{}]),
  }.items():
    np.save(folder / f'{name}.npy', values, allow_pickle=name == 'object')
  (folder / 'empty.npy').write_bytes(b'')
  assert message in mistake(folder, **{**GIVEN, **changes})
