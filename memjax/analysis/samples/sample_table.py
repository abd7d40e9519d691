"""The table of samples in an audit's report, to sort and filter."""

import numpy as np

from memjax.analysis import page
from memjax.analysis.samples.analysis import SampleAnalysis
from memjax.analysis.samples.report_page import (
  Audit,
  classes_of,
  most_suspicious,
  shown_range,
)
from memjax.data.samples import as_images

__all__ = ['all_samples']

_NUM_ROWS = 10_000  # half a megabyte
_NUM_PICTURES = 400


def all_samples(audit: Audit, analysis: SampleAnalysis) -> page.Section:
  """Every sample, or as many as a page can hold, most suspicious first."""
  copying = analysis.copying
  order = most_suspicious(analysis)[:_NUM_ROWS]
  columns = {'sample': order}
  filters = {'ratio': 'least', 'q': 'most', 'cell': 'equal'}
  classes = classes_of(audit)
  if classes is not None and len(np.unique(classes)) > 1:
    columns['class'] = classes[order]
    filters = {'class': 'equal', **filters}
  columns |= {
    'ratio': copying.sample_ratio[order],
    'q': copying.q_value[order],
    'd_train': copying.d_train[order],
    'nearest_train': copying.nearest_train[order],
    'd_test': copying.d_test[order],
    'cell': analysis.distances.generated_cell[order],
  }
  body = (
    'Sort by a column with its button; filter with the fields. The ratio is '
    'd_test/d_train, ∞ for an exact copy; samples and their nearest training '
    'items count from 0, in the order of their files.'
  )
  if len(order) < len(copying.d_train):
    body += (
      f' Here are the {len(order):,} most suspicious of '
      f'{len(copying.d_train):,} samples; samples.csv has all.'
    )
  first = audit.generated[order[:_NUM_PICTURES]]
  images = as_images(first, shown_range(audit))
  if images is not None:
    body += f' The {len(images)} highest ratios come with their pictures.'
  items = page.ItemTable(columns, filters, 'ratio', images, 'samples.csv')
  return page.Section('All samples', body, items=items)
