"""The contract between an embedding and the rest of memjax.

Any callable from images to features will do; an `Embedding` also has a name
for reports, a digest for caches, and a pure function for use inside a training
step.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float, Float32, Shaped, UInt8

__all__ = ['GREY', 'Embedding', 'Images']

# What a colour network does with grey images.
GREY = ('refuse', 'repeat')

Images = (
  UInt8[np.ndarray | jax.Array, 'n h w c']
  | Float32[np.ndarray | jax.Array, 'n h w c']
)


@dataclasses.dataclass(frozen=True, eq=False)
class Embedding:
  """Images to features, with everything that the features depend on.

  Attributes:
    name: network, resize, scaling: part of the name of every number that is
      computed from the features.
    params: pytree of JAX arrays.
    forward: (params, float32 images [b, h, w, c] in 0 … 255) -> [b, d]; pure.
    digest: SHA-256 of the weights, hexadecimal; '' where there are none.
    channels: numbers of channels that it takes; empty: any.
    image_size: (h, w) that it was trained on and needs; None accepts any.
    is_canonical: whether this is the Inception network of FID with verified
      weights and the original preprocessing: only then a Fréchet distance of
      its features may be called FID.
    classifier: (kernel [d, classes], bias [classes]) of the network's last
      layer, or None.
  """

  name: str
  params: Any
  forward: Callable[[Any, jax.Array], jax.Array]
  digest: str = ''
  channels: tuple[int, ...] = ()
  image_size: tuple[int, int] | None = None
  is_canonical: bool = False
  classifier: tuple[np.ndarray, np.ndarray] | None = None

  def apply(
    self, params: Any, images: Float[Array, 'b h w c']
  ) -> Float[Array, 'b d']:
    """Features of images in 0 … 255; pure: jit, differentiate and vmap it.

    Products are float32 whatever the backend's default.
    """
    with jax.default_matmul_precision('float32'):
      return self.forward(params, images)

  @functools.cached_property
  def compiled(self) -> Callable[[Any, Images], jax.Array]:
    """`apply`, jitted, of uint8 images too."""
    return jax.jit(
      lambda params, images: self.apply(params, images.astype(np.float32))
    )

  def __call__(self, images: Images) -> Float32[np.ndarray, 'n d']:
    """Features of one batch: uint8, or float32 in 0 … 255.

    Values are not looked at: `memjax.embed` asks for their range.

    Raises:
      ValueError: images of another size or number of channels.
    """
    self.check_shape(images.shape[1:])
    return np.asarray(self.compiled(self.params, images))

  def check_shape(self, shape: tuple[int, ...]) -> None:
    """Raises ValueError unless images [h, w, c] of this shape are accepted."""
    if self.channels and shape[-1] not in self.channels:
      hint = ' Drop transparency; move channels from first to last.'
      if shape[-1] == 1:
        hint = " Pass grey='repeat' to repeat the channel."
      expected = ' or '.join(map(str, self.channels))
      raise ValueError(
        f'images of shape {shape} have {shape[-1]} channels, the last axis, '
        f'and {self.name} needs {expected}.{hint}'
      )
    if self.image_size not in (None, shape[:2]):
      raise ValueError(
        f'images are {shape[:2]} pixels, and {self.name} was trained on '
        f'{self.image_size}: expected the same.'
      )

  @property
  def has_logits(self) -> bool:
    """Whether `logits` can be computed."""
    return self.classifier is not None

  def logits(
    self, features: Shaped[np.ndarray | jax.Array, 'n d']
  ) -> Float32[np.ndarray, 'n classes']:
    """Class logits from features.

      logits = features · kernel + bias

    `inception` drops the bias of its network unless told otherwise: so the
    Inception score is defined, and torch-fidelity's `logits_unbiased`.

    Raises:
      ValueError: if the network has no classifier.
    """
    if self.classifier is None:
      raise ValueError(f'embedding {self.name!r} has no classifier.')
    kernel, bias = self.classifier
    return np.asarray(features, np.float32) @ kernel + bias[None]
