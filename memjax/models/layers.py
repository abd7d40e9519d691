"""Layers with PyTorch's initialization, which the papers' models rely on."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

__all__ = ['Dense']


def uniform_fan_in(fan_in: int):
  """PyTorch's default for weights and biases: U(−b, b) with b = 1/√fan_in."""
  bound = 1.0 / math.sqrt(fan_in)

  def initializer(key, shape, dtype=jnp.float32):
    return jax.random.uniform(key, shape, dtype, -bound, bound)

  return initializer


class Dense(nn.Module):
  """A linear layer whose weights and biases start as PyTorch's do."""

  features: int

  @nn.compact
  def __call__(self, x: Float[Array, 'b _']) -> Float[Array, 'b _']:
    """Maps [b, in] to [b, features]."""
    initializer = uniform_fan_in(x.shape[-1])
    kernel = self.param('kernel', initializer, (x.shape[-1], self.features))
    bias = self.param('bias', initializer, (self.features,))
    return x @ kernel + jnp.broadcast_to(bias, (*x.shape[:-1], self.features))
