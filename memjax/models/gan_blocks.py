"""The residual blocks of SAGAN and BigGAN, up and down."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from memjax.models.gan_layers import (
  ConditionalBatchNorm,
  SpectralConv,
  SpectralDense,
)

__all__ = ['DownBlock', 'UpBlock']

Images = Float[Array, 'b _ _ _']


class UpBlock(nn.Module):
  """Doubles an image: norm, ReLU, up, conv, norm, ReLU, conv, and a shortcut.

  The shortcut's 1×1 convolution comes before the upsampling: the same image, at
  a quarter of the cost.
  """

  features: int
  num_classes: int  # as ConditionalBatchNorm has it

  @nn.compact
  def __call__(self, x: Images, condition: jax.Array, train: bool) -> Images:
    """Maps [b, h, w, c] to [b, 2h, 2w, features], given a condition."""
    norm = lambda name: ConditionalBatchNorm(self.num_classes, name=name)
    shortcut = SpectralDense(self.features, name='shortcut')(x, train)
    x = nn.relu(norm('norm_1')(x, condition, train))
    x = SpectralConv(self.features, is_doubling=True, name='conv_1')(x, train)
    x = nn.relu(norm('norm_2')(x, condition, train))
    x = SpectralConv(self.features, name='conv_2')(x, train)
    return x + _upsample(shortcut)


class DownBlock(nn.Module):
  """ReLU, conv, ReLU, conv, perhaps averages of 2×2, and a shortcut.

    y = conv₂ relu(conv₁ r) + shortcut(r),  r = relu(x)

  The shortcut too begins at r, where He et al. (2016) have x: the ReLU of Bai
  et al.'s public code is done in place, and its SAGAN and its BigGAN with
  DiffAugment were trained so. (Their BigGAN without it is of other code,
  BigGAN-PyTorch, whose shortcut begins at x.) No parameter depends on it. In
  the first block r = x, the image itself, of which no part may be lost.

  Pooling comes before the shortcut's 1×1 convolution: the same, and cheaper.
  """

  features: int
  is_first: bool
  is_halved: bool

  @nn.compact
  def __call__(self, x: Images, train: bool) -> Images:
    """Maps [b, h, w, c] to [b, h, w, features], or h/2 and w/2."""
    conv = lambda name: SpectralConv(self.features, name=name)
    x = x if self.is_first else nn.relu(x)
    shortcut = _halve(x) if self.is_halved else x
    if self.is_halved or x.shape[-1] != self.features:
      shortcut = SpectralDense(self.features, name='shortcut')(shortcut, train)
    x = nn.relu(conv('conv_1')(x, train))
    x = conv('conv_2')(x, train)
    return (_halve(x) if self.is_halved else x) + shortcut


def _upsample(x: Images) -> Images:
  """Each pixel becomes 2×2."""
  batch, height, width, channels = x.shape
  x = jnp.broadcast_to(
    x[:, :, None, :, None], (batch, height, 2, width, 2, channels)
  )
  return x.reshape(batch, 2 * height, 2 * width, channels)


def _halve(x: Images) -> Images:
  """Means of 2×2 pixels."""
  batch, height, width, channels = x.shape
  blocks = x.reshape(batch, height // 2, 2, width // 2, 2, channels)
  return blocks.mean(axis=(2, 4))
