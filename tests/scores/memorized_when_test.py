import numpy as np
import pytest

from memjax.scores.membership import membership_inference
from memjax.scores.memorized_when import memorized_from, time_memorized


def test_counts_agree_with_a_loop():
  rng = np.random.default_rng(0)
  train, test, generated = rng.normal(size=(3, 60, 3))
  generated[:20] = train[:20] + 0.01
  expected = np.zeros(60, int)
  for g in generated:
    d_train = np.linalg.norm(train - g, axis=1)
    if np.linalg.norm(test - g, axis=1).min() >= 1.5 * d_train.min():
      expected[d_train.argmin()] += 1
  found = memorized_from(train, test, generated)
  np.testing.assert_array_equal(found, expected)
  assert (found[:20] > 0).mean() > 0.9
  with pytest.raises(ValueError, match=r'ratio=1.0: .*\(1.0, inf\)'):
    memorized_from(train, test, generated, ratio=1.0)


def auroc(time, is_target):
  return membership_inference(time[is_target], time[~is_target]).auroc


def test_times_rank_items_that_were_planted_later():
  """Targets whose copies begin at epoch 60, the others' at 20."""
  rng = np.random.default_rng(0)
  epochs = np.arange(0.0, 101.0, 5)
  aurocs, nulls = [], []
  for _ in range(30):
    is_target = np.arange(100) < 10
    begin = np.where(is_target, 60, 20)
    rate = 0.1 + 0.5 * (epochs[:, None] >= begin)
    time = time_memorized(epochs, rng.poisson(rate))
    aurocs.append(auroc(time, is_target))
    nulls.append(auroc(time, rng.permutation(is_target)))
  assert np.mean(aurocs) > 0.8
  assert abs(np.mean(nulls) - 0.5) < 0.06


def test_one_evaluation_tells_nothing():
  with pytest.raises(ValueError, match='epochs has 1 evaluations'):
    time_memorized(np.array([5.0]), np.ones((1, 3)))
