"""The contract between a model and the rest of memjax.

A model is an immutable, hashable description; its numbers live in `variables`,
a dict of pytrees: 'params' are trained, anything else (running statistics) is
carried along. Only `memjax.models` imports flax. Every method is pure, and
describes one model; `memjax.training.lift` runs many at once.
"""

from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
from jaxtyping import Array, Bool, Float

__all__ = [
  'DecoderModel',
  'DensityModel',
  'DiagonalGaussian',
  'LatentVariableModel',
  'Likelihood',
]

Variables = dict[str, Any]


class DiagonalGaussian(NamedTuple):
  """A Gaussian with diagonal covariance exp(`logvar`)."""

  mean: Float[Array, '*batch latent']
  logvar: Float[Array, '*batch latent']


@runtime_checkable
class DensityModel(Protocol):
  """What training needs."""

  @property
  def is_convolutional(self) -> bool:
    """Whether convolutions dominate: `lift` chooses vmap or map by it."""
    ...

  def init(self, key: jax.Array) -> Variables:
    """Draws initial variables."""
    ...

  def loss(
    self,
    variables: Variables,
    x: Float[Array, 'b h w c'],
    mask: Bool[Array, ' b'],
    key: jax.Array,
  ) -> tuple[Float[Array, ''], Variables]:
    """Summed loss of a batch's real items (mask True), and the new state.

    The sum is over items, not a mean, in nats. The second value holds the
    collections besides 'params', for instance updated batch statistics.
    """
    ...


@runtime_checkable
class LatentVariableModel(DensityModel, Protocol):
  """What importance-sampled log p(x) needs, each for ONE item in eval mode."""

  @property
  def latent_dim(self) -> int:
    """Dimensions of z."""
    ...

  def encode(
    self, variables: Variables, x: Float[Array, 'h w c']
  ) -> DiagonalGaussian:
    """The amortized posterior q(z | x)."""
    ...

  def log_likelihood(
    self,
    variables: Variables,
    x: Float[Array, 'h w c'],
    z: Float[Array, ' latent'],
  ) -> Float[Array, '']:
    """Returns log p(x | z) in nats, in the space in which x is given."""
    ...

  def decode(
    self, variables: Variables, z: Float[Array, ' latent']
  ) -> Float[Array, 'h w c']:
    """The mean of p(x | z)."""
    ...


@runtime_checkable
class Likelihood(Protocol):
  """p(x | z) of one item, given the output of the decoder."""

  def log_prob(self, output: Any, x: Float[Array, 'h w c']) -> Float[Array, '']:
    """Log-density in nats."""
    ...

  def fisher(self, output: Any) -> Any:
    """Fisher information in each number of the output, in its structure.

    The information between two of them is 0: pixels are independent given z.
    """
    ...


@runtime_checkable
class DecoderModel(LatentVariableModel, Protocol):
  """What the Laplace proposal needs besides: the decoder behind log p(x | z).

  With f = `decoder_output`, log p(x | z) = `likelihood.log_prob(f(z), x)`.
  """

  @property
  def likelihood(self) -> Any:
    """A `Likelihood`."""
    ...

  def decoder_output(
    self, variables: Variables, z: Float[Array, ' latent']
  ) -> Any:
    """A pytree of arrays, differentiable in z; one latent, in eval mode."""
    ...
