"""Reads PyTorch's .pth files without PyTorch, and nothing but tensors.

A pickle is a program. This reader lends it six harmless names, all stand-ins
made afresh for each file, and refuses any other: a hostile file gets an error.
Both formats are read: the stream before PyTorch 1.6 and the zip since.
"""

import collections
import hashlib
import io
import math
import pickle
import pickletools
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Shaped

from memjax.data import download

__all__ = ['digest_of', 'find_weights', 'read_pth', 'take', 'verify_weights']

_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001
# NumPy's type, and how many bytes it takes, by the name of torch's storage.
_DTYPES = {
  'DoubleStorage': '<f8',
  'FloatStorage': '<f4',
  'HalfStorage': '<f2',
  'BFloat16Storage': '<u2',
  'LongStorage': '<i8',
  'IntStorage': '<i4',
  'ShortStorage': '<i2',
  'CharStorage': '<i1',
  'ByteStorage': '<u1',
  'BoolStorage': '?',
}
_REBUILD = ('_rebuild_tensor_v2', '_rebuild_parameter')


class _Storage(NamedTuple):
  """A run of numbers that tensors are views of."""

  dtype_name: str
  key: str
  size: int


class _Tensor(NamedTuple):
  """What a pickle says about a tensor."""

  storage: _Storage
  offset: int
  shape: tuple[int, ...]
  strides: tuple[int, ...]


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
  except _Refused as error:
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
  for name, shape in shapes.items():
    array = arrays[name]
    if array.shape != shape or array.dtype.kind != 'f':
      raise ValueError(
        f'weights[{name!r}] has shape {array.shape} and dtype {array.dtype}: '
        f'expected floats of shape {shape}.'
      )
    if not np.isfinite(array).all():
      raise ValueError(f'weights[{name!r}] is not finite.')
  return {name: arrays[name].astype(np.float32) for name in shapes}


class _Refused(ValueError):
  """The file asks for something that no state dict needs."""


class _Unpickler(pickle.Unpickler):
  """Reads plain containers, numbers and descriptions of tensors."""

  def find_class(self, module: str, name: str) -> Any:
    """Returns a stand-in for a permitted name."""
    if (module, name) == ('collections', 'OrderedDict'):
      return collections.OrderedDict
    if module == 'torch' and name in _DTYPES:
      return _StorageName(name)
    if module == 'torch._utils' and name == _REBUILD[0]:
      return lambda storage, offset, shape, strides, *_: _Tensor(
        storage, offset, shape, strides
      )
    if module == 'torch._utils' and name == _REBUILD[1]:
      return lambda tensor, *_: tensor
    raise _Refused(
      f'the pickle asks for {module}.{name}, which no state dict '
      'needs: refused.'
    )

  def persistent_load(self, pid: Any) -> _Storage:
    """Returns the description of a storage."""
    kind, storage, key, _, size, *view = pid
    is_plain = kind == 'storage' and isinstance(storage, _StorageName)
    if not (is_plain and isinstance(key, str) and not any(view)):
      raise _Refused(f'unknown storage {pid!r}.')
    if not isinstance(size, int) or size < 0:
      raise _Refused(f'a storage has the size {size!r}.')
    return _Storage(str(storage), key, size)


class _StorageName(str):
  """The name of a storage class; unlike a class, it makes nothing."""


def _load(file: io.BytesIO) -> Any:
  """Runs one pickle, if no opcode asks for more memory than the file has."""
  start, size = file.tell(), file.getbuffer().nbytes
  for opcode, argument, _ in pickletools.genops(file):
    # The unpickler allocates as many places as the highest one needs.
    if 'PUT' in opcode.name and (argument or 0) > size:
      raise _Refused(f'the pickle fills place {argument}: refused.')
  file.seek(start)
  return _Unpickler(file).load()


