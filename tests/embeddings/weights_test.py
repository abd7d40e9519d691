import hashlib
import os
import pathlib
import pickle
import zipfile

import numpy as np
import pth_writer
import pytest

from memjax.embeddings import weights

GOLDEN = pathlib.Path(__file__).parents[1] / 'golden'
ARRAYS = {
  'a': np.arange(6, dtype=np.float32).reshape(2, 3),
  'b': np.array([1.5, -2.0]),
}
both = pytest.mark.parametrize('kind', ['zip', 'stream'])


def write(tmp_path, kind, pickled, arrays=ARRAYS):
  path = tmp_path / 'weights.pth'
  path.write_bytes(pth_writer.FORMATS[kind](pickled, arrays))
  return path


# Files by torch 2.13.0, see tests/golden/make_embedding_goldens.py.
@both
def test_reads_every_kind_of_tensor_that_torch_writes(kind):
  arrays = weights.read_pth(GOLDEN / f'tensors_{kind}.pth')
  base = np.arange(24, dtype=np.float32)
  expected = {
    'float': base.reshape(4, 6),
    'transposed': base.reshape(4, 6).T,
    'strided': base[1::5],
    'double': base[:3].astype(np.float64),
    'half': base[:3].astype(np.float16) / np.float16(3),
    # 1/3 and 2/3 to 8 significant bits.
    'bfloat16': np.array([0, 171 / 512, 171 / 256], np.float32),
    'long': np.array([-(2**40), 7]),
    'bool': np.array([True, False]),
    'byte': np.array([0, 255], np.uint8),
    'scalar': np.array(2.5, np.float32),
    'empty': np.zeros((0, 3), np.float32),
    'parameter': np.full((1, 2), 0.5, np.float32),
  }
  assert list(arrays) == list(expected)
  for name, array in expected.items():
    assert arrays[name].dtype == array.dtype, name
    np.testing.assert_array_equal(arrays[name], array, err_msg=name)


@both
def test_reads_what_the_writer_wrote(tmp_path, kind):
  path = pth_writer.write_pth(tmp_path / 'x.pth', ARRAYS, kind)
  arrays = weights.read_pth(path)
  assert arrays.keys() == ARRAYS.keys()
  for name, array in ARRAYS.items():
    np.testing.assert_array_equal(arrays[name], array)
    arrays[name] += 1  # an array of its own


class Call:
  """Pickles as a call of a function."""

  def __init__(self, function, *arguments):
    self.call = function, arguments

  def __reduce__(self):
    return self.call


@both
def test_reads_shared_tensors_attributes_and_python_2(tmp_path, kind):
  arrays = {'a': ARRAYS['a']}
  tensor = pth_writer.tensor('0', ARRAYS['a'])
  a, b = pth_writer.text('a'), pth_writer.text('b')
  ordered = pth_writer.name('collections', 'OrderedDict')
  pairs = b'](](' + a + tensor + b'e](' + b + tensor + b'ee'
  attributes = b'}' + pth_writer.text('_metadata') + ordered + b')Rsb'
  for pickled in (
    b'}(' + a + tensor + b'q\x07' + b + b'h\x07u.',  # one tensor, two names
    b'}(' + a + tensor + b + tensor + b'u.',  # two tensors, one storage
    ordered + b')R(' + a + tensor + b + tensor + b'u' + attributes + b'.',
    ordered + pairs + b'\x85R.',
  ):
    found = weights.read_pth(
      write(tmp_path, kind, b'\x80\x02' + pickled, arrays)
    )
    assert list(found) == ['a', 'b']
    for array in found.values():
      np.testing.assert_array_equal(array, ARRAYS['a'])


@both
def test_one_storage_under_many_names_is_refused(tmp_path, kind):
  tensor = pth_writer.tensor('0', ARRAYS['a'])
  names = (pth_writer.text(f'a{i}') + tensor for i in range(1000))
  pickled = b'\x80\x02}(' + b''.join(names) + b'u.'
  path = write(tmp_path, kind, pickled, {'a': ARRAYS['a']})
  with pytest.raises(ValueError, match='more than 4 tensors'):
    weights.read_pth(path)


