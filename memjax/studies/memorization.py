"""The K-fold memorization score of a density model (van den Burg and Williams
2021, Algorithm 1): folds, training, log p(x), scores, report.
"""

import json
import pathlib
from typing import Any

import jax
import numpy as np
import optax
from absl import logging
from ml_collections import ConfigDict

from memjax import validate
from memjax import workdir as run_folder
from memjax.analysis import report
from memjax.analysis.memorization import analyze
from memjax.data import transforms
from memjax.data.dataset import Dataset
from memjax.data.sources import load_dataset
from memjax.folds import make_folds
from memjax.likelihood import PROPOSALS, choose_proposal
from memjax.models import vae
from memjax.processes import ALONE, Processes
from memjax.scores.fold_design import ESTIMATORS
from memjax.training.lift import choose_lift, lay_out
from memjax.training.loop import load_variables, train_and_score
from memjax.training.metrics_writer import read_metrics
from memjax.training.plan import Divergence, LoopOptions, ModelGrid
from memjax.training.programs import ScoringOptions

__all__ = ['run']

_MODELS = (
  'bernoulli_mlp_vae',
  'diagonal_gaussian_dcvae',
  'constant_gaussian_dcvae',
)
_TRANSFORMS = ('binarize', 'dequantize_logit')
_FLIPS = {
  'none': None,
  'per_batch': transforms.flip_batch,
  'per_image': transforms.flip_images,
}
_PRECISIONS = ('float32', 'tensorfloat32', 'bfloat16')
_NUM_SAMPLES_SHOWN = 40
# What may change in a folder that holds trained models.
_FREE = (
  'config.score.estimator',
  'config.score.num_permutations',
  'config.train.checkpoint_seconds',
)
# Floats that the decoder's layers may put out in one scoring call, by default:
# they should stay in cache on a CPU, and fill an accelerator.
_FLOATS_PER_CALL = {'cpu': 2**24}
_FLOATS_ON_ACCELERATOR = 2**29


def run(
  config: ConfigDict, workdir: pathlib.Path, processes: Processes = ALONE
) -> None:
  """Trains, scores, and reports; resumes what is in the folder.

  Args:
    config: as in `configs/digits_vae.py`.
    workdir: created if missing; refused if it belongs to another config.
    processes: that share the models and the folder; the first one reports.
  """
  validate.integer('config.seed', config.seed, 0, 2**32 - 1)
  validate.integer('config.data.num_items', config.data.num_items, 0)
  dataset = load_dataset(
    config.data.source,
    split=config.data.split,
    data_dir=config.data.directory or None,
    pad=config.data.pad,
    num_items=config.data.num_items or None,
  )
  groups = _groups(dataset, config.folds.use_groups)
  grid = _make_grid(config, len(dataset.ids), groups)
  model = _make_model(config, dataset.images.shape[1:])
  options = _make_options(config, model, dataset)
  jax.eval_shape(model.init, jax.random.key(0))  # a bad size fails here
  claim = run_folder.await_claim if processes.index else run_folder.claim
  claim(
    workdir,
    config.to_dict(),
    run_folder.fingerprint(dataset),
    free=_FREE,
  )
  logging.info(
    '%d items, %d models (%d repeats of %d folds), %d at a time by %s on %s.',
    len(dataset.ids),
    len(grid.repeat),
    config.folds.num_repeats,
    config.folds.num_folds,
    options.models_at_once,
    options.lift,
    jax.default_backend(),
  )
  divergences = _train(
    config, model, dataset, grid, options, workdir, processes
  )
  if processes.index:
    return
  full = (
    _run_full(config, model, dataset, options, workdir / 'full')
    if config.full.is_run
    else None
  )
  _report(config, dataset, grid, groups, divergences, full, workdir)


def _groups(dataset: Dataset, use_groups: bool) -> np.ndarray | None:
  if use_groups and dataset.groups is None:
    raise ValueError(
      'config.folds.use_groups=True: expected a data set with `groups`; an '
      '.npz file may hold them beside its images.'
    )
  return dataset.groups if use_groups else None


