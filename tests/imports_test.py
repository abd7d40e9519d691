"""Data flows one way: no module imports a later stage."""

import ast
import pathlib

import pytest

PACKAGE = pathlib.Path(__file__).parents[1] / 'memjax'
# A stage may import those before it, and its own.
STAGES = (
  ('validate', 'version', 'types', 'files', 'devices', 'stats'),
  ('data', 'distances', 'neighbors', 'neighbors_approximate',
   'neighbors_tree', 'duplicates', 'folds'),
  ('models', 'embeddings'),
  ('likelihood', 'posterior'),
  ('evaluate',),
  ('scores', 'rejection'),
  ('training', 'run_folder', 'processes'),
  ('analysis',),
  ('studies',),
  ('main', 'notebook'),
)  # fmt: skip
STAGE = {name: k for k, names in enumerate(STAGES) for name in names}


def imports(path):
  """First parts below memjax of what a file imports."""
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.ImportFrom) and node.module:
      names = [node.module]
      if node.module == 'memjax':
        names = [f'memjax.{alias.name}' for alias in node.names]
    elif isinstance(node, ast.Import):
      names = [alias.name for alias in node.names]
    else:
      continue
    for name in names:
      parts = name.split('.')
      if parts[0] == 'memjax' and len(parts) > 1:
        yield parts[1]


FILES = [p for p in sorted(PACKAGE.rglob('*.py')) if p.name != '__init__.py']


@pytest.mark.parametrize(
  'path', FILES, ids=lambda path: str(path.relative_to(PACKAGE))
)
def test_no_import_points_back(path):
  own = path.relative_to(PACKAGE).parts[0].removesuffix('.py')
  later = {name for name in imports(path) if STAGE[name] > STAGE[own]}
  assert not later


def test_configs_end_at_the_studies():
  above = ('studies', 'main', 'notebook')
  for path in FILES:
    if path.relative_to(PACKAGE).parts[0].removesuffix('.py') not in above:
      assert 'ml_collections' not in path.read_text(), path
