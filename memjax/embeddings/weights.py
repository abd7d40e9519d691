"""Reads PyTorch's .pth files without PyTorch, and nothing but tensors.

A hostile file gets an error: no pickle is run (see `pickles`), and time and
memory are in proportion to the file's size. Both formats are read: the stream
before PyTorch 1.6 and the zip since.
"""

import hashlib
import io
import math
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped

from memjax.data import download
from memjax.embeddings.pickles import DTYPES, Refused, Tensor, load

__all__ = ['digest_of', 'find_weights', 'read_pth', 'take', 'verify_weights']

_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001
# Bytes of the arrays for one of the file: tied weights are copied more than
# once, and bfloat16 doubles. One storage under many names would fill memory.
_MAX_COPIES = 4


def digest_of(path: str | Path) -> str:
  """SHA-256 of a file, hexadecimal."""
  with open(path, 'rb') as file:
    return hashlib.file_digest(file, 'sha256').hexdigest()


def verify_weights(path: str | Path, size: int, sha256: str) -> None:
  """Raises ValueError unless the file has these bytes; it is not parsed.

  Args:
    path: the file.
    size: in bytes: checked first, for it tells a page of HTML from weights.
    sha256: hexadecimal.
  """
  found = Path(path).stat().st_size
  if found != size:
    raise ValueError(
      f'{path} is not the published file: it has {found} bytes, expected '
      f'{size}.'
    )
  download.verify(path, f'sha256:{sha256}')


def find_weights(
  places: list[Path], size: int, sha256: str
) -> tuple[Path | None, list[str]]:
  """The first file that is the published one, and what was wrong before it."""
  notes = []
  for place in places:
    if place.is_file():
      try:
        verify_weights(place, size, sha256)
        return place, notes
      except ValueError as error:
        notes.append(str(error))
  return None, notes


def read_pth(path: str | Path) -> dict[str, Shaped[np.ndarray, '...']]:
  """Reads a state dict: name -> array, copied, in the file's order.

  bfloat16 becomes float32; `num_batches_tracked` is left out.

  Args:
    path: a .pth or .pt file of tensors by name.

  Raises:
    ValueError: if the file is damaged, or asks for anything but tensors.
  """
  data = Path(path).read_bytes()
  read = _read_zip if data[:2] == b'PK' else _read_stream
  try:
    loaded, storages = read(data)
    return _arrays(loaded, storages)
  except Refused as error:
    raise ValueError(f'{path}: {error}') from error
  # What a damaged pickle or zip may raise is documented to be anything.
  except Exception as error:
    raise ValueError(
      f'{path} is no state dict of PyTorch, or damaged: '
      f'{type(error).__name__}: {error}.'
    ) from error


def take(
  arrays: Mapping[str, Shaped[np.ndarray, '...']],
  shapes: Mapping[str, tuple[int, ...]],
) -> dict[str, Shaped[np.ndarray, '...']]:
  """The arrays that a network needs, as float32.

  Args:
    arrays: from `read_pth`.
    shapes: name -> expected shape: no more, no less.

  Raises:
    ValueError: naming what is missing, too much, of another shape, or not
      finite.
  """
  missing, extra = shapes.keys() - arrays.keys(), arrays.keys() - shapes.keys()
  if missing or extra:
    raise ValueError(
      f'weights of another network: {len(missing)} of {len(shapes)} arrays '
      f'are missing ({", ".join(sorted(missing)[:3])}), {len(extra)} are '
      f'unknown ({", ".join(sorted(extra)[:3])}).'
    )
  taken = {}
  for name, shape in shapes.items():
    array = arrays[name]
    if array.shape != shape or array.dtype.kind != 'f':
      raise ValueError(
        f'weights[{name!r}] has shape {array.shape} and dtype {array.dtype}: '
        f'expected floats of shape {shape}.'
      )
    with np.errstate(over='ignore'):
      taken[name] = array.astype(np.float32)
    if not np.isfinite(taken[name]).all():
      raise ValueError(f'weights[{name!r}] is not finite in float32.')
  return taken


