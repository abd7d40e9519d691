"""The training of ONE model, pure: no files, no folds, no other models."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, UInt8

from memjax.data.transforms import Transform
from memjax.models.base import DensityModel
from memjax.training.state import TrainState

__all__ = ['StepMetrics', 'epoch_order', 'make_train_steps', 'no_metrics']


class StepMetrics(NamedTuple):
  """Sums over the items seen in a stretch of training.

  Attributes:
    loss: summed negative evidence lower bound, in nats.
    count: items seen.
    is_finite: every step's loss and the last step's parameters were finite.
  """

  loss: Float[Array, '']
  count: Int[Array, '']
  is_finite: Bool[Array, '']


def no_metrics() -> StepMetrics:
  """The metrics of an epoch that has not begun."""
  return StepMetrics(jnp.zeros(()), jnp.zeros((), jnp.int32), jnp.array(True))


def epoch_order(
  key: jax.Array, is_train: Bool[Array, ' n'], shape: tuple[int, int]
) -> Int[Array, 'steps batch']:
  """Shuffles one model's training items into an epoch's batches.

  Args:
    key: of this model and epoch.
    is_train: which items it trains on, at most steps × batch of them.
    shape: (steps, batch).

  Returns:
    Item indices; −1 pads the ragged last batch, and whole batches of a model
    that has fewer than the one with the most.
  """
  size = shape[0] * shape[1]
  # 31 random bits a training item, and a larger number for all the others.
  bits = jax.random.bits(key, is_train.shape) >> 1
  order = jnp.argsort(jnp.where(is_train, bits, jnp.uint32(2**31)))
  order = jnp.where(jnp.arange(order.size) < is_train.sum(), order, -1)
  missing = max(size - order.size, 0)
  padded = jnp.pad(order, (0, missing), constant_values=-1)
  return padded[:size].reshape(shape).astype(jnp.int32)


def make_train_steps(
  model: DensityModel,
  optimizer: optax.GradientTransformation,
  transform: Transform,
  *,
  augment: Callable[[jax.Array, jax.Array], jax.Array] | None = None,
  precision: str = 'float32',
) -> Callable:
  """Builds the function that takes one model through a stretch of an epoch.

  Args:
    model: the model's description.
    optimizer: of its 'params'.
    transform: pixels to model input.
    augment: (batch, key) -> batch, such as a random flip; after the transform.
    precision: of matrix products while training: 'float32', 'tensorfloat32' (of
      GPUs that have it; elsewhere float32 or better) or 'bfloat16' (operands of
      both passes, on every backend; sums, activations, parameters and the
      optimizer stay float32).

  Returns:
    train_steps(state, metrics, images, order, start, stop, key) ->
    (state, metrics): steps start … stop − 1 of an epoch with `order`
    [steps, batch] into `images`, uint8 [n, h, w, c]; `metrics` go on from
    where they were. `key` belongs to the model and the epoch; step s folds in
    s. So nothing depends on where an epoch was cut. A batch without items
    changes nothing.
  """

  def loss_fn(params, state, x, mask, key):
    variables = {**state.variables, 'params': params}
    return model.loss(variables, x, mask, key)

  def train_step(state, images, indices, key):
    mask = indices >= 0
    transform_key, augment_key, loss_key = jax.random.split(key, 3)
    keys = jax.random.split(transform_key, indices.size)
    x = jax.vmap(transform.apply)(images[jnp.maximum(indices, 0)], keys)
    if augment is not None:
      x = augment(x, augment_key)
    params = state.variables['params']
    (loss, collections), gradient = jax.value_and_grad(loss_fn, has_aux=True)(
      params, state, x, mask, loss_key
    )
    updates, optimizer_state = optimizer.update(
      gradient, state.optimizer_state, params
    )
    params = optax.apply_updates(params, updates)
    new = TrainState(
      {**state.variables, **collections, 'params': params}, optimizer_state
    )
    is_real = mask.any()
    new = jax.tree.map(lambda a, b: jnp.where(is_real, a, b), new, state)
    return new, loss, mask.sum(dtype=jnp.int32)

  def train_steps(
    state: TrainState,
    metrics: StepMetrics,
    images: UInt8[Array, 'n h w c'],
    order: Int[Array, 'steps batch'],
    start: Int[Array, ''],
    stop: Int[Array, ''],
    key: jax.Array,
  ) -> tuple[TrainState, StepMetrics]:
    def body(step, carry):
      state, metrics = carry
      step_key = jax.random.fold_in(key, step)
      state, loss, count = train_step(state, images, order[step], step_key)
      metrics = StepMetrics(
        metrics.loss + loss,
        metrics.count + count,
        metrics.is_finite & jnp.isfinite(loss),
      )
      return state, metrics

    with jax.default_matmul_precision(precision):
      state, metrics = jax.lax.fori_loop(start, stop, body, (state, metrics))
    finite = [jnp.isfinite(p).all() for p in jax.tree.leaves(state.variables)]
    return state, metrics._replace(
      is_finite=metrics.is_finite & jnp.stack(finite).all()
    )

  return train_steps
