import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

from memjax import make_folds, memorization_score, memorization_test
from memjax.scores.fold_design import ESTIMATORS
from memjax.scores.memorization_null import fold_permutations, null_scores


def slow_score(log_px, held_out, repeat, estimator):
  """The definitions, one item, one model, one pair at a time."""
  score = []
  for item in range(log_px.shape[1]):
    values, out = log_px[:, item], held_out[:, item]
    if estimator == 'mean_log':
      score.append(values[~out].mean() - values[out].mean())
      continue
    log_mean = lambda v: scipy.special.logsumexp(v) - np.log(len(v))
    if estimator == 'log_mean_exp':
      score.append(log_mean(values[~out]) - log_mean(values[out]))
      continue
    pairs = []  # one list of (in, out) a cyclic offset
    longest = max(np.bincount(repeat)) - 1
    for offset in range(longest):
      inside, outside = [], []
      for r in np.unique(repeat):
        rows = np.flatnonzero(repeat == r)
        if not out[rows].any() or len(rows) < 2:
          continue
        k = int(np.argmax(out[rows]))
        step = 1 + offset % (len(rows) - 1)
        inside.append(values[rows[(k + step) % len(rows)]])
        outside.append(values[rows[k]])
      pairs.append(log_mean(inside) - log_mean(outside))
    score.append(np.mean(pairs))
  return np.array(score)


def noise(shape, seed=0, scale=5.0):
  return np.random.default_rng(seed).normal(scale=scale, size=shape) - 90.0


@pytest.mark.parametrize('estimator', ESTIMATORS)
def test_score_equals_the_definition(estimator):
  held_out = make_folds(23, 4, num_repeats=3)
  log_px = noise(held_out.shape)
  repeat = np.repeat(np.arange(3), 4)
  scores = memorization_score(log_px, held_out, estimator=estimator)
  expected = slow_score(log_px, held_out, repeat, estimator)
  np.testing.assert_allclose(scores.score, expected, rtol=1e-12)
  np.testing.assert_allclose(
    scores.log_px_in - scores.log_px_out, expected, rtol=1e-9
  )


@pytest.mark.parametrize('estimator', ESTIMATORS)
def test_an_excluded_model_leaves_ragged_repeats(estimator):
  held_out = make_folds(30, 5, num_repeats=3)
  repeat = np.repeat(np.arange(3), 5)
  keep = np.ones(15, bool)
  keep[[1, 7, 8]] = False
  log_px, held_out, repeat = (
    noise((15, 30))[keep], held_out[keep], repeat[keep]
  )  # fmt: skip
  scores = memorization_score(
    log_px, held_out, repeat=repeat, estimator=estimator
  )
  expected = slow_score(log_px, held_out, repeat, estimator)
  np.testing.assert_allclose(scores.score, expected, rtol=1e-12)
  assert np.isfinite(scores.std_err).any()


def test_golden_values_by_hand():
  # Two repeats of two folds; item 0 is held out by models 0 and 3.
  held_out = np.array([[1, 0], [0, 1], [0, 1], [1, 0]], bool)
  log_px = np.array([[-4.0, -1.0], [-1.0, -3.0], [-2.0, -3.0], [-6.0, -1.0]])
  scores = memorization_score(log_px, held_out, estimator='mean_log')
  np.testing.assert_allclose(scores.log_px_in, [-1.5, -1.0])
  np.testing.assert_allclose(scores.log_px_out, [-5.0, -3.0])
  np.testing.assert_allclose(scores.score, [3.5, 2.0])
  # Per-repeat differences (3, 4) and (2, 2): sd / √2 = 0.5 and 0.
  np.testing.assert_allclose(scores.std_err, [0.5, 0.0], atol=1e-12)
  scores = memorization_score(log_px, held_out)
  inside = np.log((np.exp(-1) + np.exp(-2)) / 2)
  outside = np.log((np.exp(-4) + np.exp(-6)) / 2)
  np.testing.assert_allclose(scores.score[0], inside - outside)


