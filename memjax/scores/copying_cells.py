"""Where a generator copies, and how sure C_T is."""

from typing import NamedTuple

import numpy as np
import scipy.stats
from jaxtyping import Bool, Float, Int

from memjax import stats, validate
from memjax.scores.cells import (
  CellDistances,
  cell_weights,
  chunk_sizes,
  distances_of_cell,
  rank_cells,
)

__all__ = ['DataCopyingCells', 'data_copying_cells', 'data_copying_interval']


class DataCopyingCells(NamedTuple):
  """Which cells copy, and by which samples. NEGATIVE z_u = copying.

  Attributes:
    z_u: [cells], NaN where training, test or generated points are missing.
    weight: [cells], as in C_T; 0 = left out of it.
    num_train: int [cells].
    num_test: int [cells].
    num_generated: int [cells].
    null_mean: [cells], mean of z_u under permuted labels: the shift by +½.
    null_std: [cells], its standard deviation, 1 without ties.
    p_value: [cells], one-sided Mann-Whitney, small = copying. NaN with z_u.
    q_value: [cells], Benjamini-Hochberg over the kept cells; NaN elsewhere.
    is_copying: bool [cells], q_value ≤ level.
    suspicious: int, generated samples of copying cells that are closer to the
      training set than a share `level` of the cell's test points, closest
      first (relative to the cell's median test distance).
  """

  z_u: Float[np.ndarray, ' cells']
  weight: Float[np.ndarray, ' cells']
  num_train: Int[np.ndarray, ' cells']
  num_test: Int[np.ndarray, ' cells']
  num_generated: Int[np.ndarray, ' cells']
  null_mean: Float[np.ndarray, ' cells']
  null_std: Float[np.ndarray, ' cells']
  p_value: Float[np.ndarray, ' cells']
  q_value: Float[np.ndarray, ' cells']
  is_copying: Bool[np.ndarray, ' cells']
  suspicious: Int[np.ndarray, ' s']


def data_copying_cells(
  distances: CellDistances,
  *,
  min_cell_share: float | None = None,
  level: float = 0.05,
) -> DataCopyingCells:
  """Says which cells copy, and names the samples to look at.

  Args:
    distances: from `data_copying_distances`.
    min_cell_share: as for `data_copying_test`.
    level: false discovery rate over cells, and the share of test points by
      whose distances a sample counts as suspicious; of an honest generator's
      samples this share would lie that close.

  Returns:
    DataCopyingCells. NEGATIVE z_u = copying.

  Raises:
    ValueError: no cell is left, `level` outside (0, 1).

  Example:
    >>> from memjax.scores.cells import data_copying_distances
    >>> rng = np.random.default_rng(0)
    >>> sets = [rng.normal(size=(100, 2)) for _ in range(3)]
    >>> sets[2][:60] = sets[0][:60]
    >>> cells = data_copying_cells(data_copying_distances(*sets, num_cells=1))
    >>> cells.is_copying, len(cells.suspicious)
    (array([ True]), 61)
  """
  level = validate.real('level', level, 0.0, 1.0, strict=True)
  ranked = rank_cells(distances)
  weight = cell_weights(distances, min_cell_share)
  p_value = _p_values(distances)
  q_value = np.full(len(weight), np.nan)
  q_value[weight > 0] = stats.false_discovery_rate(p_value[weight > 0])
  is_copying = q_value <= level
  num_cells = len(distances.num_train)
  return DataCopyingCells(
    z_u=ranked.z_u,
    weight=weight,
    num_train=distances.num_train,
    num_test=np.bincount(distances.test_cell, minlength=num_cells),
    num_generated=np.bincount(distances.generated_cell, minlength=num_cells),
    null_mean=ranked.null_mean,
    null_std=ranked.null_std,
    p_value=p_value,
    q_value=q_value,
    is_copying=is_copying,
    suspicious=_suspicious(distances, np.flatnonzero(is_copying), level),
  )


