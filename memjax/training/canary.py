"""Stops training when canaries begin to be memorized.

Canaries are points that one may choose, such as outliers. Draw twice as many as
needed, train on one half and hold the other out. As long as nothing is
memorized, samples single out as many of one half as of the other.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import scipy.stats

from memjax import validate

__all__ = ['CanaryCounts', 'canaries_are_memorized', 'stop_at_canaries']


class CanaryCounts(NamedTuple):
  """How many canaries samples single out.

  Attributes:
    copied: canaries in training that a sample is memorized from, as counted by
      `scores.memorized_kinds.count_memorized`: `copied` of their kind.
    control: the same with train and test swapped: `swapped_copied`.
  """

  copied: int
  control: int


def canaries_are_memorized(
  counts: CanaryCounts, *, level: float = 0.01
) -> bool:
  """Whether more trained than held-out canaries are singled out than chance.

  One-sided sign test: without memorization `copied` of copied + control is
  binomial with ½, each canary counting once.

  Args:
    counts: at one moment, summed over models if there are many.
    level: of the test, in (0, 1). A visit every epoch tests many times: choose
      it small, such as 0.01 over the number of visits.

  Raises:
    ValueError: a negative count, a level out of range.

  Example:
    >>> canaries_are_memorized(CanaryCounts(copied=12, control=2))
    True
    >>> canaries_are_memorized(CanaryCounts(copied=6, control=5))
    False

  Reference:
    Outliers Memorized Last (2023), section 5.1, suggests to stop early "if
    data you know is an outlier start to be memorized".
  """
  copied = validate.integer('copied', counts.copied, 0)
  control = validate.integer('control', counts.control, 0)
  level = validate.real('level', level, 0.0, 1.0, strict=True)
  if copied + control == 0:
    return False
  test = scipy.stats.binomtest(copied, copied + control, alternative='greater')
  return bool(test.pvalue <= level)


def stop_at_canaries(
  count: Callable[[int, Any], CanaryCounts], *, level: float = 0.01
) -> Callable[[int, Any], bool]:
  """Builds a visit for `run_resumable` that ends training at canaries.

  Args:
    count: (step, state) -> CanaryCounts: samples from the state's model.
    level: as for `canaries_are_memorized`.

  Returns:
    visit(step, state) -> bool: True = stop here.

  Example:
    >>> visit = stop_at_canaries(lambda step, state: CanaryCounts(step, 0))
    >>> [visit(step, None) for step in (0, 6, 7)]
    [False, False, True]
  """
  validate.real('level', level, 0.0, 1.0, strict=True)
  return lambda step, state: canaries_are_memorized(
    count(step, state), level=level
  )
