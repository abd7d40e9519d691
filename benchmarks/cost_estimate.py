"""How many floating-point operations does a study take? An ESTIMATE.

  python benchmarks/cost_estimate.py --config=configs/cifar_vae.py

Counts the matrix products of the programs that the study would run, from their
shapes: JAX traces them, and nothing is trained or downloaded. A product of
[a, b] by [b, c] is 2abc operations; a loop counts as often as it runs.
Everything else (activations, Adam, random numbers) is left out: it takes
memory bandwidth rather than operations. Then prints the hours at the given
rates, for which each program's share of its peak must be guessed; the default
0.2 is a guess too. How many estimates of log p are made anew is not known
beforehand either: --rescored.
"""

import functools
import math
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import app, flags
from jax.extend import core
from ml_collections import config_flags

from memjax import evaluate, validate
from memjax.data import transforms
from memjax.models import vae
from memjax.training.state import init_state
from memjax.training.step import make_train_steps, no_metrics

# Items, (h, w, c) before padding, and test items of the data sets by source.
_SHAPES = {
  'mnist': (60000, (28, 28, 1), 10000),
  'fashion_mnist': (60000, (28, 28, 1), 10000),
  'cifar10': (50000, (32, 32, 3), 10000),
  'celeba': (162770, (32, 32, 3), 19962),
  'digits': (1797, (8, 8, 1), 0),
}
_TERA = 1e12


class Cost(NamedTuple):
  """Operations of matrix products in each part of a study."""

  training: float
  held_out_loss: float
  scoring: float
  rescoring: float
  encoder_scoring: float


def count_operations(fun: Callable, *arguments: Any) -> float:
  """Operations of the matrix products in a call, from its trace.

  Args:
    fun: jit-able. A loop whose length is not known at trace time counts once.
    *arguments: arrays or `jax.ShapeDtypeStruct`s.
  """
  return _count(jax.make_jaxpr(fun)(*arguments).jaxpr)


def _count(jaxpr: core.Jaxpr) -> float:
  total = 0.0
  for equation in jaxpr.eqns:
    if equation.primitive.name == 'dot_general':
      total += _count_product(equation)
    if equation.primitive.name == 'conv_general_dilated':
      raise ValueError('expected matrix products, found a convolution.')
    inner = [
      _count(found)
      for value in equation.params.values()
      for found in _jaxprs_in(value)
    ]
    # Of the branches of a cond one is taken: the dearest, to be safe.
    if equation.primitive.name == 'cond':
      total += max(inner, default=0.0)
    else:
      total += sum(inner) * equation.params.get('length', 1)
  return total


def _count_product(equation: core.JaxprEqn) -> float:
  (contracted, _), _ = equation.params['dimension_numbers']
  left = equation.invars[0].aval
  inner = math.prod(left.shape[axis] for axis in contracted)
  return 2.0 * inner * equation.outvars[0].aval.size


def _jaxprs_in(value: Any) -> list[core.Jaxpr]:
  values = value if isinstance(value, tuple | list) else [value]
  return [
    getattr(each, 'jaxpr', each)
    for each in values
    if isinstance(each, core.Jaxpr | core.ClosedJaxpr)
  ]


