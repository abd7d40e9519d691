"""Scores of arms, their differences, and the words for them."""

import math

import numpy as np
import pytest
import scipy.stats

from memjax.analysis.rejection import analysis as rejection
from memjax.analysis.rejection import tables, verdict

RNG = np.random.default_rng(0)
TRAIN, TEST, HONEST = RNG.normal(size=(3, 300, 4)) + 2
COPIES = TRAIN + 0.01 * RNG.normal(size=TRAIN.shape)
LABELS = (np.arange(300) % 3,) * 3
SETS = rejection.EmbeddedSets('points', 'euclidean', TRAIN, TEST)


def score(generated, **options):
  options = {'num_cells': 2, 'num_permutations': 99, **options}
  return rejection.score_model(
    SETS, generated, LABELS, threshold=0.1, **options
  )


@pytest.fixture(scope='module')
def models():
  return {'honest': score(HONEST), 'copies': score(COPIES)}


def test_copies_are_found_and_an_honest_generator_is_not(models):
  copies, honest = models['copies'], models['honest']
  assert copies.c_t < -8
  assert copies.c_t_p_value == 0.01
  assert copies.copying_p_value == 0.01
  assert copies.copied_share > 0.9
  assert copies.class_c_t < -5
  assert (copies.by_class < -5).all()
  assert copies.share_below > 0.95
  assert honest.c_t_p_value > 0.05
  assert honest.copying_p_value > 0.05
  assert honest.share_below < 0.05
  assert abs(honest.class_c_t) < 2


def test_distances_are_those_of_a_loop(models):
  near = rejection.measure_distances(SETS, HONEST[:20])
  for row, x in enumerate(HONEST[:20]):
    to = np.linalg.norm(TRAIN - x, axis=1)
    np.testing.assert_allclose(near.train[row], to.min())
    assert near.nearest_train[row] == to.argmin()
    np.testing.assert_allclose(
      near.test[row], np.linalg.norm(TEST - x, axis=1).min()
    )


def test_too_few_samples_a_class_leave_class_numbers_out():
  found = rejection.score_model(
    SETS, HONEST[:45], (*LABELS[:2], LABELS[2][:45]), threshold=math.nan,
    num_cells=1, num_permutations=19,
  )  # fmt: skip
  assert math.isnan(found.class_c_t)
  assert np.isnan(found.by_class).all()
  assert math.isnan(found.share_below)
  assert math.isfinite(found.c_t)


def test_samples_where_no_test_image_lies_leave_c_t_out():
  """As those of a generator that has collapsed may; and it claims nothing."""
  far = np.repeat([[0.0, 0.0], [50.0, 0.0]], 150, axis=0)
  rng = np.random.default_rng(0)
  train = far + rng.normal(size=(300, 2))
  test = rng.normal(size=(300, 2))
  sets = rejection.EmbeddedSets('points', 'euclidean', train, test)
  found = rejection.score_model(
    sets, far[150:] + rng.normal(size=(150, 2)), (*LABELS[:2], LABELS[2][:150]),
    threshold=0.1, num_cells=2, num_permutations=19,
  )  # fmt: skip
  assert math.isnan(found.c_t)
  assert found.c_t_p_value == found.c_t_farther_p_value == 1
  arm = rejection.summarize([found, found])
  assert arm.p_value == 1
  assert math.isnan(arm.mean['c_t'])
  assert math.isfinite(arm.mean['frechet'])


def change(model, **numbers):
  return model._replace(**numbers)


def test_differences_are_paired_and_have_a_t_interval(models):
  base = models['honest']
  without = [change(base, c_t=x) for x in (-5.0, -1.0, -3.0)]
  with_it = [change(base, c_t=x) for x in (-4.0, 0.5, -1.5)]
  found = rejection.compare_arms(without, with_it)['c_t']
  d = np.array([1.0, 1.5, 1.5])
  expected = scipy.stats.ttest_1samp(d, 0.0)
  np.testing.assert_allclose(found.mean, d.mean())
  np.testing.assert_allclose(found.interval, expected.confidence_interval())
  np.testing.assert_allclose(found.p_value, expected.pvalue)
  with pytest.raises(ValueError, match='without has 3 models'):
    rejection.compare_arms(without, with_it[:2])


