"""The Inception score: are samples of clear classes, and of all of them?

It knows neither training nor test data: a copier scores as the data do, and
one clear image of each class scores best. It bears its name only with logits
of the canonical Inception network.
"""

from typing import NamedTuple

import jax
import numpy as np
import scipy.special
from jaxtyping import Float, Shaped

from memjax import validate

__all__ = ['InceptionScore', 'inception_score']

Logits = Shaped[np.ndarray | jax.Array, '_ _'] | list


class InceptionScore(NamedTuple):
  """The score as published, and how sure it is.

  Attributes:
    value: mean over the splits, in [1, classes].
    std_err: of that mean, from the splits; NaN for one split.
    split_std: the spread between splits that papers print behind ±. It is no
      standard error of `value`: √splits times too large.
  """

  value: float
  std_err: float
  split_std: float


def inception_score(
  logits: Logits, *, num_splits: int | None = None, seed: int = 0
) -> InceptionScore:
  """Computes the exponential of the mutual information of sample and class.

    IS = mean_s exp( mean_{x ∈ s} Σ_c p(c | x) log (p(c | x) / p_s(c)) )

  over `num_splits` parts s of the samples in random order, with p(· | x) the
  softmax of a row of `logits` and p_s its mean over the part. SIGN: high =
  clear and various.

  BIAS: small parts make it too small (the mean p_s is fitted to them). Compare
  only values from equal numbers of samples and splits.

  Args:
    logits: [n, classes], without bias as the published network has them; two
      samples a split or more.
    num_splits: None: 10 as published, fewer with fewer than 20 samples.
    seed: of the order: samples sorted by class would make splits of one class.

  Returns:
    InceptionScore(value, std_err, split_std).

  Raises:
    ValueError: NaN, fewer than 2 samples a split.

  Example:
    >>> logits = np.tile(100 * np.eye(5), (40, 1))
    >>> round(inception_score(logits, num_splits=1).value, 6)
    5.0

  Reference:
    Salimans et al. (2016); its faults: Barratt and Sharma (2018).
  """
  logits = validate.finite('logits', logits, rank=2)
  if num_splits is None:
    num_splits = max(1, min(10, len(logits) // 2))
  num_splits = validate.integer('num_splits', num_splits, 1)
  rng = np.random.default_rng(validate.integer('seed', seed, 0))
  if len(logits) < 2 * num_splits:
    raise ValueError(
      f'logits has {len(logits)} rows: expected {2 * num_splits} or more, two '
      f'for each of num_splits={num_splits}.'
    )
  order = rng.permutation(len(logits))
  log_p = scipy.special.log_softmax(logits, axis=1)
  scores = [_score(log_p[rows]) for rows in np.array_split(order, num_splits)]
  if num_splits == 1:
    return InceptionScore(scores[0], float('nan'), 0.0)
  return InceptionScore(
    value=float(np.mean(scores)),
    std_err=float(np.std(scores, ddof=1) / np.sqrt(num_splits)),
    split_std=float(np.std(scores)),
  )


def _score(log_p: Float[np.ndarray, 's c']) -> float:
  p = np.exp(log_p)
  log_mean = scipy.special.logsumexp(log_p, axis=0) - np.log(len(log_p))
  # A class that no sample has: 0 · log 0 is 0.
  terms = np.where(p > 0, p * (log_p - log_mean), 0.0)
  return float(np.exp(terms.sum(axis=1).mean()))
