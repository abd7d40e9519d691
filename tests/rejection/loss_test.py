"""The generator's loss without its near-copies, on a tiny GAN."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import memjax
from memjax import rejection

TRAIN = np.random.default_rng(3).normal(size=(24, 2))
INDEX = rejection.make_index(TRAIN, metric='euclidean')


def slow_distance(x):
  return np.linalg.norm(np.asarray(x)[:, None] - TRAIN[None], axis=2).min(
    axis=1
  )


def draw(key):
  return jax.random.normal(key, (32, 3))


def generate(params, z, *, coupled=True):
  hidden = jnp.tanh(z @ params['in'])
  if coupled:
    hidden = hidden - hidden.mean(axis=0, keepdims=True)
  return hidden @ params['out'], hidden.mean()


def discriminate(params, x):
  return (jnp.tanh(x @ params['in']) @ params['out'])[:, 0]


def tiny(key):
  keys = jax.random.split(key, 4)
  shapes = {'in': (3, 16), 'out': (16, 2)}, {'in': (2, 16), 'out': (16, 1)}
  return [
    {
      name: 0.5 * jax.random.normal(k, shape[name])
      for k, name in zip(pair, shape, strict=True)
    }
    for pair, shape in zip((keys[:2], keys[2:]), shapes, strict=True)
  ]


def make_loss(discriminator, generate=generate, **options):
  return rejection.rejecting_loss(
    draw,
    generate,
    lambda x, z: -discriminate(discriminator, x),
    lambda x: rejection.nearest(INDEX, x).distance,
    **options,
  )


def gradient(loss, params, seed=7):
  return jax.jit(jax.value_and_grad(loss, has_aux=True))(
    params, jax.random.key(seed)
  )


def flat(tree):
  return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


@pytest.mark.parametrize('policy', ['drop', 'resample'])
def test_all_accepted_is_the_plain_step(policy):
  generator, discriminator = tiny(jax.random.key(0))
  (plain, _), expected = gradient(
    make_loss(discriminator, threshold=0.0, policy='none'), generator
  )
  (value, seen), found = gradient(
    make_loss(discriminator, threshold=0.0, policy=policy), generator
  )
  assert seen.is_accepted.all()
  assert float(seen.acceptance_rate) == 1.0
  assert int(seen.num_drawn) == 32
  np.testing.assert_allclose(value, plain, rtol=1e-6)
  np.testing.assert_allclose(flat(found), flat(expected), rtol=0, atol=1e-6)


def test_drop_is_the_mean_over_accepted_rows():
  """The slow twin indexes rows out, as the published code does."""
  generator, discriminator = tiny(jax.random.key(1))
  loss = make_loss(discriminator, threshold=0.15)
  (value, seen), found = gradient(loss, generator)
  kept = np.flatnonzero(np.asarray(seen.is_accepted))
  assert 0 < len(kept) < 32

  def slow(params):
    x, _ = generate(params, draw(jax.random.fold_in(jax.random.key(7), 0)))
    return -discriminate(discriminator, x[kept]).mean()

  expected_value, expected = jax.value_and_grad(slow)(generator)
  np.testing.assert_allclose(value, expected_value, rtol=1e-5)
  np.testing.assert_allclose(flat(found), flat(expected), rtol=1e-4, atol=1e-6)
  x, _ = generate(generator, draw(jax.random.fold_in(jax.random.key(7), 0)))
  exact = slow_distance(x)
  assert (np.asarray(seen.is_accepted) == (exact > 0.15)).all()
  np.testing.assert_allclose(seen.acceptance_rate, len(kept) / 32)


@pytest.mark.parametrize('policy', ['drop', 'resample'])
def test_all_rejected_has_no_gradient(policy):
  generator, discriminator = tiny(jax.random.key(2))
  loss = make_loss(discriminator, threshold=1e9, policy=policy, max_redraws=3)
  (value, seen), found = gradient(loss, generator)
  assert float(value) == 0.0
  assert not flat(found).any()
  assert not seen.is_accepted.any()
  assert float(seen.acceptance_rate) == 0.0
  assert int(seen.num_drawn) == (32 if policy == 'drop' else 32 * 4)


def test_resample_fills_the_batch():
  generator, discriminator = tiny(jax.random.key(3))
  uncoupled = lambda params, z: generate(params, z, coupled=False)
  options = {'generate': uncoupled, 'threshold': 0.15}
  loss = make_loss(discriminator, policy='resample', max_redraws=50, **options)
  (_, seen), found = gradient(loss, generator)
  assert seen.is_accepted.all()
  assert (seen.distance > 0.15).all()
  (_, dropped), _ = gradient(make_loss(discriminator, **options), generator)
  np.testing.assert_allclose(seen.acceptance_rate, dropped.acceptance_rate)
  assert int(seen.num_drawn) > 32

  # Algorithm 1, one latent at a time, from the same draws.
  key, latents = jax.random.key(7), []
  for row in range(32):
    for attempt in range(51):
      z = draw(jax.random.fold_in(key, attempt))[row]
      x = uncoupled(generator, z[None])[0]
      if slow_distance(x)[0] > 0.15:
        break
    latents.append(z)
  slow = lambda params: (
    -discriminate(
      discriminator, uncoupled(params, jnp.stack(latents))[0]
    ).mean()
  )
  expected = jax.grad(slow)(generator)
  np.testing.assert_allclose(flat(found), flat(expected), rtol=1e-4, atol=1e-6)


def test_none_compiles_the_plain_step():
  generator, discriminator = tiny(jax.random.key(4))
  called = []
  loss = rejection.rejecting_loss(
    draw,
    generate,
    lambda x, z: -discriminate(discriminator, x),
    lambda x: called.append(x),
    threshold=0.1,
    policy='none',
  )
  gradient(loss, generator)
  assert not called

  def mean_loss(params, key):
    samples, aux = generate(params, draw(jax.random.fold_in(key, 0)))
    return (-discriminate(discriminator, samples)).mean(), aux

  def program(function):
    def slope(params, key):
      return jax.grad(function, has_aux=True)(params, key)[0]

    return jax.jit(slope).lower(generator, jax.random.key(0)).as_text()

  assert program(loss) == program(mean_loss)


def test_no_gradient_through_distance_or_mask():
  """A distance that would have a huge slope changes nothing."""
  generator, discriminator = tiny(jax.random.key(5))
  steep = rejection.rejecting_loss(
    draw,
    generate,
    lambda x, z: -discriminate(discriminator, x),
    lambda x: 1e6 * jnp.abs(x).sum(axis=1) + 1.0,
    threshold=0.5,
  )
  plain = make_loss(discriminator, threshold=0.0, policy='none')
  np.testing.assert_allclose(
    flat(gradient(steep, generator)[1]),
    flat(gradient(plain, generator)[1]),
    rtol=0,
    atol=1e-6,
  )


def test_a_search_on_the_host_gives_the_same_step():
  from memjax.neighbors_approximate import approximate_search

  generator, discriminator = tiny(jax.random.key(8))
  search = approximate_search(TRAIN, num_candidates=24)
  losses = [
    rejection.rejecting_loss(
      draw,
      generate,
      lambda x, z: -discriminate(discriminator, x),
      distance,
      threshold=0.15,
    )
    for distance in (
      rejection.host_distance(search),
      lambda x: rejection.nearest(INDEX, x).distance,
    )
  ]
  (_, host), one = gradient(losses[0], generator)
  (_, device), two = gradient(losses[1], generator)
  np.testing.assert_allclose(host.distance, device.distance, rtol=1e-5)
  np.testing.assert_allclose(flat(one), flat(two), rtol=0, atol=1e-6)
  broken = rejection.host_distance(search)(jnp.array([[jnp.nan, 0.0]]))
  assert not memjax.rejection_mask(broken, 0.0).any()


def test_the_threshold_is_traced_once():
  generator, discriminator = tiny(jax.random.key(6))
  traces = []

  @jax.jit
  def rate(threshold):
    traces.append(1)
    loss = make_loss(discriminator, threshold=threshold)
    return loss(generator, jax.random.key(0))[1].acceptance_rate

  rates = [float(rate(jnp.float32(t))) for t in (0.0, 0.1, 0.3, 5.0)]
  assert len(traces) == 1
  assert rates[0] == 1.0
  assert rates == sorted(rates, reverse=True)
  assert rates[-1] == 0.0


def train_tiny(policy, threshold, seed, steps=300):
  """Trains the tiny GAN; returns 512 samples."""
  generator, discriminator = tiny(jax.random.key(seed))
  adam = optax.adam(5e-3, b1=0.5)
  state = (generator, discriminator, adam.init(generator))
  state += (adam.init(discriminator),)

  def step(i, state):
    generator, discriminator, g_state, d_state = state
    key = jax.random.fold_in(jax.random.key(seed + 100), i)
    fake, _ = generate(generator, draw(jax.random.fold_in(key, 1)))

    def d_loss(params):
      real = discriminate(params, jnp.asarray(TRAIN, jnp.float32))
      hinge = lambda score: jax.nn.relu(1 + score).mean()
      return hinge(-real) + hinge(discriminate(params, fake))

    updates, d_state = adam.update(jax.grad(d_loss)(discriminator), d_state)
    discriminator = optax.apply_updates(discriminator, updates)
    loss = make_loss(discriminator, policy=policy, threshold=threshold)
    (_, seen), slope = jax.value_and_grad(loss, has_aux=True)(generator, key)
    updates, new = adam.update(slope, g_state)
    is_any = seen.is_accepted.any()
    keep = lambda a, b: jnp.where(is_any, a, b)
    updates = jax.tree.map(lambda u: keep(u, 0.0), updates)
    generator = optax.apply_updates(generator, updates)
    g_state = jax.tree.map(keep, new, g_state)
    return generator, discriminator, g_state, d_state

  state = jax.jit(lambda s: jax.lax.fori_loop(0, steps, step, s))(state)
  z = jax.random.normal(jax.random.key(9), (512, 3))
  return np.asarray(generate(state[0], z)[0])


@pytest.mark.parametrize('policy', ['drop', 'resample'])
def test_a_tiny_gan_trains_with_every_policy(policy):
  samples = train_tiny(policy, 0.05, seed=0)
  assert np.isfinite(samples).all()
  # It has learned where the data are: about the origin, with their spread.
  assert abs(samples.mean()) < 0.6
  assert 0.3 < samples.std() < 2.5


@pytest.mark.parametrize('policy', ['none', 'drop', 'resample'])
def test_rejection_keeps_samples_away(policy):
  """A loss that pays for copying: 16 free points slide towards the data."""
  threshold = 0.3
  distance = lambda x: rejection.nearest(INDEX, x).distance

  def to_nearest(x, _):
    nearest = jnp.asarray(TRAIN, jnp.float32)[rejection.nearest(INDEX, x).index]
    return jnp.square(x - nearest).sum(axis=1)

  loss = rejection.rejecting_loss(
    lambda key: jnp.arange(16),
    lambda points, rows: (points[rows], None),
    to_nearest,
    distance,
    threshold=threshold,
    policy=policy,
  )
  # A ring around all items.
  angle = np.arange(16) * np.pi / 8
  points = 4 * jnp.asarray(np.stack([np.cos(angle), np.sin(angle)], 1))
  assert distance(points).min() > threshold
  slope = jax.jit(jax.grad(loss, has_aux=True))
  for step in range(800):
    points -= 0.1 * slope(points, jax.random.key(step))[0]
  found = distance(points)
  if policy == 'none':
    assert found.max() < 0.01  # all are copies
  else:
    # Each began its last move beyond the threshold.
    assert 0.2 < found.min()
    assert found.max() <= threshold


def test_other_shapes_than_one_number_a_sample_are_refused():
  """They would broadcast to a mean over pairs, or reject nothing."""
  generator, discriminator = tiny(jax.random.key(0))
  own = lambda x, z: -discriminate(discriminator, x)
  measure = lambda x: rejection.nearest(INDEX, x).distance
  column = lambda function: lambda *args: function(*args)[:, None]
  for loss, distance, name in (
    (column(own), measure, r'sample_loss.*\(32, 1\)'),
    (lambda x, z: own(x, z).mean(), measure, r'sample_loss.*\(\)'),
    (own, column(measure), r'distance.*\(32, 1\)'),
  ):
    with pytest.raises(ValueError, match=name):
      rejection.rejecting_loss(draw, generate, loss, distance, threshold=0.1)(
        generator, jax.random.key(0)
      )


def test_bad_arguments_are_named():
  with pytest.raises(ValueError, match=r'threshold=-0\.1'):
    make_loss({}, threshold=-0.1)
  with pytest.raises(ValueError, match="policy='reject'.*'drop'"):
    make_loss({}, threshold=0.1, policy='reject')
  with pytest.raises(ValueError, match='max_redraws=0'):
    make_loss({}, threshold=0.1, max_redraws=0)
