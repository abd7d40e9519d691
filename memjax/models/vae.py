"""Variational autoencoders (van den Burg and Williams 2021, Supplement B)."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from memjax import validate
from memjax.models import layers, likelihoods
from memjax.models.base import DiagonalGaussian, Likelihood, Variables
from memjax.models.dcvae import ConvDecoder, ConvEncoder, Gaussian

__all__ = [
  'VAE',
  'bernoulli_mlp_vae',
  'constant_gaussian_dcvae',
  'diagonal_gaussian_dcvae',
  'kl_divergence',
]


@runtime_checkable
class DecoderLikelihood(Likelihood, Protocol):
  """p(x | z) of one item, given what the decoder says about it."""

  def mean(self, output: Any) -> Float[Array, 'h w c']:
    """The mean image."""
    ...

  def sample(self, output: Any, key: jax.Array) -> Float[Array, 'h w c']:
    """Draws an image."""
    ...


@dataclasses.dataclass(frozen=True)
class VAE:
  """An encoder and a decoder network with the likelihood that joins them.

  Implements `memjax.models.base.DecoderModel`. Both networks are called
  as (inputs, mask=mask) in training, when batch statistics are those of the
  real items, and as (inputs) in eval mode, when they are the running ones.

  Attributes:
    encoder: maps images [b, h, w, c] to a DiagonalGaussian over latents.
    decoder: maps latents [b, latent] to the likelihood's parameters.
    likelihood: p(x | z).
    image_shape: (h, w, c).
    latent_dim: dimensions of z.
    is_convolutional: see `base.DensityModel`.
  """

  encoder: nn.Module
  decoder: nn.Module
  likelihood: DecoderLikelihood
  image_shape: tuple[int, int, int]
  latent_dim: int
  is_convolutional: bool = False

  def init(self, key: jax.Array) -> Variables:
    """Draws initial variables, one subtree for each network."""
    encoder_key, decoder_key = jax.random.split(key)
    image = jnp.zeros((1, *self.image_shape))
    latent = jnp.zeros((1, self.latent_dim))
    encoder = self.encoder.init(encoder_key, image)
    decoder = self.decoder.init(decoder_key, latent)
    return {
      collection: {
        name: variables[collection]
        for name, variables in (('encoder', encoder), ('decoder', decoder))
        if collection in variables
      }
      for collection in encoder.keys() | decoder.keys()
    }

  def loss(
    self,
    variables: Variables,
    x: Float[Array, 'b h w c'],
    mask: Bool[Array, ' b'],
    key: jax.Array,
  ) -> tuple[Float[Array, ''], Variables]:
    """Negative evidence lower bound, summed over the batch's real items.

      −ELBO = −log p(x | z) + KL(q(z | x) ‖ p(z)),  z = μ + exp(½ v) ε

    with one draw ε an item (eq. 5). In nats, in the space in which x is given.
    What padding holds does not matter.
    """
    # A masked loss of inf would still make the gradient NaN.
    flat = jnp.where(mask[:, None], x.reshape(mask.size, -1), 0.0)
    x = flat.reshape(x.shape)
    posterior, encoder_state = self._train(
      'encoder', self.encoder, variables, x, mask
    )
    noise = jax.random.normal(key, posterior.mean.shape)
    z = posterior.mean + jnp.exp(0.5 * posterior.logvar) * noise
    output, decoder_state = self._train(
      'decoder', self.decoder, variables, z, mask
    )
    log_likelihood = jax.vmap(self.likelihood.log_prob)(output, x)
    loss = jax.vmap(kl_divergence)(posterior) - log_likelihood
    state = {
      collection: {
        name: new[collection]
        for name, new in (
          ('encoder', encoder_state),
          ('decoder', decoder_state),
        )
        if collection in new
      }
      for collection in encoder_state.keys() | decoder_state.keys()
    }
    return jnp.where(mask, loss, 0.0).sum(), state

  def encode(
    self, variables: Variables, x: Float[Array, 'h w c']
  ) -> DiagonalGaussian:
    """The amortized posterior q(z | x) of one item, in eval mode."""
    posterior = self.encoder.apply(_subtree(variables, 'encoder'), x[None])
    return jax.tree.map(lambda leaf: leaf[0], posterior)

  def log_likelihood(
    self,
    variables: Variables,
    x: Float[Array, 'h w c'],
    z: Float[Array, ' latent'],
  ) -> Float[Array, '']:
    """Returns log p(x | z) of one item and one latent, in nats."""
    return self.likelihood.log_prob(self.decoder_output(variables, z), x)

  def decode(
    self, variables: Variables, z: Float[Array, ' latent']
  ) -> Float[Array, 'h w c']:
    """The mean of p(x | z) for one latent."""
    return self.likelihood.mean(self.decoder_output(variables, z))

  def sample(
    self, variables: Variables, z: Float[Array, ' latent'], key: jax.Array
  ) -> Float[Array, 'h w c']:
    """Draws x ~ p(x | z) for one latent."""
    return self.likelihood.sample(self.decoder_output(variables, z), key)

  def floats_per_decode(self) -> int:
    """How many numbers the decoder's layers put out for one latent.

    Scoring holds this many for each latent that is decoded together.
    """
    latent = jnp.zeros((1, self.latent_dim))

    def outputs(key):
      return self.decoder.init_with_output(
        key, latent, capture_intermediates=True
      )[1]['intermediates']

    shapes = jax.eval_shape(outputs, jax.random.key(0))
    return sum(leaf.size for leaf in jax.tree.leaves(shapes))

  def decoder_output(
    self, variables: Variables, z: Float[Array, ' latent']
  ) -> Any:
    """What the decoder says about one latent, in eval mode."""
    output = self.decoder.apply(_subtree(variables, 'decoder'), z[None])
    return jax.tree.map(lambda leaf: leaf[0], output)

  def _train(self, name, network, variables, inputs, mask):
    """Applies one network in training mode: (output, changed state)."""
    own = _subtree(variables, name)
    return network.apply(
      own, inputs, mask=mask, mutable=[c for c in own if c != 'params']
    )


def _subtree(variables: Variables, name: str) -> Variables:
  """One network's variables, in the layout its `apply` expects."""
  return {
    collection: tree[name]
    for collection, tree in variables.items()
    if name in tree
  }


