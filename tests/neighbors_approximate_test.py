import numpy as np
import pytest

from memjax import neighbors_approximate
from memjax.distances import exact_neighbors
from memjax.neighbors_approximate import (
  INDEXES,
  approximate_neighbors,
  approximate_search,
)


def points(*shape, seed=0):
  return np.random.default_rng(seed).normal(size=shape)


@pytest.mark.parametrize('index', INDEXES)
@pytest.mark.parametrize('metric', ['euclidean', 'cosine'])
def test_most_neighbours_are_found_and_measured_exactly(index, metric):
  x, y = points(60, 6), points(3000, 6, seed=1)
  near = approximate_neighbors(x, y, metric=metric, k=5, index=index)
  exact = exact_neighbors(x, y, metric=metric, k=5)
  is_right = near.index == exact.index
  assert is_right.mean() > (0.99 if index == 'exact' else 0.7)
  np.testing.assert_allclose(
    near.distance[is_right], exact.distance[is_right], rtol=1e-12
  )
  assert (near.distance >= exact.distance - 1e-12).all()
  found = [
    len(set(a) & set(b)) for a, b in zip(near.index, exact.index, strict=True)
  ]
  np.testing.assert_allclose(near.recall, np.mean(found) / 5)


@pytest.mark.parametrize('index', ['ivf', 'hnsw'])
def test_near_duplicates_are_measured_right(index):
  """Where faiss itself is off by 20 %."""
  rng = np.random.default_rng(0)
  y = rng.uniform(size=(1000, 3072)).astype(np.float32)
  x = y[:100] + 1e-3 * rng.normal(size=(100, 3072))
  near = approximate_neighbors(x, y, index=index, num_checked=20)
  np.testing.assert_array_equal(near.index[:, 0], np.arange(100))
  np.testing.assert_allclose(
    near.distance[:, 0], np.linalg.norm(x - y[:100], axis=1), rtol=1e-12
  )
  assert near.recall == 1.0


def test_an_offset_costs_no_recall():
  x, y = points(50, 16), points(2000, 16, seed=1)
  plain = approximate_neighbors(x, y, index='ivf', k=3)
  moved = approximate_neighbors(500 + 0.2 * x, 500 + 0.2 * y, index='ivf', k=3)
  assert moved.recall > plain.recall - 0.05


def test_memory_maps_are_read_in_chunks(tmp_path, monkeypatch):
  y = points(2500, 5).astype(np.float32)
  mapped = np.memmap(tmp_path / 'y', np.float32, 'w+', shape=y.shape)
  mapped[:] = y
  monkeypatch.setattr(neighbors_approximate, '_CHUNK', 700)
  for index in INDEXES:
    near = approximate_neighbors(y[::100], mapped, index=index, k=2)
    np.testing.assert_array_equal(near.index[:, 0], np.arange(0, 2500, 100))
    np.testing.assert_array_equal(near.distance[:, 0], np.zeros(25))
  expected = exact_neighbors(y[::100].astype(float), y.astype(float), k=2)
  near = approximate_neighbors(y[::100], mapped, index='exact', k=2)
  np.testing.assert_array_equal(near.index, expected.index)


def test_few_references():
  near = approximate_neighbors(points(3, 2), points(4, 2), k=4, index='ivf')
  np.testing.assert_array_equal(
    np.sort(near.index), np.tile(np.arange(4), (3, 1))
  )
  assert near.recall == 1.0
  near = approximate_neighbors(points(3, 2), points(4, 2), num_checked=0)
  assert np.isnan(near.recall)


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    ({'index': 'hnws'}, "index='hnws': .*mean 'hnsw'"),
    ({'k': 21}, r'k=21: .*\[1, 20\]'),
    ({'num_candidates': 1, 'k': 2}, 'num_candidates=1: .* 2 or more'),
    ({'queries': np.zeros((3, 3))}, 'references has 2 features and queries 3'),
    ({'references': np.full((20, 2), np.nan)}, r'references\[0, 0\]=nan'),
  ],
)
def test_bad_arguments_are_named(arguments, message):
  arguments = {
    'queries': np.ones((3, 2)), 'references': np.ones((20, 2)), **arguments
  }  # fmt: skip
  with pytest.raises(ValueError, match=message):
    approximate_neighbors(**arguments)


@pytest.mark.parametrize('metric', ['euclidean', 'cosine'])
@pytest.mark.parametrize('index', ['hnsw', 'ivf'])
def test_a_search_that_is_built_once_agrees(metric, index):
  rng = np.random.default_rng(0)
  x, queries = rng.normal(size=(300, 5)), rng.normal(size=(20, 5))
  search = approximate_search(
    x, metric=metric, index=index, num_candidates=300, num_probes=99
  )
  exact = approximate_neighbors(queries, x, metric=metric, index='exact')
  for part in (slice(0, 20), slice(3, 4)):
    distance, found = search(queries[part])
    np.testing.assert_allclose(distance, exact.distance[part, 0])
    assert (found == exact.index[part, 0]).all()


def test_one_thread_builds_the_graph(monkeypatch):
  """Several would link by who comes first: another index at each start."""
  faiss = pytest.importorskip('faiss')
  seen, add = [], faiss.IndexHNSWFlat.add
  monkeypatch.setattr(
    faiss.IndexHNSWFlat,
    'add',
    lambda *a: seen.append(faiss.omp_get_max_threads()) or add(*a),
  )
  before = faiss.omp_get_max_threads()
  faiss.omp_set_num_threads(2)
  try:
    approximate_search(np.eye(5))
    after = faiss.omp_get_max_threads()
  finally:
    faiss.omp_set_num_threads(before)
  assert (seen, after) == ([1], 2)


def test_a_zero_query_is_far_from_everything():
  search = approximate_search(np.eye(3), metric='cosine')
  for queries in (np.zeros((2, 3)), np.diag([1.0, 0.0, 2.0])):
    expected = np.where(queries.any(axis=1), 0.0, 1.0)
    np.testing.assert_allclose(search(queries)[0], expected, atol=1e-12)
