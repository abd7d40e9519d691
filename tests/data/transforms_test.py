import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from memjax.data.transforms import (
  LOGIT_LAMBDA,
  binarize,
  dequantize_logit,
  flip_batch,
  flip_images,
)


def draws(transform, image, num_draws, seed=0):
  keys = jax.random.split(jax.random.key(seed), num_draws)
  return np.asarray(jax.jit(jax.vmap(transform.apply, (None, 0)))(image, keys))


def ramp(channels=3):
  """An image with every pixel value."""
  values = jnp.tile(jnp.arange(256, dtype=jnp.uint8), channels)
  return values.reshape(16, 16, channels)


def test_a_pixel_is_the_probability_of_one():
  transform = binarize()
  x = draws(transform, ramp(1), 4000)
  assert set(np.unique(x)) == {0.0, 1.0}
  p = np.arange(256) / 255
  error = x.mean(axis=0).ravel() - p
  assert (np.abs(error) <= 5 * np.sqrt(p * (1 - p) / 4000)).all()
  assert transform.log_det(jnp.asarray(x[0])) == 0


def test_every_draw_is_new_and_a_key_decides_it():
  for transform in (binarize(), dequantize_logit()):
    x = draws(transform, ramp(), 2)
    assert (x[0] != x[1]).any()
    np.testing.assert_array_equal(x, draws(transform, ramp(), 2))


@pytest.mark.parametrize('logit_lambda', [0.0, LOGIT_LAMBDA, 0.2])
def test_dequantization_is_uniform_within_a_pixel(logit_lambda):
  y = draws(dequantize_logit(logit_lambda), ramp(), 500).astype(np.float64)
  unit = (scipy.special.expit(y) - logit_lambda) / (1 - 2 * logit_lambda)
  noise = 256 * unit - np.asarray(ramp(), np.float64)[None]
  # The logit squeezes; float32 returns with an error of this order.
  assert -1e-3 < noise.min() < 0.01
  assert 0.99 < noise.max() < 1 + 1e-3
  np.testing.assert_allclose(noise.mean(), 0.5, atol=0.005)
  np.testing.assert_allclose(noise.var(), 1 / 12, atol=0.002)


def test_logits_stay_within_the_published_range():
  image = jnp.zeros((64, 64, 3), jnp.uint8).at[32:].set(255)
  y = draws(dequantize_logit(), image, 40)
  np.testing.assert_allclose([y.min(), y.max()], [-2.944439, 2.944439], 1e-5)
  assert np.abs(y).max() <= 2.9444395


def test_without_a_margin_the_logits_are_finite_still():
  # 255 + u rounds to 256 in one draw of 2^17, and u is 0 in one of 2^23.
  image = jnp.zeros((256, 256, 3), jnp.uint8).at[128:].set(255)
  y = draws(dequantize_logit(0.0), image, 32)
  assert np.isfinite(y).all()


def test_log_determinant_goldens():
  # reference/papers-and-their-code.md, A4 and A10: D = 3072.
  log_det = dequantize_logit().log_det(jnp.full((32, 32, 3), 0.3))
  np.testing.assert_allclose(log_det, -15187.170 + 2156.2766, rtol=1e-6)
  zero = dequantize_logit().log_det(jnp.zeros((32, 32, 3)))
  expected = -323.6675 - 17034.7851 + 3072 * 2 * np.log(2)
  np.testing.assert_allclose(zero, expected, rtol=1e-6)


@pytest.mark.parametrize('logit_lambda', [LOGIT_LAMBDA, 0.2])
def test_log_determinant_is_that_of_the_map(logit_lambda):
  transform = dequantize_logit(logit_lambda)
  pixels = np.linspace(0.5, 255.5, 48).reshape(4, 4, 3)

  def to_logit(pixel):
    unit = logit_lambda + (1 - 2 * logit_lambda) * pixel / 256
    return jax.scipy.special.logit(unit)

  slopes = jax.vmap(jax.grad(to_logit))(jnp.asarray(pixels.ravel()))
  actual = transform.log_det(to_logit(jnp.asarray(pixels, jnp.float32)))
  np.testing.assert_allclose(actual, np.log(slopes).sum(), rtol=1e-5)
  # No overflow, whatever a model's sample is.
  assert np.isfinite(transform.log_det(jnp.full((2, 2, 1), 1e4)))


@pytest.mark.parametrize('logit_lambda', [-0.01, 0.5, 1.0, float('nan')])
def test_a_margin_outside_its_range_is_refused(logit_lambda):
  with pytest.raises(ValueError, match=r'logit_lambda=.*: .* in \[0, 0\.5\)'):
    dequantize_logit(logit_lambda)


def batch():
  return jnp.arange(5 * 2 * 4 * 3, dtype=jnp.float32).reshape(5, 2, 4, 3)


def is_mirrored(flipped):
  """Whether each image was, after a check that nothing else happened."""
  x = np.asarray(batch())
  same = (flipped == x[None]).all(axis=(2, 3, 4))
  mirrored = (flipped == x[None, :, :, ::-1]).all(axis=(2, 3, 4))
  assert (same ^ mirrored).all()
  return mirrored


def test_one_coin_flips_a_batch():
  keys = jax.random.split(jax.random.key(0), 2000)
  mirrored = is_mirrored(
    np.asarray(jax.vmap(flip_batch, (None, 0))(batch(), keys))
  )
  assert (mirrored == mirrored[:, :1]).all()
  np.testing.assert_allclose(mirrored[:, 0].mean(), 0.5, atol=0.05)


def test_each_image_has_its_own_coin():
  keys = jax.random.split(jax.random.key(0), 2000)
  flipped = jax.jit(jax.vmap(flip_images, (None, 0)))(batch(), keys)
  mirrored = is_mirrored(np.asarray(flipped))
  np.testing.assert_allclose(mirrored.mean(axis=0), 0.5, atol=0.05)
  correlation = np.corrcoef(mirrored.T)
  np.testing.assert_allclose(correlation, np.eye(5), atol=0.1)
