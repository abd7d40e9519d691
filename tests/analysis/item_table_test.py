"""The table of items: what is in the page, and what the script makes of it."""

import base64
import hashlib
import io
import json
import re
import shutil
import subprocess

import numpy as np
import pytest
from PIL import Image

from memjax.analysis import page
from memjax.analysis.item_table import (
  ItemTable,
  policy,
  render_items,
  script,
)

BROWSER = shutil.which('chromium') or shutil.which('google-chrome')


def make_table(n=60, images=None, **changes):
  rng = np.random.default_rng(0)
  columns = {
    'id': np.arange(n) + 100,
    'class': np.arange(n) % 3,
    'score': rng.normal(size=n),
    'p': np.where(np.arange(n) == 5, np.nan, rng.uniform(size=n)),
  }
  filters = {'class': 'equal', 'score': 'least', 'p': 'most'}
  return ItemTable(columns, filters, 'score', images)._replace(**changes)


def content(text):
  found = re.search(r'application/json">(.*?)</script>', text, re.DOTALL)
  return json.loads(found[1])


def test_the_page_holds_every_number():
  table = make_table()
  rows = content(render_items(table, 'All'))['rows']
  for k, values in enumerate(table.columns.values()):
    found = [np.nan if row[k] is None else row[k] for row in rows]
    np.testing.assert_allclose(found, values, rtol=1e-5)


def test_infinity_is_the_largest_number():
  table = make_table(n=3)
  columns = {**table.columns, 'score': np.array([np.inf, -np.inf, np.nan])}
  rows = content(render_items(table._replace(columns=columns), 'All'))['rows']
  largest = np.finfo(float).max
  assert [row[2] for row in rows] == [largest, -largest, None]


def test_without_a_script_the_page_names_the_file():
  text = render_items(make_table(file='samples.csv'), 'All')
  (words,) = re.findall(r'<noscript>(.*?)</noscript>', text, re.DOTALL)
  assert 'samples.csv has the same' in words


def test_pictures_lie_where_the_script_looks():
  images = np.random.default_rng(1).integers(0, 256, (50, 12, 10, 3), np.uint8)
  text = render_items(make_table(images=images), 'All')
  tile = content(text)['tile']
  data = re.search(r'base64,([^"]*)"', text)[1]
  sheet = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))
  for k in (0, 39, 40, 49):
    y = k // tile['columns'] * tile['height']
    x = k % tile['columns'] * tile['width']
    shown = sheet[y : y + tile['height'], x : x + tile['width']]
    scale = tile['height'] // 12
    np.testing.assert_array_equal(shown[::scale, ::scale], images[k])


def test_large_pictures_are_shown_small():
  images = np.random.default_rng(1).integers(0, 256, (9, 300, 90, 1), np.uint8)
  text = render_items(make_table(images=images), 'All')
  tile = content(text)['tile']
  assert (tile['height'], tile['width']) == (43, 13)
  data = re.search(r'base64,([^"]*)"', text)[1]
  sheet = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))
  assert sheet.shape == (43, 13 * tile['columns'])
  np.testing.assert_array_equal(sheet[:, 13:26], images[1, ::7, ::7, 0])


def test_a_page_runs_the_script_of_its_policy_and_no_other():
  section = page.Section('All items', items=make_table())
  text = page.render(page.Page('t', 'q', 'none_found', 'v', sections=[section]))
  scripts = re.findall(r'<script>(.*?)</script>', text, re.DOTALL)
  assert scripts == [script()]
  digest = base64.b64encode(hashlib.sha256(scripts[0].encode()).digest())
  assert f"script-src 'sha256-{digest.decode()}'" in text
  plain = page.render(page.Page('t', 'q', 'none_found', 'v'))
  assert '<script' not in plain
  assert 'script-src' not in plain
  assert policy() in text


def test_items_and_classes_may_be_texts():
  table = make_table(n=3)
  names = np.array(['<b>', 'x', 'y'])
  columns = {**table.columns, 'id': names, 'class': names}
  text = render_items(table._replace(columns=columns), 'All')
  assert [row[0] for row in content(text)['rows']] == names.tolist()
  assert '<option value="&lt;b&gt;">' in text
  assert '<b>' not in text


