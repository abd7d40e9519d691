import numpy as np
import pytest

from memjax import distances
from memjax.scores import coverage
from memjax.scores.coverage import precision_recall


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
