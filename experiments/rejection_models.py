"""Several GANs in one picture: quality against copying, Figure 9.

  python experiments/rejection_models.py --run=FOLDER --run=FOLDER --out=FOLDER

Each FOLDER is a sweep of rejection_frontier.py, such as of cifar_sagan,
cifar_biggan and cifar_biggan_diffaug. The reader should see a line a sweep, and
which GAN pays least for a C_T. The sweeps must share their embeddings: another
one has another scale.
"""

import json
import pathlib

import rejection_drawing
import rejection_folder
import study_folder
from absl import app, flags


def read_sweep(folder: str) -> tuple[list[dict], dict[str, str]]:
  """Rows of a sweep, and the names of its embeddings."""
  path = pathlib.Path(folder) / 'frontier.json'
  if not path.exists():
    raise SystemExit(f'{path} is missing: run rejection_frontier.py.')
  rows = json.loads(path.read_text())['rows']
  report = sorted(path.parent.glob('threshold_*/report.json'))[0]
  return rows, rejection_folder.read_numbers(report.parent)['embeddings']


def main(runs: list[str], out: str, number: str = 'c_t') -> None:
  """Draws the sweeps together, in each kind of embedding."""
  found = {pathlib.Path(run).resolve().name: read_sweep(run) for run in runs}
  sweeps = {name: rows for name, (rows, _) in found.items()}
  pictures, numbers = {}, {}
  for kind in ('rejecting', 'judging'):
    names = {embeddings[kind] for _, embeddings in found.values()}
    if len(names) > 1:
      raise SystemExit(f'--run: {kind} embeddings differ: {sorted(names)}.')
    pictures[f'models_{kind}'] = rejection_drawing.frontier(
      sweeps, kind, number
    )
    numbers[kind] = {
      name: [[row['threshold'], row[kind]['mean']] for row in rows]
      for name, rows in sweeps.items()
    }
  study_folder.keep(out, 'rejection_models', pictures, numbers)


if __name__ == '__main__':
  _RUN = flags.DEFINE_multi_string('run', None, 'Sweeps.', required=True)
  _OUT = flags.DEFINE_string('out', None, 'For pictures.', required=True)
  _NUMBER = rejection_folder.define_number()
  app.run(lambda _: main(_RUN.value, _OUT.value, _NUMBER.value))
