"""Data sets that TensorFlow Datasets has prepared, read without TensorFlow.

The only importer of tensorflow_datasets.
"""

import difflib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from memjax import validate
from memjax.data import readers, user_data
from memjax.data.dataset import Dataset

__all__ = ['read_tfds']


def read_tfds(
  name: str,
  *,
  split: str = 'train',
  data_dir: str | Path | None = None,
  num_items: int | None = None,
  transform: Callable[[Image.Image], Image.Image] | None = None,
) -> Dataset:
  """Reads the feature `image`, and `label` if there is one.

  An item's id is its place in TFDS's shuffled files, not the published order.

  Args:
    name: as in TFDS, with an optional configuration: NAME[/CONFIG].
    split: the name of a split.
    data_dir: TFDS's folder; None is its own default.
    num_items: keep (and decode) only the first ones; None keeps all.
    transform: applied to each image.

  Raises:
    ValueError: if TFDS does not know the name, or the set the split.
    FileNotFoundError: if it is not prepared in a format that can be read
      without TensorFlow; it holds the command that does so.
  """
  import tensorflow_datasets as tfds

  builder = _builder(tfds, name, data_dir)
  features = builder.info.features
  if 'image' not in features:
    raise ValueError(f'tfds:{name} has no images, only {list(features)}.')
  try:
    # Undecoded: the images go through the same decoder as everybody's.
    source: Any = builder.as_data_source(
      decoders={'image': tfds.decode.SkipDecoding()}
    )
  except NotImplementedError as error:
    raise FileNotFoundError(_how_to_prepare(name, builder, data_dir)) from error
  source = source[validate.one_of('split', split, source)]
  num_items = readers.count_items(num_items, len(source))
  labels = np.zeros(num_items, np.int64)

  def read(place: int) -> bytes:
    example = source[place]
    labels[place] = example.get('label', 0)
    return example['image']

  names = [f'tfds:{name}[{place}]' for place in range(num_items)]
  images = readers.decode_images(names, read, transform)
  return user_data.make_dataset(images, labels)


def _builder(tfds: Any, name: str, data_dir: str | Path | None) -> Any:
  """TFDS's builder; ValueError with the nearest name if there is none."""
  try:
    return tfds.builder(name, data_dir=data_dir)
  except ValueError as error:
    # Listing the community's data sets would need TensorFlow.
    known = tfds.list_builders(with_community_datasets=False)
    near = difflib.get_close_matches(name, known, n=1)
    hint = f' Did you mean tfds:{near[0]}?' if near else ''
    # TFDS goes on to list hundreds of names.
    first = str(error).partition('\n')[0]
    raise ValueError(
      f"source (--config.data.source)='tfds:{name}': {first}{hint}"
    ) from error


def _how_to_prepare(
  name: str, builder: Any, data_dir: str | Path | None
) -> str:
  """What is wrong with a builder's files, and the command that puts it right.

  TFDS does not add a format to a prepared folder: another one is needed.
  """
  default = os.environ.get('TFDS_DATA_DIR', '~/tensorflow_datasets')
  folder = Path(data_dir or default).expanduser()
  problem = f'{builder.data_path} does not exist or is unfinished'
  if builder.is_prepared():
    problem = f'{builder.data_path} is in the format tfrecord'
    folder = folder / 'array_record'
  return (
    f'tfds:{name}: {problem}, and memjax reads array_record. Prepare it once '
    "(this needs TensorFlow: pip install -e '.[prepare]'):\n"
    '  python -c "import tensorflow_datasets as tfds; '
    f"tfds.builder('{name}', data_dir='{folder}', "
    "file_format='array_record').download_and_prepare()\"\n"
    f"then load it with data_dir='{folder}' "
    f'(--config.data.directory={folder}).'
  )
