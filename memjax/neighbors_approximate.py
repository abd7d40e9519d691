"""Approximate nearest neighbours in references too many to compare with.

The only module that imports faiss. Its float32 distances are wrong for
near-duplicates in large batches, so it nominates candidates, which are
measured by direct differences in float64; and it misses some neighbours, so
the share that it found is measured on some of the queries.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from memjax import validate
from memjax.distances import exact_neighbors, sample_sets, unit
from memjax.neighbors import METRICS
from memjax.types import Matrix, Points

__all__ = [
  'INDEXES',
  'ApproximateNeighbors',
  'approximate_neighbors',
  'approximate_search',
]

INDEXES = ('exact', 'ivf', 'hnsw')

# References read at a time.
_CHUNK = 100_000


class ApproximateNeighbors(NamedTuple):
  """Neighbours of each query, nearest first, and how many are the right ones.

  Attributes:
    distance: float64 [q, k], exact for the given index; inf for none found.
    index: int [q, k], row in the references; −1 for none found.
    recall: share of the true k nearest that were found, over some queries.
  """

  distance: Float[np.ndarray, 'q k']
  index: Int[np.ndarray, 'q k']
  recall: float


def approximate_neighbors(
  queries: Points,
  references: Points,
  *,
  metric: str = 'euclidean',
  k: int = 1,
  index: str = 'hnsw',
  num_candidates: int = 50,
  num_probes: int = 16,
  num_checked: int = 200,
  seed: int = 0,
) -> ApproximateNeighbors:
  """Finds most of the k nearest references of each query.

  A host function beside the exact `nearest_neighbors`, for references that
  need too much time or do not fit into memory: `references` may be a memory
  map, which is read in chunks. (HNSW and IVF keep a float32 copy of it.)

  Args:
    queries: [q, d].
    references: [r, d].
    metric: 'euclidean' | 'cosine' (1 − cos).
    k: number of neighbours, from 1 to r.
    index: 'hnsw', a graph: fast for repeated queries, slow to build; 'ivf',
      inverted lists of k-means cells: fast to build; 'exact', every reference,
      a chunk at a time: recall 1.
    num_candidates: nominated by faiss for each query, at least k; the more,
      the better the recall.
    num_probes: cells searched by 'ivf'.
    num_checked: queries whose exact neighbours are searched to measure recall;
      0 makes it NaN.
    seed: of the k-means sample and of the checked queries.

  Returns:
    ApproximateNeighbors(distance, index, recall).

  Raises:
    ValueError: unequal numbers of features, k out of range, NaN, zero vectors
      under 'cosine', an unknown index.

  Example:
    >>> x = np.random.default_rng(0).normal(size=(500, 8))
    >>> near = approximate_neighbors(x[:20] + 1e-3, x, index='ivf')
    >>> bool((near.index[:, 0] == np.arange(20)).all()), near.recall
    (True, 1.0)

  Reference:
    Malkov and Yashunin (2018) for HNSW; Jégou et al. (2011) for IVF; Douze et
    al. (2024), The Faiss library.
  """
  validate.one_of('index', index, INDEXES)
  validate.one_of('metric', metric, METRICS)
  queries, _ = sample_sets(metric, queries=queries, references=references[:1])
  k = validate.integer('k', k, 1, len(references))
  num_probes = validate.integer('num_probes', num_probes, 1)
  num_checked = validate.integer('num_checked', num_checked, 0)
  rng = np.random.default_rng(validate.integer('seed', seed, 0))
  if index == 'exact':
    return ApproximateNeighbors(
      *_exact_in_chunks(queries, references, metric, k), 1.0
    )
  num_candidates = validate.integer('num_candidates', num_candidates, k)
  search = _search(references, metric, index, num_probes, num_candidates, rng)
  distance, found = search(queries, k)
  recall = np.nan
  if num_checked:
    rows = rng.permutation(len(queries))[:num_checked]
    exact, _ = _exact_in_chunks(queries[rows], references, metric, k)
    # By distance, so that one of several equal neighbours is a right one.
    recall = (distance[rows] <= exact[:, -1:] * (1 + 1e-9)).mean()
  return ApproximateNeighbors(distance, found, float(recall))


def approximate_search(
  references: Points,
  *,
  metric: str = 'euclidean',
  index: str = 'hnsw',
  num_candidates: int = 50,
  num_probes: int = 16,
  seed: int = 0,
) -> Callable[[Points], tuple[np.ndarray, np.ndarray]]:
  """Builds an index once, for many small searches of the nearest reference.

  Args:
    references: [r, d]; may be a memory map.
    metric: 'euclidean' | 'cosine' (1 − cos).
    index: 'hnsw' | 'ivf', as in `approximate_neighbors`.
    num_candidates: nominated by faiss for each query.
    num_probes: cells searched by 'ivf'.
    seed: of the k-means sample.

  Returns:
    search(queries [q, d]) -> (distance float64 [q], index [q]); distances are
    exact for the given index, inf and −1 where faiss found none. A zero query
    has the cosine distance 1 to everything, as in `rejection.nearest`. A near
    reference may be missed: measure how often with `approximate_neighbors`.

  Raises:
    ValueError: NaN, zero vectors under 'cosine', an unknown index.

  Example:
    >>> x = np.random.default_rng(0).normal(size=(500, 8))
    >>> distance, index = approximate_search(x)(x[:3])
    >>> distance.tolist(), index.tolist()
    ([0.0, 0.0, 0.0], [0, 1, 2])
  """
  validate.one_of('index', index, INDEXES[1:])
  validate.one_of('metric', metric, METRICS)
  rng = np.random.default_rng(validate.integer('seed', seed, 0))
  search = _search(
    references,
    metric,
    index,
    validate.integer('num_probes', num_probes, 1),
    validate.integer('num_candidates', num_candidates, 1),
    rng,
  )

  def nearest(queries: Points) -> tuple[np.ndarray, np.ndarray]:
    queries = np.asarray(queries)
    distance, found = np.ones(len(queries)), np.zeros(len(queries), np.int64)
    is_some = queries.any(axis=1) if metric == 'cosine' else slice(None)
    if len(queries[is_some]):
      points, _ = sample_sets(
        metric, queries=queries[is_some], references=references[:1]
      )
      near = search(points, 1)
      distance[is_some], found[is_some] = (part[:, 0] for part in near)
    return distance, found

  return nearest


def _search(
  references, metric, index, num_probes, num_candidates, rng
) -> Callable[[Matrix, int], tuple[np.ndarray, np.ndarray]]:
  """A faiss index, and the k nearest of what it nominates."""
  convert = _converter(references, metric)
  built = _build(
    references, metric, index, num_probes, num_candidates, convert, rng
  )
  count = min(num_candidates, len(references))

  def search(queries: Matrix, k: int) -> tuple[np.ndarray, np.ndarray]:
    candidates = built.search(convert(queries), count)[1]
    return _measure(queries, references, candidates, metric, k)

  return search


def _chunks(references: Points, metric: str) -> Iterator[tuple[int, Matrix]]:
  """Checked float64 chunks and where they start."""
  for start in range(0, len(references), _CHUNK):
    chunk = references[start : start + _CHUNK]
    (points,) = sample_sets(metric, references=np.asarray(chunk))
    yield start, points


def _exact_in_chunks(
  queries: Matrix, references: Points, metric: str, k: int
) -> tuple[np.ndarray, np.ndarray]:
  """The exact k nearest, merged over chunks of the references."""
  distance = np.empty((len(queries), 0))
  index = np.empty((len(queries), 0), np.int64)
  for start, chunk in _chunks(references, metric):
    near = exact_neighbors(queries, chunk, metric=metric, k=min(k, len(chunk)))
    distance = np.concatenate([distance, near.distance], axis=1)
    index = np.concatenate([index, start + near.index], axis=1)
    distance, index = _nearest_columns(distance, index, k)
  return distance, index


def _nearest_columns(distance, index, k: int) -> tuple[np.ndarray, np.ndarray]:
  order = np.lexsort((index, distance), axis=1)[:, :k]
  return (
    np.take_along_axis(distance, order, axis=1),
    np.take_along_axis(index, order, axis=1),
  )


def _converter(references: Points, metric: str) -> Callable[[Matrix], Any]:
  """Makes float32 points whose Euclidean order is that of the metric.

  The mean of the first chunk is subtracted: in faiss, too, a large offset
  would cost the digits that distances need.
  """
  if metric == 'cosine':
    return lambda x: np.ascontiguousarray(unit(x), np.float32)
  centre = next(_chunks(references, metric))[1].mean(axis=0)
  return lambda x: np.ascontiguousarray(x - centre, np.float32)


def _build(
  references, metric, index, num_probes, num_candidates, convert, rng
) -> Any:
  """The faiss index that holds all references."""
  import faiss

  num_references, num_features = references.shape
  if index == 'hnsw':
    built = faiss.IndexHNSWFlat(num_features, 32)
    built.hnsw.efConstruction = 100
    built.hnsw.efSearch = 2 * num_candidates
  else:
    num_lists = max(
      1, min(round(4 * num_references**0.5), num_references // 39)
    )
    coarse = faiss.IndexFlatL2(num_features)
    built = faiss.IndexIVFFlat(coarse, num_features, num_lists)
    built.nprobe = min(num_probes, num_lists)
    built.cp.seed = int(rng.integers(2**31))
    size = min(num_references, 64 * num_lists)
    rows = np.sort(rng.choice(num_references, size, replace=False))
    (sample,) = sample_sets(metric, references=np.asarray(references[rows]))
    built.train(convert(sample))
  # Of several threads the first to come would decide on links: another index
  # at each start.
  threads = faiss.omp_get_max_threads()
  faiss.omp_set_num_threads(1 if index == 'hnsw' else threads)
  try:
    for _, chunk in _chunks(references, metric):
      built.add(convert(chunk))
  finally:
    faiss.omp_set_num_threads(threads)
  return built


def _measure(
  queries: Matrix, references: Points, candidates, metric: str, k: int
) -> tuple[np.ndarray, np.ndarray]:
  """The k nearest candidates of each query, by direct differences."""
  distance = np.full(candidates.shape, np.inf)
  rows = max(1, 2**22 // (candidates.shape[1] * queries.shape[1]))
  for start in range(0, len(queries), rows):
    part = slice(start, start + rows)
    index = candidates[part]
    wanted, place = np.unique(index[index >= 0], return_inverse=True)
    (points,) = sample_sets(metric, references=np.asarray(references[wanted]))
    x = np.repeat(queries[part], (index >= 0).sum(axis=1), axis=0)
    distance[part][index >= 0] = _row_distances(x, points[place], metric)
  return _nearest_columns(distance, candidates.astype(np.int64), k)


def _row_distances(x: Matrix, y: Matrix, metric: str) -> np.ndarray:
  if metric == 'cosine':
    x, y = unit(x), unit(y)
  squared = np.square(x - y).sum(axis=1)
  return squared / 2 if metric == 'cosine' else np.sqrt(squared)
