"""The training of ONE conditional GAN, pure: no files, no other models.

A step is several updates of the discriminator and one of the generator, which
ignores its near-copies (Memorization Rejection). Everything a step changes is
in `GanState`, the record of how training went included.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from memjax import rejection
from memjax.data.transforms import flip_images
from memjax.models import diff_augment
from memjax.models.gan import (
  GAN,
  hinge_discriminator_loss,
  hinge_generator_losses,
)
from memjax.training.gan_state import (
  GanData,
  GanOptions,
  GanRecord,
  GanState,
  make_optimizer,
)

__all__ = ['Search', 'make_gan_steps', 'nearest_distance']

Embed = Callable[[Any, jax.Array], jax.Array]
Search = Callable[[Any, jax.Array], jax.Array]


def nearest_distance(
  index: rejection.TrainingIndex, features: Float[Array, 'b d']
) -> Float[Array, ' b']:
  """The exact search, on the device."""
  return rejection.nearest(index, features).distance


def make_gan_steps(
  gan: GAN,
  options: GanOptions,
  embed: Embed,
  search: Search = nearest_distance,
) -> Callable:
  """Builds the function that takes one GAN through a stretch of training.

  Args:
    gan: the networks.
    options: how they are trained.
    embed: (params, images in 0 … 255) -> [b, d], as the index was made.
    search: (data.index, features) -> [b], distance to the nearest training
      image: the exact one, or one that has an index of its own.

  Returns:
    train_steps(state, data, threshold, begin, end, key) -> state: the steps
    begin, …, end − 1. Step s folds s into `key`, the model's own, so that
    nothing depends on how training was cut into stretches. `threshold` is
    traced; policy 'none' ignores it. Draws of images and classes are uniform
    and with replacement, z ~ N(0, I).
  """

  measure = lambda data, images: search(
    data.index, embed(data.embed_params, (images + 1) * 127.5)
  )

  def train_steps(
    state: GanState,
    data: GanData,
    threshold: Float[Array, ''],
    begin: Int[Array, ''],
    end: Int[Array, ''],
    key: jax.Array,
  ) -> GanState:
    def step(number, state):
      step_key = jax.random.fold_in(key, number)
      return _gan_step(
        gan, options, measure, state, data, threshold, number, step_key
      )

    with jax.default_matmul_precision(options.precision):
      return lax.fori_loop(begin, end, step, state)

  return train_steps


def _gan_step(gan, options, measure, state, data, threshold, number, key):
  """One step; a state that has failed, or would now, stays as it is."""
  discriminate_key, generate_key = jax.random.split(key)
  new, d_loss = _update_discriminator(
    gan, options, state, data, discriminate_key
  )
  new, g_loss, seen = _update_generator(
    gan, options, measure, new, data, threshold, number, generate_key
  )
  is_empty = ~seen.is_accepted.any()
  num_empty = jnp.where(is_empty, state.num_empty + 1, 0)
  is_finite = jnp.isfinite(d_loss) & jnp.isfinite(g_loss) & _all_finite(new)
  is_collapsed = num_empty >= options.patience
  is_alive = state.failed_step < 0
  is_taken = is_alive & is_finite & ~is_collapsed
  new = new._replace(
    num_empty=num_empty,
    record=_record(
      state.record, number // options.record_every, d_loss, g_loss, seen
    ),
  )
  # Not `where`: hundreds of small selections take longer to compile than the
  # networks.
  new = lax.cond(is_taken, lambda: new, lambda: state)
  failure = jnp.where(is_finite, 2, 1).astype(jnp.int32)
  has_failed = is_alive & ~is_taken
  return new._replace(
    failed_step=jnp.where(has_failed, number, state.failed_step),
    failure=jnp.where(has_failed, failure, state.failure),
  )


def _update_discriminator(gan, options, state, data, key):
  """All of a step's updates of the discriminator; the loss of the last."""

  def update(index, carry):
    state, _ = carry
    real_key, fake_key, augment_key = jax.random.split(
      jax.random.fold_in(key, index), 3
    )
    real, real_label = _real_batch(options, data, real_key)
    z, label = _draw(gan, options.batch_size, fake_key)
    fake, moved = gan.generate_train(state.generator, z, label)
    # Generating moves the generator's running statistics and power iterations.
    state = state._replace(generator={**state.generator, **moved})
    both = jnp.concatenate([real, lax.stop_gradient(fake)])
    both = diff_augment.augment(both, augment_key, options.augmentations)
    labels = jnp.concatenate([real_label, label])

    def loss_fn(params):
      variables = {**state.discriminator, 'params': params}
      score, moved = gan.discriminate_train(variables, both, labels)
      real_score, fake_score = jnp.split(score, 2)
      return hinge_discriminator_loss(real_score, fake_score), moved

    params = state.discriminator['params']
    (loss, moved), slope = jax.value_and_grad(loss_fn, has_aux=True)(params)
    params, optimizer = _descend(
      options, slope, state.discriminator_optimizer, params
    )
    discriminator = {**state.discriminator, **moved, 'params': params}
    return state._replace(
      discriminator=discriminator, discriminator_optimizer=optimizer
    ), loss

  start = (state, jnp.zeros(()))
  return lax.fori_loop(0, options.discriminator_steps, update, start)


