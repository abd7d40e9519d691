import numpy as np
import pytest
import scipy.stats

from memjax import files
from memjax.analysis.dynamics.curves import (
  DYNAMICS_FILE,
  Dynamics,
  delay,
  half_time,
  mean_curve,
  read_dynamics,
  shares,
)
from memjax.analysis.dynamics.verdict import judge, measure_timing

KINDS = ('all', 'inlier', 'outlier', 'duplicate', 'inlier_subset')
EPOCHS = np.arange(0, 101, 5)


def make_dynamics(rng, rise, *, repeats=12, near=40.0):
  """Binomial counts; `rise[kind](epoch)` is what memorization adds."""
  shape = (len(EPOCHS), repeats, 1, 1, len(KINDS))
  chance = np.full(shape, 0.3)
  added = np.zeros(shape)
  for k, kind in enumerate(KINDS):
    added[..., k] = rise.get(kind, np.zeros_like)(EPOCHS * 1.0)[
      :, None, None, None
    ]
  near_counts = np.full((len(EPOCHS), repeats, 1, len(KINDS)), near)
  draw = lambda p: rng.binomial(int(near), p).astype(float)
  return Dynamics(
    epochs=EPOCHS,
    memorized=draw(chance + added),
    swapped=draw(chance),
    near_train=near_counts,
    near_test=near_counts,
    copied=draw(chance + added) / 2,
    swapped_copied=draw(chance) / 2,
    loss=np.ones((len(EPOCHS), repeats)),
    num_samples=200,
    members=np.array([200, 160, 20, 20, 20]),
    kinds=KINDS,
    test_sets=('with_outliers',),
    ratios=(1.5,),
  )


def step_at(epoch, height=0.5):
  """A rise within 20 epochs, half way up at `epoch`."""
  return lambda epochs: height * np.clip((epochs - epoch) / 20 + 0.5, 0, 1)


def test_shares_are_counts_over_totals():
  dynamics = make_dynamics(np.random.default_rng(0), {'outlier': step_at(50)})
  own = shares(dynamics, 'outlier')
  memorized = dynamics.memorized[:, :, 0, 0, 2]
  swapped = dynamics.swapped[:, :, 0, 0, 2]
  np.testing.assert_allclose(own.rate, memorized / 200)
  np.testing.assert_allclose(own.excess, own.rate - own.null)
  np.testing.assert_allclose(own.conditional, (memorized - swapped) / 40)
  copied = dynamics.copied - dynamics.swapped_copied
  np.testing.assert_allclose(own.copied, copied[:, :, 0, 0, 2] / 20)
  with pytest.raises(ValueError, match="Did you mean 'outlier'"):
    shares(dynamics, 'outliers')


def test_nothing_near_says_nothing():
  """A repeat that generates nothing near a kind neither lowers nor ends it."""
  rise = {'outlier': step_at(50)}
  dynamics = make_dynamics(np.random.default_rng(0), rise)
  arrays = {
    name: getattr(dynamics, name).copy()
    for name in ('near_train', 'near_test', 'memorized', 'swapped')
  }
  for array in arrays.values():
    array[:, 0] = 0  # never
    array[:5, 1:] = 0  # not yet
  fewer = dynamics._replace(**arrays)
  own = shares(fewer, 'outlier').conditional
  known = shares(dynamics, 'outlier').conditional
  assert np.isnan(own[:, 0]).all()
  assert np.isnan(own[:5]).all()
  np.testing.assert_array_equal(own[5:, 1:], known[5:, 1:])
  curve = mean_curve(own)
  assert np.isnan(curve.mean[:5]).all()
  np.testing.assert_array_equal(curve.mean[5:], mean_curve(known[5:, 1:]).mean)
  found, expected = (
    half_time(EPOCHS[5:], values)
    for values in (own[5:], known[5:, 1:])
  )  # fmt: skip
  assert found == expected
  assert abs(half_time(EPOCHS, own).time - expected.time) < 1


def test_diverged_repeats_are_left_out_from_the_start():
  """Else the curve would be of other models before and after."""
  dynamics = make_dynamics(np.random.default_rng(0), {})
  memorized = dynamics.memorized.copy()
  memorized[10:, 3] = np.nan
  failed = dynamics._replace(memorized=memorized)
  for values in shares(failed, 'outlier'):
    assert np.isnan(values[:, 3]).all()
    assert np.isfinite(np.delete(values, 3, axis=1)).all()


