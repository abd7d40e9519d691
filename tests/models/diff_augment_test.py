"""Differentiable augmentation: what it changes, what it leaves."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memjax.models import diff_augment


def keys(count):
  return jax.random.split(jax.random.key(0), count)


def test_no_policy_changes_nothing(getkey):
  images = jax.random.normal(getkey(), (4, 8, 8, 3))
  assert diff_augment.augment(images, getkey(), ()) is images


def test_color_is_affine_in_each_pixel(getkey):
  image = jax.random.uniform(getkey(), (6, 6, 3), minval=-1)
  many = jax.vmap(diff_augment.color, (None, 0))(image, keys(500))
  key = keys(1)[0]
  u = np.asarray(jax.random.uniform(key, (3,)))
  x = np.asarray(image) + u[0] - 0.5
  grey = x.mean(axis=2, keepdims=True)
  x = grey + 2 * u[1] * (x - grey)
  x = x.mean() + (u[2] + 0.5) * (x - x.mean())
  np.testing.assert_allclose(diff_augment.color(image, key), x, atol=1e-5)
  # On average the image is left as it is.
  np.testing.assert_allclose(many.mean(axis=0), image, atol=0.1)
  # Brightness moves the mean by at most ½.
  shift = many.mean(axis=(1, 2, 3)) - image.mean()
  assert 0.4 < np.abs(shift).max() <= 0.5


def test_color_of_a_constant_grey_image_is_constant():
  out = diff_augment.color(jnp.full((4, 4, 1), 0.3), keys(1)[0])
  assert np.ptp(out) < 1e-6


def test_translation_shifts_whole_pixels_every_way(getkey):
  image = jax.random.uniform(getkey(), (16, 16, 1), minval=0.1)
  padded = np.pad(np.asarray(image), ((2, 2), (2, 2), (0, 0)))
  shifts = {
    padded[i : i + 16, j : j + 16].tobytes(): (i, j)
    for i in range(5)
    for j in range(5)
  }
  many = jax.vmap(diff_augment.translation, (None, 0))(image, keys(400))
  found = {shifts[np.asarray(x).tobytes()] for x in many}
  assert len(found) == 25


def test_cutout_is_a_square_that_may_reach_over_the_edge(getkey):
  image = jnp.ones((8, 8, 2))
  many = jax.vmap(diff_augment.cutout, (None, 0))(image, keys(400))
  many = np.asarray(many)
  assert set(np.unique(many)) == {0.0, 1.0}
  holes = (many[..., 0] == 0).sum(axis=(1, 2))
  assert holes.max() == 16
  assert holes.min() == 4  # the centre in a corner
  rows = (many[..., 0] == 0).any(axis=2).sum(axis=1)
  assert set(rows) == {2, 3, 4}


@pytest.mark.parametrize('name', diff_augment.POLICIES)
def test_each_image_has_its_own_draw_and_a_gradient(name, getkey):
  images = jnp.broadcast_to(
    jax.random.normal(getkey(), (1, 16, 16, 3)), (8, 16, 16, 3)
  )
  augment = lambda x: diff_augment.augment(x, jax.random.key(3), (name,))
  out = np.asarray(augment(images))
  assert len(np.unique(out.round(5), axis=0)) > 1
  np.testing.assert_array_equal(out, augment(images))
  slope = jax.grad(lambda x: (augment(x) * images).sum())(images)
  assert np.abs(slope).sum() > 0


def test_an_unknown_policy_is_named(getkey):
  with pytest.raises(ValueError, match="'colour'.*Did you mean 'color'"):
    diff_augment.augment(jnp.ones((1, 8, 8, 1)), getkey(), ('colour',))
