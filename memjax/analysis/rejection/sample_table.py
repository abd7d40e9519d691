"""The table of one seed's samples, to sort and filter, and its file."""

import pathlib
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Shaped

from memjax import files
from memjax.analysis import page
from memjax.analysis.rejection.verdict import WORDS, Study
from memjax.scores.copying import CopyingTest

__all__ = ['Shown', 'all_samples']

_NUM_ROWS = 10_000  # half a megabyte
_NUM_PICTURES = 400


class Shown(NamedTuple):
  """One seed's samples.

  Attributes:
    images: uint8 [n, h, w, c].
    labels: [n], the class of each.
    features: [n, d] in the embedding that rejects.
    seed: which.
  """

  images: Shaped[np.ndarray, 'n h w c']
  labels: Int[np.ndarray, ' n']
  features: Float[np.ndarray, 'n d']
  seed: int


def all_samples(
  workdir: pathlib.Path,
  study: Study,
  name: str,
  part: Shown,
  copying: CopyingTest,
) -> page.Section:
  """Samples, most suspicious first; samples_<name>.csv gets all of them.

  Args:
    workdir: of the study.
    study: names the embedding.
    name: of the arm.
    part: its samples.
    copying: what is found of them in the embedding that rejects.
  """
  columns = {
    'sample': np.arange(len(part.labels)),
    'class': part.labels,
    'ratio': copying.sample_ratio,
    'q': copying.q_value,
    'd_train': copying.d_train,
    'nearest_train': copying.nearest_train,
    'd_test': copying.d_test,
    'nearest_test': copying.nearest_test,
  }
  file = f'samples_{name}.csv'
  # As the file of an audit names them.
  names = {'sample': 'index', 'class': 'label'}
  files.write_csv(
    workdir / file,
    {names.get(key, key): values for key, values in columns.items()},
  )
  # Of exact copies, those of common content come last.
  order = np.lexsort((-copying.d_test, -copying.sample_ratio))[:_NUM_ROWS]
  images = part.images[order[:_NUM_PICTURES]]
  sets = study.sets[0]
  body = (
    f'The samples of one seed, {part.seed}, by {sets.metric} distance in the '
    f'embedding that rejects ({sets.name}). The ratio is d_test/d_train, ∞ for '
    'an exact copy. q: of the samples with a ratio as high, at most this share '
    'is expected not to be copies, judged by the test images, each held '
    'against the training and the other test images. A high q does not '
    'acquit: many samples can show together what none shows alone, and what '
    'keeps its distance in this embedding may be a copy in another.\n\n'
    'Sort by a column with its button; filter with the fields. Samples and '
    f'training images count from 0. {file} names the nearest test images too.'
  )
  if len(order) < len(part.labels):
    body += (
      f' Here are the {len(order):,} most suspicious of '
      f'{len(part.labels):,} samples; {file} has all.'
    )
  body += f' The {len(images)} highest ratios come with their pictures.'
  filters = {'class': 'equal', 'ratio': 'least', 'q': 'most', 'd_train': 'most'}
  del columns['nearest_test']  # the table is wide
  columns = {key: values[order] for key, values in columns.items()}
  return page.Section(
    f'All samples {WORDS[name]}, seed {part.seed}',
    body,
    items=page.ItemTable(columns, filters, 'ratio', images, file),
  )