def _read_stream(data: bytes) -> tuple[Any, dict[str, bytes]]:
  """(the object, bytes of each storage) of the format before PyTorch 1.6.

  Four pickles (magic number, protocol, byte order, the object), a pickled list
  of storages' keys, then for each its number of elements and its elements.
  """
  file = io.BytesIO(data)
  load = lambda: _load(file)
  if load() != _MAGIC:
    raise _Refused('it does not start with the magic number.')
  if load() != _PROTOCOL or load().get('little_endian') is not True:
    raise _Refused('unknown protocol or byte order.')
  loaded, keys = load(), load()
  width = {
    tensor.storage.key: np.dtype(_DTYPES[tensor.storage.dtype_name]).itemsize
    for tensor in _tensors(loaded).values()
  }
  storages = {}
  for key in keys:
    (count,) = struct.unpack('<q', file.read(8))
    size = count * width.get(key, 0)
    if count < 0 or key not in width:
      raise _Refused(f'storage {key!r} belongs to no tensor.')
    storages[key] = file.read(size)
  return loaded, storages


def _read_zip(data: bytes) -> tuple[Any, dict[str, bytes]]:
  """(the object, bytes of each storage) of the format since PyTorch 1.6."""
  with zipfile.ZipFile(io.BytesIO(data)) as archive:
    members = {
      info.filename.partition('/')[2]: info for info in archive.infolist()
    }
    # Compressed members are none of PyTorch's, and may be bombs.
    if any(info.compress_type for info in members.values()):
      raise _Refused('the zip is compressed, which PyTorch never does.')
    order = members.get('byteorder')
    if order is not None and archive.read(order) != b'little':
      raise _Refused('unknown byte order.')
    loaded = _load(io.BytesIO(archive.read(members['data.pkl'])))
    keys = {tensor.storage.key for tensor in _tensors(loaded).values()}
    return loaded, {key: archive.read(members[f'data/{key}']) for key in keys}


def _tensors(loaded: Any) -> dict[str, _Tensor]:
  """The tensors of a loaded pickle."""
  if not isinstance(loaded, dict):
    raise _Refused(
      f'it holds a {type(loaded).__name__}: expected tensors by name.'
    )
  for name, tensor in loaded.items():
    if not (isinstance(name, str) and isinstance(tensor, _Tensor)):
      raise _Refused(
        f'{name!r} holds a {type(tensor).__name__}: expected tensors by name.'
      )
    if not isinstance(tensor.storage, _Storage):
      raise _Refused(f'{name!r} has no storage.')
  return loaded


def _arrays(
  loaded: dict[str, _Tensor], storages: dict[str, bytes]
) -> dict[str, np.ndarray]:
  """The tensors as arrays of their own."""
  return {
    name: _array(name, tensor, storages[tensor.storage.key])
    for name, tensor in loaded.items()
    if not name.endswith('num_batches_tracked')
  }


def _array(name: str, tensor: _Tensor, raw: bytes) -> np.ndarray:
  """One tensor, if it lies inside its storage."""
  storage, offset, shape, strides = tensor
  dtype = np.dtype(_DTYPES[storage.dtype_name])
  if len(raw) != storage.size * dtype.itemsize:
    raise _Refused(
      f'{name!r} needs {storage.size} × {dtype.itemsize} bytes, and its '
      f'storage has {len(raw)}.'
    )
  numbers = (offset, *shape, *strides)
  is_sane = len(shape) == len(strides) and all(
    type(number) is int and number >= 0 for number in numbers
  )
  # An expanded tensor repeats its storage without end: strides of 0.
  if not is_sane or math.prod(shape) > storage.size:
    raise _Refused(
      f'{name!r} has offset {offset!r}, shape {shape!r}, strides {strides!r} '
      f'in a storage of {storage.size}.'
    )
  last = offset + sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
  if math.prod(shape) and last >= storage.size:
    raise _Refused(f'{name!r} ends outside its storage.')
  values = np.frombuffer(raw, dtype)
  view = np.lib.stride_tricks.as_strided(
    values[offset:], shape, [s * dtype.itemsize for s in strides]
  )
  array = view.copy()
  if storage.dtype_name == 'BFloat16Storage':
    return (array.astype(np.uint32) << 16).view(np.float32)
  return array
