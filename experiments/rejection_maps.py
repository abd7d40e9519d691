"""t-SNE maps of training images and samples: Figures 4 and 12.

  python experiments/rejection_maps.py --run=FOLDER --out=FOLDER --label=1

FOLDER is a study of rejection. The reader should see: over training, the
samples move onto the training images (4); samples within the mean distance of
training images cover the data, those farther away lie outside (12). A map is
one of many, from one seed: it shows, it does not prove. The numbers beside it
are the mean distances in the embedding itself.
"""

import pathlib

import numpy as np
import rejection_drawing
import rejection_folder
import study_folder
from absl import app, flags
from sklearn.manifold import TSNE

from memjax.analysis.rejection.analysis import measure_distances
from memjax.rejection.threshold import rejection_threshold
from memjax.studies.rejection_embeddings import features

_FEWEST = 5  # samples that a panel needs
_MOST = 1000  # training images in a map


def embed_together(parts: list[np.ndarray]) -> list[np.ndarray]:
  """One map [n, 2] of all parts."""
  joined = np.concatenate(parts)
  perplexity = min(30.0, (len(joined) - 1) / 3)
  flat = TSNE(perplexity=perplexity, random_state=0).fit_transform(joined)
  return np.split(flat, np.cumsum([len(part) for part in parts])[:-1])


def main(run: str, out: str, arm: str, label: int) -> None:
  """Draws both figures for one class."""
  folder = pathlib.Path(run)
  embedding = rejection_folder.load_embedding(folder, 'rejecting')
  sets = rejection_folder.embed_sets(folder, 'rejecting')
  own = rejection_folder.load_images(folder).train.labels == label
  train = sets.train[own][:_MOST]
  arm = arm or rejection_folder.last_arm(folder)
  stages = {}
  for path in sorted((folder / 'arrays/stages').glob(f'{arm}_*.npz')):
    with np.load(path) as saved:
      chosen = saved['images'][saved['labels'] == label]
    stages[f'step {int(path.stem.split("_")[-1]):,}'] = features(
      embedding, chosen
    )
  images, labels = (x[0] for x in rejection_folder.read_samples(folder, arm))
  samples = features(embedding, images[labels == label])
  near = measure_distances(sets, samples).train
  mean = rejection_threshold(sets.train, metric=sets.metric)
  halves = {
    f'd ≤ {mean:.3g}': samples[near <= mean],
    f'd > {mean:.3g}': samples[near > mean],
  }
  pictures, numbers = {}, {'mean_train_distance': {'value': mean}}
  for name, parts in (('stages', stages), ('halves', halves)):
    parts = {k: v for k, v in parts.items() if len(v) >= _FEWEST}
    if not parts:
      continue
    at, *maps = embed_together([train, *parts.values()])
    pictures[f'map_{name}'] = rejection_drawing.points(
      {k: (at, m) for k, m in zip(parts, maps, strict=True)},
      f'Class {label}: training images and samples',
    )
    numbers[name] = {
      k: float(measure_distances(sets, v).train.mean())
      for k, v in parts.items()
    }
  study_folder.keep(out, 'rejection_maps', pictures, numbers)


if __name__ == '__main__':
  _RUN = flags.DEFINE_string('run', None, 'A study.', required=True)
  _OUT = flags.DEFINE_string('out', None, 'For pictures.', required=True)
  _ARM = flags.DEFINE_enum(
    'arm', '', ['', *rejection_folder.ARMS], 'Empty: with rejection, if any.'
  )
  _CLASS = flags.DEFINE_integer('label', 1, 'Class.')
  app.run(lambda _: main(_RUN.value, _OUT.value, _ARM.value, _CLASS.value))
