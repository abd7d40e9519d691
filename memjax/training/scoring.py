"""Scores a block of items with a group of models."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from memjax.evaluate import rescore_unreliable
from memjax.training.programs import Programs, ScoringOptions

__all__ = ['score_block']


def score_block(
  programs: Programs,
  scoring: ScoringOptions,
  inputs: tuple[Any, jax.Array, jax.Array, jax.Array],
  items: range,
  *,
  is_last: bool,
) -> dict[str, np.ndarray]:
  """Estimates log p of consecutive items under all models of a group.

  Args:
    programs: of the group.
    scoring: as the programs were made.
    inputs: variables, images, ids, and the models' scoring keys.
    items: no more than a call of `programs.score` takes.
    is_last: at the last scored epoch what is not reliable is estimated anew,
      and the encoder's estimate is added where it is asked for.

  Returns:
    The arrays of `Parts`, [models_at_once, items].
  """
  variables, images, ids, keys = inputs
  start, layout = jnp.int32(items.start), programs.layout
  own = (slice(layout.size), slice(len(items)))  # neither is padding
  found = jax.device_get(programs.score(variables, images, ids, start, keys))
  arrays = {name: array[own] for name, array in found._asdict().items()}
  if not is_last:
    return arrays

  def rescore(indices, round):
    indices = layout.pad(indices)
    indices = jnp.where(indices >= 0, start + indices, -1)
    found = programs.rescore[round - 1](
      variables, images, ids, indices, keys, jnp.int32(round)
    )
    return jax.tree.map(lambda a: np.asarray(a)[: layout.size], found)

  arrays = rescore_unreliable(
    rescore,
    arrays,
    block=scoring.rescored_at_once,
    num_rounds=len(programs.rescore),
  )
  if programs.score_by_encoder is not None:
    found = programs.score_by_encoder(variables, images, ids, start, keys)
    arrays['encoder_log_px'] = np.asarray(found.log_px)[own]
  return arrays
