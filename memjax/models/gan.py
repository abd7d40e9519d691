"""Conditional SAGAN and BigGAN for small images, as in Bai et al. (2022).

Images are [b, h, h, c] in −1 … 1, h = 8, 16, 32 or 64. The variables of each
network hold 'params', 'spectral' (vectors of the power iterations), and the
generator's 'batch_stats'. All methods of `GAN` are pure.
"""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from memjax import validate
from memjax.models import layers
from memjax.models.gan_blocks import DownBlock, UpBlock
from memjax.models.gan_layers import (
  SelfAttention,
  SpectralConv,
  SpectralDense,
  SpectralEmbed,
  orthogonal,
)

__all__ = [
  'GAN',
  'Discriminator',
  'Generator',
  'biggan',
  'hinge_discriminator_loss',
  'hinge_generator_losses',
  'sagan',
]

Variables = dict[str, Any]
Images = Float[Array, 'b _ _ _']
Labels = Int[Array, ' b']
Scores = Float[Array, ' b']

_FIRST = 4  # rows and columns that the generator begins with


def hinge_discriminator_loss(real: Scores, fake: Scores) -> Float[Array, '']:
  """The discriminator's loss: mean max(0, 1 − D(x)) + mean max(0, 1 + D(G(z))).

  Example:
    >>> real, fake = jnp.array([0.5, 2, -1]), jnp.array([-0.5, -2, 1])
    >>> round(float(hinge_discriminator_loss(real, fake)), 4)
    1.6667

  Reference:
    Lim and Ye (2017), Geometric GAN.
  """
  return jax.nn.relu(1 - real).mean() + jax.nn.relu(1 + fake).mean()


def hinge_generator_losses(fake: Scores) -> Scores:
  """The generator's loss of each sample, −D(G(z)); their mean is the loss.

  Example:
    >>> hinge_generator_losses(jnp.array([-0.5, -2, 1])).mean().tolist()
    0.5
  """
  return -fake


class Generator(nn.Module):
  """From a latent and a class to an image.

  Attributes:
    image_shape: (h, h, c).
    num_classes: number of classes, 1 for none.
    latent_dim: of z; with `shared_dim` a multiple of the blocks plus one.
    width: channels are 4 × this throughout.
    shared_dim: 0: each norm has its own class embedding (SAGAN). Otherwise the
      size of one class embedding that all share, which is joined with a chunk
      of z for each block; the first chunk makes the first pixels (BigGAN).
    attention_size: rows of the image after whose block there is
      self-attention; 0: none.
  """

  image_shape: tuple[int, int, int]
  num_classes: int
  latent_dim: int
  width: int
  shared_dim: int
  attention_size: int

  @nn.compact
  def __call__(
    self, z: Float[Array, 'b latent'], label: Labels, train: bool
  ) -> Images:
    """Maps latents [b, latent_dim] and classes [b] to images in −1 … 1."""
    size, _, channels = self.image_shape
    features, blocks = 4 * self.width, _num_doublings(size)
    if self.shared_dim:
      first, *chunks = jnp.split(z, blocks + 1, axis=1)
      # The one weight of BigGAN without a spectral norm.
      table = self.param(
        'shared', orthogonal,
        (self.num_classes, self.shared_dim),
      )  # fmt: skip
      conditions = [jnp.concatenate([c, table[label]], axis=1) for c in chunks]
    else:
      first, conditions = z, [label] * blocks
    norm_classes = 0 if self.shared_dim else self.num_classes
    x = SpectralDense(_FIRST * _FIRST * features, name='linear')(first, train)
    x = x.reshape(-1, _FIRST, _FIRST, features)
    for index, condition in enumerate(conditions):
      block = UpBlock(features, norm_classes, name=f'block_{index}')
      x = block(x, condition, train)
      if x.shape[1] == self.attention_size:
        x = SelfAttention(name='attention')(x, train)
    mask = jnp.ones(len(x), bool) if train else None
    x = nn.relu(layers.BatchNorm(epsilon=1e-4, name='norm')(x, mask))
    return jnp.tanh(SpectralConv(channels, name='conv')(x, train))


