"""The documentation: its code and commands run, and the site builds."""

import inspect
import os
import pathlib
import re
import shlex
import subprocess
import sys

import numpy as np
import pytest

from memjax import main, notebook

DOCS = pathlib.Path(__file__).parents[1] / 'docs'
PAGES = sorted(DOCS.glob('*.md'))
every_page = pytest.mark.parametrize('page', PAGES, ids=lambda page: page.stem)

# What makes a command small, by its config: a variant, and what follows, where
# the last value of a key counts. The tests of the notebooks run the programs of
# the last two, so that they are compiled once for both.
SMALLER = {
  'configs/audit.py': ('', '--config.num_permutations=19'),
  'configs/digits_vae.py': (
    '',
    '--config.data.num_items=60 --config.folds.num_folds=3 '
    '--config.folds.num_repeats=1 --config.train.models_at_once=3 '
    '--config.train.epochs=1 --config.score.epochs=(1,) '
    '--config.score.tracked_epochs=() --config.score.proposal=encoder '
    '--config.score.num_samples=4 --config.score.encoder_num_samples=0 '
    '--config.score.escalation=() --config.score.num_permutations=20',
  ),
  'configs/digits_gan.py': (':small', '--config.compare=False'),
  'configs/moons_dynamics.py': (
    '',
    '--config.train.epochs=20 --config.evaluate.every=10',
  ),
}
# Blocks that are only read, by page and first line, and why.
NOT_RUN = {
  'install: python3 -m venv .venv': 'needs a network; .ci/run installs',
  'gan: python -m memjax.main --config=configs/cifar_biggan.py '
  '--config.threshold=0.13': 'needs CIFAR-10; a day on one GPU',
  'scaling: python -m memjax.main --config=configs/cifar_vae.py '
  '--workdir=$SHARED/cifar \\': 'needs CIFAR-10; hours on one GPU',
  'scaling: #!/bin/bash': 'needs SLURM',
  'scaling: export TPU_PROCESS_BOUNDS=1,1,1 '
  'TPU_CHIPS_PER_PROCESS_BOUNDS=2,2,1': 'needs TPUs',
}


def blocks(page):
  """(language, code) of each block, from top to bottom."""
  pattern = r'^```(python|bash|text)\n(.*?)^```$'
  return re.findall(pattern, page.read_text(), re.MULTILINE | re.DOTALL)


def name_of(page, code):
  return f'{page.stem}: {code.splitlines()[0]}'


def commands(code):
  """The words after `python -m memjax.main` of each command in a block."""
  for line in code.replace('\\\n', ' ').splitlines():
    words = shlex.split(line, comments=True)
    if 'memjax.main' in words:
      words = words[words.index('memjax.main') + 1 :]
      yield words[: words.index('||')] if '||' in words else words


@pytest.fixture
def shell(tmp_path, monkeypatch):
  """Runs a block in a folder where `python` takes further arguments."""
  folder = tmp_path / 'bin'
  folder.mkdir()
  python = folder / 'python'
  python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@" $SMALLER\n')
  python.chmod(0o755)
  monkeypatch.setenv('PATH', f'{folder}:{os.environ["PATH"]}')

  def run(code):
    smaller = ''
    if config := re.search(r'--config=([\w/.]+)', code):
      variant, smaller = SMALLER[config[1]]
      code = code.replace(config[0], config[0] + variant)
    done = subprocess.run(
      ['bash', '-euc', code],
      capture_output=True,
      text=True,
      check=False,
      cwd=tmp_path,
      env={**os.environ, 'SMALLER': smaller},
    )
    assert done.returncode == 0, f'{code}\n{done.stdout}\n{done.stderr}'

  return run


@every_page
def test_a_page_runs_from_top_to_bottom(
  page, tmp_path, monkeypatch, capsys, shell
):
  monkeypatch.chdir(tmp_path)
  names, num_reports = {'__name__': page.stem}, 0
  for language, code in blocks(page):
    if 'import torch' in code or name_of(page, code) in NOT_RUN:
      continue
    if language == 'python':
      exec(compile(code, f'{page.name}', 'exec'), names)
    elif language == 'bash':
      shell(code)
      num_reports += len(list(commands(code)))
  assert len(list(tmp_path.glob('runs/*/report.html'))) == num_reports


