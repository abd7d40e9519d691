"""DCR share: are samples nearer to the training than to the test points?

The distance to the closest record (DCR) of synthetic tables, compared with a
holdout.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from memjax import stats, validate
from memjax.distances import exact_neighbors, sample_sets
from memjax.scores.relabelling import pooled_neighbors, relabelled_share
from memjax.types import Samples

__all__ = ['DCRShare', 'dcr_share']


class DCRShare(NamedTuple):
  """The share beside what set sizes alone give.

  Attributes:
    share: of samples nearer to a training than to any test point, ties ½.
      HIGH = copying.
    null_share: l/(l + t), the mean under relabelling; where three points of
      the pool or more tie, as in tables, that mean as drawn.
    null_std: the standard deviation under relabelling.
    p_value: one-sided, small = nearer to train than chance allows.
    d_train: [n], distance of each sample to its closest training record.
    d_test: [n], to its closest test record.
  """

  share: float
  null_share: float
  null_std: float
  p_value: float
  d_train: Float[np.ndarray, ' n']
  d_test: Float[np.ndarray, ' n']


def dcr_share(
  train: Samples,
  test: Samples,
  generated: Samples,
  *,
  metric: str = 'euclidean',
  num_permutations: int = 1000,
  seed: int = 0,
) -> DCRShare:
  """Measures how many samples are nearer to training than to test points.

    share = mean_g ( 1[d_train < d_test] + ½ 1[d_train = d_test] )

  with d_train, d_test the distances of a sample g to the nearest of `train` and
  of `test`. To a generator that copies nothing the nearest of all l + t points
  is a training point with probability l/(l + t), not ½: sets need not be equal.

  The p-value relabels the pooled training and test points at random, sizes
  kept. A binomial test would be wrong, because samples share neighbours. It
  looks at who is nearer, not by how much: `copying_test` finds fewer copies.
  Fitting alone raises the share a little.

  Args:
    train: [l, …].
    test: [t, …], held-out data of the same distribution.
    generated: [n, …].
    metric: 'euclidean' | 'cosine'.
    num_permutations: P; no p-value is below 1/(1 + P).
    seed: of the relabellings.

  Returns:
    DCRShare.

  Raises:
    ValueError: NaN, empty sets, unequal numbers of features, zero vectors under
      'cosine'.

  Example:
    >>> rng = np.random.default_rng(0)
    >>> train, test = rng.normal(size=(300, 8)), rng.normal(size=(100, 8))
    >>> found = dcr_share(train, test, train[:60] + 0.01)
    >>> found.share, found.null_share, found.p_value < 0.01
    (1.0, 0.75, True)

  Reference:
    Platzer and Reutterer (2021); ties half as in mostlyai-qa, while SDMetrics
    counts d_train < d_test alone. The null is memjax's.
  """
  train, test, generated = sample_sets(
    metric, train=train, test=test, generated=generated
  )
  num_permutations = validate.integer('num_permutations', num_permutations, 1)
  rng = np.random.default_rng(validate.integer('seed', seed, 0))
  d_train, d_test = (
    exact_neighbors(generated, points, metric=metric).distance[:, 0]
    for points in (train, test)
  )
  share = float((d_train < d_test).mean() + (d_train == d_test).mean() / 2)
  near = pooled_neighbors(train, test, generated, metric=metric)
  nulls = relabelled_share(near, num_permutations=num_permutations, rng=rng)
  null_share = len(train) / (len(train) + len(test))
  # Two that tie leave the mean as it is; more of them do not.
  nearest = near.distance[:, :3]
  has_ties = nearest.shape[1] > 2 and (nearest == nearest[:, :1]).all(1).any()
  return DCRShare(
    share=share,
    null_share=float(nulls.mean()) if has_ties else null_share,
    null_std=float(nulls.std(ddof=min(1, num_permutations - 1))),
    p_value=stats.permutation_p_value(share, nulls, alternative='greater'),
    d_train=d_train,
    d_test=d_test,
  )
