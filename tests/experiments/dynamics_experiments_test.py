"""The scripts of outliers2023, on tiny studies; what they read, by hand."""

import json
import pathlib
import sys

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from memjax.analysis.dynamics.curves import Dynamics, read_dynamics

EXPERIMENTS = pathlib.Path(__file__).parents[2] / 'experiments'


@pytest.fixture(autouse=True)
def scripts(monkeypatch):
  monkeypatch.syspath_prepend(str(EXPERIMENTS))
  before = set(sys.modules)
  yield
  for name in set(sys.modules) - before:
    if (EXPERIMENTS / f'{name}.py').exists():
      del sys.modules[name]


def test_outliers_last_runs_resumes_and_keeps_other_settings(
  tmp_path, monkeypatch
):
  import outliers_last

  monkeypatch.setitem(
    outliers_last.SETTINGS, 'few', {'num_inliers': 12, 'num_outliers': 4}
  )
  out = tmp_path / 'results.json'
  for only in (['few'], ['few'], ['tight']):
    if only == ['tight']:
      monkeypatch.setitem(
        outliers_last.SETTINGS, 'tight', {'num_inliers': 12, 'num_outliers': 4}
      )
    outliers_last.main(str(tmp_path / 'runs'), str(out), 2, 3, only)
  results = json.loads(out.read_text())
  assert list(results) == ['few', 'tight']
  assert results['few']['repeats'] == 2
  canaries = results['few']['canaries']['single_repeats']
  assert canaries['repeats'] == 2
  assert canaries['stopped'] == len(canaries['epochs'])
  assert out.with_suffix('.png').read_bytes()[:4] == b'\x89PNG'
  # Other seeds, so other data.
  config = [
    outliers_last.make_config(name, 2, 3).seed for name in ('few', 'tight')
  ]
  assert config[0] != config[1]
  with pytest.raises(ValueError, match='few'):
    outliers_last.make_config('fewer', 2, 3)
  # A folder of other settings is not taken for these.
  with pytest.raises(ValueError, match='config.num_repeats'):
    outliers_last.main(str(tmp_path / 'runs'), str(out), 3, 3, ['few'])


def made_dynamics(copied, control, inlier_excess):
  """[E, R] counts of canaries, [E, R] excess of the inliers."""
  shape = (*np.shape(copied), 1, 1, 5)
  zeros = np.zeros(shape)
  fields = {name: zeros.copy() for name in ('memorized', 'swapped')}
  fields['memorized'][..., 1] = 100 * np.asarray(inlier_excess)[..., None, None]
  counts = {'copied': copied, 'swapped_copied': control}
  for name, values in counts.items():
    fields[name] = zeros.copy()
    fields[name][..., 2] = np.asarray(values, float)[..., None, None]
  near = np.full((*shape[:3], 5), 100.0)
  return Dynamics(
    epochs=np.arange(shape[0]) * 10, near_train=near, near_test=near,
    loss=np.ones(shape[:2]), num_samples=100, members=np.full(5, 20),
    kinds=('all', 'inlier', 'outlier', 'duplicate', 'inlier_subset'),
    test_sets=('with_outliers',), ratios=(1.5,), **fields,
  )  # fmt: skip


def test_early_stopping_by_hand():
  import outlier_timing

  # Three models, the last diverged; level 0.01 / 4 needs 9 of 9.
  copied = [[2, 2, 2], [8, 2, np.nan], [9, 9, np.nan], [20, 20, np.nan]]
  control = [[2, 2, 2], [0, 1, np.nan], [0, 0, np.nan], [0, 0, np.nan]]
  inliers = np.array([[0, 0, 0], [0.02, 0.04, 0], [0.05, 0.3, 0], [1, 1, 0]])
  found = outlier_timing.stop_early(made_dynamics(copied, control, inliers))
  single = found['single_repeats']
  assert (single['repeats'], single['stopped']) == (2, 2)
  assert single['epochs'] == [20, 20]
  # The mean of both repeats at that epoch.
  np.testing.assert_allclose(single['inlier_excess'], [0.175, 0.175])
  assert single['stopped_before'] == 0
  # Together: 10 against 1 at epoch 10 (p = 0.006), 18 against 0 at 20.
  assert found['all_repeats']['epoch'] == 20
  assert found['all_repeats']['inlier_excess'] == pytest.approx(0.175)
  assert not found['all_repeats']['is_before']


