import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from memjax.data.transforms import binarize
from memjax.models.vae import bernoulli_mlp_vae, diagonal_gaussian_dcvae
from memjax.training.lift import choose_lift, lift
from memjax.training.state import init_state
from memjax.training.step import epoch_order, make_train_steps, no_metrics

MODEL = bernoulli_mlp_vae((4, 4, 1), latent_dim=2, hidden=(8, 6))
OPTIMIZER = optax.adam(1e-2)
NUM_ITEMS, BATCH = 30, 8
STEPS = make_train_steps(MODEL, OPTIMIZER, binarize())
ONE = jax.jit(STEPS)


def images():
  rng = np.random.default_rng(0)
  return jnp.asarray(
    rng.integers(0, 256, (NUM_ITEMS, 4, 4, 1)).astype(np.uint8)
  )


def start(key):
  return init_state(MODEL, OPTIMIZER, key), no_metrics()


def order_of(key, is_train=None, steps=4):
  is_train = jnp.ones(NUM_ITEMS, bool) if is_train is None else is_train
  return epoch_order(key, is_train, (steps, BATCH))


def assert_same(a, b):
  jax.tree.map(np.testing.assert_array_equal, a, b)


def test_epoch_order_visits_every_training_item_once():
  is_train = jnp.arange(NUM_ITEMS) % 5 != 0
  order = np.asarray(order_of(jax.random.key(0), is_train))
  assert order.shape == (4, BATCH)
  real = order[order >= 0]
  assert sorted(real) == sorted(np.flatnonzero(is_train))
  assert (order.reshape(-1)[len(real) :] == -1).all()
  other = np.asarray(order_of(jax.random.key(1), is_train))
  assert (order != other).any()


def test_epoch_order_is_uniform():
  keys = jax.random.split(jax.random.key(0), 4000)
  orders = jax.vmap(lambda k: epoch_order(k, jnp.ones(4, bool), (1, 4)))(keys)
  _, counts = np.unique(np.asarray(orders)[:, 0], axis=0, return_counts=True)
  assert counts.size == 24
  # Chi-square at 23 degrees of freedom: 0.001 quantile of the upper tail.
  assert ((counts - 4000 / 24) ** 2 / (4000 / 24)).sum() < 49.7


def test_where_an_epoch_is_cut_changes_no_bit():
  key = jax.random.key(3)
  order = order_of(key)
  whole = ONE(*start(key), images(), order, 0, 4, key)
  state, metrics = start(key)
  for begin, end in ((0, 1), (1, 3), (3, 4)):
    state, metrics = ONE(state, metrics, images(), order, begin, end, key)
  assert_same(whole, (state, metrics))
  assert int(metrics.count) == NUM_ITEMS
  assert ONE._cache_size() == 1  # one trace, wherever it is cut


def test_a_ragged_batch_equals_a_batch_without_padding():
  """Padding items enter neither the loss nor the gradient."""
  key = jax.random.key(0)
  variables = MODEL.init(key)
  x = binarize().apply(images()[:5].reshape(20, 4, 1), key).reshape(5, 4, 4, 1)
  noise_free = jax.tree.map(lambda leaf: leaf, variables)
  junk = jnp.concatenate([x, jnp.ones((3, 4, 4, 1))])

  def loss(params, x, mask):
    return MODEL.loss({**noise_free, 'params': params}, x, mask, key)[0]

  value = jax.value_and_grad(loss)
  padded = value(variables['params'], junk, jnp.arange(8) < 5)
  other = value(
    variables['params'],
    jnp.concatenate([x, jnp.zeros((3, 4, 4, 1))]),
    jnp.arange(8) < 5,
  )
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), padded, other
  )
  assert float(padded[0]) < float(value(variables['params'], junk,
                                        jnp.ones(8, bool))[0])  # fmt: skip


def test_a_batch_without_items_changes_nothing():
  key = jax.random.key(1)
  order = order_of(key, steps=6)  # two spare steps
  four = ONE(*start(key), images(), order, 0, 4, key)
  six = ONE(*start(key), images(), order, 0, 6, key)
  assert_same(four, six)
  assert int(four[1].count) == NUM_ITEMS


@pytest.mark.parametrize('how', ['vmap', 'map'])
def test_models_together_equal_each_alone(how):
  """40 steps of Adam; float sums differ between program widths."""
  keys = jax.random.split(jax.random.key(5), 3)
  is_train = jnp.asarray(np.random.default_rng(0).random((3, NUM_ITEMS)) < 0.8)
  states = jax.vmap(lambda k: start(k))(keys)
  together = jax.jit(lift(STEPS, how, (0, 0, None, 0, None, None, 0)))
  alone = [start(k) for k in keys]
  for epoch in range(10):
    epoch_keys = jax.vmap(jax.random.fold_in, (0, None))(keys, epoch)
    orders = jax.vmap(order_of)(epoch_keys, is_train)
    states = together(*states, images(), orders, 0, 4, epoch_keys)
    alone = [
      ONE(*a, images(), o, 0, 4, k)
      for a, o, k in zip(alone, orders, epoch_keys, strict=True)
    ]
  for index, one in enumerate(alone):
    jax.tree.map(
      lambda many, one: np.testing.assert_allclose(
        many[index], one, rtol=1e-3, atol=1e-4
      ),
      states,
      one,
    )


