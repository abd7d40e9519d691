import numpy as np
import pytest
from scipy.special import logsumexp

from memjax.scores import mixture
from memjax.scores.mixture import (
  Mixture,
  fit_mixture,
  log_likelihood,
  squared_distances,
)


def log_density(squared, log_variance, d):
  return -0.5 * squared / np.exp(log_variance) - d / 2 * (
    log_variance + np.log(2 * np.pi)
  )


def slow_fit(centres, points, order, batch=10_000):
  """The published recipe, step by step in float64."""
  (m, d), points = centres.shape, points[order]
  squared = ((points[:, None] - centres[None]) ** 2).sum(axis=2)
  far = 0.81 * ((points - points.mean(axis=0)) ** 2).sum(axis=1)
  params = np.append(np.log((squared.min(axis=0) + 1e-3) / d), 0.0)
  mean, square, step = np.zeros(m + 1), np.zeros(m + 1), 0
  for _ in range(50):
    for start in range(0, len(points), batch):
      rows = slice(start, start + batch)
      both = np.column_stack([squared[rows], far[rows]])
      log_p = log_density(both, params, d)
      log_p[:, :m] -= np.log(m)
      p = np.exp(log_p - logsumexp(log_p, axis=1, keepdims=True))
      slope = 0.5 * both / np.exp(params) - d / 2
      gradient = -(p * slope).sum(axis=0) / (len(both) * d)
      step += 1
      mean = 0.9 * mean + 0.1 * gradient
      square = 0.999 * square + 0.001 * gradient**2
      rate = np.sqrt(square / (1 - 0.999**step)) + 1e-8
      params = params - 0.5 * mean / (1 - 0.9**step) / rate
      params[:m] = np.clip(params[:m], -40, 20)
  return params[:m]


def slow_log_likelihood(centres, log_variance, points):
  squared = ((points[:, None] - centres[None]) ** 2).sum(axis=2)
  log_p = log_density(squared, log_variance, points.shape[1])
  return logsumexp(log_p, axis=1) - np.log(len(centres))


def draw(l=70, m=40, d=5, copies=0):
  rng = np.random.default_rng(d)
  points, centres = rng.normal(size=(l, d)), rng.normal(size=(m, d))
  centres[:copies] = points[:copies]
  return centres, points


@pytest.mark.parametrize(('d', 'copies'), [(1, 0), (5, 0), (5, 8), (200, 3)])
def test_equals_the_published_recipe(d, copies):
  centres, points = draw(d=d, copies=copies)
  found, values = fit_mixture(centres, points, np.random.default_rng(1))
  order = np.random.default_rng(1).permutation(len(points))
  expected = slow_fit(centres, points, order)
  np.testing.assert_allclose(found.log_variance, expected, atol=2e-2)
  np.testing.assert_allclose(
    values, slow_log_likelihood(centres, expected, points), rtol=1e-3, atol=0.02
  )
  np.testing.assert_allclose(values, log_likelihood(found, points), rtol=1e-5)
  fresh = np.random.default_rng(2).normal(size=(30, d))
  np.testing.assert_allclose(
    log_likelihood(found, fresh),
    slow_log_likelihood(centres, found.log_variance, fresh),
    rtol=1e-5,
    atol=1e-4,
  )
  distance = ((points[:, None] - centres[None]) ** 2).sum(axis=2)
  np.testing.assert_allclose(found.nearest, distance.min(axis=0), rtol=1e-6)


def test_one_batch_after_another(monkeypatch):
  monkeypatch.setattr(mixture, '_BATCH', 32)
  centres, points = draw()
  order = np.random.default_rng(1).permutation(len(points))
  found, _ = fit_mixture(centres, points, np.random.default_rng(1))
  expected = slow_fit(centres, points, order, batch=32)
  np.testing.assert_allclose(found.log_variance, expected, atol=2e-2)


@pytest.mark.parametrize(
  ('name', 'value'),
  [('_TABLE', 1), ('_BLOCK', 1), ('_CHUNK', 1), ('_CHUNK', 200)],
)
def test_memory_changes_nothing(name, value, monkeypatch):
  centres, points = draw()
  fit = lambda: fit_mixture(centres, points, np.random.default_rng(1))
  (one, values), _ = fit(), monkeypatch.setattr(mixture, name, value)
  two, others = fit()
  np.testing.assert_allclose(two.log_variance, one.log_variance, atol=1e-2)
  np.testing.assert_allclose(others, values, rtol=1e-3)


def test_distances_of_near_duplicates_far_from_the_origin():
  """The product form has no digit left; direct differences have all."""
  rng = np.random.default_rng(0)
  x = rng.normal(size=(30, 50)) + 1e3
  y = x + 1e-5 * rng.normal(size=x.shape)
  y[3] = x[3]
  expected = ((x[:, None] - y[None]) ** 2).sum(axis=2)
  found = squared_distances(x, y)
  np.testing.assert_allclose(found, expected, rtol=1e-6)
  assert found[3, 3] == 0


def test_likelihood_integrates_to_one():
  grid = np.linspace(-8, 8, 4001)[:, None]
  centres = np.array([[-1.0], [0.5], [2.0]])
  model = Mixture(centres, np.log([0.2, 1.0, 0.5]), np.zeros(3))
  density = np.exp(log_likelihood(model, grid))
  np.testing.assert_allclose(np.trapezoid(density, grid[:, 0]), 1, rtol=1e-4)
