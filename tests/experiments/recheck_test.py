"""High scores estimated anew, on a study of a few digits."""

import json
import pathlib
import sys

import numpy as np
import pytest

from memjax.main import read_config
from memjax.scores.memorization import memorization_score
from memjax.studies import memorization

EXPERIMENTS = pathlib.Path(__file__).parents[2] / 'experiments'
SMALL = {
  'data.num_items': 30, 'folds.num_folds': 3, 'folds.num_repeats': 1,
  'train.models_at_once': 3, 'train.epochs': 1, 'score.epochs': (1,),
  'score.tracked_epochs': (), 'score.proposal': 'encoder',
  'score.num_samples': 8, 'score.encoder_num_samples': 0,
  'score.escalation': (), 'score.num_permutations': 20, 'full.is_run': False,
}  # fmt: skip


@pytest.fixture
def recheck(monkeypatch):
  monkeypatch.syspath_prepend(str(EXPERIMENTS))
  import recheck

  yield recheck
  for name in ('recheck', 'study_folder'):
    sys.modules.pop(name, None)


def test_what_was_unreliable_is_estimated_anew(recheck, tmp_path, monkeypatch):
  config = read_config('configs/digits_vae.py')
  config.update_from_flattened_dict(SMALL)
  run = tmp_path / 'run'
  memorization.run(config, run)
  path = run / 'arrays/log_px_epoch_0001.npz'
  with np.load(path) as saved:
    arrays = dict(saved)
  # Two estimates are wrong and say so; what says nothing is left alone.
  true, wrong = arrays['log_px'].copy(), ((0, 4), (2, 7))
  arrays['is_reliable'][:] = True
  for at in wrong:
    arrays['log_px'][at] -= 50.0
    arrays['is_reliable'][at] = False
  np.savez(path, **arrays)
  seen = []
  compare = recheck.compare
  monkeypatch.setattr(
    recheck, 'compare', lambda *args: seen.append(args) or compare(*args)
  )
  recheck.main(str(run), str(tmp_path / 'out'), -1e9, 64)
  found = json.loads((tmp_path / 'out/numbers.json').read_text())
  assert found['recheck']['found']['num_anew'] == 2
  study, (old, _), (new, _) = seen[0]
  score = lambda log_px: (
    memorization_score(log_px, study.held_out, estimator='mean_log').score
  )
  np.testing.assert_allclose(old, score(arrays['log_px']))
  changed = [4, 7]
  others = np.setdiff1d(np.arange(30), changed)
  np.testing.assert_array_equal(new[others], old[others])
  # Right again, but for the noise of so few draws.
  assert np.abs(new - score(true))[changed].max() < 5
  assert np.abs(old - score(true))[changed].min() > 20
  assert (tmp_path / 'out/recheck.png').read_bytes()[:4] == b'\x89PNG'


def test_shares_by_bin(recheck):
  held_out = np.eye(3, dtype=bool)[:, [0, 1, 2, 0, 1]]
  study = recheck.study_folder.Run(
    pathlib.Path(), {}, held_out, np.zeros(3, int), np.ones(5, bool),
    np.ones(3, bool), {'ids': np.arange(5) + 7}, None,
  )  # fmt: skip
  old = np.array([6.0, 12.0, 13.0, 50.0, 1.0])
  reliable = np.ones((3, 5), bool)
  reliable[1, 1] = False  # held out
  reliable[0, 2] = False  # trained on: not counted
  better = np.ones((3, 5), bool)
  better[0, 3] = False
  new = old - 1
  found = recheck.compare(study, (old, reliable), (new, better))
  rows = {row['above']: row for row in found['bins']}
  assert [rows[k]['num_items'] for k in (5, 10, 40)] == [1, 2, 1]
  assert rows[10]['bad_held_out_before'] == 0.5
  assert rows[10]['bad_held_out_after'] == 0.0
  assert rows[40]['bad_held_out_after'] == 1.0
  assert found['max_after'] == 49
  assert found['max_after_with_held_out_reliable'] == 12
  assert [row['id'] for row in found['top']] == [10, 9, 8, 7, 11]
