import jax
import numpy as np
import pytest

from memjax import distances
from memjax.distances import exact_neighbors, sample_sets, within_radius


def points(*shape, seed=0):
  return np.random.default_rng(seed).normal(size=shape)


def all_distances(x, y, metric):
  """One pair at a time."""
  unit = lambda v: v / np.linalg.norm(v) if metric == 'cosine' else v
  d = np.array([[np.linalg.norm(unit(a) - unit(b)) for b in y] for a in x])
  return d**2 / 2 if metric == 'cosine' else d


# `small` decides between direct differences and the device.
@pytest.mark.parametrize('small', [0, 10**9])
@pytest.mark.parametrize('metric', ['euclidean', 'cosine'])
def test_neighbours_equal_all_pairs(metric, small):
  x, y = points(30, 4) + 1, points(80, 4, seed=1) + 1
  near = exact_neighbors(x, y, metric=metric, k=10, small=small)
  d = all_distances(x, y, metric)
  expected = np.argsort(d, axis=1, kind='stable')[:, :10]
  np.testing.assert_array_equal(near.index, expected)
  np.testing.assert_allclose(near.distance, np.sort(d, axis=1)[:, :10])
  assert near.distance.dtype == np.float64
  own = exact_neighbors(y, y, metric=metric, exclude_self=True, small=small)
  d = all_distances(y, y, metric) + np.diag(np.full(80, np.inf))
  np.testing.assert_array_equal(own.index[:, 0], d.argmin(axis=1))


@pytest.mark.parametrize('small', [0, 10**9])
def test_ties_and_zeros_are_exact(small):
  y = np.tile(np.arange(6.0), 3)[:, None]
  near = exact_neighbors(y[:6] + 0.25, y, k=4, small=small)
  np.testing.assert_array_equal(near.distance[:, :3], np.full((6, 3), 0.25))
  np.testing.assert_array_equal(
    near.index[:, :3], np.arange(6)[:, None] + [[0, 6, 12]]
  )


def test_both_ways_give_the_same_bits():
  x, y = points(50, 20), points(200, 20, seed=1)
  direct, device = (exact_neighbors(x, y, k=3, small=s) for s in (10**9, 0))
  np.testing.assert_array_equal(direct.index, device.index)
  np.testing.assert_array_equal(direct.distance, device.distance)


@pytest.mark.parametrize(
  ('offset', 'scale'), [(1e9, 1.0), (0, 1e-60), (0, 1e60)]
)
def test_float64_offsets_and_magnitudes(offset, scale):
  """The device sees float32 only after centring and scaling."""
  x, y = points(30, 4), points(80, 4, seed=1)
  near = exact_neighbors(x, y, k=2)
  moved = exact_neighbors(offset + scale * x, offset + scale * y, k=2, small=0)
  np.testing.assert_array_equal(moved.index, near.index)
  np.testing.assert_allclose(moved.distance, scale * near.distance, rtol=2e-6)


def test_a_query_beyond_float32():
  x, y = points(3, 4), points(80, 4, seed=1)
  x[1] *= 1e50
  near, far = (exact_neighbors(x, y, small=small) for small in (10**9, 0))
  np.testing.assert_array_equal(far.index, near.index)
  ((_, (inside,)),) = within_radius(x, y, [1.0], small=0)
  np.testing.assert_array_equal(inside, all_distances(x, y, 'euclidean') < 1)


def test_blocks_change_nothing(monkeypatch):
  x, y = points(31, 3), points(47, 3, seed=1)
  run = lambda small: (
    exact_neighbors(x, y, k=12, small=small),
    np.concatenate([i for _, (i,) in within_radius(x, y, [0.7], small=small)]),
  )
  for small in (0, 10**9):
    expected = run(small)
    with monkeypatch.context() as patch:
      patch.setattr(distances, '_BLOCK', 100)
      near, inside = run(small)
    np.testing.assert_array_equal(near.index, expected[0].index)
    np.testing.assert_array_equal(near.distance, expected[0].distance)
    np.testing.assert_array_equal(inside, expected[1])


@pytest.mark.parametrize('small', [0, 10**9])
@pytest.mark.parametrize('metric', ['euclidean', 'cosine'])
def test_balls_hold_the_points_that_are_strictly_inside(metric, small):
  x, y = points(40, 3) + 1, points(90, 3, seed=1) + 1
  d = all_distances(x, y, metric)
  # Radii that end exactly at a point: it is outside.
  near = exact_neighbors(y, x, metric=metric, k=5, small=small)
  inside = np.concatenate(
    [
      part
      for _, (part,) in within_radius(
        x, y, [near.distance[:, 4][None]], metric=metric, small=small
      )
    ]
  )
  np.testing.assert_array_equal(inside.sum(axis=0), np.full(90, 4))
  np.testing.assert_array_equal(inside, d < np.sort(d, axis=0)[4] * (1 - 1e-9))


def test_balls_of_duplicates_and_clusters():
  """Pairs whose matmul distance is pure rounding are decided directly."""
  rng = np.random.default_rng(0)
  side = 200 * rng.integers(0, 2, size=(60, 1)) - 100
  x = side + 1e-3 * rng.normal(size=(60, 8))
  x[30:] = x[:30]
  d = all_distances(x, x, 'euclidean')
  for radius in (0.0, 1e-12, 3e-3, 1e4):
    for small in (0, 10**9):
      ((start, (inside,)),) = within_radius(x, x, [radius], small=small)
      assert start == 0
      np.testing.assert_array_equal(inside, d < radius)


def test_sample_sets_flatten_and_convert():
  images = np.random.default_rng(0).integers(0, 255, (5, 2, 2, 3), np.uint8)
  x, y = sample_sets(x=images, y=jax.numpy.ones((3, 12)))
  assert x.shape == (5, 12)
  assert x.dtype == y.dtype == np.float64


@pytest.mark.parametrize(
  ('metric', 'sets', 'message'),
  [
    ('euclidean', {'train': [[1.0], [np.nan]]}, r'train\[1, 0\]=nan: .*finite'),
    ('euclidean', {'train': [1.0, 2.0]}, r'train has shape \(2,\): expected'),
    ('euclidean', {'train': np.empty((0, 3))}, r'train has shape \(0, 3\)'),
    ('euclidean', {'train': [['a']]}, 'train has dtype'),
    ('manhattan', {'train': [[1.0]]}, "metric='manhattan'"),
    (
      'euclidean',
      {'train': [[1.0]], 'test': [[1.0, 2.0]]},
      'test has 2 features and train 1',
    ),
    (
      'cosine',
      {'train': [[1.0], [0.0], [0.0]]},
      r'train\[1\] is a zero .*2 of 3',
    ),
  ],
)
def test_bad_sets_are_named(metric, sets, message):
  with pytest.raises(ValueError, match=message):
    sample_sets(metric, **sets)


def test_tracers_are_refused_with_a_hint():
  with pytest.raises(ValueError, match='call nearest_neighbors'):
    jax.jit(lambda x: sample_sets(train=x))(np.ones((2, 2)))
