import numpy as np
import pytest

from memjax import distances, make_folds
from memjax.duplicates import duplicate_threshold, near_duplicates


def planted(num_items, num_features, noise, seed):
  """Points of which a tenth are repeated with noise, and the true groups."""
  rng = np.random.default_rng(seed)
  x = rng.normal(size=(num_items, num_features))
  source = rng.choice(num_items, num_items // 10, replace=False)
  copies = x[source] + noise * rng.normal(size=(len(source), num_features))
  order = rng.permutation(num_items + len(source))
  truth = np.concatenate([np.arange(num_items), source])
  return np.concatenate([x, copies])[order], truth[order]


def pairs(groups):
  return np.triu(groups[:, None] == groups[None], 1)


def slow_groups(x, threshold):
  """Grows one group after another from all pairwise distances."""
  near = np.linalg.norm(x[:, None] - x[None], axis=2) <= threshold
  groups = np.full(len(x), -1)
  for i in range(len(x)):
    if groups[i] >= 0:
      continue
    members, new = {i}, {i}
    while new:
      new = {int(j) for m in new for j in np.flatnonzero(near[m])} - members
      members |= new
    groups[list(members)] = groups.max() + 1
  return groups


@pytest.mark.parametrize('threshold', [0.0, 0.05, 0.15, 0.5])
def test_groups_are_connected_components(threshold, monkeypatch):
  x = np.random.default_rng(0).uniform(size=(150, 2))
  x[100:] = x[50:100]
  expected = slow_groups(x, threshold)
  np.testing.assert_array_equal(
    near_duplicates(x, threshold=threshold), expected
  )
  monkeypatch.setattr(distances, '_BLOCK', 1000)  # 6 rows at a time
  np.testing.assert_array_equal(
    near_duplicates(x, threshold=threshold), expected
  )


def test_a_pair_exactly_at_the_threshold_is_joined():
  x = np.array([[0.0], [0.25], [1.0]])
  np.testing.assert_array_equal(near_duplicates(x, threshold=0.25), [0, 0, 1])
  below = np.nextafter(0.25, 0)
  np.testing.assert_array_equal(near_duplicates(x, threshold=below), [0, 1, 2])


@pytest.mark.parametrize(
  ('num_features', 'noise'),
  [(2, 0.0), (2, 1e-4), (8, 1e-4), (8, 1e-2), (64, 1e-3), (64, 5e-2)],
)
def test_planted_duplicates_are_found(num_features, noise):
  """Stated: precision ≥ 0.98 and recall ≥ 0.95 over 5 draws of 1,000 items."""
  found, false, missed = 0, 0, 0
  for seed in range(5):
    x, truth = planted(1000, num_features, noise, seed)
    got, expected = pairs(near_duplicates(x)), pairs(truth)
    found += (got & expected).sum()
    false += (got & ~expected).sum()
    missed += (expected & ~got).sum()
  assert found / (found + false) >= 0.98
  assert found / (found + missed) >= 0.95


def test_few_false_alarms_where_density_varies():
  """α = 0.05 items by chance; points with scales from 0.1 to 10."""
  false = 0
  for seed in range(20):
    rng = np.random.default_rng(seed)
    scale = np.exp(rng.normal(size=(400, 1)))
    x = rng.normal(size=(400, 6)) * scale
    false += len(x) - len(np.unique(near_duplicates(x)))
  assert false <= 10


def test_every_item_may_have_a_copy():
  x = np.random.default_rng(0).normal(size=(200, 16))
  x = np.concatenate([x, x + 1e-3, x - 1e-3])
  np.testing.assert_array_equal(near_duplicates(x), np.tile(np.arange(200), 3))


def test_cosine_groups_directions():
  rng = np.random.default_rng(0)
  x = rng.normal(size=(300, 16))
  x[250:] = 3.0 * (x[:50] + 1e-3 * rng.normal(size=(50, 16)))
  groups = near_duplicates(x, metric='cosine')
  np.testing.assert_array_equal(groups[250:], np.arange(50))
  assert len(np.unique(groups)) == 250
  assert len(np.unique(near_duplicates(x))) == 300
  # The rule looks at unit vectors, on which both metrics agree.
  unit = x / np.linalg.norm(x, axis=1, keepdims=True)
  np.testing.assert_allclose(
    duplicate_threshold(x, metric='cosine'),
    duplicate_threshold(unit) ** 2 / 2,
  )


def test_the_rule_is_invariant():
  x = np.random.default_rng(0).normal(size=(300, 5))
  threshold = duplicate_threshold(x)
  order = np.random.default_rng(1).permutation(300)
  np.testing.assert_allclose(duplicate_threshold(x[order]), threshold)
  np.testing.assert_allclose(duplicate_threshold(7 * x + 3), 7 * threshold)
  assert duplicate_threshold(x, expected_pairs=1e-6) < threshold / 2


def test_degenerate_sets():
  np.testing.assert_array_equal(near_duplicates(np.ones((6, 3))), np.zeros(6))
  np.testing.assert_array_equal(near_duplicates(np.eye(4)), np.arange(4))
  many = np.repeat(np.random.default_rng(0).normal(size=(5, 3)), 20, axis=0)
  assert duplicate_threshold(many) == 0.0
  np.testing.assert_array_equal(
    near_duplicates(many), np.repeat(np.arange(5), 20)
  )
  line = np.arange(3.0)[:, None]
  np.testing.assert_array_equal(near_duplicates(line), np.arange(3))


def test_groups_feed_the_folds():
  x, truth = planted(100, 8, 1e-3, seed=0)
  held_out = make_folds(len(x), 5, groups=near_duplicates(x))
  for group in range(100):
    folds = held_out[:, truth == group]
    assert (folds == folds[:, :1]).all()


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    ({'threshold': -1.0}, 'threshold=-1.0: .*number in'),
    ({'x': np.ones((2, 3))}, 'x has 2 items: expected 3 or more'),
    ({'x': np.full((4, 2), np.inf)}, r'x\[0, 0\]=inf'),
    ({'x': np.zeros((4, 2)), 'metric': 'cosine'}, r'x\[0\] is a zero vector'),
  ],
)
def test_bad_arguments_are_named(arguments, message):
  with pytest.raises(ValueError, match=message):
    near_duplicates(**{'x': np.ones((5, 2)), **arguments})
