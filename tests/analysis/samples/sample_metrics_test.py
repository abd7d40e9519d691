"""The metrics of an audit: each equals its function; words and names fit."""

import json

import numpy as np
import pytest

import memjax
from memjax.analysis.samples.analysis import analyze_samples
from memjax.analysis.samples.comparison import (
  SecondView,
  compare,
  comparison_record,
  comparison_section,
  disagreement,
)
from memjax.analysis.samples.metrics import measure_samples
from memjax.analysis.samples.metrics_section import (
  metrics_arrays,
  metrics_record,
  metrics_rows,
  metrics_section,
)
from memjax.analysis.samples.verdict import judge_samples

SIZE, FEATURES = 150, 6
RNG = np.random.default_rng(0)
TRAIN, TEST, HONEST = RNG.normal(size=(3, SIZE, FEATURES))
COPIES = np.concatenate([TRAIN[:40], HONEST[40:]])
OPTIONS = {'metric': 'euclidean', 'num_permutations': 99, 'seed': 3}


@pytest.fixture(scope='module')
def copier():
  logits = RNG.normal(size=(2, SIZE, 5))
  return measure_samples(
    TRAIN, TEST, COPIES, logits=(logits[0], logits[1]), **OPTIONS
  )


def test_each_equals_its_function(copier):
  null = {'num_permutations': 99, 'seed': 3}
  assert copier.kernel == memjax.kernel_distance(TEST, COPIES)
  assert copier.kernel_reference == memjax.kernel_distance(TEST, TRAIN)
  for value, points in (
    (copier.frechet, COPIES),
    (copier.frechet_reference, TEST),
  ):
    np.testing.assert_allclose(value, memjax.frechet_distance(TRAIN, points))
  found = memjax.feature_likelihood_divergence(TRAIN, TEST, COPIES, seed=3)
  assert copier.likelihood.value == found.value
  gap = memjax.gap_ratio(TRAIN, COPIES, test=TEST, **null)
  assert copier.gap.fraction == gap.fraction >= 40 / SIZE
  assert copier.gap.p_value == gap.p_value == 0.01
  dcr = memjax.dcr_share(TRAIN, TEST, COPIES, **null)
  assert copier.dcr.share == dcr.share
  nearest = lambda points: (
    -np.linalg.norm(points[:, None] - COPIES[None], axis=2).min(axis=1)
  )
  attack = memjax.membership_inference(nearest(TRAIN), nearest(TEST))
  np.testing.assert_allclose(copier.attack.auroc, attack.auroc)
  assert copier.attack.intervals.auroc.low > 0.5
  assert copier.inception is not None
  assert copier.inception.value > 1


def test_the_attack_on_an_honest_generator_covers_a_half():
  inside = 0
  for seed in range(40):
    train, test, honest = np.random.default_rng(seed).normal(size=(3, 60, 3))
    near = lambda points, honest=honest: (
      -np.linalg.norm(points[:, None] - honest[None], axis=2).min(axis=1)
    )
    attack = memjax.membership_inference(near(train), near(test))
    inside += attack.intervals.auroc.low <= 0.5 <= attack.intervals.auroc.high
  assert inside >= 34


def test_what_cannot_be_computed_is_left_out():
  zero = COPIES.copy()
  zero[3] = 0
  found = measure_samples(TRAIN, TEST, zero, **OPTIONS)
  assert found.informed_frechet is None
  assert found.inception is None
  names = [row[0] for row in metrics_rows(found, 99)]
  assert not any('informed' in name for name in names)
  said = metrics_section(found, (SIZE,) * 3, FEATURES, 99).body
  assert 'informed distance is left out: a point is the zero vector' in said
  wide = np.random.default_rng(0).normal(size=(3, 8, 2100))
  found = measure_samples(*wide, **OPTIONS)
  assert np.isnan(found.frechet)
  section = metrics_section(found, (8, 8, 8), 2100, 99)
  assert 'not available' in str(section.table.rows)
  assert 'No Fréchet distance is computed of more than 2,048' in section.body
  assert 'here are 2,100' in section.body


def test_every_number_stands_beside_a_reference_and_its_error(copier):
  rows = metrics_rows(copier, 99, embedding='x')
  assert all(all(row) for row in rows), rows
  names = [row[0] for row in rows]
  assert 'attack: TPR at 0.1 % FPR' in names
  said = metrics_section(copier, (SIZE,) * 3, FEATURES, 99).body
  # How large the bias is.
  reference = memjax.frechet_distance(TRAIN, TEST)
  assert f'get {reference:.3g}. Compare' in said


