"""What one model's training step needs from the step before."""

from typing import Any, NamedTuple

import jax
import optax

from memjax.models.base import DensityModel

__all__ = ['TrainState', 'init_state']


class TrainState(NamedTuple):
  """The state of one model; with a leading model axis, of many.

  Attributes:
    variables: 'params' and whatever else the model carries.
    optimizer_state: of the 'params' alone.
  """

  variables: dict[str, Any]
  optimizer_state: Any


def init_state(
  model: DensityModel,
  optimizer: optax.GradientTransformation,
  key: jax.Array,
) -> TrainState:
  """Draws one model's initial state."""
  variables = model.init(key)
  return TrainState(variables, optimizer.init(variables['params']))
