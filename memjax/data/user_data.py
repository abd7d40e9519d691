"""Somebody's own images: .npy, .npz and folders → `Dataset`.

Own data is checked, never guessed at: ambiguous values, mixed image sizes and
labels of another length are errors that name the array or file.
"""

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging
from jaxtyping import Shaped, UInt8

from memjax import validate
from memjax.data import readers
from memjax.data.dataset import Dataset

__all__ = [
  'as_uint8',
  'class_names',
  'load_array',
  'load_numpy',
  'make_dataset',
  'read_folder',
  'read_npy',
  'read_npz',
  'split_folders',
]

_MAX_ID = 2**31  # ids are folded into keys as 32-bit numbers
_NPZ_KEYS = {'groups', 'ids', 'images', 'is_test', 'jpeg', 'labels', 'offsets'}
_SPLITS = ('train', 'validation', 'test')


def as_uint8(
  name: str, values: Shaped[np.ndarray, '...']
) -> UInt8[np.ndarray, 'n h w c']:
  """Returns images as uint8 [n, h, w, c], or says why they are ambiguous.

  Args:
    name: the array's name, for the error.
    values: [n, h, w] or [n, h, w, c], c from 1 to 4: uint8; bool (×255); other
      integers within 0 … 255; or floats within [0, 1] (×255, rounded).

  Raises:
    ValueError: for any other shape or range, with the array's name, smallest
      and largest value.

  Example:
    >>> as_uint8('images', np.array([[[0.0, 0.5, 1.0]]])).ravel().tolist()
    [0, 128, 255]
  """
  shape = values.shape
  is_grey = values.ndim == 3
  if not (is_grey or (values.ndim == 4 and shape[3] <= 4)) or 0 in shape:
    raise ValueError(
      f'{name} has shape {shape}: expected [n, h, w] or [n, h, w, c] with 1 '
      'to 4 channels, none of them empty (channels come last).'
    )
  values = values[..., None] if is_grey else values
  if values.dtype == np.bool_:
    return values.astype(np.uint8) * np.uint8(255)
  if values.dtype.kind in 'iu' and values.max() == 1 and values.min() == 0:
    raise ValueError(
      f'{name} holds {values.dtype} values 0 and 1, which are black among 0 … '
      '255: expected bool for binary images (astype(bool)), or 0 and 255.'
    )
  if values.dtype == np.uint8:
    return values
  if values.dtype.kind not in 'iuf':
    raise ValueError(f'{name} has dtype {values.dtype}: expected real numbers.')
  low, high = values.min(), values.max()
  if values.dtype.kind in 'iu' and low >= 0 and high <= 255:
    return values.astype(np.uint8)
  # A NaN anywhere makes both comparisons False.
  if values.dtype.kind == 'f' and low >= 0 and high <= 1:
    return np.rint(values * np.float32(255)).astype(np.uint8)
  if values.dtype.kind == 'f':
    validate.finite(name, values[..., 0] if is_grey else values)
  raise ValueError(
    f'{name} holds {values.dtype} values from {low} to {high}: expected uint8, '
    'bool, integers within 0 … 255, or floats within [0, 1]; convert the '
    'array before saving it.'
  )


def make_dataset(
  images: UInt8[np.ndarray, 'n h w c'],
  labels: Shaped[np.ndarray, '...'] | None = None,
  ids: Shaped[np.ndarray, '...'] | None = None,
  groups: Shaped[np.ndarray, '...'] | None = None,
) -> Dataset:
  """Checks what goes with the images; labels default to 0, ids to 0 … n-1.

  Raises:
    ValueError: if an array has another length or is not of integers, or if an
      id is negative, 2**31 or more, or occurs twice.
  """
  num_items = len(images)
  labels = np.zeros(num_items, np.int64) if labels is None else labels
  ids = np.arange(num_items) if ids is None else ids
  labels = _integers('labels', labels, num_items)
  if groups is not None:
    groups = _integers('groups', groups, num_items)
  ids = _integers('ids', ids, num_items)
  if ids.min() < 0 or ids.max() >= _MAX_ID:
    raise ValueError(
      f'ids range from {ids.min()} to {ids.max()}: expected 0 … 2**31 - 1.'
    )
  values, counts = np.unique(ids, return_counts=True)
  if counts.max() > 1:
    raise ValueError(
      f'ids holds {values[counts.argmax()]} {counts.max()} times: expected '
      'unique ids.'
    )
  return Dataset(images, labels, ids, groups)


