"""Memorization Rejection's two numbers: the mask and a first threshold."""

from jaxtyping import Array, Bool, Float

from memjax import validate
from memjax.distances import exact_neighbors, sample_sets
from memjax.types import Samples

__all__ = ['rejection_mask', 'rejection_threshold']


def rejection_mask(
  distance: Float[Array, ' b'], threshold: float | Float[Array, '']
) -> Bool[Array, ' b']:
  """Tells which generated samples are kept for the generator's update.

    accepted_i = d_i > τ

  with d_i = `distance[i]` from sample i to its nearest training point and
  τ = `threshold`. Strict: a sample AT the threshold is rejected, so that τ = 0
  refuses exact copies alone. True = far enough from all training data; a NaN
  distance is rejected. No gradient passes: a comparison has none.

  A pure JAX function: jit and vmap it.

  Args:
    distance: [b], in the unit of `threshold`.
    threshold: τ ≥ 0.

  Returns:
    bool [b].

  Example:
    >>> import jax.numpy as jnp
    >>> rejection_mask(jnp.array([0.1, 0.13, 0.2]), 0.13).tolist()
    [False, False, True]

  Reference:
    Bai et al. (2022), Algorithm 1, which draws again while d ≤ τ; their
    objective in section 3.1 says d ≥ τ instead.
  """
  return distance > threshold


def rejection_threshold(train: Samples, *, metric: str = 'cosine') -> float:
  """The mean distance of a training point to its nearest other one.

    d̄ = 1/n Σ_i min_{j ≠ i} d(x_i, x_j)

  with x_i the rows of `train`. A sample that is nearer than this to some
  training point lies as close as training points lie to one another: close
  enough to be good. It is where to begin the search for a threshold, and its
  upper end: on CIFAR-10 d̄ is 0.15 and the best threshold was 0.13.

  An exact duplicate in `train` has distance 0 and lowers the mean: remove
  duplicates first.

  Args:
    train: [n, …], embedded as the generated samples will be; n ≥ 2.
    metric: 'cosine' (1 − cos) | 'euclidean'.

  Returns:
    d̄ ≥ 0, in the unit of the metric, computed in float64.

  Raises:
    ValueError: fewer than 2 points, NaN, zero vectors under 'cosine'.

  Example:
    >>> points = [[0.0], [1.0], [3.0]]
    >>> rejection_threshold(points, metric='euclidean')
    1.3333333333333333

  Reference:
    Bai et al. (2022), section 5.7.
  """
  (points,) = sample_sets(metric, train=train)
  validate.integer('len(train)', len(points), 2)
  near = exact_neighbors(points, points, metric=metric, exclude_self=True)
  return float(near.distance.mean())