def test_a_non_finite_loss_or_parameter_is_reported_and_stays_inside():
  keys = jax.random.split(jax.random.key(5), 2)
  state, metrics = jax.vmap(lambda k: start(k))(keys)
  broken = jax.tree.map(lambda leaf: leaf.at[0].set(jnp.nan), state.variables)
  orders = jax.vmap(order_of)(keys)
  together = jax.jit(lift(STEPS, 'vmap', (0, 0, None, 0, None, None, 0)))
  _, healthy = together(state, metrics, images(), orders, 0, 4, keys)
  after, metrics = together(
    state._replace(variables=broken), metrics, images(), orders, 0, 4, keys
  )
  assert metrics.is_finite.tolist() == [False, True]
  np.testing.assert_array_equal(metrics.loss[1], healthy.loss[1])


def test_training_lowers_the_loss():
  key = jax.random.key(2)
  state, metrics = start(key)
  losses = []
  striped = jnp.broadcast_to(
    jnp.array([0, 255, 0, 255], jnp.uint8)[:, None], (NUM_ITEMS, 4, 4, 1)
  )
  for epoch in range(20):
    epoch_key = jax.random.fold_in(key, epoch)
    state, metrics = ONE(
      state, no_metrics(), striped, order_of(epoch_key), 0, 4, epoch_key
    )
    losses.append(float(metrics.loss / metrics.count))
  assert losses[-1] < losses[0] - 3


def test_train_step_reuses_no_key():
  with jax.debug_key_reuse(True):
    key = jax.random.key(4)
    state_key, order_key, step_key = jax.random.split(key, 3)
    state, metrics = start(state_key)
    jax.jit(STEPS)(
      state, metrics, images(), order_of(order_key), 0, 1, step_key
    )


def test_lift_maps_and_vmaps_alike():
  fun = lambda x, y, z: {'sum': x + y, 'product': x * z}
  x, z = jnp.arange(3.0), jnp.arange(3.0) + 1
  for how in ('vmap', 'map'):
    out = lift(fun, how, (0, None, 0))(x, 10.0, z)
    np.testing.assert_array_equal(out['sum'], x + 10)
    np.testing.assert_array_equal(out['product'], x * z)


def test_choose_lift_by_backend_and_model():
  convolutional = dataclasses.replace(MODEL, is_convolutional=True)
  assert choose_lift(MODEL, 'auto', 'cpu') == 'vmap'
  assert choose_lift(MODEL, 'map', 'cpu') == 'map'
  assert choose_lift(convolutional, 'auto', 'cpu') == 'map'
  assert choose_lift(convolutional, 'auto', 'gpu') == 'vmap'
  with pytest.raises(ValueError, match="lift='vmpa'.*Did you mean 'vmap'"):
    choose_lift(MODEL, 'vmpa')


@pytest.mark.parametrize(
  ('option', 'lowered'),
  [('float32', 'HIGHEST'), ('tensorfloat32', 'HIGH'), ('bfloat16', 'DEFAULT')],
)
@pytest.mark.parametrize(
  'model', [MODEL, diagonal_gaussian_dcvae((16, 16, 3), num_features=4)]
)
def test_the_precision_of_training_is_an_option(model, option, lowered):
  steps = make_train_steps(model, OPTIMIZER, binarize(), precision=option)
  shape = (NUM_ITEMS, *model.image_shape)
  key = jax.random.key(0)
  state = init_state(model, OPTIMIZER, key)
  order = order_of(key)
  # Whatever the backend's default: the option decides.
  with jax.default_matmul_precision('tensorfloat32'):
    text = (
      jax.jit(steps)
      .lower(state, no_metrics(), jnp.zeros(shape, jnp.uint8), order, 0, 4, key)
      .as_text()
    )
  dots = re.findall(r'stablehlo\.dot_general.*', text)
  assert len(dots) > 10  # forward and gradient
  assert all(f'precision = [{lowered}, {lowered}]' in dot for dot in dots)
  # Convolutions and dense layers alike, and their gradients.
  has_bfloat16 = ['bf16' in dot for dot in dots]
  assert all(has_bfloat16) if option == 'bfloat16' else not any(has_bfloat16)
  state_types = {leaf.dtype for leaf in jax.tree.leaves(state)}
  assert jnp.dtype('bfloat16') not in state_types
