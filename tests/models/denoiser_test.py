"""Golden values: tiny-diffusion (726b6bb), run in PyTorch; see the design's
reference notes. Slow twins are written out below.
"""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.special

from memjax.models.base import DensityModel
from memjax.models.denoiser import (
  Denoiser,
  add_noise,
  denoise,
  make_schedule,
  sinusoidal_embedding,
)


def filled(model):
  """Every tensor row-major in PyTorch's layout: 0.1 sin 1, 0.1 sin 2, …."""

  def fill(leaf):
    values = 0.1 * np.sin(np.arange(1, leaf.size + 1))
    return jnp.asarray(values.reshape(leaf.shape[::-1]).T, jnp.float32)

  return jax.tree.map(fill, jax.eval_shape(model.init, jax.random.key(0)))


def slow_forward(variables, x, t):
  """The network in NumPy, float64, one point at a time."""
  p = jax.tree.map(lambda a: np.asarray(a, np.float64), variables['params'])
  embed = lambda v: [
    f(v * 10000 ** (-j / 63)) for f in (np.sin, np.cos) for j in range(64)
  ]
  gelu = lambda v: v * scipy.special.ndtr(v)
  rows = []
  for point, step in zip(np.asarray(x, np.float64), t, strict=True):
    h = np.concatenate([*(embed(25 * c) for c in point), embed(step)])
    h = gelu(h @ p['kernel'] + p['bias'])
    for k in range(3):
      h = h + gelu(h @ p[f'Dense_{k}']['kernel'] + p[f'Dense_{k}']['bias'])
    rows.append(h @ p['Dense_3']['kernel'] + p['Dense_3']['bias'])
  return np.array(rows)


def test_parameter_count_and_contract():
  model = Denoiser()
  shapes = jax.eval_shape(model.init, jax.random.key(0))
  assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == 99_074
  assert isinstance(model, DensityModel)
  assert not model.is_convolutional
  assert hash(model) == hash(Denoiser())


def test_initial_weights_are_pytorchs():
  params = jax.jit(Denoiser().init)(jax.random.key(0))['params']
  for kernel, fan_in in (
    (params['kernel'], 384), (params['Dense_0']['kernel'], 128),
  ):  # fmt: skip
    bound = fan_in**-0.5
    assert 0.98 * bound < np.abs(kernel).max() <= bound
    assert abs(np.std(kernel) - bound / 3**0.5) < 0.02 * bound


@pytest.mark.parametrize(
  ('num_steps', 'kind', 'terminal'),
  [
    (50, 'linear', 0.6029516), (50, 'quadratic', 0.6950721),
    (250, 'linear', 0.0797025), (1000, 'linear', 4.0358e-5),
  ],
)  # fmt: skip
def test_terminal_signal(num_steps, kind, terminal):
  schedule = make_schedule(num_steps, kind)
  assert schedule.alpha_bar[-1] == pytest.approx(terminal, rel=2e-5)


def test_schedule_goldens():
  schedule = make_schedule(50)
  assert schedule.alpha_bar[25] == pytest.approx(0.8736624, abs=2e-7)
  assert schedule.beta[25] == pytest.approx(0.0102531, abs=1e-7)
  np.testing.assert_allclose(
    schedule.variance[[1, 25, 49]],
    [8.352414e-5, 9.518554e-3, 1.938017e-2],
    rtol=2e-4,
  )
  np.testing.assert_allclose(
    np.stack([schedule.x0_weight, schedule.xt_weight])[:, [0, 1, 25, 49]].T,
    [
      (0.9998341, 0), (0.8350610, 0.1649858), (0.0762483, 0.9235907),
      (0.0395107, 0.9592695),
    ],
    atol=3e-7,
  )  # fmt: skip


