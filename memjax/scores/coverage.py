"""Precision, recall, density and coverage: fidelity and diversity by balls.

They say how alike two sets are, not whether one copies the other: a copier of
the whole training set scores best.
"""

from typing import Any, NamedTuple

import numpy as np
import scipy.sparse

from memjax import stats, validate
from memjax.distances import exact_neighbors, sample_sets, within_radius
from memjax.types import Samples

__all__ = [
  'CoverageTest',
  'PrecisionRecall',
  'coverage_test',
  'precision_recall',
]

# Of subsets, to compare sets of unequal size.
_DRAWS = 20


class PrecisionRecall(NamedTuple):
  """How generated samples and real points lie in each other's balls.

  Attributes:
    precision: share of generated samples in some real ball, in [0, 1].
    recall: share of real points in some generated ball, in [0, 1].
    density: mean number of real balls that hold a generated sample, over k;
      about 1 for equal distributions, and may exceed it.
    coverage: share of real balls that hold a generated sample, in [0, 1].
  """

  precision: float
  recall: float
  density: float
  coverage: float


class CoverageTest(NamedTuple):
  """Fidelity and diversity of samples beside those of test points.

  Each is an exchange test with training points as the real ones. Its
  `null_mean` is of a mixture of samples and test points; what test points alone
  have is beside it.

  Attributes:
    precision: share of samples in some training point's ball. One-sided p,
      small = samples lie off the data.
    coverage: share of training points' balls that hold a sample. One-sided p,
      small = parts of the data are missing among the samples.
    test_precision: share of test points in some training point's ball.
    equal_coverage: coverage by as many samples as the smaller set has.
    test_coverage: coverage by as many test points.
  """

  precision: stats.ExchangeTest
  coverage: stats.ExchangeTest
  test_precision: float
  equal_coverage: float
  test_coverage: float


def precision_recall(
  real: Samples,
  generated: Samples,
  *,
  k: int = 5,
  metric: str = 'euclidean',
) -> PrecisionRecall:
  """Measures fidelity (precision, density) and diversity (recall, coverage).

  The ball of a point reaches up to, and does not include, its k-th nearest
  other point of its own set: B(y) = {x: d(x, y) < ρ_k(y)}.

    precision = mean_g 1[∃ y real: g ∈ B(y)]
    recall    = mean_y 1[∃ g generated: y ∈ B(g)]
    density   = mean_g #{y real: g ∈ B(y)} / k
    coverage  = mean_y 1[∃ g generated: g ∈ B(y)]

  These are the definitions of prdc 0.2 with k = 5: strict <, the point itself
  not counted as its neighbour. Others use ≤ and k = 3 (torch-fidelity), or
  count the point itself (fld).

  HIGH = alike. With exact copies, a ball of radius 0 is empty.

  Args:
    real: [n, …], more than k points.
    generated: [m, …], more than k points.
    k: the neighbour that sets the radius.
    metric: 'euclidean' | 'cosine'.

  Returns:
    PrecisionRecall(precision, recall, density, coverage).

  Raises:
    ValueError: k out of range, NaN, unequal numbers of features, zero vectors
      under 'cosine'.

  Example:
    >>> points = np.arange(8.0)[:, None]
    >>> precision_recall(points, points + 0.5, k=1)
    PrecisionRecall(precision=1.0, recall=1.0, density=1.875, coverage=1.0)

  Reference:
    Kynkäänniemi et al. (2019); Naeem et al. (2020).
  """
  real, generated = sample_sets(metric, real=real, generated=generated)
  for name, points in (('real', real), ('generated', generated)):
    if len(points) < 2:
      raise ValueError(f'{name} has 1 point: expected more than k={k!r}.')
  k = validate.integer('k', k, 1, min(len(real), len(generated)) - 1)
  real_radius, generated_radius = (
    exact_neighbors(x, x, metric=metric, k=k, exclude_self=True).distance[:, -1]
    for x in (real, generated)
  )
  num_precise, num_inside = 0, 0
  is_covered, is_recalled = np.zeros(len(real), bool), np.zeros(len(real), bool)
  radii = [real_radius[None], generated_radius[:, None]]
  for _, (in_real_ball, in_generated_ball) in within_radius(
    generated, real, radii, metric=metric
  ):
    num_precise += int(in_real_ball.any(axis=1).sum())
    num_inside += int(np.count_nonzero(in_real_ball))
    is_covered |= in_real_ball.any(axis=0)
    is_recalled |= in_generated_ball.any(axis=0)
  return PrecisionRecall(
    precision=num_precise / len(generated),
    recall=float(is_recalled.mean()),
    density=num_inside / (k * len(generated)),
    coverage=float(is_covered.mean()),
  )


