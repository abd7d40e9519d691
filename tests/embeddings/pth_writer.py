"""Writes .pth files without PyTorch: valid ones, and ones that lie."""

import io
import pickle
import struct
import zipfile

import numpy as np

STORAGES = {'f4': 'FloatStorage', 'f8': 'DoubleStorage', 'i8': 'LongStorage'}


def text(value):
  data = value.encode()
  return b'X' + struct.pack('<I', len(data)) + data


def integer(value):
  return b'\x8a\x0a' + value.to_bytes(10, 'little', signed=True)


def integers(values):
  return b'(' + b''.join(integer(v) for v in values) + b't'


def name(module, attribute):
  return f'c{module}\n{attribute}\n'.encode()


def tensor(key, array, *, storage='torch', **lies):
  """Opcodes that rebuild a tensor; `lies` replace what they say about it."""
  strides = tuple(s // array.itemsize for s in array.strides)
  told = {
    'kind': STORAGES.get(array.dtype.str[1:], 'ByteStorage'),
    'numel': array.size,
    'offset': 0,
    'shape': array.shape,
    'strides': strides,
  } | lies
  pid = text('storage') + name(storage, told['kind']) + text(key) + text('cpu')
  return b''.join(
    [
      name('torch._utils', '_rebuild_tensor_v2') + b'(',
      b'(' + pid + integer(told['numel']) + b'tQ',
      integer(told['offset']),
      integers(told['shape']) + integers(told['strides']),
      b'\x89' + name('collections', 'OrderedDict') + b')RtR',
    ]
  )


def state_pickle(arrays, **lies):
  """The pickle of a state dict."""
  items = (
    text(name) + tensor(str(i), array, **lies)
    for i, (name, array) in enumerate(arrays.items())
  )
  head = b'\x80\x02' + name('collections', 'OrderedDict') + b')R('
  return head + b''.join(items) + b'u.'


def as_zip(pickled, arrays, compression=zipfile.ZIP_STORED):
  """A file of the format since PyTorch 1.6."""
  file = io.BytesIO()
  with zipfile.ZipFile(file, 'w', compression) as archive:
    archive.writestr('archive/data.pkl', pickled)
    archive.writestr('archive/byteorder', b'little')
    for i, array in enumerate(arrays.values()):
      archive.writestr(f'archive/data/{i}', array.tobytes())
  return file.getvalue()


def as_stream(pickled, arrays):
  """A file of the format before PyTorch 1.6."""
  dump = lambda value: pickle.dumps(value, protocol=2)
  head = [dump(0x1950A86A20F9469CFC6C), dump(1001)]
  head.append(dump({'protocol_version': 1001, 'little_endian': True}))
  keys = [str(i) for i in range(len(arrays))]
  storages = (
    struct.pack('<q', array.size) + array.tobytes() for array in arrays.values()
  )
  return b''.join([*head, pickled, dump(keys), *storages])


FORMATS = {'zip': as_zip, 'stream': as_stream}


def write_pth(path, arrays, kind='zip'):
  """Writes contiguous arrays."""
  arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
  path.write_bytes(FORMATS[kind](state_pickle(arrays), arrays))
  return path
