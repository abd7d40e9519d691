"""One GAN's steps: what is cut, skipped, refused, averaged."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from memjax import rejection
from memjax.models import gan
from memjax.training.checkpoints import Checkpoints
from memjax.training.gan_state import (
  FAILURES,
  GanData,
  GanOptions,
  init_gan_state,
)
from memjax.training.gan_step import make_gan_steps

MODEL = gan.sagan(
  (8, 8, 1), 2, latent_dim=3, generator_width=2, discriminator_width=4,
  attention_size=0,
)  # fmt: skip
OPTIONS = GanOptions(
  batch_size=6, discriminator_steps=1, ema_decay=0.9, ema_start=2, patience=3,
  record_every=2, learning_rate=1e-3,
)  # fmt: skip


def embed(params, images):
  return params * images.reshape(len(images), -1) / 255


@pytest.fixture(scope='module')
def data():
  images = np.random.default_rng(0).integers(
    0, 256, (10, 8, 8, 1), dtype=np.uint8
  )
  index = rejection.make_index(images / 255, metric='euclidean')
  return GanData(jnp.asarray(images), jnp.arange(10) % 2, index, jnp.ones(()))


@pytest.fixture(scope='module')
def fresh():
  init = lambda key: init_gan_state(MODEL, OPTIONS, 6, key)
  return jax.jit(init)(jax.random.key(0))


@pytest.fixture(scope='module')
def drop():
  return compiled()


def compiled(**changes):
  return jax.jit(make_gan_steps(MODEL, OPTIONS._replace(**changes), embed))


def run(steps, state, data, threshold, begin, end):
  return steps(
    state, data, jnp.float32(threshold), begin, end, jax.random.key(5)
  )


def assert_equal(one, two):
  jax.tree.map(np.testing.assert_array_equal, one, two)


def assert_close(one, two, atol):
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=atol), one, two
  )


def test_cuts_change_no_bit_and_the_threshold_compiles_nothing(
  drop, fresh, data
):
  whole = run(drop, fresh, data, 0.0, 0, 4)
  part = run(drop, fresh, data, 0.0, 0, 1)
  part = run(drop, part, data, 0.0, 1, 3)
  assert_equal(run(drop, part, data, 0.0, 3, 4), whole)
  run(drop, fresh, data, 1.0, 0, 1)
  assert drop._cache_size() == 1
  assert whole.record.steps.tolist() == [2.0, 2.0, 0.0]
  assert whole.record.acceptance.tolist() == [2.0, 2.0, 0.0]
  assert whole.record.drawn.tolist() == [12.0, 12.0, 0.0]
  assert int(whole.failed_step) == -1


def test_a_state_from_disk_goes_on_bit_for_bit(drop, fresh, data, tmp_path):
  """Nets, average, optimizers, spectral vectors, statistics, record."""
  half = run(drop, fresh, data, 0.0, 0, 3)
  with Checkpoints(tmp_path) as checkpoints:
    checkpoints.save(3, half, {})
  with Checkpoints(tmp_path) as checkpoints:
    found = checkpoints.restore(fresh)
  whole = run(drop, fresh, data, 0.0, 0, 5)
  assert_equal(run(drop, found.state, data, 0.0, 3, 5), whole)


def test_accepting_all_is_the_plain_step(drop, fresh, data):
  plain = run(compiled(policy='none'), fresh, data, 9.0, 0, 1)
  for state in (
    run(drop, fresh, data, 0.0, 0, 1),
    run(compiled(policy='resample'), fresh, data, 0.0, 0, 1),
  ):
    assert_close(state.generator, plain.generator, 2e-5)
    assert_close(state.discriminator, plain.discriminator, 1e-6)


def test_the_gradients_agree_where_all_is_accepted(fresh, data):
  """Of this GAN, batch statistics and all, to 1e-6."""
  label = jnp.arange(6) % 2

  def slope(policy):
    loss = rejection.rejecting_loss(
      lambda key: jax.random.normal(key, (6, 3)),
      lambda params, z: MODEL.generate_train(
        {**fresh.generator, 'params': params}, z, label
      ),
      lambda x, _: -MODEL.discriminate_train(fresh.discriminator, x, label)[0],
      lambda x: rejection.nearest(data.index, (x + 1) / 2).distance,
      threshold=0.0,
      policy=policy,
    )
    (_, seen), found = jax.jit(jax.value_and_grad(loss, has_aux=True))(
      fresh.generator['params'], jax.random.key(1)
    )
    assert seen.is_accepted.all()
    return found

  plain = slope('none')
  assert any(leaf.any() for leaf in jax.tree.leaves(plain))
  for policy in ('drop', 'resample'):
    assert_close(slope(policy), plain, 1e-6)


def test_redrawing_keeps_the_classes(fresh, data, monkeypatch):
  """Else classes that lie near training images would become rare."""
  latents, labels = [], []
  original = gan.GAN.generate_train

  def generate_train(self, variables, z, label):
    latents.append(z)
    labels.append(label)
    return original(self, variables, z, label)

  monkeypatch.setattr(gan.GAN, 'generate_train', generate_train)
  options = OPTIONS._replace(policy='resample', max_redraws=2)
  step = make_gan_steps(MODEL, options, embed)
  trace = lambda state, begin, end: run(step, state, data, 9.0, begin, end)
  jax.eval_shape(trace, fresh, jnp.int32(0), jnp.int32(1))
  # After the discriminator's batch: latents of the first draw, of those drawn
  # again and of the pass with gradient, always with the same classes.
  assert len({id(z) for z in latents[1:]}) > 1
  assert len({id(label) for label in labels[1:]}) == 1


def test_everything_moves(drop, fresh, data):
  state = run(drop, fresh, data, 0.0, 0, 1)
  for before, after in (
    (fresh.generator, state.generator),
    (fresh.discriminator, state.discriminator),
  ):
    moved = jax.tree.map(lambda a, b: bool((a != b).any()), before, after)
    for collection in moved:
      assert any(jax.tree.leaves(moved[collection])), collection


def test_the_first_update_of_the_discriminator(drop, fresh, data):
  """A slow twin of the wiring: labels, fakes, hinge, Adam's first step."""
  state = run(drop, fresh, data, 0.0, 0, 1)
  key = jax.random.split(jax.random.fold_in(jax.random.key(5), 0))[0]
  key = jax.random.fold_in(key, 0)
  real_key, fake_key, _ = jax.random.split(key, 3)
  rows = jax.random.randint(jax.random.split(real_key)[0], (6,), 0, 10)
  z_key, label_key = jax.random.split(fake_key)
  z = jax.random.normal(z_key, (6, 3))
  label = jax.random.randint(label_key, (6,), 0, 2)
  fake, _ = jax.jit(MODEL.generate_train)(fresh.generator, z, label)
  real = data.images[rows] / 127.5 - 1

  def loss(params):
    variables = {**fresh.discriminator, 'params': params}
    of_real, _ = MODEL.discriminate_train(variables, real, data.labels[rows])
    of_fake, _ = MODEL.discriminate_train(variables, fake, label)
    return (
      jnp.maximum(0, 1 - of_real).mean() + jnp.maximum(0, 1 + of_fake).mean()
    )

  params = fresh.discriminator['params']
  value, slope = jax.jit(jax.value_and_grad(loss))(params)
  np.testing.assert_allclose(
    state.record.discriminator_loss[0], value, rtol=1e-4
  )
  # Adam's first step is lr · g/(|g| + ε).
  expected = jax.tree.map(
    lambda p, g: p - 1e-3 * g / (jnp.abs(g) + 1e-6), params, slope
  )
  assert_close(state.discriminator['params'], expected, 5e-5)