def test_one_seed_has_no_interval(models):
  arm = rejection.summarize([models['honest']])
  assert all(map(math.isnan, arm.interval['c_t']))
  assert arm.p_value == models['honest'].c_t_p_value
  assert arm.floor(99) == 0.01
  # Of several, the median is doubled, and so is the least it can be.
  assert rejection.summarize([models['honest']] * 3).floor(99) == 0.02


def test_twice_the_median_p_is_valid_for_dependent_seeds():
  """Under the null, whatever the dependence: P(p ≤ 0.05) ≤ 0.05."""
  rng = np.random.default_rng(1)
  for correlation in (0.0, 0.9, 1.0):
    shared = rng.normal(size=(20_000, 1)) * np.sqrt(correlation)
    own = rng.normal(size=(20_000, 3)) * np.sqrt(1 - correlation)
    p_values = scipy.stats.norm.cdf(shared + own)
    combined = np.minimum(1, 2 * np.median(p_values, axis=1))
    assert (combined <= 0.05).mean() <= 0.05 + 4 * np.sqrt(0.05 / 20_000)


def test_bad_labels_are_named_not_swallowed():
  """As a class without enough samples would be."""
  for labels, message in (
    ((*LABELS[:2], LABELS[2] - 1), r'labels\[2\] holds -1'),
    ((*LABELS[:2], LABELS[2][:5]), r'labels\[2\] has 5 entries'),
  ):
    with pytest.raises(ValueError, match=message):
      rejection.score_model(SETS, HONEST, labels, threshold=0.1)
  with pytest.raises(ValueError, match='num_class_cells=0'):
    score(HONEST, num_class_cells=0)


def test_the_distance_to_the_training_images_is_there(models):
  copies, honest = models['copies'], models['honest']
  assert copies.frechet_train < 0.01 < honest.frechet_train
  assert copies.frechet_train < copies.frechet


def test_tables_leave_out_seeds_that_stopped(models):
  images = np.zeros((3, 2, 2, 1), np.uint8)
  study = verdict.Study('points', images, images, (SETS, SETS), 0.1, 'drop', 99)
  seeds = [(m, m) for m in (models['honest'], models['copies'])]
  result = verdict.ArmResult(seeds, np.array([-1, 7]))
  table = tables.by_class(study, 'plain', result).table
  means = [row[1] for row in table.rows]
  np.testing.assert_allclose(means, models['honest'].by_class)
  names = [
    row[0] for row in tables.by_seed(study, {'plain': result}).table.rows
  ]
  assert names[1] == 'without rejection, seed 1 (stopped early)'


def judge(without, with_it):
  images = np.zeros((3, 2, 2, 1), np.uint8)
  study = verdict.Study('points', images, images, (SETS, SETS), 0.1, 'drop', 99)
  results = {
    name: verdict.ArmResult(
      [(m, m) for m in seeds], np.array([-1] * (len(seeds) - 1) + [7])
    )
    for name, seeds in (('plain', without), ('rejection', with_it))
  }
  arms = {
    name: tuple(
      rejection.summarize([m[k] for m in result.models]) for k in range(2)
    )
    for name, result in results.items()
  }
  change = rejection.compare_arms(without, with_it)
  return verdict.judge(study, arms, (change, change), results, 3)


def test_the_verdict_says_what_rejection_does(models):
  copies = [change(models['copies'], c_t=x) for x in (-12.0, -12.2, -12.4)]
  honest = [change(models['honest'], c_t=x) for x in (0.1, -0.2, 0.2)]
  helped = judge(copies, honest)
  assert helped.kind == 'no_copying'
  assert '**Without rejection** it copies' in helped.headline
  assert '**With rejection** no copies are found' in helped.headline
  assert 'keep its distance: C_T rises by 12.2' in helped.headline
  assert 'seed 2 stopped before step 7' in helped.uncertainty
  shifts = zip(copies, (0.1, -0.1, 0.02), strict=True)
  useless = judge(copies, [change(m, c_t=m.c_t + s) for m, s in shifts])
  assert useless.kind == 'copies'
  assert 'no effect that these seeds show' in useless.headline
  noise = [
    change(m, c_t=9.0, c_t_p_value=1.0, c_t_farther_p_value=0.01)
    for m in honest
  ]
  assert judge(copies, noise).kind == 'differs'
  # Narrow samples: near everything, but no nearer to train than to test.
  narrow = [change(m, c_t=-4.0, c_t_p_value=0.005) for m in honest]
  assert judge(copies, narrow).kind == 'leans'
  one = judge(copies[:1], honest[:1])
  assert 'one seed: no interval' in one.headline
