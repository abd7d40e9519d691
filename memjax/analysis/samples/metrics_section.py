"""What an audit's report says of the metrics that peers use."""

from typing import Any

import numpy as np

from memjax.analysis import page
from memjax.analysis.page import format_number, format_p
from memjax.analysis.samples.metrics import MOST_FEATURES, SampleMetrics

__all__ = [
  'metrics_arrays',
  'metrics_record',
  'metrics_rows',
  'metrics_section',
  'notes',
]

_NO_ERROR = 'no error: biased by sample size; compare with that of data'
# Of a report without an embedding: features, or rows of a table.
_AS_GIVEN = 'as given'
_BODY = (
  'For comparison with papers; the verdict rests on none of them. "Of data" is '
  'what the same number is of held-out data, or by chance. Distances and FLD '
  'are low where samples are like the data; **copies lower distances too**, '
  'and only FLD rises with them. FLD’s gap, the gap ratio, the DCR share, the '
  'memorization-informed distance and the attack ask for copies, each with a '
  'weakness: a generator that keeps to the dense regions of the data has lower '
  'FLD than the data and lower distances to them, without a copy; gap ratios '
  'miss copies of what the training set holds twice; the DCR share and the '
  'attack need many copies.'
)
_BIASED = (
  'Fréchet distances are biased upward by an amount that depends on the number '
  'of points: held-out data, of which the true distance is 0, get {reference}. '
  'Compare with that, and with values from equally many points alone.'
)
_FEW = (
  'No more points than features ({size:,} and {features:,}): most of a Fréchet '
  'distance may be this bias. The kernel distance has none.'
)
_MANY = (
  f'No Fréchet distance is computed of more than {MOST_FEATURES:,} features, '
  'whose matrix root takes minutes; here are {features:,}. The kernel distance '
  'is.'
)
_ZERO = (
  'The memorization-informed distance is left out: a point is the zero vector, '
  'which has no direction.'
)


def metrics_section(
  metrics: SampleMetrics,
  sizes: tuple[int, int, int],
  num_features: int,
  num_permutations: int,
  *,
  embedding: str = '',
  is_canonical: bool = False,
) -> page.Section:
  """A table with a row a metric.

  Args:
    metrics: of the samples.
    sizes: points in train, test, generated.
    num_features: of the points that were compared.
    num_permutations: of the tests.
    embedding: its name, or '' for points as they were given.
    is_canonical: whether it is the one by which FID is called FID.
  """
  rows = metrics_rows(
    metrics, num_permutations, embedding=embedding, is_canonical=is_canonical
  )
  columns = ['number', 'samples', 'of data', 'how sure']
  body = [_BODY, *notes(metrics, sizes, num_features)]
  if embedding:
    body.insert(0, f'In the features of {embedding}.')
  return page.Section(
    'What other tools measure',
    body='\n\n'.join(body),
    table=page.Table(columns, rows),
  )


def notes(
  metrics: SampleMetrics, sizes: tuple[int, int, int], num_features: int
) -> list[str]:
  """What a reader must know of the Fréchet distances, or why there are none."""
  if np.isnan(metrics.frechet):
    return [_MANY.format(features=num_features)]
  reference = format_number(metrics.frechet_reference)
  found = [_BIASED.format(reference=reference)]
  if min(sizes) <= num_features:
    found.append(_FEW.format(size=min(sizes), features=num_features))
  return found + ([_ZERO] if metrics.informed_frechet is None else [])


