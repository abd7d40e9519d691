"""Does a near-duplicate left in training hide memorization?

  python experiments/duplicate_groups.py --run=FOLDER --out=FOLDER

writes `grouped.npz`, the items of a study with their groups of near-duplicates,
and prints what to add to the study's command to repeat it with folds that keep
each group together. Then, with `--grouped=FOLDER` of that repetition, compares
the scores of the items that have a near-duplicate, and of those that have none.
The reader should see: scores of near-duplicates rise when their twins are held
out with them, and others stay. A data set without near-duplicates can be given
some: `--plant=250` adds copies of so many random items, each grey level moved
by at most 8; repeat the study without and with the groups then, and pass the
former as `--run`.
"""

import pathlib

import compare_runs
import numpy as np
import study_folder
from absl import app, flags

from memjax.data.dataset import Dataset
from memjax.duplicates import duplicate_threshold, near_duplicates


def plant_copies(items: Dataset, count: int, seed: int) -> Dataset:
  """Adds noisy copies of random items, with ids of their own."""
  if not 0 < count <= len(items.ids):
    raise SystemExit(f'--plant={count}: expected 1 to {len(items.ids)}.')
  rng = np.random.default_rng([seed, 3])
  copies = study_folder.take(items, rng.permutation(len(items.ids))[:count])
  noise = rng.integers(-8, 9, copies.images.shape)
  images = np.clip(copies.images + noise, 0, 255).astype(np.uint8)
  ids = items.ids.max() + 1 + np.arange(count)
  return items._replace(
    images=np.concatenate([items.images, images]),
    labels=np.concatenate([items.labels, copies.labels]),
    ids=np.concatenate([items.ids, ids]),
  )


def prepare(run: str, out: str, plant: int = 0) -> None:
  """Writes the items with groups, the test set beside them."""
  study = study_folder.read_run(run)
  items = study_folder.load_all(study)
  if plant:
    items = plant_copies(items, plant, study.config['seed'])
  flat = items.images.reshape(len(items.ids), -1) / np.float32(255)
  threshold = duplicate_threshold(flat)
  groups = near_duplicates(flat, threshold=threshold)
  sizes = np.bincount(groups)
  path = pathlib.Path(out) / 'grouped.npz'
  study_folder.save_items(path, study, items._replace(groups=groups))
  study_folder.keep(
    out,
    'near_duplicates',
    {},
    {
      'groups': {
        'threshold': threshold,
        'num_groups': int((sizes > 1).sum()),
        'num_items_in_groups': int(sizes[sizes > 1].sum()),
        'largest': int(sizes.max()),
      }
    },
  )
  if plant:
    print(study_folder.flags_for(path), '--config.folds.use_groups=False')
  print(study_folder.flags_for(path), '--config.folds.use_groups=True')


def main(run: str, grouped: str, out: str) -> None:
  """Compares the study with its repetition in groups."""
  before, after = map(study_folder.read_run, (run, grouped))
  if after.groups is None:
    raise SystemExit(f'{grouped}: expected a study with folds.use_groups=True.')
  pairs = compare_runs.common(before, after)
  has_twins = np.bincount(after.groups)[after.groups] > 1
  has_twin = np.isin(pairs['ids'], after.scores['ids'][has_twins])
  found = {
    'with_a_near_duplicate': compare_runs.measure(pairs, has_twin),
    'without': compare_runs.measure(pairs, ~has_twin),
  }
  title = 'Scores when near-duplicates are held out together'
  kind = 'items with a near-duplicate'
  pictures = {}
  if has_twin.sum() > 1:
    picture = compare_runs.draw(pairs, has_twin, title, kind)
    pictures['duplicate_groups'] = picture
  study_folder.keep(out, 'duplicate_groups', pictures, found)


if __name__ == '__main__':
  _RUN = flags.DEFINE_string('run', None, 'A study.', required=True)
  _GROUPED = flags.DEFINE_string('grouped', '', 'Its repetition in groups.')
  _PLANT = flags.DEFINE_integer('plant', 0, 'Copies to add to the items.')
  _OUT = flags.DEFINE_string('out', None, 'For results.', required=True)
  app.run(
    lambda _: (
      main(_RUN.value, _GROUPED.value, _OUT.value)
      if _GROUPED.value
      else prepare(_RUN.value, _OUT.value, _PLANT.value)
    )
  )
