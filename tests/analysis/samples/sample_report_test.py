"""What an audit of samples leaves: files that agree with each other."""

import csv
import json
import re

import numpy as np
import pytest

from memjax import run_folder
from memjax.analysis.item_table import script
from memjax.analysis.samples import figures as sample_figures
from memjax.analysis.samples import sample_table
from memjax.analysis.samples.analysis import analyze_samples
from memjax.analysis.samples.report import Audit, most_suspicious, write_samples
from memjax.stats import Interval

PERMUTATIONS = 99


def audit_of(values, labels=None, seed=70):
  train, test, generated = values
  analysis = analyze_samples(
    *values,
    labels=None if labels is None else (labels,) * 3,
    num_permutations=PERMUTATIONS,
    seed=seed,
    level=1.0,
  )
  audit = Audit(
    'samples <b>.npy', train, test, generated, labels, 'euclidean',
    PERMUTATIONS,
  )  # fmt: skip
  return audit, analysis


def vectors():
  values = np.random.default_rng(0).normal(size=(3, 120, 6))
  values[2, :12] = values[0, 20:32]
  values[2, 12] = values[2, 13]
  return values


def images():
  """In −1 … 1; copies of dark training images."""
  values = np.random.default_rng(0).uniform(-1, 1, (3, 80, 6, 5))
  values[0, :20] = values[0, :20] / 4 + 0.5  # these are above 0
  values[2, :20] = values[0, :20]
  return values


def write(folder, audit, analysis):
  config = {'study': 'audit', 'seed': 70}
  run_folder.claim(folder, config, 'data')
  return write_samples(folder, audit, analysis)


@pytest.fixture(scope='module')
def of_vectors(tmp_path_factory):
  folder = tmp_path_factory.mktemp('vectors')
  audit, analysis = audit_of(vectors(), np.arange(120) % 2)
  return folder, audit, analysis, write(folder, audit, analysis)


@pytest.fixture(scope='module')
def of_images(tmp_path_factory):
  folder = tmp_path_factory.mktemp('images')
  shown = []
  draw = sample_figures.suspicious_pairs
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(
      sample_figures,
      'suspicious_pairs',
      lambda *pictures: [shown.append(pictures), draw(*pictures)][1],
    )
    verdict = write(folder, *audit_of(images()))
  return folder, shown, verdict


def test_files_exist(of_vectors):
  folder, *_ = of_vectors
  found = {str(p.relative_to(folder)) for p in folder.rglob('*') if p.is_file()}
  assert found == {
    'config.json',
    'report.json',
    'report.html',
    'samples.csv',
    'arrays/samples.npz',
    'figures/how_much_nearer_to_train_than_to_test.png',
    'figures/distance_to_the_training_set.png',
    'figures/where_samples_are_nearer_to_train_than_test_points_are.png',
    'figures/which_classes_are_nearer_to_train_than_test_points_are.png',
  }