def test_random_halves_are_a_design_too():
  rng = np.random.default_rng(0)
  held_out = rng.random((12, 40)) < 0.5
  held_out[0], held_out[1] = True, False
  log_px = noise((12, 40))
  for estimator in ('mean_log', 'log_mean_exp'):
    scores = memorization_score(log_px, held_out, estimator=estimator)
    np.testing.assert_allclose(
      scores.score, slow_score(log_px, held_out, None, estimator), rtol=1e-12
    )
    assert np.isnan(scores.std_err).all()
    two = np.repeat([0, 1], 6)
    scores = memorization_score(
      log_px, held_out, repeat=two, estimator=estimator
    )
    assert np.isfinite(scores.std_err[held_out[6:].any(axis=0)]).any()
  with pytest.raises(ValueError, match='hold each item out at most once'):
    memorization_score(log_px, held_out, estimator='matched')


@pytest.mark.parametrize('estimator', ESTIMATORS)
def test_jackknife_leaves_one_repeat_out(estimator):
  held_out = make_folds(11, 3, num_repeats=4)
  log_px = noise(held_out.shape)
  repeat = np.repeat(np.arange(4), 3)
  without = np.stack(
    [
      slow_score(
        log_px[repeat != r], held_out[repeat != r],
        repeat[repeat != r], estimator,
      )
      for r in range(4)
    ]
  )  # fmt: skip
  expected = np.sqrt(3 / 4 * ((without - without.mean(0)) ** 2).sum(0))
  scores = memorization_score(log_px, held_out, estimator=estimator)
  np.testing.assert_allclose(scores.std_err, expected, rtol=1e-9)


def test_one_repeat_has_no_standard_error():
  held_out = make_folds(10, 5)
  scores = memorization_score(noise(held_out.shape), held_out)
  assert np.isnan(scores.std_err).all()
  assert np.isfinite(scores.score).all()


@pytest.mark.parametrize('estimator', ESTIMATORS)
def test_invariances(estimator):
  held_out = make_folds(20, 4, num_repeats=3)
  log_px = noise(held_out.shape)
  score = lambda *a, **k: memorization_score(*a, estimator=estimator, **k)
  reference = score(log_px, held_out)
  shifted = score(log_px + 1234.0, held_out)
  np.testing.assert_allclose(shifted.score, reference.score, atol=1e-9)
  np.testing.assert_allclose(shifted.std_err, reference.std_err, atol=1e-9)
  items = np.random.default_rng(1).permutation(20)
  permuted = score(log_px[:, items], held_out[:, items])
  np.testing.assert_allclose(permuted.score, reference.score[items])
  # Repeats in another order; for 'matched' the order of folds is part of the
  # definition only through its cyclic order.
  rows = np.r_[8:12, 0:4, 5, 6, 7, 4]
  repeat = np.repeat([2, 0, 1], 4)
  again = score(log_px[rows], held_out[rows], repeat=repeat)
  np.testing.assert_allclose(again.score, reference.score)
  np.testing.assert_allclose(again.std_err, reference.std_err)
  np.testing.assert_allclose(
    score(jnp.asarray(log_px), jnp.asarray(held_out)).score,
    reference.score, atol=1e-4,
  )  # fmt: skip


def test_log_probabilities_far_apart_do_not_underflow():
  held_out = make_folds(6, 3, num_repeats=2)
  log_px = np.where(held_out, -19_000.0, -12_500.0)
  np.testing.assert_allclose(memorization_score(log_px, held_out).score, 6500.0)