def test_mean_curve_is_students():
  values = np.random.default_rng(0).normal(size=(4, 7))
  values[:, 3] = np.nan  # this repeat diverged
  values[2, 5] = np.nan  # nothing was near
  curve = mean_curve(values)
  for e in range(4):
    kept = values[e][np.isfinite(values[e])]
    assert len(kept) == (5 if e == 2 else 6)
    np.testing.assert_allclose(curve.mean[e], kept.mean())
    low, high = scipy.stats.t.interval(
      0.95, len(kept) - 1, kept.mean(), scipy.stats.sem(kept)
    )
    np.testing.assert_allclose((curve.low[e], curve.high[e]), (low, high))
  assert np.isnan(mean_curve(values[:, :1]).low).all()
  assert np.isnan(mean_curve(np.full((4, 2), np.nan)).mean).all()


def test_half_time_of_known_curves():
  ramp = np.minimum(EPOCHS, 60.0)[:, None] / 60 * np.ones((1, 5))
  found = half_time(EPOCHS, ramp)
  assert found.time == found.low == found.high == pytest.approx(30)
  assert found.final == pytest.approx(1)
  # A curve that is up from the start rises at 0; scale changes nothing.
  assert half_time(EPOCHS, np.ones((21, 5))).time == 0
  assert half_time(EPOCHS, 7 * ramp).time == pytest.approx(30)
  assert half_time(EPOCHS, ramp, level=0.1).time == pytest.approx(6)
  # Without a rise there is no time, and neither with one repeat.
  assert np.isnan(half_time(EPOCHS, -ramp).time)
  assert np.isnan(half_time(EPOCHS, ramp[:, :1]).time)


def test_a_value_is_passed_where_half_of_an_unfinished_rise_misleads():
  """One curve rises twice as slowly, and neither has ended."""
  epochs = np.geomspace(20, 4000, 16)
  rise = lambda scale: 0.6 * epochs / (epochs + scale)
  draw = lambda scale, rng: rise(scale)[:, None] + rng.normal(0, 0.02, (16, 20))
  by_half, by_value = [], []
  for seed in range(20):
    rng = np.random.default_rng(seed)
    pair = draw(8000, rng), draw(4000, rng)
    by_half.append(delay(epochs, *pair, num_resamples=100))
    by_value.append(delay(epochs, *pair, value=0.15, num_resamples=100))
    assert half_time(epochs, pair[0], num_resamples=20).is_rising
  assert np.mean([d.factor for d in by_half]) < 1.5
  assert abs(np.mean([d.factor for d in by_value]) - 2) < 0.2
  assert np.mean([d.low > 1 for d in by_value]) > 0.9
  assert np.mean([d.low <= 2 <= d.high for d in by_value]) >= 0.8
  flat = np.minimum(EPOCHS, 40.0)[:, None] / 60 * np.ones((1, 5))
  assert not half_time(EPOCHS, flat).is_rising
  never = 0.1 * flat
  assert delay(EPOCHS, never, flat, value=0.5).factor == np.inf
  assert delay(EPOCHS, flat, never, value=0.5) == (0, 0, 0)
  assert np.isnan(delay(EPOCHS, never, never, value=0.5).factor)


def test_what_is_there_from_the_start_is_not_called_earlier():
  rng = np.random.default_rng(0)
  start = 0.5 + rng.normal(0, 0.05, (21, 10))
  late = step_at(2)(EPOCHS * 1.0)[:, None] + rng.normal(0, 0.2, (21, 10))
  for found in (delay(EPOCHS, start, start), delay(EPOCHS, late, late)):
    assert not found.high < 1
    assert not found.low < 1 < found.high


def test_a_kind_without_a_test_set_and_without_samples():
  dynamics = make_dynamics(
    np.random.default_rng(0), {k: step_at(50) for k in KINDS}, repeats=20,
    near=200,
  )  # fmt: skip
  at = KINDS.index('outlier')
  arrays = {
    name: getattr(dynamics, name).copy() for name in Dynamics._fields[1:5]
  }
  arrays['swapped'][..., at] = arrays['near_test'][..., at] = 0
  without = dynamics._replace(**arrays)
  np.testing.assert_allclose(
    shares(without, 'outlier').conditional,
    dynamics.memorized[:, :, 0, 0, at] / 200,
  )
  for name in ('memorized', 'near_train'):
    arrays[name][..., at] = 0
  unseen = dynamics._replace(**arrays)
  words = judge(unseen, measure_timing(unseen)).headline
  assert 'Whether outliers are memorized cannot be told' in words


