"""Leave-one-out scores of learners in closed form, without any noise."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from memjax.models.density import gaussian_mle_log_prob, kde_log_prob

BANDWIDTH = 0.35
FAR = 5.0
# Twins are this far apart, as a share of the bandwidth.
_APART = 0.05


def learner(name: str):
  """log p of a point [d], given data [n, d] and a mask [n]."""
  if name == 'Gaussian':
    return gaussian_mle_log_prob
  return functools.partial(kde_log_prob, bandwidth=BANDWIDTH)


@functools.partial(jax.jit, static_argnums=0)
def log_probs(name: str, points, data, keep):
  """log p of points [q, d] under the learner of data[keep]; keep [q, n]."""
  return jax.vmap(learner(name), in_axes=(0, None, 0))(points, data, keep)


def scores(name: str, data: np.ndarray, groups: np.ndarray) -> np.ndarray:
  """log p(x_i) with all items − log p(x_i) without the group of item i."""
  keep = groups[:, None] != groups[None]
  data = jnp.asarray(data, jnp.float32)
  whole = log_probs(name, data, data, np.ones_like(keep))
  return np.asarray(whole - log_probs(name, data, data, keep))


def make_data(dimension: int) -> np.ndarray:
  """60 items, symmetric about 0; then an outlier, and a pair as far out."""
  half = np.random.default_rng(3).normal(size=(30, dimension))
  far = np.zeros((3, dimension))
  far[:, 0] = FAR * np.array([-1, 1, 1 + _APART * BANDWIDTH / FAR])
  return np.concatenate([half, -half, far])
