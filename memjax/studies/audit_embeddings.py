"""The embeddings that an audit of images can name."""

import pathlib
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float32, Int, Shaped
from ml_collections import ConfigDict

from memjax import validate
from memjax.embeddings.base import GREY, Embedding
from memjax.embeddings.efficientnet import efficientnet
from memjax.embeddings.embed import embed
from memjax.embeddings.images import check_pixels, to_pixels
from memjax.embeddings.inception import inception
from memjax.embeddings.pixels import pixels
from memjax.embeddings.resize import RESIZES, SCALINGS

__all__ = [
  'EMBEDDINGS',
  'check_images',
  'check_settings',
  'embed_images',
  'make_embedding',
]

EMBEDDINGS = ('pixels', 'efficientnet', 'inception', 'encoder')
# Which of them look at a setting.
_USED_BY = {
  'value_range': EMBEDDINGS,
  'grey': ('efficientnet', 'inception'),
  'resize': ('efficientnet', 'inception'),
  'scaling': ('inception',),
  'inception_weights': ('inception',),
}

Values = Shaped[np.ndarray, '...']
Labels = tuple[Int[np.ndarray, ' _'], ...] | None


def check_settings(config: ConfigDict) -> None:
  """Refuses what is set and would change nothing, before any file is read.

  Raises:
    ValueError: naming the setting and the embeddings that use it.
  """
  names = {config.embedding, config.second_embedding}
  for setting, users in _USED_BY.items():
    value = config[setting]
    is_set = value != 'refuse' if setting == 'grey' else bool(value)
    if is_set and names.isdisjoint(users):
      raise ValueError(
        f'config.{setting}={value!r} is set, and neither config.embedding='
        f'{config.embedding!r} nor config.second_embedding='
        f'{config.second_embedding!r} uses it: expected one of '
        f'{", ".join(users)}, or no {setting}.'
      )


def check_images(config: ConfigDict, values: Mapping[str, Values]) -> None:
  """Refuses, before minutes of work, what no embedding can take.

  Raises:
    ValueError: naming the set that holds no images, or not in a known range.
  """
  for name, images in values.items():
    if images.ndim not in (3, 4):
      raise ValueError(
        f'config.{name} holds samples of shape {images.shape[1:]}: expected '
        'images [h, w] or [h, w, c] for an embedding; leave config.embedding '
        'empty to compare numbers as they are.'
      )
    try:
      check_pixels(images, _range(config))
    except ValueError as error:
      raise ValueError(
        f'config.{name}: {error} (config.value_range says what is black and '
        'what is white.)'
      ) from error


def make_embedding(
  config: ConfigDict, name: str, values: Mapping[str, Values], labels: Labels
) -> Embedding:
  """The embedding of that name, for these images.

  Args:
    config: as in `configs/audit.py`.
    name: one of `EMBEDDINGS`.
    values: images by 'train', 'test' and 'generated'.
    labels: of all three, or None.

  Raises:
    ValueError: if the embedding does not suit the images.
    FileNotFoundError: if weights are missing.
  """
  grey = validate.one_of('config.grey', config.grey, GREY)
  shape = (*values['train'].shape[1:], 1)[:3]
  if name == 'pixels':
    return pixels()
  if shape[2] not in (1, 3):
    raise ValueError(
      f'config.train holds images of shape {shape}: expected 1 or 3 channels, '
      f'the last axis, for config.embedding={name!r}.'
    )
  if name != 'encoder' and shape[2] == 1 and grey == 'refuse':
    raise ValueError(
      f'config.train holds grey images, and config.embedding={name!r} needs '
      "colour: expected --config.grey=repeat, or an embedding 'pixels' or "
      "'encoder', which suit grey images as well."
    )
  options = {'grey': grey}
  if config.resize:
    validate.one_of('config.resize', config.resize, RESIZES)
    options['resize'] = config.resize
  if name == 'efficientnet':
    return efficientnet(shape, **options)
  if name == 'inception':
    if config.scaling:
      validate.one_of('config.scaling', config.scaling, SCALINGS)
      options['scaling'] = config.scaling
    return inception(config.inception_weights or None, **options)
  # Flax is slow to import, and only this one needs it.
  from memjax.embeddings.encoder import train_encoder

  # On all three sets alike: features that know one set better than another
  # would tell them apart, and no exchange of labels would be a null. In random
  # order, so that places tell nothing.
  every = np.concatenate(
    [to_pixels(images, _range(config)) for images in values.values()]
  )
  order = np.random.default_rng(config.seed).permutation(len(every))
  return train_encoder(
    every[order],
    _classes(labels, order),
    seed=config.seed,
    value_range=(0, 255),
  )


def _classes(
  labels: Labels, order: Int[np.ndarray, ' _']
) -> Int[np.ndarray, ' _'] | None:
  """Classes numbered from 0; None where there are fewer than two."""
  if labels is None:
    return None
  names, classes = np.unique(np.concatenate(labels), return_inverse=True)
  return classes[order] if len(names) > 1 else None


def embed_images(
  config: ConfigDict,
  embedding: Embedding,
  images: Values,
  workdir: pathlib.Path,
) -> Float32[np.ndarray, 'n d']:
  """Features of one set; kept in the workdir where that saves time."""
  # Pixels are faster computed than read.
  cache = None if not embedding.digest else workdir / 'features'
  return embed(images, embedding, value_range=_range(config), cache_dir=cache)


def _range(config: ConfigDict) -> tuple[float, float] | None:
  found = tuple(config.value_range)
  if not found:
    return None
  if len(found) != 2 or not found[0] < found[1]:
    raise ValueError(
      f'config.value_range={found}: expected (black, white), such as '
      '(0.0, 1.0).'
    )
  return float(found[0]), float(found[1])
