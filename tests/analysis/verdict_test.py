import re

import numpy as np
import pytest

from memjax import make_folds
from memjax.analysis.memorization import analyze
from memjax.analysis.verdict import judge


def analysis(effect=0.0, share=1.0, num_repeats=4, seed=0, **options):
  """Noise of 1 nat, and an effect on a share of 200 items."""
  held_out = make_folds(200, 5, num_repeats=num_repeats, seed=seed)
  noise = np.random.default_rng(seed).normal(size=held_out.shape)
  planted = np.arange(200) < share * 200
  log_px = noise - 50 - effect * held_out * planted
  options = {'estimator': 'mean_log', 'num_permutations': 300, **options}
  return analyze(
    {1: log_px + 3, 5: log_px},
    held_out,
    np.repeat(np.arange(num_repeats), 5),
    seed=seed,
    **options,
  )


def test_a_large_effect_is_found_and_its_size_said():
  verdict = judge(analysis(5.0))
  assert verdict.kind == 'memorizes'
  assert verdict.headline.startswith('Yes: this kind of model memorizes')
  assert '200 of 200 items stand out' in verdict.headline
  assert verdict.p_value == pytest.approx(2 / 301)
  assert 'p ≤ 0.0066' in verdict.uncertainty


def test_a_small_effect_is_called_small():
  verdict = judge(analysis(0.5))
  assert verdict.kind == 'memorizes'
  assert verdict.headline.startswith('Yes, but little')


def test_few_memorized_items_are_found_by_the_quantile():
  verdict = judge(analysis(20.0, share=0.08))
  assert verdict.kind == 'memorizes'
  found = int(re.search(r'(\d+) of 200 items', verdict.headline)[1])
  assert 16 <= found <= 19  # q ≤ 0.05 lets about one in twenty be false


def test_nothing_is_found_where_nothing_is_as_often_as_promised():
  kinds = [judge(analysis(seed=seed)).kind for seed in range(40)]
  assert kinds.count('none_found') >= 40 - 6  # 5 %, and chance
  verdict = judge(analysis(seed=1))
  assert 'No memorization found' in verdict.headline


def test_interval_covers_the_effect():
  inside = 0
  for seed in range(80):
    mean = analysis(1.0, seed=seed, num_permutations=2).mean
    inside += mean.low <= 1.0 <= mean.high
  assert 0.88 * 80 <= inside <= 80


def test_one_repeat_states_the_floor_and_gives_no_interval():
  result = analysis(3.0, num_repeats=1)
  verdict = judge(result)
  assert verdict.kind == 'memorizes'
  assert np.isnan(result.mean.low)
  assert 'cannot go below 0.2' in verdict.caveats[0]
  assert 'no interval: one repeat' in verdict.uncertainty
  assert result.test.p_value.min() > 0.1


def test_caveats_say_what_limits_the_conclusion():
  verdict = judge(analysis(3.0), share_excluded=0.05, share_rough=0.3)
  text = ' '.join(verdict.caveats)
  assert '5% of the models diverged' in text
  assert '30% of the log-probabilities hang on few' in text
  verdict = judge(analysis(3.0, estimator='log_mean_exp'))
  assert 'biased upward' in ' '.join(verdict.caveats)
  assert judge(analysis(3.0), share_excluded=0.5).kind == 'not_valid'


def test_items_without_a_held_out_model_are_missing_not_zero():
  held_out = make_folds(30, 3)
  log_px = np.random.default_rng(0).normal(size=(3, 30))
  result = analyze(
    {1: log_px[1:]},
    held_out[1:],
    np.zeros(2, int),
    estimator='mean_log',
    num_permutations=20,
    seed=0,
  )
  np.testing.assert_array_equal(~result.is_scored, held_out[0])
  assert np.isnan(result.scores.score[held_out[0]]).all()
  assert np.isnan(result.test.p_value[held_out[0]]).all()
  assert f'{held_out[0].sum()} items have no score' in ' '.join(
    judge(result).caveats
  )


def test_nothing_to_score_is_an_error():
  held_out = make_folds(30, 3)
  with pytest.raises(ValueError, match='remaining 1 models'):
    analyze(
      {1: np.zeros((1, 30))}, held_out[:1], np.zeros(1, int),
      estimator='mean_log', num_permutations=5, seed=0,
    )  # fmt: skip
