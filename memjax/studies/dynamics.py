"""When is what memorized? Inliers, outliers and near-duplicates over training
(Outliers Memorized Last, 2023): all repeats train at once, and at chosen epochs
as many samples as training points are compared with train and test.
"""

import pathlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import logging
from ml_collections import ConfigDict

from memjax import files, validate
from memjax import workdir as run_folder
from memjax.analysis.dynamics import report as dynamics_report
from memjax.analysis.dynamics.curves import DYNAMICS_FILE, Dynamics
from memjax.data import synthetic
from memjax.models.denoiser import Denoiser
from memjax.scores.kind_references import (
  KINDS,
  TEST_SETS,
  Comparison,
  compare,
  count_repeats,
)
from memjax.training.canary import CanaryCounts, canaries_are_memorized
from memjax.training.epochs import (
  EpochState,
  init_epoch_state,
  make_train_epochs,
)
from memjax.training.lift import LIFTS, lift
from memjax.training.resumable import run_resumable

__all__ = ['run']

_TRAIN, _SAMPLE, _SUBSET, _INIT = range(4)
# What may change in a folder that holds a run.
_FREE = ('config.train.checkpoint_seconds',)
# Samples in one pass: a CPU's cache, or all.
_SAMPLES_AT_ONCE = {'cpu': 256}


class _Plan(NamedTuple):
  """The checked numbers of a config."""

  visits: list[int]
  shown: list[int]
  ratios: tuple[float, ...]
  canary_level: float  # of each visit's test; 0: none
  canary_set: int  # of the test sets, the one with outliers
  checkpoint_seconds: float


class _Programs(NamedTuple):
  """All repeats at once: init, train some epochs, sample."""

  init: Callable[[], EpochState]
  advance: Callable[[EpochState, int, int], EpochState]
  sample: Callable[[EpochState, int], np.ndarray]


def run(config: ConfigDict, workdir: pathlib.Path) -> None:
  """Trains, samples, counts and reports; resumes what is in the folder.

  Args:
    config: as in `configs/moons_dynamics.py`.
    workdir: created if missing; refused if it belongs to another config.
  """
  num_repeats = validate.integer('config.num_repeats', config.num_repeats, 1)
  validate.integer('config.seed', config.seed, 0, 2**32 - 1)
  plan = _make_plan(config)
  draws = [_draw(config, repeat) for repeat in range(num_repeats)]
  comparisons = [_compare(config, draw, r) for r, draw in enumerate(draws)]
  programs = _make_programs(config, draws)
  run_folder.claim(
    workdir,
    config.to_dict(),
    run_folder.fingerprint(
      array for draw in draws for part in draw[:2] for array in part
    ),
    free=_FREE,
  )
  logging.info(
    '%d repeats of %d points (%s) for %d epochs, sampled %d times, on %s.',
    num_repeats,
    len(draws[0].train.points),
    config.data.shape,
    config.train.epochs,
    len(plan.visits),
    jax.default_backend(),
  )
  finished = run_resumable(
    programs.init(),
    programs.advance,
    config.train.epochs,
    workdir / 'checkpoints',
    visits=plan.visits,
    visit=_make_visit(plan, programs, comparisons, workdir),
    unit='points·models trained',
    units_per_step=num_repeats * len(draws[0].train.points),
    checkpoint_seconds=plan.checkpoint_seconds,
  )
  failed = np.asarray(finished.state.failed)
  if failed.all():
    raise RuntimeError(
      f'All {num_repeats} repeats diverged, the first in epoch {failed.min()}. '
      f'Try --config.train.learning_rate={config.train.learning_rate / 3:.1g}.'
    )
  visited = [epoch for epoch in plan.visits if epoch <= finished.step]
  dynamics_report.write(
    workdir,
    dynamics_report.Study(
      dynamics=_join(config, workdir, visited, draws, plan, comparisons),
      shape=config.data.shape,
      gaps=np.array([draw.gap for draw in draws]),
      failed=failed,
      stopped_at=finished.step if finished.is_stopped else None,
      comparison=comparisons[0][0],
      samples={
        epoch: _load_samples(workdir, epoch)[0]
        for epoch in plan.shown
        if epoch in visited
      },
    ),
  )


def _make_visit(plan, programs, comparisons, workdir) -> Callable:
  """Samples all repeats, counts, and says whether to stop."""

  def visit(epoch: int, state: EpochState) -> bool:
    samples = programs.sample(state, epoch)
    counts = count_repeats(samples, comparisons, plan.ratios)
    loss = np.where(state.failed > 0, np.nan, np.asarray(state.loss))
    files.save_arrays(_part(workdir, epoch), **counts, loss=loss)
    if epoch in plan.shown:
      files.save_arrays(_samples(workdir, epoch), samples=samples)
    if (np.asarray(state.failed) > 0).all():
      return True
    return bool(plan.canary_level) and _must_stop(counts, plan)

  return visit


