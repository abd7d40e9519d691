"""All repeats of a study of dynamics in three programs: init, train, sample."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from memjax import validate
from memjax.data import synthetic
from memjax.devices import Devices, lay_out
from memjax.models.denoiser import Denoiser
from memjax.training.epochs import (
  EpochState,
  init_epoch_state,
  make_train_epochs,
)
from memjax.training.lift import LIFTS, lift

__all__ = ['Programs', 'make_programs']

# What the first fold of the root key is for; one number a purpose, for ever.
_TRAIN, _SAMPLE, _INIT = 0, 1, 3
# Samples in one pass: a CPU's cache, or all.
_SAMPLES_AT_ONCE = {'cpu': 256}


class Programs(NamedTuple):
  """All repeats at once: init, train some epochs, sample."""

  init: Callable[[], EpochState]
  advance: Callable[[EpochState, int, int], EpochState]
  sample: Callable[[EpochState, int], np.ndarray]


def make_programs(
  config: ConfigDict,
  draws: Sequence[synthetic.Draw],
  devices: Devices | None = None,
) -> Programs:
  """Compiles nothing yet; a bad size fails here. None: all local devices."""
  model = Denoiser(**config.model.to_dict())
  optimizer = _make_optimizer(config)
  points = np.stack([draw.train.points for draw in draws]).astype(np.float32)
  num_repeats, num_points, _ = points.shape
  train_epochs = make_train_epochs(
    model,
    optimizer,
    validate.integer(
      'config.train.batch_size', config.train.batch_size, 1, num_points
    ),
    scale_by_loss=bool(config.train.scale_gradient_by_loss),
  )
  layout = lay_out(num_repeats, devices)
  on_device = layout.spread(jnp.asarray(points))
  init_keys, train_keys, sample_keys = (
    layout.spread(_keys(config.seed, purpose, num_repeats))
    for purpose in (_INIT, _TRAIN, _SAMPLE)
  )
  init = jax.jit(
    lift(
      lambda key: init_epoch_state(model, optimizer, key),
      'vmap',
      (0,),
      layout.devices,
    )
  )
  train = jax.jit(
    lift(train_epochs, 'vmap', (0, 0, None, None, 0), layout.devices),
    donate_argnums=0,
  )
  sample = _make_sample(config, model, num_points, layout.devices)

  def advance(state, begin, end):
    with jax.default_matmul_precision('float32'):
      return layout.gather(
        train(
          layout.spread(state),
          on_device,
          jnp.int32(begin),
          jnp.int32(end),
          train_keys,
        )
      )

  def draw_samples(state, epoch):
    variables = layout.spread(state.train.variables)
    with jax.default_matmul_precision('float32'):
      samples = sample(variables, sample_keys, jnp.int32(epoch))
    return np.asarray(layout.gather(samples), np.float64)

  return Programs(lambda: layout.gather(init(init_keys)), advance, draw_samples)


def _make_optimizer(config: ConfigDict) -> optax.GradientTransformation:
  real, train = validate.real, config.train
  return optax.chain(
    optax.clip_by_global_norm(
      real('config.train.clip_norm', train.clip_norm, 0.0, strict=True)
    ),
    optax.adamw(
      real('config.train.learning_rate', train.learning_rate, 0.0, 1e3),
      weight_decay=real('config.train.weight_decay', train.weight_decay, 0.0),
    ),
  )


def _keys(seed: int, purpose: int, num_repeats: int) -> jax.Array:
  """A repeat's stream depends on the seed and its number alone."""
  root = jax.random.fold_in(jax.random.key(seed), purpose)
  fold = lambda repeat: jax.random.fold_in(root, repeat)
  return jax.vmap(fold)(jnp.arange(num_repeats))


def _make_sample(
  config: ConfigDict, model: Denoiser, num_samples: int, devices: Devices
) -> Callable:
  """(variables, keys, epoch) -> samples [R, n, d]."""
  backend = jax.default_backend()
  how = validate.one_of('config.evaluate.lift', config.evaluate.lift, LIFTS)
  if how == 'auto':
    how = 'map' if backend == 'cpu' else 'vmap'
  block_size = _SAMPLES_AT_ONCE.get(backend)

  def sample(variables, key, epoch):
    key = jax.random.fold_in(key, epoch)
    return model.sample(variables, key, num_samples, block_size=block_size)

  return jax.jit(lift(sample, how, (0, 0, None), devices))
