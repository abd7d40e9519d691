"""Statistics (placeholder until the room's owner writes it)."""

import numpy as np
import scipy.stats


def false_discovery_rate(p_values):
  """BH q-values."""
  return scipy.stats.false_discovery_control(p_values)


def jackknife(without):
  """Standard error from leave-one-out values [r, ...]."""
  count = len(without)
  return np.sqrt(
    (count - 1) / count * ((without - without.mean(0)) ** 2).sum(0)
  )
