"""Membership inference on the fold models of a study, without retraining.

Each model was trained on some items and held out others of the same
distribution: who can tell which, from log p alone? The memorization score says
what training on an item changes on average over models; this says what one
released model gives away.
"""

from typing import NamedTuple

import numpy as np
import scipy.stats
from jaxtyping import Bool, Float, Int

from memjax import stats, validate
from memjax.scores.fold_design import check_log_px
from memjax.scores.membership import membership_inference
from memjax.scores.memorization_null import fold_permutations

__all__ = ['Attack', 'MembershipAttacks', 'attack_models']

Matrix = Float[np.ndarray, 'm n']
Mask = Bool[np.ndarray, 'm n']
Repeats = Int[np.ndarray, ' m']

_TOP = 0.05  # of the items, by memorization score
# The items of every model are sorted anew for each.
_MOST_PERMUTATIONS = 99


class Attack(NamedTuple):
  """One attack on every model.

  Attributes:
    auroc: [m], by model. ½ = guessing. NaN for a model without items on both
      sides.
    auroc_low: [m], lower end of the model's own 95 % interval over items.
    auroc_high: [m], upper end.
    tpr_at_1_percent: [m]. 0.01 = guessing. NaN with fewer than 100 held-out
      items.
    tpr_at_01_percent: [m]. NaN with fewer than 1,000.
    mean: means over models of AUROC, TPR at 1 %, TPR at 0.1 %.
    intervals: their 95 % t-intervals over repeats; NaN at one repeat.
    p_value: one-sided, of the mean AUROC against permuted folds.
    num_in: mean number of items a model that it trained on.
    num_out: mean number that it held out.
  """

  auroc: Float[np.ndarray, ' m']
  auroc_low: Float[np.ndarray, ' m']
  auroc_high: Float[np.ndarray, ' m']
  tpr_at_1_percent: Float[np.ndarray, ' m']
  tpr_at_01_percent: Float[np.ndarray, ' m']
  mean: tuple[float, float, float]
  intervals: tuple[stats.Interval, stats.Interval, stats.Interval]
  p_value: float
  num_in: float
  num_out: float


class MembershipAttacks(NamedTuple):
  """What log p gives away, by ever better attackers.

  Attributes:
    loss: by log p under the model itself.
    calibrated: by log p less its mean under models of other repeats that held
      the item out; None at one repeat.
    memorized: `calibrated` among the items whose memorization score, by the
      other repeats, is in the top 5 %; None at one repeat.
    num_permutations: behind the p-values.
  """

  loss: Attack
  calibrated: Attack | None
  memorized: Attack | None
  num_permutations: int


def attack_models(
  log_px: Matrix,
  held_out: Mask,
  repeat: Repeats,
  *,
  num_permutations: int = 99,
  seed: int = 0,
  groups: Int[np.ndarray, ' n'] | None = None,
) -> MembershipAttacks:
  """Attacks each fold model with the others of the study.

    loss:        s_{j,i} = π_{j,i}
    calibrated:  s_{j,i} = π_{j,i} − mean_{j′: r_{j′} ≠ r_j, h_{j′,i}} π_{j′,i}

  with π = `log_px`, h = `held_out`, r = `repeat`; items that model j trained on
  (¬h_{j,i}) are its members. HIGH scores mean membership. The second is the
  offline attack of LiRA with a threshold on the difference: what is an easy
  item for every model is no sign of training.

  No leakage: models of the target's own repeat calibrate nothing. One of them
  held out each member, and none but the target held out each non-member, so
  that their number alone would tell. The folds of other repeats are drawn
  independently of the target's. For the same reason the most memorized items
  are chosen by the other repeats. So with a log p that ignores the folds every
  AUROC is ½ on average, and the p-value, which permutes the columns of
  `held_out` jointly and computes everything again, is exact.

  With few repeats the calibration is noisy (its models differ in training set
  and seed): an attack that is no better than 'loss' says little at two.

  Args:
    log_px: [m, n] in nats, finite.
    held_out: bool [m, n].
    repeat: int [m].
    num_permutations: P, 99 at most; no p-value is below 1/(1 + P).
    seed: of the permutations.
    groups: int [n], if the folds were drawn with groups.

  Returns:
    MembershipAttacks(loss, calibrated, memorized, num_permutations).

  Raises:
    ValueError: as `memorization_score`.

  Example:
    >>> from memjax import make_folds
    >>> held_out = make_folds(300, 5, num_repeats=3)
    >>> repeat = np.repeat(np.arange(3), 5)
    >>> noise = np.random.default_rng(0).normal(size=held_out.shape)
    >>> difficulty = 30 * np.random.default_rng(1).normal(size=300)
    >>> log_px = difficulty + noise - 2 * held_out
    >>> attacks = attack_models(log_px, held_out, repeat)
    >>> round(attacks.loss.mean[0], 1), round(attacks.calibrated.mean[0], 1)
    (0.5, 0.9)

  Reference:
    Carlini et al. (2022), Membership Inference Attacks From First Principles.
  """
  log_px, held_out, repeat = check_log_px(log_px, held_out, repeat)
  num_permutations = validate.integer('num_permutations', num_permutations, 1)
  count = min(num_permutations, _MOST_PERMUTATIONS)
  attacks = _attacks(log_px, held_out, repeat)
  known = {name: np.isfinite(scores) for name, scores in attacks.items()}
  nulls = {name: [] for name in attacks}
  rank = _ranks(log_px)
  for order in fold_permutations(
    log_px.shape[1], count, seed=seed, groups=groups
  ):
    out = held_out[:, order]
    for name, scores in _attacks(log_px, out, repeat).items():
      # Only the folds change the first attack, not its scores.
      ranks = rank if name == 'loss' else _ranks(scores)
      aurocs = _aurocs(ranks, out, np.isfinite(scores))
      nulls[name].append(_mean(aurocs))
  found = {
    name: _summarize(
      scores, held_out, known[name], repeat, np.array(nulls[name])
    )
    for name, scores in attacks.items()
  }
  return MembershipAttacks(
    found['loss'], found.get('calibrated'), found.get('memorized'), count
  )