def estimate(config: Any, rescored: float) -> Cost:
  """Counts what a memorization study takes.

  Args:
    config: as in `configs/`.
    rescored: the share of the estimates at the last epoch that are made anew
      in each round of the escalation.

  Raises:
    ValueError: another study, or data whose shapes are not known here.
  """
  validate.one_of('config.study', config.study, ('memorization',))
  validate.one_of('config.data.source', config.data.source, _SHAPES)
  train, score = config.train, config.score
  num_items, shape, num_test = _SHAPES[config.data.source]
  num_items = config.data.num_items or num_items
  pad = 2 * config.data.pad
  shape = (shape[0] + pad, shape[1] + pad, shape[2])
  folds, repeats = config.folds.num_folds, config.folds.num_repeats
  num_models = folds * repeats
  fields = config.model.to_dict()
  model = getattr(vae, fields.pop('name'))(shape, **fields)
  one = _PerItem(model, getattr(transforms, config.transform)(), shape)

  trained = num_items * (folds - 1) * repeats
  held_out = num_items * repeats
  if config.full.is_run:
    trained, held_out = trained + num_items, held_out + num_test
  # Tracked epochs count for as long as something is scored after them.
  tracked = [
    epoch
    for epoch in score.tracked_epochs
    if epoch < max(score.epochs) and epoch not in score.epochs
  ]
  scored = num_models * (
    len(score.epochs) * num_items
    + len(tracked) * min(score.num_tracked, num_items)
  )
  last = num_models * num_items
  encoder = score.encoder_num_samples if score.proposal != 'encoder' else 0
  return Cost(
    training=train.epochs * trained * one.train(train.batch_size),
    held_out_loss=train.epochs * held_out * one.loss(),
    scoring=scored * one.score(score.proposal, score.num_samples),
    rescoring=sum(
      last * rescored * one.score(name, samples)
      for name, samples in score.escalation
    ),
    encoder_scoring=last * one.score('encoder', encoder) if encoder else 0.0,
  )


class _PerItem:
  """Operations that one item costs one model."""

  def __init__(self, model, transform, shape):
    self._model, self._transform = model, transform
    self._images = jax.ShapeDtypeStruct((1, *shape), jnp.uint8)
    self._ids = jax.ShapeDtypeStruct((1,), jnp.uint32)
    self._key = jax.random.key(0)

  def train(self, batch_size: int) -> float:
    """A training step, divided by its items."""
    adam = optax.adam(1e-3)
    steps = make_train_steps(self._model, adam, self._transform)
    state = jax.eval_shape(
      lambda k: init_state(self._model, adam, k), self._key
    )
    order = jnp.zeros((1, batch_size), jnp.int32)
    # One step: a loop whose length is not known counts once.
    found = count_operations(
      steps,
      state,
      no_metrics(),
      self._images,
      order,
      jnp.int32(0),
      jnp.int32(1),
      self._key,
    )
    return found / batch_size

  def loss(self) -> float:
    """The held-out loss."""
    evaluate_loss = evaluate.make_evaluate_loss(self._model, self._transform)
    order = jnp.zeros((1, 1), jnp.int32)
    return count_operations(
      evaluate_loss, self._variables(), self._images, self._ids, order,
      self._key,
    )  # fmt: skip

  @functools.cache  # noqa: B019
  def score(self, proposal: str, num_samples: int) -> float:
    """An estimate of log p."""
    score_items = evaluate.make_score_items(
      self._model,
      self._transform,
      block=1,
      num_samples=num_samples,
      proposal=proposal,
    )
    return count_operations(
      score_items, self._variables(), self._images, self._ids, 0, self._key
    )

  def _variables(self) -> Any:
    return jax.eval_shape(self._model.init, self._key)


def main(_) -> None:
  """Prints the table."""
  try:
    cost = estimate(_CONFIG.value, _RESCORED.value)
  except ValueError as error:
    sys.exit(f'cost_estimate: {error}')
  print('An ESTIMATE of operations (matrix products alone), and of hours.')
  rates = [float(rate) for rate in _RATES.value]
  head = ''.join(f'{f"at {rate:g} T/s":>14s}' for rate in rates)
  print(f'{"":>16s}{"10^15":>10s}{head}')
  for name, operations in {**cost._asdict(), 'total': sum(cost)}.items():
    hours = operations / _TERA / 3600 / _SHARE.value / np.array(rates)
    row = ''.join(f'{hour:12.2f} h' for hour in hours)
    print(f'{name:>16s}{operations / 1e15:10.1f}{row}')
  print(f'at {_SHARE.value:g} of the rates; {_RESCORED.value:g} made anew.')


if __name__ == '__main__':
  _CONFIG = config_flags.DEFINE_config_file('config', 'configs/cifar_vae.py')
  _RATES = flags.DEFINE_list(
    'rates', ['19.5', '67', '46'], 'Peak rates in 10^12 operations a second.'
  )
  _SHARE = flags.DEFINE_float('share', 0.2, 'Of the peak that is reached.')
  _RESCORED = flags.DEFINE_float('rescored', 0.95, 'Estimates made anew.')
  app.run(main)
