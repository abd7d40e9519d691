"""Runs many models in one program: the one place that owns this choice.

Everything else is written for one model. On 2 CPU cores `map`, one model after
the other, is faster for convolutions, whose weight gradients XLA turns into
grouped convolutions under `vmap`; on accelerators `vmap` fills the device.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax

from memjax import validate
from memjax.devices import Devices, over_devices

__all__ = ['LIFTS', 'choose_lift', 'lift']

LIFTS = ('auto', 'vmap', 'map')


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
      `how`; see `devices.lay_out` for a number that they do not divide.

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
