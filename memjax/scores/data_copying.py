"""The three-sample data-copying test C_T, with a null, for any samples.

Do generated samples lie closer to the training set than test points do? The
question is asked cell by cell, so that copying in one region cannot hide
behind too wide a spread in another. NEGATIVE = copying.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from memjax import stats, validate
from memjax.distances import sample_sets
from memjax.scores.cells import (
  CellDistances,
  Labels,
  NoCellLeft,
  RankedCells,
  Samples,
  cell_weights,
  check_labels,
  chunk_sizes,
  data_copying_distances,
  rank_cells,
  rank_z,
  weighted_mean,
  z_of_rank_sum,
)

__all__ = [
  'ClasswiseDataCopying',
  'DataCopyingTest',
  'classwise_data_copying',
  'data_copying_test',
  'data_copying_test_of',
]


class DataCopyingTest(NamedTuple):
  """C_T and what it is made of. NEGATIVE = copying.

  Attributes:
    c_t: C_T, the weighted mean of the kept cells' Z_U. Not a z-score: its null
      standard deviation is `null_std`, about 1/√cells.
    z_u: Z_U of all samples together, without cells.
    cell_z_u: [cells], Z_U of each cell; NaN for a cell that lacks training,
      test or generated points.
    cell_weight: [cells], the share of the test points, over the kept cells; 0
      for a cell that is left out.
    null_std: standard deviation of C_T under permuted labels. Its null mean is
      not 0 either, but the shift of Z_U by +½: see `data_copying_cells`.
    p_value: one-sided, small = copying.
  """

  c_t: float
  z_u: float
  cell_z_u: Float[np.ndarray, ' cells']
  cell_weight: Float[np.ndarray, ' cells']
  null_std: float
  p_value: float


class ClasswiseDataCopying(NamedTuple):
  """C_T of each class, and of their plain mean. NEGATIVE = copying.

  Attributes:
    label: int [classes].
    c_t: [classes]; NaN for a class of which no cell is left.
    null_mean: [classes], mean of c_t under permuted labels.
    null_std: [classes].
    p_value: [classes], one-sided, small = copying.
    mean_c_t: the mean over classes with a value.
    mean_null_mean: its mean under permuted labels.
    mean_null_std: its standard deviation under permuted labels.
    mean_p_value: one-sided, small = copying.
  """

  label: Int[np.ndarray, ' classes']
  c_t: Float[np.ndarray, ' classes']
  null_mean: Float[np.ndarray, ' classes']
  null_std: Float[np.ndarray, ' classes']
  p_value: Float[np.ndarray, ' classes']
  mean_c_t: float
  mean_null_mean: float
  mean_null_std: float
  mean_p_value: float


def data_copying_test(
  train: Samples,
  test: Samples,
  generated: Samples,
  *,
  cells: tuple[Labels, Labels, Labels] | None = None,
  num_cells: int = 5,
  metric: str = 'euclidean',
  min_cell_share: float | None = None,
  seed: int = 0,
  num_components: int | None = None,
  num_permutations: int = 1000,
) -> DataCopyingTest:
  """Tests whether generated samples lie closer to train than test points do.

    C_T = Σ_{π kept} P(π) Z_U(π) / Σ_{π kept} P(π)
    Z_U = (U − (nm/2 − ½)) / √(nm(n + m + 1)/12)

  with P(π) the share of the n `test` points in cell π, and U the number of
  pairs of a generated sample and a test point of the cell in which the
  generated one is farther from its nearest training point OF THAT CELL, ties
  counted ½. A cell is kept if its share of the m `generated` samples is
  strictly above `min_cell_share` and it holds test and training points.

  SIGN: NEGATIVE = generated samples are closer to the training set = copying;
  positive = they are farther away than test points (too wide, noisy).

  The p-value permutes the labels test/generated within each cell, which keeps
  every count, and is exact: p = (1 + #{C_T* ≤ C_T}) / (1 + P). The ½ in Z_U
  shifts the null mean of C_T above 0 and is in C_T* as well. The variance in
  Z_U has no correction for ties; `null_std` has.

  C_T depends on the sample sizes: values against different test sets are not
  on one scale.

  Args:
    train: [l, …], the training set.
    test: [n, …], held-out data of the same distribution.
    generated: [m, …].
    cells: optional (train, test, generated) labels, integers from 0. None:
      k-means on the training set alone, always Euclidean.
    num_cells: number of k-means cells. Without effect if `cells` are given.
    metric: 'euclidean' | 'cosine' (1 − cos), of the neighbour distances.
    min_cell_share: τ; None is 20/m, so that a cell needs 21 generated samples.
    seed: of k-means and of the permutations.
    num_components: PCA dimensions (fitted on train) for the cells only.
    num_permutations: P.

  Returns:
    DataCopyingTest(c_t, z_u, cell_z_u, cell_weight, null_std, p_value).

  Raises:
    ValueError: no cell is left, unequal numbers of features or labels, fewer
      distinct training points than cells, NaN, zero vectors under 'cosine'.

  Example:
    >>> rng = np.random.default_rng(0)
    >>> train, test = rng.normal(size=(300, 2)), rng.normal(size=(200, 2))
    >>> copies = train[:200] + 0.01 * rng.normal(size=(200, 2))
    >>> result = data_copying_test(train, test, copies, num_cells=2)
    >>> result.c_t < -8, result.p_value < 0.01
    (True, True)

  Reference:
    Meehan et al. (2020), A non-parametric test to detect data-copying in
    generative models; sign, shift, ties and strictness as in its public code.
  """
  num_permutations = validate.integer('num_permutations', num_permutations, 1)
  seed = validate.integer('seed', seed, 0)
  distances = data_copying_distances(
    train,
    test,
    generated,
    cells=cells,
    num_cells=num_cells,
    metric=metric,
    seed=seed,
    num_components=num_components,
  )
  return data_copying_test_of(
    distances,
    min_cell_share=min_cell_share,
    num_permutations=num_permutations,
    seed=seed,
  )


def data_copying_test_of(
  distances: CellDistances,
  *,
  min_cell_share: float | None = None,
  num_permutations: int = 1000,
  seed: int = 0,
) -> DataCopyingTest:
  """C_T of distances that were measured before; see `data_copying_test`.

  Args:
    distances: from `data_copying_distances`.
    min_cell_share: τ.
    num_permutations: P.
    seed: of the permutations.

  Raises:
    ValueError: no cell is left, an argument out of range.
  """
  num_permutations = validate.integer('num_permutations', num_permutations, 1)
  ranked = rank_cells(distances)
  weight = cell_weights(distances, min_cell_share)
  c_t = weighted_mean(ranked.z_u, weight)
  nulls = _null_c_t(
    ranked, weight, num_permutations, np.random.default_rng(seed)
  )
  return DataCopyingTest(
    c_t=c_t,
    z_u=rank_z(distances.test, distances.generated),
    cell_z_u=ranked.z_u,
    cell_weight=weight,
    null_std=_null_std(ranked, weight),
    p_value=stats.permutation_p_value(c_t, nulls, alternative='less'),
  )


def classwise_data_copying(
  train: Samples,
  test: Samples,
  generated: Samples,
  *,
  labels: tuple[Labels, Labels, Labels],
  num_cells: int = 5,
  metric: str = 'euclidean',
  min_cell_share: float | None = None,
  seed: int = 0,
  num_components: int | None = None,
  num_permutations: int = 1000,
) -> ClasswiseDataCopying:
  """C_T of each class against its own training points, and their mean.

  Each class is a test of its own: cells are fitted, neighbours searched and
  shares counted among its samples alone.

  Args:
    train: [l, …].
    test: [n, …].
    generated: [m, …].
    labels: (train [l], test [n], generated [m]), the classes, from 0.
    num_cells: number of k-means cells a class.
    metric: 'euclidean' | 'cosine'.
    min_cell_share: τ of a class; None is 20 over its generated samples.
    seed: of k-means and of the permutations.
    num_components: PCA dimensions for the cells, fitted on a class.
    num_permutations: P.

  Returns:
    ClasswiseDataCopying. NEGATIVE = copying. A class that lacks points of one
    set, or whose cells all hold too few generated samples, has NaN and is left
    out of the mean.

  Raises:
    ValueError: no class has a value; as for `data_copying_test`.

  Example:
    >>> rng = np.random.default_rng(0)
    >>> train, test, generated = rng.normal(size=(3, 200, 2))
    >>> label = np.arange(200) % 2
    >>> generated[label == 1] = train[label == 1]
    >>> result = classwise_data_copying(
    ...   train, test, generated, labels=(label,) * 3, num_cells=2
    ... )
    >>> bool(result.p_value[1] < 0.01 < result.p_value[0])
    True

  Reference:
    Bai et al. (2022), section 5; a class mean reproduces its statements.
  """
  num_permutations = validate.integer('num_permutations', num_permutations, 1)
  sets = sample_sets(metric, train=train, test=test, generated=generated)
  classes = check_labels('labels', labels, tuple(map(len, sets)))
  names = np.unique(np.concatenate(classes))
  rng = np.random.default_rng(validate.integer('seed', seed, 0))
  tests = []
  for name in names:
    parts = [x[of == name] for x, of in zip(sets, classes, strict=True)]
    if len(parts[0]) < num_cells or not all(map(len, parts)):
      tests.append(_ClassTest(np.nan, np.nan, np.nan, np.array([])))
      continue
    distances = data_copying_distances(
      *parts,
      num_cells=num_cells,
      metric=metric,
      seed=seed,
      num_components=num_components,
    )
    tests.append(_class_test(distances, min_cell_share, num_permutations, rng))
  return _collect(names, tests)


class _ClassTest(NamedTuple):
  """The test of one class; NaN and no null values if it has no cells."""

  c_t: float
  null_mean: float
  null_std: float
  nulls: Float[np.ndarray, ' _']


def _class_test(
  distances: CellDistances, min_cell_share, num_permutations: int, rng
) -> _ClassTest:
  ranked = rank_cells(distances)
  weight = cell_weights(distances, min_cell_share, allow_none=True)
  if not weight.any():
    return _ClassTest(np.nan, np.nan, np.nan, np.array([]))
  return _ClassTest(
    weighted_mean(ranked.z_u, weight),
    weighted_mean(ranked.null_mean, weight),
    _null_std(ranked, weight),
    _null_c_t(ranked, weight, num_permutations, rng),
  )


def _collect(names, tests: list[_ClassTest]) -> ClasswiseDataCopying:
  """Joins the classes; their null values are drawn independently."""
  c_t, null_mean, null_std = (
    np.array([test[field] for test in tests]) for field in range(3)
  )
  valid = np.flatnonzero(np.isfinite(c_t))
  if not len(valid):
    raise NoCellLeft(
      f'labels: none of the {len(names)} classes has a cell with training and '
      'test points and enough generated samples: expected one or more.'
    )
  p_value = lambda value, nulls: stats.permutation_p_value(
    value, nulls, alternative='less'
  )
  mean = float(c_t[valid].mean())
  mean_nulls = np.mean([tests[i].nulls for i in valid], axis=0)
  return ClasswiseDataCopying(
    label=names,
    c_t=c_t,
    null_mean=null_mean,
    null_std=null_std,
    p_value=np.array(
      [p_value(t.c_t, t.nulls) if len(t.nulls) else np.nan for t in tests]
    ),
    mean_c_t=mean,
    mean_null_mean=float(null_mean[valid].mean()),
    mean_null_std=float(np.sqrt((null_std[valid] ** 2).sum()) / len(valid)),
    mean_p_value=p_value(mean, mean_nulls),
  )


def _null_std(ranked: RankedCells, weight: Float[np.ndarray, ' _']) -> float:
  """√Σ w² s², with s the standard deviation of Z_U of a cell, 1 but for ties.

  Permuting within cells makes their Z_U independent.
  """
  kept = weight > 0
  return float(np.linalg.norm(weight[kept] * ranked.null_std[kept]))


def _null_c_t(
  ranked: RankedCells,
  weight: Float[np.ndarray, ' _'],
  num_permutations: int,
  rng: np.random.Generator,
) -> Float[np.ndarray, ' _']:
  """C_T under permutations of the labels test/generated within each cell.

  U is a sum of ranks, so that a permutation costs one pass over the pooled
  ranks and no search.
  """
  c_t = np.zeros(num_permutations)
  for cell in np.flatnonzero(weight):
    ranks, m = ranked.ranks[cell], ranked.num_generated[cell]
    rank_sum = np.empty(num_permutations)
    start = 0
    for count in chunk_sizes(num_permutations, len(ranks)):
      tiled = np.broadcast_to(ranks, (count, len(ranks)))
      permuted = rng.permuted(tiled, axis=1)[:, :m]
      rank_sum[start : start + count] = permuted.sum(axis=1)
      start += count
    c_t += weight[cell] * z_of_rank_sum(rank_sum, m, len(ranks) - m)
  return c_t
