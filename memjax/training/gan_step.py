"""The training of ONE conditional GAN, pure: no files, no other models.

A step is several updates of the discriminator and one of the generator, which
ignores its near-copies (Memorization Rejection). Everything a step changes is
in `GanState`, the record of how training went included.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, Bool, Float, Int, UInt8

from memjax import rejection
from memjax.data.transforms import flip_images
from memjax.models import diff_augment
from memjax.models.gan import (
  GAN,
  hinge_discriminator_loss,
  hinge_generator_losses,
)

__all__ = [
  'FAILURES',
  'GanData',
  'GanOptions',
  'GanRecord',
  'GanState',
  'Search',
  'init_gan_state',
  'make_gan_steps',
  'nearest_distance',
]

Variables = dict[str, Any]
Embed = Callable[[Any, jax.Array], jax.Array]
Search = Callable[[rejection.TrainingIndex, jax.Array], jax.Array]

# What `GanState.failure` counts.
FAILURES = (
  'none',
  'a loss or a parameter is not finite',
  'every sample was rejected, step after step',
)


class GanOptions(NamedTuple):
  """How a GAN is trained; static.

  Attributes:
    batch_size: of every update.
    discriminator_steps: updates of the discriminator in a step.
    learning_rate: of both networks.
    betas: of Adam, both networks.
    epsilon: of Adam.
    ema_decay: of the generator's averaged weights; 0: none.
    ema_start: steps before which the average follows the weights.
    augmentations: names in `diff_augment.POLICIES`.
    flip: mirror half of the training images.
    policy: of rejection, in `rejection.POLICIES`.
    max_redraws: of the policy 'resample'.
    patience: so many steps in a row without an accepted sample end training.
    record_every: steps that a row of the record sums up.
    precision: of matrix products, as `jax.default_matmul_precision` has it.
  """

  batch_size: int = 64
  discriminator_steps: int = 5
  learning_rate: float = 2e-4
  betas: tuple[float, float] = (0.5, 0.999)
  epsilon: float = 1e-6
  ema_decay: float = 0.9999
  ema_start: int = 1000
  augmentations: tuple[str, ...] = ()
  flip: bool = False
  policy: str = 'drop'
  max_redraws: int = 8
  patience: int = 100
  record_every: int = 100
  precision: str = 'float32'


class GanData(NamedTuple):
  """What a step reads; the same for all models.

  Attributes:
    images: the training set.
    labels: one class an image.
    index: of the embedded training images.
    embed_params: of the embedding.
  """

  images: UInt8[Array, 'n h w c']
  labels: Int[Array, ' n']
  index: rejection.TrainingIndex
  embed_params: Any


class GanRecord(NamedTuple):
  """Sums over the steps of each stretch of `record_every`.

  Attributes:
    steps: [r] steps taken.
    discriminator_loss: [r], of the last update of each step.
    generator_loss: [r], of the accepted samples.
    acceptance: [r], share of the first draw.
    distance: [r], mean distance of a batch to the training images.
    drawn: [r] latents drawn for the generator's updates.
    skipped: [r] steps of which no sample was accepted.
  """

  steps: Float[Array, ' r']
  discriminator_loss: Float[Array, ' r']
  generator_loss: Float[Array, ' r']
  acceptance: Float[Array, ' r']
  distance: Float[Array, ' r']
  drawn: Float[Array, ' r']
  skipped: Float[Array, ' r']


class GanState(NamedTuple):
  """One GAN in training; with a leading axis, many.

  Attributes:
    generator: its variables, all collections.
    discriminator: likewise.
    generator_optimizer: of its 'params'.
    discriminator_optimizer: of its 'params'.
    average: variables of the averaged generator; None without one.
    num_empty: steps in a row of which no sample was accepted.
    failed_step: the first step that could not be taken; −1: none. The state
      stays what it was before it.
    failure: index into FAILURES.
    record: how training went.
  """

  generator: Variables
  discriminator: Variables
  generator_optimizer: Any
  discriminator_optimizer: Any
  average: Variables | None
  num_empty: Int[Array, '']
  failed_step: Int[Array, '']
  failure: Int[Array, '']
  record: GanRecord

  def sampled(self) -> Variables:
    """The variables to sample from: the average where there is one."""
    return self.generator if self.average is None else self.average


def _optimizer(options: GanOptions) -> optax.GradientTransformation:
  b1, b2 = options.betas
  return optax.adam(options.learning_rate, b1, b2, options.epsilon)


def init_gan_state(
  gan: GAN, options: GanOptions, num_steps: int, key: jax.Array
) -> GanState:
  """Draws one GAN's initial state."""
  generator, discriminator = gan.init(key)
  adam = _optimizer(options)
  rows = max(1, -(-num_steps // options.record_every))
  zero = jnp.zeros((), jnp.int32)
  average = jax.tree.map(jnp.copy, generator) if options.ema_decay else None
  return GanState(
    generator,
    discriminator,
    adam.init(generator['params']),
    adam.init(discriminator['params']),
    average,
    zero,
    zero - 1,
    zero,
    GanRecord(*(jnp.zeros(rows) for _ in GanRecord._fields)),
  )


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
    search: (index, features) -> [b], distance to the nearest training image:
      the exact one, or one that reads an index of its own.

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

  def generate(params, latents):
    variables = {**state.generator, 'params': params}
    return gan.generate_train(variables, *latents)

  def sample_loss(images, latents):
    # Augmentation comes after rejection: the embedding sees the image itself.
    images = diff_augment.augment(images, augment_key, options.augmentations)
    score, _ = gan.discriminate_train(state.discriminator, images, latents[1])
    return hinge_generator_losses(score)

  loss_fn = rejection.rejecting_loss(
    lambda key: _draw(gan, options.batch_size, key),
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
  updates, optimizer_state = _optimizer(options).update(
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
  leaves = jax.tree.leaves((state.generator, state.discriminator))
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
