"""Names of data sets → `Dataset`."""

from pathlib import Path
from typing import Any

import numpy as np

from memjax import validate
from memjax.data import catalog, readers, search, tfds_reader, user_data
from memjax.data.dataset import Dataset

__all__ = ['class_names', 'load_dataset']

_OWN = ('npz', 'npy', 'folder', 'tfds')
_SOURCE = 'source (--config.data.source)'


def load_dataset(
  source: str,
  *,
  split: str = 'train',
  data_dir: str | None = None,
  pad: int = 0,
  num_items: int | None = None,
) -> Dataset:
  """Loads a data set by name, from this machine or from its publisher.

  Published sets are looked for in `data_dir`, `$MEMJAX_DATA`,
  ~/.cache/memjax, /usr/share/datasets and ~/tensorflow_datasets, each in the
  layouts of torchvision, Debian and npm too; then downloaded to
  `$MEMJAX_DATA`/NAME or ~/.cache/memjax/NAME. A file is read only if its
  checksum is that of the published one; what cannot be checked are the single
  images of an unpacked CelebA, and what TensorFlow Datasets has prepared
  (whose order, and so the ids, differ: it is used last, with a warning).

  Args:
    source: what to load:
      `digits`: scikit-learn's 1,797 digits, 8×8, without a download;
      `mnist`, `fashion_mnist`: 28×28 grey, 60,000 and 10,000;
      `cifar10`, `cifair10`: 32×32 colour, 50,000 and 10,000;
      `cifar10_1` (v6), `cifar10_1:v4`: 2,000 and 2,021 new test images;
      `celeba`: 162,770, 19,867 and 19,962 faces, cropped and resized to 32×32;
        for non-commercial research only, never downloaded; decoding the
        training set takes two minutes on two cores;
      `npz:PATH`, `npy:PATH`, `folder:PATH`: own images, see
        `memjax.data.user_data`;
      `tfds:NAME[/CONFIG]`: what TensorFlow Datasets has prepared.
    split: 'train', 'test' or 'validation', where the set has it.
    data_dir: a folder to look in first, for published sets and TFDS. It may
      hold the files directly.
    pad: zero pixels added on each side; 2 makes MNIST 32×32, as in the paper.
    num_items: keep only the first ones; None keeps all.

  Returns:
    A `Dataset`; an item's id is its place in the published order. Labels are 0
    where there are none.

  Raises:
    ValueError: if an argument is out of its range, an array is not acceptable,
      or a file is not the published one.
    FileNotFoundError: if the files are nowhere; it lists the places looked in
      and how to get them.

  Example:
    >>> digits = load_dataset('digits', pad=2, num_items=3)
    >>> digits.images.shape, digits.labels.tolist(), digits.ids.tolist()
    ((3, 12, 12, 1), [0, 1, 2], [0, 1, 2])
  """
  pad = validate.integer('pad', pad, 0)
  if num_items is not None:
    num_items = validate.integer('num_items', num_items, 1)
  kind, _, path = source.partition(':')
  if kind in _OWN and path:
    dataset = _own(kind, path, split, data_dir, num_items)
  else:
    _check_name(source)
    dataset = _named(source, split, data_dir, num_items)
  return _padded(_first(dataset, num_items), pad)


def _check_name(source: str) -> None:
  """ValueError unless it is that of a published set."""
  named = ['digits', 'celeba', *catalog.PUBLISHED]
  path = Path(source).expanduser()
  kind = 'folder' if source and path.is_dir() else path.suffix[1:]
  if source not in named and kind in _OWN[:3]:
    raise ValueError(
      f'{_SOURCE}={source!r}: a path needs its kind. Did you mean '
      f'{kind}:{source}?'
    )
  allowed = [*named, 'tfds:NAME', *(f'{kind}:PATH' for kind in _OWN[:3])]
  validate.one_of(_SOURCE, source, allowed)


def class_names(source: str, split: str = 'train') -> tuple[str, ...]:
  """What the labels of a source count, where it says so: folders' names.

  Args:
    source: as for `load_dataset`.
    split: as for `load_dataset`.

  Returns:
    The name of label 0, of label 1, …; empty if labels are numbers.
  """
  kind, _, path = source.partition(':')
  if kind != 'folder':
    return ()
  in_split = split in user_data.split_folders(path)
  return user_data.class_names(Path(path) / split if in_split else path)


def _own(
  kind: str, path: str, split: str, data_dir: str | None, num_items: int | None
) -> Dataset:
  if kind == 'tfds':
    return tfds_reader.read_tfds(
      path, split=split, data_dir=data_dir, num_items=num_items
    )
  try:
    if kind == 'npy':
      validate.one_of('split', split, ['train'])
      return user_data.read_npy(path)
    read = {'npz': user_data.read_npz, 'folder': user_data.read_folder}[kind]
    return read(path, split=split, num_items=num_items)
  except (ValueError, FileNotFoundError) as error:
    same = ValueError if isinstance(error, ValueError) else FileNotFoundError
    raise same(f"{_SOURCE}='{kind}:{path}': {error}") from error


def _named(
  source: str, split: str, data_dir: str | None, num_items: int | None
) -> Dataset:
  roots = search.search_roots(source.partition(':')[0], data_dir)
  if source == 'digits':
    return _digits(split)
  if source == 'celeba':
    return search.find_celeba(split, roots, num_items=num_items)
  validate.one_of('split', split, catalog.PUBLISHED[source].layouts[0].files)
  return search.find_published(source, split, roots)


def _digits(split: str) -> Dataset:
  from sklearn.datasets import load_digits

  validate.one_of('split', split, ['train'])
  bunch: Any = load_digits()
  images = np.rint(bunch.images * 255 / 16).astype(np.uint8)
  return user_data.make_dataset(images[..., None], bunch.target)


def _first(dataset: Dataset, num_items: int | None) -> Dataset:
  stop = readers.count_items(num_items, len(dataset.images))
  groups = None if dataset.groups is None else dataset.groups[:stop]
  return Dataset(
    dataset.images[:stop], dataset.labels[:stop], dataset.ids[:stop], groups
  )


def _padded(dataset: Dataset, pad: int) -> Dataset:
  if not pad:
    return dataset
  sides = ((0, 0), (pad, pad), (pad, pad), (0, 0))
  return dataset._replace(images=np.pad(dataset.images, sides))