def data_copying_interval(
  distances: CellDistances,
  *,
  min_cell_share: float | None = None,
  confidence: float = 0.95,
  num_resamples: int = 1000,
  seed: int = 0,
) -> stats.Interval:
  """A bootstrap interval of C_T, for this training set and these cells.

  Test points and generated samples are resampled with replacement, each with
  its cell and its distance, and C_T is computed again over the cells that were
  kept (percentile method). The training set is never resampled: without a
  point, its copies would be copies no more.

  Args:
    distances: from `data_copying_distances`.
    min_cell_share: as for `data_copying_test`.
    confidence: nominal coverage, in (0, 1).
    num_resamples: number of bootstrap samples.
    seed: of the resampling.

  Returns:
    Interval(low, high): below 0 throughout = copying.

  Raises:
    ValueError: no cell is left, an argument out of range.

  Example:
    >>> from memjax.scores.cells import data_copying_distances
    >>> rng = np.random.default_rng(0)
    >>> train, test = rng.normal(size=(2, 300, 2))
    >>> distances = data_copying_distances(train, test, train + 0.01)
    >>> data_copying_interval(distances).high < 0
    True
  """
  confidence = validate.real('confidence', confidence, 0.0, 1.0, strict=True)
  num_resamples = validate.integer('num_resamples', num_resamples, 1)
  rng = np.random.default_rng(validate.integer('seed', seed, 0))
  kept = np.flatnonzero(cell_weights(distances, min_cell_share))
  size = len(distances.test), len(distances.generated)
  values = []
  for count in chunk_sizes(num_resamples, sum(size)):
    drawn = [rng.multinomial(n, np.full(n, 1 / n), count) for n in size]
    values.append(_resampled_c_t(distances, kept, *drawn))
  tail = (1 - confidence) / 2
  low, high = np.nanquantile(np.concatenate(values), [tail, 1 - tail])
  return stats.Interval(float(low), float(high))


def _p_values(distances: CellDistances) -> Float[np.ndarray, ' cells']:
  """One-sided Mann-Whitney p of each cell; NaN where a set is missing."""
  p_value = np.full(len(distances.num_train), np.nan)
  for cell in range(len(p_value)):
    test, generated = distances_of_cell(distances, cell)
    if not len(test):
      continue
    pooled = np.concatenate([test, generated])
    # All distances equal: SciPy would divide by a standard deviation of 0.
    p_value[cell] = 1.0
    if np.ptp(pooled) > 0:
      p_value[cell] = scipy.stats.mannwhitneyu(
        generated, test, alternative='less'
      ).pvalue
  return p_value


def _suspicious(
  distances: CellDistances, cells: Int[np.ndarray, ' _'], level: float
) -> Int[np.ndarray, ' _']:
  """Generated samples closer than the `level` quantile of the test points."""
  index, closeness = [], []
  for cell in cells:
    test, generated = distances_of_cell(distances, cell)
    is_close = generated <= np.quantile(test, level)
    index.append(np.flatnonzero(distances.generated_cell == cell)[is_close])
    median = np.median(test)
    closeness.append(generated[is_close] / (median if median > 0 else 1.0))
  if not index:
    return np.empty(0, np.int64)
  order = np.argsort(np.concatenate(closeness), kind='stable')
  return np.concatenate(index)[order]


def _resampled_c_t(
  distances: CellDistances,
  kept: Int[np.ndarray, ' _'],
  test_count: Int[np.ndarray, 'b n'],
  generated_count: Int[np.ndarray, 'b m'],
) -> Float[np.ndarray, ' b']:
  """C_T over the kept cells if each point occurred so many times."""
  total, weight = np.zeros(len(test_count)), np.zeros(len(test_count))
  for cell in kept:
    in_test = np.flatnonzero(distances.test_cell == cell)
    in_generated = distances.generated_cell == cell
    d_test = distances.test_in_cell[in_test]
    d_generated = distances.generated_in_cell[in_generated]
    order = np.argsort(d_test)
    below = np.cumsum(test_count[:, in_test[order]], axis=1)
    below = np.pad(below, ((0, 0), (1, 0)))
    strictly = np.searchsorted(d_test[order], d_generated, side='left')
    at_most = np.searchsorted(d_test[order], d_generated, side='right')
    count = generated_count[:, in_generated]
    u = (count * (below[:, strictly] + below[:, at_most]) / 2).sum(axis=1)
    n, m = below[:, -1], count.sum(axis=1)
    with np.errstate(divide='ignore', invalid='ignore'):
      z_u = (u - (n * m / 2 - 0.5)) / np.sqrt(n * m * (n + m + 1) / 12)
    # A resample without test or generated points in a cell has no Z_U there.
    present = (n > 0) & (m > 0)
    total += np.where(present, n * np.where(present, z_u, 0), 0)
    weight += np.where(present, n, 0)
  with np.errstate(divide='ignore', invalid='ignore'):
    return total / weight
