"""What a study of rejection begins with: config checked, data, embeddings."""

import functools
import json
import pathlib
import sys
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from ml_collections import ConfigDict

from memjax import files, rejection, validate
from memjax import workdir as run_folder
from memjax.analysis.rejection.analysis import EmbeddedSets
from memjax.data.image_sets import ImageSets, load_image_sets
from memjax.embeddings.base import Embedding
from memjax.embeddings.embed import embed
from memjax.models import diff_augment, gan
from memjax.neighbors import METRICS
from memjax.scores.rejection import rejection_threshold
from memjax.training.gan_step import (
  GanData,
  GanOptions,
  Search,
  nearest_distance,
)
from memjax.training.lift import LIFTS

__all__ = [
  'EMBEDDINGS',
  'SEARCHES',
  'Setting',
  'apply_embedding',
  'features',
  'make_embedding',
  'make_search',
  'prepare',
]

EMBEDDINGS = ('pixels', 'encoder', 'efficientnet', 'inception')
SEARCHES = ('exact', 'approximate')
_MODELS = ('sagan', 'biggan')
_PRECISIONS = ('float32', 'tensorfloat32', 'bfloat16')
# What may change in a folder that holds trained models.
_FREE = (
  'config.train.checkpoint_seconds',
  'config.score.num_cells',
  'config.score.num_class_cells',
  'config.score.num_permutations',
  'config.score.k',
)


class Setting(NamedTuple):
  """What all models of a study share."""

  config: ConfigDict
  workdir: pathlib.Path
  images: ImageSets
  model: gan.GAN
  options: GanOptions
  embeddings: tuple[Embedding, Embedding]  # that rejects, that judges
  sets: tuple[EmbeddedSets, EmbeddedSets]  # train and test in both
  data: GanData
  threshold: float


def prepare(config: ConfigDict, workdir: pathlib.Path) -> Setting:
  """Checks the config, loads, claims the folder, embeds."""
  validate.integer('config.seed', config.seed, 0, 2**32 - 1)
  options = _make_options(config)
  given = _given_threshold(config.threshold)
  data = config.data.to_dict()
  images = load_image_sets(
    data.pop('source'),
    data_dir=data.pop('directory') or None,
    seed=config.seed,
    **data,
  )
  fields = config.model.to_dict()
  name = validate.one_of('config.model.name', fields.pop('name'), _MODELS)
  model = getattr(gan, name)(
    images.train.images.shape[1:], int(images.train.labels.max()) + 1, **fields
  )
  everything = [array for part in images for array in part]
  run_folder.claim(
    workdir, config.to_dict(), run_folder.fingerprint(everything), free=_FREE
  )
  names = config.embedding.rejecting, config.embedding.judging
  first, second = (make_embedding(config, name, images) for name in names)
  _check_embeddings(workdir / 'arrays' / 'embeddings.json', first, second)
  sets = _embed_sets(config, first, images), _embed_sets(config, second, images)
  threshold = given
  if threshold is None:
    threshold = rejection_threshold(sets[0].train, metric=sets[0].metric)
  logging.info('Rejection threshold %.4g in: %s.', threshold, first.name)
  return Setting(
    config,
    workdir,
    images,
    model,
    options,
    (first, second),
    sets,
    GanData(
      jnp.asarray(images.train.images),
      jnp.asarray(images.train.labels, jnp.int32),
      rejection.make_index(sets[0].train, metric=sets[0].metric),
      first.params,
    ),
    threshold,
  )


def _make_options(config: ConfigDict) -> GanOptions:
  """Checks the numbers of the config and gathers those that a step needs."""
  train, check, real = config.train, validate.integer, validate.real
  validate.one_of('config.policy', config.policy, rejection.POLICIES)
  for name, allowed in (('metric', METRICS), ('search', SEARCHES)):
    value = config.embedding[name]
    validate.one_of(f'config.embedding.{name}', value, allowed)
  for name in ('rejecting', 'judging'):
    value = config.embedding[name]
    validate.one_of(f'config.embedding.{name}', value, EMBEDDINGS)
  for name in ('num_repeats', 'num_evaluated', 'evaluate_every'):
    check(f'config.train.{name}', train[name], 1)
  steps = check('config.train.steps', train.steps, 1)
  # A cell of C_T needs more than 20 samples.
  check('config.score.num_samples', config.score.num_samples, 21)
  for name in ('num_cells', 'num_class_cells', 'k', 'num_permutations'):
    check(f'config.score.{name}', config.score[name], 1)
  validate.one_of('config.train.lift', train.lift, LIFTS)
  real('config.train.checkpoint_seconds', train.checkpoint_seconds, 0.0)
  if isinstance(train.augmentations, str):
    raise ValueError(
      f'config.train.augmentations={train.augmentations!r}: expected a tuple '
      f'of some of {tuple(diff_augment.POLICIES)}.'
    )
  for name in train.augmentations:
    validate.one_of('config.train.augmentations', name, diff_augment.POLICIES)
  return GanOptions(
    batch_size=check('config.train.batch_size', train.batch_size, 2),
    discriminator_steps=check(
      'config.train.discriminator_steps', train.discriminator_steps, 1
    ),
    learning_rate=real(
      'config.train.learning_rate', train.learning_rate, 0.0, 1.0
    ),
    ema_decay=real('config.train.ema_decay', train.ema_decay, 0.0, 1.0),
    ema_start=check('config.train.ema_start', train.ema_start, 0),
    augmentations=tuple(train.augmentations),
    flip=bool(train.flip),
    max_redraws=check('config.max_redraws', config.max_redraws, 1),
    patience=check('config.train.patience', train.patience, 1),
    record_every=min(train.evaluate_every, steps),
    precision=validate.one_of(
      'config.train.precision', train.precision, _PRECISIONS
    ),
  )


