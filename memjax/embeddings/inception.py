"""The Inception-v3 of FID: TensorFlow's weights of 2015-12-05, in JAX.

It is not the Inception-v3 of the model zoos: 1008 classes, average pools that
do not count padding, and a maximum pool in the last block.
"""

import functools
import os
from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from memjax import validate
from memjax.data import download as downloads
from memjax.embeddings import weights
from memjax.embeddings.base import GREY, Embedding
from memjax.embeddings.convolution import Conv, avg_pool, conv, fold, max_pool
from memjax.embeddings.resize import RESIZES, SCALINGS, resize, scale

__all__ = ['inception', 'inception_shapes']

# One file, under the names that pytorch-fid and torch-fidelity gave it.
_URLS = (
  'https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/'
  'pt_inception-2015-12-05-6726825d.pth',
  'https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/'
  'weights-inception-2015-12-05-6726825d.pth',
)
_SIZE = 95_628_359
_SHA256 = '6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2'

_INPUT = 299  # pixels a side
_NUM_CLASSES = 1008
# (resize, scaling, grey, logits_bias) of FID and the Inception score.
_CANONICAL = ('tf1', '(x-128)/128', 'refuse', False)

Params = dict[str, Conv]


def inception(
  path: str | Path | None = None,
  *,
  resize: str = 'tf1',
  scaling: str = '(x-128)/128',
  grey: str = 'refuse',
  logits_bias: bool = False,
  any_weights: bool = False,
  download: bool = True,
) -> Embedding:
  """The 2048 pool features of the FID Inception-v3, and 1008 logits.

  Feed it what the numbers you compare with were computed from:

    original, torch-fidelity   resize='tf1',      scaling='(x-128)/128'
    pytorch-fid                resize='bilinear', scaling='x/127.5-1'
    clean-fid                  resize='clean',    scaling='(x-128)/128'

  Only the first row is canonical: its Fréchet distance is called FID, those of
  the others, and of grey images repeated, after the embedding.

  `logits` are without the bias of the last layer, as the Inception score wants
  them (torch-fidelity's `logits_unbiased`); logits_bias=True adds it.

  Args:
    path: the weights as .pth; None looks in `$TORCH_HOME`/hub/checkpoints,
      `$XDG_CACHE_HOME`/torch/hub/checkpoints, the same in ~/.cache, and
      memjax's own cache, where they are downloaded to if there are none.
    resize: to 299 × 299 pixels; see `memjax.embeddings.resize`.
    scaling: of pixels x in 0 … 255.
    grey: 'refuse' | 'repeat' grey images in three channels.
    logits_bias: whether `logits` are the network's own. Such an embedding is
      not canonical: its Inception score is another.
    any_weights: accept a file at `path` that is not the published one. Its
      features are no FID features, and the name says so.
    download: whether to fetch missing weights (96 MB).

  Returns:
    An `Embedding`, canonical if the weights' checksum is right and the rest is
    as by default.

  Raises:
    FileNotFoundError: no weights; it says where they were looked for.
    ValueError: a file at `path` of other weights, damaged, or hostile.

  Source:
    Szegedy et al. (2016); Heusel et al. (2017). Weights: TensorFlow Authors,
    Apache 2.0.
  """
  validate.one_of('resize', resize, RESIZES)
  validate.one_of('scaling', scaling, SCALINGS)
  validate.one_of('grey', grey, GREY)
  file = _locate(path, any_weights, download)
  digest = weights.digest_of(file)
  is_published = digest == _SHA256
  arrays = weights.take(weights.read_pth(file), inception_shapes())
  which = '2015-12-05' if is_published else f'weights {digest[:8]}'
  notes = ', grey repeated' if grey == 'repeat' else ''
  notes += ', biased logits' if logits_bias else ''
  return Embedding(
    name=f'Inception-v3 {which}, {resize} to {_INPUT}, {scaling}{notes}',
    params=_params(arrays),
    forward=functools.partial(
      _forward, resize_method=resize, scaling=scaling, repeat=grey == 'repeat'
    ),
    digest=digest,
    channels=(1, 3) if grey == 'repeat' else (3,),
    is_canonical=is_published
    and (resize, scaling, grey, logits_bias) == _CANONICAL,
    classifier=(
      arrays['fc.weight'].T,
      logits_bias * arrays['fc.bias'],
    ),
  )


