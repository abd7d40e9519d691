"""Cells of the sample space, and distances to the training set within them."""

import warnings
from typing import Any, NamedTuple

import numpy as np
import scipy.stats
from jaxtyping import Float, Int

from memjax import validate
from memjax.distances import exact_neighbors, sample_sets
from memjax.types import Labels, Samples

__all__ = [
  'CellDistances',
  'NoCellLeft',
  'RankedCells',
  'cell_weights',
  'check_labels',
  'chunk_sizes',
  'data_copying_distances',
  'distances_of_cell',
  'make_cells',
  'rank_cells',
  'rank_z',
  'weighted_mean',
  'z_of_rank_sum',
]

Vector = Int[np.ndarray, ' _']


class NoCellLeft(ValueError):
  """No cell has training and test points and enough generated samples."""


class CellDistances(NamedTuple):
  """Distances to the training set: all that C_T depends on.

  Attributes:
    test: [n], from each test point to its nearest training point anywhere.
    generated: [m], the same for generated samples.
    test_in_cell: [n], to the nearest training point of the same cell; NaN if
      that cell has none.
    generated_in_cell: [m], the same for generated samples.
    test_cell: int [n].
    generated_cell: int [m].
    num_train: int [cells], training points in each cell.
  """

  test: Float[np.ndarray, ' n']
  generated: Float[np.ndarray, ' m']
  test_in_cell: Float[np.ndarray, ' n']
  generated_in_cell: Float[np.ndarray, ' m']
  test_cell: Int[np.ndarray, ' n']
  generated_cell: Int[np.ndarray, ' m']
  num_train: Int[np.ndarray, ' cells']


def data_copying_distances(
  train: Samples,
  test: Samples,
  generated: Samples,
  *,
  cells: tuple[Labels, Labels, Labels] | None = None,
  num_cells: int = 5,
  metric: str = 'euclidean',
  seed: int = 0,
  num_components: int | None = None,
) -> CellDistances:
  """Measures how far test and generated samples are from the training set.

  The search of an audit, done once; `data_copying_cells` and
  `data_copying_interval` go on from here.

  Args:
    train: [l, …].
    test: [n, …].
    generated: [m, …].
    cells: optional (train, test, generated) labels, integers from 0; None:
      `make_cells`.
    num_cells: number of k-means cells.
    metric: 'euclidean' | 'cosine', of the distances.
    seed: of k-means.
    num_components: PCA dimensions for the cells only.

  Returns:
    CellDistances, in units of the metric.

  Raises:
    ValueError: as for `data_copying_test`, but for cells that are left out.

  Example:
    >>> line = np.arange(4.0)[:, None]
    >>> distances = data_copying_distances(
    ...   line, line + 0.25, line, cells=([0, 0, 1, 1],) * 3
    ... )
    >>> distances.test, distances.generated_in_cell
    (array([0.25, 0.25, 0.25, 0.25]), array([0., 0., 0., 0.]))
  """
  train, test, generated = sample_sets(
    metric, train=train, test=test, generated=generated
  )
  if cells is None:
    cells = make_cells(
      train, test, generated, num_cells=num_cells, seed=seed,
      num_components=num_components,
    )  # fmt: skip
  sizes = len(train), len(test), len(generated)
  train_cell, test_cell, generated_cell = check_labels('cells', cells, sizes)
  query_cell = np.concatenate([test_cell, generated_cell])
  num_train = np.bincount(train_cell, minlength=query_cell.max() + 1)
  # Test and generated points are measured in one search, so that equal points
  # tie.
  queries = np.concatenate([test, generated])
  near = exact_neighbors(queries, train, metric=metric).distance[:, 0]
  in_cell = np.full(len(queries), np.nan)
  for cell in np.flatnonzero(num_train):
    rows = query_cell == cell
    in_cell[rows] = exact_neighbors(
      queries[rows], train[train_cell == cell], metric=metric
    ).distance[:, 0]
  n = len(test)
  return CellDistances(
    near[:n], near[n:], in_cell[:n], in_cell[n:], test_cell, generated_cell,
    num_train,
  )  # fmt: skip


