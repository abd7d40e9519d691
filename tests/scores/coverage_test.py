import numpy as np
import pytest

from memjax import distances
from memjax.scores import coverage
from memjax.scores.coverage import coverage_test, precision_recall


def slow_precision_recall(real, generated, k):
  """prdc 0.2's definitions with all pairwise distances."""
  pairs = lambda x, y: np.linalg.norm(x[:, None] - y[None], axis=2)
  radius = lambda x: np.sort(pairs(x, x), axis=1)[:, k]  # column 0: itself
  d = pairs(generated, real)
  in_real = d < radius(real)[None]
  in_generated = d < radius(generated)[:, None]
  return (
    in_real.any(axis=1).mean(),
    in_generated.any(axis=0).mean(),
    in_real.sum() / k / len(generated),
    (d.min(axis=0) < radius(real)).mean(),
  )


@pytest.mark.parametrize('k', [1, 5])
@pytest.mark.parametrize(
  ('shift', 'scale'), [(0, 1), (1, 0.5), (0, 3), (20, 1)]
)
def test_equals_all_pairs(k, shift, scale):
  rng = np.random.default_rng(k)
  real, generated = rng.normal(size=(90, 4)), rng.normal(size=(70, 4))
  generated = scale * generated + shift
  np.testing.assert_allclose(
    precision_recall(real, generated, k=k),
    slow_precision_recall(real, generated, k),
  )


@pytest.mark.parametrize(
  (
    'seed',
    'num_real',
    'num_generated',
    'num_features',
    'k',
    'shift',
    'expected',
  ),
  [
    (0, 300, 200, 2, 5, 0.0, (1.0, 0.9833333333, 1.022, 0.95)),
    (1, 200, 300, 8, 3, 0.5, (0.8433333333, 0.65, 0.9388888889, 0.705)),
    (2, 500, 400, 64, 5, 0.3, (0.9075, 0.234, 2.239, 0.976)),
  ],
)
def test_goldens_of_prdc(
  seed, num_real, num_generated, num_features, k, shift, expected
):
  """Computed with prdc 0.2 from PyPI, NumPy 2.4.6, scikit-learn 1.9.1."""
  rng = np.random.default_rng(seed)
  real = rng.normal(size=(num_real, num_features))
  generated = rng.normal(size=(num_generated, num_features)) * 0.9 + shift
  np.testing.assert_allclose(
    precision_recall(real, generated, k=k), expected, rtol=1e-9
  )


@pytest.mark.slow
def test_golden_of_the_prdc_readme():
  """N(0, I), 10,000 × 1,000, RandomState(0): field-notes, 6.5."""
  rng = np.random.RandomState(0)
  real, generated = rng.normal(size=(2, 10_000, 1000))
  result = precision_recall(real, generated)
  np.testing.assert_allclose(
    result, (0.4910, 0.4746, 1.1512, 0.9799), atol=6e-5
  )


def test_the_device_gives_the_same(monkeypatch):
  rng = np.random.default_rng(0)
  real, generated = rng.normal(size=(300, 30)), rng.normal(size=(250, 30))
  generated[:20] = real[:20]
  expected = precision_recall(real, generated)
  small = {'small': 0}
  for name in ('exact_neighbors', 'within_radius'):
    function = getattr(distances, name)
    monkeypatch.setattr(
      coverage, name, lambda *a, f=function, **k: f(*a, **k, **small)
    )
  assert precision_recall(real, generated) == expected


def test_the_edge_of_a_ball_is_outside():
  """Copies of the neighbour that sets the radius lie exactly on it."""
  real = np.array([[0.0], [1.0], [10.0], [14.0]])
  result = precision_recall(real, np.array([[1.0], [14.0], [30.0]]), k=1)
  # B(0) = (−1, 1), B(1) = (0, 2), B(10) = (6, 14), B(14) = (10, 18).
  np.testing.assert_allclose(result.precision, 2 / 3)
  np.testing.assert_allclose(result.density, 2 / 3)
  np.testing.assert_allclose(result.coverage, 2 / 4)


def test_collapse_and_noise():
  rng = np.random.default_rng(0)
  real, generated = rng.normal(size=(2, 500, 8))
  same = precision_recall(real, generated)
  assert abs(same.density - 1) < 0.15
  shrunk = precision_recall(real, 0.3 * generated)
  assert shrunk.precision > 0.9
  assert shrunk.recall < 0.3 < same.recall
  assert shrunk.coverage < same.coverage
  noisy = precision_recall(real, 3 * generated)
  assert noisy.precision < 0.3 < noisy.recall
  # A pure copier looks perfect: this is no test of memorization.
  copier = precision_recall(real, real)
  assert copier.precision == copier.recall == copier.coverage == 1.0


def test_roles_are_symmetric_and_order_does_not_matter():
  rng = np.random.default_rng(0)
  real, generated = rng.normal(size=(80, 3)), rng.normal(size=(60, 3)) + 0.5
  one, two = (
    precision_recall(real, generated),
    precision_recall(generated, real),
  )
  assert (one.precision, one.recall) == (two.recall, two.precision)
  order = rng.permutation(80)
  assert precision_recall(real[order], generated) == one
  moved = precision_recall(2 * real - 9, 2 * generated - 9)
  np.testing.assert_allclose(moved, one)
  scaled = precision_recall(3 * real, generated, metric='cosine')
  np.testing.assert_allclose(
    scaled, precision_recall(real, 5 * generated, metric='cosine')
  )


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    ({'k': 6}, r'k=6: .*\[1, 5\]'),
    ({'k': 0}, r'k=0: .*\[1, 5\]'),
    ({'real': np.ones((1, 2))}, 'real has 1 point: expected more than k=5'),
    ({'generated': np.ones((6, 3))}, 'generated has 3 features and real 2'),
    ({'metric': 'cosine', 'real': np.zeros((6, 2))}, r'real\[0\] is a zero'),
  ],
)
def test_bad_arguments_are_named(arguments, message):
  with pytest.raises(ValueError, match=message):
    precision_recall(
      **{'real': np.ones((9, 2)), 'generated': np.ones((6, 2)), **arguments}
    )


