"""A self-contained HTML page: what a study found, how sure it is, and why.

One file with its pictures inside and without any address to load from, so that
it can be mailed, archived and read in ten years. Only a table of items has a
script, to sort and filter it. It knows
nothing of the studies: `render` turns a `Page` into text, with the template
page.html beside this file. All texts are escaped. Those marked "prose" are
paragraphs between empty lines, lists of lines that begin with '- ', **strong
words** and `code`.
"""

import base64
import html
import importlib.resources
import io
import math
import re
import string
import struct
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from memjax import validate
from memjax.analysis.item_table import (
  ItemTable,
  policy,
  render_items,
  script,
)

__all__ = [
  'VERDICTS',
  'ItemTable',
  'KeyNumber',
  'Page',
  'Picture',
  'Section',
  'Table',
  'format_number',
  'format_p',
  'png',
  'render',
]

# The word of each kind of verdict, and the outline of its sign: whoever cannot
# tell the colours apart sees a triangle, a wave, a lens or a bar.
_RING = 'M3 12a9 9 0 1 0 18 0a9 9 0 1 0-18 0Z'
_LENS = 'M3.5 10a6.5 6.5 0 1 0 13 0a6.5 6.5 0 1 0-13 0ZM15 15l6.5 6.5'
_TRIANGLE = 'M12 3 22 20.5H2ZM12 9.5v5m0 2.7v.6'
_WAVE = _RING + 'M7.5 13q2.3-3.5 4.5-1t4.5-1'
_BAR = _RING + 'M5.6 5.6l12.8 12.8'
# Each kind with its word, its sign, and the colours of page.html.
VERDICTS = {
  'memorizes': ('Memorization found', _TRIANGLE, 'found'),
  'weak': ('Weak evidence', _WAVE, 'weak'),
  'none_found': ('No memorization found', _LENS, 'none'),
  'copies': ('Copying found', _TRIANGLE, 'found'),
  'leans': ('Weak evidence of copying', _WAVE, 'weak'),
  'differs': ('No copying found, but unlike the data', _LENS, 'none'),
  'no_copying': ('No copying found', _LENS, 'none'),
  'not_valid': ('Not valid', _BAR, 'not_valid'),
}

_DOTS_PER_INCH = 220
# How large an inch of a figure is on the screen: its 10 points are body text.
_PIXELS_PER_INCH = 120
_PNG = b'\x89PNG\r\n\x1a\n'

Number = int | float | np.integer | np.floating


@runtime_checkable
class Picture(Protocol):
  """What can save itself as PNG, such as a matplotlib Figure."""

  def savefig(self, target: Any, /, **options: Any) -> None:
    """Writes the picture to a binary file."""


class Table(NamedTuple):
  """Rows under column names; the first column names the rows."""

  columns: Sequence[str]
  rows: Sequence[Sequence[Any]]  # texts, bools, None, numbers (three digits)
  caption: str = ''
  folded: bool = False  # behind its caption until opened; for long tables


class KeyNumber(NamedTuple):
  """One of the few numbers that a reader should take away."""

  label: str
  value: str  # with its unit, for instance from format_number
  interval: str = ''  # how sure it is
  meaning: str = ''  # one line for those who never read the paper


class Section(NamedTuple):
  """A part of the page: a text, a figure, a table, and items to browse."""

  title: str
  body: str = ''  # prose
  figure: Picture | bytes | None = None  # a matplotlib Figure, or a PNG
  alt: str = ''  # what it shows, for those who cannot see it; required
  caption: str = ''  # prose: what one should see in the figure
  table: Table | None = None
  items: ItemTable | None = None


class Page(NamedTuple):
  """All that a page says."""

  title: str  # of the document, above the question
  question: str  # that the study answers
  verdict_kind: str  # one of VERDICTS
  verdict: str  # prose: the answer
  uncertainty: str = ''  # prose: how sure the answer is
  key_numbers: Sequence[KeyNumber] = ()  # three to six
  sections: Sequence[Section] = ()  # in reading order
  footer: str = ''  # prose: versions, dates, references


def render(page: Page) -> str:
  """The page as one HTML document, to be written as UTF-8.

  Raises:
    ValueError: for an unknown kind of verdict, a figure without a description,
      bytes that are no PNG, and a table's row of another length.
  """
  titles = [section.title for section in page.sections]
  names = [_identifier(k, title) for k, title in enumerate(titles, start=1)]
  sections = zip(names, page.sections, strict=True)
  body = ''.join(_section(name, section) for name, section in sections)
  has_items = any(section.items is not None for section in page.sections)
  template = importlib.resources.files('memjax.analysis') / 'page.html'
  return string.Template(template.read_text('utf-8')).substitute(
    title=_escape(page.title),
    question=_escape(page.question),
    verdict=_verdict(page),
    cards=_cards(page.key_numbers),
    contents=_contents(names, titles),
    sections=body,
    footer=_prose(page.footer),
    policy=f'; script-src {policy()}' if has_items else '',
    script=f'<script>{script()}</script>\n' if has_items else '',
  )


