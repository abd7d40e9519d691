"""Training, test and further images of one source, for sample generators."""

from typing import NamedTuple

import numpy as np

from memjax import validate
from memjax.data.dataset import Dataset
from memjax.data.sources import load_dataset

__all__ = ['ImageSets', 'load_image_sets']


class ImageSets(NamedTuple):
  """Three sets of images without common items.

  Attributes:
    train: what the generator is trained on.
    test: what it never sees.
    further: neither, for an encoder to be trained on; empty if none was asked
      for.
  """

  train: Dataset
  test: Dataset
  further: Dataset


def load_image_sets(
  source: str,
  *,
  num_train: int,
  num_test: int,
  num_further: int = 0,
  split: str = 'train',
  test_split: str = '',
  data_dir: str | None = None,
  pad: int = 0,
  shrink: int = 1,
  seed: int = 0,
) -> ImageSets:
  """Draws the sets at random from a source.

  Args:
    source: as `load_dataset` names it.
    num_train: 0: all that are left.
    num_test: 0: all of `test_split`.
    num_further: from the training split, like the training set.
    split: of the training set.
    test_split: of the test set; '': held out from `split`.
    data_dir: where to look first.
    pad: zero pixels added on each side.
    shrink: means of shrink × shrink pixels replace them, after padding.
    seed: of the draw.

  Returns:
    ImageSets(train, test, further).

  Raises:
    ValueError: more items than there are, sizes that are not divisible, no
      test split and num_test = 0.
    FileNotFoundError: as `load_dataset`.

  Example:
    >>> sets = load_image_sets('digits', num_train=500, num_test=300)
    >>> [len(part.ids) for part in sets]
    [500, 300, 0]
  """
  for name, value in (
    ('num_train', num_train), ('num_test', num_test),
    ('num_further', num_further), ('seed', seed),
  ):  # fmt: skip
    validate.integer(name, value, 0)
  validate.integer('shrink', shrink, 1)
  rng = np.random.default_rng([seed, 2])

  def load(name: str) -> Dataset:
    whole = load_dataset(source, split=name, data_dir=data_dir, pad=pad)
    return _rows(_shrunken(whole, shrink), rng.permutation(len(whole.ids)))

  rest = load(split)
  if test_split:
    test, _ = _cut(load(test_split), 'num_test', num_test)
  else:
    validate.integer('num_test', num_test, 1)
    test, rest = _cut(rest, 'num_test', num_test)
  further, rest = _cut(rest, 'num_further', num_further, all_if_zero=False)
  train, _ = _cut(rest, 'num_train', num_train)
  # Classes that occur, from 0: of others a generator would make images too.
  sets = train, test, further
  names = np.unique(np.concatenate([part.labels for part in sets]))
  return ImageSets(
    *(
      part._replace(labels=np.searchsorted(names, part.labels)) for part in sets
    )
  )


def _shrunken(dataset: Dataset, shrink: int) -> Dataset:
  n, height, width, channels = dataset.images.shape
  if height % shrink or width % shrink:
    raise ValueError(
      f'shrink={shrink}: expected a divisor of {height} and {width}, the rows '
      'and columns after padding.'
    )
  shape = n, height // shrink, shrink, width // shrink, shrink, channels
  means = dataset.images.reshape(shape).mean(axis=(2, 4))
  return dataset._replace(images=np.rint(means).astype(np.uint8))


def _cut(
  dataset: Dataset, name: str, number: int, *, all_if_zero: bool = True
) -> tuple[Dataset, Dataset]:
  """The first items, and the rest."""
  if number > len(dataset.ids):
    raise ValueError(
      f'{name}={number}: expected at most {len(dataset.ids)}, the images that '
      'are left.'
    )
  stop = number or (len(dataset.ids) if all_if_zero else 0)
  return _rows(dataset, slice(stop)), _rows(dataset, slice(stop, None))


def _rows(dataset: Dataset, rows: slice | np.ndarray) -> Dataset:
  groups = None if dataset.groups is None else dataset.groups[rows]
  return Dataset(
    dataset.images[rows], dataset.labels[rows], dataset.ids[rows], groups
  )