def test_numbers_agree(of_vectors):
  folder, audit, analysis, verdict = of_vectors
  report = json.loads((folder / 'report.json').read_text())
  numbers = report['numbers']
  arrays = np.load(folder / 'arrays/samples.npz')
  with (folder / 'samples.csv').open() as file:
    rows = list(csv.DictReader(file))
  assert [int(row['index']) for row in rows] == list(range(120))
  assert [int(row['label']) for row in rows] == audit.labels.tolist()
  for column, array in (
    ('ratio', 'ratio'), ('q', 'q_value'), ('d_train', 'd_train'),
    ('d_test', 'd_test'), ('nearest_train', 'nearest_train'),
    ('nearest_test', 'nearest_test'), ('cell', 'cell'),
  ):  # fmt: skip
    np.testing.assert_array_equal(
      [float(row[column]) for row in rows], arrays[array]
    )
  assert [int(r['nearest_train']) for r in rows[:12]] == list(range(20, 32))
  assert {row['ratio'] for row in rows[:12]} == {'inf'}
  name, _, field = numbers['copying']['array'].partition(':')
  ratio = np.load(folder / name)[field]
  np.testing.assert_array_equal(ratio, analysis.copying.sample_ratio)
  at = list(arrays['ratios']).index(numbers['copying']['ratio'])
  np.testing.assert_allclose(
    (ratio >= arrays['ratios'][at]).mean(), arrays['rate'][at]
  )
  assert numbers['copying']['num_found'] == (arrays['q_value'] <= 0.05).sum()
  assert numbers['copying']['p_value'] == arrays['ratio_p_value'].min()
  np.testing.assert_array_equal(arrays['cell_z_u'], analysis.cells.z_u)
  assert numbers['sizes'] == {'train': 120, 'test': 120, 'generated': 120}
  assert numbers['classwise']['label'] == [0, 1]
  assert report['verdict']['kind'] == verdict.kind
  assert report['verdict']['headline'] == verdict.headline
  assert report['verdict']['caveats'] == list(verdict.caveats)
  assert [v['question'] for v in report['verdict']['views']] == [
    view.question for view in verdict.views
  ]
  assert report['config']['seed'] == 70
  assert report['ran_on']['versions']['memjax']


def refuse(text):
  raise AssertionError(f'{text} is no JSON')


def test_every_number_is_finite_or_null(of_vectors, tmp_path):
  folder, audit, analysis, _ = of_vectors
  strange = analysis._replace(
    detectable=np.inf,
    copying=analysis.copying._replace(
      copied_share=np.nan, interval=Interval(0.0, 1.0)
    ),
  )
  write(tmp_path, audit, strange)
  for place in (folder, tmp_path):
    text = (place / 'report.json').read_text()
    json.loads(text, parse_constant=refuse)
    page = (place / 'report.html').read_text()
    shown = re.sub(r'<[^>]*>|data:[^"]*', ' ', page)
    assert not re.search(r'\b(nan|inf|None)\b', shown)


def test_the_page_says_the_verdict_and_stands_alone(of_vectors):
  folder, _, _, verdict = of_vectors
  page = (folder / 'report.html').read_text()
  assert verdict.headline in page
  assert 'samples &lt;b&gt;.npy' in page
  assert re.findall(r'<script>(.*?)</script>', page, re.DOTALL) == [script()]
  page = page.replace(script(), '')
  assert not re.search(r'(src|href)="(?!data:|#)', page)
  assert not re.search(r'url\((?!["\']?data:)', page)
  assert page.count('data:image/png') == 4
  for title in ('Four questions', 'The most suspicious samples',
                'Where samples are nearer', 'Which classes are nearer',
                'All numbers',
                'What these numbers mean', 'What other tools measure',
                'Settings'):  # fmt: skip
    assert title in page
  assert '99 times' in page


def test_vectors_are_a_table_of_the_most_suspicious_first(of_vectors):
  folder, _, analysis, _ = of_vectors
  order = most_suspicious(analysis)
  assert set(order[:12]) == set(range(12))
  far = analysis.copying.d_test[order[:12]]
  assert (np.diff(far) <= 0).all()
  assert (np.diff(analysis.copying.sample_ratio[order[12:]]) <= 0).all()
  page = (folder / 'report.html').read_text()
  assert 'nearest training item' in page
  assert not (folder / 'figures/the_most_suspicious_samples.png').exists()


def test_images_are_shown_beside_what_they_copy(of_images):
  folder, shown, verdict = of_images
  assert verdict.kind == 'copies'
  assert (folder / 'figures/the_most_suspicious_samples.png').stat().st_size
  ((samples, train, test, captions),) = shown
  assert samples.shape == train.shape == test.shape == (10, 6, 5, 1)
  # A copy looks like what it copies, on the scale of all images.
  np.testing.assert_array_equal(samples, train)
  assert samples.min() > 127
  assert captions[0].startswith('copy\nno. ')
  page = (folder / 'report.html').read_text()
  assert page.count('data:image/png') == 5  # one holds those of the table


