"""Images of any stated range as pixels in 0 … 255. Nothing is guessed."""

from collections.abc import Sequence

import jax
import numpy as np
from jaxtyping import Shaped

from memjax import validate

__all__ = ['Array', 'ValueRange', 'check_pixels', 'to_pixels']

Array = Shaped[np.ndarray | jax.Array, '...']
ValueRange = Sequence[float | int] | None


def to_pixels(
  images: Array, value_range: ValueRange = None, *, is_first: bool = True
) -> Shaped[np.ndarray, 'n h w c']:
  """Images as uint8, or as float32 in 0 … 255.

    255 · (x − black)/(white − black)

  Args:
    images: [n, h, w, c], or grey [n, h, w].
    value_range: (black, white); see `embed`.
    is_first: of a stream of batches. Only the first is suspected of another
      range because it is dark or bright: a later one may hold one such image.

  Raises:
    ValueError: floats without a range, or values outside it.

  Example:
    >>> to_pixels(np.array([[[-1.0, 0.0, 1.0]]]), (-1, 1)).ravel().tolist()
    [0.0, 127.5, 255.0]
  """
  images = validate.host_array('images', images)
  value_range = None if value_range is None else tuple(value_range)
  check_pixels(images, value_range, is_first=is_first)
  images = images[..., None] if images.ndim == 3 else images
  if images.dtype == np.uint8 and (value_range or (0, 255)) == (0, 255):
    return images
  low, high = value_range or (0, 255)
  # In float32 throughout, and in place: images may be half a gigabyte.
  shifted = np.subtract(images, low, dtype=np.float32)
  shifted *= np.float32(255 / (high - low))
  return shifted


def check_pixels(
  images: Shaped[np.ndarray, '...'],
  value_range: ValueRange = None,
  *,
  is_first: bool = True,
) -> None:
  """Raises what `to_pixels` would, and converts nothing.

  Raises:
    ValueError: no images, or it is not certain what is black and what white.
  """
  if images.dtype.kind not in 'biuf' or images.ndim not in (3, 4):
    raise ValueError(
      f'images has shape {images.shape} and dtype {images.dtype}: expected '
      'numbers [n, h, w, c], or [n, h, w] if grey.'
    )
  if 0 in images.shape[1:]:
    raise ValueError(f'images has shape {images.shape}: expected pixels.')
  if not images.size:
    return
  low, high = float(images.min()), float(images.max())
  found = f'images has dtype {images.dtype} and values {low:.4g} … {high:.4g}'
  ranges = 'value_range=(0, 1), (0, 255) or (-1, 1)'
  if not np.isfinite([low, high]).all():
    raise ValueError(f'{found}: expected finite numbers.')
  if value_range is None:
    # Zeros and ones in uint8 are a binary image more often than a black one.
    if images.dtype != np.uint8 or (is_first and 0 < high <= 1):
      raise ValueError(
        f'{found}: say what is black and what is white, {ranges}.'
      )
    return
  if len(value_range) != 2 or not value_range[0] < value_range[1]:
    raise ValueError(
      f'value_range={value_range!r}: expected (black, white), the smaller '
      'first.'
    )
  black, white = value_range
  slack = 1e-5 * (white - black)  # of a float32 that was scaled
  if low < black - slack or high > white + slack:
    raise ValueError(f'{found}, outside value_range={value_range!r}: {ranges}.')
  is_dark = is_first and black == 0 and white == 255 and 0 < high <= 1
  if images.dtype != np.uint8 and is_dark:
    raise ValueError(
      f'{found}: value_range=(0, 255) would make them all black.'
    )
  if is_first and black < 0 <= low:
    raise ValueError(
      f'{found}: value_range={value_range!r} would make them all grey or '
      f'brighter. If 0 is black, pass value_range=(0, {white}); if they are '
      'that bright, pass them as uint8.'
    )
