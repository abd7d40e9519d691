"""AuthPct with a null: are generated samples nearer to train than train is?"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from memjax import stats
from memjax.distances import exact_neighbors, sample_sets
from memjax.types import Matrix, Samples

__all__ = ['AuthenticityTest', 'authenticity', 'is_authentic']


class AuthenticityTest(NamedTuple):
  """The authentic share of samples beside what an honest generator would get.

  Attributes:
    fraction: share of authentic samples, in [0, 1]. LOW = copying.
    null_mean: the same share for training points held against the others.
    p_value: one-sided, small = fewer are authentic than of the test points.
      NaN without test points.
  """

  fraction: float
  null_mean: float
  p_value: float


def authenticity(
  train: Samples,
  generated: Samples,
  *,
  test: Samples | None = None,
  metric: str = 'euclidean',
  num_permutations: int = 1000,
  seed: int = 0,
) -> AuthenticityTest:
  """Computes the share of samples that are no closer to train than train is.

    g is authentic  iff  d(g, t) > d(t, t′),

  with t the training point nearest to g and t′ the training point nearest to
  t. SIGN: LOW = copying; but 'low' depends on the dimension. An honest
  generator scores about 37 % at d = 2 and 92 % at d = 1024, not 50 %: compare
  with `null_mean`, the share among training points that are held, one at a
  time, against the rest.

  The p-value permutes the labels test/generated (`exchange_test`, lower tail),
  which is exact given the training set; the null mean is not used in it.

  Args:
    train: [l, …], at least 3 points.
    generated: [m, …].
    test: [n, …], held-out data of the same distribution, or None.
    metric: 'euclidean' | 'cosine'.
    num_permutations: P; no p-value is below 1/(1 + P).
    seed: of the permutations.

  Returns:
    AuthenticityTest(fraction, null_mean, p_value). The fraction is a share:
    100 times it is called AuthPct, and some report 50 less.

  Raises:
    ValueError: fewer than 3 training points, NaN, unequal numbers of features,
      zero vectors under 'cosine'.

  Example:
    >>> rng = np.random.default_rng(0)
    >>> train, test = rng.normal(size=(2, 100, 4))
    >>> result = authenticity(train, train + 0.01, test=test)
    >>> result.fraction, result.p_value < 0.01
    (0.0, True)

  Reference:
    Alaa et al. (2022), How faithful is your synthetic data?
  """
  named = {'train': train, 'generated': generated}
  if test is not None:
    named['test'] = test
  train, generated, *held_out = sample_sets(metric, **named)
  if len(train) < 3:
    raise ValueError(f'train has {len(train)} points: expected 3 or more.')
  near = exact_neighbors(train, train, metric=metric, k=2, exclude_self=True)
  queries = np.concatenate([generated, *held_out])
  authentic = is_authentic(train, queries, near.distance[:, 0], metric=metric)
  generated_is, test_is = np.split(authentic, [len(generated)])
  p_value = np.nan
  if held_out:
    fraction = lambda test, generated: generated.mean()
    p_value = stats.exchange_test(
      fraction,
      test_is,
      generated_is,
      num_permutations=num_permutations,
      seed=seed,
      alternative='less',
    ).p_value
  # Without point i, the neighbour of its nearest point t is t's first other
  # than i.
  nearest = near.index[:, 0]
  is_own = near.index[nearest, 0] == np.arange(len(train))
  reach = np.where(is_own, near.distance[nearest, 1], near.distance[nearest, 0])
  return AuthenticityTest(
    fraction=float(generated_is.mean()),
    null_mean=float((near.distance[:, 0] > reach).mean()),
    p_value=float(p_value),
  )


def is_authentic(
  train: Matrix,
  queries: Matrix,
  train_distance: Float[np.ndarray, ' l'],
  *,
  metric: str = 'euclidean',
) -> Bool[np.ndarray, ' q']:
  """Says which queries are farther from their nearest training point than it
  is from the others.

  Args:
    train: float64 [l, d].
    queries: float64 [q, d].
    train_distance: [l], leave-one-out distances within train.
    metric: 'euclidean' | 'cosine'.

  Returns:
    bool [q].
  """
  near = exact_neighbors(queries, train, metric=metric)
  return near.distance[:, 0] > train_distance[near.index[:, 0]]