def test_without_labels_the_column_is_empty(of_images):
  lines = (of_images[0] / 'samples.csv').read_text().splitlines()
  assert lines[0].startswith('index,label,cell,')
  assert lines[1].startswith('0,,')


def test_byte_images_of_zeros_and_ones_are_not_black(tmp_path):
  values = np.random.default_rng(0).integers(0, 2, (3, 40, 5, 4), np.uint8)
  audit, analysis = audit_of(values)
  shown = []
  with pytest.MonkeyPatch.context() as patch:
    draw = sample_figures.suspicious_pairs
    patch.setattr(
      sample_figures,
      'suspicious_pairs',
      lambda *pictures: [shown.append(pictures), draw(*pictures)][1],
    )
    write(tmp_path, audit, analysis)
  assert {int(v) for v in np.unique(shown[0][0])} == {0, 255}


def table_of(folder):
  """The rows of the table of all samples, as the script gets them."""
  page = (folder / 'report.html').read_text()
  text = re.search(r'application/json">(.*?)</script>', page, re.DOTALL)[1]
  head = re.search(r'<div data-items.*?</thead>', page, re.DOTALL)[0]
  names = re.findall(r'<th [^>]*><button type="button">([^<]*)<', head)
  found = json.loads(text)
  rows = [dict(zip(names, row, strict=True)) for row in found['rows']]
  return rows, names[found['first']], head


def test_every_sample_is_in_a_table(of_vectors):
  folder, _, analysis, _ = of_vectors
  rows, first, head = table_of(folder)
  assert first == 'ratio'
  assert [row['sample'] for row in rows] == most_suspicious(analysis).tolist()
  with (folder / 'samples.csv').open() as file:
    saved = list(csv.DictReader(file))
  assert len(rows) == len(saved) == 120
  for row in rows:
    twin = saved[row['sample']]
    assert str(row['class']) == twin['label']
    for name in ('cell', 'nearest_train'):
      assert row[name] == int(twin[name])
    for name in ('d_train', 'd_test', 'q'):
      np.testing.assert_allclose(row[name], float(twin[name]), rtol=1e-5)
    ratio = min(float(twin['ratio']), np.finfo(float).max)
    np.testing.assert_allclose(row['ratio'], ratio, rtol=1e-5)
  kinds = re.findall(r'data-kind="(\w+)"', head)
  assert kinds == ['equal', 'least', 'most', 'equal']
  page = (folder / 'report.html').read_text()
  assert 'samples.csv has the same' in page


def test_the_table_is_bounded(tmp_path, monkeypatch):
  monkeypatch.setattr(sample_table, '_NUM_ROWS', 7)
  monkeypatch.setattr(sample_table, '_NUM_PICTURES', 3)
  audit, analysis = audit_of(images())
  write(tmp_path, audit, analysis)
  rows, _, head = table_of(tmp_path)
  assert [r['sample'] for r in rows] == most_suspicious(analysis)[:7].tolist()
  assert 'class' not in rows[0]
  assert len(json.loads(re.search(r'"pictures":(\[[^]]*\])', head)[1])) == 3
  page = (tmp_path / 'report.html').read_text()
  assert 'the 7 most suspicious of 80 samples; samples.csv has all' in page


def test_classes_keep_their_names(tmp_path):
  audit, analysis = audit_of(vectors(), np.arange(120) % 2)
  write(tmp_path, audit._replace(class_names=('cat', 'dog')), analysis)
  rows, *_ = table_of(tmp_path)
  assert {row['class'] for row in rows} == {'cat', 'dog'}
  page = (tmp_path / 'report.html').read_text()
  assert '<option value="dog">' in page
  lines = (tmp_path / 'samples.csv').read_text().splitlines()
  assert [line.split(',')[1] for line in lines[1:3]] == ['cat', 'dog']
  report = json.loads((tmp_path / 'report.json').read_text())
  assert report['numbers']['classwise']['class'] == ['cat', 'dog']
