import io
import pickle

import numpy as np
import pth_writer
import pytest

from memjax.embeddings import pickles

ARRAY = np.zeros((2, 3), np.float32)
PLAIN = {
  'numbers': [0, 255, 70_000, -3, 2**70, 1.5],
  'texts': ('', 'x', 'é' * 300),
  'constants': (None, True, False),
  'empty': [(), [], {}],
  'tuples': [(1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)],
  'nested': {'a': {'b': [[1], (2, [3])]}},
}


@pytest.mark.parametrize('protocol', [2, 3, 4, 5])
def test_plain_objects_are_what_pickle_makes_of_them(protocol):
  data = pickle.dumps(PLAIN, protocol)
  file = io.BytesIO(data + b'next')
  assert pickles.load(file) == pickle.loads(data) == PLAIN
  assert file.read() == b'next'


@pytest.mark.parametrize(
  ('pickled', 'message'),
  [
    (pickle.dumps(print, 2), 'print, which no state dict needs'),
    (pickle.dumps(print, 4), r'asks for builtins\.print'),
    (pickle.dumps({1: 2}, 2), 'a key that is no text'),
    # Its hash overflows the stack of C.
    (b'})' + b'\x85' * 200_000 + b'Ns.', 'a key that is no text'),
    (pickle.dumps([PLAIN] * 2, 2), 'a container twice'),
    (pickle.dumps(b'abc', 3), 'opcode SHORT_BINBYTES'),
    (b')2.', 'opcode DUP'),
    (b'X\x01\x00\x00\x00aQ.', 'a storage is described'),
    (pth_writer.name('torch', 'FloatStorage') + b')R.', 'makes what no'),
    # A list of pairs that is no list.
    (pth_writer.name('collections', 'OrderedDict') + b'}\x85R.', 'makes what'),
  ],
)
def test_what_no_state_dict_needs_is_refused(pickled, message):
  with pytest.raises(pickles.Refused, match=message):
    pickles.load(io.BytesIO(pickled))


def test_a_shape_is_a_few_integers():
  tensor = lambda **told: pickles.load(
    io.BytesIO(pth_writer.tensor('0', ARRAY, **told) + b'.')
  )
  assert tensor().shape == (2, 3)
  assert tensor(shape=(1,) * 64, strides=(1,) * 64).strides == (1,) * 64
  for told in (
    {'shape': (1,) * 65, 'strides': (1,) * 65},
    {'shape': (1,), 'strides': ()},
  ):
    with pytest.raises(pickles.Refused, match='makes what'):
      tensor(**told)
