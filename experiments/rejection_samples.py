"""Samples by their distance to the training images: Figures 1-3, 5 and 7.

  python experiments/rejection_samples.py --run=FOLDER --out=FOLDER \
      --references=test,cifar10_1

FOLDER is a study of rejection, at best with --config.compare=True; references
are named as in rejection_references.py. The reader should see: whether samples
lie nearer to the training images than test images do (1), and how near each
reference set and the training images themselves lie (5); that near samples look
better, but not among the nearest fifth (2, 3); that samples with and without
rejection look alike (7).
"""

import pathlib

import numpy as np
import rejection_drawing
import rejection_folder
import study_folder
from absl import app, flags

from memjax.analysis.rejection import figures as rejection_figures
from memjax.analysis.rejection.analysis import measure_distances
from memjax.distances import exact_neighbors
from memjax.studies.rejection_embeddings import features

_COLUMNS = 10
# Percentiles of the distance, a row of samples each.
_ROWS = {'whole': (20, 40, 60, 80, 100), 'nearest': (4, 8, 12, 16, 20)}


def sorted_rows(
  images: np.ndarray, distance: np.ndarray, percentiles: tuple[int, ...]
) -> np.ndarray:
  """Ten samples up to each percentile of the distance, row after row."""
  order = np.argsort(distance, kind='stable')
  stops = [max(_COLUMNS, round(len(order) * p / 100)) for p in percentiles]
  rows = [order[stop - _COLUMNS : stop] for stop in stops]
  return images[np.concatenate(rows)]


def main(
  run: str, out: str, label: int, references: tuple[str, ...] = ('test',)
) -> None:
  """Draws all, and keeps the distances' quantiles."""
  folder = pathlib.Path(run)
  sets = rejection_folder.embed_sets(folder, 'rejecting')
  embedding = rejection_folder.load_embedding(folder, 'rejecting')
  threshold = rejection_folder.read_numbers(folder)['threshold']
  of_sets = {
    name: measure_distances(
      sets,
      features(embedding, rejection_folder.reference(folder, name).images),
    ).train
    for name in references
  }
  of_test = measure_distances(sets, sets.test).train
  own = exact_neighbors(
    sets.train, sets.train, metric=sets.metric, exclude_self=True
  )
  of_sets['training images to one another'] = own.distance[:, 0]
  pictures, near = {}, {}
  for arm in rejection_folder.read_numbers(folder)['arms']:
    images, labels = (x[0] for x in rejection_folder.read_samples(folder, arm))
    near[arm] = measure_distances(sets, features(embedding, images)).train
    pictures[f'samples_{arm}'] = rejection_figures.sample_grid(images[:50])
    is_own = labels == label
    for name, percentiles in _ROWS.items():
      rows = sorted_rows(images[is_own], near[arm][is_own], percentiles)
      pictures[f'sorted_{name}_{arm}'] = rejection_figures.sample_grid(rows)
  pictures['distances'] = rejection_figures.distances(
    of_test, near, threshold, sets.metric
  )
  pictures['references'] = rejection_drawing.nearest(of_sets, sets.metric)
  at = np.linspace(0, 1, 11)
  numbers = {
    name: {'deciles': np.quantile(d, at), 'mean': float(d.mean())}
    for name, d in {'test': of_test, **of_sets, **near}.items()
  }
  study_folder.keep(out, 'rejection_samples', pictures, numbers)


if __name__ == '__main__':
  _RUN = flags.DEFINE_string('run', None, 'A study.', required=True)
  _OUT = flags.DEFINE_string('out', None, 'For pictures.', required=True)
  _CLASS = flags.DEFINE_integer('label', 0, 'Class of the sorted samples.')
  _TO = flags.DEFINE_list('references', 'test', 'Reference sets.')
  app.run(
    lambda _: main(_RUN.value, _OUT.value, _CLASS.value, tuple(_TO.value))
  )
