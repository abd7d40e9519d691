"""What Memorization Rejection costs: a step of a small GAN, and the search.

  python benchmarks/rejection.py

Run it on an idle machine. Plain steps and steps with rejection alternate, with
the same weights; printed are medians of milliseconds, and of ratios with their
range. 'resample half' has a threshold that rejects half of the first draw, so
that latents are drawn, generated and embedded again. A step's
extra cost is the embedding's forward pass and the rest (search, mask): the goal
for the rest is 10 % of the plain step. The search alone is timed at the sizes
of CIFAR-10 with Inception features and of a small study, for a batch of 64.
Writes `benchmarks/rejection.json`.
"""

import functools
import json
import pathlib
import platform
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags

from memjax import rejection
from memjax.files import write_json
from memjax.models import gan
from memjax.training.gan_state import GanData, GanOptions, init_gan_state
from memjax.training.gan_step import make_gan_steps

_PAIRS = flags.DEFINE_integer('pairs', 7, 'Repetitions of each measurement.')
_STEPS = flags.DEFINE_integer('steps', 5, 'Steps in a repetition.')
_SEARCHES = ((50_000, 2048), (5_000, 64), (1_000, 64))
_BATCH = 64


def seconds(function: Callable, *arguments) -> float:
  """Seconds of one call."""
  begin = time.perf_counter()
  jax.block_until_ready(function(*arguments))
  return time.perf_counter() - begin


def search(num_train: int, num_features: int) -> dict[str, float]:
  """Milliseconds of the search, and of the matrix product in it."""
  rng = np.random.default_rng(0)
  index = rejection.make_index(rng.random((num_train, num_features)))
  queries = jnp.asarray(rng.random((_BATCH, num_features)), jnp.float32)
  nearest = jax.jit(rejection.nearest)
  product = jax.jit(lambda index, x: (x @ index.points.T).max(axis=1))
  times = {'search': [], 'product and maximum': []}
  for _ in range(1 + _PAIRS.value):
    times['search'].append(seconds(nearest, index, queries))
    times['product and maximum'].append(seconds(product, index, queries))
  return {k: 1e3 * statistics.median(v[1:]) for k, v in times.items()}


def encoder(num_features: int = 64) -> tuple[dict, Callable]:
  """A small convolutional embedding of 16×16 images, with random weights."""
  rng = np.random.default_rng(1)
  shapes = {'conv': (16, 32), 'dense': (4 * 4 * 32, num_features)}
  params = {
    name: jnp.asarray(rng.normal(size=shape), jnp.float32)
    for name, shape in shapes.items()
  }

  def embed(params, images):
    blocks = images.reshape(-1, 4, 4, 4, 4).transpose(0, 1, 3, 2, 4) / 255
    hidden = jax.nn.relu(blocks.reshape(-1, 16) @ params['conv'])
    return jax.nn.relu(hidden.reshape(len(images), -1) @ params['dense'])

  return params, embed


def small_gan() -> dict[str, Any]:
  """Milliseconds of a plain step and with each policy; ratios."""
  model = gan.sagan(
    (16, 16, 1), 10, latent_dim=32, generator_width=8,
    discriminator_width=16, attention_size=0,
  )  # fmt: skip
  images = np.random.default_rng(0).integers(
    0, 256, (5000, 16, 16, 1), dtype=np.uint8
  )
  params, embed = encoder()
  features = np.asarray(embed(params, jnp.asarray(images, jnp.float32)))
  data = GanData(
    jnp.asarray(images),
    jnp.arange(5000) % 10,
    rejection.make_index(features + 1e-6),
    params,
  )
  options = GanOptions(batch_size=_BATCH, discriminator_steps=1)
  init = functools.partial(init_gan_state, model, options, 10_000)
  state = jax.jit(init)(jax.random.key(0))
  compiled = jax.jit(embed)
  batch = jnp.asarray(images[:_BATCH], jnp.float32)
  z = jax.random.normal(jax.random.key(2), (_BATCH, model.latent_dim))
  fake, _ = jax.jit(model.generate_train)(
    state.generator, z, jnp.arange(_BATCH) % 10
  )
  half = jnp.median(
    rejection.nearest(data.index, compiled(params, (fake + 1) * 127.5)).distance
  )
  programs = {
    policy: jax.jit(
      make_gan_steps(model, options._replace(policy=policy), embed)
    )
    for policy in ('none', 'drop', 'resample')
  }
  # At 0 nothing is rejected: all policies do the same update.
  cases = {name: (program, 0.0) for name, program in programs.items()}
  cases['resample half'] = programs['resample'], half
  times: dict[str, list[float]] = {name: [] for name in (*cases, 'embedding')}
  for _ in range(1 + _PAIRS.value):
    for name, (program, threshold) in cases.items():
      call = (state, data, jnp.float32(threshold), 0, _STEPS.value)
      taken = seconds(program, *call, jax.random.key(1))
      times[name].append(taken / _STEPS.value)
    times['embedding'].append(seconds(compiled, params, batch))
  result = {f'{k} ms': 1e3 * statistics.median(v[1:]) for k, v in times.items()}
  for name in ('drop', 'resample', 'resample half'):
    pairs = zip(times[name][1:], times['none'][1:], strict=True)
    ratios = sorted(a / b for a, b in pairs)
    result[f'{name} ratio'] = statistics.median(ratios)
    result[f'{name} ratio, range'] = [ratios[0], ratios[-1]]
  final = programs['resample'](
    state, data, jnp.float32(half), 0, 1, jax.random.key(1)
  )
  result['latents drawn in a step of resample half'] = float(
    final.record.drawn.sum()
  )
  rest = result['drop ms'] - result['none ms'] - result['embedding ms']
  result['search and mask, share of the plain step'] = rest / result['none ms']
  return result


def main(_) -> None:
  """Measures, prints, writes."""
  found = {
    'machine': f'{platform.machine()}, {jax.devices()[0].device_kind}',
    'batch': _BATCH,
    'small GAN 16×16, 5,000 × 64 index': small_gan(),
    **{f'search {n:,} × {d:,} ms': search(n, d) for n, d in _SEARCHES},
  }
  print(json.dumps(found, indent=1, ensure_ascii=False))
  write_json(pathlib.Path(__file__).with_suffix('.json'), found)


if __name__ == '__main__':
  app.run(main)
