"""The Fréchet distance of two sets of features, in float64.

It is called FID only with the canonical Inception features; with any others
name it after them.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from memjax import validate
from memjax.distances import sample_sets
from memjax.types import Samples

__all__ = [
  'Moments',
  'frechet_distance',
  'frechet_distance_from_moments',
  'merge_moments',
  'moments',
  'moments_of_batches',
]


class Moments(NamedTuple):
  """Mean and covariance of so many points.

  Attributes:
    count: number of points.
    mean: float64 [d].
    covariance: float64 [d, d], unbiased (divided by count − 1); 0 for one
      point.
  """

  count: int
  mean: Float[np.ndarray, ' d']
  covariance: Float[np.ndarray, 'd d']


def frechet_distance(x: Samples, y: Samples) -> float:
  """Computes the squared Fréchet distance between two fitted Gaussians.

    |μ_x − μ_y|² + tr(A + B − 2 (A^½ B A^½)^½)

  with A, B the unbiased covariances of the rows of `x` and of `y`. The trace of
  the root is the sum of the singular values of A^½ B^½, a real non-negative
  number for any covariances, singular ones (fewer rows than features) included:
  the result is never NaN, complex or negative.

  BIAS: with few rows the value is too large, by about a constant over the
  number of rows that depends on the generator. Compare only values from equal
  numbers of rows; with fewer rows than features it says little.

  Args:
    x: [n, …], n ≥ 2; the further axes are flattened.
    y: [m, …], m ≥ 2.

  Returns:
    The distance ≥ 0, in squared units of the features. 0 = equal moments.

  Raises:
    ValueError: NaN, fewer than 2 rows, unequal numbers of features.

  Example:
    >>> x = np.random.default_rng(0).normal(size=(1000, 3))
    >>> round(frechet_distance(x, x + 2.0), 6)
    12.0

  Reference:
    Dowson and Landau (1982); Heusel et al. (2017).
  """
  x, y = sample_sets(x=x, y=y)
  for name, points in (('x', x), ('y', y)):
    if len(points) < 2:
      raise ValueError(f'{name} has {len(points)} row: expected 2 or more.')
  return frechet_distance_from_moments(_moments(x), _moments(y))


def frechet_distance_from_moments(a: Moments, b: Moments) -> float:
  """The same from moments, for features that do not fit into memory.

  Args:
    a: moments of one set, count ≥ 2.
    b: moments of the other.

  Returns:
    The squared Fréchet distance ≥ 0.

  Raises:
    ValueError: NaN, unequal numbers of features, fewer than 2 points.

  Example:
    >>> x = np.arange(6.0).reshape(3, 2)
    >>> frechet_distance_from_moments(moments(x), moments(x + 1.0))
    2.0
  """
  for name, part in (('a', a), ('b', b)):
    validate.finite(f'{name}.mean', part.mean, rank=1)
    validate.finite(f'{name}.covariance', part.covariance, rank=2)
    validate.integer(f'{name}.count', part.count, 2)
  if a.mean.shape != b.mean.shape:
    raise ValueError(
      f'a has {len(a.mean)} features and b {len(b.mean)}: expected the same '
      'number.'
    )
  root_a, root_b = _square_root(a.covariance), _square_root(b.covariance)
  # tr (A^½ B A^½)^½ is the nuclear norm of A^½ B^½, without a product whose
  # small eigenvalues could come out negative.
  cross = np.linalg.svd(root_a @ root_b, compute_uv=False).sum()
  shift = np.square(a.mean - b.mean).sum()
  spread = np.square(root_a).sum() + np.square(root_b).sum() - 2 * cross
  return float(shift + max(0.0, spread))


def moments(x: Samples) -> Moments:
  """Mean and covariance of the rows of x.

  Args:
    x: [n, …].

  Returns:
    Moments(count, mean, covariance).

  Example:
    >>> moments(np.array([[0.0], [2.0]])).covariance
    array([[2.]])
  """
  return _moments(*sample_sets(x=x))


def merge_moments(a: Moments, b: Moments) -> Moments:
  """The moments of two sets of points together.

  Args:
    a: moments of one set.
    b: moments of the other.

  Returns:
    The moments of their union, as if computed at once.

  Example:
    >>> x = np.random.default_rng(0).normal(size=(9, 2))
    >>> merged = merge_moments(moments(x[:4]), moments(x[4:]))
    >>> np.allclose(merged.covariance, moments(x).covariance)
    True

  Reference:
    Chan, Golub and LeVeque (1983).
  """
  count = a.count + b.count
  shift = b.mean - a.mean
  scatter = (a.count - 1) * a.covariance + (b.count - 1) * b.covariance
  scatter += a.count * b.count / count * np.outer(shift, shift)
  mean = a.mean + shift * (b.count / count)
  return Moments(count, mean, scatter / (count - 1))


def moments_of_batches(batches: Iterable[Samples]) -> Moments:
  """The moments of all rows of some batches, one batch in memory at a time.

  Args:
    batches: arrays [n_i, …].

  Returns:
    Moments(count, mean, covariance).

  Raises:
    ValueError: no batch, NaN, unequal numbers of features.

  Example:
    >>> x = np.random.default_rng(0).normal(size=(9, 2))
    >>> moments_of_batches([x[:4], x[4:]]).count
    9
  """
  total = None
  for position, batch in enumerate(batches):
    (points,) = sample_sets(**{f'batches[{position}]': batch})
    part = _moments(points)
    if total is not None and part.mean.shape != total.mean.shape:
      raise ValueError(
        f'batches[{position}] has {len(part.mean)} features: expected '
        f'{len(total.mean)} as before.'
      )
    total = part if total is None else merge_moments(total, part)
  if total is None:
    raise ValueError('batches is empty: expected one batch or more.')
  return total


def _moments(points: Float[np.ndarray, '_ _']) -> Moments:
  """Two passes: a large common offset costs no digits."""
  mean = points.mean(axis=0)
  centred = points - mean
  scatter = centred.T @ centred
  return Moments(len(points), mean, scatter / max(1, len(points) - 1))


def _square_root(
  covariance: Float[np.ndarray, 'd d'],
) -> Float[np.ndarray, 'd d']:
  """The symmetric root; rounding's negative eigenvalues count as 0."""
  value, vector = np.linalg.eigh(covariance)
  return (vector * np.sqrt(np.maximum(value, 0))) @ vector.T