def png(figure: Picture) -> bytes:
  """A matplotlib Figure as PNG on white, sharp on screens and in print."""
  file = io.BytesIO()
  # Without the software's version the same figure is the same file.
  options = {'facecolor': 'white', 'metadata': {'Software': None}}
  figure.savefig(file, format='png', dpi=_DOTS_PER_INCH, **options)
  return file.getvalue()


def format_number(value: Any, unit: str = '', *, digits: int = 3) -> str:
  r"""A number for readers: significant digits, a true minus sign, its unit.

  Integers are not rounded, and NaN is 'not available'.

  Example:
    >>> format_number(-0.031249, 'nats'), format_number(60000)
    ('−0.0312\xa0nats', '60,000')
  """
  number = float(value)
  if math.isnan(number):
    return 'not available'
  rounded = float(f'{number:.{digits}g}')
  if isinstance(value, int | np.integer):
    text = f'{int(value):,}'
  elif math.isinf(number):
    text = '-∞' if number < 0 else '∞'
  elif number == 0 or 1e-4 <= abs(rounded) < 1e6:
    text = f'{abs(rounded) if rounded == 0 else rounded:,}'.removesuffix('.0')
  else:
    mantissa, exponent = f'{number:.{digits - 1}e}'.split('e')
    mantissa = f'{float(mantissa):g}'
    raised = str(int(exponent)).translate(_SUPERSCRIPT)
    text = f'{mantissa} × 10{raised}'
  text = text.replace('-', '−')
  return f'{text}\xa0{unit}' if unit else text


def format_p(p: Number, floor: Number = 0.0) -> str:
  """A p-value that does not claim more than its test can show.

  Args:
    p: in [0, 1], or NaN.
    floor: the smallest p that the test can give; 1/(P + 1) for P permutations.

  Example:
    >>> format_p(0.03, 1 / 1001), format_p(1 / 1001, 1 / 1001)
    ('p = 0.03', 'p ≤ 0.001')
  """
  if math.isnan(p):
    return 'p not available'
  p = validate.real('p', p, 0.0, 1.0)
  floor = validate.real('floor', floor, 0.0, 1.0)
  if p == 0 == floor or p > floor * (1 + 1e-9):
    return f'p = {format_number(p, digits=2)}'
  # Rounded up, since "at most" must stay true.
  step = 10.0 ** (math.floor(math.log10(floor)) - 1)
  bound = math.ceil(floor / step - 1e-6) * step
  return f'p ≤ {format_number(bound, digits=2)}'


_SUPERSCRIPT = str.maketrans('-0123456789', '⁻⁰¹²³⁴⁵⁶⁷⁸⁹')


def _escape(text: Any) -> str:
  # A lone surrogate, from a file's name for instance, could not be written.
  text = str(text).encode('utf-8', 'replace').decode()
  return html.escape(text)


def _inline(text: str) -> str:
  """Escapes, then marks code and strong words."""
  parts = re.split(r'`([^`\n]+)`', text)
  for k, part in enumerate(parts):
    escaped = _escape(part)
    strong = re.sub(r'\*\*(.+?)\*\*', r'<strong>\1</strong>', escaped)
    parts[k] = f'<code>{escaped}</code>' if k % 2 else strong
  return ''.join(parts)


def _prose(text: str) -> str:
  """Paragraphs and lists."""
  blocks = []
  for block in re.split(r'\n\s*\n', text.strip()):
    is_item = lambda line: line.lstrip().startswith('- ')
    lines = block.splitlines()
    first = next((k for k, x in enumerate(lines) if is_item(x)), len(lines))
    if paragraph := '\n'.join(lines[:first]):
      blocks.append(f'<p>{_inline(paragraph)}</p>')
    if items := '\n'.join(lines[first:]):
      # A line without a dash continues the item above it.
      items = re.split(r'\n\s*- ', '\n' + items)[1:]
      items = ''.join(f'<li>{_inline(item)}</li>' for item in items)
      blocks.append(f'<ul>{items}</ul>')
  return '\n'.join(blocks)


def _verdict(page: Page) -> str:
  kind = validate.one_of('verdict_kind', page.verdict_kind, VERDICTS)
  word, sign, look = VERDICTS[kind]
  sure = f'<div class="sure">{_prose(page.uncertainty)}</div>'
  return f"""<section class="verdict {look}" aria-label="Verdict">
<p class="word"><svg viewBox="0 0 24 24" aria-hidden="true"><path d="{sign}"/>
</svg>{word}</p>
<div class="answer">{_prose(page.verdict)}</div>
{sure if page.uncertainty else ''}
</section>"""


