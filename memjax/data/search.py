"""Where a published data set's files are on this machine, or how to get them.

Whatever has a well-known name is verified before it is parsed.
"""

import contextlib
import os
import tarfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from absl import logging
from PIL import Image

from memjax import validate
from memjax.data import catalog, readers, tfds_reader, user_data
from memjax.data.dataset import Dataset
from memjax.data.download import fetch, open_plain, verify

__all__ = ['find_celeba', 'find_published', 'search_roots']

_CELEBA_PLACES = (
  'img_align_celeba.zip',
  'img_align_celeba',
  'celeba/img_align_celeba.zip',
  'celeba/img_align_celeba',
  # The copy on Kaggle is a folder in a folder.
  'img_align_celeba/img_align_celeba',
  '',
)


def _cache() -> Path:
  """Where downloads go."""
  return Path(os.environ.get('MEMJAX_DATA') or '~/.cache/memjax').expanduser()


def search_roots(name: str, data_dir: str | None) -> list[Path]:
  """The folders to look in for a published set, first to last."""
  cache = Path('~/.cache/memjax').expanduser()
  tfds = Path(os.environ.get('TFDS_DATA_DIR') or '~/tensorflow_datasets')
  bases = [_cache(), cache, Path('/usr/share/datasets'), tfds.expanduser()]
  if data_dir is not None:
    first = validate.folder('data_dir (--config.data.directory)', data_dir)
    bases.insert(0, first)
  return [root for base in dict.fromkeys(bases) for root in (base, base / name)]


def find_published(
  name: str,
  split: str,
  roots: Sequence[Path],
  *,
  published: catalog.Published | None = None,
) -> Dataset:
  """Reads a published set from the first root that has it, or downloads it.

  Args:
    name: its name.
    split: one of its splits.
    roots: folders to look in, first to last.
    published: what its files are; None: what the catalog says of `name`.

  Raises:
    ValueError: if a file is not the published one.
    FileNotFoundError: if no root has it and the download fails.
  """
  published = published or catalog.PUBLISHED[name]
  notes: list[str] = []
  dataset = _search(published, split, roots, notes)
  if dataset is None and published.tfds:
    dataset = _prepared(published.tfds, split, roots, notes)
  if dataset is None:
    folder = _cache() / name.partition(':')[0]
    notes += _download(published, split, folder)
    dataset = _search(published, split, [folder], notes)
  if dataset is None:
    wanted = '\n'.join(
      f'  {", ".join(layout.files[split])}, or .gz, directly or in '
      + ', '.join(filter(None, layout.places))
      for layout in published.layouts
    )
    raise _not_found(name, wanted, roots, notes, published.by_hand)
  return dataset


def _search(
  published: catalog.Published,
  split: str,
  roots: Sequence[Path],
  notes: list[str],
) -> Dataset | None:
  for root in roots:
    for layout in published.layouts:
      for place in layout.places:
        names = layout.files[split]
        files = _read_place(root / place, names, published.digests, notes)
        if files is not None:
          return user_data.make_dataset(*layout.read(files))
  return None


def _read_place(
  path: Path,
  names: Sequence[str],
  digests: Mapping[str, str],
  notes: list[str],
) -> list[bytes] | None:
  """The verified bytes of the files in a folder or archive that has them."""
  if path.is_file() and path.name in digests:
    _verify_local(path, digests[path.name])
    return _extract(path, names)
  found = [
    file
    for name in names
    for file in (path / name, path / f'{name}.gz')
    if file.is_file()
  ]
  paths = {file.name.removesuffix('.gz'): file for file in reversed(found)}
  if len(paths) < len(names):
    if paths:
      notes.append(f'{path} lacks {", ".join(set(names) - paths.keys())}.')
    return None
  for name in names:
    if not _is_right(paths[name], name, digests[name]):
      notes.append(f'{paths[name]} is that of another data set.')
      return None
  return [_read(paths[name]) for name in names]


def _verify_local(path: Path, expected: str) -> None:
  try:
    verify(path, expected)
  except ValueError as error:
    raise ValueError(f'{error} Delete it or move it away.') from error


def _is_right(path: Path, name: str, expected: str) -> bool:
  """False for another published set's file of that name; else as `verify`.

  MNIST and Fashion-MNIST name their files alike.
  """
  try:
    _verify_local(path, expected)
    return True
  except ValueError:
    for other in catalog.PUBLISHED.values():
      with contextlib.suppress(KeyError, ValueError):
        verify(path, other.digests[name])
        return False
    raise


def _read(path: Path) -> bytes:
  with open_plain(path) as file:
    return file.read()