def _read_stream(data: bytes) -> tuple[Any, dict[str, bytes]]:
  """(the object, bytes of each storage) of the format before PyTorch 1.6.

  Four pickles (magic number, protocol, byte order, the object), a pickled list
  of storages' keys, then for each its number of elements and its elements.
  """
  file = io.BytesIO(data)
  if load(file) != _MAGIC:
    raise Refused('it does not start with the magic number.')
  if load(file) != _PROTOCOL or load(file).get('little_endian') is not True:
    raise Refused('unknown protocol or byte order.')
  loaded, keys = load(file), load(file)
  width = {
    tensor.storage.key: np.dtype(DTYPES[tensor.storage.kind]).itemsize
    for tensor in _tensors(loaded).values()
  }
  storages = {}
  for key in keys:
    (count,) = struct.unpack('<q', file.read(8))
    if count < 0 or not isinstance(key, str) or key not in width:
      raise Refused('a storage belongs to no tensor.')
    storages[key] = file.read(count * width[key])
  return loaded, storages


def _read_zip(data: bytes) -> tuple[Any, dict[str, bytes]]:
  """(the object, bytes of each storage) of the format since PyTorch 1.6."""
  with zipfile.ZipFile(io.BytesIO(data)) as archive:
    members = {
      info.filename.partition('/')[2]: info for info in archive.infolist()
    }
    # Compressed members are none of PyTorch's, and may be bombs.
    if any(info.compress_type for info in members.values()):
      raise Refused('the zip is compressed, which PyTorch never does.')
    if sum(info.file_size for info in archive.infolist()) > len(data):
      raise Refused('the parts of the zip overlap, which PyTorch never does.')
    order = members.get('byteorder')
    if order is not None and archive.read(order) != b'little':
      raise Refused('unknown byte order.')
    loaded = load(io.BytesIO(archive.read(members['data.pkl'])))
    keys = {tensor.storage.key for tensor in _tensors(loaded).values()}
    return loaded, {key: archive.read(members[f'data/{key}']) for key in keys}


def _tensors(loaded: Any) -> dict[str, Tensor]:
  """The tensors of a loaded pickle."""
  if not isinstance(loaded, dict):
    raise Refused(
      f'it holds a {type(loaded).__name__}: expected tensors by name.'
    )
  for name, tensor in loaded.items():
    if not isinstance(tensor, Tensor):
      raise Refused(
        f'{name!r} holds a {type(tensor).__name__}: expected tensors by name.'
      )
  return loaded


def _arrays(
  loaded: dict[str, Tensor], storages: dict[str, bytes]
) -> dict[str, np.ndarray]:
  """The tensors as arrays of their own."""
  arrays: dict[str, np.ndarray] = {}
  room = _MAX_COPIES * sum(map(len, storages.values()))
  for name, tensor in loaded.items():
    if name.endswith('num_batches_tracked'):
      continue
    arrays[name] = _array(name, tensor, storages[tensor.storage.key])
    room -= arrays[name].nbytes
    if room < 0:
      raise Refused(
        f'it holds more than {_MAX_COPIES} tensors for each of its numbers.'
      )
  return arrays


def _array(name: str, tensor: Tensor, raw: bytes) -> np.ndarray:
  """One tensor, if it lies inside its storage."""
  storage, offset, shape, strides = tensor
  dtype = np.dtype(DTYPES[storage.kind])
  if len(raw) != storage.size * dtype.itemsize:
    raise Refused(
      f'{name!r} needs {storage.size} × {dtype.itemsize} bytes, and its '
      f'storage has {len(raw)}.'
    )
  # An expanded tensor repeats its storage without end: strides of 0.
  if min(offset, *shape, *strides, 0) < 0 or math.prod(shape) > storage.size:
    raise Refused(
      f'{name!r} has offset {offset}, shape {shape}, strides {strides} '
      f'in a storage of {storage.size}.'
    )
  last = offset + sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
  if math.prod(shape) and last >= storage.size:
    raise Refused(f'{name!r} ends outside its storage.')
  values = np.frombuffer(raw, dtype)
  view = np.lib.stride_tricks.as_strided(
    values[offset:], shape, [s * dtype.itemsize for s in strides]
  )
  array = view.copy()
  if storage.kind == 'torch BFloat16Storage':
    return (array.astype(np.uint32) << 16).view(np.float32)
  return array