class Discriminator(nn.Module):
  """From an image and a class to a score, high for real.

    D(x, y) = w·h(x) + b + e(y)·h(x)

  with h the sum over the last pixels, after blocks that halve the image down to
  8×8 (at least one of them) and two that do not.

  Attributes:
    num_classes: number of classes, 1 for none.
    width: channels are 2 × this throughout.
    attention_size: rows of the image after whose block there is
      self-attention; 0: none.

  Reference:
    Miyato and Koyama (2018), cGANs with projection discriminator.
  """

  num_classes: int
  width: int
  attention_size: int

  @nn.compact
  def __call__(self, x: Images, label: Labels, train: bool) -> Scores:
    """Maps images [b, h, h, c] and classes [b] to scores [b]."""
    features = 2 * self.width
    num_halvings = max(1, _num_doublings(x.shape[1]) - 1)
    for index in range(num_halvings + 2):
      block = DownBlock(
        features, index == 0, index < num_halvings, name=f'block_{index}'
      )
      x = block(x, train)
      is_halved = index < num_halvings
      if is_halved and x.shape[1] == self.attention_size:
        x = SelfAttention(name='attention')(x, train)
    h = nn.relu(x).sum(axis=(1, 2))
    embed = SpectralEmbed(self.num_classes, features, name='embed')
    score = SpectralDense(1, name='linear')(h, train)[:, 0]
    return score + (embed(label, train) * h).sum(axis=1)


@dataclasses.dataclass(frozen=True)
class GAN:
  """The two networks of a conditional GAN.

  Attributes:
    generator: z and class to image.
    discriminator: image and class to score.
    num_classes: of the classes 0 … num_classes − 1.
    is_convolutional: convolutions dominate: `lift` maps over such models on a
      CPU.
  """

  generator: Generator
  discriminator: Discriminator
  is_convolutional: bool = True

  @property
  def num_classes(self) -> int:
    """Classes that it generates."""
    return self.generator.num_classes

  @property
  def latent_dim(self) -> int:
    """Dimensions of z ~ N(0, I)."""
    return self.generator.latent_dim

  def init(self, key: jax.Array) -> tuple[Variables, Variables]:
    """Draws initial variables of generator and discriminator."""
    keys = jax.random.split(key)
    z, label = jnp.zeros((1, self.latent_dim)), jnp.zeros((1,), jnp.int32)
    image = jnp.zeros((1, *self.generator.image_shape))
    return (
      dict(self.generator.init(keys[0], z, label, False)),
      dict(self.discriminator.init(keys[1], image, label, False)),
    )

  def generate(
    self, variables: Variables, z: Float[Array, 'b latent'], label: Labels
  ) -> Images:
    """Images in −1 … 1 by running statistics: each for itself."""
    return self.generator.apply(variables, z, label, False)  # pyrefly: ignore

  def generate_train(
    self, variables: Variables, z: Float[Array, 'b latent'], label: Labels
  ) -> tuple[Images, Variables]:
    """Images by the batch's statistics, and the collections that moved."""
    collections = ['batch_stats', 'spectral']
    return self.generator.apply(variables, z, label, True, mutable=collections)  # pyrefly: ignore

  def discriminate_train(
    self, variables: Variables, x: Images, label: Labels
  ) -> tuple[Scores, Variables]:
    """Scores, and the collection that moved."""
    moved = ['spectral']
    return self.discriminator.apply(variables, x, label, True, mutable=moved)  # pyrefly: ignore