def _make_grid(config, num_items: int, groups) -> ModelGrid:
  num_folds, num_repeats = config.folds.num_folds, config.folds.num_repeats
  held_out = make_folds(
    num_items,
    num_folds,
    num_repeats=num_repeats,
    seed=config.seed,
    groups=groups,
  )
  return ModelGrid(
    repeat=np.repeat(np.arange(num_repeats), num_folds),
    fold=np.tile(np.arange(num_folds), num_repeats),
    held_out=held_out,
    num_folds=num_folds,
  )


def _make_model(config, image_shape) -> vae.VAE:
  fields = config.model.to_dict()
  name = validate.one_of('config.model.name', fields.pop('name'), _MODELS)
  return getattr(vae, name)(image_shape, **fields)


def _make_options(config, model, dataset: Dataset) -> LoopOptions:
  """Checks the numbers of the config and gathers those that the loop needs."""
  train, score = config.train, config.score
  check = validate.integer
  epochs = check('config.train.epochs', train.epochs, 1)
  score_epochs = _epochs('config.score.epochs', score.epochs, epochs)
  if not score_epochs:
    raise ValueError('config.score.epochs=(): expected one epoch or more.')
  validate.real('config.train.learning_rate', train.learning_rate, 0.0, 1e3)
  validate.one_of('config.transform', config.transform, _TRANSFORMS)
  validate.one_of('config.train.flip', train.flip, _FLIPS)
  validate.one_of('config.score.estimator', score.estimator, ESTIMATORS)
  check('config.score.num_permutations', score.num_permutations, 1)
  num_tracked = check('config.score.num_tracked', score.num_tracked, 1, 2**31)
  width = check('config.train.models_at_once', train.models_at_once, 1)
  num_models = config.folds.num_folds * config.folds.num_repeats
  how = choose_lift(model, train.lift)
  return LoopOptions(
    seed=config.seed,
    epochs=epochs,
    batch_size=check('config.train.batch_size', train.batch_size, 1),
    score_epochs=score_epochs,
    scoring=_make_scoring(
      score, model, min(width, num_models), len(dataset.ids)
    ),
    redraw=score.redraw,
    models_at_once=min(width, num_models),
    lift=how,
    max_attempts=check('config.train.max_attempts', train.max_attempts, 1),
    checkpoint_seconds=validate.real(
      'config.train.checkpoint_seconds', train.checkpoint_seconds, 0.0
    ),
    progress_seconds=5.0,
    precision=validate.one_of(
      'config.train.precision', train.precision, _PRECISIONS
    ),
    tracked_epochs=_tracked_epochs(score),
    tracked=_tracked(config.seed, len(dataset.ids), num_tracked),
  )


def _epochs(name: str, values, last: int) -> tuple[int, ...]:
  """Epochs in order, each once."""
  return tuple(
    sorted({validate.integer(name, epoch, 1, last) for epoch in values})
  )


def _tracked_epochs(score: ConfigDict) -> tuple[int, ...]:
  """Tracked epochs before the last scored one, of which the verdict is.

  Later ones are left out, so that a config can be cut short by its number of
  epochs and its scored epochs alone.
  """
  tracked = _epochs('config.score.tracked_epochs', score.tracked_epochs, 2**31)
  return tuple(
    epoch
    for epoch in tracked
    if epoch < max(score.epochs) and epoch not in score.epochs
  )


def _tracked(seed: int, num_items: int, num_tracked: int) -> np.ndarray:
  """The items whose scores are followed over training: a fixed random few."""
  rng = np.random.default_rng([seed, 1])
  chosen = rng.choice(num_items, min(num_tracked, num_items), replace=False)
  return np.sort(chosen)


