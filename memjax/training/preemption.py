"""Stopping in good order when the machine is taken away."""

import signal
from types import FrameType
from typing import Any

__all__ = ['Preempted', 'StopSignal']


class Preempted(Exception):
  """Raised once everything is saved; `signal_number` asked to stop."""

  def __init__(self, signal_number: int):
    super().__init__(f'stopped by {signal.Signals(signal_number).name}')
    self.signal_number = signal_number


class StopSignal:
  """Notes SIGTERM and the first Ctrl-C instead of dying in mid-air.

  A second Ctrl-C interrupts at once. Outside the main thread, where Python
  accepts no handlers, nothing is caught.
  """

  def __init__(self):
    self._received: int | None = None
    self._previous: dict[int, Any] = {}

  def __enter__(self) -> 'StopSignal':
    try:
      for number in (signal.SIGTERM, signal.SIGINT):
        self._previous[number] = signal.signal(number, self._note)
    except ValueError:
      pass
    return self

  def __exit__(self, *exception) -> None:
    for number, handler in self._previous.items():
      signal.signal(number, handler)

  def _note(self, number: int, frame: FrameType | None) -> None:
    if self._received is not None and number == signal.SIGINT:
      raise KeyboardInterrupt
    self._received = number

  @property
  def received(self) -> bool:
    """Whether somebody asked to stop."""
    return self._received is not None

  def stop(self) -> None:
    """Raises Preempted; call it when everything is saved."""
    raise Preempted(self._received or signal.SIGTERM)
