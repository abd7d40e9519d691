"""Streams images through an embedding, and remembers what came out."""

import datetime
import hashlib
import math
import re
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from absl import logging
from jaxtyping import Float32

from memjax import validate
from memjax.embeddings.base import Embedding
from memjax.embeddings.images import Array, ValueRange, to_pixels
from memjax.files import write_atomically
from memjax.version import __version__

__all__ = ['embed']

# Images in one file of the cache, and the most that a kill can lose; fewer if
# they are large.
_CHUNK = 1024
_NUMBERS = 2**27  # in a chunk: 0.5 GB in float32
_INTERVAL = 5  # seconds between lines of progress


def embed(
  images: Array | Iterable[Array],
  embedding: Callable[..., Any],
  *,
  batch_size: int | None = None,
  value_range: ValueRange = None,
  cache_dir: str | Path | None = None,
) -> Float32[np.ndarray, 'n d']:
  """Computes the features of any number of images.

  Images pass in batches of one size, the last one padded, so the network is
  compiled once, and memory holds 1,024 images beside the features, fewer where
  those would fill half a gigabyte. Batch sizes change features by float32
  rounding alone.

  Args:
    images: [n, h, w, c], or grey [n, h, w]; or an iterable of batches [b, h, w,
      c] of one image size, of any lengths.
    embedding: an `Embedding`, or any function from a batch [b, h, w, c], uint8
      or float32 in 0 … 255, to features [b, d]. Its value for one image must
      not depend on the others.
    batch_size: images at once; None: 8 on a CPU, where more gain nothing, else
      64.
    value_range: (black, white), for instance (0, 1), (0, 255) or (−1, 1);
      required of floats, for nothing is guessed. None for uint8 is (0, 255).
    cache_dir: a folder to keep features in, by the images' content, the
      embedding's name and the weights' digest; None keeps nothing. A run that
      was killed goes on where it was.

  Returns:
    Features [n, d], in the order of the images.

  Raises:
    ValueError: no image, images of several sizes, values outside the range or
      no range, grey images in a colour network, features that are not finite.

  Example:
    >>> from memjax.embeddings.pixels import pixels
    >>> images = np.array([[[-1.0, 0.0]], [[1.0, -1.0]]])
    >>> embed(images, pixels(), value_range=(-1, 1)).tolist()
    [[0.0, 0.5], [1.0, 0.0]]
  """
  if batch_size is None:
    batch_size = 8 if jax.default_backend() == 'cpu' else 64
  batch_size = validate.integer('batch_size', batch_size, 1)
  cache = None if cache_dir is None else _cache_of(Path(cache_dir), embedding)
  total, batches = None, images
  if isinstance(images, np.ndarray | jax.Array):
    total, batches = len(images), _slices(images)
  progress = _Progress(getattr(embedding, 'name', 'embedding'), total)
  features = []
  for chunk in _chunks(_checked(batches, embedding, value_range)):
    path = None if cache is None else cache.path(chunk)
    found = None if path is None else _load(path, len(chunk))
    if found is None:
      found = _embed_chunk(chunk, embedding, batch_size, progress)
      if path is not None:
        write_atomically(path, lambda file, found=found: np.save(file, found))
    else:
      progress.skip(len(chunk))
    features.append(found)
  if not features:
    raise ValueError('images holds no image: expected at least one.')
  return np.concatenate(features)


def _slices(images: Array) -> Iterator[Array]:
  """The rows of an array in chunks; grey images get their axis of channels."""
  images = images[..., None] if images.ndim == 3 else images
  size = _chunk_size(images.shape[1:])
  for start in range(0, len(images), size):
    yield images[start : start + size]


