"""Reads what a pickle describes, where that is tensors by name.

A pickle is a program, and none is run here: a loop over its opcodes makes
dicts, lists, tuples, numbers, texts and descriptions of tensors. What it would
call is text, compared with the thirteen names that PyTorch writes; any other
name or opcode is refused.
"""

import io
import pickletools
from collections.abc import Iterable
from typing import Any, NamedTuple

__all__ = ['DTYPES', 'Refused', 'Storage', 'Tensor', 'load']

# NumPy's type by the name of torch's storage.
DTYPES = {
  'torch DoubleStorage': '<f8',
  'torch FloatStorage': '<f4',
  'torch HalfStorage': '<f2',
  'torch BFloat16Storage': '<u2',
  'torch LongStorage': '<i8',
  'torch IntStorage': '<i4',
  'torch ShortStorage': '<i2',
  'torch CharStorage': '<i1',
  'torch ByteStorage': '<u1',
  'torch BoolStorage': '?',
}
_NAMES = {
  'collections OrderedDict',
  'torch._utils _rebuild_tensor_v2',
  'torch._utils _rebuild_parameter',
  *DTYPES,
}
_LITERALS = {
  *('BININT', 'BININT1', 'BININT2', 'LONG1', 'BINFLOAT'),
  *('BINUNICODE', 'SHORT_BINUNICODE', 'BINSTRING', 'SHORT_BINSTRING'),
}
_CONSTANTS = {'NONE': None, 'NEWTRUE': True, 'NEWFALSE': False}
_EMPTY = {'EMPTY_TUPLE': tuple, 'EMPTY_LIST': list, 'EMPTY_DICT': dict}
# How many objects an opcode takes off the stack; None: all after the last mark.
_COUNTS = {
  **{'TUPLE1': 1, 'TUPLE2': 2, 'TUPLE3': 3, 'TUPLE': None},
  **{'APPEND': 1, 'APPENDS': None, 'SETITEM': 2, 'SETITEMS': None},
  **{'STACK_GLOBAL': 2, 'BINPERSID': 1, 'REDUCE': 2, 'BUILD': 1},
}
_MAX_RANK = 64  # NumPy's


class Refused(ValueError):
  """The file asks for something that no state dict needs."""


class Storage(NamedTuple):
  """A run of numbers that tensors are views of; `kind` is one of `DTYPES`."""

  kind: str
  key: str
  size: int


class Tensor(NamedTuple):
  """What a pickle says about a tensor; its numbers may lie."""

  storage: Storage
  offset: int
  shape: tuple[int, ...]
  strides: tuple[int, ...]


def load(file: io.BytesIO) -> Any:
  """The object that one pickle describes; the file is left behind its end.

  Raises:
    Refused: an opcode, a name or a use of them that no state dict needs.
    Exception: any other, if the pickle is damaged.
  """
  stack: list[Any] = []
  marks: list[int] = []
  memo: dict[Any, Any] = {}
  for opcode, argument, _ in pickletools.genops(file):
    name = opcode.name
    if name in _LITERALS:
      stack.append(argument)
    elif name in _CONSTANTS:
      stack.append(_CONSTANTS[name])
    elif name in _EMPTY:
      stack.append(_EMPTY[name]())
    elif name == 'MARK':
      marks.append(len(stack))
    elif name == 'MEMOIZE':
      memo[len(memo)] = stack[-1]
    elif name in ('BINPUT', 'LONG_BINPUT'):
      memo[argument] = stack[-1]
    elif name in ('BINGET', 'LONG_BINGET'):
      stack.append(_reusable(memo[argument]))
    elif name == 'GLOBAL':
      stack.append(_permitted(argument))
    elif name not in ('PROTO', 'FRAME', 'STOP'):
      _combine(name, stack, marks)
  return stack.pop()


def _combine(name: str, stack: list[Any], marks: list[int]) -> None:
  """An opcode that makes one object of the last ones."""
  if name not in _COUNTS:
    raise Refused(f'the pickle has the opcode {name}: refused.')
  count = _COUNTS[name]
  start = marks.pop() if count is None else len(stack) - count
  items = stack[start:]
  del stack[start:]
  if name.startswith('TUPLE'):
    stack.append(tuple(items))
  elif name.startswith('APPEND'):
    stack[-1].extend(items)
  elif name.startswith('SETITEM'):
    stack[-1].update(_dict(zip(items[::2], items[1::2], strict=True)))
  elif name == 'STACK_GLOBAL':
    stack.append(_permitted(' '.join(items)))
  elif name == 'BINPERSID':
    stack.append(_storage(*items))
  elif name == 'REDUCE':
    stack.append(_made_by(*items))
  # BUILD's item is dropped: attributes of a dict, such as torch's _metadata.


def _reusable(value: Any) -> str | Tensor:
  """What PyTorch writes once and uses again.

  A container of two containers, of two each and so on describes 2⁶⁰ in a few
  bytes; without those all is a tree, and no larger than the file.
  """
  if not isinstance(value, str | Tensor):
    raise Refused('the pickle uses a container twice: refused.')
  return value


def _permitted(name: Any) -> str:
  if name not in _NAMES:
    raise Refused(
      f'the pickle asks for {name.replace(" ", ".")}, which no state dict '
      'needs: refused.'
    )
  return name


def _dict(items: Iterable[Any]) -> dict[str, Any]:
  """A dict by texts: the hash of a deep tuple would overflow C's stack."""
  found = {}
  for key, value in items:
    if not isinstance(key, str):
      raise Refused('a dict has a key that is no text: refused.')
    found[key] = value
  return found


def _storage(pid: Any) -> Storage:
  match pid:
    case ('storage', str(kind), str(key), _, int(size), *view):
      if kind in DTYPES and size >= 0 and not any(view):
        return Storage(kind, key, size)
  raise Refused('a storage is described in an unknown way: refused.')


def _made_by(name: Any, arguments: Any) -> Any:
  """What a call of a permitted name would make."""
  match name, arguments:
    case 'collections OrderedDict', ():
      return {}
    case 'collections OrderedDict', ([*items],):  # as Python 2 wrote it
      return _dict(items)
    case (
      'torch._utils _rebuild_tensor_v2',
      (Storage() as storage, int(offset), tuple(shape), tuple(strides), *_),
    ) if len(shape) == len(strides) <= _MAX_RANK:
      if all(isinstance(number, int) for number in (*shape, *strides)):
        return Tensor(storage, offset, shape, strides)
    case 'torch._utils _rebuild_parameter', (Tensor() as tensor, *_):
      return tensor
  raise Refused('the pickle makes what no state dict has: refused.')