def kl_divergence(posterior: DiagonalGaussian) -> Float[Array, '']:
  """KL(N(μ, e^v) ‖ N(0, I)) = ½ Σ (μ² + e^v − 1 − v), in nats, one item.

  Example:
    >>> float(kl_divergence(DiagonalGaussian(jnp.ones(4), jnp.zeros(4))))
    2.0
  """
  mean, logvar = posterior
  return 0.5 * (jnp.square(mean) + jnp.exp(logvar) - 1.0 - logvar).sum()


class MLPEncoder(nn.Module):
  """Flattens, then ReLU layers, then one linear head each for μ and log σ²."""

  hidden: Sequence[int]
  latent_dim: int

  @nn.compact
  def __call__(self, x, mask=None) -> DiagonalGaussian:
    """Maps images [b, h, w, c]; no layer depends on the mask."""
    del mask
    x = x.reshape(x.shape[0], -1)
    for index, features in enumerate(self.hidden):
      x = nn.relu(layers.Dense(features, name=f'hidden_{index}')(x))
    return DiagonalGaussian(
      layers.Dense(self.latent_dim, name='mean')(x),
      layers.Dense(self.latent_dim, name='logvar')(x),
    )


class MLPDecoder(nn.Module):
  """ReLU layers, then one linear output a pixel: the logits of its mean."""

  hidden: Sequence[int]
  image_shape: tuple[int, int, int]

  @nn.compact
  def __call__(self, z, mask=None) -> Float[Array, 'b h w c']:
    """Maps latents [b, latent]; no layer depends on the mask."""
    del mask
    for index, features in enumerate(self.hidden):
      z = nn.relu(layers.Dense(features, name=f'hidden_{index}')(z))
    z = layers.Dense(math.prod(self.image_shape), name='logits')(z)
    return z.reshape(z.shape[0], *self.image_shape)


