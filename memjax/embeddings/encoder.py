"""A small network trained on the user's own images: the in-domain embedding.

Networks trained on photographs add little on small grey images; a classifier of
the same digits or garments does, and takes seconds to train.
"""

import functools
import hashlib
import itertools
import math
import pathlib
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import logging
from jaxtyping import Array, Float, Int, Shaped

from memjax import files, validate
from memjax.embeddings.base import Embedding
from memjax.embeddings.images import ValueRange, to_pixels
from memjax.models.layers import conv, conv_transpose

__all__ = ['load_encoder', 'save_encoder', 'train_encoder']

_WIDTH = 16  # channels after the first convolution; doubled by each further one
_SMALLEST = 8  # pixels a side below which no convolution follows
_RATE = 2e-3

Params = dict[str, Any]


def train_encoder(
  images: Shaped[np.ndarray | jax.Array, 'n ...'],
  labels: Int[np.ndarray | jax.Array, ' n'] | None = None,
  *,
  seed: int = 0,
  num_features: int = 64,
  num_steps: int = 600,
  batch_size: int = 128,
  value_range: ValueRange = None,
) -> Embedding:
  """Trains a small convolutional network; its last hidden layer embeds.

  With labels it minimizes a classifier's cross-entropy, and the features are
  max(0, ·) of the layer before the logits. Without, it minimizes

    |decode(encode(x)) − x|²

  and the features are the code. The features know the training images: train
  on the model's training set, and give train, test and generated images to the
  same network.

  Args:
    images: [n, h, w, c], or grey [n, h, w].
    labels: classes from 0, or None.
    seed: of initialization and batches: the same seed gives the same network
      on the same machine.
    num_features: d.
    num_steps: updates by Adam.
    batch_size: images an update, drawn with replacement.
    value_range: (black, white); see `memjax.embed`.

  Returns:
    An `Embedding` of images of this size, with `logits` if there are labels.

  Raises:
    ValueError: images without a stated range, labels that are not one integer
      ≥ 0 an image, or of one class.
    FloatingPointError: if the loss is not finite.

  Example:
    >>> images = np.random.default_rng(0).integers(0, 256, (50, 8, 8), np.uint8)
    >>> encoder = train_encoder(images, num_features=4, num_steps=2)
    >>> encoder(images[..., None]).shape
    (50, 4)
  """
  pixels = to_pixels(images, value_range)
  if not len(pixels):
    raise ValueError('images holds no image: expected at least one.')
  seed = validate.integer('seed', seed, 0)
  num_features = validate.integer('num_features', num_features, 1)
  num_steps = validate.integer('num_steps', num_steps, 1)
  batch_size = validate.integer('batch_size', batch_size, 1)
  classes, num_classes = _check_labels(labels, len(pixels))
  init_key, train_key = jax.random.split(jax.random.key(seed))
  params = _init(init_key, pixels, num_features, num_classes)
  with jax.default_matmul_precision('float32'):
    params, losses = _train(
      params, pixels, classes, train_key, num_steps, batch_size
    )
  last = float(losses[-1])
  if not np.isfinite(last):
    raise FloatingPointError(f'the loss of train_encoder is {last}.')
  logging.info('train_encoder: loss %.4g -> %.4g', float(losses[0]), last)
  head = jax.tree.map(np.asarray, params.pop('head'))
  return _embedding(
    _name(pixels, num_classes, num_features, num_steps, seed),
    params,
    pixels.shape[1:3],
    (head['kernel'], head['bias']) if num_classes else None,
  )


def save_encoder(path: pathlib.Path, encoder: Embedding) -> None:
  """Writes what `train_encoder` returned to an .npz file, atomically."""
  leaves = jax.tree_util.tree_flatten_with_path(encoder.params)[0]
  name = lambda keys: jax.tree_util.keystr(keys, simple=True, separator='/')
  head = zip(
    ('head/kernel', 'head/bias'), encoder.classifier or (), strict=False
  )
  files.save_arrays(
    path,
    name=encoder.name,
    image_size=encoder.image_size,
    **{name(keys): np.asarray(leaf) for keys, leaf in leaves},
    **dict(head),
  )


