"""The mask's strictness and the threshold against a slow twin."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import memjax


@pytest.mark.parametrize('wrap', [lambda f: f, jax.jit])
def test_a_sample_at_the_threshold_is_rejected(wrap):
  mask = wrap(memjax.rejection_mask)
  below = np.nextafter(np.float32(0.13), np.float32(0))
  above = np.nextafter(np.float32(0.13), np.float32(1))
  distance = jnp.array([0.0, below, 0.13, above, 2.0, jnp.nan])
  expected = [False, False, False, True, True, False]
  assert mask(distance, jnp.float32(0.13)).tolist() == expected


def test_threshold_zero_refuses_exact_copies_alone():
  assert memjax.rejection_mask(jnp.array([0.0, 1e-30]), 0.0).tolist() == [
    False,
    True,
  ]


def test_no_gradient_passes_the_mask():
  kept = lambda d: (memjax.rejection_mask(d, 0.5) * jnp.array([2.0, 3.0])).sum()
  assert jax.grad(kept)(jnp.array([0.4, 0.6])).tolist() == [0.0, 0.0]


def slow_threshold(points, metric):
  if metric == 'cosine':
    points = points / np.linalg.norm(points, axis=1, keepdims=True)
  total = 0.0
  for i, x in enumerate(points):
    others = np.delete(points, i, axis=0)
    squared = ((others - x) ** 2).sum(axis=1).min()
    total += squared / 2 if metric == 'cosine' else np.sqrt(squared)
  return total / len(points)


@pytest.mark.parametrize('metric', ['cosine', 'euclidean'])
@pytest.mark.parametrize('shape', [(2, 3), (57, 5), (40, 2, 3, 1)])
def test_threshold_equals_its_definition(metric, shape):
  train = np.random.default_rng(0).normal(size=shape)
  found = memjax.rejection_threshold(train, metric=metric)
  expected = slow_threshold(train.reshape(len(train), -1), metric)
  np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_threshold_is_right_for_near_duplicates():
  rng = np.random.default_rng(1)
  base = rng.uniform(size=(30, 700))
  train = np.concatenate([base, base + 1e-6 * rng.normal(size=base.shape)])
  found = memjax.rejection_threshold(train)
  np.testing.assert_allclose(found, slow_threshold(train, 'cosine'), rtol=1e-6)


def test_cosine_threshold_looks_at_directions_alone():
  rng = np.random.default_rng(2)
  train = rng.normal(size=(20, 4))
  scaled = train * rng.uniform(0.1, 10, size=(20, 1))
  np.testing.assert_allclose(
    memjax.rejection_threshold(train),
    memjax.rejection_threshold(scaled),
    rtol=1e-9,
  )


def test_bad_input_is_named():
  with pytest.raises(ValueError, match=r'len\(train\)=1'):
    memjax.rejection_threshold(np.ones((1, 2)))
  with pytest.raises(ValueError, match=r'train\[1\] is a zero vector'):
    memjax.rejection_threshold(np.array([[1.0, 0.0], [0.0, 0.0]]))
  with pytest.raises(ValueError, match='metric'):
    memjax.rejection_threshold(np.ones((3, 2)), metric='manhattan')
  with pytest.raises(ValueError, match='traced'):
    jax.jit(memjax.rejection_threshold)(jnp.ones((3, 2)))
