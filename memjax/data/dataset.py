"""The one container that leaves `memjax.data`."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Int, UInt8

__all__ = ['Dataset']


class Dataset(NamedTuple):
  """Images with the ids that every score is joined on.

  Attributes:
    images: pixels in 0 … 255, height before width before channels.
    labels: one class an item; zeros where the source has no labels.
    ids: unique, ≥ 0, stable when the data set is filtered or shuffled.
    groups: items with the same number are near-duplicates and share a fold;
      None where the source knows of no groups.
  """

  images: UInt8[np.ndarray, 'n h w c']
  labels: Int[np.ndarray, ' n']
  ids: Int[np.ndarray, ' n']
  groups: Int[np.ndarray, ' n'] | None = None