@pytest.mark.parametrize('repeats', [2, 3])
def test_few_repeats_do_not_make_a_rise(repeats):
  """Without one, 2.5 % of final values may be called above 0, not a fifth."""
  called = []
  for seed in range(400):
    level = np.random.default_rng(seed).normal(size=(1, repeats))
    called.append(half_time(EPOCHS, level.repeat(21, 0)).final_low > 0)
  assert np.mean(called) < 0.05
  ramp = np.minimum(EPOCHS, 60.0)[:, None] / 60 * np.ones((1, repeats))
  found = half_time(EPOCHS, ramp)
  assert found.time == pytest.approx(30)
  assert np.isnan([found.low, found.high]).all()
  late = delay(EPOCHS, ramp, ramp)
  assert late.factor == 1
  assert np.isnan([late.low, late.high]).all()


def test_half_time_covers_and_is_not_biased_by_noise():
  """The interval over repeats holds the true time in about 95 % of draws."""
  times, covered = [], []
  for seed in range(60):
    rng = np.random.default_rng(seed)
    noise = rng.normal(0, 0.25, (21, 20))
    values = step_at(40)(EPOCHS * 1.0)[:, None] + noise
    found = half_time(EPOCHS, values, num_resamples=200, seed=seed)
    times.append(found.time)
    covered.append(found.low <= 40 <= found.high)
  assert abs(np.mean(times) - 40) < 1.0
  assert np.mean(covered) >= 0.85


def test_delay_finds_what_is_later_and_nothing_where_nothing_is():
  later, wrong = [], []
  for seed in range(40):
    rng = np.random.default_rng(seed)
    curve = lambda at: (
      step_at(at)(EPOCHS * 1.0)[:, None] + rng.normal(0, 0.15, (21, 20))
    )
    options = {'num_resamples': 200, 'seed': seed}
    found = delay(EPOCHS, curve(60), curve(40), **options)
    later.append(found.low > 1)
    found = delay(EPOCHS, curve(50), curve(50), **options)
    wrong.append(found.low > 1 or found.high < 1)
  assert np.mean(later) > 0.9
  assert np.mean(wrong) <= 0.15
  rising = np.minimum(EPOCHS, 60.0)[:, None] * np.ones((1, 5))
  assert np.isnan(delay(EPOCHS, -rising, rising).factor)
  assert delay(EPOCHS, rising, rising) == (1, 1, 1)
  # What is there from the start is earlier than anything, by no factor.
  start = np.ones((21, 5))
  assert np.isnan(delay(EPOCHS, rising, start).factor)
  assert delay(EPOCHS, start, rising).factor == 0


@pytest.mark.parametrize(
  ('outlier_at', 'word'), [(75, 'LATER'), (25, 'EARLIER'), (50, 'neither')]
)
def test_the_verdict_says_what_was_planted(outlier_at, word):
  rise = {
    'all': step_at(50), 'inlier': step_at(50), 'inlier_subset': step_at(50),
    'duplicate': step_at(50), 'outlier': step_at(outlier_at),
  }  # fmt: skip
  dynamics = make_dynamics(np.random.default_rng(1), rise, repeats=20, near=200)
  verdict = judge(dynamics, measure_timing(dynamics))
  assert verdict.kind == 'memorizes'
  outliers, duplicates = verdict.headline.split('\n\n')[1].split(' Dup')
  assert ('still rise' in outliers) == (outlier_at == 75)
  assert word in outliers
  assert 'neither' in duplicates


def test_no_memorization_is_not_called_one():
  """2.5 % of verdicts of nothing may be wrong; of 40, three at most."""
  kinds = []
  for seed in range(40):
    dynamics = make_dynamics(np.random.default_rng(seed), {}, near=100)
    excess = half_time(EPOCHS, shares(dynamics, 'all').excess)
    kinds.append(excess.final_low > 0)
    if seed < 2:
      verdict = judge(dynamics, measure_timing(dynamics))
      assert verdict.kind == ('memorizes' if kinds[-1] else 'none_found')
  assert sum(kinds) <= 3
  one = make_dynamics(np.random.default_rng(0), {'all': step_at(50)}, repeats=1)
  verdict = judge(one, measure_timing(one))
  assert verdict.kind == 'weak'
  assert 'One repeat shows no uncertainty' in verdict.headline


def test_dynamics_come_back_from_their_file(tmp_path):
  dynamics = make_dynamics(np.random.default_rng(0), {})
  with pytest.raises(FileNotFoundError, match='python -m memjax.main'):
    read_dynamics(tmp_path)
  files.save_arrays(tmp_path / DYNAMICS_FILE, **dynamics._asdict())
  found = read_dynamics(tmp_path)
  for a, b in zip(found, dynamics, strict=True):
    np.testing.assert_array_equal(a, b)
  assert found.kinds == KINDS
