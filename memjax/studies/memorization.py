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

from memjax import files, run_folder, validate
from memjax.analysis.memorization import report
from memjax.analysis.memorization.analysis import analyze
from memjax.data import transforms
from memjax.data.dataset import Dataset
from memjax.data.sources import class_names, load_dataset
from memjax.processes import ALONE, Processes
from memjax.studies.memorization_setting import (
  FLIPS,
  find_groups,
  make_grid,
  make_model,
  make_options,
  tracked_epochs,
)
from memjax.training.loop import load_variables, train_and_score
from memjax.training.metrics_writer import read_metrics
from memjax.training.plan import Divergence, ModelGrid

__all__ = ['run']

_NUM_SAMPLES_SHOWN = 40
# What may change in a folder that holds trained models.
_FREE = (
  'config.full.is_run',
  'config.score.estimator',
  'config.score.num_permutations',
  'config.train.checkpoint_seconds',
)


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
  test = _load_test(config) if config.full.is_run else None
  groups = find_groups(dataset, config.folds.use_groups)
  grid = make_grid(config, len(dataset.ids), groups)
  model = make_model(config, dataset.images.shape[1:])
  options = make_options(config, model, dataset)
  jax.eval_shape(model.init, jax.random.key(0))  # a bad size fails here
  run_folder.claim(
    workdir,
    config.to_dict(),
    files.fingerprint(dataset),
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
    None
    if test is None
    else _run_full(config, model, dataset, test, options, workdir / 'full')
  )
  _report(config, dataset, grid, groups, divergences, full, workdir)


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
      FLIPS[config.train.flip],
      processes,
    )
    if processes.index:
      return divergences
    # Last, so that its presence says that all arrays are there.
    files.write_json(done, [d._asdict() for d in divergences])
  return [Divergence(**fields) for fields in json.loads(done.read_text())]


def _load_test(config: ConfigDict) -> Dataset:
  """The test set of the run on all items: missing is told before hours."""
  try:
    return load_dataset(
      config.data.source,
      split=config.full.test_split,
      data_dir=config.data.directory or None,
      pad=config.data.pad,
    )
  except ValueError as error:
    raise ValueError(
      f'config.full.test_split={config.full.test_split!r}: {error} It is for '
      'one more model, of all items; --config.full.is_run=False leaves that '
      'out.'
    ) from error


def _run_full(config, model, dataset, test, options, workdir) -> report.FullRun:
  """One model on all items, its loss on the official test set, its samples.

  To the loop it is a model of a fold that does not exist, which holds out the
  test set.
  """
  both = Dataset(
    np.concatenate([dataset.images, test.images]),
    np.concatenate([dataset.labels, test.labels]),
    # Those of the test set only tell its items apart.
    np.concatenate(
      [dataset.ids, dataset.ids.max() + 1 + np.arange(len(test.ids))]
    ),
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
  epochs = {*config.score.epochs, *tracked_epochs(config.score)}
  for epoch in sorted(epochs):
    with np.load(workdir / 'arrays' / f'log_px_epoch_{epoch:04d}.npz') as saved:
      arrays[epoch] = {name: saved[name][kept] for name in saved.files}
  last = arrays[max(config.score.epochs)]
  study = report.Study(
    name=config.data.source,
    ids=dataset.ids,
    labels=_name_labels(config, dataset.labels),
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
    is_binarized=config.transform == 'binarize',
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
  verdict = report.write(workdir, study, analysis)
  logging.info('%s', verdict.headline)


def _name_labels(config: ConfigDict, labels: np.ndarray) -> np.ndarray:
  """The classes as a reader knows them."""
  names = class_names(config.data.source, config.data.split)
  return np.array(names)[labels] if names else labels


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
