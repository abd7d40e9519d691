"""Training over whole epochs of points that lie on the device; ONE model.

For models so small that all of an experiment's repeats train in one program:
`vmap` over states, data and keys. The K-fold study's steps are in `step.py`.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from memjax import validate
from memjax.models.base import DensityModel
from memjax.training.state import TrainState, init_state

__all__ = ['EpochState', 'init_epoch_state', 'make_train_epochs']


class EpochState(NamedTuple):
  """A model in training; with a leading axis, many.

  Attributes:
    train: variables and optimizer.
    loss: mean over the last epoch.
    failed: the first epoch, counted from 1, whose loss or parameters were not
      finite; 0: none.
  """

  train: TrainState
  loss: Float[Array, ' *models']
  failed: Int[Array, ' *models']


def init_epoch_state(
  model: DensityModel, optimizer: optax.GradientTransformation, key: jax.Array
) -> EpochState:
  """Draws one model's initial state."""
  state = init_state(model, optimizer, key)
  return EpochState(state, jnp.zeros(()), jnp.zeros((), jnp.int32))


def make_train_epochs(
  model: DensityModel,
  optimizer: optax.GradientTransformation,
  batch_size: int,
  *,
  scale_by_loss: bool = False,
) -> Callable:
  """Builds the function that takes one model through some epochs.

  Each epoch is a new order of the points; what does not fill a batch is left
  out of it, as PyTorch's `drop_last` does.

  Args:
    model: its loss is a sum over a batch; the mean is what is minimized.
    optimizer: of its 'params'.
    batch_size: points in a step.
    scale_by_loss: multiply the gradient by the loss, as tiny-diffusion did
      until May 2024 (`loss.backward(loss)`), and so, most likely, what was
      built on it in 2023.

  Returns:
    train_epochs(state, x, begin, end, key) -> state: epochs begin … end − 1
    on points x [n, d]. `key` is the model's; epoch and step are folded in, so
    that nothing depends on how epochs are cut into calls.
  """
  batch_size = validate.integer('batch_size', batch_size, 1)
  mask = jnp.ones(batch_size, bool)

  def train_step(state: TrainState, batch, key):
    def loss_fn(params):
      variables = {**state.variables, 'params': params}
      loss, collections = model.loss(variables, batch, mask, key)
      return loss / batch_size, collections

    params = state.variables['params']
    (loss, collections), gradient = jax.value_and_grad(loss_fn, has_aux=True)(
      params
    )
    if scale_by_loss:
      gradient = jax.tree.map(lambda g: g * loss, gradient)
    updates, optimizer_state = optimizer.update(
      gradient, state.optimizer_state, params
    )
    params = optax.apply_updates(params, updates)
    variables = {**state.variables, **collections, 'params': params}
    return TrainState(variables, optimizer_state), loss

  def train_epochs(
    state: EpochState,
    x: Float[Array, 'n d'],
    begin: int | Int[Array, ''],
    end: int | Int[Array, ''],
    key: jax.Array,
  ) -> EpochState:
    num_steps = len(x) // batch_size

    def epoch(number, state):
      order_key, step_key = jax.random.split(jax.random.fold_in(key, number))
      order = jax.random.permutation(order_key, len(x))

      def step(s, carry):
        train, total = carry
        rows = jax.lax.dynamic_slice_in_dim(order, s * batch_size, batch_size)
        train, loss = train_step(
          train, x[rows], jax.random.fold_in(step_key, s)
        )
        return train, total + loss

      train, total = jax.lax.fori_loop(
        0, num_steps, step, (state.train, jnp.zeros(()))
      )
      params = jax.tree.leaves(train.variables['params'])
      is_finite = jnp.stack([jnp.isfinite(p).all() for p in params]).all()
      has_failed = ~(is_finite & jnp.isfinite(total))
      first = jnp.where(
        has_failed & (state.failed == 0), number + 1, state.failed
      )
      return EpochState(train, total / num_steps, first.astype(jnp.int32))

    if not num_steps:
      raise ValueError(
        f'batch_size={batch_size}: expected an integer in [1, {len(x)}], the '
        'number of training points.'
      )
    return jax.lax.fori_loop(begin, end, epoch, state)

  return train_epochs
