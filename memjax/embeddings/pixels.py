"""The embedding that does nothing: pixels."""

from memjax.embeddings.base import Embedding

__all__ = ['pixels']


def pixels() -> Embedding:
  """Pixels in 0 … 1, flattened row by row: what to use for small grey images.

  Example:
    >>> import numpy as np
    >>> pixels()(np.array([[[[0], [255]]]], np.uint8)).tolist()
    [[0.0, 1.0]]
  """
  return Embedding(
    name='pixels, x/255',
    params={},
    forward=lambda _, images: images.reshape(len(images), -1) / 255,
  )
