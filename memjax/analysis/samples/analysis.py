"""Everything that an audit of somebody's samples computes, in one pass.

Three sets go in: the training set, held-out test points, generated samples.
What comes out answers four questions, each with its null: are samples copies,
do they lie on the data, do they reach all of it, are they distributed alike?
"""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from absl import logging
from jaxtyping import Float, Int, Shaped

from memjax import stats, validate
from memjax.analysis.samples.metrics import SampleMetrics, measure_samples
from memjax.analysis.samples.nearness import Nearness, measure_nearness
from memjax.distances import sample_sets
from memjax.scores import copying as copying_scores
from memjax.scores.authenticity import AuthenticityTest, authenticity
from memjax.scores.cells import (
  CellDistances,
  NoCellLeft,
  data_copying_distances,
  make_cells,
)
from memjax.scores.copying import CopyingTest, copying_test
from memjax.scores.copying_cells import (
  DataCopyingCells,
  data_copying_cells,
  data_copying_interval,
)
from memjax.scores.coverage import (
  CoverageTest,
  PrecisionRecall,
  coverage_test,
  precision_recall,
)
from memjax.scores.data_copying import (
  ClasswiseDataCopying,
  DataCopyingTest,
  classwise_data_copying,
  data_copying_test_of,
)
from memjax.scores.frechet import frechet_distance
from memjax.scores.two_sample import neighbor_mixing_test
from memjax.types import Matrix

__all__ = ['SampleAnalysis', 'analyze_samples', 'check_counts']

Labels = tuple[
  Int[np.ndarray, ' _'], Int[np.ndarray, ' _'], Int[np.ndarray, ' _']
]
Logits = tuple[Float[np.ndarray, '_ _'], Float[np.ndarray, '_ _']]

_MAX_COMPONENTS = 64
FRECHET_PERMUTATIONS = 200
_NUM_STAGES = 10
_LEAST = 4  # training points, of which FLD takes halves


class SampleAnalysis(NamedTuple):
  """All numbers of the report; the fields are described by their types.

  Attributes:
    sizes: points in train, test, generated.
    num_features: numbers a sample.
    copying: the test that the verdict on copying rests on.
    detectable: smallest share of exact copies that would have been found; NaN
      if copying was found, or if power was not asked for.
    data_copying: C_T.
    data_copying_interval: its bootstrap interval.
    cells: C_T cell by cell.
    distances: distances to train of test points and samples.
    classwise: C_T of each class, or None without labels.
    nearness: to training points, and to held-out data.
    authenticity: AuthPct with its test.
    coverage: fidelity and diversity with their tests.
    quality: the four definitions of prdc.
    mixing: whether samples mix with test points.
    reference: whether training points mix with test points, as they should.
    frechet: Fréchet distance of samples and test points, upper tail.
    frechet_components: dimensions that it was computed in.
    repeats: shares of samples, and of training points, that occur before.
    overlap: share of test points that are training points.
    metrics: the numbers that peers report; None if not asked for.
    warnings: what weakens the answers.
    notes: what else a reader should know about the data.
  """

  sizes: tuple[int, int, int]
  num_features: int
  copying: CopyingTest
  detectable: float
  data_copying: DataCopyingTest
  data_copying_interval: stats.Interval
  cells: DataCopyingCells
  distances: CellDistances
  classwise: ClasswiseDataCopying | None
  nearness: Nearness
  authenticity: AuthenticityTest
  coverage: CoverageTest
  quality: PrecisionRecall
  mixing: stats.ExchangeTest
  reference: stats.ExchangeTest
  frechet: stats.ExchangeTest
  frechet_components: int
  repeats: tuple[float, float]
  overlap: float
  metrics: SampleMetrics | None
  warnings: tuple[str, ...]
  notes: tuple[str, ...]


