"""Reads the weights of the paper's PyTorch models into ours.

Their modules are `_encoder` and `_decoder`, each an nn.Sequential that counts
activations and reshapes too, the heads `_mu` and `_logvar`, and for the
constant Gaussian the scalar `loggamma`, registered before the others.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np

from memjax.models.base import Variables
from memjax.models.dcvae import ConvDecoder
from memjax.models.vae import VAE

__all__ = ['pytorch_shapes', 'variables_from_pytorch']


class _Entry(NamedTuple):
  """Where an array of PyTorch's goes: ours is `array.transpose(axes)`."""

  name: str
  path: tuple[str, ...]
  axes: tuple[int, ...]


def pytorch_shapes(model: VAE) -> dict[str, tuple[int, ...]]:
  """Names and shapes of the PyTorch model's arrays, in the published order.

  Example:
    >>> from memjax.models.vae import bernoulli_mlp_vae
    >>> shapes = pytorch_shapes(bernoulli_mlp_vae((32, 32, 1)))
    >>> list(shapes.items())[:2]
    [('_encoder.1.weight', (512, 1024)), ('_encoder.1.bias', (512,))]
  """
  variables = jax.eval_shape(model.init, jax.random.key(0))
  ours: dict[Any, Any] = flax.traverse_util.flatten_dict(variables)
  return {
    entry.name: tuple(
      ours[entry.path].shape[axis] for axis in np.argsort(entry.axes)
    )
    for entry in _entries(model)
  }


def variables_from_pytorch(
  model: VAE, state_dict: Mapping[str, Any]
) -> Variables:
  """Converts a PyTorch state dict in the paper's layout.

  The converted model gives the outputs that PyTorch's gives in eval mode, to
  rounding.

  Args:
    model: `bernoulli_mlp_vae` of one channel, `diagonal_gaussian_dcvae` or
      `constant_gaussian_dcvae`, with the sizes of the PyTorch model.
    state_dict: name -> array, or tensor on the CPU. Names as in
      `pytorch_shapes`; if any differs, all arrays are taken in the published
      order. `num_batches_tracked` is ignored wherever it is.

  Returns:
    What `model.init` returns, with these numbers.

  Raises:
    ValueError: if the arrays are not as many as the model has, or one has the
      wrong shape.

  Reference:
    van den Burg and Williams (2021), Supplement B.2, Table 1; the names are
    those of their public code.
  """
  shapes = pytorch_shapes(model)
  items = _in_order(state_dict, list(shapes))
  converted = {}
  for entry, (name, value) in zip(_entries(model), items, strict=True):
    array, shape = np.asarray(value), shapes[entry.name]
    if array.shape != shape:
      raise ValueError(
        f'state_dict[{name!r}] has shape {array.shape}: expected {shape}.'
      )
    converted[entry.path] = jnp.asarray(array.transpose(entry.axes))
  return flax.traverse_util.unflatten_dict(converted)


def _in_order(
  state_dict: Mapping[str, Any], names: list[str]
) -> list[tuple[str, Any]]:
  """The items in the order of `names`, whose names they need not have."""
  items = [
    (name, value)
    for name, value in state_dict.items()
    if not name.endswith('num_batches_tracked')
  ]
  if {name for name, _ in items} == set(names):
    return [(name, state_dict[name]) for name in names]
  if len(items) != len(names):
    raise ValueError(
      f'state_dict has {len(items)} arrays: expected {len(names)}, named '
      f'{", ".join(names)}.'
    )
  return items


def _entries(model: VAE) -> Iterator[_Entry]:
  """Every array of the model, in the published order."""
  if isinstance(model.decoder, ConvDecoder):
    return _dcvae_entries(model.decoder.is_constant)
  if model.image_shape[-1] != 1:
    # PyTorch flattens images channel-major.
    raise ValueError(
      f'model.image_shape={model.image_shape}: expected one channel.'
    )
  return _mlp_entries(len(model.encoder.hidden))


def _mlp_entries(num_hidden: int) -> Iterator[_Entry]:
  for index in range(num_hidden):
    yield from _dense(f'_encoder.{2 * index + 1}', 'encoder', f'hidden_{index}')
  yield from _dense('_mu', 'encoder', 'mean')
  yield from _dense('_logvar', 'encoder', 'logvar')
  for index in range(num_hidden):
    yield from _dense(f'_decoder.{2 * index}', 'decoder', f'hidden_{index}')
  yield from _dense(f'_decoder.{2 * num_hidden}', 'decoder', 'logits')


def _dcvae_entries(is_constant: bool) -> Iterator[_Entry]:
  if is_constant:
    yield _Entry('loggamma', ('params', 'decoder', 'loggamma'), ())
  yield _conv('_encoder.0', 'encoder', 'conv_0', (2, 3, 1, 0))
  for index in range(1, 4):
    name = f'_encoder.{3 * index - 1}'
    yield _conv(name, 'encoder', f'conv_{index}', (2, 3, 1, 0))
    yield from _norm(f'_encoder.{3 * index}', 'encoder', f'norm_{index}')
  yield from _dense('_mu', 'encoder', 'mean')
  yield from _dense('_logvar', 'encoder', 'logvar')
  for index in range(4):
    name = f'_decoder.{3 * index + 1}'
    yield _conv(name, 'decoder', f'conv_{index}', (0, 2, 3, 1))
    yield from _norm(f'_decoder.{3 * index + 2}', 'decoder', f'norm_{index}')
  yield _conv('_decoder.13', 'decoder', 'conv_4', (0, 2, 3, 1))


def _conv(name: str, network: str, layer: str, axes: tuple[int, ...]) -> _Entry:
  return _Entry(f'{name}.weight', ('params', network, layer, 'kernel'), axes)


def _dense(name: str, network: str, layer: str) -> Iterator[_Entry]:
  path = ('params', network, layer)
  yield _Entry(f'{name}.weight', (*path, 'kernel'), (1, 0))
  yield _Entry(f'{name}.bias', (*path, 'bias'), (0,))


def _norm(name: str, network: str, layer: str) -> Iterator[_Entry]:
  for collection, theirs, ours in (
    ('params', 'weight', 'scale'),
    ('params', 'bias', 'bias'),
    ('batch_stats', 'running_mean', 'mean'),
    ('batch_stats', 'running_var', 'var'),
  ):
    path = (collection, network, layer, ours)
    yield _Entry(f'{name}.{theirs}', path, (0,))
