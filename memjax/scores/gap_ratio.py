"""The gap ratio: is one training point much nearer than all the others?

Third of the numbers that are called nearest-neighbour ratio; `distance_ratio`
has the other two. This one needs no test point: both distances of a GENERATED
sample are to training points, the nearest and the second nearest.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from memjax import stats, validate
from memjax.distances import exact_neighbors, sample_sets
from memjax.types import Samples

__all__ = ['GapRatio', 'gap_ratio']


class GapRatio(NamedTuple):
  """Which samples have one training point to themselves, and how many should.

  Attributes:
    fraction: share of memorized samples. HIGH = copying.
    null_fraction: the same share of test points; NaN without them.
    p_value: one-sided, small = more samples than test points. NaN without test
      points.
    is_memorized: bool [n], d₁ < threshold · d₂.
    ratio: [n], d₁/d₂ in [0, 1]; 1 if both are 0.
    nearest_train: int [n].
  """

  fraction: float
  null_fraction: float
  p_value: float
  is_memorized: Bool[np.ndarray, ' n']
  ratio: Float[np.ndarray, ' n']
  nearest_train: Int[np.ndarray, ' n']


def gap_ratio(
  train: Samples,
  generated: Samples,
  *,
  test: Samples | None = None,
  threshold: float = 1 / 3,
  metric: str = 'euclidean',
  num_permutations: int = 1000,
  seed: int = 0,
) -> GapRatio:
  """Flags samples that are far nearer to one training point than to any other.

    g is memorized  iff  d₁(g) < c · d₂(g),

  with c = `threshold` and d₁ ≤ d₂ its distances to the two nearest training
  points. In d dimensions a share of about c^d of a perfect generator's samples
  is flagged too (1/9 at d = 2), which `null_fraction` measures on test points.
  The p-value exchanges samples with test points (`exchange_test`).

  It cannot see a copy of a training point that the training set holds twice:
  then d₁ = d₂. Remove near-duplicates first (`near_duplicates`). A generator
  that lies nearer to the data than the data do, without any copy, raises it
  little: in high dimensions d₁/d₂ is near 1 for whatever is no copy.

  Args:
    train: [l, …], two points or more.
    generated: [n, …].
    test: [t, …], held-out data of the same distribution, or None.
    threshold: c in (0, 1], of true distances; 1/9 on squared ones is 1/3 here.
    metric: 'euclidean' | 'cosine': of the unit vectors, √(2(1 − cos)).
    num_permutations: P; no p-value is below 1/(1 + P).
    seed: of the permutations.

  Returns:
    GapRatio.

  Raises:
    ValueError: one training point, NaN, unequal numbers of features, a
      threshold out of range, zero vectors under 'cosine'.

  Example:
    >>> rng = np.random.default_rng(0)
    >>> train, test, generated = rng.normal(size=(3, 300, 8))
    >>> generated[:30] = train[:30] + 0.01
    >>> found = gap_ratio(train, generated, test=test)
    >>> found.fraction, found.null_fraction, found.p_value < 0.01
    (0.1, 0.0, True)

  Reference:
    Yoon et al. (2023); Gu et al. (2023), On Memorization in Diffusion Models.
    The null is memjax's.
  """
  named = {'train': train, 'generated': generated}
  if test is not None:
    named['test'] = test
  train, generated, *held_out = sample_sets(metric, **named)
  if len(train) < 2:
    raise ValueError('train has 1 point: expected 2 or more.')
  threshold = validate.real('threshold', threshold, 0.0, 1.0)
  if threshold == 0:
    raise ValueError('threshold=0: expected a number in (0, 1].')
  queries = np.concatenate([generated, *held_out])
  near = exact_neighbors(queries, train, metric=metric, k=2)
  first, second = near.distance.T
  if metric == 'cosine':
    # 1 − cos is half a squared distance of unit vectors.
    first, second = np.sqrt(first), np.sqrt(second)
  is_gap = first < threshold * second
  with np.errstate(invalid='ignore'):
    ratio = np.where(second == 0, 1.0, first / second)
  count = len(generated)
  null_fraction = p_value = float('nan')
  if held_out:
    null_fraction = float(is_gap[count:].mean())
    p_value = stats.exchange_test(
      lambda test, generated: generated.mean() - test.mean(),
      is_gap[count:],
      is_gap[:count],
      num_permutations=num_permutations,
      seed=seed,
      alternative='greater',
    ).p_value
  return GapRatio(
    fraction=float(is_gap[:count].mean()),
    null_fraction=null_fraction,
    p_value=p_value,
    is_memorized=is_gap[:count],
    ratio=ratio[:count],
    nearest_train=near.index[:count, 0],
  )
