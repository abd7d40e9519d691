"""Does dropping the most memorized items help, and whom?

  python experiments/pruning.py --run=FOLDER --out=FOLDER

writes `pruned.npz`, the items of a study without the 1 % of highest scores, and
`control.npz`, without as many random ones, and prints what to add to the
study's command to train on them. Then, with `--pruned=FOLDER` and
`--control=FOLDER` of these, compares the scores of the items that stayed, and
their log-probability when held out. The reader should see whether others become
memorized in their place, and what the pruning costs in likelihood, beside what
dropping random items does.
"""

import pathlib

import compare_runs
import numpy as np
import study_folder
from absl import app, flags


def keep_but(score: np.ndarray, share: float, seed: int) -> dict:
  """Which items stay, bool [n]: without the highest, or without random ones."""
  count = max(1, round(share * len(score)))
  if not 0 < share < 0.5:
    raise SystemExit(f'--share={share}: expected a number in (0, 0.5).')
  order = np.argsort(score, stable=True)
  shuffled = np.random.default_rng([seed, 2]).permutation(len(score))
  dropped = {'pruned': order[-count:], 'control': shuffled[:count]}
  everything = np.arange(len(score))
  return {k: ~np.isin(everything, rows) for k, rows in dropped.items()}


def prepare(run: str, share: float, out: str) -> None:
  """Writes both data sets and prints how to train on them."""
  study = study_folder.read_run(run)
  items = study_folder.load_all(study)
  kept = keep_but(study.scores['score'], share, study.config['seed'])
  for name, rows in kept.items():
    path = pathlib.Path(out) / f'{name}.npz'
    dropped = study.scores['ids'][~rows]
    part = study_folder.take(items, ~np.isin(items.ids, dropped))
    study_folder.save_items(path, study, part)
    print(study_folder.flags_for(path))


def last_test_loss(study: study_folder.Run) -> float:
  """Negative ELBO of the test set, in nats, under the model of all items."""
  folder = study.folder / 'full'
  if not folder.exists():
    return float('nan')
  return float(study_folder.read_losses(folder)[3][0, -1])


def main(run: str, pruned: str, control: str, out: str) -> None:
  """Compares before and after, with pruning and with the control."""
  before = study_folder.read_run(run)
  found, pictures = {}, {}
  found['before'] = {'test_loss': last_test_loss(before)}
  for name, folder in (('pruned', pruned), ('control', control)):
    after = study_folder.read_run(folder)
    pairs = compare_runs.common(before, after)
    found[name] = compare_runs.measure(pairs)
    found[name]['test_loss'] = last_test_loss(after)
    high = pairs['score'][:, 0] > np.quantile(pairs['score'][:, 0], 0.95)
    kind = 'the highest 5 % of those that stayed'
    title = {
      'pruned': 'Scores after the most memorized 1 % were dropped',
      'control': 'Scores after a random 1 % was dropped',
    }[name]
    pictures[f'pruning_{name}'] = compare_runs.draw(pairs, high, title, kind)
  study_folder.keep(out, 'pruning', pictures, found)


if __name__ == '__main__':
  _RUN = flags.DEFINE_string('run', None, 'A study.', required=True)
  _PRUNED = flags.DEFINE_string('pruned', '', 'Trained on pruned.npz.')
  _CONTROL = flags.DEFINE_string('control', '', 'Trained on control.npz.')
  _SHARE = flags.DEFINE_float('share', 0.01, 'Of the items, to drop.')
  _OUT = flags.DEFINE_string('out', None, 'For results.', required=True)
  app.run(
    lambda _: (
      main(_RUN.value, _PRUNED.value, _CONTROL.value, _OUT.value)
      if _PRUNED.value and _CONTROL.value
      else prepare(_RUN.value, _SHARE.value, _OUT.value)
    )
  )