def test_schedule_agrees_with_a_loop_in_float64():
  for kind in ('linear', 'quadratic'):
    schedule = make_schedule(250, kind)
    alpha_bar = 1.0
    for t in range(250):
      share = t / 249
      beta = 1e-4 + share * (0.02 - 1e-4)
      if kind == 'quadratic':
        beta = (1e-4**0.5 + share * (0.02**0.5 - 1e-4**0.5)) ** 2
      before, alpha_bar = alpha_bar, alpha_bar * (1 - beta)
      variance = max(beta * (1 - before) / (1 - alpha_bar), 1e-20)
      assert schedule.alpha_bar[t] == pytest.approx(alpha_bar, rel=1e-5)
      assert schedule.variance[t] == pytest.approx(variance, rel=1e-3)


def test_add_noise_goldens():
  x = jnp.tile(jnp.array([[1.0, -2.0]]), (2, 1))
  noise = jnp.tile(jnp.array([[0.5, 0.25]]), (2, 1))
  found = add_noise(make_schedule(50), x, noise, jnp.array([25, 49]))
  expected = [(1.1124191, -1.7805381), (1.0915585, -1.3954697)]
  np.testing.assert_allclose(found, expected, atol=5e-7)


def test_denoise_golden_and_twin():
  schedule = make_schedule(50)
  x, predicted = jnp.array([[1.0, -2.0]]), jnp.array([[0.5, 0.25]])
  noise = jnp.array([[3.0, -4.0]])
  found = denoise(schedule, x, predicted, jnp.array(0), noise)
  # No noise is added in the last step.
  np.testing.assert_allclose(found[0], (0.9948844, -2.0022678), atol=5e-7)
  t = 30
  a, before = (float(schedule.alpha_bar[s]) for s in (t, t - 1))
  beta = float(schedule.beta[t])
  x0 = (np.array([1, -2]) - (1 - a) ** 0.5 * np.array([0.5, 0.25])) / a**0.5
  mean = beta * before**0.5 / (1 - a) * x0
  mean = mean + (1 - before) * (1 - beta) ** 0.5 / (1 - a) * np.array([1, -2])
  sd = (beta * (1 - before) / (1 - a)) ** 0.5
  found = denoise(schedule, x, predicted, jnp.array(t), noise)
  np.testing.assert_allclose(found[0], mean + sd * np.array([3, -4]), atol=1e-5)


def test_embedding_goldens():
  t = np.asarray(sinusoidal_embedding(jnp.array([7.0])))[0]
  np.testing.assert_allclose(
    t[:3], [0.6569866, -0.2331017, -0.8713039], atol=2e-6
  )
  np.testing.assert_allclose(
    t[64:67], [0.7539023, 0.9724523, 0.4907439], atol=2e-6
  )
  x = np.asarray(sinusoidal_embedding(jnp.array([0.5]), scale=25.0))[0]
  np.testing.assert_allclose(
    x[:3], [-0.0663219, -0.9809083, 0.0936896], atol=2e-6
  )


def test_embedding_is_that_of_sin_and_cos():
  x = np.linspace(-400, 1000, 20_001).astype(np.float32)
  found = np.asarray(jax.jit(sinusoidal_embedding)(x))
  # The angles as they are rounded; then only sine and cosine are tested.
  frequency = np.exp(-np.log(1e4) * np.arange(64) / 63).astype(np.float32)
  angle = np.float64(x[:, None] * frequency)
  np.testing.assert_allclose(found[:, :64], np.sin(angle), atol=3e-7)
  np.testing.assert_allclose(found[:, 64:], np.cos(angle), atol=3e-7)


def test_forward_golden():
  model = Denoiser()
  found = jax.jit(model.predict_noise)(
    filled(model), jnp.array([[0.3, -0.7]]), jnp.array([0])
  )
  np.testing.assert_allclose(found[0], (1.39693573, -0.82416408), atol=5e-6)


def test_forward_agrees_with_a_slow_twin():
  model = Denoiser()
  variables = model.init(jax.random.key(3))
  x = np.random.default_rng(0).normal(size=(7, 2)).astype(np.float32) * 2
  t = np.array([0, 1, 2, 9, 25, 48, 49])
  found = jax.jit(model.predict_noise)(variables, x, t)
  np.testing.assert_allclose(found, slow_forward(variables, x, t), atol=2e-6)
  one = jax.jit(model.predict_noise)(variables, x, np.array([9]))
  expected = slow_forward(variables, x, [9] * 7)
  np.testing.assert_allclose(one, expected, atol=2e-6)


