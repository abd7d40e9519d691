"""Learners whose leave-one-out score has a closed form give that score."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memjax import make_folds, memorization_score
from memjax.models.density import gaussian_mle_log_prob, kde_log_prob


def log_px_of(learner, data, held_out):
  """[m, n]: the learner is a function of one item; vmap items, then models."""
  items = jax.vmap(learner, (0, None, None))
  models = jax.vmap(items, (None, None, 0))
  return np.asarray(
    jax.jit(models)(data, data, ~jnp.asarray(held_out)), np.float64
  )


def kernels(data, bandwidth):
  data = np.asarray(data, np.float64)
  square = ((data[:, None] - data[None]) ** 2).sum(-1) / bandwidth**2
  constant = (2 * np.pi * bandwidth**2) ** (data.shape[1] / 2)
  return np.exp(-0.5 * square) / constant


def test_kde_score_is_the_closed_form_of_leave_one_out():
  """With K = n: U = log[k_ii + S_i (n−2)/(n−1)], V = log S_i, both over n − 1.

  S_i = Σ_{j ≠ i} k_ij; U averages the n − 1 densities that leave out another
  item than i, each a mean of n − 1 kernels.
  """
  n, bandwidth = 25, 0.6
  data = jax.random.normal(jax.random.key(0), (n, 3))
  held_out = make_folds(n, n)
  learner = lambda x, d, t: kde_log_prob(x, d, t, bandwidth=bandwidth)
  scores = memorization_score(log_px_of(learner, data, held_out), held_out)
  k = kernels(data, bandwidth)
  own = np.diag(k)
  rest = k.sum(axis=1) - own
  expected = np.log((own + rest * (n - 2) / (n - 1)) / rest)
  np.testing.assert_allclose(scores.score, expected, atol=2e-4)
  assert expected.max() - expected.min() > 2


def test_an_exact_copy_left_in_training_hides_memorization():
  """Design rule 4: the score of an isolated item drops to about log 2."""
  data = np.array(jax.random.normal(jax.random.key(1), (20, 2)))
  data[0] = 40.0, 0.0
  learner = lambda x, d, t: kde_log_prob(x, d, t, bandwidth=2.0)

  def score_of_first(data, groups=None):
    held_out = make_folds(len(data), 10, num_repeats=2, groups=groups, seed=3)
    log_px = log_px_of(learner, jnp.asarray(data), held_out)
    return memorization_score(log_px, held_out).score[0]

  copied = np.r_[data, data[:1]]
  groups = np.r_[np.arange(20), 0]
  assert score_of_first(data) > 50
  assert 0.3 < score_of_first(copied) < 1.1
  assert score_of_first(copied, groups) > 50


def test_gaussian_score_matches_the_leave_one_out_identity():
  """Sherman-Morrison: with K = n every fold's density follows from one fit."""
  n, d = 30, 3
  data = jax.random.normal(jax.random.key(2), (n, d)) * 2 + 1
  held_out = make_folds(n, n)
  log_px = log_px_of(gaussian_mle_log_prob, data, held_out)
  x = np.asarray(data, np.float64)
  centred = x - x.mean(0)
  covariance = centred.T @ centred / n
  leverage = (centred @ np.linalg.inv(covariance) * centred).sum(1)
  # Leaving i out: Σ₋ᵢ = n/(n−1) (Σ − c_i c_iᵀ/(n−1)), x_i − μ₋ᵢ = n/(n−1) c_i.
  shrink = 1 - leverage / (n - 1)
  square = (n / (n - 1)) ** 2 * (n - 1) / n * leverage / shrink
  log_det = (
    np.linalg.slogdet(covariance)[1] + d * np.log(n / (n - 1)) + np.log(shrink)
  )
  expected = -0.5 * (square + log_det + d * np.log(2 * np.pi))
  scores = memorization_score(log_px, held_out)
  np.testing.assert_allclose(scores.log_px_out, expected, atol=1e-3)
  # An outlier matters more to its own fit.
  assert np.corrcoef(scores.score, leverage)[0, 1] > 0.9


@pytest.mark.parametrize('size', [5, 12])
def test_a_mask_equals_leaving_items_out_of_the_array(size):
  data = jax.random.normal(jax.random.key(3), (20, 2))
  is_train = jnp.arange(20) < size
  all_train = jnp.ones(size, bool)
  x = data[-1]
  np.testing.assert_allclose(
    kde_log_prob(x, data, is_train, bandwidth=0.5),
    kde_log_prob(x, data[:size], all_train, bandwidth=0.5),
    rtol=1e-5,
  )
  np.testing.assert_allclose(
    gaussian_mle_log_prob(x, data, is_train),
    gaussian_mle_log_prob(x, data[:size], all_train),
    rtol=1e-4,
  )