def test_the_figure_takes_what_is_not_known(tmp_path):
  """Censored times, no interval, and an interval beside its estimate."""
  import outliers_last_drawing

  delays = [(None, None, None), (np.inf, 2.0, np.inf), (0.5, 0.6, 0.9)]
  results = {
    str(k): {
      'with_outliers, r = 1.5': {
        'passing': {
          'outlier': {
            value: dict(zip(('factor', 'low', 'high'), row, strict=True))
            for value in ('0.1', '0.2')
          }
        }
      }
    }
    for k, row in enumerate(delays)
  }
  outliers_last_drawing.write_png(tmp_path / 'x.png', results)
  assert (tmp_path / 'x.png').read_bytes()[:4] == b'\x89PNG'


def test_time_to_memorize(tmp_path):
  import memorization_time

  out = tmp_path / 'time.json'
  memorization_time.main(str(tmp_path / 'runs'), str(out), [32, 64], 2, 60)
  results = json.loads(out.read_text())
  assert list(results['n']) == ['32', '64']
  for n, own in results['n'].items():
    found = read_dynamics(tmp_path / 'runs' / f'n_{n}')
    steps = found.epochs * (int(n) // 32)
    np.testing.assert_array_equal(own['curves']['steps'], steps)
    assert len(own['curves']['energy_distance']) == len(steps)
  assert out.with_suffix('.png').exists()


def test_crossing_is_interpolated():
  import memorization_time

  steps = np.array([0.0, 10.0, 20.0, 30.0])
  curve = np.array([0.0, 0.2, 0.1, 0.5])  # 0.15 where it falls
  crossing = memorization_time.crossing
  assert crossing(steps, curve, 0.15) == pytest.approx(10)
  assert crossing(steps, curve, 0.325) == pytest.approx(25)
  assert crossing(steps, curve, 0.6) == np.inf


def test_watermark(tmp_path, monkeypatch):
  import watermark

  monkeypatch.setattr(watermark, '_VISITS', 2)
  monkeypatch.setattr(watermark, '_STEPS', 3)
  monkeypatch.setattr(watermark, '_PERMUTATIONS', 9)
  out = tmp_path / 'watermark.json'
  watermark.main(str(tmp_path / 'run'), str(out), 2, 2)
  found = json.loads(out.read_text())
  # Marked images are far from the mean of digits, whatever a model does.
  assert found['farther from the mean']['auroc'] > 0.6
  assert 0 <= found['images_never_singled_out'] <= 1
  for name, value in (('epochs', 1), ('diffusion_steps', 4)):
    if name == 'diffusion_steps':
      monkeypatch.setattr(watermark, '_STEPS', value)
    with pytest.raises(ValueError, match=name):
      watermark.main(
        str(tmp_path / 'run'), str(out), 2, 1 if name == 'epochs' else 2
      )


def test_aurocs_and_their_null():
  import watermark

  rng = np.random.default_rng(0)
  scores = rng.integers(0, 5, (3, watermark._SIZE)).astype(float)
  is_marked = np.arange(watermark._SIZE) < watermark._MARKED
  np.testing.assert_allclose(
    watermark.aurocs(scores, is_marked),
    [roc_auc_score(is_marked, row) for row in scores],
  )
  draws = rng.normal(size=(60, 5, watermark._SIZE))
  watermark._PERMUTATIONS, before = 99, watermark._PERMUTATIONS
  try:
    p_values = [watermark.compare(draw)['p'] for draw in draws]
    planted = draws[0] + 2.0 * is_marked
    assert watermark.compare(planted)['p'] <= 0.02
  finally:
    watermark._PERMUTATIONS = before
  assert np.mean(np.array(p_values) <= 0.1) < 0.25
