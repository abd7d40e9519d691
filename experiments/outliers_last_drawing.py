"""The figure of `outliers_last.py`: who is later, by setting and measure."""

import numpy as np

from memjax.analysis import drawing
from memjax.analysis.page import png
from memjax.files import write_atomically

__all__ = ['write_png']

_TEST_SET = 'with_outliers, r = 1.5'
_LOOKS = {
  'excess': (drawing.BLUE, 'o', 'of all samples'),
  'conditional': (drawing.VERMILION, '^', 'of the samples near them'),
  'copied': (drawing.INK, 's', 'of the points themselves'),
}
_LIMITS = (0.05, 20.0)


def write_png(path, results):
  """Time to half of the final excess, outliers against as many inliers."""
  found = {
    measure: [
      s[_TEST_SET]['delays']['outlier'][measure] for s in results.values()
    ]
    for measure in _LOOKS
  }
  figure, (ax,) = drawing.start(
    1.6 + 0.5 * len(results),
    'Are outliers memorized later than as many inliers?',
    'time to half of the final excess over chance, outliers / inliers; 95 % '
    'intervals over repeats, cut at the frame; left of 1: earlier',
  )
  rows = np.arange(len(results))
  for k, (measure, (color, marker, name)) in enumerate(_LOOKS.items()):
    value, low, high = (
      np.array([d[key] for d in found[measure]], np.float64)
      for key in ('factor', 'low', 'high')
    )
    value, low, high = np.clip([value, low, high], *_LIMITS)
    ax.errorbar(
      value, rows + 0.22 * (k - 1), xerr=[value - low, high - value],
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
