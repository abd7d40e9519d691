"""What a generator's samples say: copying and quality, model by model.

The numbers of a study of Memorization Rejection: each trained GAN's samples
against the training and the test images in two embeddings, the one that rejects
and one that does not; then the difference that rejection makes, over seeds.
"""

from typing import NamedTuple

import numpy as np
import scipy.stats
from jaxtyping import Float, Int

from memjax import stats, validate
from memjax.distances import exact_neighbors, sample_sets
from memjax.scores.cells import NoCellLeft, check_labels
from memjax.scores.copying import copying_test
from memjax.scores.coverage import precision_recall
from memjax.scores.data_copying import (
  classwise_data_copying,
  data_copying_test,
)
from memjax.scores.frechet import frechet_distance

__all__ = [
  'ArmScores',
  'Difference',
  'EmbeddedSets',
  'ModelScores',
  'SetDistances',
  'compare_arms',
  'measure_distances',
  'score_model',
  'summarize',
]

Features = Float[np.ndarray, '_ _']


class EmbeddedSets(NamedTuple):
  """Training and test images in one embedding.

  Attributes:
    name: of the embedding.
    metric: of its distances, 'cosine' or 'euclidean'.
    train: [l, d].
    test: [t, d].
  """

  name: str
  metric: str
  train: Features
  test: Features


class SetDistances(NamedTuple):
  """Samples and their nearest training and test images, nearest train first.

  Attributes:
    train: [n], distance to the nearest training image.
    nearest_train: [n], which.
    test: [n], distance to the nearest test image.
    nearest_test: [n], which.
  """

  train: Float[np.ndarray, ' n']
  nearest_train: Int[np.ndarray, ' n']
  test: Float[np.ndarray, ' n']
  nearest_test: Int[np.ndarray, ' n']


class ModelScores(NamedTuple):
  """One model's samples in one embedding.

  Attributes:
    copying_p_value: small = more samples are much nearer to training than to
      test images than relabelling these explains; narrow samples do not move
      it, as they do C_T.
    copied_share: the estimated share of copies.
    c_t: C_T; NEGATIVE = nearer to the training set than test images are; NaN
      if no cell holds enough samples and test images, as when all samples are
      alike.
    c_t_p_value: one-sided, small = nearer than chance allows; 1 without C_T.
    c_t_farther_p_value: the other side, small = farther.
    class_c_t: mean over classes of each class's C_T; NaN if none has a value.
    class_c_t_p_value: of that mean.
    by_class: [classes] C_T of each; NaN where there are too few samples.
    frechet: Fréchet distance to the TEST images; high = unlike.
    frechet_train: the same to the TRAINING images, as published FIDs are; a
      generator that copies does well by it.
    precision: share of samples on the data (the test images').
    recall: share of test images reached.
    density: as precision, counted by balls.
    coverage: share of test images with a sample near.
    mean_distance: mean distance to the nearest training image.
    share_below: share of samples at or below the rejection threshold.
  """

  copying_p_value: float
  copied_share: float
  c_t: float
  c_t_p_value: float
  c_t_farther_p_value: float
  class_c_t: float
  class_c_t_p_value: float
  by_class: Float[np.ndarray, ' classes']
  frechet: float
  frechet_train: float
  precision: float
  recall: float
  density: float
  coverage: float
  mean_distance: float
  share_below: float


class ArmScores(NamedTuple):
  """The seeds of one way of training, together.

  Attributes:
    mean: of each number over seeds, by name.
    interval: 95 % interval of that mean over seeds, by name; NaN for one seed.
    p_value: twice the median of the seeds' p-values of C_T (one seed: its own),
      which is valid however they depend on one another.
    copying_p_value: the same of the relabelling test.
    p_value_farther: the same of the other side: small = farther from the
      training images than test images are.
    num_seeds: how many they are.
  """

  mean: dict[str, float]
  interval: dict[str, stats.Interval]
  p_value: float
  copying_p_value: float
  p_value_farther: float
  num_seeds: int

  def floor(self, num_permutations: int) -> float:
    """The smallest p that so many permutations can give."""
    return min(2, self.num_seeds) / (1 + num_permutations)


class Difference(NamedTuple):
  """What rejection changes, seed by seed: with − without.

  Attributes:
    mean: over seeds.
    interval: 95 %, Student's t over seeds; NaN for one seed.
    p_value: two-sided; NaN for one seed.
  """

  mean: float
  interval: stats.Interval
  p_value: float


# The numbers of ModelScores that are averaged and compared.
NUMBERS = tuple(
  name
  for name in ModelScores._fields
  if name != 'by_class' and not name.endswith('p_value')
)


def measure_distances(sets: EmbeddedSets, generated: Features) -> SetDistances:
  """Nearest training and test image of each sample, in float64.

  Args:
    sets: in one embedding.
    generated: [n, d] in the same.

  Raises:
    ValueError: NaN, unequal numbers of features.
  """
  train, test, samples = sample_sets(
    sets.metric, train=sets.train, test=sets.test, generated=generated
  )
  columns = []
  for references in (train, test):
    near = exact_neighbors(samples, references, metric=sets.metric)
    columns += [near.distance[:, 0], near.index[:, 0]]
  return SetDistances(*columns)


