"""Which points are training points: nothing, to a generator that copies none.

Given samples that are as independent of the training points as of the test
points, the labels train and test of the pooled points are exchangeable. This
is the null of every question of the form "are samples too near to train?", and
unlike a comparison of samples with test points it also holds for a generator
whose samples are distributed differently from the data.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from memjax.distances import exact_neighbors
from memjax.types import Matrix

__all__ = [
  'PooledNeighbors',
  'is_nearer',
  'pooled_neighbors',
  'relabelled_excess',
  'relabelled_share',
]

# Both labels occur among the neighbours of all but one in so many samples.
_RARE = 1e-4
_DEEPEST = 256


class PooledNeighbors(NamedTuple):
  """The nearest of the pooled training and test points of each sample.

  Attributes:
    distance: [n, k], nearest first.
    index: int [n, k], rows of the pool: training points come first.
    num_train: training points in the pool.
    num_test: test points in the pool.
  """

  distance: Float[np.ndarray, 'n k']
  index: Int[np.ndarray, 'n k']
  num_train: int
  num_test: int


def pooled_neighbors(
  train: Matrix, test: Matrix, generated: Matrix, *, metric: str = 'euclidean'
) -> PooledNeighbors:
  """Searches once for what all relabellings need.

  The list is so long (up to 256) that under a random labelling both labels
  occur in it for all but one of 10,000 samples.

  Args:
    train: float64 [l, d], checked by `sample_sets`.
    test: float64 [t, d].
    generated: float64 [n, d].
    metric: 'euclidean' | 'cosine'.
  """
  pooled = np.concatenate([train, test])
  rarer = min(len(train), len(test)) / len(pooled)
  depth = int(np.ceil(np.log(_RARE) / np.log1p(-rarer)))
  depth = min(len(pooled), max(depth, 2), _DEEPEST)
  near = exact_neighbors(generated, pooled, metric=metric, k=depth)
  return PooledNeighbors(near.distance, near.index, len(train), len(test))


def relabelled_excess(
  near: PooledNeighbors,
  ratios: Float[np.ndarray, ' r'],
  *,
  num_permutations: int,
  rng: np.random.Generator,
) -> Float[np.ndarray, 'p r']:
  """Flagged less swapped shares, train and test points relabelled at random.

  A sample of whose listed neighbours none bears a label counts as if it raised
  the excess: conservative for the excess itself.

  Args:
    near: from `pooled_neighbors`.
    ratios: each r of the criterion d_test ≥ r · d_train.
    num_permutations: P.
    rng: draws the labels.

  Returns:
    [P, r], share with d_test ≥ r d_train less share with d_train ≥ r d_test.
  """
  is_train = np.arange(near.num_train + near.num_test) < near.num_train
  excess = np.empty((num_permutations, len(ratios)))
  for b in range(num_permutations):
    label = rng.permutation(is_train)[near.index]
    d_train = _first_distance(near.distance, label)
    d_test = _first_distance(near.distance, ~label)
    near_train, near_test = d_train[:, None], d_test[:, None]
    flagged = is_nearer(near_train, near_test, ratios)
    swapped = is_nearer(near_test, near_train, ratios)
    swapped &= np.isfinite(near_train)
    excess[b] = flagged.mean(axis=0) - swapped.mean(axis=0)
  return excess


def relabelled_share(
  near: PooledNeighbors,
  *,
  num_permutations: int,
  rng: np.random.Generator,
) -> Float[np.ndarray, ' p']:
  """Shares of samples nearer to train, train and test points relabelled.

  Args:
    near: from `pooled_neighbors`.
    num_permutations: P.
    rng: draws the labels.

  Returns:
    [P], share with d_train < d_test plus half of the share with equal ones.
  """
  is_train = np.arange(near.num_train + near.num_test) < near.num_train
  share = np.empty(num_permutations)
  for b in range(num_permutations):
    label = rng.permutation(is_train)[near.index]
    d_train = _first_distance(near.distance, label)
    d_test = _first_distance(near.distance, ~label)
    share[b] = (d_train < d_test).mean() + (d_train == d_test).mean() / 2
  return share


def is_nearer(
  near: Float[np.ndarray, '...'],
  far: Float[np.ndarray, '...'],
  ratio: float | Float[np.ndarray, '...'],
) -> Bool[np.ndarray, '...']:
  """True where `far` ≥ ratio · `near`; never where both are 0."""
  return (far >= ratio * near) & (far > 0)


def _first_distance(
  distance: Float[np.ndarray, 'n k'], is_label: Bool[np.ndarray, 'n k']
) -> Float[np.ndarray, ' n']:
  """The distance to the nearest point with the label; inf if there is none."""
  first = is_label.argmax(axis=1)
  rows = np.arange(len(distance))
  return np.where(is_label[rows, first], distance[rows, first], np.inf)
