"""Membership inference: can an attacker tell who was trained on?

Any score will do in which members are higher: a log-probability, the negative
of a distance to the nearest sample, a log-likelihood of
`feature_likelihood_divergence`.
"""

from typing import NamedTuple

import jax
import numpy as np
import scipy.stats
from jaxtyping import Shaped

from memjax import validate
from memjax.stats import Interval
from memjax.types import Vector

__all__ = ['MembershipInference', 'MembershipIntervals', 'membership_inference']

Scores = Shaped[np.ndarray | jax.Array, ' _'] | list

_ERROR = 0.05  # of each interval


class MembershipIntervals(NamedTuple):
  """95 % intervals, each for itself.

  Attributes:
    auroc: of AUROC.
    tpr_at_1_percent: of the TPR at 1 % FPR.
    tpr_at_01_percent: of the TPR at 0.1 % FPR.
  """

  auroc: Interval
  tpr_at_1_percent: Interval
  tpr_at_01_percent: Interval


class MembershipInference(NamedTuple):
  """How well a score tells members from others.

  Attributes:
    auroc: probability that a member scores higher than a non-member, ties ½.
      ½ = guessing; below ½ = the score points the other way.
    tpr_at_1_percent: share of members found at one false alarm in a hundred
      non-members. 0.01 = guessing.
    tpr_at_01_percent: the same at one in a thousand.
    intervals: of all three, for another draw of members and non-members.
  """

  auroc: float
  tpr_at_1_percent: float
  tpr_at_01_percent: float
  intervals: MembershipIntervals


def membership_inference(
  scores_in: Scores, scores_out: Scores
) -> MembershipInference:
  """Measures how well members can be told by their scores.

    AUROC  = P(s_in > s_out) + ½ P(s_in = s_out)
    TPR(α) = P(s_in > q_α),   q_α = min {q : P(s_out > q) ≤ α}

  HIGH scores must mean members. Tied scores fall on one side together, so that
  the false positive rate never exceeds α, also for few or discrete scores: with
  fewer than 1/α non-members not one of them may be above q_α (and guessing then
  finds one member in m + 1, which is more than α: look at the interval).

  The interval of AUROC is Wilson's, for as many trials as give a binomial share
  the variance of DeLong et al. (1988), and never fewer than the smaller set
  has (Birnbaum and Klose 1957): it does not vanish where all pairs are in
  order. Those of TPR know that the threshold is itself an estimate: order
  statistics of `scores_out` bound q_α, and at those bounds the share of members
  has its Clopper-Pearson interval, a fourth of the error for each of the four
  ends. They assume nothing of the scores, cover in at least 95 % of draws, and
  are wide: with 500 non-members nothing bounds TPR(0.1 %) from below.

  All intervals take scores as independent draws. Scores of many models, pooled,
  are none: measure model by model (`attack_models` of memjax.analysis).

  Args:
    scores_in: [n], of items that were trained on.
    scores_out: [m], of items of the same distribution that were not.

  Returns:
    MembershipInference(auroc, tpr_at_1_percent, tpr_at_01_percent, intervals).

  Raises:
    ValueError: an empty set, NaN or ±inf.

  Example:
    >>> rng = np.random.default_rng(0)
    >>> scores_in, scores_out = rng.normal(1, 1, 500), rng.normal(size=500)
    >>> found = membership_inference(scores_in, scores_out)
    >>> low, high = found.intervals.auroc
    >>> round(found.auroc, 2), low < 0.76 < high  # Φ(1/√2)
    (0.78, True)

  Reference:
    Carlini et al. (2022), Membership Inference Attacks From First Principles:
    why the rates at few false alarms matter. The TPR intervals are memjax's.
  """
  inside = validate.finite('scores_in', scores_in, rank=1)
  outside = validate.finite('scores_out', scores_out, rank=1)
  for name, scores in (('scores_in', inside), ('scores_out', outside)):
    if not scores.size:
      raise ValueError(f'{name} is empty: expected one score or more.')
  auroc, auroc_interval = _auroc(inside, outside)
  inside, outside = np.sort(inside), np.sort(outside)
  rate_1, interval_1 = _true_positives(inside, outside, 0.01)
  rate_01, interval_01 = _true_positives(inside, outside, 0.001)
  return MembershipInference(
    auroc,
    rate_1,
    rate_01,
    MembershipIntervals(auroc_interval, interval_1, interval_01),
  )


def _auroc(inside: Vector, outside: Vector) -> tuple[float, Interval]:
  """AUROC with the interval of a binomial share of equal variance."""
  n, m = len(inside), len(outside)
  rank = scipy.stats.rankdata
  pooled = rank(np.concatenate([inside, outside]))
  # Of each member, the share of non-members below it; of each non-member, the
  # share of members above.
  above = (pooled[:n] - rank(inside)) / m
  below = 1 - (pooled[n:] - rank(outside)) / n
  auroc = float(above.mean())
  variance = _variance(above) / n + _variance(below) / m
  trials = float(min(n, m))
  if variance > 0:
    trials = max(trials, auroc * (1 - auroc) / variance)
  return auroc, _wilson(auroc, trials)


def _variance(values: Vector) -> float:
  return float(values.var(ddof=1)) if len(values) > 1 else 0.25


def _wilson(share: float, trials: float) -> Interval:
  z = scipy.stats.norm.ppf(1 - _ERROR / 2)
  centre = (share + z**2 / (2 * trials)) / (1 + z**2 / trials)
  half = share * (1 - share) / trials + z**2 / (4 * trials**2)
  half = z * np.sqrt(half) / (1 + z**2 / trials)
  low, high = np.clip([centre - half, centre + half], 0.0, 1.0)
  return Interval(float(low), float(high))


def _true_positives(
  inside: Vector, outside: Vector, level: float
) -> tuple[float, Interval]:
  """The TPR at a false positive rate; both score sets ascend.

  With r the rank of a threshold from the top of `outside`: q_α lies above the
  r-th highest if fewer than r non-members reach it, which has probability
  B(r − 1), and below it if r or more exceed it, 1 − B(r − 1) at most; B is the
  binomial distribution function of m trials of α.
  """
  n, m = len(inside), len(outside)
  count = lambda score: n - np.searchsorted(inside, score, side='right')
  # A product such as 0.01 · 100 must not lose its last bit.
  allowed = int(np.floor(level * m + 1e-9))
  estimate = count(outside[m - 1 - allowed]) / n if allowed < m else 1.0
  ranks = np.arange(1, m + 1)
  below = scipy.stats.binom.cdf(ranks - 1, m, level)
  error = _ERROR / 4
  low, high = 0.0, 1.0
  if (is_above := below <= error).any():
    found = count(outside[m - ranks[is_above].max()])
    if found:
      low = scipy.stats.beta.ppf(error, found, n - found + 1)
  if (is_below := 1 - below <= error).any():
    found = count(outside[m - ranks[is_below].min()])
    if found < n:
      high = scipy.stats.beta.ppf(1 - error, found + 1, n - found)
  return float(estimate), Interval(float(low), float(high))
