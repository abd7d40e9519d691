import numpy as np
import pytest

from memjax import frechet_distance
from memjax.scores.two_sample import neighbor_mixing_test


def slow_mixing(test, generated, k):
  """Each point, its neighbours one by one."""
  pooled, is_generated = (
    [*test, *generated],
    [0] * len(test) + [1] * len(generated),
  )
  share = {0: [], 1: []}
  for i, x in enumerate(pooled):
    others = sorted(
      (np.sqrt(((x - y) ** 2).sum()), j) for j, y in enumerate(pooled) if j != i
    )
    same = [is_generated[j] == is_generated[i] for _, j in others[:k]]
    share[is_generated[i]].append(np.mean(same))
  total = 0
  for of, size in ((0, len(test)), (1, len(generated))):
    expected = (size - 1) / (len(pooled) - 1)
    total += abs(np.mean(share[of]) - expected) / 2
  return total


@pytest.mark.parametrize(
  ('num_test', 'num_generated', 'k', 'scale'),
  [(20, 20, 5, 1.0), (12, 25, 1, 0.3), (25, 8, 3, 2.0)],
)
def test_equals_the_definition(num_test, num_generated, k, scale):
  rng = np.random.default_rng(k)
  test = rng.normal(size=(num_test, 3))
  generated = scale * rng.normal(size=(num_generated, 3))
  result = neighbor_mixing_test(test, generated, k=k, num_permutations=30)
  np.testing.assert_allclose(result.value, slow_mixing(test, generated, k))
  # The null: the same with the labels permuted.
  rng, pooled = np.random.default_rng(0), np.concatenate([test, generated])
  nulls = []
  for _ in range(30):
    order = rng.permutation(len(pooled))
    nulls.append(
      slow_mixing(pooled[order[:num_test]], pooled[order[num_test:]], k)
    )
  np.testing.assert_allclose(result.null_mean, np.mean(nulls))
  np.testing.assert_allclose(result.null_std, np.std(nulls, ddof=1))
  np.testing.assert_allclose(
    result.p_value, (1 + np.sum(np.array(nulls) >= result.value - 1e-9)) / 31
  )


def test_separate_sets_have_the_largest_value():
  rng = np.random.default_rng(0)
  test, generated = rng.normal(size=(2, 50, 2))
  result = neighbor_mixing_test(test, generated + 100, num_permutations=99)
  np.testing.assert_allclose(result.value, 1 - 49 / 99)
  assert result.p_value == 0.01


@pytest.mark.parametrize(('num_test', 'num_generated'), [(40, 40), (60, 20)])
def test_of_one_distribution_p_is_uniform(num_test, num_generated):
  """Different seeds for data and labels."""
  p = []
  for seed in range(200):
    rng = np.random.default_rng(seed)
    p.append(
      neighbor_mixing_test(
        rng.normal(size=(num_test, 4)),
        rng.normal(size=(num_generated, 4)),
        num_permutations=39,
        seed=10_000 + seed,
      ).p_value
    )
  for level in (0.05, 0.1, 0.25, 0.5):
    error = 3 * np.sqrt(level * (1 - level) / len(p))
    # Values are discrete: equal ones count against, so p may be larger.
    assert (np.array(p) <= level).mean() <= level + error
  assert (np.array(p) <= 0.5).mean() >= 0.35


def test_a_narrow_generator_in_many_dimensions_is_found():
  """Within the wide set, in 64 dimensions; the share of both hides it."""
  found = 0
  for seed in range(10):
    rng = np.random.default_rng(seed)
    test, generated = rng.normal(size=(2, 200, 64))
    result = neighbor_mixing_test(
      test, 0.9 * generated, num_permutations=99, seed=seed + 500
    )
    found += result.p_value <= 0.05
  assert found == 10


@pytest.mark.parametrize(
  'change',
  [
    lambda x: x + 0.5,
    lambda x: 1.5 * x,
    lambda x: np.where(x < 0, -x, x),
    lambda x: np.repeat(x[:20], 10, axis=0),
  ],
)
def test_other_distributions_are_found(change):
  rng = np.random.default_rng(0)
  test, generated = rng.normal(size=(2, 200, 8))
  result = neighbor_mixing_test(test, change(generated), num_permutations=99)
  assert result.p_value == 0.01
  assert result.value > 5 * result.null_mean


def test_it_sees_what_two_moments_do_not():
  """A Fréchet distance compares means and covariances alone."""
  rng = np.random.default_rng(0)
  test = rng.normal(size=(300, 4))
  generated = rng.choice([-1.0, 1.0], (300, 4)) + 0.01 * rng.normal(
    size=(300, 4)
  )
  assert frechet_distance(test, generated) < 0.1
  result = neighbor_mixing_test(test, generated, num_permutations=99)
  assert result.p_value == 0.01


def test_nothing_but_distances_counts():
  rng = np.random.default_rng(0)
  test, generated = rng.normal(size=(50, 3)), 1 + rng.normal(size=(40, 3))
  expected = neighbor_mixing_test(test, generated, num_permutations=50)
  rotation = np.linalg.qr(rng.normal(size=(3, 3)))[0]
  for moved in (
    (test @ rotation, generated @ rotation),
    (8 * test, 8 * generated),
    (test + 5, generated + 5),
    (test[::-1], generated),
  ):
    result = neighbor_mixing_test(*moved, num_permutations=50)
    np.testing.assert_allclose(result.value, expected.value, rtol=1e-12)
  swapped = neighbor_mixing_test(generated, test, num_permutations=50)
  np.testing.assert_allclose(swapped.value, expected.value)
  cosine = [
    neighbor_mixing_test(
      test * scale, generated, metric='cosine', num_permutations=50
    )
    for scale in (1, rng.uniform(1, 9, (50, 1)))
  ]
  assert cosine[0] == cosine[1]


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    ({'k': 8}, r'k=8: .*\[1, 7\]'),
    ({'k': 0}, 'k=0'),
    ({'num_permutations': 0}, 'num_permutations=0'),
    ({'seed': -1}, 'seed=-1'),
    ({'generated': np.ones((3, 2))}, 'generated has 2 features and test 3'),
    ({'test': np.full((2, 3), np.inf)}, r'test\[0, 0\]=inf'),
    ({'metric': 'cosine', 'test': np.zeros((2, 3))}, r'test\[0\] is a zero'),
    ({'metric': 'euclid'}, "Did you mean 'euclidean'"),
  ],
)
def test_bad_arguments_are_named(arguments, message):
  with pytest.raises(ValueError, match=message):
    neighbor_mixing_test(
      **{'test': np.ones((5, 3)), 'generated': np.ones((3, 3)), **arguments}
    )
