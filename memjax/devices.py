"""Rows of one program shared among devices: models, or queries of a search.

The program is split by `shard_map`, and never by `jit` on sharded arrays, which
put 48 collectives into a training step that needs none.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

__all__ = ['Devices', 'Layout', 'lay_out', 'over_devices']

Devices = Sequence[jax.Device]

_AXIS = 'device'  # of the mesh, its one


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

    def put(array):
      if jnp.issubdtype(array.dtype, jax.dtypes.prng_key):
        data = self.pad(np.asarray(jax.random.key_data(array)))
        data = jax.device_put(data, sharding)
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(array))
      return jax.device_put(self.pad(np.asarray(array)), sharding)

    return jax.tree.map(put, rows)

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
