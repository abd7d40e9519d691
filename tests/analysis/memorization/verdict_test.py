import re

import numpy as np
import pytest

from memjax import make_folds
from memjax.analysis.memorization.analysis import analyze
from memjax.analysis.memorization.verdict import judge


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
  assert verdict.p_value == pytest.approx(3 / 301)
  assert 'p ≤ 0.01' in verdict.uncertainty


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
  assert 'No memorization detected' in verdict.headline
  assert 'on average at most' in verdict.headline


def test_interval_covers_the_effect():
  inside = 0
  for seed in range(80):
    mean = analysis(1.0, seed=seed, num_permutations=2).mean
    inside += mean.low <= 1.0 <= mean.high
  assert 0.88 * 80 <= inside <= 80


def test_few_quiet_items_among_noisy_ones_are_not_denied():
  """The mean and the 0.95 quantile see nothing; the items themselves do."""
  held_out = make_folds(1000, 10, num_repeats=5)
  rng = np.random.default_rng(0)
  scale = np.where(np.arange(1000) < 500, 1.0, 15.0)
  log_px = rng.normal(size=held_out.shape) * scale
  log_px -= 15.0 * held_out * (np.arange(1000) < 5)
  result = analyze(
    {1: log_px}, held_out, np.repeat(np.arange(5), 10),
    estimator='mean_log', num_permutations=300, seed=0,
  )  # fmt: skip
  verdict = judge(result)
  assert verdict.kind == 'memorizes'
  assert verdict.headline.startswith('Yes, a few items')
  assert (result.test.q_value[:5] <= 0.05).all()


def test_too_few_permutations_give_no_verdict_rather_than_a_no():
  assert judge(analysis(5.0, num_permutations=20)).kind == 'not_valid'
  verdict = judge(analysis(5.0, num_permutations=150))
  assert verdict.kind == 'weak'
  assert 'no more than a weak verdict' in ' '.join(verdict.caveats)


def test_the_bias_of_an_estimator_is_not_told_as_an_effect():
  held_out = make_folds(300, 10, num_repeats=10)
  log_px = np.random.default_rng(0).normal(size=held_out.shape) * 5
  log_px -= 0.5 * held_out
  result = analyze(
    {1: log_px}, held_out, np.repeat(np.arange(10), 10),
    estimator='log_mean_exp', num_permutations=300, seed=0,
  )  # fmt: skip
  assert result.mean.value > 2.5
  factor = float(
    re.search(r'a factor of ([\d.]+\d)', judge(result).headline)[1]
  )
  assert factor < 3


def test_one_repeat_left_after_leaving_one_out_gives_no_interval():
  held_out = make_folds(20, 2, num_repeats=2)[1:]
  for estimator in ('mean_log', 'log_mean_exp', 'matched'):
    result = analyze(
      {1: np.random.default_rng(0).normal(size=(3, 20))},
      held_out, np.array([0, 1, 1]),
      estimator=estimator, num_permutations=50, seed=0,
    )  # fmt: skip
    assert np.isnan(result.mean.low)
    judge(result)


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
  assert '5 % of the models diverged' in text
  assert '30 % of the log-probabilities hang on few' in text
  verdict = judge(analysis(3.0, estimator='log_mean_exp'))
  assert 'biased upward' in ' '.join(verdict.caveats)
  assert judge(analysis(3.0), share_excluded=0.5).kind == 'not_valid'


def test_twins_and_lost_colours_are_told():
  verdict = judge(analysis(), num_twins=40, loses_colours=True)
  colours, twins = verdict.caveats
  assert 'each colour channel as black or white' in colours
  assert twins.startswith('40 of 200 items have an exact copy')
  assert 'near_duplicates' in twins
  assert '--config.folds.use_groups=True' in twins
  assert not judge(analysis()).caveats


def test_an_interval_with_0_beside_a_small_p_is_explained():
  """Repeats differ much, and shuffles within them little."""
  held_out = make_folds(200, 5, num_repeats=2)
  repeat = np.repeat([0, 1], 5)
  noise = np.random.default_rng(0).normal(size=held_out.shape) / 10

  def judged(effect):
    return judge(
      analyze(
        {1: noise - effect * held_out}, held_out, repeat,
        estimator='mean_log', num_permutations=300, seed=0,
      )
    ).uncertainty  # fmt: skip

  unsure = judged(np.where(repeat == 0, 0.1, 1.5)[:, None])
  assert 'interval -' in unsure
  assert 'p ≤ 0.01' in unsure
  assert 'Student’s t over 2; p is from shuffles within them.' in unsure
  assert 'Student' not in judged(1.0)
  few = 3.0 * (np.arange(200) < 14)
  assert 'p is small by the highest scores, not by the mean.' in judged(
    few - few.mean()
  )


def test_headlines_say_that_chance_is_taken_off():
  for effect in (0.0, 5.0):
    assert ' nats beyond chance' in judge(analysis(effect)).headline


def test_poor_estimates_allow_no_sure_verdict():
  assert judge(analysis(5.0), share_rough=0.4).kind == 'memorizes'
  verdict = judge(analysis(5.0), share_rough=0.9)
  assert verdict.kind == 'weak'
  assert verdict.headline.startswith('Possibly')


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
