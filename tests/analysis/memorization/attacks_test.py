"""Attacks on fold models: right numbers, no leakage, an honest null."""

import json

import numpy as np
import pytest
import scipy.stats

from memjax import make_folds, run_folder
from memjax.analysis.memorization import report
from memjax.analysis.memorization.analysis import analyze
from memjax.analysis.memorization.attacks import attack_models
from memjax.scores.memorization_null import fold_permutations


def study(effect=0.0, n=80, folds=4, repeats=3, seed=0, memorized=1.0):
  """Hard and easy items, noise, and what training adds to some of them."""
  rng = np.random.default_rng([seed, 7])
  held_out = make_folds(n, folds, num_repeats=repeats, seed=seed)
  repeat = np.repeat(np.arange(repeats), folds)
  log_px = 3 * rng.normal(size=n) + rng.normal(size=held_out.shape)
  planted = np.arange(n) < memorized * n
  return log_px - effect * held_out * planted, held_out, repeat


def slow_auroc(inside, outside):
  pairs = [(a > b) + 0.5 * (a == b) for a in inside for b in outside]
  return np.mean(pairs) if pairs else np.nan


def slow_scores(log_px, held_out, repeat):
  """Both calibrated attacks, item by item."""
  m, n = log_px.shape
  scores, score = np.empty((m, n)), np.empty((m, n))
  for j in range(m):
    for i in range(n):
      others = [k for k in range(m) if repeat[k] != repeat[j]]
      outside = np.mean([log_px[k, i] for k in others if held_out[k, i]])
      inside = np.mean([log_px[k, i] for k in others if not held_out[k, i]])
      scores[j, i], score[j, i] = log_px[j, i] - outside, inside - outside
  return scores, score


def test_equals_the_definition():
  log_px, held_out, repeat = study(1.0, n=100)
  log_px = np.round(log_px, 1)  # ties
  found = attack_models(log_px, held_out, repeat, num_permutations=5)
  scores, score = slow_scores(log_px, held_out, repeat)
  top = score > np.quantile(score, 0.95, axis=1, keepdims=True)
  for attack, values, chosen in (
    (found.loss, log_px, np.ones_like(held_out)),
    (found.calibrated, scores, np.ones_like(held_out)),
    (found.memorized, scores, top),
  ):
    expected = [
      slow_auroc(row[~out & use], row[out & use])
      for row, out, use in zip(values, held_out, chosen, strict=True)
    ]
    np.testing.assert_allclose(attack.auroc, expected, atol=1e-9)
    np.testing.assert_allclose(attack.mean[0], np.nanmean(expected))
    of_repeat = [np.array(expected)[repeat == r] for r in range(3)]
    by_repeat = np.array([v[np.isfinite(v)].mean() for v in of_repeat])
    half = scipy.stats.t.ppf(0.975, 2) * by_repeat.std(ddof=1) / np.sqrt(3)
    ends = np.clip(by_repeat.mean() + np.array([-half, half]), 0, 1)
    np.testing.assert_allclose(attack.intervals[0], ends)
  assert found.loss.num_out == 25
  assert found.loss.num_in == 75


def test_calibration_beats_the_loss_where_items_differ():
  found = attack_models(*study(2.0, n=200, repeats=4))
  assert found.loss.mean[0] < 0.75
  assert found.calibrated.mean[0] > 0.85
  assert found.calibrated.p_value == found.loss.p_value == 1 / 100
  assert np.isnan(found.calibrated.tpr_at_1_percent).all()  # 50 held out
  many = attack_models(*study(2.0, n=400, repeats=3), num_permutations=2)
  assert many.calibrated.tpr_at_1_percent.mean() > 0.1
  assert np.isnan(many.calibrated.mean[2])


def test_memorized_items_are_told_best():
  found = attack_models(*study(8.0, n=400, repeats=4, memorized=0.05))
  assert found.calibrated.mean[0] < 0.6
  assert found.memorized.mean[0] > 0.9
  assert found.memorized.p_value == 1 / 100


