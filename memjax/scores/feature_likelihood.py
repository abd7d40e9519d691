"""Feature likelihood divergence: how likely samples make held-out data.

Samples become a density, a Gaussian around each; test points are judged by it.
Poor samples give them no probability, too few kinds of samples neither; and
copies of training points have bandwidths near 0, fitted to the training set,
so that the test points lie outside.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from memjax import validate
from memjax.distances import sample_sets
from memjax.scores.mixture import Mixture, fit_mixture, log_likelihood
from memjax.types import Matrix, Samples

__all__ = ['FeatureLikelihood', 'feature_likelihood_divergence']

_SCALE = 100  # of the published number


class FeatureLikelihood(NamedTuple):
  """The divergence, the gap, and what they are made of.

  Attributes:
    value: FLD. About 0 = as good as other training points; HIGH = bad by
      quality, by diversity or by copying. No zero of an honest generator: that
      is `matched`'s.
    matched: the same, like for like: as many samples as the baseline has, with
      bandwidths fitted to the same points. 0 for an honest generator; HIGH =
      bad. It sees the copies of those points alone, half of all or fewer: for
      copying look at `value` and `gap`.
    std_err: of `matched`, over test points, draws and training sets.
    gap: FLD of the training less that of the test points. NEGATIVE = copying
      (or overfitting); compare with `null_gap`.
    gap_std_err: of `gap`, over training and test points.
    null_gap: the gap of other training points as samples, mean over the draws:
      bandwidths are fitted to the training set, so that it is below 0.
    baseline_std: standard deviation of `value` over draws of the baseline: the
      noise of the number itself. NaN for one draw, as is `std_err`.
    train_log_likelihood: [l], nats a feature; members' scores for
      `membership_inference`.
    test_log_likelihood: [t], non-members' scores.
    memorization: [n], of each sample the highest log-density that its own
      Gaussian gives a training point, nats a feature. HIGH = copy.
  """

  value: float
  matched: float
  std_err: float
  gap: float
  gap_std_err: float
  null_gap: float
  baseline_std: float
  train_log_likelihood: Float[np.ndarray, ' l']
  test_log_likelihood: Float[np.ndarray, ' t']
  memorization: Float[np.ndarray, ' n']


def feature_likelihood_divergence(
  train: Samples,
  test: Samples,
  generated: Samples,
  *,
  num_baselines: int = 3,
  seed: int = 0,
) -> FeatureLikelihood:
  """Measures how unlikely samples make test points, copies included.

    FLD = (100/d) ( mean_t −log p(t) − mean_t −log p₀(t) ),
    p = (1/n) Σ_j N(g_j, σ_j² I),

  with g_j the rows of `generated`, t those of `test`, d features scaled by mean
  and standard deviation of `test`, and σ_j fitted to `train` by 50 passes of
  Adam (`fit_mixture` has the recipe). p₀ is the baseline: the same for a random
  part of `train` in the place of samples (as many as there are samples, half at
  most), fitted to the rest. The gap is (100/d)(mean over train − mean over
  test) of −log p.

  Published is one draw of the baseline, unseeded; here `num_baselines` draws
  are averaged, which leaves its meaning and lessens its noise. An honest
  generator scores a little off 0, mostly below: it has more samples than the
  baseline, and bandwidths fitted to all of `train`. `matched` gives both the
  same number of Gaussians and the same points to fit:

    matched = (100/d) mean_b mean_t (log p₀ᵇ(t) − log pᵇ(t)),

  pᵇ of a random part of `generated`. Its error adds to that of the test points
  the spread s of log p₀ᵇ over the B draws, which share one training set: with
  f = their share of it and f′ of `generated`,

    std_err² = var_t/n_t + s²/(1 − f) · (f + (1 − f)/B + f′ + (1 − f′)/B).

  With B = 3, the default, matched ± 1.96 std_err held 0 for 614 of 640 honest
  generators, simulated as in the test of this file (80 to 240 points a set).

  Above 1,000 nearly everything is copied. All samples and points are used; the
  public code takes 10,000 samples at most, and values from unequal numbers of
  samples do not compare: for its numbers pass 10,000 or fewer.

  MODE SHRINKING: samples nearer to the middle of their mode than the data are
  score BETTER than the data (below 0): a Gaussian in the middle, with a fitted
  bandwidth, describes a mode better than one around a random point of it. Look
  at `coverage_test` or `kernel_distance` as well.

  Args:
    train: [l, …], 4 points or more.
    test: [t, …], held-out data of the same distribution, 2 or more.
    generated: [n, …].
    num_baselines: draws of the baseline.
    seed: of the draws, and of the order of batches.

  Returns:
    FeatureLikelihood.

  Raises:
    ValueError: too few points, NaN, unequal numbers of features.

  Example:
    >>> rng = np.random.default_rng(0)
    >>> train, test, generated = rng.normal(size=(3, 200, 8))
    >>> honest = feature_likelihood_divergence(train, test, generated)
    >>> copies = feature_likelihood_divergence(train, test, train)
    >>> abs(honest.matched) < 3 * honest.std_err, copies.value > 100
    (True, True)
    >>> copies.gap < -100
    True

  Reference:
    Jiralerspong et al. (2023), Feature Likelihood Divergence (at first: Score),
    and its package `fld`, whose numbers these are up to 10,000 samples; an
    older score of that name (FLS, in dgm-eval) has another scale.
  """
  train, test, generated = sample_sets(
    train=train, test=test, generated=generated
  )
  for name, points, least in (('train', train, 4), ('test', test, 2)):
    if len(points) < least:
      raise ValueError(
        f'{name} has {len(points)} points: expected {least} or more.'
      )
  num_baselines = validate.integer('num_baselines', num_baselines, 1)
  rng = np.random.default_rng(validate.integer('seed', seed, 0))
  train, test, generated = _standardize(train, test, generated)
  num_features = train.shape[1]
  mixture, in_train = fit_mixture(generated, train, rng)
  in_train = in_train / num_features
  in_test = log_likelihood(mixture, test) / num_features
  size = min(len(generated), len(train) // 2)
  baselines, samples, null_gaps = [], [], []
  for _ in range(num_baselines):
    order = rng.permutation(len(train))
    rest = train[order[size:]]
    baseline, of_fitted = fit_mixture(train[order[:size]], rest, rng)
    of_test = log_likelihood(baseline, test) / num_features
    baselines.append(of_test)
    null_gaps.append(of_test.mean() - of_fitted.mean() / num_features)
    part = generated[rng.permutation(len(generated))[:size]]
    samples.append(
      log_likelihood(fit_mixture(part, rest, rng)[0], test) / num_features
    )
  draws = np.array([values.mean() for values in baselines])
  spread = draws.std(ddof=1) if num_baselines > 1 else np.nan
  matched = np.mean(baselines, axis=0) - np.mean(samples, axis=0)
  shares = np.array([size / len(train), size / len(generated)])
  # Draws from one training set differ less than training sets would.
  noise = (spread**2 / (1 - shares[0])) * (
    shares + (1 - shares) / num_baselines
  ).sum()
  return FeatureLikelihood(
    value=_SCALE * float(draws.mean() - in_test.mean()),
    matched=_SCALE * float(matched.mean()),
    std_err=_SCALE * float(np.sqrt(matched.var(ddof=1) / len(test) + noise)),
    gap=_SCALE * float(in_test.mean() - in_train.mean()),
    gap_std_err=_SCALE
    * float(
      np.sqrt(
        in_train.var(ddof=1) / len(train) + in_test.var(ddof=1) / len(test)
      )
    ),
    null_gap=_SCALE * float(np.mean(null_gaps)),
    baseline_std=_SCALE * float(spread),
    train_log_likelihood=in_train,
    test_log_likelihood=in_test,
    memorization=_memorization(mixture) / num_features,
  )


def _standardize(train, test, generated) -> tuple[Matrix, ...]:
  """By the test points, as published; a feature they lack keeps its scale."""
  mean, std = test.mean(axis=0), test.std(axis=0, ddof=1)
  # The sum of n equal numbers is rounded up to n times: no spread, but not 0.
  rounding = len(test) * np.finfo(np.float64).eps * np.abs(mean)
  scale = np.where(std > rounding, std, 1.0)
  return tuple((points - mean) / scale for points in (train, test, generated))


def _memorization(mixture: Mixture) -> Float[np.ndarray, ' n']:
  """log N(x; g_j, σ_j² I) at the nearest training point x of each sample."""
  variance = np.exp(mixture.log_variance)
  scale = mixture.log_variance + np.log(2 * np.pi)
  num_features = mixture.centres.shape[1]
  return -0.5 * (mixture.nearest / variance + num_features * scale)