def _given_threshold(value: Any) -> float | None:
  """None for 'auto'; the command line gives numbers as text."""
  if value == 'auto':
    return None
  try:
    number = float(value)
  except (TypeError, ValueError) as error:
    raise ValueError(
      f"config.threshold={value!r}: expected 'auto' or a number ≥ 0."
    ) from error
  return validate.real('config.threshold', number, 0.0, sys.float_info.max)


def make_embedding(config, name: str, images: ImageSets) -> Embedding:
  """Makes an embedding by name; one is imported when it is asked for."""
  shape = images.train.images.shape[1:]
  grey = 'repeat' if shape[2] == 1 else 'refuse'
  if name == 'pixels':
    from memjax.embeddings.pixels import pixels

    return pixels()
  if name == 'efficientnet':
    from memjax.embeddings.efficientnet import efficientnet

    return efficientnet(shape, grey=grey)
  if name == 'inception':
    from memjax.embeddings.inception import inception

    return inception(grey=grey)
  from memjax.embeddings.encoder import train_encoder

  # On further images, to which training and test images are the same.
  chosen = images.further if len(images.further.ids) else images.train
  return train_encoder(
    chosen.images,
    chosen.labels if chosen.labels.max() else None,
    seed=config.seed,
    num_features=config.embedding.num_features,
    num_steps=config.embedding.num_steps,
  )


def _check_embeddings(path: pathlib.Path, *embeddings: Embedding) -> None:
  """Refuses to go on with other weights than a folder was begun with."""
  now = {e.name: e.digest for e in embeddings}
  if not path.exists():
    files.write_json(path, now)
  then = json.loads(path.read_text())
  if then != now:
    changed = sorted(k for k in then.keys() | now if then.get(k) != now.get(k))
    raise ValueError(
      f'{path.parents[1]} was begun with other weights of: '
      + '; '.join(changed)
      + '. Pass another --workdir.'
    )


def make_search(config: ConfigDict, sets: EmbeddedSets) -> Search:
  """Who finds the nearest training image in a step.

  On the device every training image is compared with; faiss, on the host, needs
  less for very many, and misses some.
  """
  if config.embedding.search == 'exact':
    return nearest_distance
  from memjax.neighbors_approximate import approximate_search

  distance = rejection.host_distance(
    approximate_search(sets.train, metric=sets.metric, seed=config.seed)
  )
  return lambda index, features: distance(features)


def apply_embedding(
  embedding: Embedding, params: Any, images: jax.Array
) -> jax.Array:
  """Features of images in 0 … 255.

  Features that are all zero, as rectified ones may be, have no direction: they
  get that of (1, …, 1).
  """
  features = embedding.apply(params, images)
  is_zero = ~features.any(axis=1, keepdims=True)
  return jnp.where(is_zero, 1e-6, features)


def features(embedding: Embedding, images: np.ndarray) -> np.ndarray:
  """Features of uint8 images, float64 [n, d], as the training step has them."""
  apply = _compiled(embedding)
  return np.asarray(
    embed(images, lambda batch: apply(embedding.params, batch)), np.float64
  )


@functools.cache
def _compiled(embedding: Embedding):
  return jax.jit(
    lambda params, images: apply_embedding(
      embedding, params, images.astype(jnp.float32)
    )
  )


def _embed_sets(config, embedding: Embedding, images) -> EmbeddedSets:
  return EmbeddedSets(
    embedding.name,
    config.embedding.metric,
    features(embedding, images.train.images),
    features(embedding, images.test.images),
  )
