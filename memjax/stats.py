"""Permutation tests, resampling errors and false discoveries, in float64."""

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
import scipy.stats
from jaxtyping import Float, Int, Shaped

from memjax import validate
from memjax.types import Labels, Samples

__all__ = [
  'ALTERNATIVES',
  'LEVEL',
  'ExchangeTest',
  'Interval',
  'bootstrap_interval',
  'exchange_test',
  'false_discovery_rate',
  'jackknife',
  'permutation_p_value',
  'student_reach',
]

ALTERNATIVES = ('less', 'greater', 'two-sided')
# Of all verdicts: a p- or q-value at most this much is called a finding.
LEVEL = 0.05


class ExchangeTest(NamedTuple):
  """A statistic beside its distribution under exchangeable labels.

  Attributes:
    value: the statistic of the labels as they are.
    null_mean: its mean over permuted labels.
    null_std: its standard deviation over permuted labels.
    p_value: the share of labelings at least as extreme, never 0.
  """

  value: float
  null_mean: float
  null_std: float
  p_value: float


class Interval(NamedTuple):
  """A confidence interval."""

  low: float
  high: float


def exchange_test(
  statistic: Callable[[np.ndarray, np.ndarray], Any],
  test: Samples,
  generated: Samples,
  *,
  num_permutations: int = 1000,
  seed: int = 0,
  alternative: str = 'two-sided',
  strata: tuple[Labels, Labels] | None = None,
) -> ExchangeTest:
  """Tests whether generated samples are exchangeable with test points.

  Given the training set, an honest generator's samples and the test points
  are draws from one distribution, so that swapping them between the two sets
  changes no statistic in distribution:

    p = (1 + #{s*_b at least as extreme as s}) / (1 + P)

  with s = statistic(test, generated), s*_b the same for the b-th of
  P = `num_permutations` random labelings of the pooled points (sizes kept),
  and 'as extreme' as `alternative` says:

    'less':      s* ≤ s. The tail of copying for statistics that copying
                 lowers: C_T, distances to train, the authentic share.
    'greater':   s* ≥ s.
    'two-sided': twice the smaller of both, at most 1. The default, since a
                 statistic of the caller has no direction known here.

  Exact for any statistic and any sizes, whatever the training set is: compute
  what depends on it once, per point, and hand over those values.

  Args:
    statistic: a function of (test, generated) that returns one finite number.
    test: [n, …], NumPy or JAX; for instance distances to the training set.
    generated: [m, …], with the same axes after the first.
    num_permutations: P ≥ 1. No p-value is below 1/(1 + P).
    seed: of the permutations.
    alternative: 'less' | 'greater' | 'two-sided'.
    strata: optional (labels [n], labels [m]); labels are then permuted within
      each stratum only, as they must be where the two sets differ in how much
      of each they hold.

  Returns:
    ExchangeTest(value, null_mean, null_std, p_value).

  Raises:
    ValueError: the statistic is not finite, shapes do not match, an argument
      is out of range.

  Example:
    >>> rng = np.random.default_rng(0)
    >>> test, generated = rng.normal(size=50), rng.normal(size=50) - 2
    >>> shift = lambda test, generated: generated.mean() - test.mean()
    >>> exchange_test(shift, test, generated, alternative='less').p_value < 0.01
    True
  """
  test = validate.host_array('test', test)
  generated = validate.host_array('generated', generated)
  if test.ndim == 0 or test.shape[1:] != generated.shape[1:]:
    raise ValueError(
      f'test has shape {test.shape} and generated {generated.shape}: expected '
      'equal axes after the first.'
    )
  num_permutations = validate.integer('num_permutations', num_permutations, 1)
  validate.one_of('alternative', alternative, ALTERNATIVES)
  rng = np.random.default_rng(validate.integer('seed', seed, 0))
  pooled = np.concatenate([test, generated])
  members = _members(strata, len(test), len(generated))
  value = _number(statistic, test, generated)
  nulls = np.empty(num_permutations)
  order = np.arange(len(pooled))
  for b in range(num_permutations):
    for stratum in members:
      order[stratum] = stratum[rng.permutation(len(stratum))]
    split = np.split(pooled[order], [len(test)])
    nulls[b] = _number(statistic, *split)
  return ExchangeTest(
    value=value,
    null_mean=float(nulls.mean()),
    null_std=float(nulls.std(ddof=min(1, num_permutations - 1))),
    p_value=permutation_p_value(value, nulls, alternative=alternative),
  )