def analyze_samples(
  train: Shaped[np.ndarray, '...'],
  test: Shaped[np.ndarray, '...'],
  generated: Shaped[np.ndarray, '...'],
  *,
  labels: Labels | None = None,
  logits: Logits | None = None,
  metric: str = 'euclidean',
  num_cells: int = 5,
  num_components: int = _MAX_COMPONENTS,
  k: int = 5,
  level: float = stats.LEVEL,
  num_permutations: int = 1000,
  seed: int = 0,
  estimate_power: bool = True,
  measure: bool = True,
) -> SampleAnalysis:
  """Asks all questions of three sets of samples.

  Args:
    train: [l, …].
    test: [t, …], held-out data of the same distribution.
    generated: [n, …].
    labels: classes of train, test and generated, integers from 0; or None.
    logits: of the test points and of the samples, for the Inception score.
    metric: 'euclidean' | 'cosine'.
    num_cells: k-means cells of C_T, at most.
    num_components: principal components for the cells and for the Fréchet
      distance, where the samples have more features.
    k: the neighbour that sets the radius of balls.
    level: of the test for copying, below which its power is not asked for.
    num_permutations: of every test.
    seed: of everything random.
    estimate_power: whether to plant copies, to say what could have been found
      where none is; the slowest step where sets are small.
    measure: whether to compute the numbers that peers report as well; the
      verdict does not need them.

  Returns:
    SampleAnalysis.

  Raises:
    ValueError: sets that cannot be compared, with the argument's name.
  """
  train, test, generated = sample_sets(
    metric, train=train, test=test, generated=generated
  )
  sets = train, test, generated
  check_counts(k, train=train, test=test, generated=generated)
  validate.integer('num_components', num_components, 1)
  warnings, notes = _remarks(train, test, generated)
  stage = _stages()
  null: dict[str, Any] = {'num_permutations': num_permutations, 'seed': seed}
  same: dict[str, Any] = {'metric': metric, **null}

  stage('nearest training and test points')
  copying = copying_test(*sets, **same)
  stage('what could have been found')
  detectable = float('nan')
  if estimate_power and copying.p_value > level:
    detectable = copying_scores.detectable_share(
      *sets, level=level, metric=metric, seed=seed
    )
  stage('cells of the data')
  components = min(num_components, train.shape[1], len(train))
  num_cells = min(num_cells, max(1, len(np.unique(train, axis=0))))
  cells = make_cells(
    *sets,
    num_cells=num_cells,
    seed=seed,
    num_components=None if components == train.shape[1] else components,
  )
  distances = data_copying_distances(*sets, cells=cells, metric=metric)
  c_t, interval, by_cell = _data_copying(distances, null, notes)
  stage('classes')
  classwise = _classwise(sets, labels, num_cells, components, same, notes)
  stage('authenticity')
  authentic = authenticity(train, generated, test=test, **same)
  stage('fidelity and diversity')
  coverage = coverage_test(*sets, k=k, **same)
  quality = precision_recall(train, generated, k=k, metric=metric)
  stage('whether samples mix with test points')
  mixing = neighbor_mixing_test(test, generated, k=k, **same)
  stage('whether training points mix with test points')
  some_train, some_test = _equal_sizes(train, test, seed)
  reference = neighbor_mixing_test(some_test, some_train, k=k, **same)
  stage('nearness to held-out data, Fréchet distance')
  nearness = measure_nearness(distances, test, generated, **same)
  projected = _project(train, test, generated, components)
  frechet = stats.exchange_test(
    frechet_distance,
    *projected,
    num_permutations=min(num_permutations, FRECHET_PERMUTATIONS),
    seed=seed,
    alternative='greater',
  )
  stage('what peers measure: FLD, kernel distance and others')
  metrics = measure_samples(*sets, **same, logits=logits) if measure else None
  return SampleAnalysis(
    sizes=(len(train), len(test), len(generated)),
    num_features=train.shape[1],
    copying=copying,
    detectable=detectable,
    data_copying=c_t,
    data_copying_interval=interval,
    cells=by_cell,
    distances=distances,
    classwise=classwise,
    nearness=nearness,
    authenticity=authentic,
    coverage=coverage,
    quality=quality,
    mixing=mixing,
    reference=reference,
    frechet=frechet,
    frechet_components=projected[0].shape[1],
    repeats=(_repeats(generated), _repeats(train)),
    overlap=float((distances.test == 0).mean()),
    metrics=metrics,
    warnings=tuple(warnings),
    notes=tuple(notes),
  )


def check_counts(
  k: int,
  *,
  train: Shaped[np.ndarray, '...'],
  test: Shaped[np.ndarray, '...'],
  generated: Shaped[np.ndarray, '...'],
) -> None:
  """Refuses sets of too few points; of samples before they are embedded too.

  Raises:
    ValueError: naming the set and how many points it has.
  """
  sets = {'train': train, 'test': test, 'generated': generated}
  for name, points in sets.items():
    if len(points) <= k:
      raise ValueError(
        f'{name} has {len(points)} points: expected more than k={k}.'
      )
  if len(train) < _LEAST:
    raise ValueError(
      f'train has {len(train)} points: expected {_LEAST} or more.'
    )
  # Seldom are more than two compared.
  if all(np.array_equal(point, train[0]) for point in train[1:]):
    raise ValueError('train holds one point again and again: expected more.')


