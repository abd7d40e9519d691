"""Samples to audit: .npy, .npz and folders of images → arrays of one scale.

Unlike images for training, samples to audit may be any numbers: pixels,
embeddings, rows of a table.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Int, Shaped, UInt8

from memjax.data import user_data

__all__ = [
  'SampleSet',
  'as_images',
  'check_scales',
  'check_shapes',
  'common_labels',
  'common_names',
  'load_samples',
  'match_channels',
]

_NAMES = ('samples', 'images', 'features', 'embeddings', 'x', 'data', 'arr_0')
# Honest sets differ in spread by a few per cent, 0 … 1 from 0 … 255 by 255.
_SCALES = 20.0
_LARGEST = 1e30
# A little noise may take pixels below zero, but not so far.
_MOST_NEGATIVE = -0.5
_BLOCK = 2**18  # numbers in float64 at a time


class SampleSet(NamedTuple):
  """Samples of one set.

  Attributes:
    values: [n, …], as they are in the file.
    labels: int [n], or None.
    class_names: of the labels, where they are folders; else empty.
  """

  values: Shaped[np.ndarray, '...']
  labels: Int[np.ndarray, ' n'] | None
  class_names: tuple[str, ...] = ()


def load_samples(name: str, path: str, labels_path: str = '') -> SampleSet:
  """Reads one set of samples.

  Args:
    name: of the setting, for errors.
    path: an .npy file of one array [n, …]; an .npz with the array under
      `samples`, `images`, `features`, `embeddings`, `x`, `data` or alone, and
      optionally `labels`; or a folder of images of one size, whose subfolders,
      if any, are classes; of one with splits, that which is called `name`.
    labels_path: an .npy file of integers [n], which replaces other labels.

  Returns:
    SampleSet(values, labels).

  Raises:
    ValueError: naming the file and what is wrong with it.
    FileNotFoundError: if there is no such file or folder.
  """
  place = Path(path).expanduser()
  names: tuple[str, ...] = ()
  if place.is_dir():
    values, labels, names = _read_images(name, place)
  elif not place.exists():
    raise FileNotFoundError(
      f'{name}={path!r} does not exist: expected an .npy or .npz file, or a '
      'folder of images.'
    )
  else:
    values, labels = _read_arrays(name, place)
  if labels_path:
    labels_file = Path(labels_path).expanduser()
    _, labels = _read_arrays(f'{name}_labels', labels_file, is_label=True)
    names = ()
  if values.ndim < 2 or 0 in values.shape:
    raise ValueError(
      f'{name}={path!r} has shape {values.shape}: expected [n, …], one sample '
      'a row and at least one number each.'
    )
  if values.dtype.kind not in 'iufb':
    raise ValueError(
      f'{name}={path!r} has dtype {values.dtype}: expected real numbers.'
    )
  return SampleSet(values, _check_labels(name, labels, len(values)), names)


def common_labels(
  *sets: SampleSet,
) -> tuple[Int[np.ndarray, ' _'], ...] | None:
  """The labels of all sets on one count, or None if one has none.

  A generator may miss a class, whose folder then is not there: folders are
  matched by their names.

  Raises:
    ValueError: if some labels are folders' names and some are numbers.
  """
  labels = [part.labels for part in sets if part.labels is not None]
  if len(labels) < len(sets):
    return None
  named = [bool(part.class_names) for part in sets]
  if not any(named):
    return tuple(labels)
  if not all(named):
    raise ValueError(
      'labels of some sets are names of folders, of others numbers: expected '
      'one kind; pass train_labels, test_labels and generated_labels.'
    )
  place = {name: index for index, name in enumerate(common_names(*sets))}
  return tuple(
    np.array([place[name] for name in part.class_names])[label]
    for part, label in zip(sets, labels, strict=True)
  )


def common_names(*sets: SampleSet) -> tuple[str, ...]:
  """The classes that `common_labels` counts; empty if they are numbers."""
  return tuple(sorted({name for part in sets for name in part.class_names}))


def check_scales(**sets: Shaped[np.ndarray, '...']) -> None:
  """Refuses sets of which one is on another scale, such as 0 … 255 and 0 … 1.

  Raises:
    ValueError: naming both sets and their ranges.
  """
  for name, values in sets.items():
    largest = _largest(values)
    if largest > _LARGEST:
      raise ValueError(
        f'{name} holds {largest:.3g}: expected numbers up to {_LARGEST:g}.'
      )
  first = next(iter(sets))
  for name in sets:
    for a, b in ((first, name), (name, first)):
      # Images of 0 … 1 beside images of −1 … 1.
      is_image = (
        sets[a].ndim > 2 and max(map(_largest, (sets[a], sets[b]))) <= 1
      )
      low = float(sets[b].min())
      if is_image and sets[a].min() >= 0 and low <= _MOST_NEGATIVE:
        raise ValueError(
          f'{a} has no negative value and {b} goes down to {low:.3g}: expected '
          'one scale, for instance 0 … 1 in all sets.'
        )
  spread = {name: _spread(values) for name, values in sets.items()}
  for name, values in sets.items():
    small, large = sorted((spread[first], spread[name]))
    if 0 < small * _SCALES < large < np.inf:
      ranges = [f'{np.nanmin(v):.4g} … {np.nanmax(v):.4g}' for v in (
        sets[first], values)]  # fmt: skip
      raise ValueError(
        f'{name} has values {ranges[1]} and {first} {ranges[0]}: expected one '
        'scale. Bring them to the same range, for instance 0 … 1.'
      )


def _largest(values: Shaped[np.ndarray, '...']) -> float:
  return max(abs(float(values.max())), abs(float(values.min())))


def _spread(values: Shaped[np.ndarray, '...']) -> float:
  """Standard deviation: a whole set in float64 may not fit into memory."""
  mean = values.mean(dtype=np.float64)
  rows = max(1, _BLOCK // values[0].size)
  squares = (
    np.square(values[start : start + rows] - mean).sum()
    for start in range(0, len(values), rows)
  )
  return float(np.sqrt(sum(squares) / values.size))


def match_channels(
  **sets: Shaped[np.ndarray, '...'],
) -> dict[str, Shaped[np.ndarray, '...']]:
  """Takes one of three equal channels where another set is grey.

  Some tools write grey images as RGB, torchvision's `save_image` for one.

  Example:
    >>> sets = {'train': np.ones((2, 8, 8)), 'test': np.ones((2, 8, 8, 3))}
    >>> match_channels(**sets)['test'].shape
    (2, 8, 8, 1)
  """
  if 1 not in map(_num_channels, sets.values()):
    return sets
  return {
    name: values[..., :1]
    if _num_channels(values) == 3 and (values == values[..., :1]).all()
    else values
    for name, values in sets.items()
  }


def _num_channels(values: Shaped[np.ndarray, '...']) -> int:
  """Of images; 0 of other samples."""
  # Grey images may lack the axis of their one channel.
  return {3: 1, 4: values.shape[-1]}.get(values.ndim, 0)


def check_shapes(**sets: Shaped[np.ndarray, '...']) -> None:
  """Refuses samples of different layouts, such as channels first and last.

  Raises:
    ValueError: naming both sets and the shapes of their samples.
  """
  first, *others = sets
  shape = lambda name: (*sets[name].shape[1:],) + (1,) * (sets[name].ndim == 3)
  for name in others:
    if shape(name) != shape(first):
      hint = 'images with channels last'
      if {_num_channels(sets[first]), _num_channels(sets[name])} == {1, 3}:
        hint = (
          'one set is grey, the other of 3 channels that differ; write both '
          "alike, with Pillow by image.convert('L') or image.convert('RGB')"
        )
      raise ValueError(
        f'{name} holds samples of shape {sets[name].shape[1:]} and {first} of '
        f'shape {sets[first].shape[1:]}: expected equal shapes ({hint}).'
      )


def as_images(
  values: Shaped[np.ndarray, 'n ...'],
  limits: tuple[float, float] | None = None,
) -> UInt8[np.ndarray, 'n h w c'] | None:
  """Samples as pictures to show, or None if they are none.

  Args:
    values: [n, …].
    limits: smallest and largest value of all that is shown beside them, from
      which follows what is black and what is white; None: of `values`.

  Example:
    >>> as_images(np.zeros((2, 8, 8))).shape, as_images(np.zeros((2, 64)))
    ((2, 8, 8, 1), None)
  """
  is_rank_3 = values.ndim == 3
  if not (is_rank_3 or (values.ndim == 4 and values.shape[-1] in (1, 3, 4))):
    return None
  if min(values.shape[1:3]) < 4:
    return None
  values = values[..., None] if is_rank_3 else values
  is_binary = limits is not None and 0 <= limits[0] and limits[1] <= 1
  if values.dtype == np.uint8 and not is_binary:
    return values
  values = values.astype(np.float32)
  low, high = limits or (float(values.min()), float(values.max()))
  if low >= 0 and 1 < high <= 255:
    unit = values / 255
  elif low >= 0 and high <= 1:
    unit = values
  elif low >= -1 and high <= 1:
    unit = (values + 1) / 2
  else:
    unit = (values - low) / ((high - low) or 1.0)
  return np.rint(unit * 255).astype(np.uint8)


def _read_images(name: str, folder: Path):
  """(values, labels or None, class names) of a folder."""
  splits = user_data.split_folders(folder)
  if splits and name not in splits:
    raise ValueError(
      f'{name}={str(folder)!r} holds the splits {", ".join(splits)}: pass one '
      f'of them, such as {str(folder / splits[-1])!r}.'
    )
  folder = folder / name if splits else folder
  dataset = user_data.read_folder(folder)
  names = user_data.class_names(folder)
  return dataset.images, dataset.labels if names else None, names


def _read_arrays(name: str, path: Path, *, is_label: bool = False):
  """(values, labels or None) of an .npy or .npz file."""
  if not path.exists():
    raise FileNotFoundError(f'{name}={str(path)!r} does not exist.')
  found = user_data.load_numpy(path)
  if isinstance(found, np.ndarray):
    return (None, found) if is_label else (found, None)

  read = lambda key: user_data.load_array(found, key, f'{name}={str(path)!r}')
  with found as archive:
    keys = list(archive.files)
    labels = read('labels') if 'labels' in keys else None
    if is_label and labels is None:
      raise ValueError(
        f'{name}={str(path)!r} holds {sorted(keys)}: expected `labels`.'
      )
    if is_label:
      return None, labels
    rest = [key for key in keys if key != 'labels']
    named = [key for key in _NAMES if key in rest]
    if not named and len(rest) != 1:
      raise ValueError(
        f'{name}={str(path)!r} holds {sorted(keys)}: expected the samples '
        f'under one of {", ".join(_NAMES)}.'
      )
    return read((named or rest)[0]), labels


def _check_labels(name: str, labels, num_samples: int):
  if labels is None:
    return None
  if labels.shape != (num_samples,) or labels.dtype.kind not in 'iu':
    raise ValueError(
      f'{name}_labels has shape {labels.shape} and dtype {labels.dtype}: '
      f'expected {num_samples} integers, one for each sample of {name}.'
    )
  if labels.min() < 0:
    raise ValueError(
      f'{name}_labels holds {labels.min()}: expected labels from 0.'
    )
  return labels.astype(np.int64)
