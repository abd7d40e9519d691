"""The K-fold memorization score of a density model.

The score compares the log-probability of an item under models that trained on
it with that under models that held it out. POSITIVE = more likely when trained
on = memorized. Host NumPy in float64 on finished arrays.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from memjax import stats
from memjax.scores.fold_design import (
  FoldDesign,
  Matrix,
  Vector,
  averages,
  make_design,
)

__all__ = ['MemorizationScores', 'memorization_score']


class MemorizationScores(NamedTuple):
  """One entry an item, in nats.

  Attributes:
    score: M = U − V. POSITIVE = more likely when trained on.
    log_px_in: U, the log-probability under models that trained on the item.
    log_px_out: V, the log-probability under models that held it out.
    std_err: jackknife standard error of the score over repeats; use it with
      Student's t at L − 1 degrees of freedom. NaN at one repeat.
  """

  score: Float[np.ndarray, ' n']
  log_px_in: Float[np.ndarray, ' n']
  log_px_out: Float[np.ndarray, ' n']
  std_err: Float[np.ndarray, ' n']


def memorization_score(
  log_px: Matrix,
  held_out: Matrix,
  *,
  repeat: Vector | None = None,
  estimator: str = 'log_mean_exp',
) -> MemorizationScores:
  r"""Scores each item by what training on it adds to its log-probability.

  With π_{j,i} = `log_px[j, i]` and h_{j,i} = `held_out[j, i]`,

    M_i = U_i − V_i,  U_i = avg_{j: ¬h_{j,i}} π_{j,i},
                      V_i = avg_{j: h_{j,i}} π_{j,i}.

  `estimator` names the average:

    'log_mean_exp': log of the mean probability, the paper's eq. (3). It is
      biased UPWARD: U averages K − 1 times as many values as V, so a model
      that memorizes nothing but whose log p fluctuates by σ nats scores > 0
      (σ = 5, L = K = 10: 2.7). Its jackknife interval covers too rarely under
      such noise (0.71 instead of 0.95 at σ = 5, L = 10).
    'mean_log': mean of the log-probabilities. Unbiased under that null, and
      its t-interval covers.
    'matched': log-mean-exp of one training model a repeat against the one
      that held the item out, averaged over the K − 1 cyclic choices of the
      training model. Equal counts, hence no bias of that kind.

  Args:
    log_px: [m, n] log p of item i under model j, in nats. Finite.
    held_out: bool [m, n], True where model j did not train on item i; for
      instance from `make_folds`. Any design will do, also random halves, as
      long as each item is both held out and trained on.
    repeat: int [m], the repeat of each model. None: equal blocks of rows, each
      a partition of the items; a design that is no such thing counts as one
      repeat.
    estimator: 'log_mean_exp' | 'mean_log' | 'matched'.

  Returns:
    MemorizationScores(score, log_px_in, log_px_out, std_err), each [n] in nats.

  Raises:
    ValueError: for non-finite log-probabilities, shapes that do not match, an
      item that is never or always held out, an unknown estimator.

  Example:
    >>> from memjax import make_folds
    >>> held_out = make_folds(4, 2)
    >>> log_px = np.where(held_out, -12.0, -10.0)
    >>> memorization_score(log_px, held_out).score
    array([2., 2., 2., 2.])

  Reference:
    van den Burg and Williams (2021), eq. (3) and Algorithm 1.
  """
  design = make_design(log_px, held_out, repeat, estimator)
  score, inside, outside = averages(design, design.pattern, estimator)
  return MemorizationScores(
    score, inside, outside, _jackknife(design, estimator)
  )


def _jackknife(design: FoldDesign, estimator: str) -> np.ndarray:
  """Standard error over repeats; NaN where a repeat is all that an item has."""
  repeats = np.unique(design.repeat)
  num_items = design.pattern.shape[1]
  if repeats.size < 2:
    return np.full(num_items, np.nan)
  without = []
  for repeat in repeats:
    keep = design.repeat != repeat
    score, inside, outside = averages(design, design.pattern, estimator, keep)
    defined = np.isfinite(inside) & np.isfinite(outside)
    without.append(np.where(defined, score, np.nan))
  return stats.jackknife(np.stack(without))
