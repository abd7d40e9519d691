"""C_T in other embeddings and against other test sets: Figures 10 and 11.

  python experiments/rejection_references.py --runs=FOLDER --out=FOLDER \
      --embeddings=pixels,encoder --references=test,cifar10_1,cifair10

FOLDER holds threshold_* of rejection_frontier.py, or is one study. 'test' is
the study's own test set; 'train' is further images of the training split, which
the study must have left (data.num_further); others are names of data sets, of
which the test split is taken. The reader should see whether C_T rises with τ in
embeddings that did not reject, and against every test set; beside the C_T of
all classes numbers.json has the class mean, which is what was published, in the
embedding that rejected (--judge=rejecting).
"""

import pathlib

import numpy as np
import rejection_drawing
import rejection_folder
import study_folder
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
    if not len(images.further.ids):
      raise SystemExit(
        f'--references=train: {folder} has no further images of the training '
        'split, which takes data.num_further > 0 (and data.num_train below all '
        'of them) when it is trained. Leave it out.'
      )
    return images.further
  data = rejection_folder.read_config(folder).data
  options = {'pad': data.pad, 'shrink': data.shrink, 'split': 'test'}
  sets = load_image_sets(
    name, num_train=0, num_test=0, test_split='test',
    data_dir=data.directory or None, **options,
  )  # fmt: skip
  return sets.test


def row(folder: pathlib.Path, embedding: str, name: str) -> list[float]:
  """Threshold, C_T, its interval over seeds, the mean of classes' C_T."""
  test = reference(folder, name)
  sets = rejection_folder.embed_sets(folder, embedding, test)
  arm = summarize(rejection_folder.score(folder, sets, embedding, test))
  threshold = rejection_folder.read_numbers(folder)['threshold']
  c_t = arm.mean['c_t'], *arm.interval['c_t']
  return [threshold, *c_t, arm.mean['class_c_t']]


def main(
  runs: str,
  out: str,
  embeddings: list[str],
  references: list[str],
  judge: str = 'judging',
) -> None:
  """Scores all samples anew, draws, keeps the numbers."""
  root = pathlib.Path(runs)
  folders = [root, *sorted(root.glob('threshold_*'))]
  folders = [f for f in folders if (f / 'report.json').exists()]
  if not folders:
    raise SystemExit(
      f'{runs} is no study and holds no threshold_*: run rejection_frontier.py.'
    )
  # What is lacking is said before an hour is spent.
  for name in references:
    reference(folders[0], name)
  by_embedding = {
    name: sorted(row(f, name, 'test') for f in folders) for name in embeddings
  }
  by_reference = {
    name: sorted(row(f, judge, name) for f in folders) for name in references
  }
  study_folder.keep(
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
  _BY = flags.DEFINE_string('judge', 'judging', 'Embedding of all test sets.')
  app.run(
    lambda _: main(_RUNS.value, _OUT.value, _IN.value, _TO.value, _BY.value)
  )
