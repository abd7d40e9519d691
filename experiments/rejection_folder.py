"""Reads the folders of studies of rejection, and scores their samples anew.

Seeds that stopped early are left out of all, and named by `left_out`.
"""

import ast
import functools
import json
import pathlib
from typing import Any

import numpy as np
from absl import flags
from ml_collections import ConfigDict

from memjax import main, run_folder
from memjax.analysis.rejection.analysis import (
  NUMBERS,
  Difference,
  EmbeddedSets,
  ModelScores,
  compare_arms,
  score_model,
)
from memjax.data.dataset import Dataset
from memjax.data.image_sets import ImageSets, load_image_sets
from memjax.studies.rejection_embeddings import features, make_embedding

ARMS = ('plain', 'rejection')


def make_config(path: str, changes: list[str]):
  """A config with the changes of --set, without its plain twin."""
  config = main.read_config(path)
  config.compare = False
  for change in changes:
    key, _, value = change.partition('=')
    try:
      literal = ast.literal_eval(value)
    except (SyntaxError, ValueError):
      literal = value
    config.update_from_flattened_dict({key: literal})
  return config


def read_config(folder: pathlib.Path) -> ConfigDict:
  """The config that a study ran with."""
  path = folder / 'config.json'
  if not path.exists():
    raise SystemExit(f'{path} is missing: expected the folder of a study.')
  return ConfigDict(json.loads(path.read_text())['config'])


def check_same(config: ConfigDict, folder: pathlib.Path) -> None:
  """Refuses a finished study of another config than the one asked for."""
  flat = lambda tree: run_folder.flatten(tree, 'config')
  found = flat(read_config(folder).to_dict())
  wanted = flat(json.loads(json.dumps(config.to_dict())))
  for key in sorted(found.keys() | wanted.keys()):
    if found.get(key) != wanted.get(key):
      raise SystemExit(
        f'{folder} holds a study with {key}={found.get(key)!r}, not '
        f'{wanted.get(key)!r}: pass another --out.'
      )


def read_numbers(folder: pathlib.Path) -> dict[str, Any]:
  """What report.json says."""
  return json.loads((folder / 'report.json').read_text())['numbers']


def last_arm(folder: pathlib.Path) -> str:
  """'rejection', or 'plain' in a study without it."""
  numbers = read_numbers(folder)
  plain = numbers['threshold'] == 0 or numbers['policy'] == 'none'
  return ARMS[0] if plain else ARMS[1]


def read_arm(folder: pathlib.Path) -> dict[str, Any]:
  """What report.json says of the last arm."""
  arm, arms = last_arm(folder), read_numbers(folder)['arms']
  if arm not in arms:
    raise SystemExit(f'{folder}: every seed of {arm} stopped early.')
  return arms[arm]


def left_out(folder: pathlib.Path) -> list[str]:
  """A sentence for each seed of the last arm that stopped early."""
  return [
    f'{folder.name}, seed {seed}: stopped before step {step}, left out'
    for seed, step in enumerate(read_arm(folder)['failed_step'])
    if step >= 0
  ]


def models_of(folder: pathlib.Path, kind: str) -> dict[int, ModelScores]:
  """Scores by seed of a folder's last arm, in one kind of embedding."""
  arm = read_arm(folder)
  nan = lambda value: float('nan') if value is None else value
  by_class = lambda row: np.array([nan(v) for v in row[kind]['by_class']])
  return {
    seed: ModelScores(
      **{
        name: by_class(row) if name == 'by_class' else nan(row[kind].get(name))
        for name in ModelScores._fields
      }
    )
    for seed, row in enumerate(arm['models'])
    if arm['failed_step'][seed] < 0
  }


def read_samples(folder: pathlib.Path, arm: str = '') -> tuple[np.ndarray, ...]:
  """(images [m, n, h, w, c], labels [m, n]); of the last arm unless named."""
  arm = arm or last_arm(folder)
  path = folder / f'arrays/samples_{arm}.npz'
  if not path.exists():
    raise SystemExit(f'{folder} holds no samples of {arm}.')
  with np.load(path) as saved:
    lasted = saved['failed_step'] < 0
    return saved['images'][lasted], saved['labels'][lasted]


@functools.cache
def load_images(folder: pathlib.Path) -> ImageSets:
  """The images that a study used."""
  config = read_config(folder)
  data = config.data.to_dict()
  source, directory = data.pop('source'), data.pop('directory')
  return load_image_sets(
    source, data_dir=directory or None, seed=config.seed, **data
  )


@functools.cache
def load_embedding(folder: pathlib.Path, name: str):
  """An embedding by name, as the study made it, or would."""
  config, images = read_config(folder), load_images(folder)
  if name in ('rejecting', 'judging'):
    name = config.embedding[name]
  return make_embedding(config, name, images, folder / 'arrays')


def reference(folder: pathlib.Path, name: str) -> Dataset:
  """A set of test images, prepared as the study's images are."""
  images = load_images(folder)
  if name == 'test':
    return images.test
  if name == 'train':
    if not len(images.further.ids):
      raise SystemExit(
        f'--references=train: {folder} has no further images of the training '
        'split, which takes data.num_further > 0 (and data.num_train below all '
        'of them) when it is trained. Leave it out.'
      )
    return images.further
  data = read_config(folder).data
  options = {'pad': data.pad, 'shrink': data.shrink, 'split': 'test'}
  sets = load_image_sets(
    name, num_train=0, num_test=0, test_split='test',
    data_dir=data.directory or None, **options,
  )  # fmt: skip
  return sets.test


def define_number():
  """The flag of scripts that draw C_T, or what was published."""
  return flags.DEFINE_enum(
    'number', 'c_t', ['c_t', 'class_c_t'], 'C_T, or the mean of the classes’.'
  )


def embed_sets(
  folder: pathlib.Path, name: str, test: Dataset | None = None
) -> EmbeddedSets:
  """Training and test images, or another reference set, in an embedding."""
  images, embedding = load_images(folder), load_embedding(folder, name)
  sets = (images.train, images.test if test is None else test)
  return EmbeddedSets(
    embedding.name,
    read_config(folder).embedding.metric,
    *(features(embedding, part.images) for part in sets),
  )


def score(folder, sets: EmbeddedSets, name: str, test: Dataset) -> list:
  """Scores of each seed's samples in another embedding or by another test."""
  config = read_config(folder)
  settings = config.score.to_dict()
  settings.pop('num_samples')
  train_labels = load_images(folder).train.labels
  return [
    score_model(
      sets,
      features(load_embedding(folder, name), images),
      (train_labels, test.labels, labels),
      threshold=float('nan'),
      seed=config.seed + 1,  # as the study has it
      **settings,
    )
    for images, labels in zip(*read_samples(folder), strict=True)
  ]


def differences(
  without: dict[int, ModelScores], with_rejection: dict[int, ModelScores]
) -> dict[str, Any]:
  """`compare_arms` of the seeds of both as plain numbers; {} if none is."""
  seeds = sorted(without.keys() & with_rejection.keys())
  if not seeds:
    return {}
  found: dict[str, Difference] = compare_arms(
    *([part[seed] for seed in seeds] for part in (without, with_rejection))
  )
  return {
    name: {
      'mean': found[name].mean,
      'low': found[name].interval.low,
      'high': found[name].interval.high,
      'p_value': found[name].p_value,
    }
    for name in NUMBERS
  }