def make_cells(
  train: Samples,
  test: Samples,
  generated: Samples,
  *,
  num_cells: int = 5,
  seed: int = 0,
  num_components: int | None = None,
) -> tuple[Vector, Vector, Vector]:
  """Cuts the space into the k-means cells of the training set.

  Neither test nor generated samples move a cell: they are only assigned to the
  nearest centre, after the same PCA if there is one.

  Args:
    train: [l, …].
    test: [n, …].
    generated: [m, …].
    num_cells: number of cells, up to the number of distinct training points.
    seed: of k-means (10 starts) and of PCA.
    num_components: number of principal components, None for no PCA.

  Returns:
    The cells of train [l], test [n] and generated [m], integers from 0.

  Raises:
    ValueError: too many cells or components for the training set.

  Example:
    >>> line = np.array([[0.0], [1.0], [10.0], [11.0]])
    >>> cells = make_cells(line, line + 2, line - 2, num_cells=2)
    >>> [bool((c == cells[0]).all()) for c in cells]
    [True, True, True]
  """
  # scikit-learn takes a second to import and serves nothing but this.
  from sklearn.cluster import KMeans
  from sklearn.decomposition import PCA
  from sklearn.exceptions import ConvergenceWarning

  sets: Any = sample_sets(train=train, test=test, generated=generated)
  validate.integer('num_cells', num_cells, 1, len(sets[0]))
  validate.integer('seed', seed, 0)
  if num_components is not None:
    validate.integer('num_components', num_components, 1, min(sets[0].shape))
    pca = PCA(num_components, random_state=seed).fit(sets[0])
    sets = [pca.transform(points) for points in sets]
  # One cell needs no search for its centre.
  starts = 10 if num_cells > 1 else 1
  with warnings.catch_warnings():
    warnings.simplefilter('error', ConvergenceWarning)
    try:
      kmeans = KMeans(num_cells, n_init=starts, random_state=seed).fit(sets[0])
    except ConvergenceWarning as warning:
      raise ValueError(
        f'num_cells={num_cells}: expected no more than there are distinct '
        f'training points, {len(np.unique(sets[0], axis=0))}.'
      ) from warning
  cells: list[Any] = [kmeans.predict(x).astype(np.int64) for x in sets]
  return cells[0], cells[1], cells[2]


def check_labels(
  name: str, labels: tuple[Labels, Labels, Labels], sizes: tuple[int, ...]
) -> list[Vector]:
  """Returns (train, test, generated) labels as int64 arrays, one a sample."""
  checked = []
  sets = ('train', 'test', 'generated')
  for position, (of, size, part) in enumerate(
    zip(sets, sizes, labels, strict=True)
  ):
    part = validate.host_array(f'{name}[{position}]', part, rank=1)
    if len(part) != size or part.dtype.kind not in 'iu':
      raise ValueError(
        f'{name}[{position}] has {len(part)} entries of dtype {part.dtype}: '
        f'expected {size} integers, one for each sample of {of}.'
      )
    if part.min() < 0:
      raise ValueError(
        f'{name}[{position}] holds {part.min()}: expected labels from 0.'
      )
    checked.append(part.astype(np.int64))
  return checked


class RankedCells(NamedTuple):
  """What a cell's Z_U and its null need.

  Attributes:
    ranks: for each cell the ranks of the pooled distances, generated samples
      first; empty where training, test or generated points are missing.
    num_generated: int [cells], 0 there.
    z_u: [cells], NaN there. NEGATIVE = copying.
    null_mean: [cells], mean of z_u if the labels are permuted.
    null_std: [cells], its standard deviation, with ties accounted for.
  """

  ranks: tuple[Float[np.ndarray, ' _'], ...]
  num_generated: Int[np.ndarray, ' cells']
  z_u: Float[np.ndarray, ' cells']
  null_mean: Float[np.ndarray, ' cells']
  null_std: Float[np.ndarray, ' cells']


def rank_cells(distances: CellDistances) -> RankedCells:
  """Ranks the distances of each cell, and computes Z_U with its moments."""
  num_cells = len(distances.num_train)
  ranks, num_generated = [], np.zeros(num_cells, np.int64)
  moments = np.full((3, num_cells), np.nan)
  for cell in range(num_cells):
    test, generated = distances_of_cell(distances, cell)
    ranks.append(scipy.stats.rankdata(np.concatenate([generated, test])))
    n, m = len(test), len(generated)
    num_generated[cell] = m
    if not m:
      continue
    spread = np.sqrt(n * m * (n + m + 1) / 12)
    moments[0, cell] = z_of_rank_sum(ranks[-1][:m].sum(), m, n)
    moments[1, cell] = 0.5 / spread
    # The variance of a sum of m ranks drawn without replacement from N.
    variance = n * m / (n + m) * ranks[-1].var(ddof=1)
    moments[2, cell] = np.sqrt(variance) / spread
  return RankedCells(tuple(ranks), num_generated, *moments)