def _cards(numbers: Sequence[KeyNumber]) -> str:
  if not numbers:
    return ''
  cards = []
  for number in numbers:
    label, *rest = map(_escape, number)
    kinds = zip(('value', 'interval', 'meaning'), rest, strict=True)
    values = [f'<dd class="{kind}">{text}</dd>' for kind, text in kinds if text]
    cards.append(f'<div><dt>{label}</dt>{"".join(values)}</div>')
  return f'<dl class="cards" aria-label="Key numbers">{"".join(cards)}</dl>'


def _identifier(number: int, title: str) -> str:
  """A fragment for links; its number keeps equal titles apart."""
  return f's{number}-{re.sub("[^a-z0-9]+", "-", title.lower()).strip("-")}'


def _contents(names: Sequence[str], titles: Sequence[str]) -> str:
  if len(titles) < 2:
    return ''
  pairs = zip(names, titles, strict=True)
  items = [f'<li><a href="#{n}">{_escape(t)}</a></li>' for n, t in pairs]
  return f'<nav aria-label="Contents"><ol>{"".join(items)}</ol></nav>'


def _section(name: str, section: Section) -> str:
  parts = [_prose(section.body)]
  if section.figure is not None:
    parts.append(_figure(section, section.figure))
  if section.table is not None:
    parts.append(_table(section.table, section.title))
  if section.items is not None:
    parts.append(render_items(section.items, section.title))
  return f"""<section id="{name}" aria-labelledby="{name}--title">
<h2 id="{name}--title">{_escape(section.title)}</h2>
{''.join(parts)}
</section>
"""


def _figure(section: Section, figure: Picture | bytes) -> str:
  if not section.alt.strip():
    raise ValueError(
      f'alt={section.alt!r} in section {section.title!r}: expected a text that '
      'says what the figure shows, for those who cannot see it.'
    )
  data = figure if isinstance(figure, bytes) else png(figure)
  if not data.startswith(_PNG):
    raise ValueError(
      f'figure in section {section.title!r} begins with {data[:8]!r}: '
      'expected a matplotlib Figure or the bytes of a PNG.'
    )
  scale = _PIXELS_PER_INCH / _DOTS_PER_INCH
  width, height = (round(x * scale) for x in struct.unpack('>II', data[16:24]))
  source = f'data:image/png;base64,{base64.b64encode(data).decode()}'
  size = f'width="{width}" height="{height}"'
  image = f'<img {size} alt="{_escape(section.alt)}" src="{source}">'
  # On a telephone a wide figure scrolls rather than shrinks out of sight.
  label = f'role="region" aria-label="{_escape(section.title)}" tabindex="0"'
  card = f'class="card wide" {label}' if width > 700 else 'class="card"'
  caption = _prose(f'**What you should see.** {section.caption}')
  caption = f'<figcaption>{caption}</figcaption>' if section.caption else ''
  return f'<figure><div {card}>{image}</div>{caption}</figure>'


def _table(table: Table, title: str) -> str:
  for k, row in enumerate(table.rows):
    if len(row) != len(table.columns):
      raise ValueError(
        f'rows[{k}] of the table in {title!r} has {len(row)} cells: expected '
        f'{len(table.columns)}, one a column.'
      )
  numeric = [
    all(_is_number(row[k]) for row in table.rows)
    for k in range(len(table.columns))
  ]
  look = [' class="number"' if right else '' for right in numeric]
  head = ''.join(
    f'<th scope="col"{kind}>{_escape(name)}</th>'
    for name, kind in zip(table.columns, look, strict=True)
  )
  rows = '\n'.join(_row(row, look) for row in table.rows)
  caption = _escape(table.caption or title)
  # A region that scrolls must be reachable with the keyboard, and have a name.
  content = f"""<div class="scroll" tabindex="0" role="region"
aria-label="{caption}"><table><thead><tr>{head}</tr></thead>
<tbody>{rows}</tbody></table></div>"""
  if table.folded:
    return f'<details><summary>{caption}</summary>{content}</details>'
  return f'<p class="over">{caption}</p>{content}' if table.caption else content


def _row(row: Sequence[Any], look: Sequence[str]) -> str:
  # An integer that names its row is no quantity: it needs no separators.
  name = row[0] if isinstance(row[0], int | np.integer) else _cell(row[0])
  first = f'<th scope="row"{look[0]}>{name}</th>'
  pairs = zip(row[1:], look[1:], strict=True)
  rest = ''.join(f'<td{kind}>{_cell(value)}</td>' for value, kind in pairs)
  return f'<tr>{first}{rest}</tr>'


def _cell(value: Any) -> str:
  if value is None:
    return '–'
  if isinstance(value, bool | np.bool_):
    return 'yes' if value else 'no'
  return _escape(format_number(value) if _is_number(value) else value)


def _is_number(value: Any) -> bool:
  return isinstance(value, Number) and not isinstance(value, bool)
