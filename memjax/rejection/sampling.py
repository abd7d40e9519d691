"""A sampler that keeps its near-copies to itself."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from memjax import validate
from memjax.rejection.index import TrainingIndex, nearest
from memjax.rejection.threshold import rejection_mask

__all__ = ['GuardedSamples', 'guard']

Points = Shaped[np.ndarray | jax.Array, '...']
Pytree = Any


class GuardedSamples(NamedTuple):
  """What a guarded sampler let through, and what it refused.

  Attributes:
    samples: a pytree of NumPy arrays [m, …], m ≤ the number asked for.
    distance: [m], to the nearest training item, all above the threshold.
    nearest: int [m], that item.
    num_drawn: samples drawn in all.
    num_refused: of them, near-copies and samples that are not finite.
    num_missing: what is lacking when the bound on draws was reached.
  """

  samples: Pytree
  distance: Float[np.ndarray, ' m']
  nearest: Int[np.ndarray, ' m']
  num_drawn: int
  num_refused: int
  num_missing: int


def guard(
  sampler: Callable[[jax.Array, int], Pytree],
  index: TrainingIndex,
  threshold: float,
  *,
  embed: Callable[[Pytree], Points] | None = None,
  max_draws_per_sample: float = 10.0,
  batch_size: int = 256,
) -> Callable[[jax.Array, int], GuardedSamples]:
  """Wraps a sampler so that it refuses near-copies of training items.

  WHAT IT DOES TO THE DISTRIBUTION: with q the sampler's density, samples follow

    q'(x) = q(x) 1[d(x) > τ] / Q,  Q = P_q(d > τ),

  τ = `threshold`: q with a ball around every training item cut out and the rest
  scaled up. That is not the data's density, which is highest near the data:
  with τ at the distance of training items to one another, what typical data
  look like is thinned out, and classes that lie densely lose more than others.
  The share refused, `num_refused / num_drawn`, estimates 1 − Q. The model stays
  as it is: it has still memorized what it has, and near-copies in a sense that
  the embedding does not see pass. Where the bound ends the search, the samples
  returned still follow q', there are only fewer.

  Args:
    sampler: (key, num_samples) -> a pytree of arrays [num_samples, …].
    index: of the embedded training items.
    threshold: τ ≥ 0, in the index's metric.
    embed: samples -> [num_samples, …] as the index was; None: as they are.
    max_draws_per_sample: at most so many draws for each sample asked for.
    batch_size: samples drawn at a time, fewer where the bound is below it.

  Returns:
    guarded(key, num_samples) -> GuardedSamples. The same key gives the same
    samples.

  Raises:
    ValueError: an argument out of range; in the guarded sampler, a sampler that
      gives another number of samples than it was asked for.

  Example:
    >>> from memjax.rejection import make_index
    >>> train = np.array([[0.0], [1.0]])
    >>> sampler = lambda key, n: jax.random.uniform(key, (n, 1))
    >>> guarded = guard(sampler, make_index(train, metric='euclidean'), 0.25)
    >>> found = guarded(jax.random.key(0), 100)
    >>> bool((abs(found.samples - 0.5) < 0.25).all()), found.num_missing
    (True, 0)
  """
  threshold = validate.real('threshold', threshold, 0.0)
  limit = validate.real('max_draws_per_sample', max_draws_per_sample, 1.0, 1e9)
  batch_size = validate.integer('batch_size', batch_size, 1)
  search = jax.jit(nearest)

  def guarded(key: jax.Array, num_samples: int) -> GuardedSamples:
    num_samples = validate.integer('num_samples', num_samples, 1)
    # The bound holds for few samples too, with smaller batches.
    most = max(1, int(limit * num_samples))
    kept, num_kept, num_drawn = [], 0, 0
    while num_kept < num_samples and num_drawn < most:
      size = min(batch_size, most - num_drawn)
      samples = sampler(jax.random.fold_in(key, len(kept)), size)
      points = samples if embed is None else embed(samples)
      for leaf in jax.tree.leaves((samples, points)):
        if len(leaf) != size:
          raise ValueError(
            f'sampler or embed gave {len(leaf)} samples: expected {size}, as '
            'many as were asked for.'
          )
      near = search(index, jnp.asarray(points))
      is_kept = np.asarray(rejection_mask(near.distance, threshold))
      take = functools.partial(_rows, is_kept=is_kept)
      kept.append(jax.tree.map(take, (samples, *near)))
      num_kept += int(is_kept.sum())
      num_drawn += size
    joined = jax.tree.map(
      lambda *parts: np.concatenate(parts)[:num_samples], *kept
    )
    return GuardedSamples(
      *joined,
      num_drawn=num_drawn,
      num_refused=num_drawn - num_kept,
      num_missing=max(0, num_samples - num_kept),
    )

  return guarded


def _rows(array: Points, is_kept: Bool[np.ndarray, ' b']) -> np.ndarray:
  return np.asarray(array)[is_kept]
