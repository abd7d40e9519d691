import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from memjax import stats
from memjax.stats import exchange_test, permutation_p_value


def shift(test, generated):
  return generated.mean() - test.mean()


def test_permutations_approach_all_labelings():
  """Against the exact null: every way to choose the generated points."""
  rng = np.random.default_rng(0)
  pooled = rng.normal(size=8)
  nulls = []
  for chosen in itertools.combinations(range(8), 3):
    is_generated = np.isin(np.arange(8), chosen)
    nulls.append(shift(pooled[~is_generated], pooled[is_generated]))
  nulls = np.array(nulls)
  test, generated = pooled[:5], pooled[5:]
  value = shift(test, generated)
  run = lambda alternative: exchange_test(
    shift, test, generated, num_permutations=4000, alternative=alternative
  )
  less, greater, both = map(run, stats.ALTERNATIVES)
  assert less.value == greater.value == value
  # Five standard errors of 4,000 draws.
  assert abs(less.p_value - (nulls <= value + 1e-12).mean()) < 0.04
  assert abs(greater.p_value - (nulls >= value - 1e-12).mean()) < 0.04
  assert both.p_value == min(1, 2 * min(less.p_value, greater.p_value))
  assert abs(less.null_mean - nulls.mean()) < 5 * nulls.std() / 4000**0.5
  np.testing.assert_allclose(less.null_std, nulls.std(), rtol=0.05)


@pytest.mark.parametrize('alternative', stats.ALTERNATIVES)
def test_under_the_null_p_is_uniform(alternative):
  p = []
  for seed in range(300):
    test, generated = np.random.default_rng(seed).standard_t(2, size=(2, 15))
    p.append(
      exchange_test(
        shift, test, generated, num_permutations=99, seed=seed,
        alternative=alternative,
      ).p_value
    )  # fmt: skip
  p = np.array(p)
  # p takes the values 1/100 … 1: shift by half a step.
  assert scipy.stats.kstest(p - 0.005, 'uniform').pvalue > 0.01
  assert (p <= 0.05).mean() <= 0.05 + 3 * 0.0126


def test_a_shift_is_found_in_its_tail():
  rng = np.random.default_rng(0)
  test, generated = rng.normal(size=60), rng.normal(size=40) - 1
  p = {
    a: exchange_test(shift, test, generated, alternative=a).p_value
    for a in stats.ALTERNATIVES
  }
  assert p['less'] == 1 / 1001
  assert p['two-sided'] == 2 / 1001
  assert p['greater'] > 0.99


def test_strata_are_permuted_within():
  """A difference that the strata explain alone is no difference."""
  rng = np.random.default_rng(0)
  stratum = np.arange(200) < [[60], [140]]
  test, generated = rng.normal(size=(2, 200)) + 3 * stratum
  run = lambda **k: exchange_test(
    shift, test, generated, num_permutations=300, **k
  )
  assert run().p_value < 0.01
  test_in, generated_in = stratum.astype(int)
  assert run(strata=(test_in, generated_in)).p_value > 0.05
  # One stratum a point leaves nothing to permute.
  alone = run(strata=(np.arange(200), np.arange(200) + 200))
  assert alone.p_value == 1.0
  assert alone.null_std < 1e-12
  np.testing.assert_allclose(alone.null_mean, alone.value)


def test_any_axes_and_jax_arrays():
  rng = np.random.default_rng(0)
  test, generated = rng.normal(size=(10, 2, 3)), rng.normal(size=(7, 2, 3))
  one = exchange_test(shift, test, generated, num_permutations=50)
  two = exchange_test(
    shift, jnp.asarray(test), jnp.asarray(generated), num_permutations=50
  )
  np.testing.assert_allclose(one.null_mean, two.null_mean, atol=1e-6)
  assert one.p_value == two.p_value
  other = exchange_test(shift, test, generated, num_permutations=50, seed=1)
  assert other.null_mean != one.null_mean


def test_ties_up_to_rounding_count():
  nulls = np.array([0.1 + 0.2, 0.3, 0.4])
  assert permutation_p_value(0.3, nulls, alternative='less') == 3 / 4
  assert permutation_p_value(0.3, nulls, alternative='greater') == 1.0
  assert permutation_p_value(0.3, nulls, alternative='two-sided') == 1.0


def slow_q_values(p):
  """The step-up rule, rank by rank."""
  n = len(p)
  order = sorted(range(n), key=lambda i: p[i])
  q = [0.0] * n
  least = 1.0
  for rank in range(n, 0, -1):
    i = order[rank - 1]
    least = min(least, p[i] * n / rank)
    q[i] = least
  return q


