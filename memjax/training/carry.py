"""What of a group of models is kept in its checkpoints."""

import pathlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from memjax.models.base import DensityModel
from memjax.training.checkpoints import Checkpoints
from memjax.training.state import TrainState, init_state
from memjax.training.step import StepMetrics, no_metrics

__all__ = ['Carry', 'load_variables']


class Carry(NamedTuple):
  """All that changes while a group trains.

  `failed` [models_at_once] is the epoch in which each model diverged, 0 for
  none; `in_scoring` says that it trained, but gave an item no finite log p.
  While a program runs, `state` and `metrics` have its width; on disk all have
  `models_at_once`, so that a run can go on with another number of devices.
  """

  state: TrainState
  metrics: StepMetrics
  failed: jax.Array
  in_scoring: jax.Array


def load_variables(
  model: DensityModel,
  optimizer: optax.GradientTransformation,
  workdir: pathlib.Path,
  group: str,
  width: int,
) -> dict[str, Any]:
  """The variables of a group's last checkpoint, with a leading model axis.

  Args:
    model: as it was trained.
    optimizer: as it was trained.
    workdir: of `train_and_score`.
    group: its name, for instance 'attempt_0_group_000'.
    width: `models_at_once`.

  Raises:
    FileNotFoundError: if there is no checkpoint that can be used.
  """

  def start(keys):
    return Carry(
      jax.vmap(lambda key: init_state(model, optimizer, key))(keys),
      jax.vmap(lambda key: no_metrics())(keys),
      jnp.zeros(width, jnp.int32),
      jnp.zeros(width, bool),
    )

  like = jax.eval_shape(start, jax.random.split(jax.random.key(0), width))
  directory = pathlib.Path(workdir) / 'checkpoints' / group
  with Checkpoints(directory) as checkpoints:
    found = checkpoints.restore(like)
  if found is None:
    raise FileNotFoundError(f'{directory}: expected a checkpoint there.')
  return found.state.state.variables
