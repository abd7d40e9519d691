"""The generator's loss without its near-copies."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from memjax import validate
from memjax.rejection.threshold import rejection_mask

__all__ = ['POLICIES', 'Rejection', 'rejecting_loss']

POLICIES = ('drop', 'resample', 'none')

Pytree = Any


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
    draw: key -> latents, a pytree of arrays [b, …]. 'resample' draws all of it
      anew for a rejected sample; so leave classes out and close over them, or
      those that lie near training items become rare in the batch.
    generate: (params, latents) -> (samples, aux).
    sample_loss: (samples, latents) -> [b].
    distance: samples -> [b], to the nearest training item, such as
      `lambda x: nearest(index, embed(x)).distance`.
    threshold: τ; a traced number lets one program serve many thresholds.
    policy: what happens to rejected samples. With 'drop' they are left out; the
      batch shrinks (the published numbers). With 'resample' their latents are
      drawn again until they are accepted, at most `max_redraws` times, without
      gradient; then comes one pass with gradient, masked anew (Algorithm 1,
      bounded). Where samples of a batch affect one another, as by batch
      normalization, that last mask decides. With 'none' nothing is rejected,
      and `distance` is not computed.
    max_redraws: bound of 'resample'.

  Returns:
    loss(params, key) -> (L, Rejection), for
    `jax.value_and_grad(loss, has_aux=True)`.

  Raises:
    ValueError: an unknown policy, max_redraws < 1, a negative threshold; in the
      loss itself `sample_loss` or `distance` of another shape than [b].

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
  if isinstance(threshold, int | float):
    validate.real('threshold', threshold, 0.0)

  def measure(samples, size: int):
    found = distance(lax.stop_gradient(samples))
    return lax.stop_gradient(_one_each('distance', found, size))

  def judge(params, latents):
    samples, _ = generate(lax.stop_gradient(params), latents)
    return rejection_mask(measure(samples, _size(latents)), threshold)

  def loss(params: Pytree, key: jax.Array):
    first_rate = None
    latents = draw(jax.random.fold_in(key, 0))
    size = _size(latents)
    num_drawn = jnp.asarray(size, jnp.int32)
    if policy == 'resample':
      latents, first_rate, num_drawn = _redraw(
        draw, lambda latents: judge(params, latents), key, latents, max_redraws
      )
    samples, aux = generate(params, latents)
    losses = _one_each('sample_loss', sample_loss(samples, latents), size)
    if policy == 'none':
      everything = jnp.ones(losses.shape, bool)
      seen = Rejection(
        everything, jnp.zeros(losses.shape), jnp.ones(()), num_drawn, aux
      )
      return losses.mean(), seen
    d = measure(samples, size)
    is_accepted = rejection_mask(d, threshold)
    count = is_accepted.sum()
    total = jnp.where(is_accepted, losses, 0).sum()
    rate = is_accepted.mean() if first_rate is None else first_rate
    seen = Rejection(is_accepted, d, rate, num_drawn, aux)
    return total / jnp.maximum(count, 1), seen

  return loss


def _size(latents: Pytree) -> int:
  return len(jax.tree.leaves(latents)[0])


def _one_each(name: str, values: Array, size: int) -> Array:
  """Refuses other shapes than [b]: they would broadcast to a wrong mean."""
  if jnp.shape(values) != (size,):
    raise ValueError(
      f'{name} gives an array of shape {jnp.shape(values)}: expected '
      f'({size},), one number for each sample.'
    )
  return values


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
