"""The documentation: every code block runs, and the site builds."""

import importlib.util
import pathlib
import re
import shlex
import subprocess
import sys

import pytest

from memjax import notebook

DOCS = pathlib.Path(__file__).parents[1] / 'docs'
PAGES = sorted(DOCS.glob('*.md'))
every_page = pytest.mark.parametrize('page', PAGES, ids=lambda page: page.stem)


def blocks(page, language):
  pattern = rf'^```{language}\n(.*?)^```$'
  return re.findall(pattern, page.read_text(), re.MULTILINE | re.DOTALL)


@every_page
def test_python_runs(page, tmp_path, monkeypatch, capsys):
  monkeypatch.chdir(tmp_path)
  names = {'__name__': page.stem}
  for code in blocks(page, 'python'):
    if 'import torch' in code and not importlib.util.find_spec('torch'):
      continue
    exec(compile(code, f'{page.name}', 'exec'), names)


@every_page
def test_commands_are_ones_that_memjax_takes(page):
  """Their configs exist and have the keys; running them would take hours."""
  for block in blocks(page, 'bash'):
    for line in block.replace('\\\n', ' ').splitlines():
      words = shlex.split(line, comments=True)
      if words[:3] != ['python', '-m', 'memjax.main']:
        continue
      values = dict(word.partition('=')[::2] for word in words[3:])
      changes = {
        name.removeprefix('--config.'): value
        for name, value in values.items()
        if name.startswith('--config.')
      }
      config = notebook.load_config(values['--config'])
      for name in changes:
        assert name in {*config.to_dict()} | flat(config), (
          f'{page.name}: {name}'
        )


def flat(config):
  return {
    f'{outer}.{inner}'
    for outer, values in config.to_dict().items()
    if isinstance(values, dict)
    for inner in values
  }


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
