"""What a report on a K-fold study is told beside the scores."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from memjax import files

__all__ = [
  'FullRun',
  'Study',
  'has_twin',
  'loses_colours',
  'loses_intensities',
  'share_rough',
]

# Pixels further than a tenth from black and white are grey; more than this
# share of them, and images are not black and white.
_MOST_GREY = 0.05
_BLACK, _WHITE = 25, 230


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
    is_binarized: models see each pixel as black or white, drawn at random.
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
  is_binarized: bool = False


def share_rough(study: Study) -> float:
  """Share of the log-probabilities whose estimate is not known to be reliable.

  Where samples are too few for a Pareto k̂, that is none of them.
  """
  if study.estimates is None:
    return 0.0
  return float((~study.estimates['is_reliable']).mean())


def has_twin(study: Study) -> np.ndarray | None:
  """Which items have an exact copy that trained a model that held them out.

  Copies that all models hold out together, as groups are, do not count.

  Returns:
    bool [n]; None without images.
  """
  if study.images is None:
    return None
  digests = [files.fingerprint([image]) for image in study.images]
  kinds, copy_of = np.unique(digests, return_inverse=True)
  twin = np.zeros(len(digests), bool)
  for held_out in study.held_out:
    is_trained_on = np.bincount(copy_of[~held_out], minlength=len(kinds)) > 0
    twin |= held_out & is_trained_on[copy_of]
  return twin


def loses_intensities(study: Study) -> bool:
  """Whether models see black and white where images are not."""
  if not study.is_binarized or study.images is None:
    return False
  some = study.images[:: -(-len(study.images) // 1000)]
  return bool(((some > _BLACK) & (some < _WHITE)).mean() > _MOST_GREY)


def loses_colours(study: Study) -> bool:
  """Whether that is so of each channel of images in colour."""
  images = study.images
  return (
    loses_intensities(study) and images is not None and images.shape[-1] > 1
  )
