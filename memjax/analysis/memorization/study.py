"""What a report on a K-fold study is told beside the scores."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

__all__ = ['FullRun', 'Study', 'share_rough']


class FullRun(NamedTuple):
  """One model trained on all items.

  Attributes:
    train_loss: [1, epochs] in nats an item.
    test_loss: [1, epochs] on the official test set.
    samples: uint8 [k, h, w, c]: means of p(x | z), z from the prior; or None.
  """

  train_loss: np.ndarray
  test_loss: np.ndarray
  samples: np.ndarray | None


class Study(NamedTuple):
  """What is known about the items and models beside their scores.

  Attributes:
    name: of the data.
    ids: int [n].
    labels: [n], numbers or names, or None.
    images: uint8 [n, h, w, c], or None.
    held_out: bool [m, n].
    repeat: int [m].
    divergences: one dict an attempt that failed, with 'excluded'.
    losses: 'train_loss' and 'held_out_loss' [m, epochs], or None.
    estimates: 'std_err', 'ess', 'pareto_k', 'is_reliable' and 'round' (of the
      escalation), [kept models, n]; or None.
    num_samples: importance samples an item at first; 0 if unknown.
    full: the model trained on all items, or None.
    is_dequantized: log p is a density on the 0 … 256 scale of the pixels, so
      that it can be told in bits a dimension.
  """

  name: str
  ids: np.ndarray
  labels: np.ndarray | None
  images: np.ndarray | None
  held_out: np.ndarray
  repeat: np.ndarray
  divergences: list[dict[str, Any]]
  losses: Mapping[str, np.ndarray] | None
  estimates: Mapping[str, np.ndarray] | None
  num_samples: int
  full: FullRun | None = None
  is_dequantized: bool = False


def share_rough(study: Study) -> float:
  """Share of the log-probabilities whose estimate is not known to be reliable.

  Where samples are too few for a Pareto k̂, that is none of them.
  """
  if study.estimates is None:
    return 0.0
  return float((~study.estimates['is_reliable']).mean())
