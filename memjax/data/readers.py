"""Published file formats → arrays: IDX, CIFAR, CelebA's JPEGs.

A reader takes the bytes of files that were verified, checks the structure all
the same, and runs nothing that the bytes say: CIFAR's pickles pass an unpickler
that knows arrays alone.
"""

import io
import pickle
import re
import struct
import zipfile
from collections.abc import Callable, Sequence
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Integer, UInt8
from PIL import Image

from memjax import validate

__all__ = [
  'IMAGE_SUFFIXES',
  'celeba_transform',
  'count_items',
  'decode_images',
  'read_celeba',
  'read_celeba_partition',
  'read_cifar_binary',
  'read_cifar_pickles',
  'read_idx',
  'read_idx_pair',
  'read_npy_pair',
]

ImagesAndLabels = tuple[UInt8[np.ndarray, 'n h w c'], Integer[np.ndarray, ' n']]

# Pillow would also try formats that start other programs (EPS).
_FORMATS = ('BMP', 'GIF', 'JPEG', 'PNG', 'PPM', 'TIFF', 'WEBP')
IMAGE_SUFFIXES = frozenset(
  '.bmp .gif .jpg .jpeg .png .pgm .ppm .tif .tiff .webp'.split()
)


def count_items(num_items: int | None, available: int) -> int:
  """How many items to keep; ValueError if there are not that many."""
  if num_items is None:
    return available
  return validate.integer(
    'num_items',
    num_items,
    1,
    available,
    hint=' None (--config.data.num_items=0) keeps all.',
  )


def decode_images(
  names: Sequence[Any],
  read: Callable[[int], bytes],
  transform: Callable[[Image.Image], Image.Image] | None = None,
) -> UInt8[np.ndarray, 'n h w c']:
  """Decodes images of one size; c is 1 if all are grey, else 3 (RGB).

  Args:
    names: what to call each image in an error.
    read: place in `names` -> the bytes of that image's file; called from
      several threads.
    transform: applied to each image before it becomes an array.

  Raises:
    ValueError: if an image cannot be decoded, has another size than the first
      one, or more than 8 bits a channel; it names the image.
  """

  def decode(place: int) -> np.ndarray:
    return _decode(names[place], read(place), transform)

  first = decode(0)
  height, width = first.shape[:2]
  images = np.empty((len(names), height, width, 3), np.uint8)
  is_grey = True
  # Decoding runs outside Python's lock, so threads use all cores.
  with ThreadPool() as pool:
    for place, image in enumerate(pool.imap(decode, range(len(names)), 16)):
      if image.shape[:2] != (height, width):
        raise ValueError(
          f'image {names[place]} is {image.shape[1]}×{image.shape[0]}, but '
          f'{names[0]} is {width}×{height}: expected one size.'
        )
      images[place] = image
      is_grey = is_grey and image.shape[2] == 1
  return images[..., :1].copy() if is_grey else images


def _decode(name: Any, data: bytes, transform) -> np.ndarray:
  """One image as uint8 [h, w, 1] or [h, w, 3]; transparency is dropped."""
  try:
    with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
      if image.mode.startswith(('I', 'F')):
        raise ValueError(f'its mode is {image.mode}, not 8 bits a channel')
      image = image.convert('L' if image.mode in ('1', 'L') else 'RGB')
      array = np.asarray(image if transform is None else transform(image))
  except ValueError as error:
    raise ValueError(f'cannot decode image {name}: {error}.') from error
  # Pillow raises SyntaxError for broken PNG chunks.
  except (OSError, SyntaxError) as error:
    raise ValueError(
      f'cannot decode image {name}: it is damaged, cut off, or none of '
      f'{", ".join(_FORMATS)}.'
    ) from error
  return array[..., None] if array.ndim == 2 else array


