"""C_T's question, asked of data that no generator has seen."""

from typing import NamedTuple

import numpy as np
import scipy.stats

from memjax import stats
from memjax.distances import exact_neighbors
from memjax.scores.cells import CellDistances
from memjax.types import Matrix

__all__ = ['Nearness', 'measure_nearness']


class Nearness(NamedTuple):
  """C_T's question, asked of data that no generator has seen.

  Attributes:
    to_train: share of pairs in which a generated sample is nearer to train than
      a test point is, ties ½.
    to_held_out: share of pairs in which a generated sample is nearer to one
      half of the test points than a point of the other half is. Above ½ =
      samples keep to dense regions; below = they lie off the data.
    p_narrow: one-sided, small = `to_held_out` is above ½ beyond chance.
    p_wide: one-sided, small = it is below ½ beyond chance.
  """

  to_train: float
  to_held_out: float
  p_narrow: float
  p_wide: float


def measure_nearness(
  distances: CellDistances,
  test: Matrix,
  generated: Matrix,
  *,
  metric: str,
  num_permutations: int,
  seed: int,
) -> Nearness:
  """How near samples come to half of the test points, beside the other half.

  Args:
    distances: to the training points, of test points and samples.
    test: float64 [t, d].
    generated: float64 [n, d].
    metric: 'euclidean' | 'cosine'.
    num_permutations: of both tests.
    seed: of the halves and of the permutations.
  """
  order = np.random.default_rng(seed).permutation(len(test))
  reference, others = np.array_split(test[order], 2)
  queries = np.concatenate([others, generated])
  near = exact_neighbors(queries, reference, metric=metric)
  others_distance, sample_distance = np.split(
    near.distance[:, 0], [len(others)]
  )
  # A difference of mean ranks tests what the share of pairs does.
  ranks = scipy.stats.rankdata(near.distance[:, 0])
  p_value = lambda alternative: (
    stats.exchange_test(
      lambda others, samples: samples.mean() - others.mean(),
      *np.split(ranks, [len(others)]),
      alternative=alternative,
      num_permutations=num_permutations,
      seed=seed,
    ).p_value
  )
  return Nearness(
    _share_of_pairs(distances.generated, distances.test),
    _share_of_pairs(sample_distance, others_distance),
    p_value('less'),
    p_value('greater'),
  )


def _share_of_pairs(small, large) -> float:
  """Share of pairs with small < large, ties ½."""
  large = np.sort(large)
  above = len(large) - np.searchsorted(large, small, side='right')
  at_least = len(large) - np.searchsorted(large, small, side='left')
  return float((above + at_least).mean() / (2 * len(large)))