def test_q_values():
  p = np.random.default_rng(0).uniform(size=40) ** 2
  p[5] = p[6]
  np.testing.assert_allclose(stats.false_discovery_rate(p), slow_q_values(p))
  assert stats.false_discovery_rate([0.2]).tolist() == [0.2]
  assert stats.false_discovery_rate([]).shape == (0,)
  rng = np.random.default_rng(1)
  false = []
  for _ in range(300):
    p = np.where(
      np.arange(50) < 10, rng.uniform(size=50) / 1e4, rng.uniform(size=50)
    )
    called = stats.false_discovery_rate(p) <= 0.2
    false.append((called[10:]).sum() / max(1, called.sum()))
  assert abs(np.mean(false) - 0.2 * 40 / 50) < 0.03


def test_the_jackknife_of_a_mean_is_its_standard_error():
  x = np.random.default_rng(0).normal(size=(12, 3))
  without = (x.sum(axis=0) - x) / 11
  np.testing.assert_allclose(
    stats.jackknife(without), x.std(axis=0, ddof=1) / np.sqrt(12)
  )
  without[3, 1] = np.nan
  np.testing.assert_array_equal(
    np.isnan(stats.jackknife(without)), [False, True, False]
  )


@pytest.mark.parametrize('method', ['BCa', 'percentile'])
def test_bootstrap_intervals_cover(method):
  """400 draws: the standard error of a coverage of 0.9 is 0.015."""
  covered = 0
  for seed in range(400):
    x, y = np.random.default_rng(seed).normal(size=(2, 30))
    low, high = stats.bootstrap_interval(
      shift, x, y[:20] + 0.5, confidence=0.9, num_resamples=199, seed=seed,
      method=method,
    )  # fmt: skip
    covered += low <= 0.5 <= high
  assert 0.83 < covered / 400 < 0.95


def test_bootstrap_of_one_sample_and_of_a_constant():
  x = np.random.default_rng(0).normal(size=(50, 2))
  norm = lambda x: np.linalg.norm(x.mean(axis=0))
  low, high = stats.bootstrap_interval(norm, x, num_resamples=99)
  assert low < high
  assert stats.bootstrap_interval(np.mean, np.ones(9)) == (1.0, 1.0)


@pytest.mark.parametrize(
  ('call', 'message'),
  [
    (
      lambda: exchange_test(shift, [1.0], [[1.0]]),
      r'shape \(1,\) and .*\(1, 1\)',
    ),
    (
      lambda: exchange_test(shift, [1.0], [2.0], num_permutations=0),
      '=0: .*1 or',
    ),
    (
      lambda: exchange_test(shift, [1.0], [2.0], alternative='les'),
      "mean 'less'",
    ),
    (lambda: exchange_test(shift, [1.0], [2.0], seed=-1), 'seed=-1'),
    (
      lambda: exchange_test(lambda t, g: np.nan, [1.0], [2.0]),
      'statistic returned nan',
    ),
    (
      lambda: exchange_test(shift, [1.0], [2.0], strata=([0], [0, 1])),
      r'strata has \[1, 2\] labels: expected \[1, 1\]',
    ),
    (lambda: stats.false_discovery_rate([0.5, 1.5]), r'p_values\[1\]=1.5'),
    (lambda: stats.false_discovery_rate([np.nan]), r'p_values\[0\]=nan'),
    (lambda: stats.jackknife([1.0]), r'shape \(1,\): expected two or more'),
    (
      lambda: stats.bootstrap_interval(np.mean, [1.0, 2.0], confidence=1.0),
      r'\(0',
    ),
    (lambda: stats.bootstrap_interval(np.mean, [1.0], method='bca'), "'BCa'"),
  ],
)
def test_bad_arguments_are_named(call, message):
  with pytest.raises(ValueError, match=message):
    call()


def test_tracers_are_refused():
  with pytest.raises(ValueError, match='test is a traced JAX value'):
    jax.jit(lambda x: exchange_test(shift, x, x))(np.ones(3))


def test_students_interval_covers():
  rng = np.random.default_rng(0)
  values = rng.normal(2.0, 3.0, (4000, 5))
  reach = stats.student_reach(values)
  expected = [scipy.stats.t.interval(0.95, 4, row.mean(), scipy.stats.sem(row))
              for row in values[:3]]  # fmt: skip
  ends = values.mean(axis=1) + np.stack([-reach, reach])
  np.testing.assert_allclose(ends[:, :3].T, expected)
  assert abs((np.abs(values.mean(axis=1) - 2.0) <= reach).mean() - 0.95) < 0.011
  assert np.isnan(stats.student_reach(values[:, :1])).all()
  assert np.isnan(stats.student_reach(np.array([1.0, np.nan])))
