"""How much of a memorization score is the estimator of log p(x), not the model.

What a poor proposal loses differs between models that trained on an item and
models that held it out, and so counts as memorization although no density
changed. For the mean of log p, scores are linear in log p, and the published
score is exactly the accurate one plus the estimator's part:

  M_encoder = M_accurate + M(log p̂_encoder − log p̂_accurate)
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from memjax.scores.memorization import MemorizationScores, memorization_score
from memjax.scores.memorization_null import MemorizationTest, memorization_test

__all__ = ['EstimatorPart', 'compare_estimators']


class EstimatorPart(NamedTuple):
  """The published scores and their estimator's part, both by mean log p.

  Attributes:
    encoder: scores of log p by the encoder's proposal, [n].
    encoder_test: their test against permuted folds.
    part: M_encoder − M_accurate, [n]; positive = the estimator adds to the
      score.
    part_test: its test: small p = the estimator treats items that a model
      trained on otherwise than items that it held out.
    gap: mean of log p̂_accurate − log p̂_encoder over models and items, in nats:
      how much too low the published estimate is.
  """

  encoder: MemorizationScores
  encoder_test: MemorizationTest
  part: MemorizationScores
  part_test: MemorizationTest
  gap: float


def compare_estimators(
  log_px: Float[np.ndarray, 'm n'],
  encoder_log_px: Float[np.ndarray, 'm n'],
  held_out: Bool[np.ndarray, 'm n'],
  repeat: Int[np.ndarray, ' m'],
  *,
  num_permutations: int,
  seed: int,
  groups: Int[np.ndarray, ' n'] | None = None,
) -> EstimatorPart:
  """Splits the published score into the model's and the estimator's part.

  Args:
    log_px: by the accurate proposal, in nats.
    encoder_log_px: of the same draws of the items, by the encoder's.
    held_out: which model did not train on what.
    repeat: of each model.
    num_permutations: behind the p-values.
    seed: of the permutations, the same for both tests.
    groups: of near-duplicates, if the folds were drawn with them.
  """
  options = {'repeat': repeat, 'estimator': 'mean_log'}
  null = {'num_permutations': num_permutations, 'seed': seed, 'groups': groups}
  difference = encoder_log_px - log_px
  return EstimatorPart(
    memorization_score(encoder_log_px, held_out, **options),
    memorization_test(encoder_log_px, held_out, **options, **null),
    memorization_score(difference, held_out, **options),
    memorization_test(difference, held_out, **options, **null),
    float(-difference.mean()),
  )
