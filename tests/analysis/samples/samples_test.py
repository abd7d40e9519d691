"""Known generators: what is computed of them, and what the audit says."""

import functools

import numpy as np
import pytest
import scipy.stats

from memjax import frechet_distance, precision_recall
from memjax.analysis.samples.analysis import analyze_samples
from memjax.analysis.samples.verdict import judge_samples

SIZE, FEATURES = 300, 8
PERMUTATIONS = 119
CENTRES = 4 * np.random.default_rng(7).normal(size=(4, FEATURES))
RNG = np.random.default_rng(0)


def draw(modes=(0, 1, 2, 3)):
  """Points of four round clusters."""
  centres = CENTRES[RNG.choice(modes, SIZE)]
  return centres + RNG.normal(size=(SIZE, FEATURES))


TRAIN, TEST, HONEST = draw(), draw(), draw()
DROPPED = draw((0, 1, 2))
SHIFTED_TEST = draw() + 1.5


def copier(share, noise):
  rng = np.random.default_rng(1)
  count = round(share * SIZE)
  copied = TRAIN[rng.choice(SIZE, count, replace=False)]
  copies = copied + noise * rng.normal(size=copied.shape)
  return np.concatenate([copies, HONEST[count:]])


def few_points_copied():
  rng = np.random.default_rng(2)
  samples = HONEST.copy()
  samples[:60] = TRAIN[rng.integers(0, 2, 60)]
  return samples + 0.01 * rng.normal(size=samples.shape)


def shrink():
  """Towards the centre of each cluster."""
  nearest = np.argmin(((HONEST[:, None] - CENTRES) ** 2).sum(axis=2), axis=1)
  return 0.6 * HONEST + 0.4 * CENTRES[nearest]


def noisy():
  return HONEST + np.random.default_rng(3).normal(size=HONEST.shape)


def overlapping_test():
  return np.concatenate([TRAIN[:30], TEST[30:]])


CASES = {
  'honest': lambda: (TRAIN, TEST, HONEST),
  'copier 1 %': lambda: (TRAIN, TEST, copier(0.01, 0.0)),
  'copier 5 %': lambda: (TRAIN, TEST, copier(0.05, 0.0)),
  'copier 5 % noisy': lambda: (TRAIN, TEST, copier(0.05, 0.02)),
  'copier 20 %': lambda: (TRAIN, TEST, copier(0.2, 0.0)),
  'copier 20 % noisy': lambda: (TRAIN, TEST, copier(0.2, 0.1)),
  'few points copied': lambda: (TRAIN, TEST, few_points_copied()),
  'shrunk': lambda: (TRAIN, TEST, shrink()),
  'dropped': lambda: (TRAIN, TEST, DROPPED),
  'noisy': lambda: (TRAIN, TEST, noisy()),
  'shifted test': lambda: (TRAIN, SHIFTED_TEST, HONEST),
  'overlap': lambda: (TRAIN, overlapping_test(), HONEST),
  'repeats': lambda: (
    TRAIN,
    TEST,
    np.concatenate([HONEST[:240], HONEST[:60]]),
  ),
  'few points': lambda: (TRAIN[:20], TEST[:20], HONEST[:20]),
}


@functools.cache
def audit(name):
  """The seed of the labels is not that of the data."""
  # The power of "no copying found" takes most of the time: twice is enough.
  level = 0.05 if name in ('honest', 'few points') else 1.0
  analysis = analyze_samples(
    *CASES[name](), num_permutations=PERMUTATIONS, seed=77, level=level
  )
  return analysis, judge_samples(analysis, PERMUTATIONS)


@pytest.mark.parametrize(
  ('name', 'kind', 'phrases'),
  [
    ('honest', 'no_copying',
     ('No copying found. No other difference from the data was found.',
      'would have been found, in 9 of 10 trials')),
    ('copier 1 %', 'no_copying', ('No copying found.',)),
    ('copier 5 %', 'copies', ('It copies: about', '95 % interval')),
    ('copier 5 % noisy', 'copies', ('It copies: about', 'stand out')),
    ('copier 20 %', 'copies', ('It copies: about 2',)),
    ('copier 20 % noisy', 'copies', ('It copies: about',)),
    ('shrunk', 'differs', ('Too little diversity', 'distribution differs')),
    ('dropped', 'differs',
     ('Too little diversity: samples leave', 'of the data uncovered')),
    ('noisy', 'differs', ('Samples lie off the data (noise',)),
    ('shifted test', 'not_valid',
     ('No verdict: the test points differ from the training',)),
  ],
)  # fmt: skip
def test_known_generators_are_told_apart_in_words(name, kind, phrases):
  _, verdict = audit(name)
  assert verdict.kind == kind, verdict
  for phrase in phrases:
    assert phrase in f'{verdict.headline} {verdict.uncertainty}', verdict