def _locate(path: str | Path | None, any_weights: bool, download: bool) -> Path:
  """The file of weights, verified unless the caller wants any."""
  if path is not None:
    file = Path(path).expanduser()
    if not file.is_file():
      raise FileNotFoundError(
        f'path (--config.inception_weights)={str(path)!r} is not a file.'
      )
    if not any_weights:
      weights.verify_weights(file, _SIZE, _SHA256)
    return file
  names = [url.rpartition('/')[2] for url in _URLS]
  cache = Path(os.environ.get('MEMJAX_DATA') or '~/.cache/memjax').expanduser()
  caches = [os.environ.get('XDG_CACHE_HOME'), '~/.cache']
  torch = [os.environ.get('TORCH_HOME'), *(c and f'{c}/torch' for c in caches)]
  folders = [Path(f).expanduser() / 'hub/checkpoints' for f in torch if f]
  folders.append(cache / 'weights')
  places = [
    folder / name for folder in dict.fromkeys(folders) for name in names
  ]
  found, notes = weights.find_weights(places, _SIZE, _SHA256)
  if found is None and download:
    try:
      return downloads.fetch(_URLS, places[-1], f'sha256:{_SHA256}')
    except ConnectionError as error:
      notes.append(str(error))
  if found is None:
    looked = '\n'.join(f'  {folder}' for folder in dict.fromkeys(folders))
    raise FileNotFoundError(
      f'the weights of the FID Inception were not found. Looked for\n  '
      f'{names[0]} or\n  {names[1]}\nin\n{looked}\n'
      + ''.join(f'{note}\n' for note in notes)
      + f'To get them: curl -L {_URLS[0]} -o {places[0]}\nor pass path '
      '(in an audit --config.inception_weights).'
    )
  return found


def inception_shapes() -> dict[str, tuple[int, ...]]:
  """Names and shapes of the 472 arrays of the PyTorch file.

  Example:
    >>> shapes = inception_shapes()
    >>> len(shapes), shapes['Conv2d_1a_3x3.conv.weight']
    (472, (32, 3, 3, 3))
  """
  shapes: dict[str, tuple[int, ...]] = {}
  for name, channels, features, rows, columns in _layers():
    shapes[f'{name}.conv.weight'] = (features, channels, rows, columns)
    for part in ('weight', 'bias', 'running_mean', 'running_var'):
      shapes[f'{name}.bn.{part}'] = (features,)
  shapes['fc.weight'] = (_NUM_CLASSES, 2048)
  shapes['fc.bias'] = (_NUM_CLASSES,)
  return shapes


def _params(arrays: dict[str, np.ndarray]) -> Params:
  """Convolutions by name, with their batch normalization folded in."""
  parts = ('conv.weight', 'bn.weight', 'bn.bias', 'bn.running_mean')
  return {
    name: fold(
      *(arrays[f'{name}.{part}'] for part in (*parts, 'bn.running_var'))
    )
    for name, *_ in _layers()
  }


_Layer = tuple[str, int, int, int, int]


def _layers() -> Iterator[_Layer]:
  """(name, channels in, channels out, rows, columns) of each convolution."""
  yield 'Conv2d_1a_3x3', 3, 32, 3, 3
  yield 'Conv2d_2a_3x3', 32, 32, 3, 3
  yield 'Conv2d_2b_3x3', 32, 64, 3, 3
  yield 'Conv2d_3b_1x1', 64, 80, 1, 1
  yield 'Conv2d_4a_3x3', 80, 192, 3, 3
  for block, channels, pool in (
    ('5b', 192, 32),
    ('5c', 256, 64),
    ('5d', 288, 64),
  ):
    yield f'Mixed_{block}.branch1x1', channels, 64, 1, 1
    yield f'Mixed_{block}.branch5x5_1', channels, 48, 1, 1
    yield f'Mixed_{block}.branch5x5_2', 48, 64, 5, 5
    yield from _double(f'Mixed_{block}', channels)
    yield f'Mixed_{block}.branch_pool', channels, pool, 1, 1
  yield 'Mixed_6a.branch3x3', 288, 384, 3, 3
  yield from _double('Mixed_6a', 288)
  for block, width in (('6b', 128), ('6c', 160), ('6d', 160), ('6e', 192)):
    name = f'Mixed_{block}'
    yield f'{name}.branch1x1', 768, 192, 1, 1
    yield f'{name}.branch7x7_1', 768, width, 1, 1
    yield f'{name}.branch7x7_2', width, width, 1, 7
    yield f'{name}.branch7x7_3', width, 192, 7, 1
    yield f'{name}.branch7x7dbl_1', 768, width, 1, 1
    yield f'{name}.branch7x7dbl_2', width, width, 7, 1
    yield f'{name}.branch7x7dbl_3', width, width, 1, 7
    yield f'{name}.branch7x7dbl_4', width, width, 7, 1
    yield f'{name}.branch7x7dbl_5', width, 192, 1, 7
    yield f'{name}.branch_pool', 768, 192, 1, 1
  yield 'Mixed_7a.branch3x3_1', 768, 192, 1, 1
  yield 'Mixed_7a.branch3x3_2', 192, 320, 3, 3
  yield 'Mixed_7a.branch7x7x3_1', 768, 192, 1, 1
  yield 'Mixed_7a.branch7x7x3_2', 192, 192, 1, 7
  yield 'Mixed_7a.branch7x7x3_3', 192, 192, 7, 1
  yield 'Mixed_7a.branch7x7x3_4', 192, 192, 3, 3
  for block, channels in (('7b', 1280), ('7c', 2048)):
    name = f'Mixed_{block}'
    yield f'{name}.branch1x1', channels, 320, 1, 1
    yield f'{name}.branch3x3_1', channels, 384, 1, 1
    yield f'{name}.branch3x3_2a', 384, 384, 1, 3
    yield f'{name}.branch3x3_2b', 384, 384, 3, 1
    yield f'{name}.branch3x3dbl_1', channels, 448, 1, 1
    yield f'{name}.branch3x3dbl_2', 448, 384, 3, 3
    yield f'{name}.branch3x3dbl_3a', 384, 384, 1, 3
    yield f'{name}.branch3x3dbl_3b', 384, 384, 3, 1
    yield f'{name}.branch_pool', channels, 192, 1, 1