def test_the_pytorch_example_finds_the_lone_items(capsys):
  pytest.importorskip('torch', reason='its block runs after pip install torch')
  (code,) = (
    code for page in PAGES for _, code in blocks(page) if 'import torch' in code
  )
  names = {}
  exec(code, names)
  assert set(np.argsort(-names['score'])[:3]) == {0, 1, 2}


def test_what_is_not_run_is_listed():
  everything = [(page, *block) for page in PAGES for block in blocks(page)]
  assert set(NOT_RUN) <= {name_of(page, code) for page, _, code in everything}
  for page, language, code in everything:
    if language == 'text' and list(commands(code)):
      assert name_of(page, code) in NOT_RUN


@every_page
def test_commands_are_ones_that_memjax_takes(page):
  """Of blocks that are not run as well: their configs, keys and flags exist."""
  source = inspect.getsource(main._define_flags)
  known = set(re.findall(r"flags\.DEFINE_\w+\(\s*'(\w+)'", source))
  for words in (words for _, code in blocks(page) for words in commands(code)):
    values = dict(word.removeprefix('--').partition('=')[::2] for word in words)
    keys = keys_of(values['config'])
    for name in values:
      assert name in known or name.removeprefix('config.') in keys, name


@every_page
def test_keys_in_the_text_are_keys_of_a_config(page):
  configs = (DOCS.parent / 'configs').glob('*.py')
  known = set().union(*(keys_of(f'configs/{file.name}') for file in configs))
  for name in re.findall(r'--config\.([\w.]*\w)', page.read_text()):
    assert name in known, f'{page.name}: --config.{name}'


def keys_of(path):
  config = notebook.load_config(path).to_dict()
  return set(config) | {
    f'{outer}.{inner}'
    for outer, values in config.items()
    if isinstance(values, dict)
    for inner in values
  }


def test_every_config_is_listed():
  text = (DOCS.parent / 'configs' / 'README.md').read_text()
  names = {file.stem for file in (DOCS.parent / 'configs').glob('*.py')}
  listed = set(re.findall(r'`(\w+?)(?::\w+)?`', text))
  assert names <= listed
  paths = re.findall(r'`(\w+:\w+)`', text)
  assert paths
  for name, _, variant in (path.partition(':') for path in paths):
    notebook.load_config(f'configs/{name}.py:{variant}')


def test_the_notebooks_are_linked():
  names = {path.stem for path in (DOCS.parent / 'colab').glob('*.ipynb')}
  text = (DOCS / 'colab.md').read_text()
  place = 'https://colab.research.google.com/github/memjax/memjax/blob/main'
  found = re.findall(rf'\[(\w+)\]\({place}/colab/(\w+)\.ipynb\)', text)
  assert {name for pair in found for name in pair} == names


def test_extras_that_are_named_exist():
  text = (DOCS.parent / 'pyproject.toml').read_text()
  extras = set(re.findall(r'^(\w+) = \[', text, re.MULTILINE))
  page = (DOCS / 'install.md').read_text()
  named = re.findall(r"'\.\[(\w+)\]'", page)
  assert {*named, *re.findall(r'^\| `(\w+)` \|', page, re.M)} <= extras
  assert 'jax[cuda13]' in text.split('\ncuda = ')[1].splitlines()[0]
  assert 'jax>=0.10,<0.13' in text


def test_the_tolerance_of_many_devices_is_the_tested_one():
  test = (DOCS.parent / 'tests/training/devices_test.py').read_text()
  (tested,) = re.findall(r'^TOLERANCE = (\d)e-(\d)\b', test, re.MULTILINE)
  page = (DOCS / 'scaling.md').read_text()
  (stated,) = re.findall(r'tolerance \((\d)·10⁻(\S) nats in log p', page)
  assert stated == (tested[0], '⁰¹²³⁴⁵⁶⁷⁸⁹'[int(tested[1])])


def test_the_site_builds_without_a_warning(tmp_path):
  command = [sys.executable, '-m', 'sphinx', '-q', '-W', '--keep-going']
  done = subprocess.run(
    [*command, '-b', 'html', str(DOCS), str(tmp_path)],
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 0, done.stderr
  text = (tmp_path / 'api.html').read_text()
  for name in ('memorization_score', 'copying_test', 'nearest_neighbors'):
    assert f'id="memjax.{name}"' in text