def load_encoder(path: pathlib.Path) -> Embedding:
  """Reads what `save_encoder` wrote: the same network, bit for bit.

  Another machine would not train the same one from the same seed.
  """
  with np.load(path) as saved:
    arrays = dict(saved)
  leaf = lambda name: jnp.asarray(arrays[name])
  layer = lambda name: {k: leaf(f'{name}/{k}') for k in ('kernel', 'bias')}
  convs = [name for name in arrays if re.fullmatch(r'convs/\d+/kernel', name)]
  params = {
    **{name: leaf(name) for name in ('mean', 'std')},
    'convs': [layer(f'convs/{place}') for place in range(len(convs))],
    'features': layer('features'),
  }
  rows, columns = map(int, arrays['image_size'])
  classifier = None
  if 'head/kernel' in arrays:
    classifier = arrays['head/kernel'], arrays['head/bias']
  return _embedding(str(arrays['name']), params, (rows, columns), classifier)


def _embedding(name: str, params: Params, image_size, classifier) -> Embedding:
  return Embedding(
    name=name,
    params=params,
    forward=functools.partial(_encode, is_classifier=classifier is not None),
    digest=_digest(params),
    channels=(params['convs'][0]['kernel'].shape[2],),
    image_size=image_size,
    classifier=classifier,
  )


def _check_labels(labels: Any, num_images: int) -> tuple[np.ndarray, int]:
  """(labels or zeros, number of classes or 0)."""
  if labels is None:
    return np.zeros(num_images, np.int32), 0
  labels = validate.host_array('labels', labels, rank=1)
  if len(labels) != num_images or labels.dtype.kind not in 'iu':
    raise ValueError(
      f'labels has shape {labels.shape} and dtype {labels.dtype}: expected '
      f'{num_images} integers, one for each image.'
    )
  if labels.min() < 0 or labels.max() < 1:
    raise ValueError(
      f'labels are {labels.min()} … {labels.max()}: expected two classes or '
      'more, counted from 0.'
    )
  return labels.astype(np.int32), int(labels.max()) + 1


def _name(pixels, num_classes: int, num_features: int, num_steps, seed) -> str:
  kind = (
    f'classifier of {num_classes} classes' if num_classes else 'autoencoder'
  )
  size = '×'.join(map(str, pixels.shape[1:]))
  return (
    f'{kind} trained on {len(pixels)} images {size}, {num_features} features, '
    f'{num_steps} steps, seed {seed}'
  )


def _digest(params: Params) -> str:
  digest = hashlib.sha256()
  for array in jax.tree.leaves(params):
    digest.update(np.asarray(array).tobytes())
  return digest.hexdigest()


