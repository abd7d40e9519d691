"""The kernel distance of two sets of features, with its standard error.

It is called KID only with the canonical Inception features; with any others
name it after them.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from memjax.distances import sample_sets
from memjax.types import Matrix, Samples

__all__ = ['KernelDistance', 'kernel_distance']

# Kernel values in memory at a time: 64 MB.
_BLOCK = 2**23


class KernelDistance(NamedTuple):
  """An estimate of a squared distance between distributions.

  Attributes:
    value: unbiased, so that it may be negative. 0 = equal distributions.
    std_err: its standard error over both sets.
  """

  value: float
  std_err: float


def kernel_distance(x: Samples, y: Samples) -> KernelDistance:
  """Estimates the squared maximum mean discrepancy of two distributions.

    MMD² = mean_{i≠j} k(x_i, x_j) + mean_{i≠j} k(y_i, y_j)
           − 2 mean_{i,j} k(x_i, y_j),    k(a, b) = (a·b / d + 1)³

  over all pairs of rows of `x` and of `y`, with d the number of features:
  unbiased at any sizes, so that values from different numbers of rows compare,
  which Fréchet distances do not. Others average over random subsets of 1,000
  rows, which has the same mean and more noise, and call the standard deviation
  between subsets (dgm-eval: the variance) what is no standard error.

  The standard error has both orders of the estimate's variance (Hoeffding):

    se² = (4/n) Var_x g + (4/m) Var_y g′ + 2 V_xx/(n(n−1)) + 2 V_yy/(m(m−1))
          + 4 V_xy/(nm),

  g(x) = E k(x, x′) − E k(x, y), and V the variance of the kernel beyond its
  row and column means. The first two vanish where the distributions are equal;
  without the others the error would be far too small there.

  The cubic kernel sees means, covariances and third moments, no more.

  Args:
    x: [n, …], n ≥ 2; the further axes are flattened.
    y: [m, …], m ≥ 2. With fewer than 4 rows there is no standard error: NaN.

  Returns:
    KernelDistance(value, std_err), in units of the kernel. SIGN: high = the
    distributions differ. Copies of `x` as `y` score best, below 0.

  Raises:
    ValueError: NaN, fewer than 2 rows, unequal numbers of features.

  Example:
    >>> x, y = np.random.default_rng(0).normal(size=(2, 500, 3))
    >>> same, moved = kernel_distance(x, y), kernel_distance(x, y + 1)
    >>> abs(same.value) < 3 * same.std_err, moved.value > 10 * moved.std_err
    (True, True)

  Reference:
    Bińkowski et al. (2018), Demystifying MMD GANs; Gretton et al. (2012), eq.
    (3). Variances of U-statistics: Hoeffding (1948).
  """
  x, y = sample_sets(x=x, y=y)
  for name, points in (('x', x), ('y', y)):
    if len(points) < 2:
      raise ValueError(f'{name} has {len(points)} row: expected 2 or more.')
  within_x, within_y = _within(x), _within(y)
  to_y, to_x, across = _between(x, y)
  n, m = len(x), len(y)
  mean = lambda part: part.rows.mean() / (len(part.rows) - 1)
  value = mean(within_x) + mean(within_y) - 2 * to_y.mean() / m
  if min(n, m) < 4:
    return KernelDistance(float(value), float('nan'))
  spread_xx, spread_yy = _spread_within(within_x), _spread_within(within_y)
  spread_xy = _spread_between(to_y, to_x, across)
  # What the mean over others is off for one row is no variance between rows.
  first_x = (within_x.rows / (n - 1) - to_y / m).var(ddof=1)
  first_x -= spread_xx / (n - 1) + spread_xy / m
  first_y = (within_y.rows / (m - 1) - to_x / n).var(ddof=1)
  first_y -= spread_yy / (m - 1) + spread_xy / n
  variance = (
    4 * max(0.0, first_x) / n
    + 4 * max(0.0, first_y) / m
    + 2 * spread_xx / (n * (n - 1))
    + 2 * spread_yy / (m * (m - 1))
    + 4 * spread_xy / (n * m)
  )
  return KernelDistance(float(value), float(np.sqrt(variance)))


class _Within(NamedTuple):
  """Sums over the pairs of one set, without those of a point and itself."""

  rows: Float[np.ndarray, ' n']  # Σ_{j≠i} k(x_i, x_j)
  square: float  # Σ_{i≠j} k²


def _kernel(x: Matrix, y: Matrix) -> Matrix:
  return (x @ y.T / x.shape[1] + 1) ** 3


def _blocks(x: Matrix, y: Matrix):
  rows = max(1, _BLOCK // len(y))
  for start in range(0, len(x), rows):
    yield start, _kernel(x[start : start + rows], y)


def _within(x: Matrix) -> _Within:
  rows, square = np.empty(len(x)), 0.0
  for start, block in _blocks(x, x):
    own = np.arange(len(block))
    block[own, start + own] = 0.0
    rows[start : start + len(block)] = block.sum(axis=1)
    square += float(np.square(block).sum())
  return _Within(rows, square)


def _between(x: Matrix, y: Matrix):
  """Σ_j k(x_i, y_j) [n], Σ_i k(x_i, y_j) [m], and Σ k²."""
  to_y, to_x, square = np.empty(len(x)), np.zeros(len(y)), 0.0
  for start, block in _blocks(x, y):
    to_y[start : start + len(block)] = block.sum(axis=1)
    to_x += block.sum(axis=0)
    square += float(np.square(block).sum())
  return to_y, to_x, square


def _spread_within(part: _Within) -> float:
  """Mean square of a symmetric table about its row and column means.

  The least squares fit μ + a_i + a_j to the off-diagonal entries leaves
  n(n − 3)/2 degrees of freedom.
  """
  n = len(part.rows)
  total = part.rows.sum()
  effect = (part.rows - total / n) / (n - 2)
  fitted = total**2 / (n * (n - 1)) / 2 + (n - 2) * np.square(effect).sum()
  return max(0.0, float(part.square / 2 - fitted)) / (n * max(1, n - 3) / 2)


def _spread_between(to_y, to_x, square: float) -> float:
  """The same of a table [n, m] about its row and column means."""
  n, m = len(to_y), len(to_x)
  fitted = np.square(to_y).sum() / m + np.square(to_x).sum() / n
  fitted -= to_y.sum() ** 2 / (n * m)
  return max(0.0, float(square - fitted)) / ((n - 1) * (m - 1))