def score_model(
  sets: EmbeddedSets,
  generated: Features,
  labels: tuple[np.ndarray, np.ndarray, np.ndarray],
  *,
  threshold: float,
  num_cells: int = 5,
  num_class_cells: int = 1,
  num_permutations: int = 1000,
  k: int = 5,
  seed: int = 0,
) -> ModelScores:
  """Scores one model's samples in one embedding.

  Args:
    sets: training and test images.
    generated: [n, d] samples.
    labels: classes of train, test and generated.
    threshold: τ of rejection, in this embedding; NaN in another.
    num_cells: of C_T.
    num_class_cells: of each class, for the class-wise C_T; a cell needs more
      than 20 samples.
    num_permutations: of C_T's null.
    k: the neighbour that sets the reach of a point, for precision and recall.
    seed: of cells and permutations.

  Raises:
    ValueError: NaN, too few points, labels that are not one integer a point,
      an argument out of range.
  """
  validate.integer('num_class_cells', num_class_cells, 1)
  classes = check_labels(
    'labels', labels, (len(sets.train), len(sets.test), len(generated))
  )
  options = {
    'metric': sets.metric, 'num_permutations': num_permutations, 'seed': seed,
  }  # fmt: skip
  points = (sets.train, sets.test, generated)
  c_t, c_t_p, farther_p = np.nan, 1.0, 1.0
  try:
    whole = data_copying_test(*points, num_cells=num_cells, **options)
  except NoCellLeft:
    pass  # nothing is known of it
  else:
    c_t, c_t_p = whole.c_t, whole.p_value
    # Of (1 + count)/(1 + P) on one side; C_T has hardly any ties.
    farther_p = min(1.0, 1 - whole.p_value + 1 / (1 + num_permutations))
  class_c_t, class_p = np.nan, np.nan
  by_class = np.full(int(max(map(np.max, classes))) + 1, np.nan)
  try:
    found = classwise_data_copying(
      *points, labels=labels, num_cells=num_class_cells, **options
    )
  except NoCellLeft:
    pass  # all stays NaN
  else:
    class_c_t, class_p = found.mean_c_t, found.mean_p_value
    by_class[found.label] = found.c_t
  copies = copying_test(*points, **options)
  quality = precision_recall(sets.test, generated, k=k, metric=sets.metric)
  near = measure_distances(sets, generated).train
  return ModelScores(
    copying_p_value=copies.p_value,
    copied_share=copies.copied_share,
    c_t=c_t,
    c_t_p_value=c_t_p,
    c_t_farther_p_value=farther_p,
    class_c_t=class_c_t,
    class_c_t_p_value=class_p,
    by_class=by_class,
    frechet=frechet_distance(sets.test, generated),
    frechet_train=frechet_distance(sets.train, generated),
    **quality._asdict(),
    mean_distance=float(near.mean()),
    share_below=float((near <= threshold).mean())
    if np.isfinite(threshold)
    else np.nan,
  )


def summarize(models: list[ModelScores]) -> ArmScores:
  """Means over seeds with intervals.

  Args:
    models: one entry a seed, at least one.

  Example:
    >>> one = ModelScores(
    ...   1.0, 0.0, -1.0, 0.04, 1.0, 0.0, 1.0, np.zeros(1), *[0.0] * 8
    ... )
    >>> arm = summarize([one, one._replace(c_t=-3.0, c_t_p_value=0.02)])
    >>> arm.mean['c_t'], arm.p_value
    (-2.0, 0.06)
  """
  validate.integer('len(models)', len(models), 1)
  values = {n: np.array([getattr(m, n) for m in models]) for n in NUMBERS}
  median = lambda name: float(np.median([getattr(m, name) for m in models]))
  factor = 1 if len(models) == 1 else 2
  return ArmScores(
    mean={name: float(v.mean()) for name, v in values.items()},
    interval={name: _t_interval(v)[0] for name, v in values.items()},
    p_value=min(1.0, factor * median('c_t_p_value')),
    copying_p_value=min(1.0, factor * median('copying_p_value')),
    p_value_farther=min(1.0, factor * median('c_t_farther_p_value')),
    num_seeds=len(models),
  )


def compare_arms(
  without: list[ModelScores], with_rejection: list[ModelScores]
) -> dict[str, Difference]:
  """What rejection changes in each number, paired by seed.

  Args:
    without: plainly trained models.
    with_rejection: models of the same seeds, in the same order.

  Raises:
    ValueError: unequal numbers of models.
  """
  if len(without) != len(with_rejection):
    raise ValueError(
      f'without has {len(without)} models and with_rejection '
      f'{len(with_rejection)}: expected one of each for every seed.'
    )
  found = {}
  for name in NUMBERS:
    values = np.array(
      [
        getattr(b, name) - getattr(a, name)
        for a, b in zip(without, with_rejection, strict=True)
      ]
    )
    interval, p_value = _t_interval(values)
    found[name] = Difference(float(values.mean()), interval, p_value)
  return found


def _t_interval(values: np.ndarray) -> tuple[stats.Interval, float]:
  """95 % interval of the mean, and two-sided p that it is 0."""
  count = len(values)
  if count < 2 or not np.isfinite(values).all():
    return stats.Interval(float('nan'), float('nan')), float('nan')
  mean, std_err = values.mean(), values.std(ddof=1) / np.sqrt(count)
  reach = float(stats.student_reach(values))
  if std_err == 0:
    return stats.Interval(float(mean), float(mean)), float(mean == 0)
  p_value = 2 * scipy.stats.t.sf(abs(mean) / std_err, count - 1)
  return stats.Interval(float(mean - reach), float(mean + reach)), float(
    p_value
  )
