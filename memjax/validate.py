"""Checks of arguments. Every error names the argument, its value, the range."""

import difflib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jax
import numpy as np

__all__ = ['finite', 'folder', 'host_array', 'integer', 'one_of', 'real']


def integer(
  name: str, value: Any, low: int, high: int | None = None, *, hint: str = ''
) -> int:
  """Returns `value` as an int in [low, high]; ValueError otherwise.

  Args:
    name: the argument's name, for the error.
    value: any value.
    low: the smallest that is accepted.
    high: the largest; None: there is none.
    hint: a sentence that ends the error, from its space on.
  """
  is_integer = isinstance(value, int | np.integer) and not isinstance(
    value, bool | np.bool_
  )
  if not is_integer or value < low or (high is not None and value > high):
    above = f'{low} or more' if high is None else f'in [{low}, {high}]'
    raise ValueError(f'{name}={value!r}: expected an integer {above}.{hint}')
  return int(value)


def real(
  name: str,
  value: Any,
  low: float = -np.inf,
  high: float = np.inf,
  *,
  strict: bool = False,
) -> float:
  """Returns `value` as a float in [low, high]; (low, high) if `strict`."""
  is_real = isinstance(value, int | float | np.number) and not isinstance(
    value, bool
  )
  inside = is_real and (low < value < high if strict else low <= value <= high)
  if not inside:
    ends = f'({low}, {high})' if strict else f'[{low}, {high}]'
    raise ValueError(f'{name}={value!r}: expected a number in {ends}.')
  return float(value)


def one_of(name: str, value: Any, allowed: Iterable[Any]) -> Any:
  """Returns `value` if it is allowed; otherwise names the nearest choice."""
  allowed = list(allowed)
  if value in allowed:
    return value
  near = difflib.get_close_matches(str(value), map(str, allowed), n=1)
  hint = f' Did you mean {near[0]!r}?' if near else ''
  choices = ', '.join(repr(a) for a in allowed)
  raise ValueError(f'{name}={value!r}: expected one of {choices}.{hint}')


def folder(name: str, value: str | Path) -> Path:
  """Returns `value` as the path of a folder; FileNotFoundError otherwise."""
  path = Path(value).expanduser()
  if not path.is_dir():
    problem = 'is a file' if path.exists() else 'does not exist'
    raise FileNotFoundError(
      f'{name}={str(value)!r} {problem}: expected a folder.'
    )
  return path


def host_array(
  name: str,
  value: Any,
  *,
  rank: int | None = None,
  instead: str = 'call it outside jit, vmap and grad, on finished arrays',
) -> np.ndarray:
  """Returns `value` as a NumPy array of the given rank.

  Args:
    name: the argument's name, for the error.
    value: a NumPy or JAX array, or nested lists; not a tracer.
    rank: the number of axes; None accepts any.
    instead: what a caller inside `jax.jit` should do.
  """
  if isinstance(value, jax.core.Tracer):
    raise ValueError(
      f'{name} is a traced JAX value, but this function computes whole-array '
      f'statistics in float64 on the host: {instead}.'
    )
  try:
    array = np.asarray(value)
  except ValueError as error:
    raise ValueError(
      f'{name}: expected a rectangular array; {error}.'
    ) from error
  if jax.dtypes.issubdtype(array.dtype, np.floating):
    # NumPy alone does not know JAX's short floats, such as bfloat16.
    is_short = array.dtype.kind == 'V'
    array = array.astype(np.float32) if is_short else array
  if rank is not None and array.ndim != rank:
    raise ValueError(
      f'{name} has shape {array.shape}: expected {rank} '
      f'{"axis" if rank == 1 else "axes"}.'
    )
  return array


def finite(
  name: str, value: Any, *, rank: int | None = None, **kwargs
) -> np.ndarray:
  """Returns `value` as a float64 array; the first NaN or ±inf is an error."""
  array = host_array(name, value, rank=rank, **kwargs)
  if array.dtype.kind not in 'biuf':
    raise ValueError(f'{name} has dtype {array.dtype}: expected real numbers.')
  array = array.astype(np.float64)
  bad = ~np.isfinite(array)
  if bad.any():
    first = tuple(int(i) for i in np.argwhere(bad)[0])
    where = ', '.join(map(str, first))
    raise ValueError(
      f'{name}[{where}]={array[first]}: expected finite numbers '
      f'({int(bad.sum())} of {array.size} are not).'
    )
  return array
