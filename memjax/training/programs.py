"""The jitted programs of a group of models, and the keys that feed them."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import optax

from memjax import evaluate
from memjax.data.transforms import Transform
from memjax.devices import Layout
from memjax.models.base import LatentVariableModel
from memjax.training.lift import lift
from memjax.training.state import init_state
from memjax.training.step import epoch_order, make_train_steps, no_metrics

__all__ = [
  'Programs',
  'ScoringOptions',
  'make_programs',
  'score_key',
  'train_key',
]

# What the first fold of the root key is for; one number a purpose, for ever.
_TRAIN, _SCORE = 0, 1


class ScoringOptions(NamedTuple):
  """How log p(x) is estimated.

  Attributes:
    items_at_once: items in one program call.
    num_samples: importance samples an item.
    proposal: see `importance_log_prob`.
    encoder_num_samples: of a second estimate by the encoder's proposal, the
      published one, at the last scored epoch; 0 for none.
    escalation: (proposal, samples) of each round in which what is not reliable
      yet is estimated anew, at the last scored epoch.
    rescored_at_once: items of a model in one call of such a round.
    lift: 'vmap' or 'map' over models.
  """

  items_at_once: int
  num_samples: int
  proposal: str
  encoder_num_samples: int = 0
  escalation: tuple[tuple[str, int], ...] = ()
  rescored_at_once: int = 1
  lift: str = 'map'


class Programs(NamedTuple):
  """Each takes and returns arrays with a leading model axis of fixed width.

  Attributes:
    layout: that width, and the devices.
    init: keys -> TrainState.
    zero: keys -> StepMetrics of an epoch that has not begun.
    order: (keys, is_train) -> batches of item indices [width, steps, batch].
    train: see `make_train_steps`.
    evaluate_loss: see `make_evaluate_loss`.
    score: see `make_score_items`.
    score_by_encoder: the same by the encoder's proposal, or None.
    rescore: see `make_rescore_items`; one a round, in order.
  """

  layout: Layout
  init: Callable
  zero: Callable
  order: Callable
  train: Callable
  evaluate_loss: Callable
  score: Callable
  score_by_encoder: Callable | None
  rescore: tuple[Callable, ...]


def make_programs(
  model: LatentVariableModel,
  optimizer: optax.GradientTransformation,
  transform: Transform,
  *,
  how: str,
  layout: Layout,
  batches: tuple[int, int],
  scoring: ScoringOptions,
  augment: Callable[[jax.Array, jax.Array], jax.Array] | None = None,
  precision: str = 'float32',
) -> Programs:
  """Lifts the functions of one model to a group and compiles each once.

  Args:
    model: the description that all models share.
    optimizer: of one model.
    transform: pixels to model input.
    how: 'vmap' or 'map', see `lift`, in training.
    layout: how many models, on which devices.
    batches: (steps, batch) of an epoch.
    scoring: see `ScoringOptions`.
    augment: see `make_train_steps`.
    precision: see `make_train_steps`.
  """
  train_steps = make_train_steps(
    model, optimizer, transform, augment=augment, precision=precision
  )
  evaluate_loss = evaluate.make_evaluate_loss(model, transform)

  def program(fun: Callable, how: str, *in_axes: int | None) -> Callable:
    return jax.jit(lift(fun, how, in_axes, layout.devices))

  def score(num_samples: int, proposal: str) -> Callable:
    score_items = evaluate.make_score_items(
      model,
      transform,
      block=scoring.items_at_once,
      num_samples=num_samples,
      proposal=proposal,
    )
    return program(score_items, scoring.lift, 0, None, None, None, 0)

  def rescore(proposal: str, num_samples: int) -> Callable:
    rescore_items = evaluate.make_rescore_items(
      model, transform, num_samples=num_samples, proposal=proposal
    )
    return program(rescore_items, scoring.lift, 0, None, None, 0, 0, None)

  def order(key, is_train):
    return epoch_order(key, is_train, batches)

  return Programs(
    layout=layout,
    init=program(lambda key: init_state(model, optimizer, key), 'vmap', 0),
    zero=program(lambda key: no_metrics(), 'vmap', 0),
    order=program(order, 'vmap', 0, 0),
    train=jax.jit(
      lift(train_steps, how, (0, 0, None, 0, None, None, 0), layout.devices),
      donate_argnums=(0, 1),
    ),
    evaluate_loss=program(evaluate_loss, how, 0, None, None, 0, 0),
    score=score(scoring.num_samples, scoring.proposal),
    score_by_encoder=score(scoring.encoder_num_samples, 'encoder')
    if scoring.encoder_num_samples
    else None,
    rescore=tuple(rescore(*round) for round in scoring.escalation),
  )


def train_key(
  seed: int, num_folds: int, repeat: int, fold: int, attempt: int
) -> jax.Array:
  """A model's own stream: nothing else decides its random numbers."""
  key = jax.random.fold_in(jax.random.key(seed), _TRAIN)
  for number in (num_folds, repeat, fold, attempt):
    key = jax.random.fold_in(key, number)
  return key


def score_key(seed: int, repeat: int, *redrawn: int) -> jax.Array:
  """One stream a repeat: its models see the same draws of an item.

  Args:
    seed: the root.
    repeat: of the model.
    *redrawn: further numbers, if draws are not to be shared: fold and epoch.
  """
  key = jax.random.fold_in(jax.random.key(seed), _SCORE)
  for number in (repeat, *redrawn):
    key = jax.random.fold_in(key, number)
  return key
