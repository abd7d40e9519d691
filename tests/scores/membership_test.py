import numpy as np
import pytest
import scipy.stats

from memjax import membership_inference
from memjax.stats import Interval

PHI, QUANTILE = scipy.stats.norm.cdf, scipy.stats.norm.ppf


def slow_auroc(inside, outside):
  pairs = [(a > b) + 0.5 * (a == b) for a in inside for b in outside]
  return np.mean(pairs)


def slow_rate(inside, outside, level):
  """The best rate of all thresholds that the false alarms allow."""
  everything = np.unique(np.concatenate([inside, outside]))
  thresholds = np.concatenate([[-np.inf], everything])
  return max(
    np.mean(inside > q) for q in thresholds if np.mean(outside > q) <= level
  )


@pytest.mark.parametrize('kind', ['normal', 'ties', 'few', 'equal'])
def test_equals_the_definitions(kind):
  rng = np.random.default_rng(0)
  inside, outside = rng.normal(0.5, 1, 250), rng.normal(size=300)
  if kind == 'ties':
    inside, outside = np.round(inside), np.round(outside)
  elif kind == 'few':
    inside, outside = inside[:3], outside[:2]
  elif kind == 'equal':
    inside, outside = np.zeros(4), np.zeros(150)
  found = membership_inference(inside, outside)
  np.testing.assert_allclose(found.auroc, slow_auroc(inside, outside))
  assert found.tpr_at_1_percent == slow_rate(inside, outside, 0.01)
  assert found.tpr_at_01_percent == slow_rate(inside, outside, 0.001)


def test_exact_cases():
  """Deterministic quantiles: what a ROC curve through known points gives."""
  outside = np.arange(1000.0)
  found = membership_inference(np.arange(1000.0) + 500.5, outside)
  # Above the 990th of 1,000 non-members, 989, lie the members 989.5 … 1499.5.
  np.testing.assert_allclose(found.tpr_at_1_percent, 0.511)
  np.testing.assert_allclose(found.tpr_at_01_percent, 0.502)
  perfect = membership_inference(outside + 1e6, outside)
  assert perfect[:3] == (1.0, 1.0, 1.0)
  assert 0.99 < perfect.intervals.auroc.low < 0.999
  assert perfect.intervals.auroc.high > 1 - 1e-9
  worst = membership_inference(outside - 1e6, outside)
  assert worst[:3] == (0.0, 0.0, 0.0)
  assert worst.intervals.auroc.low < 1e-9
  assert 1e-3 < worst.intervals.auroc.high < 0.01


def test_swapped_and_transformed_scores():
  rng = np.random.default_rng(0)
  inside, outside = rng.normal(1, 1, 80), rng.normal(size=120)
  one = membership_inference(inside, outside)
  two = membership_inference(np.exp(inside), np.exp(outside))
  assert two == one
  order = rng.permutation(80)
  three = membership_inference(inside[order].tolist(), outside)
  np.testing.assert_allclose(three[:3], one[:3])
  swapped = membership_inference(outside, inside)
  np.testing.assert_allclose(swapped.auroc, 1 - one.auroc)
  np.testing.assert_allclose(
    swapped.intervals.auroc, np.subtract(1, one.intervals.auroc[::-1])
  )


def normal(mean, std=1.0):
  return lambda rng, n: rng.normal(mean, std, n)


def poisson(mean):
  return lambda rng, n: rng.poisson(mean, n)


def few_memorized(rng, n):
  return rng.normal(size=n) + 10 * (rng.random(n) < 0.05)


def normal_rate(mean, std, level):
  return 1 - PHI((QUANTILE(1 - level) - mean) / std)


def poisson_truth():
  k, p = np.arange(100), scipy.stats.poisson
  auroc = (p.pmf(k, 2) * (p.cdf(k - 1, 1) + p.pmf(k, 1) / 2)).sum()
  limits = [k[p.sf(k, 1) <= level].min() for level in (0.01, 0.001)]
  return auroc, *(p.sf(q, 2) for q in limits)


CASES = {
  'null': (
    normal(0), normal(0), (0.5, 0.01, 0.001)
  ),
  'shift': (
    normal(1), normal(0),
    (PHI(1 / np.sqrt(2)), normal_rate(1, 1, 0.01), normal_rate(1, 1, 0.001)),
  ),
  'far': (
    normal(3), normal(0),
    (PHI(3 / np.sqrt(2)), normal_rate(3, 1, 0.01), normal_rate(3, 1, 0.001)),
  ),
  'wide': (
    normal(0, 5), normal(0),
    (0.5, normal_rate(0, 5, 0.01), normal_rate(0, 5, 0.001)),
  ),
  'ties': (poisson(2), poisson(1), poisson_truth()),
  'few memorized': (
    few_memorized, normal(0),
    (
      0.95 / 2 + 0.05 * PHI(10 / np.sqrt(2)),
      0.95 * 0.01 + 0.05 * normal_rate(10, 1, 0.01),
      0.95 * 0.001 + 0.05 * normal_rate(10, 1, 0.001),
    ),
  ),
  'perfect': (normal(100), normal(0), (1.0, 1.0, 1.0)),
}  # fmt: skip


@pytest.mark.parametrize('name', CASES)
@pytest.mark.parametrize(('n', 'm'), [(25, 30), (900, 100), (100, 1500)])
def test_intervals_cover(name, n, m):
  draw_in, draw_out, truth = CASES[name]
  rng = np.random.default_rng(n)
  draws = 200
  inside = np.zeros(3)
  for _ in range(draws):
    found = membership_inference(draw_in(rng, n), draw_out(rng, m))
    for k, (value, interval) in enumerate(
      zip(truth, found.intervals, strict=True)
    ):
      inside[k] += interval.low - 1e-12 <= value <= interval.high + 1e-12
      assert interval.low - 1e-9 <= found[k] <= interval.high + 1e-9
  # 0.92 for AUROC near 1 with few scores, else 0.95; chance 3 · 0.016.
  assert inside[0] / draws >= 0.87
  # Without assumptions, hence conservative: they must not miss.
  assert (inside[1:] / draws >= 0.93).all()


def test_too_few_non_members_bound_nothing_from_below():
  rng = np.random.default_rng(0)
  found = membership_inference(rng.normal(9, 1, 500), rng.normal(size=500))
  assert found.tpr_at_01_percent > 0.99
  assert found.intervals.tpr_at_01_percent.low == 0
  assert found.intervals.tpr_at_1_percent.low > 0.9
  assert isinstance(found.intervals.auroc, Interval)


@pytest.mark.parametrize(
  ('inside', 'outside', 'message'),
  [
    ([], [1.0], 'scores_in is empty'),
    ([1.0], [], 'scores_out is empty'),
    ([1.0, np.nan], [1.0], r'scores_in\[1\]=nan'),
    ([1.0], [-np.inf], r'scores_out\[0\]=-inf'),
  ],
)
def test_bad_arguments_are_named(inside, outside, message):
  with pytest.raises(ValueError, match=message):
    membership_inference(inside, outside)