def coverage_test(
  train: Samples,
  test: Samples,
  generated: Samples,
  *,
  k: int = 5,
  metric: str = 'euclidean',
  num_permutations: int = 1000,
  seed: int = 0,
) -> CoverageTest:
  """Tests whether samples lie on the data, and reach all of it.

    p = (1 + #{s* ≤ s}) / (1 + P),

  with s the `precision`, or the `coverage`, of `generated` against `train`, as
  in `precision_recall`, and s* the same for the b-th of P random exchanges of
  generated samples with test points, sizes kept. The balls are those of the
  training points and never change, so that an exchange costs no search.

  SIGN: low = worse than test points. Copies of training points lie on the data.

  Args:
    train: [l, …], more than k points.
    test: [t, …], held-out data of the same distribution.
    generated: [n, …].
    k: the neighbour that sets the radius.
    metric: 'euclidean' | 'cosine'.
    num_permutations: P; no p-value is below 1/(1 + P).
    seed: of the exchanges.

  Returns:
    CoverageTest.

  Raises:
    ValueError: as `precision_recall`.

  Example:
    >>> rng = np.random.default_rng(0)
    >>> train, test, generated = rng.normal(size=(3, 300, 2))
    >>> narrow = coverage_test(train, test, generated / 3)
    >>> narrow.precision.p_value > 0.5, narrow.coverage.p_value < 0.01
    (True, True)

  Reference:
    Kynkäänniemi et al. (2019); Naeem et al. (2020). The null is memjax's.
  """
  train, test, generated = sample_sets(
    metric, train=train, test=test, generated=generated
  )
  if len(train) < 2:
    raise ValueError(f'train has 1 point: expected more than k={k!r}.')
  k = validate.integer('k', k, 1, len(train) - 1)
  near = exact_neighbors(train, train, metric=metric, k=k, exclude_self=True)
  points = np.concatenate([test, generated])
  rows, columns = [], []
  for start, (inside,) in within_radius(
    points, train, [near.distance[None, :, -1]], metric=metric
  ):
    row, column = np.nonzero(inside)
    rows.append(row + start)
    columns.append(column)
  row, column = np.concatenate(rows), np.concatenate(columns)
  is_inside: Any = scipy.sparse.csr_array(
    (np.ones(len(row), np.int32), (row, column)), (len(points), len(train))
  )
  is_precise = is_inside.sum(axis=1) > 0
  precision = lambda test, chosen: is_precise[chosen].mean()

  def coverage(test, chosen):
    return np.mean(is_inside[chosen].sum(axis=0) > 0)

  index = np.split(np.arange(len(points)), [len(test)])
  test_of = lambda statistic: stats.exchange_test(
    statistic,
    *index,
    num_permutations=num_permutations,
    seed=seed,
    alternative='less',
  )
  rng = np.random.default_rng(seed)
  size = min(map(len, index))

  def equal_coverage(of):
    draws = [rng.choice(of, size, replace=False) for _ in range(_DRAWS)]
    return float(np.mean([coverage(None, chosen) for chosen in draws]))

  return CoverageTest(
    test_of(precision),
    test_of(coverage),
    test_precision=float(is_precise[index[0]].mean()),
    equal_coverage=equal_coverage(index[1]),
    test_coverage=equal_coverage(index[0]),
  )
