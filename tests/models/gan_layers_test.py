"""Layers of the GANs against slow twins and singular values."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from jax import lax

from memjax.models import gan_layers


def lax_conv(x, kernel):
  return lax.conv_general_dilated(
    x, kernel, (1, 1), 'SAME', dimension_numbers=('NHWC', 'HWIO', 'NHWC')
  )


@pytest.mark.parametrize('shape', [(2, 5, 7, 3), (3, 4, 4, 8), (1, 1, 1, 2)])
def test_conv_equals_lax(shape, getkey):
  x = jax.random.normal(getkey(), shape)
  kernel = jax.random.normal(getkey(), (3, 3, shape[3], 4)) / 5
  target = jax.random.normal(getkey(), (*shape[:3], 4))
  of = lambda conv: jax.value_and_grad(
    lambda x, k: (jnp.tanh(conv(x, k)) * target).sum(), (0, 1)
  )(x, kernel)
  ours, theirs = of(gan_layers.conv_3x3), of(lax_conv)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5),
    ours,
    theirs,
  )


def test_upsampling_conv_equals_its_two_steps(getkey):
  x = jax.random.normal(getkey(), (2, 3, 5, 4))
  kernel = jax.random.normal(getkey(), (3, 3, 4, 2)) / 5
  two_steps = lambda x, k: lax_conv(x.repeat(2, axis=1).repeat(2, axis=2), k)
  of = lambda conv: jax.value_and_grad(
    lambda x, k: jnp.tanh(conv(x, k)).sum(), (0, 1)
  )(x, kernel)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5),
    of(gan_layers.upsample_conv_3x3),
    of(two_steps),
  )
  np.testing.assert_allclose(
    gan_layers.upsample_conv_3x3(x, kernel), two_steps(x, kernel), atol=1e-5
  )


def test_conv_under_vmap_is_no_grouped_convolution(getkey):
  x = jax.random.normal(getkey(), (3, 2, 4, 4, 2))
  kernel = jax.random.normal(getkey(), (3, 3, 3, 2, 5))
  conv = jax.jit(jax.vmap(gan_layers.conv_3x3))
  assert 'convolution' not in conv.lower(x, kernel).as_text()
  expected = jnp.stack(
    [lax_conv(*pair) for pair in zip(x, kernel, strict=True)]
  )
  np.testing.assert_allclose(conv(x, kernel), expected, rtol=1e-5, atol=1e-5)


def test_power_iteration_finds_the_first_singular_value():
  matrix = jax.random.normal(jax.random.key(0), (9, 6))
  u = jnp.ones(6) / np.sqrt(6)
  for _ in range(100):
    u, v = gan_layers.power_iteration(matrix, u)
  left, value, right = np.linalg.svd(matrix)
  np.testing.assert_allclose(v @ matrix @ u, value[0], rtol=1e-5)
  np.testing.assert_allclose(np.abs(u), np.abs(right[0]), atol=1e-3)
  np.testing.assert_allclose(np.abs(v), np.abs(left[:, 0]), atol=1e-3)


def spectral_dense(getkey, train):
  layer = gan_layers.SpectralDense(6)
  x = jax.random.normal(getkey(), (4, 9))
  variables = layer.init(getkey(), x, train)
  kernel = jax.random.normal(getkey(), (9, 6))
  variables['params']['weight']['kernel'] = kernel
  return layer, variables, x, kernel


def test_the_weight_has_norm_one_once_iterated(getkey):
  layer, variables, x, kernel = spectral_dense(getkey, True)
  for _ in range(100):
    y, moved = layer.apply(variables, x, True, mutable=['spectral'])
    variables = {**variables, **moved}
  sigma = np.linalg.svd(kernel, compute_uv=False)[0]
  np.testing.assert_allclose(y, x @ kernel / sigma, rtol=1e-4, atol=1e-5)
  # When not training, the vectors stay where they are.
  again = layer.apply(variables, x, False)
  np.testing.assert_allclose(again, y, rtol=1e-4, atol=1e-5)


def test_the_norm_has_a_gradient_but_not_its_vectors(getkey):
  """d(W/σ)/dW with σ = vᵀWu and u, v fixed, as PyTorch's."""
  layer, variables, x, kernel = spectral_dense(getkey, True)
  moved = layer.apply(variables, x, True, mutable=['spectral'])[1]
  u, v = (moved['spectral']['weight'][name] for name in 'uv')

  def ours(kernel):
    params = {**variables['params'], 'weight': {'kernel': kernel}}
    y = layer.apply(
      {**variables, 'params': params}, x, True, mutable=['spectral']
    )[0]
    return jnp.sin(y).sum()

  expected = jax.grad(lambda k: jnp.sin(x @ k / (v @ k @ u)).sum())(kernel)
  np.testing.assert_allclose(
    jax.grad(ours)(kernel), expected, rtol=1e-4, atol=1e-5
  )