def distances_of_cell(
  distances: CellDistances, cell: int | np.integer
) -> tuple[Float[np.ndarray, ' _'], Float[np.ndarray, ' _']]:
  """Test and generated distances of a cell; both empty if a set is missing."""
  test = distances.test_in_cell[distances.test_cell == cell]
  generated = distances.generated_in_cell[distances.generated_cell == cell]
  if len(test) and len(generated) and distances.num_train[cell]:
    return test, generated
  return np.empty(0), np.empty(0)


def cell_weights(
  distances: CellDistances,
  min_cell_share: float | None = None,
  *,
  allow_none: bool = False,
) -> Float[np.ndarray, ' cells']:
  """Shares of the test points, over the cells that C_T keeps.

  Args:
    distances: of all samples.
    min_cell_share: τ; kept are cells with a strictly larger share of the
      generated samples. None: 20 over their number.
    allow_none: return zeros if no cell is kept, instead of raising.

  Raises:
    ValueError: no cell is kept, τ outside [0, 1].
  """
  num_cells = len(distances.num_train)
  num_generated = np.bincount(distances.generated_cell, minlength=num_cells)
  num_test = np.bincount(distances.test_cell, minlength=num_cells)
  total = len(distances.generated)
  if min_cell_share is None:
    min_cell_share = min(1.0, 20 / total)
  min_cell_share = validate.real('min_cell_share', min_cell_share, 0.0, 1.0)
  kept = num_generated / total > min_cell_share
  kept &= (num_test > 0) & (distances.num_train > 0)
  if kept.any():
    return np.where(kept, num_test, 0) / num_test[kept].sum()
  if allow_none:
    return np.zeros(num_cells)
  raise NoCellLeft(
    f'no cell is left: of {total} generated samples the cells hold '
    f'{num_generated.tolist()}, test points {num_test.tolist()}, training '
    f'points {distances.num_train.tolist()}. Expected one with test and '
    f'training points and a share of generated samples above '
    f'min_cell_share={min_cell_share:.4g}: take fewer cells or more samples.'
  )


def weighted_mean(
  values: Float[np.ndarray, ' cells'], weight: Float[np.ndarray, ' cells']
) -> float:
  """Σ w v over the cells with a weight; the others may be NaN."""
  return float(weight[weight > 0] @ values[weight > 0])


def rank_z(
  test_distance: Float[np.ndarray, ' _'],
  generated_distance: Float[np.ndarray, ' _'],
) -> float:
  """Z_U of two sets of distances to the training set. NEGATIVE = copying.

  Args:
    test_distance: [n].
    generated_distance: [m].

  Returns:
    (U − (nm/2 − ½)) / √(nm(n + m + 1)/12), with U the number of pairs in which
    the generated distance is larger, ties ½.

  Example:
    >>> rank_z(np.array([1.0, 2.0]), np.array([1.0, 2.0])).__round__(3)
    0.387
  """
  num_generated = len(generated_distance)
  ranks = scipy.stats.rankdata(
    np.concatenate([generated_distance, test_distance])
  )
  rank_sum = ranks[:num_generated].sum()
  return float(z_of_rank_sum(rank_sum, num_generated, len(test_distance)))


def z_of_rank_sum(
  rank_sum: Float[np.ndarray, '...'] | np.floating,
  num_generated: int | np.integer,
  num_test: int | np.integer,
) -> Float[np.ndarray, '...'] | np.floating:
  """Z_U from the sum of the ranks of the generated samples."""
  m, n = int(num_generated), int(num_test)
  u = rank_sum - m * (m + 1) / 2
  return (u - (n * m / 2 - 0.5)) / np.sqrt(n * m * (n + m + 1) / 12)


def chunk_sizes(total: int, width: int) -> list[int]:
  """Splits `total` rows of `width` numbers into chunks of about 32 MB."""
  size = max(1, 2**22 // max(1, width))
  full, rest = divmod(total, size)
  return [size] * full + [rest] * (rest > 0)