@pytest.mark.parametrize(
  ('sigma', 'mean', 'median', 'quantile_95', 'mean_log_95'),
  [(1, 0.07, 0.08, 0.71, 0.55), (5, 2.69, 2.76, 8.11, 2.75),
   (8, 5.39, 5.46, 14.5, 4.41)],
)  # fmt: skip
def test_null_bias_of_the_published_estimator(
  sigma, mean, median, quantile_95, mean_log_95
):
  """Golden: 90 against 10 noise values, papers-and-their-code.md, A6."""
  num_items = 20_000
  held_out = make_folds(num_items, 10, num_repeats=10)
  log_px = noise(held_out.shape, seed=sigma, scale=sigma)
  score = memorization_score(log_px, held_out).score
  tolerance = 5 * score.std() / np.sqrt(num_items)
  assert abs(score.mean() - mean) < tolerance + 0.005
  assert abs(np.median(score) - median) < 1.6 * tolerance + 0.005
  assert abs(np.quantile(score, 0.95) - quantile_95) < 3 * tolerance + 0.05
  unbiased = memorization_score(log_px, held_out, estimator='mean_log').score
  assert abs(unbiased.mean()) < 5 * unbiased.std() / np.sqrt(num_items)
  assert abs(np.quantile(unbiased, 0.95) - mean_log_95) < tolerance + 0.02
  matched = memorization_score(log_px, held_out, estimator='matched').score
  assert abs(matched.mean()) < 5 * matched.std() / np.sqrt(num_items)


def test_t_interval_of_mean_log_covers_and_of_log_mean_exp_does_not():
  held_out = make_folds(4000, 10, num_repeats=10)
  log_px = noise(held_out.shape, seed=3)
  t = scipy.stats.t.ppf(0.975, 9)
  coverage = {}
  for estimator in ('mean_log', 'log_mean_exp'):
    scores = memorization_score(log_px, held_out, estimator=estimator)
    centre = 0.0 if estimator == 'mean_log' else scores.score.mean()
    coverage[estimator] = (
      np.abs(scores.score - centre) <= t * scores.std_err
    ).mean()
  assert 0.94 < coverage['mean_log'] < 0.96
  # Rule 2 of the design states 0.71 against the zero of no memorization.
  assert coverage['log_mean_exp'] < 0.93
  scores = memorization_score(log_px, held_out)
  honest = (np.abs(scores.score) <= t * scores.std_err).mean()
  assert 0.66 < honest < 0.76


@pytest.mark.parametrize('estimator', ESTIMATORS)
def test_p_values_count_scores_under_permuted_columns(estimator):
  held_out = make_folds(40, 4, num_repeats=3)
  log_px = noise(held_out.shape)
  options = {'num_permutations': 50, 'seed': 1, 'estimator': estimator}
  test = memorization_test(log_px, held_out, **options)
  score = memorization_score(log_px, held_out, estimator=estimator).score
  nulls = np.stack(
    [
      memorization_score(log_px, held_out[:, order], estimator=estimator).score
      for order in fold_permutations(40, 50, seed=1)
    ]
  )
  exceed = (nulls >= score - 1e-9).sum(axis=0)
  np.testing.assert_allclose(test.p_value, (1 + exceed) / 51)
  np.testing.assert_allclose(test.null_mean, nulls.mean(axis=0), atol=1e-12)
  np.testing.assert_allclose(test.null_std, nulls.std(axis=0, ddof=1))
  means = (nulls.mean(axis=1) >= score.mean()).sum()
  np.testing.assert_allclose(test.global_p_value[0], (1 + means) / 51)
  quantiles = (
    np.quantile(nulls, 0.95, axis=1) >= np.quantile(score, 0.95)
  ).sum()
  np.testing.assert_allclose(test.global_p_value[1], (1 + quantiles) / 51)