def _make_scoring(
  score: ConfigDict, model: vae.VAE, width: int, num_items: int
) -> ScoringOptions:
  """Checks how log p is to be estimated; chooses blocks that fit the device."""
  check = validate.integer
  num_samples = check('config.score.num_samples', score.num_samples, 1)
  encoder = check(
    'config.score.encoder_num_samples', score.encoder_num_samples, 0
  )
  validate.one_of('config.score.proposal', score.proposal, PROPOSALS)
  escalation = []
  for entry in score.escalation:
    if not isinstance(entry, tuple | list) or len(entry) != 2:
      raise ValueError(
        f'config.score.escalation has {entry!r}: expected pairs of a proposal '
        "and a number of samples, such as ('variational', 512)."
      )
    name, samples = entry
    validate.one_of('config.score.escalation', name, PROPOSALS)
    check('config.score.escalation', samples, 1)
    escalation.append((name, samples))
  for name in (score.proposal, *(name for name, _ in escalation)):
    choose_proposal(model, name)
  # On a CPU each model fills the cores by itself, and larger products than its
  # own help nobody; on an accelerator they do.
  how = 'map' if jax.default_backend() == 'cpu' else 'vmap'
  models = lay_out(width).rows_per_device if how == 'vmap' else 1
  at_once = lambda decodes: _items_at_once(model, decodes * models)
  # The Laplace proposal decodes once for each latent dimension as well, the
  # variational one for each of four draws at a time.
  jacobians = {'encoder': 0, 'laplace': 1, 'variational': 4}
  decodes = lambda name, samples: max(
    samples, jacobians[name] * model.latent_dim
  )
  chosen = check('config.score.items_at_once', score.items_at_once, 0)
  automatic = at_once(max(decodes(score.proposal, num_samples), encoder))
  rescored = at_once(max((decodes(*e) for e in escalation), default=1))
  items_at_once = min(chosen or automatic, num_items)
  return ScoringOptions(
    items_at_once=items_at_once,
    num_samples=num_samples,
    proposal=score.proposal,
    encoder_num_samples=0 if score.proposal == 'encoder' else encoder,
    escalation=tuple(escalation),
    rescored_at_once=min(rescored, items_at_once),
    lift=how,
  )