def sagan(
  image_shape: tuple[int, int, int],
  num_classes: int,
  *,
  latent_dim: int = 128,
  generator_width: int = 64,
  discriminator_width: int = 64,
  attention_size: int | None = None,
) -> GAN:
  """A conditional SAGAN with residual blocks.

  Args:
    image_shape: (h, h, c), h = 8, 16, 32 or 64.
    num_classes: number of classes, 1 for none.
    latent_dim: dimensions of z.
    generator_width: a quarter of the generator's channels.
    discriminator_width: half of the discriminator's channels.
    attention_size: rows of the image where there is self-attention; 0: none;
      None: 16, or half of the image's rows if that is less and at least 8.

  Raises:
    ValueError: a size that is not among the above.

  Example:
    >>> gan = sagan((32, 32, 3), 10)
    >>> shapes = jax.eval_shape(gan.init, jax.random.key(0))
    >>> [sum(a.size for a in jax.tree.leaves(v['params'])) for v in shapes]
    [4386308, 1075586]

  Reference:
    Zhang et al. (2019); sizes as in the public code of Bai et al. (2022).
  """
  return _gan(
    image_shape, num_classes, latent_dim, generator_width,
    discriminator_width, attention_size, 0,
  )  # fmt: skip


def biggan(
  image_shape: tuple[int, int, int],
  num_classes: int,
  *,
  latent_dim: int = 80,
  shared_dim: int = 128,
  generator_width: int = 96,
  discriminator_width: int = 96,
  attention_size: int | None = None,
) -> GAN:
  """A BigGAN: `sagan` with a hierarchical latent and one class embedding.

  Args:
    image_shape: (h, h, c), h = 8, 16, 32 or 64.
    num_classes: number of classes, 1 for none.
    latent_dim: dimensions of z, a multiple of log₂(h/4) + 1.
    shared_dim: of the class embedding.
    generator_width: a quarter of the generator's channels.
    discriminator_width: half of the discriminator's channels.
    attention_size: rows of the image where there is self-attention; 0: none;
      None: 16, or half of the image's rows if that is less and at least 8.

  Raises:
    ValueError: a size that is not among the above.

  Example:
    >>> gan = biggan((32, 32, 3), 10)
    >>> shapes = jax.eval_shape(gan.init, jax.random.key(0))
    >>> [sum(a.size for a in jax.tree.leaves(v['params'])) for v in shapes]
    [9416196, 2415170]

  Reference:
    Brock et al. (2019); sizes as in the public code of Bai et al. (2022).
  """
  validate.integer('shared_dim', shared_dim, 1)
  return _gan(
    image_shape, num_classes, latent_dim, generator_width,
    discriminator_width, attention_size, shared_dim,
  )  # fmt: skip


def _gan(
  image_shape, num_classes, latent_dim, generator_width, discriminator_width,
  attention_size, shared_dim,
) -> GAN:  # fmt: skip
  height, width, channels = image_shape
  if height != width:
    raise ValueError(f'image_shape={image_shape}: expected square images.')
  validate.one_of('image_shape[0]', height, (8, 16, 32, 64))
  validate.integer('num_classes', num_classes, 1)
  validate.integer('latent_dim', latent_dim, 1)
  validate.integer('generator_width', generator_width, 2)
  validate.integer('discriminator_width', discriminator_width, 4)
  if attention_size is None:
    attention_size = min(16, height // 2) if height > 8 else 0
  # Above half of the rows the discriminator would have none.
  allowed = [size for size in (0, 8, 16, 32) if size <= height // 2]
  validate.one_of('attention_size', attention_size, allowed)
  chunks = _num_doublings(height) + 1
  if shared_dim and latent_dim % chunks:
    raise ValueError(
      f'latent_dim={latent_dim}: expected a multiple of {chunks}, the parts '
      f'that a latent has for images of {height} rows.'
    )
  return GAN(
    Generator(
      (height, width, channels), num_classes, latent_dim, generator_width,
      shared_dim, attention_size,
    ),
    Discriminator(num_classes, discriminator_width, attention_size),
  )  # fmt: skip


def _num_doublings(size: int) -> int:
  """From 4 rows to `size`."""
  return (size // _FIRST).bit_length() - 1
