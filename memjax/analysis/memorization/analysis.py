"""Everything the report says about a K-fold study, from its log p arrays.

Arrays in, arrays out; no files. Items that no remaining model held out, or
that none trained on, have NaN throughout and take part in nothing.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import scipy.stats

from memjax import stats
from memjax.analysis.memorization.attacks import (
  MembershipAttacks,
  attack_models,
)
from memjax.analysis.memorization.estimators import (
  EstimatorPart,
  compare_estimators,
)
from memjax.scores.memorization import MemorizationScores, memorization_score
from memjax.scores.memorization_null import (
  MemorizationTest,
  memorization_test,
  null_scores,
)

__all__ = ['QUANTILES', 'Analysis', 'Interval', 'analyze']

QUANTILES = (0.5, 0.95, 0.999)
# Permutations shown in figures, as opposed to those behind a p-value.
_SHOWN = 20


class Interval(NamedTuple):
  """A number with its 95 % t-interval over repeats; NaN at one repeat."""

  value: float
  low: float
  high: float


class Analysis(NamedTuple):
  """What a study found.

  Attributes:
    scores: of the last epoch, [n], by the estimator asked for.
    test: of the same scores, [n].
    published: [n], the paper's estimator (log-mean-exp), for comparison.
    published_null_median: its median over items under the null, in nats: what
      of its median is bias.
    null: [P, scored items] scores under some of the null's permutations.
    epochs: [E] that were scored.
    score_by_epoch: [E, n].
    null_quantiles: [E, P, 3] the QUANTILES under the null.
    mean: of the scores, over repeats.
    quantile_95: of the scores, over repeats.
    num_repeats: L.
    num_folds: K, of the repeat with the most models.
    estimator: by which the scores were made.
    num_permutations: behind the p-values.
    is_partition: each repeat holds every item out exactly once.
    estimator_part: what the encoder's proposal adds to the scores, of the
      scored items; None if log p was estimated once.
    membership: attacks on each model by the last epoch's log p.
  """

  scores: MemorizationScores
  test: MemorizationTest
  published: np.ndarray
  published_null_median: float
  null: np.ndarray
  epochs: np.ndarray
  score_by_epoch: np.ndarray
  null_quantiles: np.ndarray
  mean: Interval
  quantile_95: Interval
  num_repeats: int
  num_folds: int
  estimator: str
  num_permutations: int
  is_partition: bool
  membership: MembershipAttacks
  estimator_part: EstimatorPart | None = None

  @property
  def is_scored(self) -> np.ndarray:
    """Which items have a score, bool [n]."""
    return np.isfinite(self.scores.score)


def analyze(
  log_px: Mapping[int, np.ndarray],
  held_out: np.ndarray,
  repeat: np.ndarray,
  *,
  estimator: str,
  num_permutations: int,
  seed: int,
  groups: np.ndarray | None = None,
  encoder_log_px: np.ndarray | None = None,
) -> Analysis:
  """Scores every epoch, and tests the last one.

  Epochs may have NaN for some items, all models alike: what is said over
  epochs is then of the items that every epoch has.

  Args:
    log_px: float64 [m, n] by epoch, in nats, of the models that are kept.
    held_out: bool [m, n] of the same models.
    repeat: int [m].
    estimator: see `memorization_score`.
    num_permutations: behind the p-values.
    seed: of the permutations.
    groups: int [n], if the folds were drawn with groups.
    encoder_log_px: [m, n] of the last epoch by the encoder's proposal.

  Raises:
    ValueError: if no item is both held out and trained on.
  """
  is_scored = np.asarray(held_out.any(axis=0) & ~held_out.all(axis=0))
  if not is_scored.any():
    raise ValueError(
      'No item is both held out by one of the remaining '
      f'{len(held_out)} models and trained on by another: nothing to score.'
    )
  held_out = held_out[:, is_scored]
  groups = None if groups is None else np.asarray(groups)[is_scored]
  epochs = np.array(sorted(log_px))
  log_px = {epoch: log_px[epoch][:, is_scored] for epoch in log_px}
  options: dict[str, Any] = {'repeat': repeat, 'estimator': estimator}
  exact = {'num_permutations': num_permutations, 'seed': seed, 'groups': groups}
  shown = {**exact, 'num_permutations': min(_SHOWN, num_permutations)}
  score_by_epoch, null_quantiles = _follow(log_px, held_out, options, shown)
  last = log_px[epochs[-1]]
  test = memorization_test(last, held_out, **options, **exact)
  paper = {'repeat': repeat, 'estimator': 'log_mean_exp'}
  mean, quantile = _intervals(last, held_out, repeat, estimator)
  spread = lambda values: _spread(values, is_scored)
  return Analysis(
    scores=MemorizationScores(
      *map(spread, memorization_score(last, held_out, **options))
    ),
    test=MemorizationTest(
      p_value=spread(test.p_value),
      q_value=spread(test.q_value),
      null_mean=spread(test.null_mean),
      null_std=spread(test.null_std),
      global_p_value=test.global_p_value,
    ),
    published=spread(memorization_score(last, held_out, **paper).score),
    published_null_median=float(
      np.median(null_scores(last, held_out, **paper, **shown), axis=1).mean()
    ),
    null=null_scores(last, held_out, **options, **shown),
    epochs=epochs,
    score_by_epoch=np.stack([spread(score) for score in score_by_epoch]),
    null_quantiles=null_quantiles,
    mean=mean,
    quantile_95=quantile,
    num_repeats=len(np.unique(repeat)),
    num_folds=int(np.bincount(np.unique(repeat, return_inverse=True)[1]).max()),
    estimator=estimator,
    num_permutations=num_permutations,
    is_partition=all(
      (held_out[repeat == r].sum(axis=0) == 1).all() for r in np.unique(repeat)
    ),
    membership=attack_models(last, held_out, repeat, **exact),
    estimator_part=None
    if encoder_log_px is None
    else compare_estimators(
      last, encoder_log_px[:, is_scored], held_out, repeat, **exact
    ),
  )


def _follow(
  log_px: Mapping[int, np.ndarray],
  held_out: np.ndarray,
  options: dict[str, Any],
  nulls: dict[str, Any],
) -> tuple[np.ndarray, np.ndarray]:
  """Scores [E, n] and null quantiles [E, P, 3] of what every epoch has."""
  epochs = sorted(log_px)
  is_tracked = ~np.any(
    [np.isnan(log_px[epoch]).all(axis=0) for epoch in epochs], axis=0
  )
  if nulls['groups'] is not None:
    nulls = {**nulls, 'groups': nulls['groups'][is_tracked]}
  scores, quantiles = [], []
  for epoch in epochs:
    tracked = log_px[epoch][:, is_tracked], held_out[:, is_tracked]
    score = memorization_score(*tracked, **options).score
    scores.append(_spread(score, is_tracked))
    null = null_scores(*tracked, **options, **nulls)
    quantiles.append(np.quantile(null, QUANTILES, axis=1).T)
  return np.stack(scores), np.stack(quantiles)


def _spread(values: np.ndarray, is_scored: np.ndarray) -> np.ndarray:
  """Scored items' values among all items; NaN elsewhere."""
  whole = np.full(is_scored.size, np.nan)
  whole[is_scored] = values
  return whole


