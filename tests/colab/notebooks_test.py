"""Every notebook in colab/: in step with its twin, stripped, and running."""

import ast
import importlib.util
import os
import pathlib
import re
import subprocess

import jupytext
import nbclient
import nbformat
import pytest
from packaging.requirements import Requirement

from memjax.studies.audit_embeddings import EMBEDDINGS

COLAB = pathlib.Path(__file__).parents[2] / 'colab'
TWINS = sorted(COLAB.glob('*.py'))

every_notebook = pytest.mark.parametrize(
  'twin', TWINS, ids=[twin.stem for twin in TWINS]
)


def read(twin):
  return nbformat.read(twin.with_suffix('.ipynb'), as_version=4)


def test_each_notebook_has_a_twin():
  notebooks = {path.stem for path in COLAB.glob('*.ipynb')}
  assert notebooks == {twin.stem for twin in TWINS}
  assert notebooks


@every_notebook
def test_twins_say_the_same(twin):
  cells = lambda notebook: [(c.cell_type, c.source) for c in notebook.cells]
  assert cells(read(twin)) == cells(jupytext.read(twin))


@every_notebook
def test_outputs_are_stripped(twin):
  for cell in read(twin).cells:
    if cell.cell_type == 'code':
      assert not cell.outputs
      assert cell.execution_count is None


@every_notebook
def test_it_opens_with_a_badge_and_one_cell_to_install(twin):
  cells = read(twin).cells
  badge = f'/blob/main/colab/{twin.stem}.ipynb)'
  assert badge in cells[0].source.splitlines()[0]
  installs = [c for c in cells if "'pip', 'install'" in c.source]
  assert installs == [cells[1]]
  assert any('# @title Settings' in cell.source for cell in cells)


@every_notebook
@pytest.mark.parametrize(
  ('here', 'extras'),
  [('jax_cuda12_plugin', {'cuda12'}), ('libtpu', {'tpu'}), ('numpy', set())],
)
def test_jax_is_installed_with_the_plugin_that_is_there(
  twin, here, extras, monkeypatch
):
  commands = []
  monkeypatch.setattr(
    importlib.util, 'find_spec', lambda name: 'found' if name == here else None
  )
  monkeypatch.setattr(
    subprocess, 'run', lambda *call, **_: commands.append(call)
  )
  exec(read(twin).cells[1].source, {})
  (((_, *command),),) = commands
  assert command[:4] == ['-m', 'pip', 'install', '-q']
  memjax, jax = map(Requirement, command[4:])
  assert (memjax.name, jax.name) == ('memjax', 'jax')
  assert jax.extras == extras
  # Any version: what memjax needs decides whether it changes.
  assert not jax.specifier


def test_the_audit_offers_every_embedding():
  text = (COLAB / 'audit_samples.py').read_text()
  (choices,) = re.findall(r"^embedding = ''  # @param \[(.*)\]", text, re.M)
  assert {*re.findall(r'"(\w*)"', choices)} == {'', *EMBEDDINGS}


def test_the_example_of_the_audit_suits_an_embedding(tmp_path, monkeypatch):
  monkeypatch.setenv('MEMJAX_FAST', '1')
  monkeypatch.chdir(tmp_path)
  text = (COLAB / 'audit_samples.py').read_text()
  text = text.replace("embedding = ''", "embedding = 'pixels'", 1)
  names = {}
  exec(text.partition('# %%\nnotebook.show_report')[0], names)
  assert names['report']['numbers']['embedding'] == 'pixels, x/255'
  assert names['report']['verdict']['kind'] == 'copies'


def test_all_install_alike():
  cells = {read(twin).cells[1].source for twin in TWINS}
  assert len({cell.replace('[efficientnet]', '') for cell in cells}) == 1


@every_notebook
def test_logic_stays_in_memjax(twin):
  """Calls and pictures; no loop, and but one function, the user's sampler."""
  cells = [c.source for c in read(twin).cells[2:] if c.cell_type == 'code']
  code = ast.parse('\n'.join(cells))
  logic = ast.For, ast.While, ast.FunctionDef, ast.ClassDef
  found = [node for node in ast.walk(code) if isinstance(node, logic)]
  own = ['sampler'] if twin.stem == 'train_gan' else []
  assert [getattr(node, 'name', node) for node in found] == own


@every_notebook
def test_it_runs(twin, tmp_path, monkeypatch):
  monkeypatch.setenv('MEMJAX_FAST', '1')
  monkeypatch.setenv('JAX_PLATFORMS', os.environ.get('JAX_PLATFORMS', 'cpu'))
  resources = {'metadata': {'path': str(tmp_path)}}
  client = nbclient.NotebookClient(
    read(twin), timeout=300, kernel_name='python3', resources=resources
  )
  done = client.execute()
  kinds = [
    output.output_type
    for cell in done.cells
    if cell.cell_type == 'code'
    for output in cell.outputs
  ]
  assert 'error' not in kinds
  images = [
    output
    for cell in done.cells
    if cell.cell_type == 'code'
    for output in cell.outputs
    if 'image/png' in output.get('data', {})
  ]
  assert len(images) >= 2  # shown inline
