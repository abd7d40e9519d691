"""What one trained model says about the items: log p(x) and held-out loss.

Pure functions of one model; `memjax.training.lift` runs many. An item's random
numbers come from a key and the item's id alone, so models that are given the
same key see the same binarization or dequantization and the same importance
noise (common random numbers), whichever items are scored beside it.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from memjax.data.transforms import Transform
from memjax.likelihood import (
  LogProb,
  evidence_lower_bound,
  importance_log_prob,
)
from memjax.models.base import LatentVariableModel

__all__ = ['make_evaluate_loss', 'make_score_items']


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