class Bernoulli(NamedTuple):
  """Binary pixels; the decoder says their log-odds."""

  def log_prob(self, output, x):
    """Log-probability in nats."""
    return likelihoods.bernoulli_log_prob(output, x)

  def fisher(self, output):
    """Information σ(l)σ(−l) in the log-odds l of each pixel."""
    return nn.sigmoid(output) * nn.sigmoid(-output)

  def mean(self, output):
    """Probability of one, a pixel."""
    return nn.sigmoid(output)

  def sample(self, output, key):
    """Draws a binary image."""
    uniform = jax.random.uniform(key, output.shape)
    return (uniform < nn.sigmoid(output)).astype(output.dtype)


def bernoulli_mlp_vae(
  image_shape: Sequence[int],
  *,
  latent_dim: int = 16,
  hidden: Sequence[int] = (512, 256),
) -> VAE:
  """The fully connected VAE of binary images, as for MNIST in the paper.

  Args:
    image_shape: (h, w, c).
    latent_dim: dimensions of z.
    hidden: widths of the encoder's layers; the decoder mirrors them. With
      32×32 images and the defaults the model has 1,325,600 parameters.

  Reference:
    van den Burg and Williams (2021), Supplement B.2, Table 1.
  """
  validate.integer('latent_dim', latent_dim, 1)
  hidden = tuple(validate.integer('hidden', width, 1) for width in hidden)
  shape = _image_shape(image_shape)
  return VAE(
    encoder=MLPEncoder(hidden, latent_dim),
    decoder=MLPDecoder(hidden[::-1], shape),
    likelihood=Bernoulli(),
    image_shape=shape,
    latent_dim=latent_dim,
  )


def diagonal_gaussian_dcvae(
  image_shape: Sequence[int], *, latent_dim: int = 64, num_features: int = 32
) -> VAE:
  """The convolutional VAE with a variance a pixel, as for CIFAR-10.

  The decoder's log-variance is bounded below by −7.

  Args:
    image_shape: (h, w, c); h and w are multiples of 16.
    latent_dim: dimensions of z.
    num_features: channels of the largest feature maps. With 32×32×3 images
      and the defaults the model has 1,579,456 parameters.

  Reference:
    van den Burg and Williams (2021), Supplement B.2, Table 1.
  """
  likelihood = Gaussian(min_logvar=-7.0)
  return _dcvae(image_shape, latent_dim, num_features, likelihood, False)


def constant_gaussian_dcvae(
  image_shape: Sequence[int], *, latent_dim: int = 32, num_features: int = 32
) -> VAE:
  """The convolutional VAE with one variance for all pixels, as for CelebA.

  The variance is exp(`loggamma`), a parameter that starts at −2.

  Args:
    image_shape: (h, w, c); h and w are multiples of 16.
    latent_dim: dimensions of z.
    num_features: channels of the largest feature maps. With 32×32×3 images
      and the defaults the model has 1,479,553 parameters.

  Reference:
    van den Burg and Williams (2021), Supplement B.2, Table 1.
  """
  return _dcvae(image_shape, latent_dim, num_features, Gaussian(), True)


def _dcvae(
  image_shape: Sequence[int],
  latent_dim: int,
  num_features: int,
  likelihood: Gaussian,
  is_constant: bool,
) -> VAE:
  """Builds either of the two; they differ in the decoder's variance."""
  validate.integer('latent_dim', latent_dim, 1)
  validate.integer('num_features', num_features, 1)
  shape = _image_shape(image_shape, multiple=16)
  return VAE(
    encoder=ConvEncoder(num_features, latent_dim),
    decoder=ConvDecoder(num_features, shape, is_constant),
    likelihood=likelihood,
    image_shape=shape,
    latent_dim=latent_dim,
    is_convolutional=True,
  )


def _image_shape(
  image_shape: Sequence[int], multiple: int = 1
) -> tuple[int, int, int]:
  shape = tuple(image_shape)
  if len(shape) != 3 or shape[0] % multiple or shape[1] % multiple:
    sizes = f', h and w multiples of {multiple}' if multiple > 1 else ''
    raise ValueError(f'image_shape={shape}: expected (h, w, c){sizes}.')
  height, width, channels = shape
  return height, width, channels
