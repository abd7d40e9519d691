"""Reads the folder of a finished study, and keeps pictures and their numbers.

What a script needs and a folder lacks ends it with one line that says so.
"""

import json
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from absl import logging

from memjax import files
from memjax.analysis import page
from memjax.analysis.drawing import Figure
from memjax.data import transforms
from memjax.data.dataset import Dataset
from memjax.data.sources import load_dataset
from memjax.models import vae
from memjax.training.loop import load_variables
from memjax.training.metrics_writer import read_metrics


class Run(NamedTuple):
  """A study: models that diverged are left out, items without a score too."""

  folder: pathlib.Path
  config: dict[str, Any]
  held_out: np.ndarray  # bool [m, n]
  repeat: np.ndarray  # int [m]
  is_scored: np.ndarray  # bool [all items], n of them True
  is_kept: np.ndarray  # bool [all models], m of them True
  scores: dict[str, np.ndarray]  # of scores.npz; what is per item, [n]
  groups: np.ndarray | None  # [n], if the folds were drawn with groups

  @property
  def design(self) -> dict[str, Any]:
    """What scores and nulls need beside log p."""
    return {'held_out': self.held_out, 'repeat': self.repeat}


def read_run(folder: str) -> Run:
  """Reads all but log p."""
  root = pathlib.Path(folder)
  config = json.loads(_there(root / 'config.json').read_text())['config']
  grid = _load(root / 'arrays/held_out.npz')
  scores = _load(root / 'arrays/scores.npz')
  is_scored = np.isfinite(scores['score'])
  is_kept = np.ones(len(grid['repeat']), bool)
  for row in json.loads(_there(root / 'arrays/models.json').read_text()):
    is_kept[row['model']] &= not row['is_excluded']
  for name, array in scores.items():
    if array.shape[-1:] == is_scored.shape and name != 'null':
      scores[name] = array[..., is_scored]
  held_out = grid['held_out'][np.ix_(is_kept, is_scored)]
  repeat = grid['repeat'][is_kept]
  run = Run(root, config, held_out, repeat, is_scored, is_kept, scores, None)
  if config['folds']['use_groups']:
    run = run._replace(groups=load_items(run).groups)
  return run


def read_log_px(run: Run, epoch: int, name: str = 'log_px') -> np.ndarray:
  """One array of a scored epoch, [m, n]."""
  path = run.folder / f'arrays/log_px_epoch_{epoch:04d}.npz'
  arrays = _load(path)
  if name not in arrays:
    found = ', '.join(arrays)
    raise SystemExit(f'{path} lacks the array {name!r}; it has {found}.')
  found = arrays[name][np.ix_(run.is_kept, run.is_scored)]
  if epoch == run.scores['epochs'].max() and not np.isfinite(found).all():
    raise SystemExit(f'{path}: {name!r} is not finite for some scored items.')
  return found


def read_losses(
  folder: pathlib.Path, is_kept: np.ndarray | None = None
) -> tuple[np.ndarray, ...]:
  """Epochs [E], repeats [m], training and held-out loss [m, E] in nats.

  Of all models, or of those that are kept, bool.
  """
  rows = read_metrics(_there(folder / 'metrics.jsonl'))
  epochs = np.arange(1, max(row['epoch'] for row in rows) + 1)
  models = sorted({(row['repeat'], row['fold']) for row in rows})
  losses = np.full((2, len(models), len(epochs)), np.nan)
  # The last attempt counts.
  for row in sorted(rows, key=lambda row: row['attempt']):
    at = models.index((row['repeat'], row['fold'])), row['epoch'] - 1
    pair = row['train_loss'], row['held_out_loss']
    losses[:, *at] = [np.nan if loss is None else loss for loss in pair]
  rows = slice(None) if is_kept is None else is_kept
  return epochs, np.array(models)[rows, 0], *losses[:, rows]


def load_items(run: Run, split: str = '') -> Dataset:
  """The scored items, or all items of another split."""
  items = load_all(run, split)
  return items if split else take(items, run.is_scored)


def load_all(run: Run, split: str = '') -> Dataset:
  """All items of the study, scored or not, or of another split."""
  data = run.config['data']
  try:
    return load_dataset(
      data['source'],
      split=split or data['split'],
      data_dir=data['directory'] or None,
      pad=data['pad'],
      num_items=None if split else data['num_items'] or None,
    )
  except ValueError as error:
    raise SystemExit(f'{run.folder}: {error}') from error


def take(items: Dataset, rows: np.ndarray) -> Dataset:
  """Some of the items, bool or int."""
  return Dataset(*(None if part is None else part[rows] for part in items))