def read_idx(data: bytes) -> UInt8[np.ndarray, '...']:
  """Reads an array of bytes in the IDX format of MNIST.

  Two zero bytes, the type (8: unsigned bytes), the number of axes, the size of
  each as a big-endian 32-bit integer, then the values.

  Raises:
    ValueError: if the magic number or the length is wrong.

  Example:
    >>> read_idx(bytes([0, 0, 8, 1, 0, 0, 0, 3, 5, 0, 4])).tolist()
    [5, 0, 4]

  Source:
    http://yann.lecun.com/exdb/mnist/
  """
  if len(data) < 4 or data[:3] != b'\x00\x00\x08':
    raise ValueError(
      f'an IDX file of bytes starts with 00 00 08, not {data[:3].hex(" ")}.'
    )
  start = 4 + 4 * data[3]
  shape = struct.unpack(f'>{data[3]}I', data[4:start].ljust(start - 4, b'\0'))
  expected = start + int(np.prod(shape, dtype=object))
  if len(data) != expected:
    raise ValueError(
      f'an IDX file of shape {shape} has {expected} bytes: here {len(data)}.'
    )
  return np.frombuffer(data, np.uint8, offset=start).reshape(shape).copy()


def read_idx_pair(files: Sequence[bytes]) -> ImagesAndLabels:
  """Reads MNIST's pair of an image file and a label file."""
  images, labels = (read_idx(data) for data in files)
  if images.ndim != 3 or labels.shape != images.shape[:1]:
    raise ValueError(
      f'the IDX files hold arrays of shape {images.shape} and {labels.shape}: '
      'expected [n, h, w] and [n].'
    )
  return images[..., None], labels


def read_npy_pair(files: Sequence[bytes]) -> ImagesAndLabels:
  """Reads CIFAR-10.1's pair of an image array and a label array."""
  images, labels = (
    np.load(io.BytesIO(data), allow_pickle=False) for data in files
  )
  return images, labels


def read_cifar_binary(files: Sequence[bytes]) -> ImagesAndLabels:
  """Reads CIFAR-10's binary batches: a label, then 3 planes of 32×32, an image.

  Source:
    https://www.cs.toronto.edu/~kriz/cifar.html
  """
  data = b''.join(files)
  if len(data) % 3073 or not data:
    raise ValueError(
      f'CIFAR-10 batches hold 3073 bytes an image: {len(data)} is no multiple.'
    )
  records = np.frombuffer(data, np.uint8).reshape(-1, 3073)
  return _channels_last(records[:, 1:]), records[:, 0]


def _channels_last(rows: np.ndarray) -> np.ndarray:
  planes = rows.reshape(-1, 3, 32, 32)
  return np.ascontiguousarray(planes.transpose(0, 2, 3, 1))


def read_cifar_pickles(files: Sequence[bytes]) -> ImagesAndLabels:
  """Reads CIFAR-10's Python batches without running what a pickle may say.

  Raises:
    ValueError: if a pickle names anything but an array of bytes.
  """
  batches = [_CifarUnpickler(io.BytesIO(data)).load() for data in files]
  batches = [
    {k.decode() if isinstance(k, bytes) else k: v for k, v in batch.items()}
    for batch in batches
  ]
  rows = np.concatenate([batch['data'].to_array() for batch in batches])
  labels = np.concatenate([batch['labels'] for batch in batches])
  return _channels_last(rows), labels


class _PickledArray:
  """Stands in for `numpy.ndarray`: keeps the state, makes uint8 of it.

  NumPy's own `__setstate__` trusts the pickle: with a forged dtype it takes
  bytes for pointers.
  """

  def __init__(self, *_):
    self.state = ()

  def __setstate__(self, state):
    self.state = state

  def to_array(self) -> np.ndarray:
    _, shape, dtype, is_fortran, raw = self.state
    if not isinstance(dtype, _PickledDtype) or dtype.name not in ('u1', b'u1'):
      raise ValueError('a CIFAR-10 batch holds an array that is not of bytes.')
    raw = raw.encode('latin1') if isinstance(raw, str) else raw
    order = 'F' if is_fortran else 'C'
    return np.frombuffer(raw, np.uint8).reshape(shape, order=order)


