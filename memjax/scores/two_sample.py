"""Are generated samples distributed as the data? A test without assumptions."""

import numpy as np

from memjax import stats, validate
from memjax.distances import exact_neighbors, sample_sets
from memjax.types import Samples

__all__ = ['neighbor_mixing_test']


def neighbor_mixing_test(
  test: Samples,
  generated: Samples,
  *,
  k: int = 5,
  metric: str = 'euclidean',
  num_permutations: int = 1000,
  seed: int = 0,
) -> stats.ExchangeTest:
  """Tests whether two sets mix: how often neighbours are of one set.

    T = ½ Σ_s |a_s − e_s|,

  with a_s the share of neighbours of the same set among the k nearest others
  of the points of set s, and e_s = (size of s − 1)/(size of both − 1) what it
  would be if the sets mixed. SIGN: high = their distributions differ; 0 if they
  mix, ½ at most for equal sizes. Both sets count by themselves, because a
  narrow set within a wide one has a high share and gives the wide one a low
  share. The p-value permutes the labels over the fixed neighbours and is exact.

  Args:
    test: [t, …].
    generated: [n, …].
    k: neighbours a point.
    metric: 'euclidean' | 'cosine'.
    num_permutations: P; no p-value is below 1/(1 + P).
    seed: of the permutations.

  Returns:
    ExchangeTest(value, null_mean, null_std, p_value), upper tail.

  Raises:
    ValueError: k out of range, NaN, unequal numbers of features, zero vectors
      under 'cosine'.

  Example:
    >>> rng = np.random.default_rng(0)
    >>> test, generated = rng.normal(size=(2, 200, 3))
    >>> neighbor_mixing_test(test, generated + 1).p_value < 0.01
    True

  Reference:
    Schilling (1986), Multivariate two-sample tests based on nearest neighbors,
    has the share of both sets together.
  """
  test, generated = sample_sets(metric, test=test, generated=generated)
  # In random order: a search breaks ties by place, and must not by label.
  seed = validate.integer('seed', seed, 0)
  size = len(test) + len(generated)
  order = np.random.default_rng([seed, 1]).permutation(size)
  k = validate.integer('k', k, 1, size - 1)
  points = np.concatenate([test, generated])[order]
  near = exact_neighbors(points, points, metric=metric, k=k, exclude_self=True)
  place = np.argsort(order)
  neighbors = order[near.index[place]]

  def distance_from_mixing(test, generated):
    is_generated = np.zeros(size, bool)
    is_generated[generated] = True
    same = is_generated[neighbors] == is_generated[:, None]
    is_same = same.mean(axis=1)
    expected = lambda rows: (len(rows) - 1) / (size - 1)
    apart = [abs(is_same[r].mean() - expected(r)) for r in (test, generated)]
    return sum(apart) / 2

  return stats.exchange_test(
    distance_from_mixing,
    *np.split(np.arange(size), [len(test)]),
    num_permutations=num_permutations,
    seed=seed,
    alternative='greater',
  )
