"""A table of all items that a reader can sort and filter, without a server.

The numbers lie in the page, and one fixed script (items.js) shows them. The
page's policy names that script by its hash, so that nothing else runs.
"""

import base64
import hashlib
import html
import importlib.resources
import io
import json
import math
import sys
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

__all__ = ['ItemTable', 'policy', 'render_items', 'script']

_COLUMNS = 40  # pictures side by side in the one image that holds them all
_LARGEST = 48  # pixels of a side of a picture


class ItemTable(NamedTuple):
  """Columns of values, one row an item.

  Attributes:
    columns: names and their values, [n] each; the first names the items; whole
      numbers and texts are shown as they are.
    filters: for some columns how a reader may filter: 'least', 'most', or
      'equal' (one of the values that there are).
    sort: the column by which they are sorted at first, highest first.
    images: uint8 [k, h, w, c] of the first k items, c 1, 3 or 4; or None.
    file: beside the page, with the same numbers for whoever runs no script.
  """

  columns: Mapping[str, np.ndarray]
  filters: Mapping[str, str]
  sort: str
  images: np.ndarray | None = None
  file: str = 'scores.csv'


def script() -> str:
  """The script, which is the same for every page."""
  source = importlib.resources.files('memjax.analysis') / 'items.js'
  return source.read_text('utf-8')


def policy() -> str:
  """The source that a page's policy allows to run: the script and no other."""
  digest = hashlib.sha256(script().encode()).digest()
  return f"'sha256-{base64.b64encode(digest).decode()}'"


def render_items(table: ItemTable, title: str) -> str:
  """The table as HTML; hidden until the script has filled it.

  Raises:
    ValueError: for columns of unequal lengths, or a filter or sort of a column
      that there is not.
  """
  names = list(table.columns)
  for name in (*table.filters, table.sort):
    if name not in names:
      raise ValueError(
        f'{name!r} is no column of the item table: expected one of {names}.'
      )
  lengths = {name: len(values) for name, values in table.columns.items()}
  if len(set(lengths.values())) > 1:
    raise ValueError(f'columns have lengths {lengths}: expected equal ones.')
  head = [
    f'<th scope="col" class="number"><button type="button">'
    f'{html.escape(name)}</button></th>'
    for name in names
  ]
  inputs = ''.join(
    _filter(names.index(name), name, kind, table.columns[name])
    for name, kind in table.filters.items()
  )
  picture, sheet = '', _sheet(table.images)
  if sheet:
    head.insert(1, '<th scope="col">picture</th>')
    picture = f'<img hidden alt="" src="data:image/png;base64,{sheet}">'
  label = html.escape(title)
  return f"""<div data-items hidden>
<script type="application/json">{_json(table)}</script>{picture}
<div class="filters" role="group" aria-label="Filter the items">{inputs}</div>
<div class="scroll" tabindex="0" role="region" aria-label="{label}">
<table><thead><tr>{''.join(head)}</tr></thead><tbody></tbody></table></div>
<p class="turn"><button type="button" data-turn="-1">Previous</button>
<button type="button" data-turn="1">Next</button>
<span role="status"></span></p>
</div>
<noscript><p>This table needs JavaScript; {html.escape(table.file)} has the same
numbers.</p></noscript>"""


def _filter(index: int, name: str, kind: str, values: np.ndarray) -> str:
  label = html.escape(name)
  attributes = f'data-column="{index}" data-kind="{kind}"'
  if kind == 'equal':
    options = ''.join(
      f'<option value="{value}">{value}</option>'
      for value in (html.escape(str(v)) for v in np.unique(values).tolist())
    )
    options = f'<option value="">all</option>{options}'
    return f'<label>{label} <select {attributes}>{options}</select></label>'
  sign = {'least': 'at least', 'most': 'at most'}[kind]
  field = f'<input type="number" step="any" {attributes}>'
  return f'<label>{label} {sign} {field}</label>'


def _json(table: ItemTable) -> str:
  """The rows; with no < that could end the script's element."""
  columns = [np.asarray(values) for values in table.columns.values()]
  exact = [values.dtype.kind != 'f' for values in columns]
  rows = zip(*(map(_plain, values.tolist()) for values in columns), strict=True)
  content: dict[str, Any] = {
    'exact': exact,
    'first': list(table.columns).index(table.sort),
    'rows': list(rows),
  }
  if table.images is not None:
    height, width = _thumbnails(table.images[:1]).shape[1:3]
    content['pictures'] = columns[0][: len(table.images)].tolist()
    content['tile'] = {'width': width, 'height': height, 'columns': _COLUMNS}
  text = json.dumps(content, allow_nan=False, separators=(',', ':'))
  return text.replace('<', '\\u003c')


def _plain(value: int | float | str) -> int | float | str | None:
  """Six digits, and null for what is not a number.

  JSON has no infinity: the largest number stands for it, in items.js too.
  """
  if not isinstance(value, float):
    return value
  if math.isinf(value):
    return math.copysign(sys.float_info.max, value)
  return None if math.isnan(value) else float(f'{value:.6g}')


def _thumbnails(images: np.ndarray) -> np.ndarray:
  """Whole multiples of small pictures, every so many pixels of large ones."""
  side = max(images.shape[1:3])
  step, scale = -(-side // _LARGEST), max(1, _LARGEST // side)
  images = images[:, ::step, ::step]
  return images.repeat(scale, axis=1).repeat(scale, axis=2)


def _sheet(images: np.ndarray | None) -> str:
  """All pictures in one PNG, row by row, as base64."""
  if images is None or not len(images):
    return ''
  images = _thumbnails(images)
  count, height, width, channels = images.shape
  rows = -(-count // _COLUMNS)
  sheet = np.zeros((rows * _COLUMNS, height, width, channels), np.uint8)
  sheet[:count] = images
  sheet = sheet.reshape(rows, _COLUMNS, height, width, channels)
  sheet = sheet.swapaxes(1, 2).reshape(rows * height, -1, channels)
  file = io.BytesIO()
  picture = Image.fromarray(sheet[..., 0] if channels == 1 else sheet)
  picture.save(file, format='PNG', optimize=True)
  return base64.b64encode(file.getvalue()).decode()
