import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from memjax.embeddings.resize import (
  RESIZES,
  SCALINGS,
  resize,
  resize_matrix,
  scale,
)

SIZES = [((8, 8), 19), ((5, 12), 7), ((32, 20), 9), ((6, 6), 6), ((1, 3), 4)]


def draw(shape):
  return (
    np.random.default_rng(0).uniform(0, 255, (2, *shape, 3)).astype(np.float32)
  )


def slow_bilinear(x, size, half):
  """Pixel by pixel, from four neighbours."""
  height, width = x.shape[1:3]
  y = np.empty((len(x), size, size, 3))
  for i in range(size):
    for j in range(size):
      row = max((i + half) * height / size - half, 0)
      column = max((j + half) * width / size - half, 0)
      top, left = int(row), int(column)
      down, right = min(top + 1, height - 1), min(left + 1, width - 1)
      a, b = row - top, column - left
      upper = (1 - b) * x[:, top, left] + b * x[:, top, right]
      lower = (1 - b) * x[:, down, left] + b * x[:, down, right]
      y[:, i, j] = (1 - a) * upper + a * lower
  return y


def slow_clean(x, size):
  """Pillow's bicubic, channel by channel, in floats."""
  y = np.empty((len(x), size, size, 3))
  for image in range(len(x)):
    for channel in range(3):
      picture = Image.fromarray(np.ascontiguousarray(x[image, ..., channel]))
      assert picture.mode == 'F'
      picture = picture.resize((size, size), Image.Resampling.BICUBIC)
      y[image, ..., channel] = np.asarray(picture)
  return y


@pytest.mark.parametrize(('shape', 'size'), SIZES)
def test_resize_is_the_slow_one(shape, size):
  x = draw(shape)
  slow = {
    'tf1': slow_bilinear(x, size, 0.0),
    'bilinear': slow_bilinear(x, size, 0.5),
    'clean': np.clip(slow_clean(x, size), 0, 255),
  }
  assert slow.keys() == set(RESIZES)
  for method, expected in slow.items():
    y = resize(jnp.asarray(x), size, method)
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-3)


def test_bilinear_is_that_of_jax():
  x = draw((11, 6))
  expected = jax.image.resize(x, (2, 17, 17, 3), 'bilinear', antialias=False)
  np.testing.assert_allclose(
    resize(jnp.asarray(x), 17, 'bilinear'), expected, rtol=1e-5, atol=1e-3
  )


@pytest.mark.parametrize('method', RESIZES)
def test_weights_sum_to_1_and_the_methods_differ(method):
  matrix = resize_matrix(32, 299, method)
  np.testing.assert_allclose(matrix.sum(axis=1), 1, atol=1e-12)
  np.testing.assert_array_equal(resize_matrix(9, 9, method), np.eye(9))
  for other in set(RESIZES) - {method}:
    assert np.abs(matrix - resize_matrix(32, 299, other)).max() > 0.1


def test_scalings_do_what_their_names_say():
  x = np.array([0.0, 100.0, 255.0], np.float32).reshape(1, 1, 3, 1)
  for formula in SCALINGS:
    expected = eval(formula, {'x': x})
    np.testing.assert_allclose(
      scale(jnp.asarray(x), formula), expected, rtol=1e-6
    )


def test_unknown_names():
  with pytest.raises(ValueError, match=r"method='bicubic'.*'clean'"):
    resize_matrix(4, 4, 'bicubic')
  with pytest.raises(ValueError, match='scaling='):
    scale(jnp.asarray(draw((2, 2))), '2x-1')
