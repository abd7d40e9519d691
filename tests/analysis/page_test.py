"""The page as a browser reads it: structure, escapes, pictures, numbers."""

import base64
import html.parser
import io
import itertools
import re

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from memjax.analysis import page

VOID = {'meta', 'img', 'path', 'br', 'link', 'input'}
HOSTILE = '<script>alert("x")</script><img src=//evil> & \' </style> $title {x}'


class Reader(html.parser.HTMLParser):
  """Collects elements and texts, and insists on balanced tags."""

  def __init__(self, text):
    super().__init__()
    self.elements, self.open, self.words = [], [], {}
    self.feed(text)
    self.close()
    assert not self.open

  def handle_starttag(self, tag, attrs):
    names = [name for name, _ in attrs]
    assert len(names) == len(set(names))
    self.elements.append((tag, dict(attrs)))
    if tag not in VOID:
      self.open.append(tag)

  def handle_endtag(self, tag):
    if tag not in VOID:
      assert self.open.pop() == tag

  def handle_data(self, data):
    if self.open:
      self.words.setdefault(self.open[-1], []).append(data)

  def all(self, tag):
    return [attrs for name, attrs in self.elements if name == tag]

  def text(self, tag):
    return [' '.join(words.split()) for words in self.words.get(tag, [])]


def picture():
  figure = Figure(figsize=(2, 1))
  figure.subplots().plot([1, 2])
  return figure


def a_page(*sections, **changes):
  fields = {
    'title': 'memjax',
    'question': 'Has the model memorized?',
    'verdict_kind': 'memorizes',
    'verdict': 'Yes.',
    'sections': sections,
  }
  return page.Page(**(fields | changes))


def read(*sections, **changes):
  return Reader(page.render(a_page(*sections, **changes)))


def full_page():
  table = page.Table(['item', 'score'], [['a', 1.5], ['b', float('nan')]])
  return a_page(
    page.Section('One', 'Text.', picture(), 'a line', 'It rises.', table),
    page.Section('Two', table=table._replace(caption='Rest', folded=True)),
    uncertainty='Mean 1 to 2.',
    key_numbers=[page.KeyNumber('Mean', '1.5 nats', '1 to 2', 'On average.')],
    footer='Version 1.',
  )


class TestDocument:
  def test_landmarks_headings_and_language(self):
    reader = Reader(page.render(full_page()))
    assert reader.text('h1') == ['Has the model memorized?']
    assert reader.text('h2') == ['One', 'Two']
    assert reader.text('title') == ['memjax']
    assert reader.all('html') == [{'lang': 'en'}]
    for tag in ('header', 'nav', 'main', 'footer'):
      assert len(reader.all(tag)) == 1
    assert page.render(full_page()).startswith('<!DOCTYPE html>')
    names = [attrs.get('name') for attrs in reader.all('meta')]
    assert 'viewport' in names

  def test_loads_and_runs_nothing(self):
    text = page.render(full_page())
    reader = Reader(text)
    for tag, attrs in reader.elements:
      assert tag not in ('script', 'link', 'iframe', 'object')
      for name, value in attrs.items():
        assert not name.startswith('on')
        if name in ('src', 'href', 'srcset', 'action', 'data'):
          assert value.startswith(('#', 'data:image/png;base64,'))
    assert not re.search(r'@import|url\(|https?:', text)
    policy = [a for a in reader.all('meta') if 'http-equiv' in a]
    assert policy[0]['content'].startswith("default-src 'none'")

  def test_identifiers_are_unique_and_links_lead_to_them(self):
    titles = ['Same', 'Same', 'main', '分布', 'Same title', '<b>"']
    reader = read(*map(page.Section, titles))
    names = [attrs['id'] for _, attrs in reader.elements if 'id' in attrs]
    assert len(names) == len(set(names))
    links = [attrs['href'][1:] for attrs in reader.all('a')]
    assert len(links) == len(titles) + 1  # and the link that skips
    assert set(links) <= set(names)
    for attrs in reader.all('section'):
      assert attrs.get('aria-labelledby', names[0]) in names

  def test_one_section_needs_no_contents(self):
    assert not read(page.Section('One')).all('nav')
    assert len(read(page.Section('One'), page.Section('Two')).all('nav')) == 1

  def test_every_text_is_escaped(self):
    hostile = page.Table([HOSTILE] * 2, [[HOSTILE] * 2], HOSTILE, True)
    section = page.Section(
      HOSTILE, f'{HOSTILE}\n\n- {HOSTILE}\n\n`{HOSTILE}`', picture(), HOSTILE,
      HOSTILE, hostile
    )  # fmt: skip
    reader = read(
      section,
      section._replace(table=hostile._replace(folded=False)),
      title=HOSTILE,
      question=HOSTILE,
      verdict=HOSTILE,
      uncertainty=HOSTILE,
      key_numbers=[page.KeyNumber(*[HOSTILE] * 4)],
      footer=HOSTILE,
    )
    assert not reader.all('script')
    assert len(reader.all('img')) == 2
    assert {a['alt'] for a in reader.all('img')} == {HOSTILE}
    for tag in ('title', 'h1', 'h2', 'dt', 'dd', 'td', 'th', 'li', 'code'):
      assert HOSTILE in reader.text(tag), tag
    assert HOSTILE in reader.text('summary')
    assert HOSTILE in {a.get('aria-label') for a in reader.all('div')}

  def test_what_utf8_cannot_hold_is_replaced(self):
    text = page.render(a_page(page.Section('a\udc80b', 'Ω')))
    assert 'a?b' in text
    assert 'Ω' in text.encode().decode()


