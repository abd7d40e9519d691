"""Progress lines with a rate and an estimate of the time left."""

import time
from collections.abc import Mapping

import numpy as np
from absl import logging

__all__ = ['Progress', 'describe_resumption']

# Before a kind of work has been timed, its units cost this much relative to
# one another: a training step passes through the model three times.
_PASSES = {'train': 3.0}
_NAMES = {
  'train': 'images·models trained',
  'score': 'log p(x)',
  'final': 'log p(x)',
}


class Progress:
  """Counts units of each kind of work and logs a line now and then.

  Args:
    total: units in the whole run, by kind: 'train' counts images × models,
      'score' counts log-probabilities, 'final' those of the last scored epoch,
      which has programs of its own.
    passes_per_score: decoder passes for one log-probability.
    every: seconds between lines.
    names: what the line calls a unit, by kind.
  """

  def __init__(
    self,
    total: dict[str, int],
    passes_per_score: int = 1,
    every: float = 5.0,
    names: Mapping[str, str] = _NAMES,
  ):
    self._left = dict(total)
    self._names = names
    scoring = dict.fromkeys(('score', 'final'), float(passes_per_score))
    self._passes = dict.fromkeys(total, 1.0) | _PASSES | scoring
    self._done = dict.fromkeys(total, 0)
    self._seconds = dict.fromkeys(total, 0.0)
    self._compiled: set[str] = set()
    self._every = every
    self._last = time.monotonic()

  def skip(self, kind: str, units: int) -> None:
    """Takes units off the total that an earlier run has done."""
    self._left[kind] -= units

  def start(self, kind: str, where: str) -> None:
    """Says what the silence of a kind's first call is."""
    if kind not in self._compiled:
      logging.info('Compiling for %s …', where)

  def advance(self, kind: str, units: int, seconds: float, where: str) -> None:
    """Counts work done and logs a line if the last one is old enough."""
    self._left[kind] -= units
    if kind in self._compiled:
      self._done[kind] += units
      self._seconds[kind] += seconds
    else:  # the first call of a program also compiles it
      self._compiled.add(kind)
    now = time.monotonic()
    if now - self._last < self._every:
      return
    self._last = now
    if not self._done[kind]:
      return
    logging.info(
      '%s   %s %s/s   ETA %s',
      where,
      _short(self._done[kind] / max(self._seconds[kind], 1e-9)),
      self._names[kind],
      _clock(self.eta()),
    )

  def eta(self) -> float:
    """Seconds left, from the rates so far."""
    timed = {k: s / d for k, s in self._seconds.items() if (d := self._done[k])}
    if not timed:
      return float('nan')
    per_pass = sum(timed[k] / self._passes[k] for k in timed) / len(timed)
    return sum(
      max(left, 0) * timed.get(kind, per_pass * self._passes[kind])
      for kind, left in self._left.items()
    )


def describe_resumption(
  models: np.ndarray,
  num_models: int,
  epoch: tuple[int, int],
  step: tuple[int, int],
  attempt: int = 0,
) -> str:
  """What an earlier run left of some models, after 'Training of'.

  Args:
    models: their numbers, from 1; neighbors at the first attempt.
    num_models: of the run.
    epoch: the last whole one, of how many.
    step: of the next epoch, of how many.
    attempt: from 0.

  Example:
    >>> describe_resumption(np.arange(11, 21), 50, (20, 80), (0, 26))
    'models 11 to 20 of 50 goes on after epoch 20 of 80'
  """
  first, last = models[0], models[-1]
  if attempt:
    which = f'{len(models)} of {num_models} models, attempt {attempt + 1},'
  elif first == last:
    which = f'model {first} of {num_models}'
  else:
    which = f'models {first} to {last} of {num_models}'
  if epoch[0] == epoch[1]:
    return f'{which} was done already'
  if not (epoch[0] or step[0]):
    return f'{which} starts anew: there is no usable checkpoint yet'
  where = 'epoch {} of {}'.format(*epoch)
  if step[0]:
    where += ', step {} of {}'.format(*step)
  return f'{which} goes on after {where}'


def _short(rate: float) -> str:
  for unit, name in ((1e6, ' M'), (1e3, ' k')):
    if rate >= unit:
      return f'{rate / unit:.3g}{name}'
  return f'{rate:.3g}'


def _clock(seconds: float) -> str:
  if seconds != seconds:
    return 'unknown'
  minutes, seconds = divmod(round(seconds), 60)
  hours, minutes = divmod(minutes, 60)
  return f'{hours}:{minutes:02d}:{seconds:02d}'