def _integers(name: str, values: np.ndarray, num_items: int) -> np.ndarray:
  """Returns one int64 an image; ValueError otherwise."""
  if values.shape != (num_items,):
    raise ValueError(
      f'{name} has shape {values.shape}: expected ({num_items},), one for each '
      'image.'
    )
  if values.dtype.kind not in 'iu':
    raise ValueError(f'{name} has dtype {values.dtype}: expected integers.')
  return values.astype(np.int64)


def read_npy(path: str | Path) -> Dataset:
  """Reads one array of images; `as_uint8` says what is accepted."""
  return make_dataset(as_uint8(str(path), load_numpy(path)))


def load_numpy(path: str | Path) -> Any:
  """`np.load` without pickles; an error with the path for what it refuses."""
  file = Path(path).expanduser()
  if not file.is_file():
    problem = 'is a folder' if file.exists() else 'does not exist'
    raise FileNotFoundError(f'{path} {problem}: expected an .npy or .npz file.')
  try:
    return np.load(file, allow_pickle=False)
  except (ValueError, EOFError, zipfile.BadZipFile) as error:
    raise ValueError(
      f'{path} is not a NumPy file of plain numbers, or damaged: expected an '
      '.npy or .npz file, as np.save and np.savez write arrays of numbers.'
    ) from error


