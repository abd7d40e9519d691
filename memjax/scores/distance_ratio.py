"""Distance ratios: ρ of a training point, and the memorized samples.

Both are called nearest-neighbour ratio. ρ belongs to a TRAINING point: its
distance to validation data over that to samples. The memorized-sample criterion
belongs to a GENERATED sample: its distance to test data over that to training
data. (A third usage, first over second neighbour within one set, is
`gap_ratio`.)
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from memjax import stats, validate
from memjax.distances import exact_neighbors, sample_sets
from memjax.scores.relabelling import (
  is_nearer,
  pooled_neighbors,
  relabelled_excess,
)
from memjax.types import Samples

__all__ = [
  'MemorizedRates',
  'MemorizedSamples',
  'distance_ratio',
  'memorized_null_rate',
  'memorized_rates',
  'memorized_samples',
]


class MemorizedSamples(NamedTuple):
  """Which generated samples are far nearer to train than to test points.

  Attributes:
    is_memorized: bool [n], d_test ≥ r · d_train and d_test > 0.
    nearest_train: int [n], row of the nearest training point.
    d_train: [n], the distance to it.
    d_test: [n], the distance to the nearest test point.
    null_rate: the share of the same samples that the criterion flags with
      train and test swapped, at equal sizes: what it flags by chance.
    p_value: one-sided, small = more is flagged than with train and test
      swapped, by more than chance.
  """

  is_memorized: Bool[np.ndarray, ' n']
  nearest_train: Int[np.ndarray, ' n']
  d_train: Float[np.ndarray, ' n']
  d_test: Float[np.ndarray, ' n']
  null_rate: float
  p_value: float


class MemorizedRates(NamedTuple):
  """Shares of flagged samples against equally many train and test points.

  Attributes:
    rate: share with d_test ≥ r · d_train.
    swapped_rate: share with d_train ≥ r · d_test; the excess is memorization.
    size: number of training and of test points that were used.
  """

  rate: float
  swapped_rate: float
  size: int


def distance_ratio(
  train: Samples,
  validation: Samples,
  generated: Samples,
  *,
  as_published: bool = False,
  block_size: int = 256,
) -> Float[np.ndarray, ' n']:
  """Compares how near validation data and samples come to a training point.

    ρ_i = min_j d(x_i, V_j) / min_j d(x_i, S_j)

  with x_i = `train[i]`, V = `validation`, S = `generated`, d Euclidean.

  SIGN: ρ > 1 = the nearest sample is closer than the nearest validation point.
  The larger set wins by chance: take |S| = |V|, as the paper does. Where a
  sample coincides with x_i, ρ is inf; where a validation point does too, 1.

  `as_published=True` reproduces the published script, which measures both
  distances from the FIRST training point of each block of `block_size` instead
  of from x_i (the neighbours themselves are right). That number is close to
  independent of ρ; use it only to redraw the published figures.

  Args:
    train: [n, …].
    validation: [v, …].
    generated: [s, …].
    as_published: reproduce the published script.
    block_size: training points a block of that script.

  Returns:
    ρ, float64 [n].

  Raises:
    ValueError: NaN, empty sets, unequal numbers of features.

  Example:
    >>> train = np.array([[0.0], [10.0]])
    >>> distance_ratio(train, train + 2.0, train - 1.0)
    array([2., 2.])

  Reference:
    van den Burg and Williams (2021), eq. (6) and Figures 5, 12, 13.
  """
  train, validation, generated = sample_sets(
    train=train, validation=validation, generated=generated
  )
  block_size = validate.integer('block_size', block_size, 1)
  to_validation = exact_neighbors(train, validation)
  to_samples = exact_neighbors(train, generated)
  d_validation = to_validation.distance[:, 0]
  d_samples = to_samples.distance[:, 0]
  if as_published:
    first = train[np.arange(len(train)) // block_size * block_size]
    nearest = validation[to_validation.index[:, 0]]
    d_validation = np.linalg.norm(first - nearest, axis=1)
    nearest = generated[to_samples.index[:, 0]]
    d_samples = np.linalg.norm(first - nearest, axis=1)
  both_zero = (d_validation == 0) & (d_samples == 0)
  with np.errstate(divide='ignore', invalid='ignore'):
    return np.where(both_zero, 1.0, d_validation / d_samples)


def memorized_samples(
  train: Samples,
  test: Samples,
  generated: Samples,
  *,
  ratio: float = 1.5,
  metric: str = 'euclidean',
  num_permutations: int = 1000,
  seed: int = 0,
) -> MemorizedSamples:
  """Flags samples that are r times nearer to train than to test points.

    g is memorized  iff  d_test(g) ≥ r · d_train(g)  and  d_test(g) > 0,

  with r = `ratio` and d_train, d_test the distances of g to the nearest of
  `train` and of `test`. A copy of a training point (d_train = 0) is memorized
  unless a test point is the same: then nothing tells the two apart.

  A perfect generator is flagged too, 31 % of its samples in two dimensions at
  equal sizes: always read the rate beside its null.

  `null_rate` is the share flagged with train and test swapped, the larger of
  the two subsampled to equal size. With equal sizes compare it with
  `is_memorized.mean()`; otherwise with `memorized_rates(...).rate`, since a
  larger training set is nearer to everything.

  `p_value` tests the excess, the flagged share less the swapped one, by
  relabelling the pooled training and test points at random, sizes kept. Exact
  for any sizes and however the samples depend on each other, if they are as
  independent of the training points as of the test points. A sign test on
  single samples would be wrong here, because samples share neighbours; the
  flagged share alone would find less where test points are fewer. A model that
  fits its training set is a little nearer to it without any copy: with many
  samples p can be small for a small excess. Read both.

  Args:
    train: [l, …].
    test: [t, …], held-out data of the same distribution.
    generated: [n, …].
    ratio: r ≥ 1, of true distances. The paper defines memorization with 2 and
      draws its figures with 1.5; 1.5 on squared distances is r = 1.2247.
    metric: 'euclidean' | 'cosine'.
    num_permutations: P; no p-value is below 1/(1 + P).
    seed: of the subsample and of the permutations.

  Raises:
    ValueError: NaN, empty sets, unequal numbers of features, ratio < 1, zero
      vectors under 'cosine'.

  Example:
    >>> rng = np.random.default_rng(0)
    >>> train, test = rng.normal(size=(2, 200, 8))
    >>> result = memorized_samples(train, test, train[:50] + 0.01)
    >>> result.is_memorized.mean(), result.null_rate, result.p_value < 0.01
    (np.float64(1.0), 0.0, True)

  Reference:
    Outliers Memorized Last (anonymous, 2023), section 3.
  """
  train, test, generated = sample_sets(
    metric, train=train, test=test, generated=generated
  )
  ratio = validate.real('ratio', ratio, 1.0)
  num_permutations = validate.integer('num_permutations', num_permutations, 1)
  seed = validate.integer('seed', seed, 0)
  near_train = exact_neighbors(generated, train, metric=metric)
  near_test = exact_neighbors(generated, test, metric=metric)
  d_train, d_test = near_train.distance[:, 0], near_test.distance[:, 0]
  is_memorized = is_nearer(d_train, d_test, ratio)
  swapped = is_nearer(d_test, d_train, ratio)
  excess = float(is_memorized.mean() - swapped.mean())
  nulls = relabelled_excess(
    pooled_neighbors(train, test, generated, metric=metric),
    np.array([ratio]),
    num_permutations=num_permutations,
    rng=np.random.default_rng(seed),
  )[:, 0]
  rates = _equal_size_rates(
    train, test, generated, (d_train, d_test), ratio, metric, seed
  )
  p_value = stats.permutation_p_value(excess, nulls, alternative='greater')
  return MemorizedSamples(
    is_memorized=is_memorized,
    nearest_train=near_train.index[:, 0],
    d_train=d_train,
    d_test=d_test,
    null_rate=rates.swapped_rate,
    p_value=p_value,
  )


def memorized_rates(
  train: Samples,
  test: Samples,
  generated: Samples,
  *,
  ratio: float = 1.5,
  metric: str = 'euclidean',
  seed: int = 0,
) -> MemorizedRates:
  """The memorized share of samples, and its null, at equal set sizes.

  Args:
    train: [l, …].
    test: [t, …].
    generated: [n, …].
    ratio: r, as for `memorized_samples`.
    metric: 'euclidean' | 'cosine'.
    seed: of the subsample of the larger of train and test.

  Raises:
    ValueError: as `memorized_samples`.

  Example:
    >>> rng = np.random.default_rng(0)
    >>> train, test, generated = rng.normal(size=(3, 500, 2))
    >>> rates = memorized_rates(train, test, generated)
    >>> bool(abs(rates.rate - rates.swapped_rate) < 0.1)
    True
  """
  train, test, generated = sample_sets(
    metric, train=train, test=test, generated=generated
  )
  ratio = validate.real('ratio', ratio, 1.0)
  return _equal_size_rates(
    train, test, generated, (None, None), ratio, metric, seed
  )


def memorized_null_rate(
  ratio: float, dimension: float, *, size_ratio: float = 1.0
) -> float:
  """The share of a perfect generator's samples that the criterion flags.

    P(d_test ≥ r · d_train) = 1 / (1 + ρ r^D),

  with r = `ratio`, D = `dimension` and ρ = `size_ratio` = test points per
  training point. It holds where the points are locally Poisson with intrinsic
  dimension D, which for real data is not known: a line to draw, while the null
  of `memorized_samples` needs no such assumption.

  Args:
    ratio: r > 0.
    dimension: D ≥ 0, the intrinsic dimension.
    size_ratio: ρ > 0.

  Returns:
    A share in (0, 1).

  Example:
    >>> round(memorized_null_rate(1.5, 2.0), 3)
    0.308
  """
  ratio = validate.real('ratio', ratio, 0.0, np.inf, strict=True)
  dimension = validate.real('dimension', dimension, 0.0)
  size_ratio = validate.real('size_ratio', size_ratio, 0.0, np.inf, strict=True)
  return 1.0 / (1.0 + size_ratio * ratio**dimension)


def _equal_size_rates(
  train, test, generated, distances, ratio, metric, seed: int
) -> MemorizedRates:
  """Both rates; `distances` to the full sets, where known, save a search."""
  rng = np.random.default_rng(validate.integer('seed', seed, 0))
  size = min(len(train), len(test))
  equal = []
  for points, distance in zip((train, test), distances, strict=True):
    if distance is None or len(points) > size:
      rows = np.sort(rng.choice(len(points), size, replace=False))
      near = exact_neighbors(generated, points[rows], metric=metric)
      distance = near.distance[:, 0]
    equal.append(distance)
  equal_train, equal_test = equal
  return MemorizedRates(
    rate=float(is_nearer(equal_train, equal_test, ratio).mean()),
    swapped_rate=float(is_nearer(equal_test, equal_train, ratio).mean()),
    size=size,
  )