class _PickledDtype:
  """Stands in for `numpy.dtype`: keeps the name, ignores the state."""

  def __init__(self, name, *_):
    self.name = name

  def __setstate__(self, state):
    pass


def _latin1(text: str, encoding: str) -> bytes:
  """Stands in for `codecs.encode`: how Python 3 writes bytes in protocol 2."""
  if encoding != 'latin1':
    raise ValueError(f'a CIFAR-10 batch asks for the codec {encoding!r}.')
  return text.encode('latin1')


class _CifarUnpickler(pickle.Unpickler):
  """Reads plain containers, text, numbers and byte arrays; refuses the rest."""

  # NumPy 2 writes numpy._core, NumPy 1 (the genuine files) numpy.core.
  permitted: ClassVar = {
    ('numpy.core.multiarray', '_reconstruct'): _PickledArray,
    ('numpy._core.multiarray', '_reconstruct'): _PickledArray,
    ('numpy', 'ndarray'): _PickledArray,
    ('numpy', 'dtype'): _PickledDtype,
    ('_codecs', 'encode'): _latin1,
  }

  def __init__(self, file):
    # The genuine files are Python 2's, whose strings are bytes.
    super().__init__(file, encoding='latin1')

  def find_class(self, module, name):
    """Returns the stand-in for a permitted name."""
    if (module, name) not in self.permitted:
      raise ValueError(
        f'the pickle asks for {module}.{name}, which no CIFAR-10 batch needs: '
        'refused.'
      )
    return self.permitted[module, name]


def celeba_transform(size: int) -> Callable[[Image.Image], Image.Image]:
  """Crops the 148×148 pixels around the face, then resizes bilinearly."""

  def transform(image: Image.Image) -> Image.Image:
    if image.size != (178, 218):
      raise ValueError(f'aligned CelebA images are 178×218, not {image.size}')
    face = image.convert('RGB').crop((15, 40, 163, 188))
    return face.resize((size, size), Image.Resampling.BILINEAR)

  return transform


def read_celeba_partition(path: Path) -> dict[str, list[int]]:
  """Reads which image of CelebA is in which split.

  Args:
    path: list_eval_partition.txt, lines such as '000001.jpg 0', or the same as
      .csv with a header, as on Kaggle.

  Returns:
    Split -> numbers of its images, in the file's order.

  Raises:
    ValueError: for a line of another form.

  Source:
    Liu et al. (2015): 0 is training, 1 validation, 2 test.
  """
  names = ('train', 'validation', 'test')
  splits: dict[str, list[int]] = {name: [] for name in names}
  for place, line in enumerate(path.read_text('utf-8').splitlines(), start=1):
    if not line.strip() or (place == 1 and line.startswith('image_id')):
      continue
    match = re.fullmatch(r'(\d{6})\.jpg[\s,]+([012])', line.strip())
    if match is None:
      raise ValueError(
        f'{path}, line {place}: {line[:40]!r}: expected an image and 0, 1 or '
        "2, such as '000001.jpg 0'."
      )
    splits[names[int(match[2])]].append(int(match[1]))
  return splits


def read_celeba(
  path: Path, numbers: Sequence[int], *, size: int = 32
) -> UInt8[np.ndarray, 'n h w 3']:
  """Reads aligned CelebA images, cropped and resized as in the paper.

  Args:
    path: img_align_celeba.zip, or the folder that holds 000001.jpg and so on.
    numbers: the images, counted from 1.
    size: pixels a side, 32 in the paper.

  Source:
    Liu et al. (2015); van den Burg and Williams (2021), Supplement B.
  """
  names = [f'{number:06d}.jpg' for number in numbers]
  transform = celeba_transform(size)
  if path.is_dir():
    return decode_images(
      names, lambda i: (path / names[i]).read_bytes(), transform
    )
  with zipfile.ZipFile(path) as archive:
    member = {Path(name).name: name for name in archive.namelist()}
    return decode_images(
      names, lambda i: archive.read(member[names[i]]), transform
    )
