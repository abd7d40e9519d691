"""What a study of rejection begins with: config checked, data, embeddings."""

import pathlib
import sys
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from absl import logging
from ml_collections import ConfigDict

from memjax import files, rejection, run_folder, validate
from memjax.analysis.rejection.analysis import EmbeddedSets
from memjax.data.image_sets import ImageSets, load_image_sets
from memjax.embeddings.base import Embedding
from memjax.models import diff_augment, gan
from memjax.neighbors import METRICS
from memjax.rejection.threshold import rejection_threshold
from memjax.studies.rejection_embeddings import (
  EMBEDDINGS,
  check_further,
  check_same,
  features,
  make_embedding,
)
from memjax.training.gan_state import GanData, GanOptions
from memjax.training.gan_step import Search, nearest_distance
from memjax.training.lift import LIFTS

__all__ = [
  'SEARCHES',
  'Setting',
  'prepare',
]

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
  search: Search
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
  _check_classes(images)
  _check_scoring(config, images)
  fields = config.model.to_dict()
  name = validate.one_of('config.model.name', fields.pop('name'), _MODELS)
  model = getattr(gan, name)(
    images.train.images.shape[1:], int(images.train.labels.max()) + 1, **fields
  )
  everything = [array for part in images for array in part]
  run_folder.claim(
    workdir, config.to_dict(), files.fingerprint(everything), free=_FREE
  )
  names = config.embedding.rejecting, config.embedding.judging
  arrays = workdir / 'arrays'
  first, second = (
    make_embedding(config, name, images, arrays) for name in names
  )
  check_same(arrays / 'embeddings.json', first, second)
  sets = _embed_sets(config, first, images), _embed_sets(config, second, images)
  threshold = given
  if threshold is None:
    threshold = rejection_threshold(sets[0].train, metric=sets[0].metric)
    if threshold == 0 and config.policy != 'none':
      raise ValueError(
        "config.threshold='auto' is 0: every training image is there twice in "
        f'the embedding {first.name!r}. Remove duplicates or give a number.'
      )
  logging.info('Rejection threshold %.4g in: %s.', threshold, first.name)
  search, index = _make_search(config, sets[0])
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
      index,
      first.params,
    ),
    search,
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
    check_further(value, config.data.num_further)
  for name in ('num_repeats', 'evaluate_every'):
    check(f'config.train.{name}', train[name], 1)
  # A covariance needs two.
  check('config.train.num_evaluated', train.num_evaluated, 2)
  steps = check('config.train.steps', train.steps, 1)
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


def _check_classes(images: ImageSets) -> None:
  """Refuses classes of which the discriminator would never see an image."""
  known = np.unique(images.train.labels)
  for name, part in (('test', images.test), ('further', images.further)):
    missing = np.setdiff1d(part.labels, known)
    if missing.size:
      raise ValueError(
        f'config.data.num_train={len(images.train.ids)}: expected an image of '
        f'every class, but of {len(missing)} that the {name} images have there '
        'is none. Raise it, or leave those classes out.'
      )


def _check_scoring(config: ConfigDict, images: ImageSets) -> None:
  """Refuses before training what scores would refuse after it."""
  score, check = config.score, validate.integer
  num_train, num_test = len(images.train.ids), len(images.test.ids)
  check('config.score.num_permutations', score.num_permutations, 1)
  for label in np.unique(images.train.labels):
    own = images.train.images[images.train.labels == label]
    distinct = len(np.unique(own.reshape(len(own), -1), axis=0))
    check('config.score.num_class_cells', score.num_class_cells, 1, distinct)
  every = images.train.images.reshape(num_train, -1)
  most = len(np.unique(every, axis=0))
  cells = check('config.score.num_cells', score.num_cells, 1, most)
  # A cell of C_T needs more than 20 samples: so many fill one in any case.
  check('config.score.num_samples', score.num_samples, 20 * cells + 1)
  fewest = min(num_test, score.num_samples)
  check('config.score.k', score.k, 1, fewest - 1)


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


def _make_search(
  config: ConfigDict, sets: EmbeddedSets
) -> tuple[Search, rejection.TrainingIndex | None]:
  """Who finds the nearest training image in a step, and in which index.

  On the device every training image is compared with; faiss, on the host, needs
  less for very many, and misses some.
  """
  if config.embedding.search == 'exact':
    index = rejection.make_index(sets.train, metric=sets.metric)
    return nearest_distance, index
  from memjax.neighbors_approximate import approximate_search

  distance = rejection.host_distance(
    approximate_search(sets.train, metric=sets.metric, seed=config.seed)
  )
  return lambda _, features: distance(features), None


def _embed_sets(config, embedding: Embedding, images) -> EmbeddedSets:
  return EmbeddedSets(
    embedding.name,
    config.embedding.metric,
    features(embedding, images.train.images),
    features(embedding, images.test.images),
  )
