"""Quality against copying over thresholds of rejection: Figures 6, 8 and 9.

  python experiments/rejection_frontier.py --out=FOLDER \
      --config=configs/fashion_gan.py --thresholds=0,0.05,0.1,0.15

One study a threshold in FOLDER/threshold_*, all with the same seeds; 0 is plain
training. A threshold such as 0.5d is half the mean distance of a training image
to its nearest other one. Resumes: the same command goes on after a kill.
--set=train.steps=100 changes a value of the config; --number=class_c_t draws
the mean of the classes' C_T, which is what was published. Writes
FOLDER/frontier.json and pictures; the reader should see C_T rise with τ, from
what to what, and the Fréchet distance that this costs, with intervals over
seeds. Seeds that stopped early are left out, thresholds of which no seed lasted
too; frontier.json names them. Several sweeps in one picture:
rejection_models.py.
"""

import pathlib

import rejection_drawing
import rejection_folder
import study_folder
from absl import app, flags, logging

from memjax.analysis.rejection.analysis import summarize
from memjax.files import write_json
from memjax.studies import rejection
from memjax.studies.rejection_setting import prepare

KINDS = ('rejecting', 'judging')


def resolve(config, thresholds: list[str], folder: pathlib.Path) -> list[float]:
  """Thresholds as numbers; those that end in d are multiples of the mean."""
  if not any(text.endswith('d') for text in thresholds):
    return [float(text) for text in thresholds]
  config = config.copy_and_resolve_references()
  config.threshold = 'auto'
  mean = prepare(config, folder / 'automatic').threshold
  number = lambda text: round(float(text[:-1]) * mean, 6)
  return [number(t) if t.endswith('d') else float(t) for t in thresholds]


def collect(folders: dict[float, pathlib.Path]) -> list[dict]:
  """A row a threshold: means, intervals, differences from plain training."""
  rows = []
  for threshold, folder in sorted(folders.items()):
    row = {
      'threshold': threshold,
      'left_out': rejection_folder.left_out(folder),
    }
    for kind in KINDS:
      by_seed = rejection_folder.models_of(folder, kind)
      models = list(by_seed.values())
      arm = summarize(models)
      row[kind] = {
        'mean': arm.mean,
        'interval': {k: list(v) for k, v in arm.interval.items()},
        'p_value': arm.p_value,
        'c_t_by_seed': [model.c_t for model in models],
        'by_class': [list(map(float, m.by_class)) for m in models],
      }
      if threshold > 0 and 0 in folders:
        plain = rejection_folder.models_of(folders[0], kind)
        row[kind]['difference'] = rejection_folder.differences(plain, by_seed)
    rows.append(row)
  return rows


def main(
  path: str,
  out: str,
  thresholds: list[str],
  changes: list[str],
  number: str = 'c_t',
):
  """Trains what is missing, collects, draws."""
  logging.set_verbosity(logging.INFO)
  root = pathlib.Path(out)
  config = rejection_folder.make_config(path, changes)
  folders, failed = {}, {}
  for threshold in resolve(config, thresholds, root):
    config.threshold = str(threshold)
    folder = root / f'threshold_{threshold:g}'
    try:
      if (folder / 'report.json').exists():
        rejection_folder.check_same(config, folder)
      else:
        rejection.run(config, folder)
    except rejection.TrainingFailed as error:
      logging.error('%s is left out: %s', folder.name, error)
      failed[threshold] = str(error)
      continue
    folders[threshold] = folder
  if not folders:
    raise SystemExit(f'No threshold is left: {failed}')
  rows = collect(folders)
  write_json(
    root / 'frontier.json', {'config': path, 'rows': rows, 'failed': failed}
  )
  pictures = {
    f'frontier_{kind}': rejection_drawing.frontier({path: rows}, kind, number)
    for kind in KINDS
  }
  pictures['classes'] = rejection_drawing.classes(rows)
  numbers = {
    f'threshold {row["threshold"]:g}, {kind}': row[kind]['mean']
    for row in rows
    for kind in KINDS
  }
  numbers['left_out'] = {
    'seeds': [sentence for row in rows for sentence in row['left_out']],
    'thresholds': sorted(failed),
  }
  study_folder.keep(out, 'rejection_frontier', pictures, numbers)


if __name__ == '__main__':
  _CONFIG = flags.DEFINE_string('config', 'configs/fashion_gan.py', 'Config.')
  _OUT = flags.DEFINE_string('out', None, 'For runs.', required=True)
  _AT = flags.DEFINE_list('thresholds', '0,0.5d,1d,1.5d', 'Thresholds τ.')
  _SET = flags.DEFINE_multi_string('set', [], 'key=value of the config.')
  _NUMBER = rejection_folder.define_number()
  app.run(
    lambda _: main(
      _CONFIG.value, _OUT.value, _AT.value, _SET.value, _NUMBER.value
    )
  )
