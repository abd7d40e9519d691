"""The command line: what runs, and what a mistake looks like."""

import csv
import json
import logging as stdlib_logging
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from absl import logging

from memjax import main, make_folds, memorization_score, run_folder
from memjax.main import default_workdir, resolve_config

ROOT = pathlib.Path(__file__).parents[1]
TINY = (
  '--config=configs/digits_vae.py:small',
  '--config.train.epochs=2',
  '--config.score.epochs=(2,)',
  '--config.score.num_permutations=20',
)


def memjax(*arguments, cwd=ROOT):
  process = subprocess.run(
    [sys.executable, '-m', 'memjax.main', *arguments],
    capture_output=True,
    text=True,
    cwd=cwd,
    timeout=240,
  )
  return process.returncode, process.stdout + process.stderr


def mistake(*arguments, **options):
  code, output = memjax(*arguments, **options)
  assert code == 1, output
  assert 'Traceback' not in output
  return output


@pytest.fixture(scope='module')
def own_data(tmp_path_factory):
  """Somebody's own images, run from another folder than the checkout."""
  folder = tmp_path_factory.mktemp('own')
  rng = np.random.default_rng(0)
  np.savez(
    folder / 'mine.npz',
    images=rng.integers(0, 256, (50, 6, 5)).astype(np.uint8),
    labels=rng.integers(0, 3, 50),
    ids=np.arange(50) + 1000,
    groups=np.arange(50) // 2,
  )
  code, output = memjax(
    *TINY,
    '--config.data.source=npz:mine.npz',
    '--config.data.num_items=50',
    '--config.folds.use_groups=True',
    '--workdir=run',
    cwd=folder,
  )
  assert code == 0, output
  return folder, output


def test_own_data_leaves_every_result(own_data):
  folder, output = own_data
  run = folder / 'run'
  assert f'workdir: {run.resolve()}' in output
  assert f'report: {(run / "report.html").resolve()}' in output
  for name in ('config.json', 'metrics.jsonl', 'report.json', 'report.html',
               'arrays/held_out.npz', 'arrays/log_px_epoch_0002.npz',
               'figures/scores_beside_chance.png'):  # fmt: skip
    assert (run / name).exists(), name
  with (run / 'scores.csv').open() as file:
    rows = list(csv.DictReader(file))
  assert [int(row['id']) for row in rows] == list(range(1000, 1050))
  saved = np.load(run / 'arrays/held_out.npz')
  log_px = np.load(run / 'arrays/log_px_epoch_0002.npz')['log_px']
  scores = memorization_score(log_px, saved['held_out'], estimator='mean_log')
  np.testing.assert_array_equal(
    [float(row['score']) for row in rows], scores.score
  )
  groups = np.arange(50) // 2
  for row in saved['held_out']:
    assert (row[::2] == row[1::2]).all(), groups


def test_report_json_names_versions_config_and_arrays(own_data):
  report = json.loads((own_data[0] / 'run/report.json').read_text())
  assert report['config']['data']['source'] == 'npz:mine.npz'
  assert report['ran_on']['versions']['jax']
  assert report['verdict']['kind'] == 'not_valid'  # 20 permutations are few
  mean = report['numbers']['mean_score']
  name, _, field = mean['array'].partition(':')
  score = np.load(own_data[0] / 'run' / name)[field]
  assert mean['value']['estimate'] == pytest.approx(np.nanmean(score))


def test_a_folder_of_another_config_is_refused(own_data):
  output = mistake(
    *TINY,
    '--config.data.source=npz:mine.npz',
    '--config.data.num_items=50',
    '--config.folds.use_groups=True',
    '--config.seed=5',
    '--config.model.latent_dim=3',
    '--workdir=run',
    cwd=own_data[0],
  )
  assert 'config.seed: 0 there, 5 now' in output
  assert 'config.model.latent_dim: 8 there, 3 now' in output


def test_a_second_run_in_a_folder_at_work_is_refused(tmp_path):
  folder = tmp_path / 'run'
  with run_folder.lock(folder):
    output = mistake(*TINY, f'--workdir={folder}')
    assert 'another run is at work there' in output
    with run_folder.lock(folder, 1):  # another share of the same run
      pass
  assert not folder.exists()  # nothing came of it
  assert 'config.train.epochs=0' in mistake(
    *TINY, '--config.train.epochs=0', f'--workdir={folder}'
  )
  assert not folder.exists()


def test_a_folder_is_refused_when_the_data_changed(own_data):
  folder = own_data[0]
  before = (folder / 'mine.npz').read_bytes()
  arrays = dict(np.load(folder / 'mine.npz'))
  arrays['images'][3, 3, 3] ^= 1
  np.savez(folder / 'mine.npz', **arrays)
  output = mistake(
    *TINY,
    '--config.data.source=npz:mine.npz',
    '--config.data.num_items=50',
    '--config.folds.use_groups=True',
    '--workdir=run',
    cwd=folder,
  )
  (folder / 'mine.npz').write_bytes(before)
  assert 'the data itself' in output


