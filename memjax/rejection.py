"""Memorization Rejection: a generator does not learn from its near-copies.

Generic: it wraps the loss of any generator, in any framework whose functions
are pure JAX. An index of embedded training items says how near a sample is to
the nearest of them; what is too near is left out of the generator's update
(`rejecting_loss`), or never leaves a sampler (`guard`).
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Shaped

from memjax import validate
from memjax.distances import sample_sets
from memjax.scores.rejection import rejection_mask

__all__ = [
  'POLICIES',
  'GuardedSamples',
  'Nearest',
  'Rejection',
  'TrainingIndex',
  'guard',
  'host_distance',
  'make_index',
  'nearest',
  'rejecting_loss',
]

POLICIES = ('drop', 'resample', 'none')

Points = Shaped[np.ndarray | jax.Array, '...']
Pytree = Any


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainingIndex:
  """Embedded training items, prepared for `nearest`; a pytree of arrays.

  Hand it to a jitted function as an argument: closed over, 50,000 × 2,048
  numbers would become a constant of the program.

  Attributes:
    points: float32 [n, d]; of length one for the cosine.
    half_squared_norm: [n], ½|y|² of each.
    metric: 'cosine' | 'euclidean'.
  """

  points: Float[Array, 'n d']
  half_squared_norm: Float[Array, ' n']
  metric: str = dataclasses.field(metadata={'static': True})


class Nearest(NamedTuple):
  """The nearest training item of each query.

  Attributes:
    distance: [b], 1 − cos or Euclidean.
    index: int [b], its row in the training set.
  """

  distance: Float[Array, ' b']
  index: Int[Array, ' b']


def make_index(train: Points, *, metric: str = 'cosine') -> TrainingIndex:
  """Prepares embedded training items for the search.

  Args:
    train: [n, …] embeddings of ALL training items, with the embedding that the
      generated samples will get.
    metric: 'cosine' (1 − cos) | 'euclidean'.

  Returns:
    A TrainingIndex of n · (d + 1) float32 numbers.

  Raises:
    ValueError: NaN, zero vectors under 'cosine', an unknown metric.

  Example:
    >>> make_index(np.array([[3.0, 4.0]])).points.tolist()
    [[0.6000000238418579, 0.800000011920929]]
  """
  (points,) = sample_sets(metric, train=train)
  if metric == 'cosine':
    points = points / np.linalg.norm(points, axis=1, keepdims=True)
  half = 0.5 * np.square(points).sum(axis=1)
  return TrainingIndex(
    jnp.asarray(points, jnp.float32), jnp.asarray(half, jnp.float32), metric
  )


def nearest(index: TrainingIndex, queries: Float[Array, 'b ...']) -> Nearest:
  """The nearest training item of each query: one matrix product and a maximum.

  The product nominates ŷ = argmax_y x·y − ½|y|², and the distance to ŷ is then
  measured by direct differences, ½|x/|x| − ŷ|² or |x − ŷ|, so that a near-copy
  has the right distance and an exact one has 0 (cosine: rounding aside, 1e-14).

  ERROR: the distance is never below the true one, but for the 1e-6 of itself
  that a float32 sum loses. Rounding of the product may nominate a training item
  that is farther than the nearest one, for the cosine by at most
  (2d + 32)·1.2e-7 with d features (for the Euclidean, in its square, by twice
  that times the largest squared length). So `distance > threshold` accepts
  wrongly at most samples whose true distance is that little below the
  threshold, and rejects none wrongly. `memjax.nearest_neighbors` has no such
  margin and costs some five times more.

  A pure JAX function without gradient: jit and vmap it.

  Args:
    index: of `make_index`.
    queries: [b, …], embedded as the training items were. A zero vector has the
      cosine distance 1 to everything.

  Returns:
    Nearest(distance, index), each [b].

  Example:
    >>> index = make_index(np.eye(2))
    >>> found = nearest(index, jnp.array([[0.0, 2.0], [1.0, 1.0]]))
    >>> found.distance.round(4).tolist()
    [0.0, 0.2928999960422516]
  """
  x = lax.stop_gradient(queries).reshape(len(queries), -1)
  x = x.astype(jnp.float32)
  if x.shape[1] != index.points.shape[1]:
    raise ValueError(
      f'queries has {x.shape[1]} features and index {index.points.shape[1]}: '
      'expected the same number.'
    )
  is_cosine = index.metric == 'cosine'
  is_zero = ~x.any(axis=1)
  if is_cosine:
    # The largest entry first: squares neither overflow nor underflow.
    x = x / jnp.where(is_zero, 1, jnp.abs(x).max(axis=1))[:, None]
    x = x / jnp.where(is_zero, 1, jnp.linalg.norm(x, axis=1))[:, None]
  with jax.default_matmul_precision('float32'):
    score = x @ index.points.T
  if not is_cosine:
    score = score - index.half_squared_norm[None]
  found = jnp.argmax(score, axis=1)
  squared = jnp.square(x - index.points[found]).sum(axis=1)
  if is_cosine:
    return Nearest(jnp.where(is_zero, 1.0, squared / 2), found)
  return Nearest(jnp.sqrt(squared), found)


def host_distance(
  search: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]],
) -> Callable[[Float[Array, 'b ...']], Float[Array, ' b']]:
  """A search on the host as a `distance` inside a jitted step.

  For training sets too large to be compared with in every step: give it
  `memjax.neighbors_approximate.approximate_search(train)`, by faiss. An
  approximate search may miss the nearest item, so that some near-copies are
  accepted; it never rejects wrongly.

  Args:
    search: features [b, d] -> (distance [b], index [b]), NumPy.

  Returns:
    features [b, …] -> distance [b], without gradient. Where features are not
    finite it is NaN, which no threshold accepts.

  Example:
    >>> origin = lambda x: (np.linalg.norm(x, axis=1), np.zeros(len(x), int))
    >>> jax.jit(host_distance(origin))(jnp.array([[3.0, 4.0]])).tolist()
    [5.0]
  """

  def on_host(features) -> np.ndarray:
    features = np.asarray(features)
    distance = np.full(len(features), np.nan, np.float32)
    is_finite = np.isfinite(features).all(axis=1)
    if is_finite.any():
      distance[is_finite] = search(features[is_finite])[0]
    return distance

  def distance(features):
    features = lax.stop_gradient(features).reshape(len(features), -1)
    shape = jax.ShapeDtypeStruct((len(features),), jnp.float32)
    return jax.pure_callback(on_host, shape, features, vmap_method='sequential')

  return distance


class Rejection(NamedTuple):
  """What became of a batch. Not differentiated.

  Attributes:
    is_accepted: [b], which samples the loss averages.
    distance: [b], to the nearest training item; 0 with policy 'none'.
    acceptance_rate: the share of the FIRST draw that was accepted, whatever the
      policy: how often the generator keeps its distance.
    num_drawn: latents drawn for the batch, b if none was drawn again.
    aux: what `generate` returned besides.
  """

  is_accepted: Bool[Array, ' b']
  distance: Float[Array, ' b']
  acceptance_rate: Float[Array, '']
  num_drawn: Int[Array, '']
  aux: Pytree


def rejecting_loss(
  draw: Callable[[jax.Array], Pytree],
  generate: Callable[[Pytree, Pytree], tuple[Pytree, Pytree]],
  sample_loss: Callable[[Pytree, Pytree], Float[Array, ' b']],
  distance: Callable[[Pytree], Float[Array, ' b']],
  *,
  threshold: float | Float[Array, ''],
  policy: str = 'drop',
  max_redraws: int = 8,
) -> Callable[[Pytree, jax.Array], tuple[Float[Array, ''], Rejection]]:
  """Wraps a generator's loss so that it ignores samples that are near-copies.

    L(θ) = Σ_i a_i ℓ(G_θ(z_i)) / max(1, Σ_i a_i),  a_i = 1[d(G_θ(z_i)) > τ]

  with ℓ = `sample_loss`, G = `generate`, d = `distance` and τ = `threshold`.
  Neither d nor a has a gradient. All samples go through G, so that its batch
  statistics are those of the whole batch, as in the published runs. A batch of
  which all is rejected has loss 0 and gradient 0: skip that update, since an
  optimizer with momentum moves even without a gradient.

  Args:
    draw: key -> latents, a pytree of arrays [b, …] (labels among them).
    generate: (params, latents) -> (samples, aux).
    sample_loss: (samples, latents) -> [b].
    distance: samples -> [b], to the nearest training item, such as
      `lambda x: nearest(index, embed(x)).distance`.
    threshold: τ; a traced number lets one program serve many thresholds.
    policy: what happens to rejected samples:
      'drop': they are left out; the batch shrinks (the published numbers);
      'resample': their latents are drawn again until they are accepted, at
        most `max_redraws` times, without gradient; then one pass with gradient,
        masked anew (Algorithm 1, bounded). Where samples of a batch affect one
        another, as by batch normalization, that last mask decides;
      'none': no rejection; `distance` is not computed.
    max_redraws: bound of 'resample'.

  Returns:
    loss(params, key) -> (L, Rejection), for
    `jax.value_and_grad(loss, has_aux=True)`.

  Raises:
    ValueError: an unknown policy, max_redraws < 1.

  Example:
    >>> loss = rejecting_loss(
    ...   draw=lambda key: jnp.array([0.0, 1.0, 2.0]),
    ...   generate=lambda shift, z: (z + shift, None),
    ...   sample_loss=lambda x, z: x**2,
    ...   distance=jnp.abs,  # to the one training item, 0
    ...   threshold=0.5,
    ... )
    >>> (value, seen), slope = jax.value_and_grad(loss, has_aux=True)(
    ...   0.0, jax.random.key(0)
    ... )
    >>> float(value), float(slope), seen.is_accepted.tolist()
    (2.5, 3.0, [False, True, True])

  Reference:
    Bai et al. (2022), section 3 and Algorithm 1.
  """
  validate.one_of('policy', policy, POLICIES)
  max_redraws = validate.integer('max_redraws', max_redraws, 1)
  measure = lambda samples: lax.stop_gradient(
    distance(lax.stop_gradient(samples))
  )

  def judge(params, latents):
    samples, _ = generate(lax.stop_gradient(params), latents)
    return rejection_mask(measure(samples), threshold)

  def loss(params: Pytree, key: jax.Array):
    first_rate = None
    latents = draw(jax.random.fold_in(key, 0))
    num_drawn = jnp.asarray(len(jax.tree.leaves(latents)[0]), jnp.int32)
    if policy == 'resample':
      latents, first_rate, num_drawn = _redraw(
        draw, lambda latents: judge(params, latents), key, latents, max_redraws
      )
    samples, aux = generate(params, latents)
    losses = sample_loss(samples, latents)
    if policy == 'none':
      everything = jnp.ones(losses.shape, bool)
      seen = Rejection(
        everything, jnp.zeros(losses.shape), jnp.ones(()), num_drawn, aux
      )
      return losses.mean(), seen
    d = measure(samples)
    is_accepted = rejection_mask(d, threshold)
    count = is_accepted.sum()
    total = jnp.where(is_accepted, losses, 0).sum()
    rate = is_accepted.mean() if first_rate is None else first_rate
    seen = Rejection(is_accepted, d, rate, num_drawn, aux)
    return total / jnp.maximum(count, 1), seen

  return loss


def _redraw(draw, judge, key, latents, max_redraws: int):
  """Replaces rejected latents until none is left or the bound is reached.

  Returns:
    (latents, share of the first draw that was accepted, latents drawn).
  """
  is_accepted = judge(latents)

  def again(state):
    latents, is_accepted, count, num_drawn = state
    fresh = draw(jax.random.fold_in(key, count))
    choose = lambda old, new: jnp.where(
      is_accepted.reshape(-1, *[1] * (old.ndim - 1)), old, new
    )
    latents = jax.tree.map(choose, latents, fresh)
    num_drawn += (~is_accepted).sum(dtype=jnp.int32)
    return latents, judge(latents), count + 1, num_drawn

  is_left = lambda state: (~state[1].all()) & (state[2] <= max_redraws)
  start = (
    latents,
    is_accepted,
    jnp.ones((), jnp.int32),
    jnp.asarray(len(is_accepted), jnp.int32),
  )
  latents, _, _, num_drawn = lax.while_loop(is_left, again, start)
  return lax.stop_gradient(latents), is_accepted.mean(), num_drawn


class GuardedSamples(NamedTuple):
  """What a guarded sampler let through, and what it refused.

  Attributes:
    samples: a pytree of NumPy arrays [m, …], m ≤ the number asked for.
    distance: [m], to the nearest training item, all above the threshold.
    nearest: int [m], that item.
    num_drawn: samples drawn in all.
    num_refused: of them, near-copies.
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
    ValueError: an argument out of range.

  Example:
    >>> train = np.array([[0.0], [1.0]])
    >>> sampler = lambda key, n: jax.random.uniform(key, (n, 1))
    >>> guarded = guard(sampler, make_index(train, metric='euclidean'), 0.25)
    >>> found = guarded(jax.random.key(0), 100)
    >>> bool((abs(found.samples - 0.5) < 0.25).all()), found.num_missing
    (True, 0)
  """
  threshold = validate.real('threshold', threshold, 0.0)
  limit = validate.real('max_draws_per_sample', max_draws_per_sample, 1.0)
  batch_size = validate.integer('batch_size', batch_size, 1)
  search = jax.jit(nearest)

  def guarded(key: jax.Array, num_samples: int) -> GuardedSamples:
    num_samples = validate.integer('num_samples', num_samples, 1)
    # The bound holds for few samples too, with smaller batches.
    most = max(1, int(limit * num_samples))
    size = min(batch_size, most)
    max_batches = most // size
    kept, num_kept, num_drawn = [], 0, 0
    while num_kept < num_samples and num_drawn < max_batches * size:
      batch_key = jax.random.fold_in(key, num_drawn // size)
      samples = sampler(batch_key, size)
      points = samples if embed is None else embed(samples)
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