def test_the_average_follows_then_lags(drop, fresh, data):
  state = run(drop, fresh, data, 0.0, 0, 2)
  assert_equal(state.average, state.generator)
  later = run(drop, state, data, 0.0, 2, 3)
  for name in ('params', 'batch_stats'):
    expected = jax.tree.map(
      lambda old, new: 0.9 * old + 0.1 * new,
      state.average[name],
      later.generator[name],
    )
    assert_close(later.average[name], expected, 1e-6)
  assert_equal(later.average['spectral'], later.generator['spectral'])
  assert later.sampled() is later.average


def test_a_batch_without_an_accepted_sample_leaves_the_generator(
  drop, fresh, data
):
  state = run(drop, fresh, data, 1e6, 0, 1)
  for name in ('params',):
    assert_equal(state.generator[name], fresh.generator[name])
  assert_equal(state.generator_optimizer, fresh.generator_optimizer)
  assert int(state.num_empty) == 1
  assert state.record.skipped.tolist() == [1.0, 0.0, 0.0]
  moved = jax.tree.map(
    lambda a, b: bool((a != b).any()),
    state.discriminator['params'],
    fresh.discriminator['params'],
  )
  assert any(jax.tree.leaves(moved))


def test_collapsed_acceptance_stops_and_keeps_the_last_state(drop, fresh, data):
  """patience = 3: the steps 0 and 1 are taken, step 2 is not."""
  state = run(drop, fresh, data, 1e6, 0, 6)
  assert int(state.failed_step) == 2
  assert FAILURES[int(state.failure)].startswith('every sample was rejected')
  kept = run(drop, fresh, data, 1e6, 0, 2)
  assert_equal(state.discriminator, kept.discriminator)
  assert state.record.steps.tolist() == [2.0, 0.0, 0.0]


def test_a_nan_stops_and_keeps_the_last_state(drop, fresh, data):
  params = dict(fresh.generator['params'])
  params['conv'] = jax.tree.map(lambda a: a * jnp.nan, params['conv'])
  broken = fresh._replace(generator={**fresh.generator, 'params': params})
  state = run(drop, broken, data, 0.0, 0, 4)
  assert int(state.failed_step) == 0
  assert FAILURES[int(state.failure)] == 'a loss or a parameter is not finite'
  assert_equal(state.generator, broken.generator)
  assert_equal(state.discriminator, fresh.discriminator)
  assert not state.record.steps.any()


def test_an_infinite_moment_stops_too(drop, fresh, data):
  """Adam would divide by it for ever, and the generator stand still."""
  moment = optax.tree_utils.tree_get(fresh.generator_optimizer, 'nu')
  endless = optax.tree_utils.tree_set(
    fresh.generator_optimizer, nu=jax.tree.map(lambda v: v + jnp.inf, moment)
  )
  moments = fresh._replace(generator_optimizer=endless)
  assert int(run(drop, moments, data, 0.0, 0, 1).failed_step) == 0


@pytest.mark.slow  # compiles for long
def test_augmented_and_flipped_steps_run(fresh, data):
  steps = compiled(
    augmentations=('color', 'translation', 'cutout'),
    flip=True,
    discriminator_steps=2,
  )
  state = run(steps, fresh, data, 0.0, 0, 1)
  assert int(state.failed_step) == -1
