"""Runs many models in one program: the one place that owns this choice.

Everything else is written for one model. On 2 CPU cores `map`, one model after
the other, is faster for convolutions, whose weight gradients XLA turns into
grouped convolutions under `vmap`; on accelerators `vmap` fills the device. Over
devices the program is split by `shard_map`, and never by `jit` on sharded
arrays, which put 48 collectives into a training step that needs none.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from memjax import validate

__all__ = ['LIFTS', 'Layout', 'choose_lift', 'lay_out', 'lift', 'over_devices']

LIFTS = ('auto', 'vmap', 'map')

# The mesh's one axis: models in training and scoring, queries in a search.
_AXIS = 'device'

Devices = Sequence[jax.Device]


def choose_lift(
  model: Any, how: str = 'auto', backend: str | None = None
) -> str:
  """Resolves 'auto' to 'vmap' or 'map' by backend and model.

  Args:
    model: its `is_convolutional` tells whether convolutions dominate it.
    how: 'auto' | 'vmap' | 'map'.
    backend: 'cpu', 'gpu' or 'tpu'; None asks JAX.
  """
  validate.one_of('lift', how, LIFTS)
  if how != 'auto':
    return how
  backend = backend or jax.default_backend()
  return 'map' if backend == 'cpu' and model.is_convolutional else 'vmap'


def lift(
  fun: Callable,
  how: str,
  in_axes: Sequence[int | None],
  devices: Devices = (),
) -> Callable:
  """Lifts a function of one model to a leading model axis.

  Args:
    fun: positional arguments in, a pytree out.
    how: 'vmap' (all at once) or 'map' (one after the other).
    in_axes: 0 for each argument with a model axis, None for a shared one.
    devices: two or more share the models equally, each lifting its own by
      `how`; see `lay_out` for a number that they do not divide.

  Returns:
    The lifted function; every output has a leading model axis.

  Example:
    >>> double = lift(lambda x, y: x * y, 'map', (0, None))
    >>> double(jax.numpy.arange(3), 2).tolist()
    [0, 2, 4]
  """
  validate.one_of('how', how, ('vmap', 'map'))
  if how == 'vmap':
    lifted = jax.vmap(fun, in_axes=tuple(in_axes))
  else:
    lifted = _mapped(fun, in_axes)
  return over_devices(lifted, in_axes, devices)


def _mapped(fun: Callable, in_axes: Sequence[int | None]) -> Callable:
  def mapped(*args):
    own = [a for a, axis in zip(args, in_axes, strict=True) if axis == 0]

    def one_model(own):
      rest = iter(own)
      return fun(
        *(
          next(rest) if axis == 0 else a
          for a, axis in zip(args, in_axes, strict=True)
        )
      )

    return jax.lax.map(one_model, own)

  return mapped


def over_devices(
  fun: Callable, in_axes: Sequence[int | None], devices: Devices
) -> Callable:
  """Splits a function of many rows, each for itself, over devices.

  Args:
    fun: arrays in, a pytree of arrays with a leading row axis out; a row of
      the output depends on the same row of its inputs alone.
    in_axes: 0 for each argument with a row axis, None for a shared one.
    devices: with fewer than two, `fun` is returned as it is.

  Returns:
    The function; the devices must divide the number of rows.
  """
  if len(devices) < 2:
    return fun
  specs = tuple(
    PartitionSpec(*(() if axis is None else (_AXIS,))) for axis in in_axes
  )
  # Devices exchange nothing, so there is no replication to be checked.
  return jax.shard_map(
    fun,
    mesh=_mesh(devices),
    in_specs=specs,
    out_specs=PartitionSpec(_AXIS),
    check_vma=False,
  )


def _mesh(devices: Devices) -> Mesh:
  return Mesh(np.array(devices), (_AXIS,), axis_types=(AxisType.Auto,))


class Layout(NamedTuple):
  """Where the rows of a program of fixed width lie.

  Attributes:
    size: rows that are wanted, such as `models_at_once`.
    width: rows of the program, `size` and what makes them equally many on each
      device; the spare ones repeat the last row.
    devices: that share them; on fewer than two nothing here moves anything.
  """

  size: int
  width: int
  devices: tuple[jax.Device, ...]

  @property
  def rows_per_device(self) -> int:
    """How many rows a device works on."""
    return self.width // max(len(self.devices), 1)

  def spread(self, rows: Any) -> Any:
    """A pytree of [size, …] arrays as [width, …], each device with its own."""
    if len(self.devices) < 2:
      return rows
    sharding = NamedSharding(_mesh(self.devices), PartitionSpec(_AXIS))
    return jax.tree.map(
      lambda a: jax.device_put(self.pad(np.asarray(a)), sharding), rows
    )

  def replicate(self, shared: Any) -> Any:
    """A pytree of arrays, whole on every device."""
    if len(self.devices) < 2:
      return jax.tree.map(jnp.asarray, shared)
    sharding = NamedSharding(_mesh(self.devices), PartitionSpec())
    return jax.device_put(shared, sharding)

  def gather(self, rows: Any) -> Any:
    """The inverse of `spread`: [size, …] arrays on the default device."""
    if len(self.devices) < 2:
      return rows
    return jax.tree.map(lambda a: jnp.asarray(np.asarray(a)[: self.size]), rows)

  def pad(self, rows: np.ndarray) -> np.ndarray:
    """One array [size, …] as [width, …]."""
    spare = self.width - len(rows)
    return np.concatenate([rows, np.repeat(rows[-1:], spare, axis=0)])


def lay_out(size: int, devices: Devices | None = None) -> Layout:
  """Shares rows among devices: as few on each as can be, then as few devices.

  Ten models on eight devices take two on each of five.

  Args:
    size: rows.
    devices: None takes all of this process.

  Example:
    >>> layout = lay_out(10, jax.local_devices() * 4)
    >>> layout.width, len(layout.devices), layout.rows_per_device
    (12, 4, 3)
  """
  devices = tuple(jax.local_devices() if devices is None else devices)
  most = max(1, -(-size // max(len(devices), 1)))
  used = -(-size // most)
  return Layout(size, most * used, devices[:used])