def save_items(path: pathlib.Path, run: Run, items: Dataset) -> None:
  """Writes items as an .npz data set, the study's test split beside them.

  Images are as the model saw them: pass `--config.data.pad=0`.
  """
  test = load_items(run, run.config['full']['test_split'])
  is_test = np.arange(len(items.ids) + len(test.ids)) >= len(items.ids)
  # Ids of the test set begin behind all others: they only tell items apart.
  ids = items.ids.max() + 1 + np.arange(len(test.ids))
  both = {
    'images': np.concatenate([items.images, test.images]),
    'labels': np.concatenate([items.labels, test.labels]),
    'ids': np.concatenate([items.ids, ids]),
    'is_test': is_test,
  }
  if items.groups is not None:
    last = items.groups.max() + 1
    alone = last + np.arange(len(test.ids))
    both['groups'] = np.concatenate([items.groups, alone])
  files.save_arrays(path, **both)


def flags_for(data: pathlib.Path) -> str:
  """What to add to a study's command to repeat it on saved items."""
  return (
    f'--config.data.source=npz:{data} --config.data.pad=0 '
    '--config.data.num_items=0'
  )


def make_model(run: Run, image_shape) -> vae.VAE:
  """The description of the study's models."""
  fields = dict(run.config['model'])
  return getattr(vae, fields.pop('name'))(tuple(image_shape), **fields)


def load_fold_models(run: Run, model: vae.VAE) -> list[Any]:
  """The variables of all fold models, each as it was trained at first."""
  logging.set_verbosity(logging.WARNING)  # Orbax tells much
  if not run.is_kept.all():
    raise SystemExit(f'{run.folder}: models diverged; expected none.')
  adam = optax.adam(run.config['train']['learning_rate'])
  width = run.config['train']['models_at_once']
  folders = sorted((run.folder / 'checkpoints').glob('attempt_0_group_*'))
  stacks = [
    load_variables(model, adam, run.folder, folder.name, width)
    for folder in folders
  ]
  models = [
    jax.tree.map(lambda leaf, k=k: leaf[k], stack)
    for stack in stacks
    for k in range(width)
  ]
  return models[: len(run.repeat)]


def draw_samples(run: Run, image_shape, count: int) -> np.ndarray:
  """Decoder means of the model of all items, [count, h, w, c] in [0, 1]."""
  _there(run.folder / 'full/checkpoints')
  model = make_model(run, image_shape)
  logging.set_verbosity(logging.WARNING)  # Orbax tells much
  adam = optax.adam(run.config['train']['learning_rate'])
  failed = json.loads(
    _there(run.folder / 'full/arrays/models.json').read_text()
  )
  if any(row['is_excluded'] for row in failed):
    raise SystemExit(f'{run.folder / "full"}: the model of all items diverged.')
  last = sorted((run.folder / 'full/checkpoints').glob('attempt_*_group_000'))
  variables = load_variables(
    model, adam, run.folder / 'full', last[-1].name, width=1
  )
  variables = jax.tree.map(lambda leaf: leaf[0], variables)
  # Not the key of the samples in the report: these are another draw.
  key = jax.random.fold_in(jax.random.key(run.config['seed']), count)
  latents = jax.random.normal(key, (count, model.latent_dim))
  one_mean = lambda z: model.decode(variables, z)
  decode = jax.jit(lambda z: jax.lax.map(one_mean, z, batch_size=256))
  to_unit = getattr(transforms, run.config['transform'])().to_unit
  return np.clip(np.asarray(to_unit(decode(latents))), 0.0, 1.0)


def keep(
  out: str,
  script: str,
  pictures: Mapping[str, Figure],
  numbers: Mapping[str, dict[str, Any]],
  *,
  run: str = '',
) -> None:
  """Writes PNGs and numbers.json, of which other scripts' parts stay.

  One file is of one study: that of `run`, where it is given.
  """
  root = pathlib.Path(out)
  root.mkdir(parents=True, exist_ok=True)
  for name, figure in pictures.items():
    (root / f'{name}.png').write_bytes(page.png(figure))
  path = root / 'numbers.json'
  old = json.loads(path.read_text()) if path.exists() else {}
  name = pathlib.Path(run).resolve().name if run else ''
  if run and old.setdefault('run', name) != name:
    raise SystemExit(
      f'{path} is of {old["run"]}: pass another --out for {run}.'
    )
  files.write_json(path, {**old, script: dict(numbers)})
  for name, found in json.loads(path.read_text())[script].items():
    print(json.dumps({'figure': name, **found}, ensure_ascii=False))


def _there(path: pathlib.Path) -> pathlib.Path:
  if not path.exists():
    raise SystemExit(f'{path} is missing: expected the folder of a study.')
  return path


def _load(path: pathlib.Path) -> dict[str, np.ndarray]:
  with np.load(_there(path)) as saved:
    return dict(saved)