@pytest.mark.parametrize(
  ('name', 'answers'),
  [
    ('honest', ('not found', 'yes', 'yes', 'no difference found')),
    ('copier 20 %', ('yes', 'yes', 'yes', 'no difference found')),
    ('dropped', ('not found', 'yes', 'no', 'different')),
    ('noisy', ('not found', 'no', 'no', 'different')),
  ],
)
def test_each_question_has_its_answer(name, answers):
  assert tuple(view.answer for view in audit(name)[1].views) == answers


@pytest.mark.parametrize(
  ('name', 'share'),
  [
    ('copier 5 %', 0.05),
    ('copier 5 % noisy', 0.05),
    ('copier 20 %', 0.2),
    ('copier 20 % noisy', 0.2),
  ],
)
def test_the_share_of_copies_is_in_its_interval(name, share):
  copying = audit(name)[0].copying
  low, high = copying.interval
  assert low <= share <= high
  count = round(share * SIZE)
  named = copying.q_value <= 0.05
  assert named[:count].mean() >= 0.9
  # 5 % on average, which copying_test.py checks; here in one draw.
  assert named[count:].sum() <= 8


@pytest.mark.parametrize(
  ('name', 'phrase'),
  [
    ('overlap', '10 % of the test points are training points: remove them.'),
    ('repeats', '20 % of the samples repeat an earlier one exactly (0 % of'),
    ('few points', 'test has only 20 points: little can be told.'),
    ('shifted test', 'Test points keep apart from training points'),
  ],
)
def test_what_weakens_the_answer_is_said(name, phrase):
  assert any(phrase in caveat for caveat in audit(name)[1].caveats)


def test_copies_of_few_points_are_weak_evidence():
  verdict = audit('few points copied')[1]
  assert verdict.kind == 'leans'
  assert 'Possibly it copies: ' in verdict.headline


def test_an_honest_generator_has_no_caveat():
  assert audit('honest')[1].caveats == ()
  assert audit('copier 5 %')[1].caveats == ()


def test_few_points_could_not_have_told():
  analysis, verdict = audit('few points')
  assert analysis.detectable == np.inf
  assert 'would hardly have been found' in verdict.uncertainty


def test_nearness_to_dense_regions_is_no_copying():
  """C_T falls for it; the verdict says why it does not."""
  analysis, verdict = audit('shrunk')
  assert analysis.data_copying.p_value < 0.01
  assert analysis.copying.p_value > 0.05
  assert any('so they keep to dense regions' in c for c in verdict.caveats)


def test_what_was_found_needs_no_power():
  assert np.isnan(audit('copier 20 %')[0].detectable)
  assert 0 < audit('honest')[0].detectable <= 0.05


def test_numbers_of_one_audit_equal_their_definitions():
  analysis, _ = audit('noisy')
  samples = noisy()
  assert analysis.sizes == (SIZE, SIZE, SIZE)
  assert analysis.num_features == analysis.frechet_components == FEATURES
  assert analysis.quality == precision_recall(TRAIN, samples)
  np.testing.assert_allclose(
    analysis.coverage.coverage.value, analysis.quality.coverage
  )
  np.testing.assert_allclose(
    analysis.frechet.value, frechet_distance(TEST, samples)
  )
  to_train = lambda points: np.linalg.norm(
    points[:, None] - TRAIN[None], axis=2
  ).min(axis=1)
  np.testing.assert_allclose(analysis.distances.test, to_train(TEST))
  np.testing.assert_allclose(analysis.distances.generated, to_train(samples))
  pairs = to_train(samples)[:, None] < to_train(TEST)[None]
  np.testing.assert_allclose(analysis.nearness.to_train, pairs.mean())
  half = np.random.default_rng(77).permutation(SIZE)
  reference, others = TEST[half[:150]], TEST[half[150:]]
  near = lambda points: np.linalg.norm(
    points[:, None] - reference[None], axis=2
  ).min(axis=1)
  nearer = near(samples)[:, None] < near(others)[None]
  np.testing.assert_allclose(analysis.nearness.to_held_out, nearer.mean())
  ranks = scipy.stats.mannwhitneyu(
    near(samples), near(others), alternative='greater'
  )
  assert ranks.pvalue < 1e-10
  assert analysis.nearness.p_wide == 1 / (1 + PERMUTATIONS)
  assert analysis.repeats == (0, 0)
  assert analysis.overlap == 0


def test_shares_of_repeats_and_overlap():
  np.testing.assert_allclose(audit('repeats')[0].repeats, (0.2, 0))
  np.testing.assert_allclose(audit('overlap')[0].overlap, 0.1)


