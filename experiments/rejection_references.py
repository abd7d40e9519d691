"""C_T in other embeddings and against other test sets: Figures 10 and 11.

  python experiments/rejection_references.py --runs=FOLDER --out=FOLDER \
      --embeddings=pixels,encoder --references=test,cifar10_1,cifair10

FOLDER holds threshold_* of rejection_frontier.py. 'test' is the study's own
test set; 'train' is further images of the training split; others are names of
data sets, of which the test split is taken. The reader should see whether C_T
rises with τ in embeddings that did not reject, and against every test set.
"""

import pathlib

import numpy as np
import rejection_drawing
import rejection_folder
import run_folder
from absl import app, flags

from memjax.analysis.rejection.analysis import summarize
from memjax.data.dataset import Dataset
from memjax.data.image_sets import load_image_sets


def reference(folder: pathlib.Path, name: str) -> Dataset:
  """A set of test images, prepared as the study's images are."""
  images = rejection_folder.load_images(folder)
  if name == 'test':
    return images.test
  if name == 'train':
    return images.further
  data = rejection_folder.read_config(folder).data
  options = {'pad': data.pad, 'shrink': data.shrink, 'split': 'test'}
  sets = load_image_sets(
    name, num_train=0, num_test=0, test_split='test',
    data_dir=data.directory or None, **options,
  )  # fmt: skip
  return sets.test


def row(folder: pathlib.Path, embedding: str, name: str) -> list[float]:
  """Threshold, C_T, its interval over seeds."""
  test = reference(folder, name)
  sets = rejection_folder.embed_sets(folder, embedding, test)
  arm = summarize(rejection_folder.score(folder, sets, embedding, test))
  threshold = float(rejection_folder.read_config(folder).threshold)
  return [threshold, arm.mean['c_t'], *arm.interval['c_t']]


def main(runs: str, out: str, embeddings: list[str], references: list[str]):
  """Scores all samples anew, draws, keeps the numbers."""
  folders = sorted(pathlib.Path(runs).glob('threshold_*'))
  if not folders:
    raise SystemExit(f'{runs} holds no threshold_*: run rejection_frontier.py.')
  by_embedding = {
    name: sorted(row(f, name, 'test') for f in folders) for name in embeddings
  }
  by_reference = {
    name: sorted(row(f, 'judging', name) for f in folders)
    for name in references
  }
  run_folder.keep(
    out,
    'rejection_references',
    {
      'c_t_by_embedding': rejection_drawing.lines(by_embedding, 'embedding'),
      'c_t_by_reference': rejection_drawing.lines(by_reference, 'test set'),
    },
    {
      kind: {name: np.array(rows) for name, rows in found.items()}
      for kind, found in (
        ('by_embedding', by_embedding), ('by_reference', by_reference)
      )
    },
  )  # fmt: skip


if __name__ == '__main__':
  _RUNS = flags.DEFINE_string('runs', None, 'A sweep.', required=True)
  _OUT = flags.DEFINE_string('out', None, 'For pictures.', required=True)
  _IN = flags.DEFINE_list('embeddings', 'pixels,encoder', 'Embeddings.')
  _TO = flags.DEFINE_list('references', 'test', 'Test sets.')
  app.run(lambda _: main(_RUNS.value, _OUT.value, _IN.value, _TO.value))
