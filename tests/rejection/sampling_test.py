"""The guard of a sampler."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memjax import rejection


def uniform(key, count):
  return jax.random.uniform(key, (count, 1))


def guarded_uniform(**options):
  train = np.array([[0.0], [1.0]])
  index = rejection.make_index(train, metric='euclidean')
  return rejection.guard(uniform, index, 0.25, **options)


def test_guard_follows_the_truncated_density():
  found = guarded_uniform()(jax.random.key(0), 20_000)
  assert found.samples.shape == (20_000, 1)
  assert found.num_missing == 0
  assert (found.distance > 0.25).all()
  # Uniform on (¼, ¾): mean ½, variance 1/48, half refused.
  assert abs(found.samples.mean() - 0.5) < 5 * np.sqrt(1 / 48 / 20_000)
  np.testing.assert_allclose(found.samples.var(), 1 / 48, rtol=0.03)
  np.testing.assert_allclose(
    found.num_refused / found.num_drawn, 0.5, atol=0.01
  )
  assert ((found.samples[:, 0] > 0.5) == found.nearest).all()


def test_guard_is_bounded_and_says_so():
  far = rejection.make_index(np.array([[0.5]]), metric='euclidean')
  refuse_all = rejection.guard(uniform, far, 9.0, max_draws_per_sample=3.0)
  found = refuse_all(jax.random.key(0), 512)
  assert len(found.samples) == 0
  assert found.num_drawn == found.num_refused == 3 * 512
  assert found.num_missing == 512
  few = guarded_uniform(max_draws_per_sample=1.0)(jax.random.key(0), 512)
  assert few.num_missing == 512 - len(few.samples) > 0


def test_guard_keeps_pytrees_together_and_repeats_itself():
  def sampler(key, count):
    x = uniform(key, count)
    return {'x': x, 'label': (10 * x[:, 0]).astype(int)}

  index = rejection.make_index(np.array([[0.0], [1.0]]), metric='euclidean')
  guarded = rejection.guard(sampler, index, 0.25, embed=lambda s: s['x'])
  one, two = (guarded(jax.random.key(1), 100) for _ in range(2))
  assert (
    one.samples['label'] == (10 * one.samples['x'][:, 0]).astype(int)
  ).all()
  np.testing.assert_array_equal(one.samples['x'], two.samples['x'])


def test_guard_draws_as_many_as_its_bound_allows():
  sizes = []

  def sampler(key, number):
    sizes.append(number)
    return jnp.zeros((number, 1))

  index = rejection.make_index(np.zeros((1, 1)), metric='euclidean')
  found = rejection.guard(sampler, index, 0.5)(jax.random.key(0), 51)
  assert sizes == [256, 254]
  assert (found.num_drawn, found.num_missing) == (510, 51)


def test_a_sampler_of_another_size_is_refused():
  index = rejection.make_index(np.eye(2))
  for size in (400, 5):
    sampler = lambda key, number, size=size: jnp.ones((size, 2))
    with pytest.raises(ValueError, match=f'gave {size} samples: expected 256'):
      rejection.guard(sampler, index, 0.1)(jax.random.key(0), 100)


@pytest.mark.parametrize('metric', ['cosine', 'euclidean'])
def test_threshold_zero_refuses_copies_and_what_is_not_finite(metric):
  train = np.random.default_rng(0).normal(size=(300, 20)).astype(np.float32)
  bad = np.array([[np.inf], [-np.inf], [np.nan]], np.float32) * np.ones(20)
  fresh = np.random.default_rng(1).normal(size=(5, 20)).astype(np.float32)
  every = jnp.asarray(np.concatenate([train, bad, fresh]))
  index = rejection.make_index(train, metric=metric)
  sampler = lambda key, number: every
  guarded = rejection.guard(
    sampler, index, 0.0, max_draws_per_sample=308 / 5, batch_size=308
  )
  found = guarded(jax.random.key(0), 5)
  np.testing.assert_array_equal(found.samples, fresh)
  assert (found.num_drawn, found.num_refused) == (308, 303)


def test_bad_arguments_are_named():
  with pytest.raises(ValueError, match='max_draws_per_sample=inf'):
    guarded_uniform(max_draws_per_sample=np.inf)
  index = rejection.make_index(np.eye(2))
  with pytest.raises(ValueError, match='threshold=-1.0'):
    rejection.guard(uniform, index, -1.0)
  with pytest.raises(ValueError, match='num_samples=0'):
    rejection.guard(uniform, index, 0.1)(jax.random.key(0), 0)
