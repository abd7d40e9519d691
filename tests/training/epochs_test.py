import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from memjax.models.denoiser import Denoiser
from memjax.training.epochs import init_epoch_state, make_train_epochs

MODEL = Denoiser(num_steps=5, hidden=4, num_blocks=1, embedding_dim=4)
OPTIMIZER = optax.chain(
  optax.clip_by_global_norm(1.0), optax.adamw(1e-3, weight_decay=0.01)
)


def start(key):
  return init_epoch_state(MODEL, OPTIMIZER, key)


def points(num_models=3, size=11):
  return jax.random.normal(jax.random.key(1), (num_models, size, 2))


@pytest.fixture(scope='module')
def programs():
  train = make_train_epochs(MODEL, OPTIMIZER, 4)
  lifted = jax.vmap(train, in_axes=(0, 0, None, None, 0))
  return jax.jit(train), jax.jit(lifted), jax.jit(jax.vmap(start))


@jax.jit
def loss_and_gradient(params, batch, key):
  def mean(params):
    mask = jnp.ones(len(batch), bool)
    return MODEL.loss({'params': params}, batch, mask, key)[0] / len(batch)

  return jax.value_and_grad(mean)(params)


def slow_epochs(x, epochs, key, *, scale_by_loss=False):
  """AdamW with clipping as PyTorch writes it, step by step, in NumPy."""
  params, structure = jax.tree.flatten(MODEL.init(key)['params'])
  params = [np.asarray(p, np.float64) for p in params]
  first = [np.zeros_like(p) for p in params]
  second = [np.zeros_like(p) for p in params]
  count = 0
  for epoch in range(epochs):
    order_key, step_key = jax.random.split(jax.random.fold_in(key, epoch))
    order = jax.random.permutation(order_key, len(x))
    for s in range(len(x) // 4):  # three points are left out
      tree = jax.tree.unflatten(structure, [np.float32(p) for p in params])
      loss, gradient = loss_and_gradient(
        tree, x[order[4 * s : 4 * s + 4]], jax.random.fold_in(step_key, s)
      )
      factor = float(loss) if scale_by_loss else 1.0
      gradient = [factor * np.float64(g) for g in jax.tree.leaves(gradient)]
      clip = min(1.0, 1.0 / np.sqrt(sum((g**2).sum() for g in gradient)))
      count += 1
      for k, g in enumerate(gradient):
        first[k] = 0.9 * first[k] + 0.1 * clip * g
        second[k] = 0.999 * second[k] + 0.001 * (clip * g) ** 2
        m, v = first[k] / (1 - 0.9**count), second[k] / (1 - 0.999**count)
        params[k] = params[k] * (1 - 1e-3 * 0.01)
        params[k] = params[k] - 1e-3 * m / (np.sqrt(v) + 1e-8)
  return jax.tree.unflatten(structure, params)


@pytest.mark.parametrize('scale_by_loss', [False, True])
def test_agrees_with_a_slow_twin(scale_by_loss):
  key, x = jax.random.key(7), points()[0]
  train = make_train_epochs(MODEL, OPTIMIZER, 4, scale_by_loss=scale_by_loss)
  state = jax.jit(train)(start(key), x, 0, 2, key)
  expected = slow_epochs(x, 2, key, scale_by_loss=scale_by_loss)
  chex.assert_trees_all_close(
    state.train.variables['params'], expected, atol=2e-5
  )
  assert state.failed == 0


def test_cuts_change_no_bit(programs):
  _, train, init = programs
  keys, x = jax.random.split(jax.random.key(0), 3), points()
  whole = train(init(keys), x, 0, 5, keys)
  parts = init(keys)
  for begin, end in ((0, 1), (1, 4), (4, 5)):
    parts = train(parts, x, begin, end, keys)
  chex.assert_trees_all_equal(whole, parts)


def test_together_equals_alone(programs):
  alone, together, init = programs
  keys, x = jax.random.split(jax.random.key(0), 3), points()
  states = together(init(keys), x, 0, 3, keys)
  for k in range(3):
    one = alone(start(keys[k]), x[k], 0, 3, keys[k])
    chex.assert_trees_all_close(
      jax.tree.map(lambda a: a[k], states), one, atol=1e-5
    )


def test_it_learns(programs):
  _, train, init = programs
  keys, x = jax.random.split(jax.random.key(0), 3), points(size=40) * 0.1
  early = train(init(keys), x, 0, 1, keys)
  late = train(early, x, 1, 100, keys)
  assert late.loss.mean() < 0.9 * early.loss.mean()


def test_divergence_is_noted_with_its_first_epoch(programs):
  _, train, init = programs
  keys, x = jax.random.split(jax.random.key(0), 3), points()
  state = train(init(keys), x, 0, 2, keys)
  poisoned = x.at[1].set(jnp.nan)
  state = train(state, poisoned, 2, 5, keys)
  assert state.failed.tolist() == [0, 3, 0]
  assert np.isfinite(state.loss[jnp.array([0, 2])]).all()


def test_a_batch_larger_than_the_data():
  train = make_train_epochs(MODEL, OPTIMIZER, 12)
  with pytest.raises(ValueError, match=r'batch_size=12: .*in \[1, 11\]'):
    jax.eval_shape(
      lambda k: train(start(k), points()[0], 0, 1, k), jax.random.key(0)
    )
  with pytest.raises(ValueError, match='batch_size=0'):
    make_train_epochs(MODEL, OPTIMIZER, 0)
