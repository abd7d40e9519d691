"""The numbers that peers report of samples, each beside what data would get.

None of them decides the verdict: they are here so that an audit's numbers can
be compared with those of papers, with their noise and what chance gives.
"""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Shaped

from memjax.distances import exact_neighbors
from memjax.scores.dcr import DCRShare, dcr_share
from memjax.scores.feature_likelihood import (
  FeatureLikelihood,
  feature_likelihood_divergence,
)
from memjax.scores.frechet import frechet_distance
from memjax.scores.gap_ratio import GapRatio, gap_ratio
from memjax.scores.inception_score import InceptionScore, inception_score
from memjax.scores.kernel import KernelDistance, kernel_distance
from memjax.scores.membership import MembershipInference, membership_inference
from memjax.scores.mifid import (
  MemorizationInformedFrechet,
  memorization_informed_frechet,
)
from memjax.types import Matrix

__all__ = ['MOST_FEATURES', 'SampleMetrics', 'measure_samples']

Logits = tuple[Shaped[np.ndarray, '_ _'], Shaped[np.ndarray, '_ _']]

# A matrix root of more features takes minutes.
MOST_FEATURES = 2048
_THRESHOLD = 0.1  # MiFID's
_SPLIT = 20  # samples a split of the Inception score


class SampleMetrics(NamedTuple):
  """One field a metric; None where it cannot be computed.

  Attributes:
    kernel: distance of samples to test points.
    kernel_reference: of training to test points.
    frechet: distance of samples to training points, in all features; NaN for
      more than 2,048.
    frechet_reference: of test to training points. Both are biased upward by
      an amount that depends on their number, so that both are of as many: of
      the larger set a random part is left out.
    likelihood: FLD.
    gap: d₁/d₂ < 1/3.
    dcr: share of samples nearer to train than to test.
    informed_frechet: nearest training point per sample, of as many samples;
      None with zero vectors and for more than 2,048 features.
    informed_reference: of test points; NaN without `informed_frechet`.
    attack: members told by the negative distance to their nearest sample.
    inception: Inception score of the samples; None without logits.
    inception_reference: of the test points.
  """

  kernel: KernelDistance
  kernel_reference: KernelDistance
  frechet: float
  frechet_reference: float
  likelihood: FeatureLikelihood
  gap: GapRatio
  dcr: DCRShare
  informed_frechet: MemorizationInformedFrechet | None
  informed_reference: float
  attack: MembershipInference
  inception: InceptionScore | None
  inception_reference: InceptionScore | None


def measure_samples(
  train: Matrix,
  test: Matrix,
  generated: Matrix,
  *,
  metric: str,
  num_permutations: int,
  seed: int,
  logits: Logits | None = None,
) -> SampleMetrics:
  """Computes all metrics of three sets of features.

  Args:
    train: float64 [l, d], checked by `sample_sets`.
    test: float64 [t, d].
    generated: float64 [n, d].
    metric: 'euclidean' | 'cosine'; kernel, Fréchet and FLD have their own.
    num_permutations: of the tests among them.
    seed: of everything random.
    logits: of test points and of samples, or None.
  """
  same = {
    'metric': metric,
    'num_permutations': num_permutations,
    'seed': seed,
  }
  near = lambda points: (
    -exact_neighbors(points, generated, metric=metric).distance[:, 0]
  )
  scores = None
  if logits is not None and min(map(len, logits)) >= _SPLIT:
    # Equal numbers and splits, for the bias depends on both.
    size = min(map(len, logits))
    splits = min(10, size // _SPLIT)
    rng = np.random.default_rng(seed)
    scores = [
      inception_score(
        part[rng.choice(len(part), size, replace=False)],
        num_splits=splits,
        seed=seed,
      )
      for part in logits
    ]
  return SampleMetrics(
    kernel=kernel_distance(test, generated),
    kernel_reference=kernel_distance(test, train),
    likelihood=feature_likelihood_divergence(train, test, generated, seed=seed),
    gap=gap_ratio(train, generated, test=test, **same),
    dcr=dcr_share(train, test, generated, **same),
    attack=membership_inference(near(train), near(test)),
    inception=None if scores is None else scores[1],
    inception_reference=None if scores is None else scores[0],
    **_frechet_distances(
      train, test, generated, num_permutations=num_permutations, seed=seed
    ),
  )


def _frechet_distances(
  train: Matrix,
  test: Matrix,
  generated: Matrix,
  *,
  num_permutations: int,
  seed: int,
) -> dict[str, Any]:
  """The fields of Fréchet distances; of as many samples as test points."""
  found: dict[str, Any] = {
    'frechet': np.nan,
    'frechet_reference': np.nan,
    'informed_frechet': None,
    'informed_reference': np.nan,
  }
  if train.shape[1] > MOST_FEATURES:
    return found
  fewest = min(len(test), len(generated))
  rng = np.random.default_rng(seed)
  generated, test = (
    points
    if len(points) == fewest
    else points[rng.choice(len(points), fewest, replace=False)]
    for points in (generated, test)
  )
  reference = found['frechet_reference'] = frechet_distance(train, test)
  if not all(part.any(axis=1).all() for part in (train, test, generated)):
    return {**found, 'frechet': frechet_distance(train, generated)}
  informed = memorization_informed_frechet(
    train,
    generated,
    test=test,
    threshold=_THRESHOLD,
    num_permutations=num_permutations,
    seed=seed,
  )
  distance = informed.null_distance
  return {
    'frechet': informed.frechet,
    'frechet_reference': reference,
    'informed_frechet': informed,
    'informed_reference': reference / distance
    if 0 < distance < _THRESHOLD
    else reference,
  }