def permutation_p_value(
  value: float,
  nulls: Float[np.ndarray, ' p'],
  *,
  alternative: str,
) -> float:
  """The p-value of `value` among P values drawn under the null.

    p = (1 + #{as extreme}) / (1 + P),

  which counts the observed labeling as one of the null's, and is therefore
  valid at any P. A difference in the last bits of floating point is a tie.

  Args:
    value: the observed statistic.
    nulls: [P], the statistic under the null.
    alternative: 'less' | 'greater' | 'two-sided', as for `exchange_test`.

  Returns:
    p in [1/(1 + P), 1].

  Example:
    >>> permutation_p_value(2.0, np.array([1.0, 2.0, 3.0]), alternative='less')
    0.75
  """
  validate.one_of('alternative', alternative, ALTERNATIVES)
  tie = 1e-12 * max(abs(value), np.abs(nulls).max(initial=0))
  less = (1 + (nulls <= value + tie).sum()) / (1 + len(nulls))
  greater = (1 + (nulls >= value - tie).sum()) / (1 + len(nulls))
  both = min(1.0, 2 * min(less, greater))
  return float(
    {'less': less, 'greater': greater, 'two-sided': both}[alternative]
  )


def false_discovery_rate(
  p_values: Float[np.ndarray, ' n'] | list,
) -> Float[np.ndarray, ' n']:
  """Turns p-values into q-values by the rule of Benjamini and Hochberg.

    q_(i) = min_{j ≥ i} n p_(j) / j   for p_(1) ≤ … ≤ p_(n).

  Calling everything with q ≤ α a discovery keeps the expected share of false
  ones below α, for independent or positively dependent p-values.

  Args:
    p_values: [n], in [0, 1].

  Returns:
    q, [n].

  Raises:
    ValueError: a p-value outside [0, 1] or NaN.

  Example:
    >>> false_discovery_rate([0.01, 0.04, 0.03, 0.5]).round(3)
    array([0.04 , 0.053, 0.053, 0.5  ])

  Reference:
    Benjamini and Hochberg (1995).
  """
  p_values = validate.finite('p_values', p_values, rank=1)
  bad = (p_values < 0) | (p_values > 1)
  if bad.any():
    first = int(np.argmax(bad))
    raise ValueError(
      f'p_values[{first}]={p_values[first]}: expected numbers in [0, 1].'
    )
  return scipy.stats.false_discovery_control(p_values, method='bh')


def student_reach(
  values: Float[np.ndarray, '... n'], *, confidence: float = 0.95
) -> Shaped[np.ndarray, '...']:
  """Half the width of Student's interval of a mean.

    t_{n−1}((1 + confidence)/2) · s / √n

  Args:
    values: [..., n], independent draws of one normal distribution each.
    confidence: of the interval.

  Returns:
    [...]; NaN for fewer than two values, or where one of them is NaN.

  Example:
    >>> round(float(student_reach(np.array([1.0, 3.0]))), 1)
    12.7
  """
  count = values.shape[-1]
  if count < 2:
    return np.full(values.shape[:-1], np.nan)
  quantile = scipy.stats.t.ppf(0.5 + confidence / 2, count - 1)
  return np.asarray(quantile * values.std(axis=-1, ddof=1) / np.sqrt(count))