def test_a_zip_of_overlapping_parts_is_refused(tmp_path):
  data = pth_writer.as_zip(pth_writer.state_pickle(ARRAYS), ARRAYS)
  start = data.index(b'PK\x01\x02')  # the directory; sizes are at 20 and 24
  sizes = 2 * len(data).to_bytes(4, 'little')
  path = tmp_path / 'x.pth'
  path.write_bytes(data[: start + 20] + sizes + data[start + 28 :])
  with pytest.raises(ValueError, match='parts of the zip overlap'):
    weights.read_pth(path)


def stack_global(module, attribute):
  """Protocol 4's way to ask for a name, dots and all."""
  short = lambda text: b'\x8c' + bytes([len(text)]) + text.encode()
  return b'\x80\x04' + short(module) + short(attribute) + b'\x93.'


def hostile(marker):
  """Pickles that would create `marker`, or reach for what could."""
  command = f'touch {marker}'
  rebuild = pth_writer.name('torch._utils', '_rebuild_tensor_v2')
  named = lambda opcodes: b'\x80\x02}' + pth_writer.text('a') + opcodes + b's.'
  return {
    'os.system': pickle.dumps(Call(os.system, command), 2),
    'inside a dict': pickle.dumps({'a': Call(os.system, command)}, 2),
    'protocol 4': pickle.dumps({'a': Call(os.system, command)}, 4),
    'eval': pickle.dumps(Call(eval, f'open({str(marker)!r}, "w")'), 2),
    'nested': stack_global('torch._utils', '_rebuild_tensor_v2.__globals__'),
    'dotted': stack_global('collections', 'OrderedDict.__init__'),
    'getattr': named(pth_writer.name('builtins', 'getattr')),
    'torch.load': named(pth_writer.name('torch', 'load')),
    'storage itself': named(pth_writer.name('torch', 'FloatStorage') + b')R'),
    'not a tensor': pickle.dumps({'a': [1, 2]}, 2),
    'no dict': pickle.dumps([1, 2], 2),
    'no storage': named(rebuild + b'(NK\x00))tR'),
    'set on a function': named(
      rebuild + b'N}' + pth_writer.text('__defaults__') + b')s\x86b'
    ),
    # A place in the unpickler's memo, all before which would be allocated.
    'memory': named(b'Nr' + b'\xff' * 4),
    'hash by DUP': b'\x80\x02})' + b'2\x86' * 60 + b'Ns.',
    'hash by memo': b'\x80\x02})' + b'q\x01h\x01\x86' * 60 + b'Ns.',
    'endless shape': named(rebuild + b'(NK\x00)' + b'2\x86' * 60 + b')tR'),
    'endless storage': named(b')' + b'2\x86' * 60 + b'Q'),
    'bytes': named(b'\x96' + b'\xff' * 4 + bytes(4)),
    'unknown extension': b'\x80\x02\x82\x01.',
  }


@both
@pytest.mark.parametrize('attack', list(hostile('')))
def test_a_hostile_pickle_is_refused(tmp_path, kind, attack):
  marker = tmp_path / 'marker'
  path = write(tmp_path, kind, hostile(marker)[attack])
  with pytest.raises(ValueError, match=r'weights\.pth'):
    weights.read_pth(path)
  assert not marker.exists()


def test_the_attacks_are_real(tmp_path):
  # Otherwise the test above could not fail.
  marker = tmp_path / 'marker'
  pickle.loads(hostile(marker)['inside a dict'])
  assert marker.exists()


def test_every_pickle_of_a_stream_is_restricted(tmp_path):
  marker = tmp_path / 'marker'
  attack = pickle.dumps(Call(os.system, f'touch {marker}'), 2)
  valid = pth_writer.as_stream(pth_writer.state_pickle(ARRAYS), ARRAYS)
  magic = pickle.dumps(0x1950A86A20F9469CFC6C, 2)
  keys = pickle.dumps(['0', '1'], 2)
  assert magic in valid
  assert keys in valid
  for data in (
    attack + valid,
    magic + attack + valid.removeprefix(magic),
    valid.replace(keys, attack),
  ):
    path = tmp_path / 'x.pth'
    path.write_bytes(data)
    with pytest.raises(ValueError, match='refused'):
      weights.read_pth(path)
  assert not marker.exists()