def test_hostile_names_stay_texts():
  name = '</script><img src=x onerror=alert(1)>'
  table = make_table()
  table = table._replace(columns={name: np.arange(60), **table.columns})
  text = render_items(table, name)
  assert '<img src=x' not in text


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'sort': 'scores'}, "'scores' is no column"),
    ({'filters': {'q': 'most'}}, "'q' is no column"),
    ({'columns': {'score': np.ones(2), 'id': np.arange(3)}, 'filters': {}},
     'expected equal ones'),
  ],
)  # fmt: skip
def test_a_bad_table_is_refused(changes, message):
  with pytest.raises(ValueError, match=message):
    render_items(make_table(**changes), 'All')


def in_browser(tmp_path, action, table=None):
  """The page's text after some clicks."""
  path = tmp_path / 'page.html'
  path.write_text(
    f'<body>{render_items(table or make_table(), "All")}'
    f'<script>{script()}</script><script>{action}</script>'
  )
  command = [BROWSER, '--headless', '--no-sandbox', '--disable-gpu']
  done = subprocess.run(
    [*command, '--virtual-time-budget=2000', '--dump-dom', path.as_uri()],
    capture_output=True,
    text=True,
    check=True,
    timeout=60,
  )
  return done.stdout


def rows_of(text):
  """Ids of the rows and the status line."""
  ids = re.findall(r'<th scope="row"[^>]*>(\d+)</th>', text)
  status = re.search(r'role="status">([^<]*)', text)[1]
  return [int(text) for text in ids], status


CLICK = "document.querySelectorAll('{}')[{}].click();"
FILL = (
  "{{const i = document.querySelectorAll('[data-column]')[{}];"
  "i.value = '{}'; i.dispatchEvent(new Event('input'));}}"
)


@pytest.mark.skipif(BROWSER is None, reason='needs a browser')
@pytest.mark.parametrize(
  ('action', 'twin'),
  [
    ('', lambda t: np.argsort(-t['score'])),
    (CLICK.format('th button', 2), lambda t: np.argsort(t['score'])),
    (CLICK.format('th button', 3), lambda t: np.argsort(-np.nan_to_num(
      t['p'], nan=-np.inf))),
    (FILL.format(0, 1), lambda t: [
      k for k in np.argsort(-t['score']) if t['class'][k] == 1]),
    (FILL.format(1, 0.5) + FILL.format(2, 0.7), lambda t: [
      k for k in np.argsort(-t['score'])
      if t['score'][k] >= 0.5 and t['p'][k] <= 0.7]),
    (CLICK.format('[data-turn]', 1), lambda t: np.argsort(-t['score'])[25:]),
    (CLICK.format('[data-turn]', 0), lambda t: np.argsort(-t['score'])),
  ],
)  # fmt: skip
def test_sorting_filtering_and_turning_the_page(tmp_path, action, twin):
  ids, status = rows_of(in_browser(tmp_path, action))
  columns = make_table().columns
  expected = columns['id'][np.asarray(twin(columns))[:25]]
  assert ids == expected.tolist()
  assert status.endswith('items')


@pytest.mark.skipif(BROWSER is None, reason='needs a browser')
def test_a_filter_that_nothing_passes_says_so(tmp_path):
  text = in_browser(tmp_path, FILL.format(1, 99))
  assert rows_of(text) == ([], 'No such item.')


@pytest.mark.skipif(BROWSER is None, reason='needs a browser')
def test_the_picture_stands_beside_the_name(tmp_path):
  images = np.zeros((2, 8, 8, 1), np.uint8)
  text = in_browser(tmp_path, '', make_table(n=2, images=images))
  head = re.findall(r'<th scope="col".*?</th>', text, re.DOTALL)
  assert '>picture<' in head[1]
  for row in re.findall(r'<tr><th scope="row".*?</tr>', text, re.DOTALL):
    cells = re.findall(r'<t[hd].*?</t[hd]>', row, re.DOTALL)
    assert 'role="img"' in cells[1]
    assert len(cells) == len(head)


@pytest.mark.skipif(BROWSER is None, reason='needs a browser')
def test_infinity_comes_first_and_is_shown(tmp_path):
  table = make_table(n=4)
  score = np.array([1.0, np.inf, -np.inf, np.nan])
  columns = {**table.columns, 'score': score}
  text = in_browser(tmp_path, '', table._replace(columns=columns))
  assert rows_of(text)[0] == [101, 100, 102, 103]
  shown = re.findall(r'<td class="number">([^<]*)</td>', text)[1::3]
  assert shown == ['∞', '1', '−∞', '–']