def _items_at_once(model: vae.VAE, num_decodes: int) -> int:
  backend = jax.default_backend()
  floats = _FLOATS_PER_CALL.get(backend, _FLOATS_ON_ACCELERATOR)
  return max(1, floats // (num_decodes * model.floats_per_decode()))


def _train(
  config, model, dataset, grid, options, workdir, processes=ALONE
) -> list[Divergence]:
  """Trains and scores, unless the folder holds that already."""
  done = workdir / 'arrays' / 'models.json'
  if not done.exists():
    divergences = train_and_score(
      model,
      optax.adam(config.train.learning_rate),
      getattr(transforms, config.transform)(),
      dataset,
      grid,
      options,
      workdir,
      _FLIPS[config.train.flip],
      processes,
    )
    if processes.index:
      return divergences
    # Last, so that its presence says that all arrays are there.
    run_folder.write_json(done, [d._asdict() for d in divergences])
  return [Divergence(**fields) for fields in json.loads(done.read_text())]


def _run_full(
  config, model, dataset, options, workdir
) -> report.FullRun | None:
  """One model on all items, its loss on the official test set, its samples.

  To the loop it is a model of a fold that does not exist, which holds out the
  test set.
  """
  test = load_dataset(
    config.data.source,
    split=config.full.test_split,
    data_dir=config.data.directory or None,
    pad=config.data.pad,
  )
  both = Dataset(
    np.concatenate([dataset.images, test.images]),
    np.concatenate([dataset.labels, test.labels]),
    np.concatenate([dataset.ids, test.ids]),
  )
  held_out = np.arange(len(both.ids)) >= len(dataset.ids)
  grid = ModelGrid(
    repeat=np.array([0]),
    fold=np.array([config.folds.num_folds]),
    held_out=held_out[None],
    num_folds=config.folds.num_folds,
  )
  options = options._replace(
    models_at_once=1, score_epochs=(), tracked_epochs=()
  )
  divergences = _train(config, model, both, grid, options, workdir)
  losses = _losses(workdir, grid, divergences)
  samples = None
  if not any(d.is_excluded for d in divergences):
    variables = load_variables(
      model,
      optax.adam(config.train.learning_rate),
      workdir,
      f'attempt_{len(divergences)}_group_000',
      width=1,
    )
    variables = jax.tree.map(lambda leaf: leaf[0], variables)
    samples = _sample(model, variables, config)
  return report.FullRun(losses['train_loss'], losses['held_out_loss'], samples)


def _sample(model, variables, config) -> np.ndarray:
  """Means of p(x | z) for latents from the prior, as images."""
  transform = getattr(transforms, config.transform)()
  shape = (_NUM_SAMPLES_SHOWN, model.latent_dim)
  latents = jax.random.normal(jax.random.key(config.seed), shape)
  means = jax.jit(jax.vmap(lambda z: model.decode(variables, z)))(latents)
  unit = np.clip(np.asarray(transform.to_unit(means)), 0.0, 1.0)
  return np.round(unit * 255).astype(np.uint8)


def _report(config, dataset, grid, groups, divergences, full, workdir) -> None:
  """Scores what was trained, and writes every result."""
  excluded = [d.model for d in divergences if d.is_excluded]
  kept = np.setdiff1d(np.arange(len(grid.repeat)), excluded)
  arrays: dict[int, dict[str, np.ndarray]] = {}
  tracked_epochs = _tracked_epochs(config.score)
  for epoch in sorted({*config.score.epochs, *tracked_epochs}):
    with np.load(workdir / 'arrays' / f'log_px_epoch_{epoch:04d}.npz') as saved:
      arrays[epoch] = {name: saved[name][kept] for name in saved.files}
  last = arrays[max(config.score.epochs)]
  study = report.Study(
    name=config.data.source,
    ids=dataset.ids,
    labels=dataset.labels,
    images=dataset.images,
    held_out=grid.held_out,
    repeat=grid.repeat,
    divergences=_describe(grid, divergences),
    losses=_losses(workdir, grid, divergences),
    estimates={
      name: last[name]
      for name in ('std_err', 'ess', 'pareto_k', 'is_reliable', 'round')
    },
    num_samples=config.score.num_samples,
    full=full,
    is_dequantized=config.transform == 'dequantize_logit',
  )
  held_out = grid.held_out[kept]
  if not (held_out.any(axis=0) & ~held_out.all(axis=0)).any():
    report.write_unscored(workdir, study)
    raise RuntimeError(
      f'{len(excluded)} of {len(grid.repeat)} models diverged, and what is '
      f'left scores no item; {workdir / "report.html"} names them. Try a lower '
      'learning rate.'
    )
  logging.info('Scoring, and %d permutations.', config.score.num_permutations)
  analysis = analyze(
    {epoch: saved['log_px'] for epoch, saved in arrays.items()},
    grid.held_out[kept],
    grid.repeat[kept],
    estimator=config.score.estimator,
    num_permutations=config.score.num_permutations,
    seed=config.seed,
    groups=groups,
    encoder_log_px=_finite_or_none(last.get('encoder_log_px')),
  )
  report.write(workdir, study, analysis)


def _finite_or_none(encoder_log_px: np.ndarray | None) -> np.ndarray | None:
  """A comparison is dropped, and said to be, rather than fail a whole study."""
  if encoder_log_px is None or np.isfinite(encoder_log_px).all():
    return encoder_log_px
  model, item = np.argwhere(~np.isfinite(encoder_log_px))[0]
  logging.warning(
    "By the encoder's proposal, log p of item %d under model %d is not finite: "
    'the report does not compare the estimators.',
    item,
    model,
  )
  return None


def _describe(grid, divergences) -> list[dict[str, Any]]:
  return [
    {
      'repeat': int(grid.repeat[d.model]),
      'fold': int(grid.fold[d.model]),
      'attempt': d.attempt + 1,
      'epoch': d.epoch,
      'reason': d.reason,
      'excluded': d.is_excluded,
    }
    for d in divergences
  ]


def _losses(workdir, grid, divergences) -> dict[str, np.ndarray]:
  """Train and held-out loss [m, epochs] of each model's attempt that counts."""
  rows = read_metrics(workdir / 'metrics.jsonl')
  attempt = np.zeros(len(grid.repeat), int)
  for d in divergences:
    attempt[d.model] = d.attempt if d.is_excluded else d.attempt + 1
  epochs = max(row['epoch'] for row in rows)
  places = list(zip(grid.repeat.tolist(), grid.fold.tolist(), strict=True))
  index = {place: model for model, place in enumerate(places)}
  losses = {
    name: np.full((len(grid.repeat), epochs), np.nan)
    for name in ('train_loss', 'held_out_loss')
  }
  for row in rows:
    model = index[row['repeat'], row['fold']]
    if row['attempt'] == attempt[model]:
      for name, values in losses.items():
        value = row[name]
        values[model, row['epoch'] - 1] = np.nan if value is None else value
  return losses