def _make_plan(config: ConfigDict) -> _Plan:
  visits = _visits(config)
  train = config.train
  return _Plan(
    visits=visits,
    shown=_shown(config, visits),
    ratios=_ratios(config),
    canary_level=_canary_level(config) / len(visits),
    canary_set=list(config.evaluate.test_sets).index('with_outliers')
    if config.stop.canary_level
    else 0,
    checkpoint_seconds=validate.real(
      'config.train.checkpoint_seconds', train.checkpoint_seconds, 0.0
    ),
  )


def _canary_level(config: ConfigDict) -> float:
  """The level at which to stop; 0: never. Canaries need controls."""
  level = config.stop.canary_level
  if not level:
    return 0.0
  validate.real('config.stop.canary_level', level, 0.0, 1.0, strict=True)
  validate.integer('config.outliers.num', config.outliers.num, 1)
  if 'with_outliers' not in config.evaluate.test_sets:
    raise ValueError(
      f'config.evaluate.test_sets={tuple(config.evaluate.test_sets)}: expected '
      "'with_outliers' among them, the controls of config.stop.canary_level."
    )
  return float(level)


def _make_programs(
  config: ConfigDict, draws: Sequence[synthetic.Draw]
) -> _Programs:
  """Compiles nothing yet; a bad size fails here."""
  model = Denoiser(**config.model.to_dict())
  optimizer = _make_optimizer(config)
  points = np.stack([draw.train.points for draw in draws]).astype(np.float32)
  num_repeats, num_points, _ = points.shape
  train_epochs = make_train_epochs(
    model,
    optimizer,
    validate.integer(
      'config.train.batch_size', config.train.batch_size, 1, num_points
    ),
    scale_by_loss=bool(config.train.scale_gradient_by_loss),
  )
  on_device = jnp.asarray(points)
  init_keys = _keys(config.seed, _INIT, num_repeats)
  train_keys = _keys(config.seed, _TRAIN, num_repeats)
  sample_keys = _keys(config.seed, _SAMPLE, num_repeats)
  init = jax.jit(jax.vmap(lambda k: init_epoch_state(model, optimizer, k)))
  train = jax.jit(
    jax.vmap(train_epochs, in_axes=(0, 0, None, None, 0)), donate_argnums=0
  )
  sample = _make_sample(config, model, num_points)

  def in_float32(function, *args):
    with jax.default_matmul_precision('float32'):
      return function(*args)

  return _Programs(
    init=lambda: init(init_keys),
    advance=lambda state, begin, end: in_float32(
      train, state, on_device, jnp.int32(begin), jnp.int32(end), train_keys
    ),
    sample=lambda state, epoch: np.asarray(
      in_float32(sample, state.train.variables, sample_keys, jnp.int32(epoch)),
      np.float64,
    ),
  )


def _draw(config: ConfigDict, repeat: int) -> synthetic.Draw:
  outliers, duplicates = config.outliers, config.duplicates
  return synthetic.draw_points(
    config.data.shape,
    config.data.num_inliers,
    synthetic.Injection(
      num_outliers=outliers.num,
      outlier_distance=outliers.distance,
      outlier_spread=outliers.spread,
      outlier_direction=outliers.direction,
      min_gap=outliers.min_gap,
      num_duplicates=duplicates.num,
      num_copies=duplicates.copies,
      jitter=duplicates.jitter,
    ),
    seed=config.seed,
    repeat=repeat,
    num_test_inliers=config.data.num_test_inliers or None,
    noise=config.data.noise,
    data_dir=config.data.directory or None,
  )


def _make_optimizer(config: ConfigDict) -> optax.GradientTransformation:
  real, train = validate.real, config.train
  return optax.chain(
    optax.clip_by_global_norm(
      real('config.train.clip_norm', train.clip_norm, 0.0, strict=True)
    ),
    optax.adamw(
      real('config.train.learning_rate', train.learning_rate, 0.0, 1e3),
      weight_decay=real('config.train.weight_decay', train.weight_decay, 0.0),
    ),
  )