def _init(
  key: jax.Array, pixels: np.ndarray, num_features: int, num_classes: int
) -> Params:
  """He-normal weights; 'head' is the classifier, or the decoder."""
  height, width, channels = pixels.shape[1:]
  num_convs = max(1, math.ceil(math.log2(max(height, width) / _SMALLEST)))
  # On the host: each shape drawn by JAX is one more program to compile.
  rng = np.random.default_rng(np.asarray(jax.random.key_data(key)))

  def draw(shape, fan_in):
    scale = math.sqrt(2 / fan_in)
    return jnp.asarray(scale * rng.standard_normal(shape), jnp.float32)

  sizes = [channels] + [_WIDTH * 2**i for i in range(num_convs)]
  block = 2**num_convs
  rows, columns = (-(-side // block) for side in (height, width))
  flat = rows * columns * sizes[-1]
  dense = lambda a, b: {'kernel': draw((a, b), a), 'bias': jnp.zeros(b)}
  pairs = list(itertools.pairwise(sizes))
  # Moments in float64: float32 sums of many pixels lose digits.
  unit = lambda number: jnp.asarray(number / 255, jnp.float32)
  return {
    'mean': unit(pixels.mean(dtype=np.float64)),
    'std': unit(max(float(pixels.std(dtype=np.float64)), 1.0)),
    'convs': [
      {'kernel': draw((4, 4, a, b), 16 * a), 'bias': jnp.zeros(b)}
      for a, b in pairs
    ],
    'features': dense(flat, num_features),
    'head': dense(num_features, num_classes)
    if num_classes
    else {
      'dense': dense(num_features, flat),
      'convs': [
        {'kernel': draw((b, 4, 4, a), 4 * b), 'bias': jnp.zeros(a)}
        for a, b in reversed(pairs)
      ],
    },
  }


def _standardize(params: Params, images: Float[Array, 'b h w c']):
  """Mean 0 and variance 1, padded so that every convolution halves the size."""
  x = (images / 255 - params['mean']) / params['std']
  block = 2 ** len(params['convs'])
  pads = [(0, -size % block) for size in images.shape[1:3]]
  return jnp.pad(x, ((0, 0), *pads, (0, 0)))


def _encode(
  params: Params, images: Float[Array, 'b h w c'], *, is_classifier: bool
) -> Float[Array, 'b d']:
  """Features of images in 0 … 255."""
  x = _standardize(params, images)
  for layer in params['convs']:
    x = jax.nn.relu(conv(x, layer['kernel']) + _row(layer['bias'], 4))
  features = _dense(params['features'], x.reshape(len(x), -1))
  return jax.nn.relu(features) if is_classifier else features


def _decode(params: Params, code: Float[Array, 'b d'], shape: tuple[int, ...]):
  """The standardized images of this padded shape [h, w, c]."""
  head = params['head']
  x = jax.nn.relu(_dense(head['dense'], code))
  block = 2 ** len(head['convs'])
  x = x.reshape(len(x), shape[0] // block, shape[1] // block, -1)
  for layer in head['convs'][:-1]:
    x = jax.nn.relu(conv_transpose(x, layer['kernel']) + _row(layer['bias'], 4))
  last = head['convs'][-1]
  return conv_transpose(x, last['kernel']) + _row(last['bias'], 4)


def _dense(layer: Params, x: Float[Array, 'b _']) -> Float[Array, 'b _']:
  return x @ layer['kernel'] + _row(layer['bias'], 2)


def _row(bias: Float[Array, ' c'], rank: int) -> Array:
  return bias.reshape((1,) * (rank - 1) + (-1,))


def _loss(params: Params, images: Array, labels: Array) -> Float[Array, '']:
  """Mean over the batch: cross-entropy, or squared error a pixel."""
  is_classifier = 'kernel' in params['head']
  features = _encode(params, images, is_classifier=is_classifier)
  if is_classifier:
    logits = _dense(params['head'], features)
    return optax.softmax_cross_entropy_with_integer_labels(
      logits, labels
    ).mean()
  x = _standardize(params, images)
  return jnp.square(_decode(params, features, x.shape[1:]) - x).mean()


@functools.partial(jax.jit, static_argnames=('num_steps', 'batch_size'))
def _train(params, images, labels, key, num_steps: int, batch_size: int):
  """Adam with a cosine schedule; returns parameters and losses [num_steps]."""
  optimizer = optax.adam(optax.cosine_decay_schedule(_RATE, num_steps))
  # The data's moments are constants.
  fixed = {name: params.pop(name) for name in ('mean', 'std')}

  def step(state, index):
    params, moments = state
    batch = jax.random.randint(
      jax.random.fold_in(key, index), (batch_size,), 0, len(images)
    )
    x = images[batch].astype(jnp.float32)
    loss, grads = jax.value_and_grad(
      lambda params: _loss({**params, **fixed}, x, labels[batch])
    )(params)
    updates, moments = optimizer.update(grads, moments, params)
    return (optax.apply_updates(params, updates), moments), loss

  (params, _), losses = jax.lax.scan(
    step, (params, optimizer.init(params)), jnp.arange(num_steps)
  )
  return {**params, **fixed}, losses