@both
def test_a_truncated_file_is_refused(tmp_path, kind):
  data = pth_writer.FORMATS[kind](pth_writer.state_pickle(ARRAYS), ARRAYS)
  path = tmp_path / 'x.pth'
  for size in range(len(data)):
    path.write_bytes(data[:size])
    with pytest.raises(ValueError, match='x.pth'):
      weights.read_pth(path)


@both
def test_a_damaged_file_gives_arrays_or_a_value_error(tmp_path, kind):
  data = pth_writer.FORMATS[kind](pth_writer.state_pickle(ARRAYS), ARRAYS)
  rng = np.random.default_rng(0)
  path = tmp_path / 'x.pth'
  num_refused = 0
  for _ in range(300):
    damaged = bytearray(data)
    damaged[rng.integers(len(data))] = rng.integers(256)
    path.write_bytes(bytes(damaged))
    try:
      weights.read_pth(path)
    except ValueError:
      num_refused += 1
  assert 50 < num_refused < 300


LIES = {
  'ends outside': {'offset': 1},
  'far outside': {'offset': 2**40},
  'negative offset': {'offset': -1},
  'strides outside': {'strides': (3, 2)},
  'negative stride': {'strides': (-3, 1)},
  'too few strides': {'strides': (1,)},
  'endless': {'shape': (2**40, 3), 'strides': (0, 1)},
  'negative size': {'shape': (-2, 3)},
  'more numbers than bytes': {'numel': 2**40},
  'fewer numbers than bytes': {'numel': 5},
  'negative storage': {'numel': -6},
  'another width': {'kind': 'DoubleStorage'},
  'complex': {'kind': 'ComplexFloatStorage'},
  'storage elsewhere': {'storage': 'os'},
}


@both
@pytest.mark.parametrize('lie', list(LIES))
def test_a_tensor_outside_its_storage_is_refused(tmp_path, kind, lie):
  arrays = {'a': ARRAYS['a']}
  pickled = pth_writer.state_pickle(arrays, **LIES[lie])
  with pytest.raises(ValueError, match=r'weights\.pth'):
    weights.read_pth(write(tmp_path, kind, pickled, arrays))


def test_a_compressed_zip_is_refused(tmp_path):
  path = tmp_path / 'x.pth'
  pickled = pth_writer.state_pickle(ARRAYS)
  path.write_bytes(pth_writer.as_zip(pickled, ARRAYS, zipfile.ZIP_DEFLATED))
  with pytest.raises(ValueError, match='compressed'):
    weights.read_pth(path)


def test_take_checks_names_shapes_and_numbers():
  shapes = {'a': (2, 3), 'b': (2,)}
  taken = weights.take(ARRAYS, shapes)
  assert {a.dtype for a in taken.values()} == {np.dtype(np.float32)}
  bad = {
    r'1 of 3 .* missing \(c\)': (ARRAYS, shapes | {'c': ()}),
    r'1 are unknown \(b\)': (ARRAYS, {'a': (2, 3)}),
    r"'a'.* shape \(2, 3\).*\(3, 2\)": (ARRAYS, shapes | {'a': (3, 2)}),
    r"'b'.* int64": (ARRAYS | {'b': np.array([1, 2])}, shapes),
    r"'b'.* not finite": (ARRAYS | {'b': np.array([1, np.nan])}, shapes),
    r"'b'.* not finite in": (ARRAYS | {'b': np.array([1, 1e300])}, shapes),
  }
  for message, (arrays, expected) in bad.items():
    with pytest.raises(ValueError, match=message):
      weights.take(arrays, expected)


def test_size_and_checksum_are_verified(tmp_path):
  path = tmp_path / 'x.pth'
  path.write_bytes(b'abc')
  digest = hashlib.sha256(b'abc').hexdigest()
  weights.verify_weights(path, 3, digest)
  assert weights.digest_of(path) == digest
  with pytest.raises(ValueError, match='3 bytes, expected 4'):
    weights.verify_weights(path, 4, digest)
  with pytest.raises(ValueError, match='sha256'):
    weights.verify_weights(path, 3, '0' * 64)
  other = tmp_path / 'y.pth'
  other.write_bytes(b'abd')
  found, notes = weights.find_weights([tmp_path, other, path], 3, digest)
  assert found == path
  assert len(notes) == 1
