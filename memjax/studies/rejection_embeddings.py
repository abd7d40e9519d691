"""The embeddings of a study of rejection: made once, the same at each start."""

import functools
import json
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from memjax import files
from memjax.data.image_sets import ImageSets
from memjax.embeddings.base import Embedding
from memjax.embeddings.embed import embed

__all__ = [
  'EMBEDDINGS',
  'apply_embedding',
  'check_further',
  'check_same',
  'features',
  'make_embedding',
]

EMBEDDINGS = ('pixels', 'encoder', 'efficientnet', 'inception')


def check_further(name: str, num_further: int) -> None:
  """Refuses an encoder of the images that the GAN is to learn.

  It knows them: what lies near in its features would be another thing for
  training and for test images.
  """
  if name == 'encoder' and not num_further:
    raise ValueError(
      "config.data.num_further=0: expected 1,000 or so, on which 'encoder' is "
      'trained; the GAN never sees them (config.data.num_train = 0 would take '
      'all images that these leave). Or choose another embedding.'
    )


def make_embedding(
  config: ConfigDict, name: str, images: ImageSets, arrays: pathlib.Path
) -> Embedding:
  """Makes an embedding by name; one is imported when it is asked for.

  An encoder is trained once and kept in the folder `arrays`: another device
  would not train the same one.
  """
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
  from memjax.embeddings import encoder

  path = arrays / 'encoder.npz'
  if not path.exists():
    check_further(name, len(images.further.ids))
    labels = images.further.labels
    trained = encoder.train_encoder(
      images.further.images,
      labels if labels.max() else None,
      seed=config.seed,
      num_features=config.embedding.num_features,
      num_steps=config.embedding.num_steps,
    )
    encoder.save_encoder(path, trained)
  return encoder.load_encoder(path)


def check_same(path: pathlib.Path, *embeddings: Embedding) -> None:
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