class TestVerdict:
  @pytest.mark.parametrize('kind', page.VERDICTS)
  def test_has_a_word_and_a_sign_beside_its_colour(self, kind):
    text = page.render(a_page(verdict_kind=kind))
    reader = Reader(text)
    word, sign, look = page.VERDICTS[kind]
    assert word in reader.text('p')
    assert [attrs['d'] for attrs in reader.all('path')] == [sign]
    assert reader.all('svg')[0]['aria-hidden'] == 'true'
    box = [a for a in reader.all('section') if 'verdict' in a['class']]
    assert box[0]['class'] == f'verdict {look}'
    # Its colours are defined for light and for dark screens.
    name = look.replace('_', '-')
    assert text.count(f'--{name}:') == text.count(f'--{name}-ground:') == 2
    assert f'.{look} {{ color: var(--{name});' in text

  def test_words_and_signs_differ(self):
    for a, b in itertools.combinations(page.VERDICTS.values(), 2):
      assert a[0] != b[0]
      # Who cannot tell the colours apart sees another sign.
      assert (a[1] == b[1]) == (a[2] == b[2])

  def test_unknown_kind(self):
    with pytest.raises(ValueError, match=r"verdict_kind='weka'.*'weak'\?"):
      page.render(a_page(verdict_kind='weka'))

  def test_comes_before_the_sections_with_its_uncertainty(self):
    text = page.render(full_page())
    order = ['<h1>', 'Yes.', 'Mean 1 to 2.', '1.5 nats', 'aria-label="Contents']
    places = [text.index(words) for words in [*order, '<h2']]
    assert places == sorted(places)

  def test_key_numbers(self):
    numbers = [
      page.KeyNumber('Mean', '2', 'from 1 to 3', 'Twice.'),
      page.KeyNumber('Bare', '7'),
    ]
    reader = read(key_numbers=numbers)
    assert reader.text('dt') == ['Mean', 'Bare']
    assert reader.text('dd') == ['2', 'from 1 to 3', 'Twice.', '7']
    assert not read().all('dl')


class TestProse:
  def test_paragraphs_lists_and_marks(self):
    body = """First **strong** and `a < b`,
    still first.

    Before:
    - one
      goes on
    - two `**raw**`

    Last - not a list.
    """
    text = page.render(a_page(page.Section('One', body)))
    reader = Reader(text)
    items = re.findall(r'<li>(.*?)</li>', text, re.DOTALL)
    assert [' '.join(item.split()) for item in items] == [
      'one goes on',
      'two <code>**raw**</code>',
    ]
    assert reader.text('code') == ['a < b', '**raw**']
    assert reader.text('strong') == ['strong']
    assert reader.text('p')[-3:] == [
      ', still first.',
      'Before:',
      'Last - not a list.',
    ]

  def test_empty(self):
    text = page.render(a_page(page.Section('One', ' \n\n ')))
    assert not re.search(r'<p>\s*</p>|<ul>\s*</ul>', text)


