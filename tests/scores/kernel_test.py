import jax.numpy as jnp
import numpy as np
import pytest

from memjax import kernel_distance
from memjax.scores import kernel


def slow_distance(x, y):
  """The definition, pair by pair."""
  k = lambda a, b: (sum(a * b) / len(a) + 1) ** 3
  within = lambda z: np.mean(
    [k(a, b) for i, a in enumerate(z) for j, b in enumerate(z) if i != j]
  )
  across = np.mean([k(a, b) for a in x for b in y])
  return within(x) + within(y) - 2 * across


@pytest.mark.parametrize(('n', 'm', 'd'), [(4, 4, 1), (9, 14, 3), (20, 5, 40)])
def test_equals_the_definition(n, m, d):
  rng = np.random.default_rng(n)
  x, y = rng.normal(size=(n, d)), rng.normal(size=(m, d)) + 0.3
  found = kernel_distance(x, y)
  np.testing.assert_allclose(found.value, slow_distance(x, y), rtol=1e-10)
  np.testing.assert_allclose(kernel_distance(y, x), found, rtol=1e-10)
  np.testing.assert_allclose(
    kernel_distance(jnp.asarray(x), y.tolist()), found, rtol=1e-4
  )


@pytest.mark.parametrize('block', [1, 7, 60])
def test_blocks_change_nothing(block, monkeypatch):
  rng = np.random.default_rng(0)
  x, y = rng.normal(size=(23, 4)), rng.normal(size=(31, 4))
  whole = kernel_distance(x, y)
  monkeypatch.setattr(kernel, '_BLOCK', block)
  np.testing.assert_allclose(kernel_distance(x, y), whole, rtol=1e-12)
  order = rng.permutation(23)
  np.testing.assert_allclose(kernel_distance(x[order], y), whole, rtol=1e-12)
  images = kernel_distance(x.reshape(23, 2, 2, 1), y.reshape(31, 2, 2, 1))
  assert images == kernel_distance(x, y)


def test_golden_value():
  """By hand: k = (xy + 1)³ on x = 0, 0, 0, 0 and y = 1, 1, 1, −1.

  Within x 1; within y (6·8 + 6·0)/12 = 4; across 1: 1 + 4 − 2 = 3.
  """
  x, y = np.zeros((4, 1)), np.array([[1.0], [1.0], [1.0], [-1.0]])
  assert kernel_distance(x, y).value == 3.0


@pytest.mark.parametrize(
  ('shift', 'n', 'm', 'd', 'coverage'),
  [(0.0, 60, 60, 2, 0.95), (0.0, 30, 90, 8, 0.93), (1.0, 60, 120, 1, 0.85)],
)
def test_unbiased_and_its_error_is_the_spread(shift, n, m, d, coverage):
  """In one dimension MMD² = 3 Δm₁² + 3 Δm₂² + Δm₃² of the raw moments."""
  truth = 3 * shift**2 + 3 * shift**4 + (shift**3 + 3 * shift) ** 2
  rng = np.random.default_rng(1)
  draws = 400
  values, errors = np.transpose(
    [
      kernel_distance(rng.normal(size=(n, d)), rng.normal(size=(m, d)) + shift)
      for _ in range(draws)
    ]
  )
  assert abs(values.mean() - truth) < 4 * values.std() / np.sqrt(draws)
  ratio = np.sqrt(np.square(errors).mean()) / values.std()
  assert 0.85 < ratio < 1.5  # above 1 where the third order counts: none is in
  assert (np.abs(values - truth) <= 1.96 * errors).mean() >= coverage


def test_copies_score_better_than_the_data():
  """It compares distributions, and takes copies for the best of samples."""
  x, y = np.random.default_rng(0).normal(size=(2, 200, 6))
  assert kernel_distance(x, x).value < 0
  assert kernel_distance(x, x).value < kernel_distance(x, y).value


@pytest.mark.parametrize('change', ['mean', 'scale', 'skewness'])
def test_what_it_sees_and_what_not(change):
  rng = np.random.default_rng(0)
  x, y = rng.normal(size=(2, 1000, 3))
  if change == 'mean':
    y += 0.5
  elif change == 'scale':
    y *= 1.5
  else:
    y = np.exp(y) / 2
  found = kernel_distance(x, y)
  assert found.value > 4 * found.std_err


@pytest.mark.parametrize(
  ('x', 'y', 'message'),
  [
    (np.ones((1, 2)), np.ones((5, 2)), 'x has 1 row: expected 2 or more'),
    (np.ones((5, 2)), np.ones((1, 2)), 'y has 1 row'),
    (np.ones((5, 2)), np.ones((5, 3)), 'y has 3 features and x 2'),
    (np.full((5, 2), np.nan), np.ones((5, 2)), r'x\[0, 0\]=nan'),
  ],
)
def test_bad_arguments_are_named(x, y, message):
  with pytest.raises(ValueError, match=message):
    kernel_distance(x, y)
