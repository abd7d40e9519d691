"""Ten steps of the full-size BigGAN: are they finite, what do they need?

  python experiments/biggan_check.py --source=cifar10

On 32×32 colour images of any source; a lossy copy, npz:lossy.npz, is good
enough for this, and is no CIFAR-10. Rejection is on, by distance of pixels.
Prints losses, seconds a step and the most memory that the process held.
"""

import functools
import json
import resource
import time

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags

from memjax import rejection
from memjax.data.sources import load_dataset
from memjax.models import gan
from memjax.training.gan_state import (
  FAILURES,
  GanData,
  GanOptions,
  init_gan_state,
)
from memjax.training.gan_step import make_gan_steps

THRESHOLD = 1e-3  # 1 − cos of pixels


def embed(_, images: jax.Array) -> jax.Array:
  """Pixels."""
  return images.reshape(len(images), -1) / 255


def load(source: str, count: int) -> GanData:
  """The first images of a source, and their pixels as the index."""
  images, labels, *_ = load_dataset(source, num_items=count or None)
  points = images.reshape(len(images), -1).astype(np.float32) / 255 + 1e-6
  return GanData(
    jnp.asarray(images), jnp.asarray(labels, jnp.int32),
    rejection.make_index(points), None,
  )  # fmt: skip


def peak_gigabytes() -> float:
  """The most memory that this process has held."""
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  return round(peak / 2**20, 2)


def main(_) -> None:
  """Trains ten steps, one at a time, and prints."""
  model = gan.biggan((32, 32, 3), 10, generator_width=_WIDTH.value,
                     discriminator_width=_WIDTH.value)  # fmt: skip
  options = GanOptions(
    flip=True, discriminator_steps=_UPDATES.value, record_every=1,
    batch_size=_BATCH.value,
  )  # fmt: skip
  data = load(_SOURCE.value, _COUNT.value)
  init = functools.partial(init_gan_state, model, options, _STEPS.value)
  state = jax.jit(init)(jax.random.key(0))
  steps = jax.jit(make_gan_steps(model, options, embed), donate_argnums=0)
  seconds = []
  for step in range(_STEPS.value):
    begin = time.perf_counter()
    state = jax.block_until_ready(
      steps(
        state, data, jnp.float32(THRESHOLD), step, step + 1, jax.random.key(1)
      )
    )
    seconds.append(time.perf_counter() - begin)
  record = jax.tree.map(lambda a: np.asarray(a).round(4).tolist(), state.record)
  found = {
    'steps': _STEPS.value, 'width': _WIDTH.value, 'batch': _BATCH.value,
    'discriminator_steps': _UPDATES.value,
    'failure': FAILURES[int(state.failure)],
    'discriminator_loss': record.discriminator_loss,
    'generator_loss': record.generator_loss,
    'acceptance': record.acceptance,
    'compilation_seconds': round(seconds[0], 1),
    'seconds_a_step': round(float(np.median(seconds[1:])), 2),
    'peak_gigabytes': peak_gigabytes(),
  }  # fmt: skip
  print(json.dumps(found, indent=1))


if __name__ == '__main__':
  _SOURCE = flags.DEFINE_string('source', 'cifar10', 'Images.')
  _STEPS = flags.DEFINE_integer('steps', 10, 'Generator updates.')
  _UPDATES = flags.DEFINE_integer('updates', 5, 'Discriminator updates each.')
  _WIDTH = flags.DEFINE_integer('width', 96, 'Of both networks.')
  _BATCH = flags.DEFINE_integer('batch', 64, 'Batch size.')
  _COUNT = flags.DEFINE_integer('count', 5000, 'Training images used.')
  app.run(main)