class TestFigures:
  def test_is_inside_the_page_with_its_words(self):
    figure = picture()
    reader = read(page.Section('One', '', figure, 'a line', 'It rises.'))
    (image,) = reader.all('img')
    data = base64.b64decode(image['src'].removeprefix('data:image/png;base64,'))
    assert data == page.png(figure)
    assert image['alt'] == 'a line'
    # 2 by 1 inches, without a jump while the page loads.
    assert (image['width'], image['height']) == ('240', '120')
    assert 'It rises.' in ' '.join(reader.text('p'))
    assert reader.text('strong') == ['What you should see.']

  def test_bytes_will_do(self):
    data = page.png(picture())
    texts = [
      page.render(a_page(page.Section('One', '', figure, 'a line')))
      for figure in (data, picture())
    ]
    assert texts[0] == texts[1]
    assert 'should see' not in texts[0]

  @pytest.mark.parametrize('alt', ['', '  '])
  def test_needs_a_description(self, alt):
    with pytest.raises(ValueError, match=r"alt=.*'One'"):
      page.render(a_page(page.Section('One', '', picture(), alt)))

  def test_must_be_png(self):
    with pytest.raises(ValueError, match=r"'One'.*PNG"):
      page.render(a_page(page.Section('One', '', b'GIF89a', 'a line')))

  def test_png_is_dense_and_white(self):
    figure = Figure(figsize=(2, 1), facecolor='none')
    image = Image.open(io.BytesIO(page.png(figure)))
    assert image.size == (440, 220)
    assert np.asarray(image.convert('RGBA'))[0, 0].tolist() == [255] * 4

  def test_a_wide_figure_scrolls_and_can_be_reached(self):
    wide = Figure(figsize=(7, 1))
    reader = read(page.Section('Wide', '', wide, 'x'))
    (card,) = [a for a in reader.all('div') if 'wide' in a.get('class', '')]
    assert card['tabindex'] == '0'
    assert card['aria-label'] == 'Wide'


class TestTables:
  def test_cells(self):
    row = [1234, 1234, 0.123456, np.float32(2.5), float('nan'), True, None, 'x']
    table = page.Table(list('abcdefgh'), [row])
    reader = read(page.Section('One', table=table))
    assert reader.text('th') == [*'abcdefgh', '1234']
    cells = ['1,234', '0.123', '2.5', 'not available', 'yes', '–', 'x']
    assert reader.text('td') == cells
    right = [a.get('class') == 'number' for a in reader.all('td')]
    assert right == [True] * 4 + [False] * 3

  def test_is_reachable_and_named(self):
    table = page.Table(['a'], [['x']])
    reader = read(page.Section('One', table=table))
    (region,) = [a for a in reader.all('div') if a.get('class') == 'scroll']
    assert region == {
      'class': 'scroll',
      'tabindex': '0',
      'role': 'region',
      'aria-label': 'One',
    }
    scopes = [attrs['scope'] for attrs in reader.all('th')]
    assert scopes == ['col', 'row']

  def test_folds(self):
    table = page.Table(['a'], [['x']], 'All of it', folded=True)
    reader = read(page.Section('One', table=table))
    assert reader.text('summary') == ['All of it']
    assert reader.all('details') == [{}]
    open_table = read(page.Section('One', table=table._replace(folded=False)))
    assert not open_table.all('details')
    assert 'All of it' in open_table.text('p')

  def test_without_rows(self):
    table = page.Table(['a', 'b'], [])
    assert read(page.Section('One', table=table)).text('th') == ['a', 'b']

  def test_rows_must_fit(self):
    table = page.Table(['a', 'b'], [['x', 1], ['y']])
    with pytest.raises(ValueError, match=r"rows\[1\].*'One' has 1 .*2"):
      page.render(a_page(page.Section('One', table=table)))