def jackknife(
  values_without_each: Shaped[np.ndarray | jax.Array, '...'] | list,
) -> Shaped[np.ndarray, '...']:
  """The jackknife standard error of an estimate from its leave-one-out values.

    se² = (L − 1)/L · Σ_ℓ (θ_ℓ − θ̄)²,

  with θ_ℓ = `values_without_each[ℓ]` the estimate without unit ℓ and θ̄ their
  mean. Divided into estimate − truth it follows roughly Student's t with
  L − 1 degrees of freedom.

  Args:
    values_without_each: [L, …] with L ≥ 2. NaN, for an estimate that does not
      exist without a unit, makes that standard error NaN.

  Returns:
    se, […], float64, in the unit of the estimate.

  Raises:
    ValueError: L < 2.

  Example:
    >>> x = np.array([1.0, 2.0, 6.0])
    >>> without = (x.sum() - x) / 2
    >>> np.isclose(jackknife(without), x.std(ddof=1) / np.sqrt(3)).item()
    True

  Reference:
    Efron and Tibshirani (1993), An Introduction to the Bootstrap, eq. (11.5).
  """
  values = validate.host_array('values_without_each', values_without_each)
  if values.ndim == 0 or len(values) < 2:
    raise ValueError(
      f'values_without_each has shape {values.shape}: expected two or more '
      'values along the first axis.'
    )
  values = values.astype(np.float64)
  count = len(values)
  return np.asarray(np.sqrt((count - 1) * values.var(axis=0)))


def bootstrap_interval(
  statistic: Callable[..., Any],
  *samples: Samples,
  confidence: float = 0.95,
  method: str = 'BCa',
  num_resamples: int = 999,
  seed: int = 0,
) -> Interval:
  """A bootstrap confidence interval of a statistic of independent samples.

  Resamples the rows of every sample with replacement. Hand over what depends
  on the training set as values per point, so that it is never resampled: a
  repeated training point changes no nearest distance, but a lost one does.

  Args:
    statistic: a function of the samples that returns one number.
    *samples: arrays [n, …] each.
    confidence: the nominal coverage, in (0, 1).
    method: 'BCa' | 'percentile' | 'basic'. BCa corrects bias and skewness and
      costs one more evaluation a row.
    num_resamples: number of bootstrap samples.
    seed: of the resampling.

  Returns:
    Interval(low, high); by percentiles where BCa is not defined.

  Raises:
    ValueError: an argument out of range.

  Example:
    >>> x = np.random.default_rng(0).normal(size=100)
    >>> low, high = bootstrap_interval(np.mean, x)
    >>> bool(low < x.mean() < high)
    True

  Reference:
    Efron (1987), Better Bootstrap Confidence Intervals; scipy.stats.bootstrap.
  """
  validate.one_of('method', method, ('BCa', 'percentile', 'basic'))
  confidence = validate.real('confidence', confidence, 0.0, 1.0, strict=True)
  num_resamples = validate.integer('num_resamples', num_resamples, 1)
  arrays = [validate.host_array('samples', sample) for sample in samples]
  # SciPy resamples along one axis of numbers; rows are taken by their index.
  rows = tuple(np.arange(len(array)) for array in arrays)
  by_row = lambda *index: _number(
    statistic, *(a[i] for a, i in zip(arrays, index, strict=True))
  )
  with warnings.catch_warnings(), np.errstate(invalid='ignore'):
    warnings.simplefilter('ignore', scipy.stats.DegenerateDataWarning)
    result = scipy.stats.bootstrap(
      rows,
      by_row,
      vectorized=False,
      n_resamples=num_resamples,
      confidence_level=confidence,
      method=method,
      rng=np.random.default_rng(validate.integer('seed', seed, 0)),
    )
  interval = np.array(result.confidence_interval)
  if np.isnan(interval).any():
    tail = (1 - confidence) / 2
    interval = np.quantile(result.bootstrap_distribution, [tail, 1 - tail])
  return Interval(float(interval[0]), float(interval[1]))


def _number(statistic, *samples) -> float:
  value = float(statistic(*samples))
  if not np.isfinite(value):
    raise ValueError(
      f'statistic returned {value}: expected a finite number for every '
      'labeling of the points.'
    )
  return value


def _members(
  strata, num_test: int, num_generated: int
) -> list[Int[np.ndarray, ' s']]:
  """The pooled points of each stratum."""
  if strata is None:
    return [np.arange(num_test + num_generated)]
  labels = [validate.host_array('strata', part, rank=1) for part in strata]
  sizes = [len(part) for part in labels]
  if sizes != [num_test, num_generated]:
    raise ValueError(
      f'strata has {sizes} labels: expected {[num_test, num_generated]}, one '
      'for each test point and one for each generated sample.'
    )
  stratum = np.unique(np.concatenate(labels), return_inverse=True)[1]
  return [np.flatnonzero(stratum == s) for s in range(stratum.max() + 1)]
