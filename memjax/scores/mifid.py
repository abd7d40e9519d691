"""Memorization-informed Fréchet distance: a quality that copies spoil.

It is called MiFID only with the canonical Inception features; with any others
name it after them.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from memjax import stats, validate
from memjax.distances import exact_neighbors, sample_sets
from memjax.scores.frechet import frechet_distance
from memjax.types import Matrix, Samples

__all__ = [
  'DIRECTIONS',
  'MemorizationInformedFrechet',
  'memorization_informed_frechet',
]

DIRECTIONS = ('nearest_real', 'nearest_generated')
_EPSILON = 1e-14  # of the competition's code, against division by 0


class MemorizationInformedFrechet(NamedTuple):
  """A Fréchet distance, what it is divided by, and whether that is chance.

  Attributes:
    value: frechet / distance where the distance is below the threshold, else
      frechet. HIGH = bad, by quality or by copying.
    frechet: the Fréchet distance of train and generated.
    distance: mean nearest 1 − |cos|. LOW = copying.
    distance_std_err: of that mean, over the points that are averaged.
    is_penalized: distance < threshold.
    null_distance: the same mean with test points as samples; NaN without them.
    p_value: one-sided, small = nearer to train than test points are. NaN
      without test points, and in the other direction.
  """

  value: float
  frechet: float
  distance: float
  distance_std_err: float
  is_penalized: bool
  null_distance: float
  p_value: float


def memorization_informed_frechet(
  train: Samples,
  generated: Samples,
  *,
  test: Samples | None = None,
  threshold: float = 0.1,
  direction: str = 'nearest_real',
  num_permutations: int = 1000,
  seed: int = 0,
) -> MemorizationInformedFrechet:
  """Divides a Fréchet distance by how far samples are from training points.

    value = F / d  if d < c, else F,   d = mean_g min_t (1 − |cos(g, t)|)

  with F the Fréchet distance of `train` and `generated` and c = `threshold`.
  `direction` names what is averaged, because implementations disagree:

    'nearest_real': over samples, the nearest training point. The original
      (and fidax): every sample is asked whether it is a copy.
    'nearest_generated': over training points, the nearest sample
      (torchmetrics). Few samples can copy without lowering it.

  A copy of the WHOLE training set has F = 0, and so the best value there is, as
  published: read `distance`, which is 0 then.

  The threshold 0.1 was chosen for Inception features of one competition; in
  another space honest samples may lie below or above it altogether. So read
  `distance` beside `null_distance`: it is what held-out data would get. The
  p-value exchanges samples with test points, and like C_T falls for a generator
  that keeps to the dense regions of the data without copying.

  Args:
    train: [l, …], two points or more, no zero vector.
    generated: [n, …], two or more, no zero vector.
    test: [t, …], held-out data of the same distribution, or None.
    threshold: c > 0.
    direction: 'nearest_real' | 'nearest_generated'.
    num_permutations: P; no p-value is below 1/(1 + P).
    seed: of the permutations.

  Returns:
    MemorizationInformedFrechet.

  Raises:
    ValueError: zero vectors (others drop them), NaN, fewer than 2 points,
      unequal numbers of features.

  Example:
    >>> rng = np.random.default_rng(0)
    >>> train, test = rng.normal(size=(2, 200, 32))
    >>> copies = train + 0.01 * rng.normal(size=train.shape)
    >>> of = memorization_informed_frechet
    >>> of(train, test).is_penalized, of(train, copies).is_penalized
    (False, True)

  Reference:
    Bai et al. (2021), On Training Sample Memorization; the code of the Kaggle
    competition Generative Dog Images (2019). The null is memjax's.
  """
  named = {'train': train, 'generated': generated}
  if test is not None:
    named['test'] = test
  train, generated, *held_out = sample_sets('cosine', **named)
  for name, points in (('train', train), ('generated', generated)):
    if len(points) < 2:
      raise ValueError(f'{name} has {len(points)} point: expected 2 or more.')
  threshold = validate.real('threshold', threshold, 0.0, np.inf, strict=True)
  validate.one_of('direction', direction, DIRECTIONS)
  of_real = direction == 'nearest_real'
  measure = lambda points: (
    _nearest(points, train) if of_real else _nearest(train, points)
  )
  near = measure(generated)
  null_distance = p_value = float('nan')
  if held_out:
    null = measure(held_out[0])
    null_distance = float(null.mean())
    # In the other direction distances are of training points, which are no
    # samples that could be exchanged.
    if of_real:
      p_value = stats.exchange_test(
        lambda test, generated: generated.mean() - test.mean(),
        null,
        near,
        num_permutations=num_permutations,
        seed=seed,
        alternative='less',
      ).p_value
  distance = float(near.mean())
  frechet = frechet_distance(train, generated)
  is_penalized = distance < threshold
  return MemorizationInformedFrechet(
    value=frechet / (distance + _EPSILON) if is_penalized else frechet,
    frechet=frechet,
    distance=distance,
    distance_std_err=float(near.std(ddof=1) / np.sqrt(len(near))),
    is_penalized=is_penalized,
    null_distance=null_distance,
    p_value=p_value,
  )


def _nearest(queries: Matrix, references: Matrix) -> Float[np.ndarray, ' q']:
  """The least 1 − |cos| of each query: a vector and its opposite are one."""
  both = references
  # Features behind a ReLU have no opposites.
  if min(queries.min(), references.min()) < 0:
    both = np.concatenate([references, -references])
  return exact_neighbors(queries, both, metric='cosine').distance[:, 0]