def test_coverage_test_equals_all_pairs_under_every_exchange():
  rng = np.random.default_rng(3)
  train, test = rng.normal(size=(40, 3)), rng.normal(size=(25, 3))
  generated = 0.7 * rng.normal(size=(30, 3)) + 0.3
  result = coverage_test(
    train, test, generated, k=3, num_permutations=25, seed=4
  )
  of = lambda samples: np.array(slow_precision_recall(train, samples, 3))[
    [0, 3]
  ]
  rng, pooled = np.random.default_rng(4), np.concatenate([test, generated])
  nulls = np.array([of(pooled[rng.permutation(55)[25:]]) for _ in range(25)])
  for found, value, null in zip(
    result[:2], of(generated), nulls.T, strict=True
  ):
    np.testing.assert_allclose(found.value, value)
    np.testing.assert_allclose(found.null_mean, null.mean())
    np.testing.assert_allclose(found.null_std, null.std(ddof=1))
    np.testing.assert_allclose(
      found.p_value, (1 + (null <= value + 1e-9).sum()) / 26
    )


@pytest.mark.parametrize('metric', ['euclidean', 'cosine'])
@pytest.mark.parametrize('k', [1, 5])
def test_coverage_test_has_the_values_of_precision_recall(metric, k):
  rng = np.random.default_rng(k)
  train, test = rng.normal(size=(2, 80, 4))
  generated = rng.normal(size=(70, 4)) + 0.5
  generated[:10] = train[:10]
  generated[10] = generated[11]
  result = coverage_test(
    train, test, generated, k=k, metric=metric, num_permutations=5
  )
  expected = precision_recall(train, generated, k=k, metric=metric)
  np.testing.assert_allclose(result.precision.value, expected.precision)
  np.testing.assert_allclose(result.coverage.value, expected.coverage)


@pytest.mark.parametrize(('num_test', 'num_generated'), [(40, 40), (30, 70)])
def test_coverage_test_is_exact_for_an_honest_generator(
  num_test, num_generated
):
  """Different seeds for data and exchanges."""
  p = []
  for seed in range(150):
    rng = np.random.default_rng(seed)
    result = coverage_test(
      rng.normal(size=(60, 3)),
      rng.normal(size=(num_test, 3)),
      rng.normal(size=(num_generated, 3)),
      num_permutations=39,
      seed=10_000 + seed,
    )
    p.append([result.precision.p_value, result.coverage.p_value])
  for level in (0.05, 0.1, 0.25, 0.5):
    error = 3 * np.sqrt(level * (1 - level) / len(p))
    assert ((np.array(p) <= level).mean(axis=0) <= level + error).all()
  # Counts are coarse; ties count against, so p may be larger.
  assert ((np.array(p) <= 0.5).mean(axis=0) >= 0.15).all()


def test_coverage_test_tells_noise_from_narrowness():
  rng = np.random.default_rng(0)
  train, test, generated = rng.normal(size=(3, 300, 8))
  test_of = lambda samples: coverage_test(
    train, test, samples, num_permutations=99
  )
  narrow, noisy = test_of(0.4 * generated), test_of(2 * generated)
  assert narrow.precision.p_value > 0.5
  assert narrow.coverage.p_value == 0.01
  assert noisy.precision.p_value == 0.01
  dropped = generated[generated[:, 0] > 0]
  assert test_of(dropped).coverage.p_value == 0.01
  assert test_of(dropped).precision.p_value > 0.05
  # Copies lie on the data: neither is a test of memorization.
  assert min(test_of(train)[0].p_value, test_of(train)[1].p_value) > 0.5


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    ({'k': 9}, r'k=9: .*\[1, 8\]'),
    ({'k': 0}, 'k=0'),
    ({'train': np.ones((1, 2))}, 'train has 1 point: expected more than k=5'),
    ({'generated': np.ones((6, 3))}, 'generated has 3 features and train 2'),
    ({'test': np.full((6, 2), np.nan)}, r'test\[0, 0\]=nan'),
    ({'num_permutations': 0}, 'num_permutations=0'),
    ({'metric': 'cosine', 'test': np.zeros((6, 2))}, r'test\[0\] is a zero'),
  ],
)
def test_bad_arguments_of_coverage_test_are_named(arguments, message):
  good = {
    'train': np.ones((9, 2)),
    'test': np.ones((6, 2)),
    'generated': np.ones((6, 2)),
  }
  with pytest.raises(ValueError, match=message):
    coverage_test(**{**good, **arguments})


def test_what_test_points_have_is_not_diluted_by_the_samples():
  rng = np.random.default_rng(0)
  train, test = rng.normal(size=(2, 200, 2))
  noise = 50 + rng.normal(size=(400, 2))
  found = coverage_test(train, test, noise, num_permutations=19)
  assert found.precision.value == found.equal_coverage == 0
  assert found.test_precision > 0.9 > found.precision.null_mean
  assert found.test_coverage > 0.9