def test_what_data_get_of_the_informed_distance(copier):
  null = {'num_permutations': 19, 'seed': 3}
  of = memjax.memorization_informed_frechet
  informed = of(TRAIN, COPIES, test=TEST, **null)
  np.testing.assert_allclose(copier.informed_frechet.value, informed.value)
  np.testing.assert_allclose(
    copier.informed_reference, of(TRAIN, TEST, **null).value
  )
  # Of as many: a larger set of samples has no smaller bias.
  few = measure_samples(TRAIN, TEST[:40], HONEST, **OPTIONS)
  assert few.informed_frechet.frechet == few.frechet
  # And of fewer features, where data are below the threshold.
  columns = slice(0, 3)
  found = measure_samples(
    TRAIN[:, columns], TEST[:, columns], HONEST[:, columns], **OPTIONS
  )
  reference = of(TRAIN[:, columns], TEST[:, columns], **null)
  assert reference.is_penalized
  np.testing.assert_allclose(found.informed_reference, reference.value)


def test_frechet_distances_are_of_equally_many():
  few = TEST[:40]
  found = measure_samples(TRAIN, few, HONEST, **OPTIONS)
  reference = memjax.frechet_distance(TRAIN, few)
  np.testing.assert_allclose(found.frechet_reference, reference)
  # Of as many honest samples, and so biased alike: not the value of all 150.
  assert found.frechet > 2 * memjax.frechet_distance(TRAIN, HONEST)


def test_names_are_earned(copier):
  text = lambda **options: str(metrics_rows(copier, 99, **options))
  for plain in (text(), text(embedding='EfficientNet-Lite0')):
    for name in ('FID', 'KID', 'MiFID', 'Inception'):
      assert name not in plain
  assert 'Fréchet distance (as given)' in text()
  assert 'Fréchet distance (EfficientNet-Lite0)' in text(
    embedding='EfficientNet-Lite0'
  )
  # Another resize is part of the name of each.
  other = 'Inception-v3 2015-12-05, clean to 299, (x-128)/128'
  names = [row[0] for row in metrics_rows(copier, 99, embedding=other)]
  assert sum(f'({other})' in name for name in names) == 4
  assert f'score of the classes ({other})' in names
  canonical = text(embedding='Inception-v3', is_canonical=True)
  for name in ('FID', 'KID', 'MiFID', 'Inception score'):
    assert name in canonical


@pytest.mark.parametrize(('size', 'is_few'), [(6, True), (7, False)])
def test_fewer_points_than_features_are_said(size, is_few, copier):
  section = metrics_section(copier, (size, 9, 50), FEATURES, 99)
  assert ('No more points than features' in section.body) == is_few
  assert 'biased' in section.body or is_few


def test_records_are_json_and_name_their_arrays(copier):
  record = metrics_record(copier, 'arrays/samples.npz', is_canonical=True)
  again = json.loads(json.dumps(record))
  assert again['gap_ratio']['fraction'] == copier.gap.fraction
  assert again['kernel_distance']['is_kid']
  arrays = metrics_arrays(copier)
  for part in again.values():
    if isinstance(part, dict) and part.get('array', '').endswith('ization'):
      assert part['array'].split(':')[1] in arrays
  assert arrays['fld_memorization'].shape == (SIZE,)


@pytest.fixture(scope='module')
def views():
  """The same samples in all features and in the first two alone."""
  found = []
  for columns in (slice(None), slice(0, 1)):
    analysis = analyze_samples(
      TRAIN[:, columns], TEST[:, columns], COPIES[:, columns],
      num_permutations=99, seed=3, estimate_power=False,
    )  # fmt: skip
    found.append((analysis, judge_samples(analysis, 99)))
  return found


def test_two_embeddings_are_compared_sample_by_sample(views):
  (one, verdict), (two, other) = views
  found = compare(one, two)
  is_one, is_two = (a.copying.q_value <= 0.05 for a in (one, two))
  assert found.num_both == (is_one & is_two).sum()
  assert found.num_first == (is_one & ~is_two).sum() == len(found.only_first)
  assert set(found.only_second) == set(np.flatnonzero(is_two & ~is_one))
  same = one.copying.nearest_train == two.copying.nearest_train
  assert found.same_nearest == same.mean()
  itself = compare(one, one)
  assert itself.num_first == itself.num_second == 0
  np.testing.assert_allclose(itself.rank_correlation, 1)
  second = SecondView('one feature', two, other)
  section = comparison_section('all', one, verdict, second)
  assert section.table.rows[0][0] == 'verdict'
  record = json.loads(json.dumps(comparison_record(one, second)))
  assert record['embedding'] == 'one feature'


def test_disagreement_is_a_caveat(views):
  verdict = views[0][1]
  honest = verdict._replace(kind='no_copying', headline='No copying found.')
  assert disagreement(verdict, verdict, 'x') == ''
  assert disagreement(honest, honest, 'x') == ''
  assert 'In x no copying was found' in disagreement(verdict, honest, 'x')
  assert 'But in x: It copies' in disagreement(
    honest, verdict._replace(headline='It copies.'), 'x'
  )


def test_measuring_is_optional():
  found = analyze_samples(
    TRAIN, TEST, COPIES, num_permutations=19, estimate_power=False,
    measure=False,
  )  # fmt: skip
  assert found.metrics is None