@pytest.mark.parametrize('num_classes', [0, 3])
def test_conditional_batch_norm(num_classes, getkey):
  layer = gan_layers.ConditionalBatchNorm(num_classes)
  x = 3 + 2 * jax.random.normal(getkey(), (8, 4, 4, 5))
  label = jnp.arange(8) % 3
  condition = label if num_classes else jax.random.normal(getkey(), (8, 6))
  variables = layer.init(getkey(), x, condition, False)
  y, moved = layer.apply(
    variables, x, condition, True, mutable=['batch_stats', 'spectral']
  )
  rows = np.asarray(x, np.float64).reshape(-1, 5)
  mean, var = rows.mean(axis=0), rows.var(axis=0)
  standard = (np.asarray(x) - mean) / np.sqrt(var + 1e-4)

  def affine(name):
    kernel = np.asarray(variables['params'][name]['weight']['kernel'])
    vectors = moved['spectral'][name]['weight']
    kernel = kernel / (vectors['v'] @ kernel @ vectors['u'])
    made = kernel[np.asarray(label)] if num_classes else condition @ kernel
    return np.asarray(made)[:, None, None]

  expected = standard * (1 + affine('gain')) + affine('bias')
  np.testing.assert_allclose(y, expected, rtol=1e-3, atol=1e-3)
  running = moved['batch_stats']
  np.testing.assert_allclose(running['mean'], 0.1 * mean, rtol=1e-4)
  unbiased = rows.var(axis=0, ddof=1)
  np.testing.assert_allclose(running['var'], 0.9 + 0.1 * unbiased, rtol=1e-4)


def test_attention_equals_loops_over_pixels(getkey):
  layer = gan_layers.SelfAttention()
  x = jax.random.normal(getkey(), (2, 4, 4, 8))
  variables = layer.init(getkey(), x, False)
  np.testing.assert_array_equal(layer.apply(variables, x, False), x)
  variables['params']['scale'] = jnp.array(0.7)
  weights = {}
  for name in ('query', 'key', 'value', 'out'):
    kernel = np.asarray(variables['params'][name]['weight']['kernel'])
    vectors = variables['spectral'][name]['weight']
    weights[name] = kernel / (vectors['v'] @ kernel @ vectors['u'])
  for image, found in zip(
    np.asarray(x), layer.apply(variables, x, False), strict=True
  ):
    pooled = {}
    for name in ('key', 'value'):
      blocks = (image @ weights[name]).reshape(2, 2, 2, 2, -1)
      pooled[name] = blocks.max(axis=(1, 3)).reshape(4, -1)
    for i in range(4):
      for j in range(4):
        score = pooled['key'] @ (image[i, j] @ weights['query'])
        share = scipy.special.softmax(score)
        add = share @ pooled['value'] @ weights['out']
        np.testing.assert_allclose(
          found[i, j], image[i, j] + 0.7 * add, rtol=1e-3, atol=1e-4
        )