def _double(name: str, channels: int) -> Iterator[_Layer]:
  """The branch of two 3 × 3 convolutions in the first blocks."""
  yield f'{name}.branch3x3dbl_1', channels, 64, 1, 1
  yield f'{name}.branch3x3dbl_2', 64, 96, 3, 3
  yield f'{name}.branch3x3dbl_3', 96, 96, 3, 3


def _forward(
  params: Params,
  images: Float[Array, 'b h w c'],
  *,
  resize_method: str,
  scaling: str,
  repeat: bool,
) -> Float[Array, 'b 2048']:
  """Pool features of images in 0 … 255."""
  if repeat and images.shape[-1] == 1:
    images = jnp.repeat(images, 3, axis=-1)
  x = scale(resize(images, _INPUT, resize_method), scaling)

  def run(x, block, *names, stride=1, padding='SAME'):
    """Convolutions one after another; stride and padding are the last one's."""
    *first, last = (f'{block}.{name}' if block else name for name in names)
    for name in first:
      x = jax.nn.relu(conv(x, params[name]))
    x = conv(x, params[last], stride=stride, padding=padding)
    return jax.nn.relu(x)

  valid = {'padding': 'VALID'}
  halve = {'stride': 2, **valid}
  x = run(x, '', 'Conv2d_1a_3x3', **halve)
  x = run(x, '', 'Conv2d_2a_3x3', **valid)
  x = max_pool(run(x, '', 'Conv2d_2b_3x3'), **halve)
  x = run(x, '', 'Conv2d_3b_1x1')
  x = max_pool(run(x, '', 'Conv2d_4a_3x3', **valid), **halve)
  double = ('branch3x3dbl_1', 'branch3x3dbl_2', 'branch3x3dbl_3')
  for block in ('Mixed_5b', 'Mixed_5c', 'Mixed_5d'):
    x = _join(
      run(x, block, 'branch1x1'),
      run(x, block, 'branch5x5_1', 'branch5x5_2'),
      run(x, block, *double),
      run(avg_pool(x), block, 'branch_pool'),
    )
  x = _join(
    run(x, 'Mixed_6a', 'branch3x3', **halve),
    run(x, 'Mixed_6a', *double, **halve),
    max_pool(x, **halve),
  )
  for block in ('Mixed_6b', 'Mixed_6c', 'Mixed_6d', 'Mixed_6e'):
    x = _join(
      run(x, block, 'branch1x1'),
      run(x, block, *(f'branch7x7_{i}' for i in range(1, 4))),
      run(x, block, *(f'branch7x7dbl_{i}' for i in range(1, 6))),
      run(avg_pool(x), block, 'branch_pool'),
    )
  x = _join(
    run(x, 'Mixed_7a', 'branch3x3_1', 'branch3x3_2', **halve),
    run(x, 'Mixed_7a', *(f'branch7x7x3_{i}' for i in range(1, 5)), **halve),
    max_pool(x, **halve),
  )
  for block, pool in (('Mixed_7b', avg_pool), ('Mixed_7c', max_pool)):
    single = run(x, block, 'branch3x3_1')
    twice = run(x, block, 'branch3x3dbl_1', 'branch3x3dbl_2')
    x = _join(
      run(x, block, 'branch1x1'),
      run(single, block, 'branch3x3_2a'),
      run(single, block, 'branch3x3_2b'),
      run(twice, block, 'branch3x3dbl_3a'),
      run(twice, block, 'branch3x3dbl_3b'),
      run(pool(x), block, 'branch_pool'),
    )
  return x.mean(axis=(1, 2))


def _join(*branches: Float[Array, 'b h w _']) -> Float[Array, 'b h w _']:
  return jnp.concatenate(branches, axis=-1)