@pytest.mark.parametrize(
  ('value', 'text'),
  [
    (3.14159, '3.14'),
    (-0.031249, '−0.0312'),
    (12345.6, '12,300'),
    (123456, '123,456'),
    (np.int64(60000), '60,000'),
    (5.0, '5'),
    (0.0, '0'),
    (-0.0, '0'),
    (0.1 + 0.2, '0.3'),
    (99.96, '100'),
    (0.0001, '0.0001'),
    (0.00001234, '1.23 × 10⁻⁵'),
    (999_999.9, '1 × 10⁶'),
    (-2.5e9, '−2.5 × 10⁹'),
    (float('nan'), 'not available'),
    (float('inf'), '∞'),
    (float('-inf'), '−∞'),
    (np.float32(0.1), '0.1'),
  ],
)
def test_format_number(value, text):
  assert page.format_number(value) == text


def test_format_number_unit_and_digits():
  assert page.format_number(1.5, 'nats') == '1.5\xa0nats'
  assert page.format_number(float('nan'), 'nats') == 'not available'
  assert page.format_number(3.14159, digits=5) == '3.1416'


@pytest.mark.parametrize(
  ('p', 'floor', 'text'),
  [
    (0.03, 1 / 1001, 'p = 0.03'),
    (0.0312, 1 / 1001, 'p = 0.031'),
    (1 / 1001, 1 / 1001, 'p ≤ 0.001'),
    (0.0, 1 / 1001, 'p ≤ 0.001'),
    (2 / 1001, 1 / 1001, 'p = 0.002'),
    (1 / 21, 1 / 21, 'p ≤ 0.048'),
    (0.1, 0.1, 'p ≤ 0.1'),
    (1.0, 1 / 1001, 'p = 1'),
    (1, 1, 'p ≤ 1'),
    (1e-7, 0.0, 'p = 1 × 10⁻⁷'),
    (0.0, 0.0, 'p = 0'),
    (np.float32(0.5), 0.001, 'p = 0.5'),
    (float('nan'), 0.001, 'p not available'),
  ],
)
def test_format_p(p, floor, text):
  assert page.format_p(p, floor) == text


@pytest.mark.parametrize('permutations', [3, 19, 30, 99, 450, 1000, 7654])
def test_a_floor_is_never_understated(permutations):
  floor = 1 / (permutations + 1)
  shown = float(page.format_p(floor, floor).removeprefix('p ≤ '))
  assert floor * (1 - 1e-9) <= shown < 1.1 * floor


@pytest.mark.parametrize(('p', 'floor'), [(1.2, 0.1), (-0.1, 0.1), (0.5, 2.0)])
def test_format_p_refuses(p, floor):
  with pytest.raises(ValueError, match='expected a number in'):
    page.format_p(p, floor)


def contrast(first, second):
  """The WCAG contrast of two colours."""

  def luminance(color):
    color = ''.join(2 * c for c in color) if len(color) == 3 else color
    rgb = np.array([int(color[k : k + 2], 16) / 255 for k in (0, 2, 4)])
    linear = np.where(
      rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4
    )
    return linear @ [0.2126, 0.7152, 0.0722]

  light, dark = sorted([luminance(first), luminance(second)], reverse=True)
  return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize('theme', [0, 1])
def test_words_stand_out_from_their_ground(theme):
  text = page.render(a_page())
  root = re.findall(r':root \{(.*?)\}', text, re.DOTALL)[theme]
  colors = dict(re.findall(r'--([a-z-]+): #([0-9a-f]+)', root))
  pairs = [('ink', 'ground'), ('soft', 'ground'), ('soft', 'raised')]
  pairs += [('link', 'ground'), ('ink', 'raised')]
  for _, _, look in page.VERDICTS.values():
    name = look.replace('_', '-')
    pairs += [(name, f'{name}-ground'), ('ink', f'{name}-ground')]
  for words, ground in pairs:
    assert contrast(colors[words], colors[ground]) >= 4.5, (words, ground)