def small(**changes):
  rng = np.random.default_rng(0)
  sets = dict(
    zip(('train', 'test', 'generated'), rng.normal(size=(3, 60, 4)),
        strict=True)
  )  # fmt: skip
  # At this level every p counts as found, and no power is asked for.
  options = {'num_permutations': 19, 'seed': 5, 'level': 1.0, **changes}
  for name in sets:
    sets[name] = options.pop(name, sets[name])
  return analyze_samples(**sets, **options)


def test_constant_features_are_noted():
  points = np.random.default_rng(0).normal(size=(3, 60, 4))
  points[:, :, 3] = 2
  points[2, :, 1] = 0
  analysis = small(
    **dict(zip(('train', 'test', 'generated'), points, strict=True))
  )
  assert analysis.notes[0] == (
    'Of 4 features are constant: 1 in train, 1 in test, 2 in generated.'
  )


def test_many_training_points_to_a_test_point_are_a_warning():
  rng = np.random.default_rng(1)
  analysis = small(
    train=rng.normal(size=(220, 4)), test=rng.normal(size=(20, 4))
  )
  assert any('11 training points to a test' in w for w in analysis.warnings)


def test_one_cell_is_used_where_none_is_left():
  """20 samples in 5 cells: a cell needs more than 20."""
  analysis = audit('few points')[0]
  assert any('one cell was used instead' in note for note in analysis.notes)
  assert np.isfinite(analysis.data_copying.c_t)
  assert len(analysis.cells.z_u) == 1


def test_classes_are_told_apart():
  rng = np.random.default_rng(1)
  train, test, generated = rng.normal(size=(3, 120, 4))
  label = np.repeat([3, 2**40], 60)
  generated[label == 3] = train[label == 3]
  analysis = small(
    train=train, test=test, generated=generated, labels=(label,) * 3
  )
  assert analysis.classwise.label.tolist() == [3, 2**40]
  assert analysis.classwise.p_value[0] == 0.05
  assert analysis.classwise.p_value[1] > 0.05
  assert small().classwise is None


def test_classes_without_points_are_noted():
  label = np.arange(60)
  analysis = small(labels=(label,) * 3)
  assert analysis.classwise is None
  assert 'No class has enough' in analysis.notes[-1]


def test_more_features_than_components_or_points():
  rng = np.random.default_rng(1)
  train, test, generated = rng.normal(size=(3, 30, 5, 4, 2))
  analysis = small(
    train=train, test=test, generated=generated, num_components=6
  )
  assert (analysis.num_features, analysis.frechet_components) == (40, 6)
  analysis = small(train=train, test=test, generated=generated)
  assert analysis.frechet_components == 30
  assert np.isfinite(analysis.frechet.value)


def test_the_fewest_points_that_are_taken():
  train, test, generated = np.random.default_rng(1).normal(size=(3, 4, 4))
  analysis = small(train=train, test=test[:2], generated=generated[:2], k=1)
  assert analysis.sizes == (4, 2, 2)
  assert np.isfinite(analysis.metrics.likelihood.value)


def test_discrete_points_and_cosine():
  rng = np.random.default_rng(1)
  sets = rng.integers(1, 3, (3, 60, 3))
  for metric in ('euclidean', 'cosine'):
    analysis = small(
      **dict(zip(('train', 'test', 'generated'), sets, strict=True)),
      metric=metric,
    )
    verdict = judge_samples(analysis, 19)
    assert verdict.kind in ('no_copying', 'differs', 'leans')


def test_the_same_seed_gives_the_same_numbers():
  one, two = small(), small()
  assert one.copying.p_value == two.copying.p_value
  assert one.data_copying_interval == two.data_copying_interval
  assert one.nearness == two.nearness


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    ({'k': 60}, 'train has 60 points: expected more than k=60'),
    ({'test': np.ones((5, 4))}, 'test has 5 points: expected more than k=5'),
    (
      {'train': np.eye(4)[:3], 'k': 1, 'measure': False},
      'train has 3 points: expected 4 or more',
    ),
    ({'train': np.ones((9, 4))}, 'train holds one point again and again'),
    ({'num_components': 0}, 'num_components=0'),
    ({'num_permutations': 0}, 'num_permutations=0'),
    ({'generated': np.ones((9, 3))}, 'generated has 3 features and train 4'),
    ({'metric': 'cos'}, "metric='cos'"),
    ({'num_cells': 0}, 'num_cells=0'),
  ],
)
def test_bad_arguments_are_named(arguments, message):
  with pytest.raises(ValueError, match=message):
    small(**arguments)
