"""How many samples are copies: a test, an estimate, and which samples.

A copy is much nearer to a training point than to any test point. Some samples
of an honest generator are too; how many, the same question about test points
tells. Unlike C_T this does not mistake a generator that keeps to the dense
regions of the data, where training points are near, for a copier: test points
are as near there.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from memjax import stats, validate
from memjax.distances import exact_neighbors, sample_sets
from memjax.scores.relabelling import (
  PooledNeighbors,
  is_nearer,
  pooled_neighbors,
  relabelled_excess,
)
from memjax.types import Samples

__all__ = ['RATIOS', 'CopyingTest', 'copying_test', 'detectable_share']

# From "nearer at all" to "the same point".
_NEAR_COPY = 1.5
RATIOS = (1.0, 1.1, 1.25, 1.5, 2.0, 3.0, 5.0, 10.0, 100.0)


class CopyingTest(NamedTuple):
  """Whether, how much, and where a generator copies.

  Attributes:
    p_value: one-sided, over all ratios, small = copying.
    ratio: the r of 1.5 or more at which the evidence is strongest.
    copied_share: estimated share of copies among the samples, at `ratio`.
    interval: its 95 % interval.
    ratios: [r].
    rate: [r], share of generated samples with d_test ≥ r · d_train.
    null_rate: [r], the same share of test points, each against the others.
    ratio_p_value: [r], for each ratio, corrected for having asked so many.
    sample_ratio: [n], d_test / d_train of each sample; inf for a copy, 1 if
      both are 0.
    q_value: [n], expected share of honest samples among those with a ratio as
      high; small = this very sample is a copy.
    nearest_train: int [n].
    nearest_test: int [n].
    d_train: [n], distance to it.
    d_test: [n].
  """

  p_value: float
  ratio: float
  copied_share: float
  interval: stats.Interval
  ratios: Float[np.ndarray, ' r']
  rate: Float[np.ndarray, ' r']
  null_rate: Float[np.ndarray, ' r']
  ratio_p_value: Float[np.ndarray, ' r']
  sample_ratio: Float[np.ndarray, ' n']
  q_value: Float[np.ndarray, ' n']
  nearest_train: Int[np.ndarray, ' n']
  nearest_test: Int[np.ndarray, ' n']
  d_train: Float[np.ndarray, ' n']
  d_test: Float[np.ndarray, ' n']


def copying_test(
  train: Samples,
  test: Samples,
  generated: Samples,
  *,
  ratios: tuple[float, ...] = RATIOS,
  metric: str = 'euclidean',
  num_permutations: int = 1000,
  seed: int = 0,
) -> CopyingTest:
  """Tests whether samples are nearer to training than to test points.

    excess(r) = mean_g 1[d_test ≥ r d_train] − mean_g 1[d_train ≥ r d_test]
    T = max_r (excess(r) − mean*) / std*
    p = (1 + #{T* ≥ T}) / (1 + P)

  with d_train, d_test the distances of a sample g to the nearest of `train` and
  of `test`, and * over relabellings of the pooled training and test points,
  sizes kept, the observed labels among them. SIGN: high = copying. Exact for
  any sizes, for samples that depend on each other, and for a generator of
  another distribution than the data's, as long as the samples do not depend on
  which of the pooled points it was trained on and test points are distributed
  as training points are. Fitting alone violates this a little, near r = 1.

  It rejects only if enough different points are copied: c copied points all
  bear the training label by chance with probability (l/(l + t))^c. Copies of
  few points show in `q_value`.

  The share of copies is estimated at the r ≥ 1.5 of the largest z-score,

    s = (rate − null_rate) / (1 − null_rate),

  `null_rate` from test points, each against the training set and the other
  test points. Its interval does not know that r was chosen.

  Args:
    train: [l, …].
    test: [t, …], two or more held-out points of the same distribution.
    generated: [n, …].
    ratios: each r ≥ 1.
    metric: 'euclidean' | 'cosine'.
    num_permutations: P; no p-value is below 1/(1 + P).
    seed: of the relabellings.

  Returns:
    CopyingTest.

  Raises:
    ValueError: NaN, empty sets, fewer than two test points, unequal numbers of
      features, a ratio below 1, zero vectors under 'cosine'.

  Example:
    >>> rng = np.random.default_rng(0)
    >>> train, test, generated = rng.normal(size=(3, 400, 8))
    >>> generated[:40] = train[:40] + 0.01 * rng.normal(size=(40, 8))
    >>> result = copying_test(train, test, generated)
    >>> result.p_value < 0.01, round(result.copied_share, 2)
    (True, 0.1)

  Reference:
    The criterion: Outliers Memorized Last (anonymous, 2023), section 3. The
    correction over ratios: Westfall and Young (1993), single-step max T.
  """
  train, test, generated = sample_sets(
    metric, train=train, test=test, generated=generated
  )
  _check_test(test)
  levels = np.unique([validate.real('ratios', r, 1.0) for r in ratios])
  if not levels.size:
    raise ValueError('ratios=(): expected one or more.')
  num_permutations = validate.integer('num_permutations', num_permutations, 1)
  rng = np.random.default_rng(validate.integer('seed', seed, 0))
  near_train = exact_neighbors(generated, train, metric=metric)
  near_test = exact_neighbors(generated, test, metric=metric)
  d_train, d_test = near_train.distance[:, 0], near_test.distance[:, 0]
  excess = _excess(d_train, d_test, levels)
  nulls = relabelled_excess(
    pooled_neighbors(train, test, generated, metric=metric),
    levels,
    num_permutations=num_permutations,
    rng=rng,
  )
  z, p_by_ratio = _max_test(excess, nulls, len(generated))
  null_ratio = _ratio(*_held_out_distances(train, test, metric))
  sample_ratio = _ratio(d_train, d_test)
  at_least = lambda values: (values[:, None] >= levels).mean(axis=0)
  rate, null_rate = at_least(sample_ratio), at_least(null_ratio)
  # Where samples merely lean towards train, no share of copies is told.
  is_near_copy = levels >= min(_NEAR_COPY, levels[-1])
  best = int(np.argmax(np.where(is_near_copy, z, -np.inf)))
  share, interval = _share(
    rate[best], null_rate[best], nulls[:, best].std(), len(generated)
  )
  return CopyingTest(
    p_value=float(p_by_ratio.min()),
    ratio=float(levels[best]),
    copied_share=share,
    interval=interval,
    ratios=levels,
    rate=rate,
    null_rate=null_rate,
    ratio_p_value=p_by_ratio,
    sample_ratio=sample_ratio,
    q_value=_q_values(sample_ratio, null_ratio),
    nearest_train=near_train.index[:, 0],
    nearest_test=near_test.index[:, 0],
    d_train=d_train,
    d_test=d_test,
  )


def detectable_share(
  train: Samples,
  test: Samples,
  generated: Samples,
  *,
  shares: tuple[float, ...] = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2),
  level: float = 0.05,
  power: float = 0.9,
  metric: str = 'euclidean',
  num_draws: int = 10,
  num_permutations: int = 200,
  seed: int = 0,
) -> float:
  """The smallest share of exact copies that `copying_test` would have found.

  Plants copies of random training points among the given samples, in place of
  as many of them, and tests again: what "no copying found" is worth. Each draw
  labels the pooled training and test points anew, so that what the samples
  themselves show, for copying or against it, is no part of the answer.

  Args:
    train: [l, …].
    test: [t, …].
    generated: [n, …], samples in which no copying was found.
    shares: of copies among the samples, to choose from.
    level: of the test.
    power: share of the draws in which the test must find the copies.
    metric: 'euclidean' | 'cosine'.
    num_draws: draws of copies for each share.
    num_permutations: relabellings of each test.
    seed: of draws and relabellings.

  Returns:
    One of `shares`, of one sample or more, or inf if not even the last would
    have been found.

  Raises:
    ValueError: as `copying_test`, and for numbers out of range.

  Example:
    >>> rng = np.random.default_rng(0)
    >>> train, test, generated = rng.normal(size=(3, 300, 16))
    >>> detectable_share(train, test, generated) <= 0.05
    True
  """
  train, test, generated = sample_sets(
    metric, train=train, test=test, generated=generated
  )
  _check_test(test)
  level = validate.real('level', level, 0.0, 1.0, strict=True)
  power = validate.real('power', power, 0.0, 1.0)
  num_draws = validate.integer('num_draws', num_draws, 1)
  num_permutations = validate.integer('num_permutations', num_permutations, 1)
  shares = tuple(sorted(validate.real('shares', s, 0.0, 1.0) for s in shares))
  # The last bit of a product must not cost a copy.
  copies_of = lambda share: int(share * len(generated) + 1e-9)
  shares = tuple(share for share in shares if copies_of(share))
  rng = np.random.default_rng(validate.integer('seed', seed, 0))
  levels = np.array(RATIOS)
  pooled = np.concatenate([train, test])
  chosen = rng.choice(len(pooled), min(len(pooled), len(generated)), False)
  near = pooled_neighbors(train, test, generated, metric=metric)
  copies = pooled_neighbors(train, test, pooled[chosen], metric=metric)
  sets = [
    (near.distance, near.index),
    (copies.distance, copies.index),
  ]

  def is_found(share: float) -> bool:
    count = copies_of(share)
    found = 0
    for _ in range(num_draws):
      keep = rng.choice(len(generated), len(generated) - count, False)
      points = rng.choice(len(chosen), min(count, len(train)), False)
      # Copies of one point stand for each other where points are few.
      plant = np.resize(points, count)
      distance, index = (
        np.concatenate([of[0][keep], of[1][plant]])
        for of in zip(*sets, strict=True)
      )
      # The points that are copied are training points, the others by chance.
      others = np.setdiff1d(np.arange(len(pooled)), chosen[points])
      order = np.concatenate([chosen[points], rng.permutation(others)])
      index = np.argsort(order)[index]
      mixed = PooledNeighbors(distance, index, len(train), len(test))
      excess = _excess(*_labelled_distances(mixed), levels)
      nulls = relabelled_excess(
        mixed, levels, num_permutations=num_permutations, rng=rng
      )
      found += _max_test(excess, nulls, len(generated))[1].min() <= level
    return bool(found >= power * num_draws)

  # More copies are found more easily: bisection.
  low, high = 0, len(shares)
  while low < high:
    middle = (low + high) // 2
    if is_found(shares[middle]):
      high = middle
    else:
      low = middle + 1
  return shares[low] if low < len(shares) else float('inf')


def _check_test(test) -> None:
  if len(test) < 2:
    raise ValueError('test has 1 point: expected 2 or more.')


def _excess(d_train, d_test, levels) -> Float[np.ndarray, ' r']:
  """Flagged less swapped shares at each ratio."""
  return np.array(
    [
      is_nearer(d_train, d_test, r).mean()
      - is_nearer(d_test, d_train, r).mean()
      for r in levels
    ]
  )


def _max_test(
  excess: Float[np.ndarray, ' r'],
  nulls: Float[np.ndarray, 'p r'],
  num_samples: int,
) -> tuple[Float[np.ndarray, ' r'], Float[np.ndarray, ' r']]:
  """Standardized excesses, and p of each against the null of their maximum.

  The observed labels are among those that standardize, so that they are
  exchangeable with the others. One sample is the least that can be told apart.
  """
  everything = np.concatenate([excess[None], nulls])
  spread = np.maximum(everything.std(axis=0), 1 / num_samples)
  z = (everything - everything.mean(axis=0)) / spread
  largest = z[1:].max(axis=1)
  p_value = [
    stats.permutation_p_value(float(value), largest, alternative='greater')
    for value in z[0]
  ]
  return z[0], np.array(p_value)


def _held_out_distances(train, test, metric):
  """Distances of test points to train, and to the other test points."""
  to_train = exact_neighbors(test, train, metric=metric)
  to_test = exact_neighbors(test, test, metric=metric, exclude_self=True)
  return to_train.distance[:, 0], to_test.distance[:, 0]


def _labelled_distances(near: PooledNeighbors):
  """d_train and d_test as far as the lists go; inf beyond."""
  is_train = near.index < near.num_train
  masked = [np.where(m, near.distance, np.inf) for m in (is_train, ~is_train)]
  return masked[0].min(axis=1), masked[1].min(axis=1)


def _ratio(d_train, d_test) -> Float[np.ndarray, ' n']:
  """d_test / d_train; inf for a copy, 1 where both are 0."""
  with np.errstate(divide='ignore', invalid='ignore'):
    return np.where((d_train == 0) & (d_test == 0), 1.0, d_test / d_train)


def _share(
  rate: float, null_rate: float, null_std: float, num_samples: int
) -> tuple[float, stats.Interval]:
  """The share of copies with a 95 % interval.

  Its variance is that of the excess under relabelling, which knows that samples
  share neighbours, and that of drawing the samples.
  """
  honest = 1 - null_rate
  if honest <= 0:
    return float('nan'), stats.Interval(0.0, 1.0)
  share = (rate - null_rate) / honest
  inside = min(max(share, 0.0), 1.0)
  error = np.sqrt(null_std**2 + inside * (1 - inside) / num_samples) / honest
  low, high = np.clip([share - 1.96 * error, share + 1.96 * error], 0.0, 1.0)
  return float(inside), stats.Interval(float(low), float(high))


def _q_values(
  sample_ratio: Float[np.ndarray, ' n'], null_ratio: Float[np.ndarray, ' t']
) -> Float[np.ndarray, ' n']:
  """False discovery rates of samples, with test points as decoys.

  For a threshold x the honest samples above it are at most as frequent as test
  points above it, one more counted so that q is never 0.
  """
  order = np.argsort(-sample_ratio, kind='stable')
  ratio = sample_ratio[order]
  above = np.searchsorted(-ratio, -ratio, side='right')
  decoys = np.searchsorted(np.sort(-null_ratio), -ratio, side='right')
  expected = (decoys + 1) / (len(null_ratio) + 1)
  rate = np.minimum(1.0, expected / (above / len(ratio)))
  q_value = np.empty(len(ratio))
  q_value[order] = np.minimum.accumulate(rate[::-1])[::-1]
  return q_value