def _update_generator(
  gan, options, measure, state, data, threshold, number, key
):
  """The update that ignores near-copies; nothing moves if all are."""
  draw_key, augment_key = jax.random.split(key)
  # Algorithm 1 draws z anew and keeps the class: else classes that lie near
  # training images would become rare. These are the classes of the first draw.
  first_key = jax.random.fold_in(draw_key, 0)
  label = _draw(gan, options.batch_size, first_key)[1]

  def generate(params, latents):
    variables = {**state.generator, 'params': params}
    return gan.generate_train(variables, latents, label)

  def sample_loss(images, _):
    # Augmentation comes after rejection: the embedding sees the image itself.
    images = diff_augment.augment(images, augment_key, options.augmentations)
    score, _ = gan.discriminate_train(state.discriminator, images, label)
    return hinge_generator_losses(score)

  loss_fn = rejection.rejecting_loss(
    lambda key: _draw(gan, options.batch_size, key)[0],
    generate,
    sample_loss,
    lambda images: measure(data, images),
    threshold=threshold,
    policy=options.policy,
    max_redraws=options.max_redraws,
  )
  params = state.generator['params']
  (loss, seen), slope = jax.value_and_grad(loss_fn, has_aux=True)(
    params, draw_key
  )
  params, optimizer = _descend(
    options, slope, state.generator_optimizer, params
  )
  generator = {**state.generator, **seen.aux, 'params': params}
  new = state._replace(generator=generator, generator_optimizer=optimizer)
  new = lax.cond(seen.is_accepted.any(), lambda: new, lambda: state)
  if state.average is not None:
    average = _average(options, state.average, new.generator, number)
    new = new._replace(average=average)
  return new, loss, seen


def _descend(options, slope, optimizer_state, params):
  updates, optimizer_state = make_optimizer(options).update(
    slope, optimizer_state, params
  )
  return optax.apply_updates(params, updates), optimizer_state


def _average(options, average, generator, number):
  """Moves the average; before `ema_start` it IS the generator.

  Weights and running statistics are averaged. The vectors of the power
  iterations are taken over: a mean of unit vectors is none.
  """
  decay = jnp.where(number < options.ema_start, 0.0, options.ema_decay)
  moved = jax.tree.map(
    lambda old, new: new + decay * (old - new), average, generator
  )
  return {**moved, 'spectral': generator['spectral']}


def _real_batch(options, data, key):
  """Training images in −1 … 1 and their classes."""
  index_key, flip_key = jax.random.split(key)
  index = jax.random.randint(
    index_key, (options.batch_size,), 0, len(data.images)
  )
  images = data.images[index].astype(jnp.float32) / 127.5 - 1
  images = flip_images(images, flip_key) if options.flip else images
  return images, data.labels[index]


def _draw(gan: GAN, batch_size: int, key):
  """Latents and classes of a batch."""
  z_key, label_key = jax.random.split(key)
  z = jax.random.normal(z_key, (batch_size, gan.latent_dim))
  return z, jax.random.randint(label_key, (batch_size,), 0, gan.num_classes)


def _all_finite(state: GanState) -> Bool[Array, '']:
  leaves = jax.tree.leaves(
    (
      state.generator,
      state.discriminator,
      # An infinite second moment makes all later updates 0.
      state.generator_optimizer,
      state.discriminator_optimizer,
    )
  )
  finite = [jnp.isfinite(leaf).all() for leaf in leaves]
  return jnp.stack(finite).all()


def _record(record: GanRecord, row, d_loss, g_loss, seen) -> GanRecord:
  values = GanRecord(
    steps=jnp.ones(()),
    discriminator_loss=d_loss,
    generator_loss=g_loss,
    acceptance=seen.acceptance_rate,
    distance=seen.distance.mean(),
    drawn=seen.num_drawn.astype(jnp.float32),
    skipped=(~seen.is_accepted.any()).astype(jnp.float32),
  )
  return jax.tree.map(
    lambda total, value: total.at[row].add(value), record, values
  )
