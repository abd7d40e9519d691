"""C_T in other embeddings and against other test sets: Figures 10 and 11.

  python experiments/rejection_references.py --runs=FOLDER --out=FOLDER \
      --embeddings=pixels,encoder --references=test,cifar10_1,cifair10

FOLDER holds threshold_* of rejection_frontier.py, or is one study. 'test' is
the study's own test set; 'train' is further images of the training split, which
the study must have left (data.num_further); others are names of data sets, of
which the test split is taken. The reader should see whether C_T rises with τ in
embeddings that did not reject, and against every test set. What was published
is the mean of the classes' C_T, in the embedding that rejected:
--number=class_c_t --judge=rejecting.
"""

import pathlib

import numpy as np
import rejection_drawing
import rejection_folder
import study_folder
from absl import app, flags

from memjax.analysis.rejection.analysis import summarize


def row(
  folder: pathlib.Path, embedding: str, name: str, number: str
) -> list[float]:
  """Threshold, C_T or its class mean, and the interval over seeds."""
  test = rejection_folder.reference(folder, name)
  sets = rejection_folder.embed_sets(folder, embedding, test)
  arm = summarize(rejection_folder.score(folder, sets, embedding, test))
  threshold = rejection_folder.read_numbers(folder)['threshold']
  return [threshold, arm.mean[number], *arm.interval[number]]


def main(
  runs: str,
  out: str,
  embeddings: list[str],
  references: list[str],
  judge: str = 'judging',
  number: str = 'c_t',
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
    rejection_folder.reference(folders[0], name)
  by_embedding = {
    name: sorted(row(f, name, 'test', number) for f in folders)
    for name in embeddings
  }
  by_reference = {
    name: sorted(row(f, judge, name, number) for f in folders)
    for name in references
  }
  study_folder.keep(
    out,
    'rejection_references',
    {
      'c_t_by_embedding': rejection_drawing.lines(
        by_embedding, 'embedding', number
      ),
      'c_t_by_reference': rejection_drawing.lines(
        by_reference, 'test set', number
      ),
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
  _NUMBER = rejection_folder.define_number()
  app.run(
    lambda _: main(
      _RUNS.value, _OUT.value, _IN.value, _TO.value, _BY.value, _NUMBER.value
    )
  )  # fmt: skip
