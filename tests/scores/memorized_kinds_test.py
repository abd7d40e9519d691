import numpy as np
import pytest
import scipy.stats

from memjax.data.synthetic import (
  INLIER,
  OUTLIER,
  Injection,
  draw_points,
  draw_shape,
)
from memjax.scores.distance_ratio import memorized_null_rate, memorized_samples
from memjax.scores.memorized_kinds import Reference, count_memorized

INJECTION = Injection(num_outliers=40, outlier_spread=0.1, num_duplicates=30)


def reference(part):
  """Kinds: all, inlier, outlier, duplicate."""
  member = part.kind[:, None] == np.arange(3)
  member = np.concatenate([np.ones((len(member), 1), bool), member], axis=1)
  return Reference(part.points, member, part.group)


def slow_counts(train, test, generated, ratio):
  """Sample by sample."""
  memorized, swapped = np.zeros(4, int), np.zeros(4, int)
  near_train, near_test = np.zeros(4, int), np.zeros(4, int)
  copied, swapped_copied = [set() for _ in range(4)], [set() for _ in range(4)]
  for g in generated:
    d_train = np.linalg.norm(train.points - g, axis=1)
    d_test = np.linalg.norm(test.points - g, axis=1)
    i, j = d_train.argmin(), d_test.argmin()
    for k in range(4):
      near_train[k] += train.member[i, k]
      near_test[k] += test.member[j, k]
      if d_test[j] >= ratio * d_train[i] and train.member[i, k]:
        memorized[k] += 1
        copied[k].add(train.group[i])
      if d_train[i] >= ratio * d_test[j] and test.member[j, k]:
        swapped[k] += 1
        swapped_copied[k].add(test.group[j])
  sizes = [[len(c) for c in part] for part in (copied, swapped_copied)]
  return memorized, swapped, near_train, near_test, *sizes


def test_agrees_with_a_slow_twin():
  draw = draw_points('moons', 120, INJECTION, seed=0)
  train, test = reference(draw.train), reference(draw.test)
  rng = np.random.default_rng(0)
  generated = rng.normal(size=(300, 2)) * 2 + 0.6
  generated[:50] = train.points[-50:] + 1e-3 * rng.normal(size=(50, 2))
  counts = count_memorized(train, test, generated, ratios=(1.2, 1.5, 3.0))
  for row, ratio in enumerate((1.2, 1.5, 3.0)):
    expected = slow_counts(train, test, generated, ratio)
    # The counts near a kind have no axis of ratios.
    found = [a if a.ndim == 1 else a[row] for a in counts]
    for a, b in zip(found, expected, strict=True):
      np.testing.assert_array_equal(a, b)


def test_agrees_with_memorized_samples():
  rng = np.random.default_rng(1)
  train, test, generated = rng.normal(size=(3, 200, 2))
  everything = np.ones((200, 1), bool)
  counts = count_memorized(
    *(Reference(x, everything, np.arange(200)) for x in (train, test)),
    generated,
    ratios=(1.5,),
  )
  found = memorized_samples(train, test, generated, num_permutations=1)
  assert counts.memorized.item() == found.is_memorized.sum()
  assert counts.swapped.item() / 200 == pytest.approx(found.null_rate)


def test_swapping_and_permuting():
  draw = draw_points('moons', 100, INJECTION, seed=2)
  train, test = reference(draw.train), reference(draw.test)
  generated = draw_points('moons', 100, INJECTION, seed=3).train.points
  counts = count_memorized(train, test, generated)
  other = count_memorized(test, train, generated[::-1].copy())
  np.testing.assert_array_equal(counts.memorized, other.swapped)
  np.testing.assert_array_equal(counts.copied, other.swapped_copied)
  np.testing.assert_array_equal(counts.near_train, other.near_test)
  moved = count_memorized(
    train._replace(points=train.points * 2 + 64),
    test._replace(points=test.points * 2 + 64),
    generated * 2 + 64,
  )
  np.testing.assert_array_equal(moved.memorized, counts.memorized)


def test_copies_of_a_duplicate_count_once():
  points = np.array([[0.0, 0.0], [5.0, 0.0], [0.0, 0.0]])
  train = Reference(points, np.ones((3, 1), bool), np.array([0, 1, 0]))
  test = Reference(points + 1.0, np.ones((3, 1), bool), np.arange(3))
  generated = np.tile(points, (4, 1)) + 1e-3
  counts = count_memorized(train, test, generated, ratios=(1.5,))
  assert counts.memorized.item() == 12
  assert counts.copied.item() == 2


def excess_under_the_null(honest, num_draws=200):
  """[draws, kinds] z-like excess of draws in which nothing is memorized."""
  rows, rates = [], []
  for seed in range(num_draws):
    # One cluster: the repeat places it, so all draws share seed and repeat …
    draw = draw_points('moons', 300, INJECTION, seed=7, repeat=seed)
    # … and an honest generator draws from the same process, by another path.
    rng = np.random.default_rng([seed, 9])
    generated = honest(draw, rng)
    counts = count_memorized(
      reference(draw.train), reference(draw.test), generated
    )
    rows.append((counts.memorized - counts.swapped)[0])
    rates.append(counts.memorized[0, 0] / len(generated))
  return np.array(rows), np.array(rates)


def fresh(draw, rng):
  """Inliers and outliers of the same process, by another path."""
  seed = int(rng.integers(2**31))
  inliers = draw_shape('moons', 300, seed=seed, is_independent=True)
  outliers = draw.centre + 0.1 * rng.normal(size=(40, 2))
  return np.concatenate([inliers, outliers])


def blurred(draw, rng):
  """A generator unlike the data, and still not a copier."""
  return fresh(draw, rng) * 1.1 + 0.15 * rng.normal(size=(340, 2))


@pytest.mark.parametrize('honest', [fresh, blurred])
def test_without_memorization_the_excess_is_zero_for_every_kind(honest):
  excess, rates = excess_under_the_null(honest)
  for kind in range(4):
    p = scipy.stats.ttest_1samp(excess[:, kind], 0.0).pvalue
    assert p > 1e-3, (kind, excess[:, kind].mean())  # of eight tests
  # The share that is flagged is far from 0, near the closed form.
  if honest is fresh:
    assert abs(rates.mean() - memorized_null_rate(1.5, 2.0)) < 0.03


def test_planted_copies_are_found_where_they_were_planted():
  for kind in (INLIER, OUTLIER):
    draw = draw_points('moons', 300, INJECTION, seed=5, repeat=kind)
    rng = np.random.default_rng(kind)
    generated = fresh(draw, rng)
    rows = np.flatnonzero(draw.train.kind == kind)[:30]
    generated[:30] = draw.train.points[rows] + 1e-4 * rng.normal(size=(30, 2))
    counts = count_memorized(
      reference(draw.train), reference(draw.test), generated, ratios=(2.0,)
    )
    excess = (counts.memorized - counts.swapped)[0]
    assert 15 < excess[1 + kind] <= 60
    assert (counts.copied - counts.swapped_copied)[0, 1 + kind] > 10
    other = 2 - kind  # the other of inlier and outlier
    assert abs(excess[other]) < 25


@pytest.mark.parametrize('ratio', [1.0, 0.5, float('nan')])
def test_bad_ratio(ratio):
  points = Reference(np.zeros((2, 2)), np.ones((2, 1), bool), np.arange(2))
  with pytest.raises(ValueError, match=r'ratio=.*expected a number in \(1.0'):
    count_memorized(points, points, np.zeros((1, 2)), ratios=(ratio,))
