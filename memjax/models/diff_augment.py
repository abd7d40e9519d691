"""Differentiable augmentation: what the discriminator sees of every image.

Real and generated images alike pass through it, so that the discriminator
cannot learn the training images by heart; the generator's gradient passes
through it too. For one image; vmap it.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from memjax import validate

__all__ = ['POLICIES', 'augment', 'color', 'cutout', 'translation']

Image = Float[Array, 'h w c']


def augment(
  images: Float[Array, 'b h w c'], key: jax.Array, policies: tuple[str, ...]
) -> Float[Array, 'b h w c']:
  """Augments each image of a batch by draws of its own.

  Args:
    images: in −1 … 1.
    key: of this batch.
    policies: names of POLICIES, applied in this order; () changes nothing.

  Raises:
    ValueError: an unknown name.

  Reference:
    Zhao et al. (2020), Differentiable augmentation for data-efficient GAN
    training.
  """
  for position, name in enumerate(policies):
    validate.one_of('policies', name, POLICIES)
    keys = jax.random.split(jax.random.fold_in(key, position), len(images))
    images = jax.vmap(POLICIES[name])(images, keys)
  return images


def color(image: Image, key: jax.Array) -> Image:
  """Moves brightness by up to ½, saturation by 0 … 2, contrast by ½ … 3/2.

    x + (u₁ − ½);  m_c + 2u₂ (x − m_c);  m + (u₃ + ½)(x − m)

  in this order, with u uniform on [0, 1), m_c the mean over a pixel's channels
  and m over the image. A grey image has no saturation.
  """
  u = jax.random.uniform(key, (3,))
  image = image + (u[0] - 0.5)
  grey = image.mean(axis=2, keepdims=True)
  image = grey + 2 * u[1] * (image - grey)
  mean = image.mean(keepdims=True)
  return mean + (u[2] + 0.5) * (image - mean)


def translation(image: Image, key: jax.Array, ratio: float = 0.125) -> Image:
  """Shifts by up to ⌊ratio · size + ½⌋ pixels each way; 0 comes in."""
  reach = [int(size * ratio + 0.5) for size in image.shape[:2]]
  padding = [(r, r) for r in reach]
  padded = jnp.pad(image, (*padding, (0, 0)))
  keys = jax.random.split(key)
  start = [
    jax.random.randint(k, (), 0, 2 * r + 1)
    for k, r in zip(keys, reach, strict=True)
  ]
  return jax.lax.dynamic_slice(padded, (*start, 0), image.shape)


def cutout(image: Image, key: jax.Array, ratio: float = 0.5) -> Image:
  """Sets a square of ratio × the image to 0, its centre anywhere inside."""
  inside = []
  for k, size in zip(jax.random.split(key), image.shape[:2], strict=True):
    length = int(size * ratio + 0.5)
    # An even length has no middle pixel: its centre is one of size + 1 edges.
    centre = jax.random.randint(k, (), 0, size + (1 - length % 2))
    place = jnp.arange(size) - (centre - length // 2)
    inside.append((place >= 0) & (place < length))
  hole = inside[0][:, None] & inside[1][None]
  return jnp.where(hole[..., None], 0.0, image)


POLICIES = {'color': color, 'translation': translation, 'cutout': cutout}
