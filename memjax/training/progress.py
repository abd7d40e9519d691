"""Progress lines with a rate and an estimate of the time left."""

import time
from collections.abc import Mapping

from absl import logging

__all__ = ['Progress']

# Before a kind of work has been timed, its units cost this much relative to
# one another: a training step passes through the model three times.
_PASSES = {'train': 3.0, 'score': 1.0}
_NAMES = {'train': 'images·models trained', 'score': 'log p(x)'}


class Progress:
  """Counts units of each kind of work and logs a line now and then.

  Args:
    total: units in the whole run, by kind: 'train' counts images × models,
      'score' counts log-probabilities.
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
    self._passes = dict.fromkeys(total, 1.0) | _PASSES
    self._passes['score'] = float(passes_per_score)
    self._done = dict.fromkeys(total, 0)
    self._seconds = dict.fromkeys(total, 0.0)
    self._compiled: set[str] = set()
    self._every = every
    self._last = time.monotonic()

  def skip(self, kind: str, units: int) -> None:
    """Takes units off the total that an earlier run has done."""
    self._left[kind] -= units

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
