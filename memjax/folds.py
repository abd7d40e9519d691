"""Which model holds out which item."""

import heapq

import jax
import numpy as np
from jaxtyping import Bool, Shaped

from memjax import validate

__all__ = ['make_folds']


def make_folds(
  num_items: int,
  num_folds: int,
  *,
  num_repeats: int = 1,
  seed: int = 0,
  groups: Shaped[np.ndarray | jax.Array, ' _'] | list | None = None,
) -> Bool[np.ndarray, '_ _']:
  """Draws, for every repeat, a random partition of the items into K folds.

  Row r·K + k belongs to fold k of repeat r and is True for the items that this
  model never sees: the sets I_{ℓ,k} of the paper, with ℓ = r. A repeat's
  partition depends on (seed, repeat, K) and the groups alone, so adding
  repeats changes none of those already drawn.

  Args:
    num_items: n, the number of items, at least 2.
    num_folds: K, from 2 to the number of items (of groups, if given).
    num_repeats: L, the number of independent partitions.
    seed: any non-negative integer.
    groups: [n] numbers or strings. Items of one group share a fold, in every
      repeat: a near-duplicate left in the training set would hide that the
      held-out copy was memorized. Fold sizes then differ by at most the size
      of the largest group; without groups by at most one.

  Returns:
    held_out, bool [L·K, n]. Each item is held out by exactly one model of each
    repeat.

  Raises:
    ValueError: if an argument is out of its range.

  Example:
    >>> held_out = make_folds(6, 3, num_repeats=2)
    >>> held_out.shape, held_out.sum(axis=1).tolist()
    ((6, 6), [2, 2, 2, 2, 2, 2])
    >>> bool((held_out[:3].sum(axis=0) == 1).all())
    True

  Reference:
    van den Burg and Williams (2021), Algorithm 1, line 2. The published code
    draws its partitions with SyncRNG; these come from NumPy's PCG64.
  """
  num_items = validate.integer('num_items', num_items, 2)
  num_repeats = validate.integer('num_repeats', num_repeats, 1)
  seed = validate.integer('seed', seed, 0)
  group_of = _group_of(groups, num_items)
  num_groups = int(group_of.max()) + 1
  if groups is None:
    num_folds = validate.integer('num_folds', num_folds, 2, num_items)
  elif num_groups < 2:
    raise ValueError(f'groups holds {num_groups} group: expected 2 or more.')
  else:
    num_folds = validate.integer('num_folds', num_folds, 2, num_groups)
  held_out = np.zeros((num_repeats * num_folds, num_items), bool)
  items = np.arange(num_items)
  for repeat in range(num_repeats):
    rng = np.random.default_rng([seed, repeat, num_folds])
    fold = _partition(np.bincount(group_of), num_folds, rng)[group_of]
    held_out[repeat * num_folds + fold, items] = True
  return held_out


def _group_of(groups, num_items: int) -> np.ndarray:
  """Numbers the groups 0, 1, …; without groups, each item is its own."""
  if groups is None:
    return np.arange(num_items)
  groups = validate.host_array('groups', groups, rank=1)
  if groups.shape[0] != num_items:
    raise ValueError(
      f'groups has {groups.shape[0]} entries: expected num_items={num_items}.'
    )
  if groups.dtype.kind == 'f' and not np.isfinite(groups).all():
    raise ValueError('groups holds NaN or ±inf: expected one label an item.')
  return np.unique(groups, return_inverse=True)[1]


def _partition(
  sizes: np.ndarray, num_folds: int, rng: np.random.Generator
) -> np.ndarray:
  """Gives each group a fold: largest first, always to the emptiest fold."""
  shuffled = rng.permutation(sizes.size)
  largest_first = shuffled[np.argsort(-sizes[shuffled], kind='stable')]
  fold_of_group = np.empty(sizes.size, np.int64)
  # The folds' order is random too, so that no fold is always the larger one.
  order = rng.permutation(num_folds)
  emptiest = [(0, rank) for rank in range(num_folds)]
  for group in largest_first:
    size, rank = emptiest[0]
    fold_of_group[group] = order[rank]
    heapq.heapreplace(emptiest, (size + int(sizes[group]), rank))
  return fold_of_group