def _extract(path: Path, names: Sequence[str]) -> list[bytes]:
  """Reads members by their last name; nothing is unpacked to the disk."""
  files: dict[str, bytes] = {}
  if path.suffix == '.zip':
    with zipfile.ZipFile(path) as archive:
      for member in archive.namelist():
        if Path(member).name in names:
          files[Path(member).name] = archive.read(member)
  else:
    with tarfile.open(path) as archive:
      for member in archive:
        data = archive.extractfile(member)
        if data is not None and Path(member.name).name in names:
          files[Path(member.name).name] = data.read()
  return [files[name] for name in names]


def _download(
  published: catalog.Published, split: str, folder: Path
) -> list[str]:
  """Fetches what makes the split; returns what went wrong."""
  wanted = {
    name
    for layout in published.layouts
    for name in (*layout.files[split], *layout.places)
  }
  for name, urls in published.urls.items():
    plain = name.removesuffix('.gz') if name not in wanted else name
    if plain in wanted and not (folder / name).exists():
      try:
        fetch(urls, folder / name, published.digests[plain])
      except OSError as error:
        return [f'Tried to download it:\n{error}']
  return []


def _prepared(
  name: str,
  split: str,
  roots: Sequence[Path],
  notes: list[str],
  *,
  num_items: int | None = None,
  transform: Callable[[Image.Image], Image.Image] | None = None,
) -> Dataset | None:
  """What TFDS has prepared in one of the roots, if anything."""
  for root in roots:
    if next((root / name).rglob('dataset_info.json'), None) is None:
      continue
    try:
      dataset = tfds_reader.read_tfds(
        name,
        split=split,
        data_dir=root,
        num_items=num_items,
        transform=transform,
      )
    except FileNotFoundError as error:
      notes.append(str(error))
      continue
    logging.warning(
      'Read %s: an id is a place in the shuffled files of TFDS, not in the '
      'published order.',
      root / name,
    )
    return dataset
  return None


def find_celeba(
  split: str,
  roots: Sequence[Path],
  *,
  num_items: int | None = None,
  splits: Mapping[str, range] = catalog.CELEBA_SPLITS,
  digest: str = catalog.CELEBA_ZIP,
) -> Dataset:
  """Reads CelebA from the first root that has it.

  The splits are those of list_eval_partition.txt (or .csv) where it lies beside
  the images, otherwise the published ones, which are the same. The zip is
  verified; single images cannot be, so of a folder only the first and last
  name of the split are.

  Args:
    split: 'train', 'validation' or 'test'.
    roots: folders to look in, first to last.
    num_items: decode only the first ones; None decodes all.
    splits: split -> numbers of its images, where no partition file is found.
    digest: checksum of img_align_celeba.zip.

  Returns:
    The faces, 32×32; an id is the image's number less 1. Labels are 0.
  """
  validate.one_of('split', split, splits)
  readers.count_items(num_items, len(splits[split]))
  notes: list[str] = []
  for path in (root / place for root in roots for place in _CELEBA_PLACES):
    numbers = _celeba_partition(path, splits)[split]
    if not numbers:
      notes.append(f'{path}: its partition file lists no image of {split!r}.')
      continue
    if path.is_file():
      _verify_local(path, digest)
    elif not (path / f'{numbers[0]:06d}.jpg').is_file():
      continue
    elif not (path / f'{numbers[-1]:06d}.jpg').is_file():
      notes.append(f'{path} lacks {numbers[-1]:06d}.jpg.')
      continue
    wanted = numbers[: readers.count_items(num_items, len(numbers))]
    images = readers.read_celeba(path, wanted)
    return user_data.make_dataset(images, ids=np.array(wanted) - 1)
  dataset = _prepared(
    'celeb_a',
    split,
    roots,
    notes,
    num_items=num_items,
    transform=readers.celeba_transform(32),
  )
  if dataset is None:
    places = '  000001.jpg, directly or in ' + ', '.join(_CELEBA_PLACES[:-1])
    raise _not_found('celeba', places, roots, notes, catalog.CELEBA_BY_HAND)
  return dataset


def _celeba_partition(
  path: Path, splits: Mapping[str, Sequence[int]]
) -> Mapping[str, Sequence[int]]:
  """The splits by the partition file of this folder or zip, if it has one."""
  for folder in (path, path.parent, path.parent.parent):
    for name in ('list_eval_partition.txt', 'list_eval_partition.csv'):
      if path.exists() and (folder / name).is_file():
        return readers.read_celeba_partition(folder / name)
  return splits


def _not_found(
  name: str,
  wanted: str,
  roots: Sequence[Path],
  notes: Sequence[str],
  by_hand: str,
) -> FileNotFoundError:
  folder = _cache() / name.partition(':')[0]
  looked = '\n'.join(f'  {root}' for root in roots)
  return FileNotFoundError(
    f'{name} was not found. Looked for\n{wanted}\nin\n{looked}\n'
    + ''.join(f'{note}\n' for note in notes)
    + f'To get it by hand: {by_hand}\nPut the files into {folder}, set '
    'MEMJAX_DATA to a folder that holds them, or pass data_dir '
    '(--config.data.directory).'
  )
