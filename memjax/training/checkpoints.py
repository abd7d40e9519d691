"""Checkpoints that survive a kill at any moment; the only importer of Orbax.

Orbax writes to a temporary directory and commits by renaming it, so a killed
save leaves the previous checkpoint as it was. A digest of the arrays is stored
beside them, because a file can be damaged later.
"""

import pathlib
from typing import Any, NamedTuple

import jax
from absl import logging
from orbax.checkpoint import v1 as ocp

from memjax import files

__all__ = ['Checkpoint', 'Checkpoints']


class Checkpoint(NamedTuple):
  """What was restored: the step it was saved under, arrays, and metadata."""

  step: int
  state: Any
  metadata: dict[str, Any]


class Checkpoints:
  """The latest two checkpoints of one group of models, in one directory."""

  def __init__(self, directory: pathlib.Path):
    if jax.process_count() > 1:
      raise RuntimeError(
        f'JAX spans {jax.process_count()} processes, but each of ours saves '
        'checkpoints of its own, which Orbax refuses then. On a TPU pod slice '
        'let each host use its own chips alone, see docs/scaling.md.'
      )
    self._directory = pathlib.Path(directory).resolve()
    self._checkpointer = self._open()

  def __enter__(self) -> 'Checkpoints':
    return self

  def __exit__(self, kind, *exception) -> None:
    try:
      self._checkpointer.close()
    except Exception as error:
      # Orbax tells of a failed save once more here; the first error says more.
      if kind is None:
        raise self._cannot_write(error) from error

  def _open(self) -> ocp.training.Checkpointer:
    return ocp.training.Checkpointer(
      str(self._directory),
      # The protocol that it is declared with is narrower than what it takes.
      preservation_policy=ocp.training.preservation_policies.LatestN(2),  # pyrefly: ignore
      cleanup_tmp_directories=True,
    )

  def save(self, step: int, state: Any, metadata: dict[str, Any]) -> None:
    """Saves and waits until the checkpoint is complete on disk.

    Args:
      step: increases from save to save.
      state: a pytree of arrays.
      metadata: JSON values.

    Raises:
      OSError: if it could not be written, for instance on a full disk. The
        previous checkpoint is intact.
    """
    metadata = {**metadata, 'digest': _fingerprint(state)}
    try:
      self._checkpointer.save(
        step, state, custom_metadata=metadata, overwrite=True
      )
    except Exception as error:
      raise self._cannot_write(error) from error

  def _cannot_write(self, error: Exception) -> OSError:
    return OSError(
      f'Could not write a checkpoint under {self._directory}: '
      f'{_root_cause(error)}. The previous checkpoint is intact; make room and '
      'run the same command again.'
    )

  def restore(self, like: Any) -> Checkpoint | None:
    """Restores the newest checkpoint that is whole and fits.

    A checkpoint that cannot be read, whose arrays are not those that were
    saved, or that belongs to another model is named in the log, moved aside,
    and the previous one is used.

    Args:
      like: a pytree with the shapes and dtypes to expect.

    Returns:
      The checkpoint, or None if there is none.
    """
    for saved in reversed(self._checkpointer.checkpoints):
      try:
        return self._load(saved.step, like)
      except Exception as error:
        logging.error(
          'Checkpoint %s cannot be used: %s. The one before it is used.',
          self._directory / str(saved.step),
          _root_cause(error),
        )
        self._move_aside(saved.step)
    return None

  def _load(self, step: int, like: Any) -> Checkpoint:
    abstract = jax.tree.map(_abstract, like)
    stored = self._checkpointer.metadata(step)
    _check_shapes(stored.metadata, jax.eval_shape(_plain, abstract))
    state = self._checkpointer.load(step, abstract)
    metadata = stored.custom_metadata
    if not isinstance(metadata, dict):
      raise ValueError('its metadata are missing')
    if metadata.pop('digest', None) != _fingerprint(state):
      raise ValueError('its arrays are not those that were saved')
    return Checkpoint(step, state, metadata)

  def _move_aside(self, step: int) -> None:
    path = self._directory / str(step)
    self._checkpointer.close()
    if path.exists():
      aside = path.with_name(f'unusable-{step}')
      number = 0
      while aside.exists():
        number += 1
        aside = path.with_name(f'unusable-{step}-{number}')
      path.rename(aside)
    self._checkpointer = self._open()


def _abstract(leaf) -> jax.ShapeDtypeStruct:
  device = jax.local_devices()[0]
  sharding = getattr(leaf, 'sharding', None)
  sharding = sharding or jax.sharding.SingleDeviceSharding(device)
  return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


def _check_shapes(stored: Any, expected: Any) -> None:
  """Names the first array whose shape differs; Orbax's own error hides it."""
  stored_shapes = _shapes(stored)
  for name, shape in _shapes(expected).items():
    if stored_shapes.get(name) != shape:
      raise ValueError(
        f'{name} has shape {stored_shapes.get(name)} there, expected {shape}: '
        'it belongs to another model'
      )


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
  """Shapes by path; a name and an index of one place are spelled alike."""
  leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
  return {
    '/'.join(str(_key_name(key)) for key in path): tuple(leaf.shape)
    for path, leaf in leaves
    if hasattr(leaf, 'shape')
  }


def _key_name(key: Any) -> Any:
  for attribute in ('key', 'name', 'idx'):
    if hasattr(key, attribute):
      return getattr(key, attribute)
  return key


def _fingerprint(state: Any) -> str:
  return files.fingerprint(jax.tree.leaves(_plain(state)))


def _plain(tree: Any) -> Any:
  """The tree with typed random keys as the numbers that they are."""

  def plain(leaf):
    is_key = jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return jax.random.key_data(leaf) if is_key else leaf

  return jax.tree.map(plain, tree)


def _root_cause(error: BaseException) -> str:
  while error.__cause__ is not None:
    error = error.__cause__
  first_line = (str(error).splitlines() or [''])[0]
  return f'{type(error).__name__}: {first_line}'
