"""What one trained model says about the items: log p(x) and held-out loss.

Pure functions of one model; `memjax.training.lift` runs many. An item's random
numbers come from a key and the item's id alone, so models that are given the
same key see the same binarization or dequantization and the same importance
noise (common random numbers), whichever items are scored beside it.
"""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np

from memjax.data.transforms import Transform
from memjax.likelihood import (
  LogProb,
  evidence_lower_bound,
  importance_log_prob,
)
from memjax.models.base import LatentVariableModel

__all__ = [
  'make_evaluate_loss',
  'make_rescore_items',
  'make_score_items',
  'rescore_unreliable',
]


def make_score_items(
  model: LatentVariableModel,
  transform: Transform,
  *,
  block: int,
  num_samples: int,
  proposal: str,
) -> Callable:
  """Builds the function that scores a block of consecutive items.

  Args:
    model: one model's description.
    transform: pixels to model input, with its log-determinant.
    block: items in a block; memory is proportional to it.
    num_samples: importance samples an item.
    proposal: see `importance_log_prob`.

  Returns:
    score_items(variables, images, ids, start, key) -> LogProb of [block]
    arrays, for items start … start + block − 1. log p is that of the pixels.
    Past the end the last item is scored again.
  """

  def score_items(variables, images, ids, start, key) -> LogProb:
    def score_item(index):
      transform_key, noise_key = _item_keys(key, ids[index])
      x = transform.apply(images[index], transform_key)
      estimate = importance_log_prob(
        model,
        variables,
        x,
        noise_key,
        num_samples=num_samples,
        proposal=proposal,
      )
      return estimate._replace(log_px=estimate.log_px + transform.log_det(x))

    last = images.shape[0] - 1
    return jax.vmap(score_item)(jnp.minimum(start + jnp.arange(block), last))

  return score_items


def make_rescore_items(
  model: LatentVariableModel,
  transform: Transform,
  *,
  num_samples: int,
  proposal: str,
) -> Callable:
  """Builds the function that scores listed items anew, with fresh noise.

  For items whose first estimate was not reliable: more samples, or a better
  proposal. The new estimate replaces the old one; an average of both would
  weigh draws by how the first ones fell.

  Args:
    model: one model's description.
    transform: pixels to model input, with its log-determinant.
    num_samples: importance samples an item.
    proposal: see `importance_log_prob`.

  Returns:
    rescore_items(variables, images, ids, indices, key, round) -> LogProb of
    arrays like `indices`, which lists items, −1 where there is none: NaN, and
    not reliable. An item sees the same binarization or dequantization as in
    `make_score_items`; its importance noise depends on key, id and `round`,
    an integer from 1, alone, whichever items or models are scored beside it.
  """

  def rescore_items(variables, images, ids, indices, key, round) -> LogProb:
    def score_item(index):
      at = jnp.maximum(index, 0)
      transform_key, _ = _item_keys(key, ids[at])
      # Folding in 0 and 1 may give the very keys that splitting in two gave.
      fresh_key = jax.random.fold_in(
        jax.random.fold_in(key, ids[at]), round + 1
      )
      x = transform.apply(images[at], transform_key)
      estimate = importance_log_prob(
        model,
        variables,
        x,
        fresh_key,
        num_samples=num_samples,
        proposal=proposal,
      )
      estimate = estimate._replace(
        log_px=estimate.log_px + transform.log_det(x)
      )
      nan = jnp.full((), jnp.nan)
      absent = LogProb(nan, nan, nan, nan, jnp.zeros((), bool))
      return jax.tree.map(
        lambda new, none: jnp.where(index >= 0, new, none), estimate, absent
      )

    return jax.vmap(score_item)(indices)

  return rescore_items


def rescore_unreliable(
  rescore: Callable[[np.ndarray, int], LogProb],
  estimates: Mapping[str, np.ndarray],
  *,
  block: int,
  num_rounds: int,
) -> dict[str, np.ndarray]:
  """Scores the unreliable (model, item) pairs again, a few rounds at most.

  Args:
    rescore: (indices int [models, block], round from 1) -> LogProb of
      [models, block] arrays; −1 in `indices` is no item. A lifted and compiled
      `make_rescore_items`.
    estimates: LogProb's fields by name, [models, items]; not changed.
    block: items a model and call.
    num_rounds: R; a round goes over the pairs that are still unreliable.

  Returns:
    The fields by name, and the `round` that each comes from, int, 0 for the
    first estimate. A pair that is not reliable after R rounds either keeps
    its last estimate; `(~is_reliable).sum()` says how many there are.
  """
  arrays = {name: np.array(array) for name, array in estimates.items()}
  arrays['round'] = np.zeros(arrays['is_reliable'].shape, np.int32)
  for round in range(1, num_rounds + 1):
    # A model that gives some item no finite log p has diverged: it must not
    # cost the others anything.
    is_sound = np.isfinite(arrays['log_px']).all(axis=1, keepdims=True)
    todo = [np.flatnonzero(row) for row in is_sound & ~arrays['is_reliable']]
    longest = max((len(items) for items in todo), default=0)
    for start in range(0, longest, block):
      indices = np.full((len(todo), block), -1, np.int32)
      for row, items in enumerate(todo):
        part = items[start : start + block]
        indices[row, : len(part)] = part
      found = jax.device_get(rescore(indices, round))._asdict()
      # An estimate that failed does not replace one that did not.
      row, column = np.nonzero((indices >= 0) & np.isfinite(found['log_px']))
      for name, values in found.items():
        arrays[name][row, indices[row, column]] = values[row, column]
      arrays['round'][row, indices[row, column]] = round
  return arrays


def make_evaluate_loss(
  model: LatentVariableModel, transform: Transform
) -> Callable:
  """Builds the function that sums the negative ELBO over listed items.

  Returns:
    evaluate_loss(variables, images, ids, order, key) -> sum in nats; `order`
    [steps, batch] holds indices, −1 where there is none.
  """

  def evaluate_loss(variables, images, ids, order, key):
    def item_loss(index):
      transform_key, noise_key = _item_keys(key, ids[index])
      x = transform.apply(images[index], transform_key)
      return -evidence_lower_bound(model, variables, x, noise_key)

    def body(step, total):
      indices = order[step]
      losses = jax.vmap(item_loss)(jnp.maximum(indices, 0))
      return total + jnp.where(indices >= 0, losses, 0.0).sum()

    return jax.lax.fori_loop(0, order.shape[0], body, jnp.zeros(()))

  return evaluate_loss


def _item_keys(key: jax.Array, item_id: jax.Array) -> jax.Array:
  return jax.random.split(jax.random.fold_in(key, item_id))