def test_audit_of_log_probabilities(tmp_path):
  rng = np.random.default_rng(0)
  held_out = make_folds(60, 5, num_repeats=4)
  log_px = rng.normal(size=held_out.shape) - 100
  log_px -= 30.0 * held_out * (np.arange(60) < 4)
  np.save(tmp_path / 'log_px.npy', log_px)
  np.save(tmp_path / 'held_out.npy', held_out)
  code, output = memjax(
    '--config=configs/audit.py',
    '--config.log_px=log_px.npy',
    '--config.held_out=held_out.npy',
    '--config.num_permutations=400',
    '--workdir=run',
    cwd=tmp_path,
  )
  assert code == 0, output
  with (tmp_path / 'run/scores.csv').open() as file:
    rows = list(csv.DictReader(file))
  assert {int(r['id']) for r in rows if float(r['q']) < 0.05} == {0, 1, 2, 3}
  report = json.loads((tmp_path / 'run/report.json').read_text())
  assert report['verdict']['kind'] == 'memorizes'
  assert report['numbers']['num_found']['value'] == 4


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    (('--config.train.epoch=3',), 'Did you mean "epochs"'),
    (('--config.trian.epochs=3',), 'Did you mean "train"'),
    (('--config.train.epochs=ten',), "--config.train.epochs=ten"),
    (('configs/audit.py',), 'Did you mean --config=configs/audit.py?'),
    (('--config=configs/digits_vae.py:smal',), "memjax: variant='smal': exp"),
    (('--config.train.epochs=0',), 'config.train.epochs=0: expected an int'),
    (('--config.folds.num_folds=1',), r'num_folds=1: expected an integer in'),
    (('--config.score.estimator=mean_lgo',), "Did you mean 'mean_log'"),
    (('--config.data.source=digts',), "Did you mean 'digits'"),
    (('--config=configs/nix.py',), 'configs/digits_vae.py'),
    (('--config.data.source=npz:nowhere.npz',), 'nowhere.npz'),
    (('--config=configs/audit.py',), 'Nothing to audit: expected'),
  ],
)  # fmt: skip
def test_mistakes_are_one_line_that_helps(arguments, message, tmp_path):
  assert message in mistake(*arguments, f'--workdir={tmp_path}')


def test_default_workdir_has_the_name_of_the_config():
  same = default_workdir('configs/digits_vae.py', '{}', '{}')
  assert same == 'runs/digits_vae'
  assert default_workdir('c/digits_vae.py:small', '{}', '{}') == (
    'runs/digits_vae_small'
  )
  changed = default_workdir('configs/digits_vae.py', '{"a": 1}', '{}')
  assert changed.startswith('runs/digits_vae-')
  assert changed != default_workdir('configs/digits_vae.py', '{"a": 2}', '{}')


def test_shipped_configs_are_found_from_anywhere(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  assert pathlib.Path(resolve_config('configs/audit.py')).is_file()
  path, _, variant = resolve_config('configs/digits_vae.py:small').partition(
    ':'
  )
  assert pathlib.Path(path).is_file()
  assert variant == 'small'
  with pytest.raises(
    FileNotFoundError, match=r'Did you mean configs/digits_vae\.py:small\?'
  ):
    resolve_config('digits_vae:small')
  with pytest.raises(ValueError, match=r'configs/audit\.py has no variants'):
    resolve_config('configs/audit.py:small')
  (tmp_path / 'configs').mkdir()
  (tmp_path / 'configs/audit.py').write_text('')
  assert resolve_config('configs/audit.py') == 'configs/audit.py'


def test_libraries_are_quiet_in_a_folder_named_memjax_too():
  handler = logging.get_absl_handler()
  before = list(handler.filters)
  main.quiet_libraries()
  passes = lambda path, level=20: bool(
    handler.filter(
      stdlib_logging.LogRecord('absl', level, path, 1, '', (), None)
    )
  )
  try:
    assert passes(main.__file__)
    orbax = '/home/me/memjax/.venv/lib/orbax/checkpoint.py'
    assert not passes(orbax)
    assert passes(orbax, level=30)
  finally:
    handler.filters[:] = before


def test_importing_memjax_stays_light():
  code = (
    'import sys, memjax; '
    "heavy = {'flax', 'orbax', 'tensorflow_datasets', 'faiss', 'matplotlib', "
    "'sklearn', 'ml_collections', 'PIL', 'optax'}; "
    'print(sorted(heavy & set(sys.modules)))'
  )
  process = subprocess.run(
    [sys.executable, '-c', code], capture_output=True, text=True, check=True
  )
  assert process.stdout.strip() == '[]'


def test_every_public_name_is_documented():
  import memjax

  public = [
    getattr(memjax, name) for name in dir(memjax)
    if callable(getattr(memjax, name))
  ]  # fmt: skip
  assert {f.__name__ for f in public} >= {
    'make_folds', 'memorization_score', 'importance_log_prob', 'embed',
  }  # fmt: skip
  for function in public:
    assert len(function.__doc__.splitlines()) > 10, function
    assert '>>>' in function.__doc__, function
