import collections

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memjax import make_folds


@settings(derandomize=True, max_examples=30, deadline=None)
@given(
  num_items=st.integers(2, 60),
  num_folds=st.integers(2, 12),
  num_repeats=st.integers(1, 4),
  seed=st.integers(0, 5),
)
def test_each_item_is_held_out_once_a_repeat(
  num_items, num_folds, num_repeats, seed
):
  num_folds = min(num_folds, num_items)
  held_out = make_folds(
    num_items, num_folds, num_repeats=num_repeats, seed=seed
  )
  assert held_out.dtype == bool
  assert held_out.shape == (num_repeats * num_folds, num_items)
  blocks = held_out.reshape(num_repeats, num_folds, num_items)
  assert (blocks.sum(axis=1) == 1).all()
  sizes = blocks.sum(axis=2)
  assert sizes.max() - sizes.min() <= 1


def test_a_repeat_does_not_depend_on_the_number_of_repeats():
  few = make_folds(50, 5, num_repeats=2, seed=3)
  many = make_folds(50, 5, num_repeats=6, seed=3)
  np.testing.assert_array_equal(few, many[:10])
  assert (many[:5] != many[5:10]).any()
  assert (few != make_folds(50, 5, num_repeats=2, seed=4)).any()


def test_every_pair_of_items_is_equally_often_together():
  held_out = make_folds(12, 4, num_repeats=4000, seed=0).astype(np.int64)
  together = (held_out.T @ held_out) / 4000
  off_diagonal = together[~np.eye(12, dtype=bool)]
  # Two given items share a fold with probability (3 - 1) / (12 - 1).
  np.testing.assert_allclose(off_diagonal, 2 / 11, atol=0.035)


def test_no_fold_is_always_the_larger_one():
  larger = collections.Counter(
    int(make_folds(7, 3, seed=seed).sum(axis=1).argmax()) for seed in range(60)
  )
  assert set(larger) == {0, 1, 2}


def test_groups_share_a_fold_and_folds_stay_balanced():
  rng = np.random.default_rng(0)
  groups = rng.integers(0, 40, 200)
  held_out = make_folds(200, 5, num_repeats=3, groups=groups)
  for row in held_out:
    for group in range(40):
      assert len(set(row[groups == group])) <= 1
  sizes = held_out.sum(axis=1)
  assert sizes.max() - sizes.min() <= np.bincount(groups).max()
  assert (held_out.reshape(3, 5, 200).sum(axis=1) == 1).all()


def test_group_labels_may_be_strings_and_their_names_do_not_matter():
  numbers = np.array([0, 0, 1, 2, 2, 3])
  strings = np.array(list('aabccd'))
  np.testing.assert_array_equal(
    make_folds(6, 2, groups=numbers), make_folds(6, 2, groups=strings)
  )


def test_one_big_group_gets_a_fold_of_its_own():
  groups = np.r_[np.zeros(50, int), np.arange(1, 51)]
  held_out = make_folds(100, 2, groups=groups)
  assert set(held_out[:, :50].sum(axis=1)) == {0, 50}


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    ({'num_items': 10, 'num_folds': 1}, r'num_folds=1: .* in \[2, 10\]'),
    ({'num_items': 10, 'num_folds': 11}, r'num_folds=11: .* in \[2, 10\]'),
    ({'num_items': 1, 'num_folds': 2}, r'num_items=1: .* 2 or more'),
    (
      {'num_items': 10, 'num_folds': 2, 'num_repeats': 0},
      r'num_repeats=0: .* 1 or more',
    ),
    ({'num_items': 10, 'num_folds': 2, 'seed': -1}, r'seed=-1'),
    (
      {'num_items': 4, 'num_folds': 3, 'groups': np.array([0, 0, 1, 1])},
      r'num_folds=3: .* in \[2, 2\]',
    ),
    (
      {'num_items': 4, 'num_folds': 2, 'groups': np.zeros(3, int)},
      r'groups has 3 entries: expected num_items=4',
    ),
    (
      {'num_items': 4, 'num_folds': 2, 'groups': np.zeros(4, int)},
      r'groups holds 1 group',
    ),
  ],
)
def test_bad_arguments_are_named(arguments, message):
  with pytest.raises(ValueError, match=message):
    make_folds(**arguments)