def _stages() -> Callable[[str], None]:
  """Says what is being computed: an audit of large sets takes minutes."""
  begin, count = time.monotonic(), 0

  def stage(what: str) -> None:
    nonlocal count
    count += 1
    logging.info(
      'Step %d of %d (%.0f s so far): %s.',
      count,
      _NUM_STAGES,
      time.monotonic() - begin,
      what,
    )

  return stage


def _remarks(
  train: Matrix, test: Matrix, generated: Matrix
) -> tuple[list[str], list[str]]:
  """What weakens the answers, and what is odd about the data, in sentences."""
  warnings, notes = [], []
  sets = {'train': train, 'test': test, 'generated': generated}
  total = train.shape[1]
  constant = {
    name: int((np.ptp(points, axis=0) == 0).sum())
    for name, points in sets.items()
  }
  if any(constant.values()):
    counts = ', '.join(
      f'{count:,} in {name}' for name, count in constant.items()
    )
    notes.append(f'Of {total:,} features are constant: {counts}.')
  if constant['generated'] == total:
    warnings.append('All generated samples are the same point.')
  for name, points in sets.items():
    if len(points) < 100:
      warnings.append(
        f'{name} has only {len(points)} points: little can be told.'
      )
  if len(train) > 10 * len(test):
    warnings.append(
      f'{len(train) / len(test):.0f} training points to a test point: copying '
      'is harder to tell from chance than with sets of equal size.'
    )
  return warnings, notes


def _data_copying(distances: CellDistances, null, notes: list[str]):
  """C_T, its interval, and its cells; NaN with a note if no cell is left."""
  try:
    test = data_copying_test_of(distances, **null)
    interval = data_copying_interval(distances, seed=null['seed'])
    cells = data_copying_cells(distances)
  except NoCellLeft:
    notes.append(
      'C_T: every cell lacks test points or generated samples; one cell was '
      'used instead.'
    )
    whole = distances._replace(
      test_in_cell=distances.test,
      generated_in_cell=distances.generated,
      test_cell=np.zeros_like(distances.test_cell),
      generated_cell=np.zeros_like(distances.generated_cell),
      num_train=distances.num_train.sum(keepdims=True),
    )
    test = data_copying_test_of(whole, min_cell_share=0.0, **null)
    interval = data_copying_interval(
      whole, min_cell_share=0.0, seed=null['seed']
    )
    cells = data_copying_cells(whole, min_cell_share=0.0)
  left_out = int((cells.weight == 0).sum())
  if left_out:
    notes.append(
      f'C_T leaves out {left_out} of {len(cells.weight)} cells: too few '
      'generated samples there, or no test points.'
    )
  return test, interval, cells


def _classwise(sets, labels, num_cells, components, same, notes):
  if labels is None:
    return None
  smallest = np.unique(labels[0], return_counts=True)[1].min()
  features = sets[0].shape[1]
  try:
    return classwise_data_copying(
      *sets,
      labels=labels,
      num_cells=max(1, min(num_cells, int(smallest) // 20)),
      num_components=None
      if features <= components
      else min(components, int(smallest)),
      **same,
    )
  except NoCellLeft:
    notes.append('No class has enough test points and samples to be told.')
    return None


def _equal_sizes(train: Matrix, test: Matrix, seed: int):
  """As many training as test points, drawn without replacement."""
  rng = np.random.default_rng(seed)
  size = min(len(train), len(test))
  draw = lambda points: points[
    np.sort(rng.choice(len(points), size, replace=False))
  ]
  return draw(train), draw(test)


def _project(train, test, generated, components: int):
  """Test points and samples in the principal components of train."""
  if components >= train.shape[1]:
    return test, generated
  from sklearn.decomposition import PCA

  pca = PCA(components, random_state=0).fit(train)
  return np.asarray(pca.transform(test)), np.asarray(pca.transform(generated))


def _repeats(points: Matrix) -> float:
  """Share of points that are equal to an earlier one."""
  return 1 - len(np.unique(points, axis=0)) / len(points)