def _chunk_size(shape: tuple[int, ...]) -> int:
  """How many images of this shape pass at once."""
  return min(_CHUNK, max(1, _NUMBERS // max(1, math.prod(shape))))


def _checked(
  batches: Iterable[Array], embedding: Callable, value_range: ValueRange
) -> Iterator[np.ndarray]:
  """Batches as pixels, all of one image size that the embedding accepts."""
  first = None
  for batch in batches:
    if np.ndim(batch) != 4:
      raise ValueError(
        f'images has a batch of shape {np.shape(batch)}: expected [b, h, w, '
        'c]; np.stack joins single images.'
      )
    batch = to_pixels(batch, value_range, is_first=first is None)
    if first is None:
      first = batch.shape[1:]
      if isinstance(embedding, Embedding):
        embedding.check_shape(first)
    if batch.shape[1:] != first:
      raise ValueError(
        f'images has one batch of images {first} and one of {batch.shape[1:]}: '
        'expected one size.'
      )
    yield batch


def _chunks(batches: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
  """The same images in chunks of one size, however they were batched."""
  waiting: list[np.ndarray] = []
  count = 0
  for batch in batches:
    size = _chunk_size(batch.shape[1:])
    while len(batch):
      part, batch = batch[: size - count], batch[size - count :]
      waiting.append(part)
      count += len(part)
      if count == size:
        yield _join(waiting)
        waiting, count = [], 0
  if count:
    yield _join(waiting)


def _join(parts: list[np.ndarray]) -> np.ndarray:
  return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _embed_chunk(
  chunk: np.ndarray, embedding: Callable, batch_size: int, progress
) -> np.ndarray:
  """Features of a chunk, in padded batches."""
  features = []
  for start in range(0, len(chunk), batch_size):
    batch = chunk[start : start + batch_size]
    count = len(batch)
    if count < batch_size:
      batch = np.concatenate(
        [batch, np.repeat(batch[-1:], batch_size - count, 0)]
      )
    found = np.asarray(embedding(batch), np.float32)
    if found.ndim != 2 or len(found) != batch_size:
      raise ValueError(
        f'embedding returned shape {found.shape} for {batch_size} images: '
        f'expected [{batch_size}, d].'
      )
    if not np.isfinite(found[:count]).all():
      bad = int((~np.isfinite(found[:count]).all(axis=1)).argmax())
      raise ValueError(
        f'embedding of image {progress.done + bad} is not finite: expected '
        'finite features.'
      )
    features.append(found[:count])
    progress.advance(count)
  return np.concatenate(features)


class _Cache(NamedTuple):
  """Where features are kept, by content.

  Attributes:
    folder: of one embedding.
    identity: what features depend on besides the images.
  """

  folder: Path
  identity: str

  def path(self, chunk: np.ndarray) -> Path:
    """The file of the features of these images."""
    digest = hashlib.sha256(self.identity.encode())
    digest.update(f'{chunk.shape} {chunk.dtype}'.encode())
    digest.update(np.ascontiguousarray(chunk).data)
    return self.folder / f'{digest.hexdigest()}.npy'


def _cache_of(cache_dir: Path, embedding: Callable) -> _Cache:
  name, digest = (getattr(embedding, a, None) for a in ('name', 'digest'))
  if not isinstance(name, str) or not isinstance(digest, str):
    raise ValueError(
      f'cache_dir={str(cache_dir)!r} needs an embedding with the attributes '
      '`name` and `digest` (of its weights), else features of another one '
      'could be returned: expected an Embedding, or cache_dir=None.'
    )
  folder = re.sub(r'[^A-Za-z0-9.]+', '-', name).strip('-.') or 'embedding'
  identity = '\n'.join((__version__, name, digest))
  return _Cache(cache_dir.expanduser() / folder, identity)


def _load(path: Path, count: int) -> np.ndarray | None:
  """Features of an earlier run, or None if there are none or they are bad."""
  try:
    found = np.load(path, allow_pickle=False)
  except FileNotFoundError:
    return None
  except (OSError, ValueError, EOFError) as error:
    logging.warning('Computing %s anew: %s', path, error)
    return None
  is_whole = found.ndim == 2 and len(found) == count
  return found if is_whole and found.dtype == np.float32 else None


class _Progress:
  """Counts images and logs a line with rate and time left now and then."""

  def __init__(self, name: str, total: int | None):
    self.done = 0
    self._name, self._total = name, total
    self._computed = 0
    self._start = self._told = time.monotonic()

  def skip(self, count: int) -> None:
    """Counts images whose features were there."""
    self.done += count

  def advance(self, count: int) -> None:
    """Counts images whose features were computed."""
    if not self._computed:
      # The first batch also compiles: it counts as images, not as time.
      self._start = time.monotonic()
    self._computed += count
    self.done += count
    now = time.monotonic()
    if now - self._told < _INTERVAL or self._computed == count:
      return
    self._told = now
    rate = (self._computed - count) / max(now - self._start, 1e-9)
    if self._total is None:
      where, left = f'{self.done} images', 'unknown'
    else:
      where = f'{self.done} of {self._total} images'
      seconds = round((self._total - self.done) / rate)
      left = str(datetime.timedelta(seconds=seconds))
    logging.info('%s: %s   %.3g/s   ETA %s', self._name, where, rate, left)