def test_without_memorization_nothing_is_told():
  """½ is covered, p is uniform: no score leaks who held out what."""
  names, inside, p, mean = ('loss', 'calibrated', 'memorized'), [], [], []
  for seed in range(150):
    # Two repeats are the fewest, and would leak most.
    attacks = attack_models(
      *study(n=60, folds=3, repeats=2 + seed % 3, seed=seed),
      num_permutations=19,
      seed=seed + 10_000,
    )
    found = [getattr(attacks, name) for name in names]
    p.append([attack.p_value for attack in found])
    mean.append([attack.mean[0] for attack in found])
    inside.append([low <= 0.5 <= high for low, high in
                   (attack.intervals[0] for attack in found[:2])])  # fmt: skip
  p, mean = np.array(p), np.array(mean)
  error = np.nanstd(mean, axis=0) / np.sqrt(150)
  assert (np.abs(np.nanmean(mean, axis=0) - 0.5) < 3.5 * error).all()
  assert (np.mean(inside, axis=0) >= 0.95 - 3 * 0.018).all()
  assert ((p <= 0.05).mean(axis=0) <= 0.05 + 3 * 0.018).all()
  jitter = np.random.default_rng(0).uniform(0, 1 / 20, p.shape)
  for column in (p - jitter).T[:2]:
    assert scipy.stats.kstest(column, 'uniform').pvalue > 0.005


def test_references_of_the_same_repeat_would_leak():
  """Why they are left out: the count of references alone gives it away."""
  leaks = []
  for seed in range(20):
    log_px, held_out, repeat = study(seed=seed, repeats=2)
    scores = np.empty_like(log_px)
    for j in range(8):
      others = np.arange(8) != j
      for i in range(80):
        reference = log_px[others & held_out[:, i], i].mean()
        scores[j, i] = log_px[j, i] - reference
    spread = [scores[held_out].std(), scores[~held_out].std()]
    leaks.append(spread[0] > 1.03 * spread[1])
  assert np.mean(leaks) > 0.75


def test_one_repeat_and_missing_models():
  log_px, held_out, repeat = study(1.0, repeats=1)
  found = attack_models(log_px, held_out, repeat)
  assert found.calibrated is None
  assert found.memorized is None
  assert np.isnan(found.loss.intervals[0]).all()
  assert 0 < found.loss.p_value <= 1
  # A diverged model: items that it held out have no reference in two repeats.
  log_px, held_out, repeat = study(1.0, repeats=2)
  kept = np.arange(8) != 5
  found = attack_models(log_px[kept], held_out[kept], repeat[kept])
  assert np.isfinite(found.calibrated.auroc).all()
  assert found.calibrated.num_in + found.calibrated.num_out < 80


def test_groups_move_together():
  groups = np.repeat(np.arange(20), 4)
  held_out = make_folds(80, 4, num_repeats=2, groups=groups)
  log_px = np.random.default_rng(0).normal(size=held_out.shape)
  log_px = log_px.reshape(8, 20, 4).mean(axis=2).repeat(4, axis=1)
  repeat = np.repeat([0, 1], 4)
  options = {'num_permutations': 19, 'seed': 3}
  found = attack_models(log_px, held_out, repeat, groups=groups, **options)
  auroc = found.loss.mean[0]
  nulls = [
    attack_models(log_px, held_out[:, order], repeat, num_permutations=1)
    for order in fold_permutations(80, 19, seed=3, groups=groups)
  ]
  exceed = sum(null.loss.mean[0] >= auroc - 1e-12 for null in nulls)
  assert found.loss.p_value == pytest.approx((1 + exceed) / 20)


@pytest.mark.parametrize('repeats', [1, 3])
def test_the_report_says_so(repeats, tmp_path):
  log_px, held_out, repeat = study(2.0, repeats=repeats)
  analysis = analyze(
    {1: log_px}, held_out, repeat, estimator='mean_log', num_permutations=19,
    seed=0,
  )  # fmt: skip
  described = report.Study(
    'items', np.arange(80), None, None, held_out, repeat, [], None, None, 0
  )
  run_folder.claim(tmp_path, {'study': 'memorization'}, 'data')
  report.write(tmp_path, described, analysis)
  found = json.loads((tmp_path / 'report.json').read_text())
  attacks = found['membership_inference']
  assert set(attacks) == {
    'num_permutations', 'loss',
    *(['calibrated', 'memorized'] if repeats > 1 else []),
  }  # fmt: skip
  file, name = attacks['loss']['auroc']['array'].split(':')
  values = np.load(tmp_path / file)[name]
  np.testing.assert_allclose(
    values.mean(), attacks['loss']['auroc']['estimate']
  )
  page = (tmp_path / 'report.html').read_text()
  assert 'Could an attacker tell who was trained on?' in page
  assert ('log p less that of other repeats' in page) == (repeats > 1)
  assert 'With fewer than 100 held-out items a model' in page
