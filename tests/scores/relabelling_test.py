import numpy as np
import pytest

from memjax.scores.relabelling import (
  PooledNeighbors,
  is_nearer,
  pooled_neighbors,
  relabelled_excess,
  relabelled_share,
)

RATIOS = np.array([1.0, 1.5, 3.0, 100.0])


def slow_excess(train, test, generated, ratio):
  """The definition, sample by sample and point by point."""
  flagged = swapped = 0
  for g in generated:
    d_train = min(np.sqrt(((g - x) ** 2).sum()) for x in train)
    d_test = min(np.sqrt(((g - x) ** 2).sum()) for x in test)
    flagged += d_test > 0 and d_test >= ratio * d_train
    swapped += d_train > 0 and d_train >= ratio * d_test
  return (flagged - swapped) / len(generated)


def points(num_train=9, num_test=5, num_generated=7, num_features=2, seed=3):
  rng = np.random.default_rng(seed)
  sets = [
    rng.normal(size=(n, num_features))
    for n in (num_train, num_test, num_generated)
  ]
  sets[2][0] = sets[0][0]  # a copy
  sets[2][1] = sets[1][0]  # the same of a test point
  sets[1][1] = sets[0][1]  # a point of both,
  sets[2][2] = sets[0][1]  # copied
  return sets


def test_relabelled_excess_equals_every_pair():
  train, test, generated = points()
  pooled = np.concatenate([train, test])
  near = pooled_neighbors(train, test, generated)
  assert near.index.shape == (7, 14)  # few points: all are listed
  found = relabelled_excess(
    near, RATIOS, num_permutations=12, rng=np.random.default_rng(5)
  )
  rng = np.random.default_rng(5)
  for row in found:
    label = rng.permutation(np.arange(14) < 9)
    expected = [
      slow_excess(pooled[label], pooled[~label], generated, r) for r in RATIOS
    ]
    np.testing.assert_allclose(row, expected, atol=1e-12)


@pytest.mark.parametrize('depth', [1, 2, 5])
def test_short_lists_only_raise_the_null(depth):
  near = pooled_neighbors(*points(30, 20, 40, seed=4))
  short = PooledNeighbors(
    near.distance[:, :depth], near.index[:, :depth], 30, 20
  )
  excess = lambda of: relabelled_excess(
    of, RATIOS, num_permutations=50, rng=np.random.default_rng(1)
  )
  assert (excess(short) >= excess(near) - 1e-12).all()
  assert (excess(short) > excess(near) + 1e-12).any()


@pytest.mark.parametrize(('num_train', 'num_test'), [(500, 500), (900, 300)])
def test_lists_are_long_enough_to_hold_both_labels(num_train, num_test):
  rng = np.random.default_rng(0)
  sets = [rng.normal(size=(n, 2)) for n in (num_train, num_test, 3)]
  near = pooled_neighbors(*sets)
  rarer = num_test / (num_train + num_test)
  assert (1 - rarer) ** near.index.shape[1] <= 1e-4
  assert near.index.shape[1] < 50
  assert (np.diff(near.distance, axis=1) >= 0).all()


def test_lists_of_very_unequal_sets_end():
  rng = np.random.default_rng(0)
  sets = [rng.normal(size=(n, 2)) for n in (1000, 3, 2)]
  assert pooled_neighbors(*sets).index.shape == (2, 256)


def test_both_labels_have_no_excess_on_average():
  """At equal sizes the swapped labels are as likely, whatever the samples."""
  near = pooled_neighbors(*points(20, 20, 30, seed=6))
  excess = relabelled_excess(
    near, RATIOS, num_permutations=2000, rng=np.random.default_rng(2)
  )
  error = excess.std(axis=0) / np.sqrt(2000)
  assert (np.abs(excess.mean(axis=0)) <= 4 * error + 1e-3).all()


def test_ties_at_zero_are_nobodys():
  near, far = np.array([0.0, 0.0, 1.0, 1.0]), np.array([0.0, 1.0, 1.0, 2.0])
  assert is_nearer(near, far, 1.0).tolist() == [False, True, True, True]
  assert is_nearer(near, far, 2.0).tolist() == [False, True, False, True]


def test_relabelled_share_equals_every_pair():
  train, test, generated = points()
  pooled = np.concatenate([train, test])
  found = relabelled_share(
    pooled_neighbors(train, test, generated),
    num_permutations=12,
    rng=np.random.default_rng(5),
  )
  rng = np.random.default_rng(5)
  for share in found:
    label = rng.permutation(np.arange(14) < 9)
    d_train, d_test = (
      np.linalg.norm(generated[:, None] - pooled[rows], axis=2).min(axis=1)
      for rows in (label, ~label)
    )
    expected = np.mean((d_train < d_test) + (d_train == d_test) / 2)
    np.testing.assert_allclose(share, expected, atol=1e-12)