def test_loss_is_the_masked_mean_square():
  model = Denoiser(hidden=8)
  variables = model.init(jax.random.key(0))
  x = jax.random.normal(jax.random.key(1), (6, 2))
  key = jax.random.key(2)
  mask = jnp.array([True, True, False, True, True, False])
  loss, collections = jax.jit(model.loss)(variables, x, mask, key)
  t_key, noise_key = jax.random.split(key)
  t = jax.random.randint(t_key, (6,), 0, 50)
  noise = np.asarray(jax.random.normal(noise_key, (6, 2)))
  noisy = add_noise(model.schedule, x, jnp.asarray(noise), t)
  error = (noise - np.asarray(model.predict_noise(variables, noisy, t))) ** 2
  assert loss == pytest.approx(error[np.asarray(mask)].mean(1).sum(), rel=1e-5)
  assert collections == {}
  # What padding holds does not matter, even in the gradient.
  rubbish = jnp.where(mask[:, None], x, jnp.nan)
  gradient = jax.grad(lambda v, x: model.loss(v, x, mask, key)[0])
  chex.assert_trees_all_close(
    gradient(variables, rubbish), gradient(variables, x)
  )


def test_sampling_agrees_with_a_loop():
  model = Denoiser(num_steps=5, hidden=8)
  variables = model.init(jax.random.key(0))
  key = jax.random.key(1)
  x = jax.random.normal(jax.random.fold_in(key, 5), (6, 2))
  for t in (4, 3, 2, 1, 0):
    noise = jax.random.normal(jax.random.fold_in(key, t), (6, 2))
    predicted = model.predict_noise(variables, x, jnp.array([t]))
    x = denoise(model.schedule, x, predicted, jnp.array(t), noise)
  for block_size in (None, 3, 2):
    sample = jax.jit(lambda v, k: model.sample(v, k, 6, block_size=block_size))
    np.testing.assert_allclose(sample(variables, key), x, atol=1e-5)
  assert model.sample(variables, key, 7, block_size=3).shape == (7, 2)


@pytest.mark.slow
def test_it_learns_a_gaussian():
  """T = 250 reaches noise, so that mean and spread come out right."""
  model = Denoiser(num_steps=250, hidden=64)
  optimizer = optax.adamw(1e-3, weight_decay=0.01)
  variables = model.init(jax.random.key(0))
  data = jnp.array([[2.0, -1.0]]) + 0.5 * jax.random.normal(
    jax.random.key(1), (4096, 2)
  )

  @jax.jit
  def train(params, state):
    def step(i, carry):
      params, state = carry
      keys = jax.random.split(jax.random.fold_in(jax.random.key(2), i))
      x = data[jax.random.randint(keys[0], (256,), 0, len(data))]
      mask = jnp.ones(256, bool)
      gradient = jax.grad(lambda p: model.loss(p, x, mask, keys[1])[0] / 256)(
        params
      )
      updates, state = optimizer.update(gradient, state, params)
      return optax.apply_updates(params, updates), state

    return jax.lax.fori_loop(0, 3000, step, (params, state))

  variables, _ = train(variables, optimizer.init(variables))
  x = model.sample(variables, jax.random.key(5), 4000)
  np.testing.assert_allclose(x.mean(0), [2, -1], atol=0.08)
  np.testing.assert_allclose(x.std(0), [0.5, 0.5], atol=0.06)


@pytest.mark.parametrize(
  ('field', 'value', 'message'),
  [
    ('num_steps', 1, r'num_steps=1: expected an integer 2 or more'),
    ('schedule_kind', 'linaer', "Did you mean 'linear'"),
    ('hidden', 0, r'hidden=0'),
    ('embedding_dim', 7, r'embedding_dim=7: expected an even number'),
    ('input_scale', 0.0, r'input_scale=0.0: expected a number in'),
  ],
)
def test_bad_values(field, value, message):
  with pytest.raises(ValueError, match=message):
    Denoiser(**{field: value})
