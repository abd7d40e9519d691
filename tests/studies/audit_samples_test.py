"""The audit of somebody's files: from paths to a report, and every mistake."""

import json
import pathlib
import runpy
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from memjax import make_folds
from memjax.studies import audit

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
  assert 'Step 1 of 9' in output
  assert 'Step 9 of 9' in output
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
    (tmp_path / f'{name}.d').mkdir()
    for i in range(30):
      pixels = rng.integers(0, 256, (5, 4), np.uint8)
      Image.fromarray(pixels).save(tmp_path / f'{name}.d' / f'{i:02}.png')
  audit.run(
    settings(tmp_path, train='train.d', test='test.d', generated='generated.d'),
    tmp_path / 'run',
  )
  assert read(tmp_path)['verdict']['kind'] in ('no_copying', 'differs')
  shown = tmp_path / 'run/figures/the_most_suspicious_samples.png'
  assert shown.exists()
  page = (tmp_path / 'run/report.html').read_text()
  assert 'Audit of generated.d' in page


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


def test_a_rerun_on_changed_log_probabilities_gives_their_report(log_px_files):
  folder = log_px_files
  audit.run(settings(folder, **GIVEN), folder / 'run')
  before = read(folder)
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