def _intervals(log_px, held_out, repeat, estimator) -> tuple[Interval, ...]:
  """Mean and 0.95 quantile of the scores, each with its jackknife interval."""

  def summaries(keep):
    rows = held_out[keep]
    both = np.asarray(rows.any(axis=0) & ~rows.all(axis=0))
    # What is left of a study from which models are excluded may hold nothing
    # that can be scored, or paired; then there is no interval.
    is_paired = estimator != 'matched' or all(
      (rows[repeat[keep] == r].shape[0] > 1) for r in np.unique(repeat[keep])
    )
    if not both.any() or not is_paired:
      return np.full(2, np.nan)
    score = memorization_score(
      log_px[keep][:, both],
      rows[:, both],
      repeat=repeat[keep],
      estimator=estimator,
    ).score
    return np.array([score.mean(), np.quantile(score, 0.95)])

  values = summaries(np.ones(len(repeat), bool))
  repeats = np.unique(repeat)
  if len(repeats) < 2:
    return tuple(Interval(float(v), np.nan, np.nan) for v in values)
  std_err = stats.jackknife(np.stack([summaries(repeat != r) for r in repeats]))
  half = scipy.stats.t.ppf(0.975, len(repeats) - 1) * std_err
  return tuple(
    Interval(float(v), float(v - h), float(v + h))
    for v, h in zip(values, half, strict=True)
  )
