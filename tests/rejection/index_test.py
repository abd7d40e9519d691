"""The search for the nearest training item."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import memjax
from memjax import rejection

METRICS = ('cosine', 'euclidean')


def slow_nearest(train, queries, metric):
  train, queries = (np.asarray(x, np.float64) for x in (train, queries))
  if metric == 'cosine':
    train, queries = (
      x / np.linalg.norm(x, axis=1, keepdims=True) for x in (train, queries)
    )
  squared = ((queries[:, None] - train[None]) ** 2).sum(axis=2)
  best = squared.argmin(axis=1)
  low = squared.min(axis=1)
  return (low / 2 if metric == 'cosine' else np.sqrt(low)), best


@pytest.mark.parametrize('metric', METRICS)
@pytest.mark.parametrize('wrap', [lambda f: f, jax.jit])
def test_nearest_equals_its_definition(metric, wrap):
  rng = np.random.default_rng(0)
  train, queries = rng.normal(size=(300, 7)), rng.normal(size=(40, 7))
  index = rejection.make_index(train, metric=metric)
  found = wrap(rejection.nearest)(index, jnp.asarray(queries, jnp.float32))
  distance, best = slow_nearest(train, queries, metric)
  np.testing.assert_allclose(found.distance, distance, rtol=1e-5)
  assert (found.index == best).all()
  twin = memjax.nearest_neighbors(queries, train, metric=metric)
  np.testing.assert_allclose(found.distance, twin.distance[:, 0], rtol=1e-5)


@pytest.mark.parametrize('metric', METRICS)
def test_near_copies_have_the_right_distance(metric):
  """Where 1 − x·y and |x|² + |y|² − 2x·y would be rounding noise."""
  rng = np.random.default_rng(1)
  train = rng.uniform(size=(200, 3072)).astype(np.float32)
  queries = train[:64] + (1e-5 * rng.normal(size=(64, 3072))).astype(np.float32)
  index = rejection.make_index(train, metric=metric)
  found = rejection.nearest(index, jnp.asarray(queries))
  # Against points rounded as the index's are: their rounding is not an error.
  points = np.asarray(index.points, np.float64) + np.asarray(index.centre)
  exact = slow_nearest(points, queries, metric)[0]
  np.testing.assert_allclose(found.distance, exact, rtol=2e-2)
  assert (found.index == np.arange(64)).all()
  copies = rejection.nearest(index, jnp.asarray(train[:64])).distance
  assert copies.max() < 1e-12
  assert not memjax.rejection_mask(copies, 1e-12).any()


@pytest.mark.parametrize('metric', METRICS)
def test_error_keeps_its_bound(metric):
  """Clusters much farther from the origin than they are wide."""
  rng = np.random.default_rng(2)
  train = 1 + 1e-3 * rng.normal(size=(500, 64))
  queries = 1 + 1e-3 * rng.normal(size=(100, 64))
  index = rejection.make_index(train, metric=metric)
  found = np.asarray(rejection.nearest(index, jnp.asarray(queries)).distance)
  points = np.asarray(index.points, np.float64) + np.asarray(index.centre)
  exact, _ = slow_nearest(points, np.float32(queries), metric)
  bound = (2 * 64 + 32) * 1.2e-7
  if metric == 'euclidean':
    found, exact = found**2, exact**2
    bound *= 2 * np.square(index.points).sum(axis=1).max()
  assert (found >= exact * (1 - 1e-4) - 1e-12).all()
  assert (found <= exact * (1 + 1e-4) + bound).all()


def test_far_from_the_origin_copies_are_found():
  """Where products of float32 cannot tell one item from the next."""
  train = np.linspace(1000, 1001, 101)[:, None] * np.ones(4)
  index = rejection.make_index(train, metric='euclidean')
  queries = jnp.asarray(train[::7], jnp.float32)
  found = rejection.nearest(index, queries)
  assert (found.index == np.arange(0, 101, 7)).all()
  assert found.distance.max() < 1e-3


def test_a_zero_query_is_far_from_everything():
  index = rejection.make_index(np.eye(3))
  assert rejection.nearest(index, jnp.zeros((1, 3))).distance.tolist() == [1.0]


@pytest.mark.parametrize('metric', METRICS)
def test_no_queries_and_vectors_of_any_length(metric):
  index = rejection.make_index(np.eye(3), metric=metric)
  assert rejection.nearest(index, jnp.zeros((0, 3))).distance.shape == (0,)
  found = rejection.nearest(index, jnp.array([[jnp.inf, 0, 0], [1.0, 0, 0]]))
  assert np.isnan(found.distance[0])
  assert found.distance[1] == 0
  if metric == 'cosine':
    long = rejection.make_index(np.array([[1e200, 0.0], [0.0, 1e-200]]))
    np.testing.assert_allclose(long.points, np.eye(2))


def test_index_is_an_argument_and_checks_its_features():
  index = rejection.make_index(np.eye(3), metric='euclidean')
  leaves = jax.tree.leaves(index)
  assert [leaf.shape for leaf in leaves] == [(3, 3), (3,), (3,)]
  with pytest.raises(ValueError, match='4 features and index 3'):
    rejection.nearest(index, jnp.ones((2, 4)))
  with pytest.raises(ValueError, match='zero vector'):
    rejection.make_index(np.zeros((2, 3)))


# A tiny GAN in two dimensions, with coupling between samples: its generator
# subtracts the batch's mean, as batch normalization does.


def test_importing_it_stays_light():
  code = (
    'import sys, memjax; memjax.rejection.guard; '
    'bad = {"flax", "orbax", "tensorflow_datasets", "faiss", "matplotlib"}; '
    'sys.exit(", ".join(bad & set(sys.modules)) or 0)'
  )
  done = subprocess.run(
    [sys.executable, '-c', code],
    env={**os.environ, 'JAX_PLATFORMS': 'cpu'},
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 0, done.stderr
