"""The convolutional encoder and decoder of the Gaussian VAEs."""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from memjax.models import layers, likelihoods
from memjax.models.base import DiagonalGaussian

__all__ = ['ConvDecoder', 'ConvEncoder', 'Gaussian', 'GaussianImage']

# A mask means training, with a batch's own statistics; see layers.BatchNorm.
Mask = Bool[Array, ' b'] | None


class ConvEncoder(nn.Module):
  """Four convolutions halve the image; a linear head each for μ and log σ².

  All but the first are followed by batch normalization, which the paper's
  Table 1 shows and its text does not.

  Attributes:
    num_features: channels after the first layer; each layer doubles them.
    latent_dim: dimensions of z.
  """

  num_features: int
  latent_dim: int

  @nn.compact
  def __call__(
    self, x: Float[Array, 'b h w c'], mask: Mask = None
  ) -> DiagonalGaussian:
    """Maps images [b, h, w, c]; h and w are multiples of 16."""
    for index in range(4):
      x = layers.Conv(self.num_features << index, name=f'conv_{index}')(x)
      if index > 0:
        x = layers.BatchNorm(name=f'norm_{index}')(x, mask)
      x = nn.leaky_relu(x, 0.2)
    # Channel-major, so that PyTorch's weights of the heads fit.
    x = x.transpose(0, 3, 1, 2).reshape(x.shape[0], -1)
    return DiagonalGaussian(
      layers.Dense(self.latent_dim, name='mean')(x),
      layers.Dense(self.latent_dim, name='logvar')(x),
    )


class GaussianImage(NamedTuple):
  """What a decoder says about a batch of images, or about one of them.

  Attributes:
    mean: μ.
    logvar: log-variance, one a pixel or one for all.
  """

  mean: Float[Array, '*batch h w c']
  logvar: Float[Array, '*batch h w c'] | Float[Array, '*batch']


class ConvDecoder(nn.Module):
  """Five transposed convolutions, from a single pixel to the image.

  All but the last are followed by batch normalization and ReLU.

  Attributes:
    num_features: channels before the last layer; 8 times as many at first.
    image_shape: (h, w, c); h and w are multiples of 16.
    is_constant: one log-variance `loggamma`, a parameter, for all pixels;
      otherwise the decoder says one for each, in channels c … 2c − 1.
  """

  num_features: int
  image_shape: tuple[int, int, int]
  is_constant: bool

  @nn.compact
  def __call__(
    self, z: Float[Array, 'b latent'], mask: Mask = None
  ) -> GaussianImage:
    """Maps latents [b, latent]."""
    height, width, channels = self.image_shape
    first = (height // 16, width // 16, 8 * self.num_features)
    x = layers.PixelConvTranspose(first, name='conv_0')(z)
    x = nn.relu(layers.BatchNorm(name='norm_0')(x, mask))
    for index in range(1, 4):
      features = 8 * self.num_features >> index
      x = layers.ConvTranspose(features, name=f'conv_{index}')(x)
      x = nn.relu(layers.BatchNorm(name=f'norm_{index}')(x, mask))
    if self.is_constant:
      mean = layers.ConvTranspose(channels, name='conv_4')(x)
      logvar = self.param('loggamma', nn.initializers.constant(-2.0), ())
      return GaussianImage(mean, jnp.broadcast_to(logvar, mean.shape[:1]))
    x = layers.ConvTranspose(2 * channels, name='conv_4')(x)
    return GaussianImage(*jnp.split(x, 2, axis=-1))


class Gaussian(NamedTuple):
  """Pixels independent and Gaussian, given what the decoder says.

  Attributes:
    min_logvar: the log-variance is at least this, in the likelihood and in
      samples; without the bound a pixel that is the same in all images makes
      the likelihood diverge. Below it the log-variance has no gradient.
  """

  min_logvar: float = float('-inf')

  def log_prob(
    self, output: GaussianImage, x: Float[Array, 'h w c']
  ) -> Float[Array, '']:
    """Log-density in nats, in the space in which x is given."""
    logvar = jnp.maximum(output.logvar, self.min_logvar)
    return likelihoods.gaussian_log_prob(output.mean, logvar, x)

  def fisher(self, output: GaussianImage) -> GaussianImage:
    """Information e^−v in the mean and ½ in the log-variance v of each pixel.

    0 in a log-variance below its bound, which says nothing there; one that all
    pixels share has the sum of their information.
    """
    logvar = jnp.maximum(output.logvar, self.min_logvar)
    pixels = output.mean.size / output.logvar.size
    is_free = output.logvar > self.min_logvar
    return GaussianImage(
      jnp.broadcast_to(jnp.exp(-logvar), output.mean.shape),
      jnp.where(is_free, 0.5 * pixels, 0.0),
    )

  def mean(self, output: GaussianImage) -> Float[Array, 'h w c']:
    """The mean image."""
    return output.mean

  def sample(
    self, output: GaussianImage, key: jax.Array
  ) -> Float[Array, 'h w c']:
    """Draws an image."""
    logvar = jnp.maximum(output.logvar, self.min_logvar)
    noise = jax.random.normal(key, output.mean.shape)
    std = jnp.broadcast_to(jnp.exp(0.5 * logvar), noise.shape)
    return output.mean + std * noise