def metrics_rows(
  metrics: SampleMetrics,
  num_permutations: int,
  *,
  embedding: str = '',
  is_canonical: bool = False,
) -> list[list[str]]:
  """Rows of name, value, reference, and how sure."""
  floor = 1 / (1 + num_permutations)
  of = embedding or _AS_GIVEN
  fid, kid, mifid, score = (
    (name if is_canonical else f'{other} ({of})')
    for name, other in (
      ('FID', 'Fréchet distance'),
      ('KID', 'kernel distance'),
      ('MiFID', 'memorization-informed Fréchet distance'),
      ('Inception score', 'score of the classes'),
    )
  )
  likelihood, kernel = metrics.likelihood, metrics.kernel
  gap, dcr, attack = metrics.gap, metrics.dcr, metrics.attack
  rows = [
    [f'{kid} to test points', format_number(kernel.value),
     format_number(metrics.kernel_reference.value),
     _error(kernel.std_err)],
    [f'{fid} to training points', format_number(metrics.frechet),
     format_number(metrics.frechet_reference),
     f'more than {MOST_FEATURES:,} features' if np.isnan(metrics.frechet)
     else _NO_ERROR],
    ['FLD', format_number(likelihood.value), 'about 0',
     'no error: not like for like, as the next row is'],
    ['FLD, like for like with training points',
     format_number(likelihood.matched), '0', _error(likelihood.std_err)],
    ['FLD’s gap, train less test (negative = copies)',
     format_number(likelihood.gap), format_number(likelihood.null_gap),
     _error(likelihood.gap_std_err)],
    ['gap ratio: share with d₁/d₂ < 1/3 within train',
     format_number(gap.fraction), format_number(gap.null_fraction),
     format_p(gap.p_value, floor)],
    ['DCR share: nearer to train than to test', format_number(dcr.share),
     format_number(dcr.null_share), format_p(dcr.p_value, floor)],
    ['attack: AUROC of training items by their nearest sample',
     format_number(attack.auroc), '0.5', _interval(attack.intervals.auroc)],
    ['attack: TPR at 1 % FPR', format_number(attack.tpr_at_1_percent), '0.01',
     _interval(attack.intervals.tpr_at_1_percent)],
    ['attack: TPR at 0.1 % FPR', format_number(attack.tpr_at_01_percent),
     '0.001', _interval(attack.intervals.tpr_at_01_percent)],
  ]  # fmt: skip
  informed = metrics.informed_frechet
  if informed is not None:
    divided = 'divided' if informed.is_penalized else 'not divided'
    rows += [
      [f'{mifid}, nearest training point a sample',
       format_number(informed.value), format_number(metrics.informed_reference),
       f'{divided} by the next row; {_NO_ERROR}'],
      ['its nearest cosine distance', format_number(informed.distance),
       format_number(informed.null_distance),
       format_p(informed.p_value, floor)],
    ]  # fmt: skip
  inception, reference = metrics.inception, metrics.inception_reference
  if inception is not None and reference is not None:
    rows.append(
      [score, format_number(inception.value), format_number(reference.value),
       _error(inception.std_err)]
    )  # fmt: skip
  return rows


def metrics_record(
  metrics: SampleMetrics,
  array: str,
  *,
  embedding: str = '',
  is_canonical: bool = False,
) -> dict[str, Any]:
  """The numbers for report.json; `array` is the file of those of each sample.

  Args:
    metrics: of the samples.
    array: where `metrics_arrays` are kept.
    embedding: its name, or ''.
    is_canonical: whether Fréchet and kernel distance are FID and KID.
  """
  likelihood = metrics.likelihood
  whole = lambda part: {
    name: value
    for name, value in part._asdict().items()
    if not isinstance(value, np.ndarray)
  }
  attack = metrics.attack._asdict()
  attack['intervals'] = {
    name: interval._asdict()
    for name, interval in metrics.attack.intervals._asdict().items()
  }
  record: dict[str, Any] = {
    'embedding': embedding or _AS_GIVEN,
    'kernel_distance': {
      **metrics.kernel._asdict(),
      'is_kid': is_canonical,
      'reference': metrics.kernel_reference._asdict(),
    },
    'frechet_distance_to_train': {
      'value': metrics.frechet,
      'is_fid': is_canonical,
      'reference': metrics.frechet_reference,
    },
    'feature_likelihood_divergence': {
      **whole(likelihood),
      'array': f'{array}:fld_memorization',
    },
    'gap_ratio': {**whole(metrics.gap), 'array': f'{array}:gap_ratio'},
    'dcr_share': {**whole(metrics.dcr), 'array': f'{array}:d_train'},
    'membership_inference': attack,
  }
  if metrics.informed_frechet is not None:
    record['memorization_informed_frechet'] = {
      **metrics.informed_frechet._asdict(),
      'reference': metrics.informed_reference,
      'direction': 'nearest_real',
      'is_mifid': is_canonical,
    }
  if metrics.inception is not None:
    assert metrics.inception_reference is not None
    name = 'inception_score' if is_canonical else 'score_of_the_classes'
    record[name] = {
      **metrics.inception._asdict(),
      'reference': metrics.inception_reference._asdict(),
    }
  return record


def metrics_arrays(metrics: SampleMetrics) -> dict[str, np.ndarray]:
  """What is known of each sample [n], training point [l] and test point [t]."""
  return {
    'fld_memorization': metrics.likelihood.memorization,
    'fld_train_log_likelihood': metrics.likelihood.train_log_likelihood,
    'fld_test_log_likelihood': metrics.likelihood.test_log_likelihood,
    'gap_ratio': metrics.gap.ratio,
  }


def _error(std_err: float) -> str:
  return f'standard error {format_number(std_err, digits=2)}'


def _interval(interval) -> str:
  low, high = map(format_number, interval)
  return f'95 % {low} to {high}'
