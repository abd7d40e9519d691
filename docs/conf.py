"""The documentation site: `sphinx-build -W docs docs/_build`."""

import re

from memjax.version import __version__

project = 'memjax'
release = __version__
copyright = 'the memjax authors'
extensions = [
  'myst_parser',
  'sphinx.ext.autodoc',
  'sphinx.ext.napoleon',
]
html_theme = 'furo'
html_title = f'memjax {__version__}'
exclude_patterns = ['_build']
# A single backtick in a docstring is a name.
default_role = 'code'
# Shapes are strings that only jaxtyping reads; the docstrings say them too.
autodoc_typehints = 'none'
autodoc_member_order = 'bysource'
napoleon_google_docstring = True
myst_heading_anchors = 3
suppress_warnings = ['epub.unknown_project_files']

_SECTIONS = re.compile(
  r'^(Args|Attributes|Returns|Raises|Example|Examples|Reference|Yields):$'
)


def _as_restructured_text(app, what, name, obj, options, lines):
  """Docstrings are plain text: indented formulas, | and * as themselves."""
  result, is_text, before = [], True, ''
  for line in lines:
    if _SECTIONS.match(line):
      is_text = False
    is_formula = is_text and line.startswith('  ') and line.strip()
    if is_formula and not before.startswith('  '):
      result += ['.. code-block:: text', '']
    result.append(f'  {line}' if is_formula else _escape(line))
    if line.strip():
      before = line
  lines[:] = result


def _escape(line: str) -> str:
  """Keeps |x|, x* and x_ from being markup, outside of code."""
  if line.lstrip().startswith(('>>>', '...')):
    return line
  parts = re.split(r'(`[^`]*`)', line)
  return ''.join(
    part if part.startswith('`') else re.sub(r'([|*]|_(?=\W|$))', r'\\\1', part)
    for part in parts
  )


def setup(app):
  """Called by Sphinx."""
  # Before napoleon turns the sections into fields.
  app.connect('autodoc-process-docstring', _as_restructured_text, priority=1)
