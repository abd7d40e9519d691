"""When each training item is memorized, and whether that tells items apart.

Outliers Memorized Last (2023), section 5.1, suggests to find images with a
uniform feature, such as a watermark, by their being memorized later than the
rest. `membership_inference` on these times, marked items first, says whether
that works: its AUROC is ½ by chance, and above ½ where marked items are LATER.
"""

import numpy as np
from jaxtyping import Float, Int, Shaped

from memjax import validate
from memjax.neighbors_tree import few_dimensional_neighbors
from memjax.scores.relabelling import is_nearer
from memjax.types import Matrix

__all__ = ['memorized_from', 'time_memorized']


def memorized_from(
  train: Matrix, test: Matrix, generated: Matrix, *, ratio: float = 1.5
) -> Int[np.ndarray, ' n']:
  """Counts the samples that are memorized from each training item.

  Args:
    train: float64 [n, d].
    test: float64 [m, d].
    generated: float64 [g, d].
    ratio: r > 1, as for `count_memorized`.

  Raises:
    ValueError: a ratio ≤ 1.

  Example:
    >>> train, test = np.array([[0.0], [5.0]]), np.array([[1.0], [6.0]])
    >>> memorized_from(train, test, np.array([[0.1], [5.1], [5.2], [5.9]]))
    array([1, 2])
  """
  ratio = validate.real('ratio', ratio, 1.0, np.inf, strict=True)
  near = few_dimensional_neighbors(generated, train)
  d_test = few_dimensional_neighbors(generated, test).distance
  flagged = is_nearer(near.distance, d_test, ratio)[:, 0]
  return np.bincount(near.index[flagged, 0], minlength=len(train))


def time_memorized(
  epochs: Shaped[np.ndarray, ' E'], counts: Shaped[np.ndarray, 'E n']
) -> Float[np.ndarray, ' n']:
  """Mean epoch of the samples that are memorized from each item.

    t_i = Σ_e e · c_ei / Σ_e c_ei

  with c = `counts`. An item from which none is memorized is later than all, by
  one more evaluation. What is flagged by chance draws all times towards the
  middle, so that they rank items but date nothing.

  Args:
    epochs: of two or more evaluations; or their logarithms, or their numbers.
    counts: of `memorized_from`, at each of them.

  Raises:
    ValueError: fewer than two evaluations.

  Example:
    >>> time_memorized(np.array([1.0, 3.0]), np.array([[1, 0, 0], [3, 2, 0]]))
    array([2.5, 3. , 5. ])
  """
  epochs = np.asarray(epochs, np.float64)
  if len(epochs) < 2:
    raise ValueError(
      f'epochs has {len(epochs)} evaluations: expected two or more, to tell '
      'what comes later.'
    )
  total = counts.sum(axis=0)
  weighted = (epochs[:, None] * counts).sum(axis=0)
  after = 2 * epochs[-1] - epochs[-2]
  return np.where(total > 0, weighted / np.maximum(total, 1), after)
