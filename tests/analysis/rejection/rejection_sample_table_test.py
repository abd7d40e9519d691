"""One seed's samples in the report: which stand out, and what is shown."""

import csv

import numpy as np
import pytest

from memjax.analysis.rejection import analysis, sample_table, verdict
from memjax.analysis.rejection.report import Shown
from memjax.scores.copying import copying_test

RNG = np.random.default_rng(0)
TRAIN, TEST, SAMPLES = RNG.normal(size=(3, 300, 6))
SAMPLES[40:70] = TRAIN[100:130]
IMAGES = RNG.integers(0, 256, (300, 8, 8, 1), np.uint8)
SETS = analysis.EmbeddedSets('an embedding', 'cosine', TRAIN, TEST)
STUDY = verdict.Study(
  'points', IMAGES, IMAGES, (SETS, SETS._replace(name='another')), 0.1,
  'drop', 99,
)  # fmt: skip
PART = Shown(IMAGES, np.arange(300) % 10, SAMPLES, 2)


def make(workdir):
  copying = copying_test(TRAIN, TEST, SAMPLES, metric='cosine')
  section = sample_table.all_samples(workdir, STUDY, 'plain', PART, copying)
  return section, copying


@pytest.fixture(scope='module')
def made(tmp_path_factory):
  workdir = tmp_path_factory.mktemp('run')
  return workdir, *make(workdir)


def test_planted_copies_stand_out_and_come_first(made):
  _, section, _ = made
  columns = section.items.columns
  assert set(columns['sample'][:30]) == set(range(40, 70))
  np.testing.assert_array_equal(
    columns['nearest_train'][:30], columns['sample'][:30] + 60
  )
  # 30 of 300 samples, and one of 301 to be expected.
  assert (columns['q'][:30] <= 300 / 301 / 30).all()
  assert (columns['q'][30:] <= 0.05).sum() <= 2
  assert (np.diff(columns['ratio'][30:]) <= 0).all()


def test_a_row_has_the_class_and_picture_of_its_sample(made):
  _, section, _ = made
  items = section.items
  order = items.columns['sample']
  assert sorted(order) == list(range(300))
  np.testing.assert_array_equal(items.columns['class'], order % 10)
  np.testing.assert_array_equal(items.images, IMAGES[order])
  assert items.filters == {
    'class': 'equal', 'ratio': 'least', 'q': 'most', 'd_train': 'most',
  }  # fmt: skip
  assert section.title == 'All samples without rejection, seed 2'
  assert '(an embedding)' in section.body
  assert 'another)' not in section.body


def test_the_file_has_all_numbers_in_the_order_of_samples(made):
  workdir, section, copying = made
  assert section.items.file == 'samples_plain.csv'
  with (workdir / 'samples_plain.csv').open() as file:
    rows = list(csv.DictReader(file))
  column = lambda name: [float(row[name]) for row in rows]
  for name, values in (
    ('index', np.arange(300)), ('label', PART.labels),
    ('ratio', copying.sample_ratio), ('q', copying.q_value),
    ('d_train', copying.d_train), ('d_test', copying.d_test),
    ('nearest_train', copying.nearest_train),
    ('nearest_test', copying.nearest_test),
  ):  # fmt: skip
    np.testing.assert_array_equal(column(name), values)


def test_a_page_holds_so_many_rows_and_the_file_all(tmp_path, monkeypatch):
  monkeypatch.setattr(sample_table, '_NUM_ROWS', 50)
  monkeypatch.setattr(sample_table, '_NUM_PICTURES', 20)
  section, _ = make(tmp_path)
  assert {len(column) for column in section.items.columns.values()} == {50}
  assert len(section.items.images) == 20
  assert '50 most suspicious of 300 samples' in section.body
  assert len((tmp_path / 'samples_plain.csv').read_text().splitlines()) == 301
