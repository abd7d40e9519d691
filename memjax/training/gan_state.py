"""What ONE conditional GAN is trained with: options, data, state, record."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, UInt8

from memjax import rejection
from memjax.models.gan import GAN

__all__ = [
  'FAILURES',
  'GanData',
  'GanOptions',
  'GanRecord',
  'GanState',
  'init_gan_state',
  'make_optimizer',
]

Variables = dict[str, Any]

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
    index: of the embedded training images; None where the search keeps one
      of its own.
    embed_params: of the embedding.
  """

  images: UInt8[Array, 'n h w c']
  labels: Int[Array, ' n']
  index: rejection.TrainingIndex | None
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


def make_optimizer(options: GanOptions) -> optax.GradientTransformation:
  """Adam, for each of the two networks."""
  b1, b2 = options.betas
  return optax.adam(options.learning_rate, b1, b2, options.epsilon)


def init_gan_state(
  gan: GAN, options: GanOptions, num_steps: int, key: jax.Array
) -> GanState:
  """Draws one GAN's initial state."""
  generator, discriminator = gan.init(key)
  adam = make_optimizer(options)
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