@pytest.mark.parametrize('num_repeats', [1, 2, 5])
@pytest.mark.parametrize('groups', [None, np.arange(200) // 2])
@pytest.mark.parametrize('estimator', ['mean_log', 'log_mean_exp'])
def test_shown_nulls_are_what_scores_are_without_memorization(
  num_repeats, groups, estimator
):
  held_out = make_folds(200, 5, num_repeats=num_repeats, seed=1, groups=groups)
  log_px = noise(held_out.shape)
  options = {'estimator': estimator, 'groups': groups}
  without = null_scores(log_px, held_out, **options)
  assert without.shape == (20, 200)
  # However much is memorized, by all or by some, the null stays as it is.
  for effect in (1e3 * (np.arange(200) < 20), np.full(200, 3.0)):
    nulls = null_scores(log_px - effect * held_out, held_out, **options)
    np.testing.assert_allclose(nulls, without, atol=1e-6)
  score = memorization_score(log_px, held_out, estimator=estimator).score
  assert scipy.stats.ks_2samp(score, without.ravel()).pvalue > 0.001
  np.testing.assert_allclose(without.std(), score.std(), rtol=0.15)


def test_shown_nulls_of_two_models_keep_their_noise():
  held_out = make_folds(200, 2)
  log_px = noise(held_out.shape)
  nulls = null_scores(log_px, held_out)
  score = memorization_score(log_px, held_out, estimator='mean_log').score
  np.testing.assert_allclose(nulls.std(), score.std(), rtol=0.15)


@pytest.mark.parametrize('num_repeats', [1, 3])
@pytest.mark.parametrize('estimator', ['mean_log', 'log_mean_exp'])
def test_under_the_null_p_is_uniform_and_the_global_test_has_its_level(
  num_repeats, estimator
):
  """Log p with model, item and common noise, but blind to the folds."""
  rng = np.random.default_rng(7)
  p_items, p_global = [], []
  for trial in range(200):
    held_out = make_folds(60, 5, num_repeats=num_repeats, seed=trial)
    num_models = 5 * num_repeats
    log_px = (
      rng.normal(size=(num_models, 1)) * 2
      + rng.normal(size=(1, 60)) * 10
      + rng.normal(size=(num_models, 60)) * rng.gamma(2, size=(1, 60))
    )
    test = memorization_test(
      log_px, held_out, estimator=estimator, num_permutations=99, seed=trial
    )
    p_items.append(test.p_value[0])
    p_global.append(test.global_p_value)
  p_items, p_global = np.array(p_items), np.array(p_global)
  # 200 draws: the standard error of a rejection rate of 0.05 is 0.015, of
  # 0.2 it is 0.028.
  assert ((p_global <= 0.05).mean(axis=0) < 0.05 + 3 * 0.015).all()
  assert ((p_global <= 0.05).mean(axis=0) > 0.05 - 3 * 0.015).all()
  assert scipy.stats.kstest(p_global[:, 0], 'uniform').pvalue > 0.01
  if num_repeats == 3:
    assert scipy.stats.kstest(p_items, 'uniform').pvalue > 0.01
  else:
    # Five equally likely scores: about 1/5, 2/5, …, never below 1/5.
    assert p_items.min() > 0.05
    assert abs((p_items <= 0.3).mean() - 0.2) < 3 * 0.028


def test_false_discoveries_are_controlled_and_planted_items_are_found():
  rng = np.random.default_rng(11)
  planted = np.arange(500) < 25
  false_share, found = [], []
  for trial in range(20):
    held_out = make_folds(500, 10, num_repeats=5, seed=trial)
    log_px = rng.normal(size=held_out.shape) * 3 - 100
    log_px -= 15.0 * planted * held_out
    test = memorization_test(log_px, held_out, num_permutations=200, seed=trial)
    called = test.q_value <= 0.1
    false_share.append((called & ~planted).sum() / max(1, called.sum()))
    found.append(called[planted].mean())
    assert test.global_p_value[1] <= 0.05
  assert np.mean(found) > 0.95
  assert np.mean(false_share) < 0.15


def test_one_repeat_finds_planted_items_and_controls_false_discoveries():
  rng = np.random.default_rng(3)
  planted = np.arange(500) < 10
  false_share, found, alarms = [], [], []
  for trial in range(8):
    held_out = make_folds(500, 10, seed=trial)
    log_px = rng.normal(size=(10, 1)) + rng.normal(size=(10, 500)) * rng.gamma(
      3, size=(1, 500)
    )
    test = memorization_test(log_px, held_out, seed=trial)
    alarms.append((test.q_value <= 0.1).any())
    log_px -= 100.0 * planted * held_out
    test = memorization_test(log_px, held_out, seed=trial)
    called = test.q_value <= 0.1
    false_share.append((called & ~planted).sum() / max(1, called.sum()))
    found.append(called[planted].mean())
  assert np.mean(found) > 0.9
  assert np.mean(false_share) < 0.13
  assert np.mean(alarms) < 0.1 + 3 * 0.106


def test_groups_are_permuted_as_a_whole():
  """With noise shared inside a group, only the group-wise null is valid."""
  rng = np.random.default_rng(5)
  groups = np.repeat(np.arange(15), 4)
  rejected = {'groups': [], 'items': []}
  for trial in range(100):
    held_out = make_folds(60, 5, num_repeats=2, groups=groups, seed=trial)
    log_px = rng.normal(size=(10, 15))[:, groups]
    for name, given in (('groups', groups), ('items', None)):
      test = memorization_test(
        log_px, held_out, num_permutations=99, seed=trial, groups=given
      )
      rejected[name].append(test.global_p_value[0] <= 0.05)
  assert np.mean(rejected['groups']) < 0.05 + 3 * 0.022
  assert np.mean(rejected['items']) > 0.12


def test_constant_log_probabilities_are_no_discovery():
  held_out = make_folds(30, 5, num_repeats=2)
  test = memorization_test(
    np.full(held_out.shape, -123.4), held_out, num_permutations=50
  )
  np.testing.assert_array_equal(test.p_value, 1.0)
  np.testing.assert_array_equal(test.q_value, 1.0)
  np.testing.assert_array_equal(test.global_p_value, 1.0)
  np.testing.assert_array_equal(test.null_std, 0.0)


def test_seed_decides_everything():
  held_out = make_folds(30, 5, num_repeats=2)
  log_px = noise(held_out.shape)
  one, same, other = (
    memorization_test(log_px, held_out, num_permutations=50, seed=s)
    for s in (1, 1, 2)
  )
  np.testing.assert_array_equal(one.p_value, same.p_value)
  assert (one.p_value != other.p_value).any()


def bad(**change):
  held_out = make_folds(6, 3)
  arguments = {'log_px': noise((3, 6)), 'held_out': held_out}
  for name, value in change.items():
    array = arguments.get(name)
    arguments[name] = value(array.copy()) if callable(value) else value
  return arguments


def put(index, value):
  def change(array):
    array[index] = value
    return array

  return change


@pytest.mark.parametrize('function', [memorization_score, memorization_test])
@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    (bad(log_px=put((1, 2), np.nan)), r'log_px\[1, 2\]=nan: .*finite'),
    (bad(log_px=put((0, 5), -np.inf)), r'log_px\[0, 5\]=-inf'),
    (bad(held_out=put((slice(None), 4), False)), r'\[:, 4\] says that no'),
    (bad(held_out=put((slice(None), 4), True)), r'\[:, 4\] says that every'),
    (bad(log_px=noise((3, 5))), r'held_out has shape \(3, 6\).*\(3, 5\)'),
    (bad(repeat=np.zeros(2, int)), r'repeat has 2 entries .* expected 3'),
    (bad(estimator='mean_lgo'), r"estimator='mean_lgo'.*mean 'mean_log'"),
    (bad(held_out=np.full((3, 6), 2)), r'values besides 0 and 1'),
  ],
)
def test_bad_arguments_are_named(function, arguments, message):
  with pytest.raises(ValueError, match=message):
    function(**arguments)


def test_tracers_are_refused_with_a_hint():
  held_out = make_folds(6, 3)

  @jax.jit
  def traced(log_px):
    return memorization_score(log_px, held_out).score

  with pytest.raises(ValueError, match='importance_log_prob'):
    traced(jnp.zeros((3, 6)))


def test_groups_that_cannot_change_places_are_no_null():
  groups = np.array([0, 1, 1, 2, 2, 2])
  with pytest.raises(ValueError, match='3 groups, no two of one size'):
    memorization_test(**bad(groups=groups))


def test_bad_number_of_permutations():
  with pytest.raises(ValueError, match='num_permutations=0: .* 1 or more'):
    memorization_test(**bad(num_permutations=0))
