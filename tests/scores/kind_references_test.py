import numpy as np
import pytest

from memjax.data.synthetic import (
  DUPLICATE,
  INLIER,
  OUTLIER,
  Injection,
  draw_points,
)
from memjax.scores.kind_references import (
  KINDS,
  count_repeats,
  equal_rows,
  equal_subset,
  mark_kinds,
)
from memjax.scores.memorized_kinds import count_memorized

INJECTION = Injection(num_outliers=8, num_duplicates=5, num_copies=2)


def test_kinds_are_marked_in_train_and_test():
  draw = draw_points('moons', 60, INJECTION, seed=0)
  train, test = mark_kinds(draw, 'with_outliers', seed=1)
  for part, own in ((train, draw.train), (test, draw.test)):
    assert (part.points == own.points).all()
    assert part.member.sum(axis=0).tolist() == [78, 55, 8, 15, 5]
    for kind, column in ((INLIER, 1), (OUTLIER, 2), (DUPLICATE, 3)):
      np.testing.assert_array_equal(part.member[:, column], own.kind == kind)
    # The subset is one of inliers.
    assert not (part.member[:, 4] & ~part.member[:, 1]).any()


def test_a_test_set_without_outliers():
  draw = draw_points('moons', 60, INJECTION, seed=0)
  train, test = mark_kinds(draw, 'without_outliers', seed=1)
  assert len(train.points) == 78
  assert test.member.sum(axis=0).tolist() == [70, 55, 0, 15, 5]


def test_unequal_sets_are_cut_to_equal_kinds():
  draw = draw_points('moons', 60, INJECTION, seed=0, num_test_inliers=200)
  train, test = mark_kinds(draw, 'with_outliers', seed=1)
  counts = [part.member.sum(axis=0).tolist() for part in (train, test)]
  assert counts[0] == counts[1] == [78, 55, 8, 15, 5]


def test_counts_of_repeats_are_those_of_each():
  draws = [
    draw_points('moons', 60, INJECTION, seed=0, repeat=r) for r in range(3)
  ]
  marked = [
    [
      mark_kinds(d, name, seed=0)
      for name in ('with_outliers', 'without_outliers')
    ]
    for d in draws
  ]
  rng = np.random.default_rng(0)
  samples = rng.normal(size=(3, 40, 2)) * 2
  samples[1, 7] = np.nan  # a repeat that diverged
  counts = count_repeats(samples, marked, (1.5, 2.0))
  assert counts['memorized'].shape == (3, 2, 2, len(KINDS))
  assert counts['near_train'].shape == (3, 2, len(KINDS))
  for r in (0, 2):
    for s in range(2):
      one = count_memorized(*marked[r][s], samples[r], ratios=(1.5, 2.0))
      for name, value in one._asdict().items():
        np.testing.assert_array_equal(counts[name][r, s], value)
  assert all(np.isnan(values[1]).all() for values in counts.values())


def test_equal_rows_and_subset():
  train = np.array([0] * 10 + [1] * 4)
  test = np.array([0] * 6 + [2] * 3)
  rows, others = equal_rows(train, test, seed=0)
  assert np.bincount(train[rows]).tolist() == [6, 4]
  assert np.bincount(test[others]).tolist() == [6, 0, 3]
  again = equal_rows(train, test, seed=0)[0]
  np.testing.assert_array_equal(rows, again)
  assert set(rows) != set(equal_rows(train, test, seed=1)[0])
  mark = equal_subset(train, 0, 4, seed=0)
  assert mark.sum() == 4
  assert (train[mark] == 0).all()
  assert equal_subset(train, 1, 9, seed=0).sum() == 4


def test_an_unknown_test_set():
  draw = draw_points('moons', 60, INJECTION, seed=0)
  with pytest.raises(ValueError, match="Did you mean 'with_outliers'"):
    mark_kinds(draw, 'with_outlier', seed=0)


def test_as_many_inliers_as_the_smallest_injected_kind():
  injection = Injection(num_outliers=9, num_duplicates=4, num_copies=3)
  draw = draw_points('line', 30, injection, seed=0)
  for part in mark_kinds(draw, 'with_outliers', seed=0):
    assert part.member[:, KINDS.index('inlier_subset')].sum() == 4