def load_array(archive: Mapping[str, Any], key: str, path: Any) -> np.ndarray:
  """One array of an .npz; ValueError with the path for what needs a pickle."""
  try:
    return archive[key]
  except (ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
    raise ValueError(
      f'{path}: {key} is damaged, or holds objects: expected an array of '
      'numbers, such as np.stack makes of arrays of one shape.'
    ) from error


def read_npz(
  path: str | Path, *, split: str = 'train', num_items: int | None = None
) -> Dataset:
  """Reads the images of one split from an .npz archive.

  Either `images` (see `as_uint8`), or `jpeg` (the bytes of all files, one
  after the other, uint8) with `offsets` [n] or [n + 1] of each file's first
  byte. Optional, one entry an image: `labels`, `ids`, `groups` (integers) and
  `is_test` (bool), which makes the splits 'train' and 'test'.

  Args:
    path: the archive. Without `ids`, an image's id is its place in it.
    split: 'train', or 'test' where the archive has `is_test`.
    num_items: keep (and decode) only the first of the split; None keeps all.

  Raises:
    ValueError: if an array is missing, of another length or out of range.
  """
  arrays = _load_archive(path)
  if 'images' in arrays:
    images = as_uint8('images', arrays['images'])
    num_images, pick = len(images), lambda rows: images[rows]
  else:
    starts = _with_end(arrays['jpeg'], arrays['offsets'])
    num_images = len(starts) - 1
    pick = lambda rows: _decode_rows(path, arrays['jpeg'], starts, rows)
  rows = _rows_of_split(path, num_images, arrays.get('is_test'), split)
  rows = rows[: readers.count_items(num_items, rows.size)]
  # The whole columns are checked: an id may recur in the other split.
  whole = make_dataset(
    np.zeros((num_images, 1, 1, 1), np.uint8),
    *(arrays.get(key) for key in ('labels', 'ids', 'groups')),
  )
  groups = None if whole.groups is None else whole.groups[rows]
  return Dataset(pick(rows), whole.labels[rows], whole.ids[rows], groups)


def _decode_rows(
  path: str | Path, jpeg: np.ndarray, starts: np.ndarray, rows: np.ndarray
) -> np.ndarray:
  names = [f'{path}[{row}]' for row in rows]
  return readers.decode_images(
    names, lambda i: jpeg[starts[rows[i]] : starts[rows[i] + 1]].tobytes()
  )


def _load_archive(path: str | Path) -> dict[str, np.ndarray]:
  """The known arrays of an .npz; one that needs a pickle is a ValueError."""
  archive = load_numpy(path)
  if isinstance(archive, np.ndarray):
    raise ValueError(f'{path} holds a single array: read it with npy:{path}.')
  with archive:
    keys = set(archive.files)
    if 'images' not in keys and not {'jpeg', 'offsets'} <= keys:
      raise ValueError(
        f'{path} holds {sorted(keys)}: expected `images`, or `jpeg` and '
        '`offsets`.'
      )
    if keys - _NPZ_KEYS:
      logging.warning(
        '%s: %s are not used; known are %s.',
        path, sorted(keys - _NPZ_KEYS), sorted(_NPZ_KEYS),
      )  # fmt: skip
    return {key: load_array(archive, key, path) for key in keys & _NPZ_KEYS}


def _rows_of_split(
  path: str | Path, num_images: int, is_test: np.ndarray | None, split: str
) -> np.ndarray:
  """The rows of an archive that belong to a split."""
  if is_test is None:
    validate.one_of('split', split, ['train'])
    return np.arange(num_images)
  validate.one_of('split', split, ['train', 'test'])
  if is_test.dtype != np.bool_ or is_test.shape != (num_images,):
    raise ValueError(
      f'{path}: is_test has dtype {is_test.dtype} and shape {is_test.shape}: '
      f'expected bool and ({num_images},), one for each image.'
    )
  rows = np.flatnonzero(is_test if split == 'test' else ~is_test)
  if not rows.size:
    raise ValueError(f'{path} has no image in split {split!r}.')
  return rows


def _with_end(jpeg: np.ndarray, offsets: np.ndarray) -> np.ndarray:
  """Checks the offsets; appends the last file's end where it is implied."""
  if jpeg.dtype != np.uint8 or jpeg.ndim != 1:
    raise ValueError(
      f'jpeg has dtype {jpeg.dtype} and shape {jpeg.shape}: expected uint8 on '
      'one axis.'
    )
  if offsets.dtype.kind not in 'iu' or offsets.ndim != 1 or not offsets.size:
    raise ValueError(
      f'offsets has dtype {offsets.dtype} and shape {offsets.shape}: expected '
      'integers on one axis.'
    )
  offsets = offsets.astype(np.int64)
  if offsets[-1] != jpeg.size:
    offsets = np.append(offsets, jpeg.size)
  if offsets[0] < 0 or (np.diff(offsets) <= 0).any():
    raise ValueError(
      f'offsets must increase from 0 to jpeg.size={jpeg.size}, one file each.'
    )
  return offsets


def class_names(path: str | Path) -> tuple[str, ...]:
  """The class folders that labels of `read_folder` count, in their order.

  Empty if the images lie directly in the folder.
  """
  folder = Path(path).expanduser()
  files = _image_files(folder)
  if files[0].parent == folder:
    return ()
  return tuple(sorted({file.relative_to(folder).parts[0] for file in files}))


def read_folder(
  path: str | Path, *, split: str = 'train', num_items: int | None = None
) -> Dataset:
  """Reads a folder of images of one size, sorted by name.

  Subfolders are classes: labels 0, 1, … in the order of their names. Folders
  called train, validation or test, and nothing else, at the top are splits;
  without them all is 'train'. Grey if every image is, else RGB; transparency is
  dropped.

  Args:
    path: the folder.
    split: 'train', or the name of a split's folder.
    num_items: keep (and decode) only the first ones; None keeps all.

  Raises:
    ValueError: if there is no image, or one of another size; if splits lie
      beside other folders with images.
  """
  folder = validate.folder('path', path)
  splits = split_folders(folder)
  validate.one_of('split', split, splits or ['train'])
  folder = folder / split if splits else folder
  files = _image_files(folder)
  class_of = [file.relative_to(folder).parts[0] for file in files]
  has_classes = files[0].parent != folder
  labels = np.unique(class_of, return_inverse=True)[1] * has_classes
  files = files[: readers.count_items(num_items, len(files))]
  images = readers.decode_images(files, lambda i: files[i].read_bytes())
  return make_dataset(images, labels[: len(files)])


def split_folders(path: str | Path) -> tuple[str, ...]:
  """The splits at the top of a folder of images; empty if there are none.

  Raises:
    ValueError: one of them lies beside another folder with images: then it may
      be a class of that name.
  """
  folder = Path(path).expanduser()
  splits = tuple(name for name in _SPLITS if (folder / name).is_dir())
  if splits:
    tops = {file.relative_to(folder).parts[0] for file in _all_images(folder)}
    other = sorted(tops - {*splits})
    if other:
      raise ValueError(
        f'{folder} holds {splits[0]!r} beside {other[0]!r}: a split or a '
        'class? Rename the class, or move the splits into a folder of their '
        'own.'
      )
  return splits


def _image_files(folder: Path) -> list[Path]:
  """The images of a folder: all in class folders, or all directly in it."""
  files = _all_images(folder)
  if not files:
    raise ValueError(f'{folder} holds no image.')
  outside = [file for file in files if file.parent == folder]
  if outside and len(outside) < len(files):
    raise ValueError(
      f'{outside[0]} lies beside class folders that hold images: move it.'
    )
  return files


def _all_images(folder: Path) -> list[Path]:
  """Images anywhere in a folder, sorted, without what is hidden."""
  return sorted(
    file
    for file in folder.rglob('*')
    if file.suffix.lower() in readers.IMAGE_SUFFIXES
    and not any(p.startswith('.') for p in file.relative_to(folder).parts)
  )