def _attacks(log_px: Matrix, held_out: Mask, repeat: Repeats):
  """Scores [m, n] of each attack by name; NaN for items that it leaves out."""
  repeats = np.unique(repeat)
  if len(repeats) < 2:
    return {'loss': log_px}
  calibrated = np.empty_like(log_px)
  memorized = np.full_like(log_px, np.nan)
  for r in repeats:
    own = repeat == r
    others, out = log_px[~own], held_out[~own]
    reference = _average(others, out)
    calibrated[own] = log_px[own] - reference
    score = _average(others, ~out) - reference
    if np.isfinite(score).any():
      is_top = score > np.nanquantile(score, 1 - _TOP)
      chosen = np.ix_(own, is_top)
      memorized[chosen] = calibrated[chosen]
  return {'loss': log_px, 'calibrated': calibrated, 'memorized': memorized}


def _average(values: Matrix, is_counted: Mask) -> Float[np.ndarray, ' n']:
  """Means over models of the values that count; NaN where none does."""
  with np.errstate(invalid='ignore'):
    return (values * is_counted).sum(axis=0) / is_counted.sum(axis=0)


def _summarize(
  scores: Matrix,
  held_out: Mask,
  is_known: Mask,
  repeat: Repeats,
  nulls: Float[np.ndarray, ' p'],
) -> Attack:
  """One attack on every model, and on all."""
  models = [
    _one_model(row[~out & known], row[out & known])
    for row, out, known in zip(scores, held_out, is_known, strict=True)
  ]
  table = np.array(models).T
  interval = lambda row: _interval(
    [_mean(row[repeat == r]) for r in np.unique(repeat)]
  )
  mean = _mean(table[0])
  is_unknown = np.isnan(mean) or np.isnan(nulls).any()
  return Attack(
    *table,
    mean=(mean, _mean(table[3]), _mean(table[4])),
    intervals=(interval(table[0]), interval(table[3]), interval(table[4])),
    p_value=float('nan')
    if is_unknown
    else stats.permutation_p_value(mean, nulls, alternative='greater'),
    num_in=float((is_known & ~held_out).sum(axis=1).mean()),
    num_out=float((is_known & held_out).sum(axis=1).mean()),
  )


def _one_model(scores_in, scores_out) -> tuple[float, ...]:
  """AUROC with its interval, and both rates."""
  if not (scores_in.size and scores_out.size):
    return (np.nan,) * 5
  found = membership_inference(scores_in, scores_out)
  # Of fewer than 1/α non-members not one may be accused, and guessing finds
  # one in m + 1 members instead of α.
  known = lambda rate, level: rate if level * scores_out.size >= 1 else np.nan
  return (
    found.auroc,
    *found.intervals.auroc,
    known(found.tpr_at_1_percent, 0.01),
    known(found.tpr_at_01_percent, 0.001),
  )


def _ranks(scores: Matrix) -> Matrix:
  """Of each model's items, ties halved; unknown scores rank last."""
  return scipy.stats.rankdata(
    np.where(np.isfinite(scores), scores, np.inf), axis=1
  )


def _aurocs(
  rank: Matrix, held_out: Mask, is_known: Mask
) -> Float[np.ndarray, ' m']:
  """AUROC of each model from the ranks of its members."""
  is_member = is_known & ~held_out
  inside = is_member.sum(axis=1)
  outside = (is_known & held_out).sum(axis=1)
  above = np.where(is_member, rank, 0.0).sum(axis=1)
  with np.errstate(invalid='ignore'):
    return (above - inside * (inside + 1) / 2) / (inside * outside)


def _mean(values) -> float:
  """The mean of what is known; NaN where nothing is."""
  values = np.asarray(values)
  known = values[np.isfinite(values)]
  return float(known.mean()) if known.size else float('nan')


def _interval(by_repeat: list[float]) -> stats.Interval:
  """Of a mean over repeats, Student's t."""
  values = np.array(by_repeat)
  mean, half = values.mean(), stats.student_reach(values)
  low, high = np.clip([mean - half, mean + half], 0.0, 1.0)
  return stats.Interval(float(low), float(high))