def _visits(config: ConfigDict) -> list[int]:
  """Epochs after which to sample: 0, every so many, and the last."""
  last = validate.integer('config.train.epochs', config.train.epochs, 1)
  if config.evaluate.epochs:
    given = (
      validate.integer('config.evaluate.epochs', epoch, 0, last)
      for epoch in config.evaluate.epochs
    )
    return sorted({*given, last})
  every = validate.integer('config.evaluate.every', config.evaluate.every, 1)
  return sorted({*range(0, last, every), last})


def _shown(config: ConfigDict, visits: list[int]) -> list[int]:
  """The visits whose samples are kept: the nearest to the given ones."""
  last = config.train.epochs
  given = config.evaluate.sample_epochs or (0, last // 4, last // 2, last)
  nearest = lambda epoch: min(visits, key=lambda visit: abs(visit - epoch))
  return sorted({nearest(epoch) for epoch in given})


def _ratios(config: ConfigDict) -> tuple[float, ...]:
  """Ratios of true distances: the given ones, then those of squared ones."""
  ratios = [
    validate.real('config.evaluate.ratios', r, 1.0, np.inf, strict=True)
    for r in config.evaluate.ratios
  ]
  if not ratios:
    raise ValueError(
      'config.evaluate.ratios=(): expected one ratio above 1 or more.'
    )
  return (*ratios, *(float(np.sqrt(r)) for r in ratios))


def _keys(seed: int, purpose: int, num_repeats: int) -> jax.Array:
  """A repeat's stream depends on the seed and its number alone."""
  root = jax.random.fold_in(jax.random.key(seed), purpose)
  fold = lambda repeat: jax.random.fold_in(root, repeat)
  return jax.vmap(fold)(jnp.arange(num_repeats))


def _make_sample(config: ConfigDict, model: Denoiser, num_samples: int):
  """(variables, keys, epoch) -> samples [R, n, d]."""
  backend = jax.default_backend()
  how = validate.one_of('config.evaluate.lift', config.evaluate.lift, LIFTS)
  if how == 'auto':
    how = 'map' if backend == 'cpu' else 'vmap'
  block_size = _SAMPLES_AT_ONCE.get(backend)

  def sample(variables, key, epoch):
    key = jax.random.fold_in(key, epoch)
    return model.sample(variables, key, num_samples, block_size=block_size)

  return jax.jit(lift(sample, how, (0, 0, None)))


def _compare(
  config: ConfigDict, draw: synthetic.Draw, repeat: int
) -> list[Comparison]:
  names = config.evaluate.test_sets
  if not names:
    raise ValueError(
      f'config.evaluate.test_sets=(): expected one of {TEST_SETS} or more.'
    )
  sequence = np.random.SeedSequence([config.seed, repeat, _SUBSET])
  seed = int(sequence.generate_state(1)[0])
  return [compare(draw, name, seed=seed) for name in names]


def _must_stop(counts: dict[str, Any], plan: _Plan) -> bool:
  """Whether the outliers, as canaries, begin to be memorized: all repeats."""
  at = (slice(None), plan.canary_set, 0, KINDS.index('outlier'))
  return canaries_are_memorized(
    CanaryCounts(
      copied=int(np.nansum(counts['copied'][at])),
      control=int(np.nansum(counts['swapped_copied'][at])),
    ),
    level=plan.canary_level,
  )


def _part(workdir: pathlib.Path, epoch: int) -> pathlib.Path:
  return workdir / 'arrays' / 'parts' / f'counts_{epoch:06d}.npz'


def _samples(workdir: pathlib.Path, epoch: int) -> pathlib.Path:
  return workdir / 'arrays' / f'samples_epoch_{epoch:06d}.npz'


def _load_samples(workdir: pathlib.Path, epoch: int) -> np.ndarray:
  with np.load(_samples(workdir, epoch)) as saved:
    return saved['samples']


def _join(
  config: ConfigDict,
  workdir: pathlib.Path,
  epochs: list[int],
  draws: list[synthetic.Draw],
  plan: _Plan,
  comparisons: list[list[Comparison]],
) -> Dynamics:
  """All visits' counts, in one file."""
  parts = []
  for epoch in epochs:
    with np.load(_part(workdir, epoch)) as part:
      parts.append({name: part[name] for name in part.files})
  train = comparisons[0][0].train
  dynamics = Dynamics(
    epochs=np.array(epochs),
    **{name: np.stack([part[name] for part in parts]) for name in parts[0]},
    num_samples=len(draws[0].train.points),
    members=np.array([len(np.unique(train.group[m])) for m in train.member.T]),
    kinds=KINDS,
    test_sets=tuple(config.evaluate.test_sets),
    ratios=plan.ratios,
  )
  files.save_arrays(workdir / DYNAMICS_FILE, **dynamics._asdict())
  return dynamics
