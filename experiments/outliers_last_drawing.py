"""The figure of `outliers_last.py`: who is later, by setting."""

import numpy as np

from memjax.analysis import drawing
from memjax.analysis.page import png
from memjax.files import write_atomically

__all__ = ['write_png']

_TEST_SET = 'with_outliers, r = 1.5'
_LOOKS = {
  '0.1': (drawing.VERMILION, '^', 'excess over chance 0.1'),
  '0.2': (drawing.INK, 's', 'excess over chance 0.2'),
}
_LIMITS = (0.05, 20.0)


def write_png(path, results):
  """Time at which the excess passes a value, outliers against inliers."""
  found = {
    value: [s[_TEST_SET]['passing']['outlier'][value] for s in results.values()]
    for value in _LOOKS
  }
  figure, (ax,) = drawing.start(
    1.6 + 0.45 * len(results),
    'Are samples near outliers memorized later than those near inliers?',
    'time at which their excess over chance passes a value, outliers / '
    'inliers; 95 % intervals over repeats, cut at the frame',
  )
  rows = np.arange(len(results))
  for k, (at, (color, marker, name)) in enumerate(_LOOKS.items()):
    value, low, high = (
      np.array([d[key] for d in found[at]], np.float64)
      for key in ('factor', 'low', 'high')
    )
    value, low, high = np.clip([value, low, high], *_LIMITS)
    reach = np.maximum([value - low, high - value], 0)
    ax.errorbar(
      value, rows + 0.22 * (k - 0.5), xerr=reach,
      color=color, marker=marker, ls='', capsize=2, ms=5, label=name,
      clip_on=False,
    )  # fmt: skip
  ax.axvline(1, color=drawing.GREY, ls=drawing.DASHED, lw=1)
  ax.set_xscale('log')
  ax.set_xlim(*_LIMITS)
  ticks = [0.1, 0.3, 1, 3, 10]
  ax.set_xticks(ticks, [f'{tick:g}' for tick in ticks])
  ax.minorticks_off()
  ax.set_yticks(rows, list(results))
  ax.set_ylim(len(results) - 0.5, -0.5)
  ax.set_xlabel('← outliers earlier      outliers later →')
  content = png(drawing.finish(figure))
  write_atomically(path, lambda file: file.write(content))
