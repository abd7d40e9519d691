import dataclasses
import logging
import tracemalloc
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memjax.embeddings import embed as module
from memjax.embeddings.base import Embedding
from memjax.embeddings.embed import embed
from memjax.embeddings.images import to_pixels
from memjax.embeddings.pixels import pixels

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (23, 4, 5, 3), np.uint8)


def linear(num_features=6, channels=3, traces=None):
  """An embedding that counts how often it is traced."""
  kernel = jnp.asarray(RNG.normal(size=(4 * 5 * channels, num_features)))

  def forward(params, images):
    if traces is not None:
      traces.append(images.shape)
    return images.reshape(len(images), -1) @ params

  return Embedding(
    name='linear (test)',
    params=kernel.astype(jnp.float32),
    forward=forward,
    digest='0' * 64,
    channels=(channels,) if channels else (),
  )


def slow(images, embedding):
  """One image at a time."""
  rows = [
    embedding.forward(embedding.params, jnp.asarray(x[None], jnp.float32))
    for x in images
  ]
  return np.concatenate(rows)


@pytest.mark.parametrize('batch_size', [1, 4, 23, 64])
def test_batches_are_one_image_at_a_time_and_compile_once(batch_size):
  traces = []
  embedding = linear(traces=traces)
  features = embed(IMAGES, embedding, batch_size=batch_size)
  embed(IMAGES[:5], embedding, batch_size=batch_size)
  assert traces == [(batch_size, 4, 5, 3)]
  assert features.dtype == np.float32
  np.testing.assert_allclose(
    features, slow(IMAGES, embedding), rtol=1e-4, atol=1e-2
  )


def test_an_iterator_of_batches_is_the_array(monkeypatch):
  monkeypatch.setattr(module, '_CHUNK', 7)
  embedding = linear()
  expected = embed(IMAGES, embedding, batch_size=3)
  for ends in ([23], [0, 1, 2, 22, 23], [7, 14, 23], [10, 10, 23]):
    parts = np.split(IMAGES, ends[:-1])
    found = embed(iter(parts), embedding, batch_size=3)
    np.testing.assert_array_equal(found, expected)
  assert embed(jnp.asarray(IMAGES), embedding, batch_size=3).shape == (23, 6)


def test_a_stream_is_never_held(monkeypatch):
  monkeypatch.setattr(module, '_CHUNK', 4)
  events = []

  def batches():
    for index in range(5):
      events.append('read')
      yield np.full((4, 2, 2, 1), index, np.uint8) * 50

  def embedding(images):
    events.append('embedded')
    return images.reshape(len(images), -1)

  found = embed(batches(), embedding, batch_size=4)
  assert events == ['read', 'embedded'] * 5
  assert found[:, 0].tolist() == [50.0 * (i // 4) for i in range(20)]


def test_few_large_images_pass_at_once(monkeypatch):
  embedding, seen = linear(), []
  expected = embed(IMAGES, embedding, batch_size=3)
  monkeypatch.setattr(module, '_NUMBERS', 5 * IMAGES[0].size + 1)
  real = module.to_pixels
  count = lambda images, *args, **kwargs: (
    seen.append(len(images)) or real(images, *args, **kwargs)
  )
  monkeypatch.setattr(module, 'to_pixels', count)
  np.testing.assert_array_equal(
    embed(IMAGES, embedding, batch_size=3), expected
  )
  assert seen == [5, 5, 5, 5, 3]
  monkeypatch.setattr(module, '_NUMBERS', 1)
  embed(IMAGES, embedding, batch_size=3)
  assert seen[5:] == [1] * 23


def test_any_function_is_an_embedding():
  mean = lambda images: images.mean(axis=(1, 2))
  np.testing.assert_allclose(
    embed(IMAGES, mean), IMAGES.mean(axis=(1, 2)), rtol=1e-6
  )
  with pytest.raises(ValueError, match=r'returned shape \(8,\).*\[8, d\]'):
    embed(IMAGES, lambda x: x.mean(axis=(1, 2, 3)), batch_size=8)


def test_pixels_are_pixels():
  expected = IMAGES.reshape(23, -1) / 255
  np.testing.assert_allclose(embed(IMAGES, pixels()), expected, rtol=1e-6)
  grey = IMAGES[..., 0]
  np.testing.assert_array_equal(
    embed(grey, pixels()), embed(grey[..., None], pixels())
  )


def test_value_ranges_agree():
  unit = (IMAGES / 255).astype(np.float32)
  expected = embed(IMAGES, pixels())
  for images, value_range in (
    (unit, (0, 1)),
    (2 * unit - 1, (-1, 1)),
    (IMAGES.astype(np.float64), (0.0, 255.0)),
    (IMAGES.astype(np.int32), (0, 255)),
  ):
    found = embed(images, pixels(), value_range=value_range)
    np.testing.assert_allclose(found, expected, atol=1e-6)
  binary = (IMAGES > 100).astype(np.uint8)
  found = embed(binary, pixels(), value_range=(0, 1))
  np.testing.assert_array_equal(found, binary.reshape(23, -1))


def test_a_value_range_is_never_guessed():
  unit = (IMAGES / 255).astype(np.float32)
  cases = (
    (unit, None, r'values 0.* say what is black'),
    (2 * unit - 1, None, 'say what is black'),
    (IMAGES.astype(np.float32), None, 'say what is black'),
    (IMAGES.astype(np.int32), None, 'say what is black'),
    ((IMAGES > 100).astype(np.uint8), None, 'say what is black'),
    (2 * unit - 1, (0, 1), r'outside value_range=\(0, 1\)'),
    (IMAGES.astype(np.float32), (0, 1), 'outside'),
    (IMAGES.astype(np.float32), (-1, 1), 'outside'),
    (unit, (0, 255), 'all black'),
    (unit, (-1, 1), r'grey or brighter.* pass value_range=\(0, 1\)'),
    ((IMAGES > 100).astype(np.uint8), (-1, 1), 'grey or brighter'),
    (unit, (1, 0), 'the smaller first'),
    (unit, (0, 1, 2), 'the smaller first'),
    (np.where(unit > 0.5, np.nan, unit), (0, 1), 'finite'),
    (unit.astype(np.complex64), (0, 1), 'complex64'),
    (unit[0, 0], (0, 1), r'shape \(5, 3\)'),
    (list(unit), (0, 1), r'shape \(4, 5, 3\).*np\.stack'),
    (IMAGES[:, :0], None, 'expected pixels'),
  )
  for images, value_range, message in cases:
    with pytest.raises(ValueError, match=message):
      embed(images, pixels(), value_range=value_range)
  # Later batches may be bright.
  batches = [2 * unit - 1, unit]
  assert embed(batches, pixels(), value_range=(-1, 1)).min() == 0
  # A black image is a black image.
  assert not to_pixels(np.zeros((1, 2, 2, 1), np.uint8)).any()


@pytest.mark.parametrize('dtype', [bool, np.uint8, np.int64, np.float64])
def test_pixels_are_float32_and_the_only_copy(dtype):
  values = np.array([0, 1]) if dtype is bool else np.array([0, 1, 77, 200, 255])
  images = values.astype(dtype)[None, None]
  value_range = (-10, 300)
  with pytest.raises(ValueError, match='grey or brighter'):
    to_pixels(images, value_range)
  found = to_pixels(images, value_range, is_first=False)
  assert found.dtype == np.float32
  expected = (values + 10.0) * (255 / 310)
  np.testing.assert_allclose(found.ravel(), expected, rtol=1e-6)


def test_the_conversion_takes_the_memory_of_its_result():
  images = np.zeros((64, 64, 64, 1), np.float32)
  images[0] = -1
  tracemalloc.start()
  try:
    found = to_pixels(images, (-1, 1))
    peak = tracemalloc.get_traced_memory()[1]
  finally:
    tracemalloc.stop()
  assert peak < 1.5 * found.nbytes


def test_grey_images_and_a_colour_network():
  with pytest.raises(ValueError, match=r"1 channels.*needs 3.*grey='repeat'"):
    embed(IMAGES[..., :1], linear())
  with pytest.raises(ValueError, match=r'3 channels.*needs 1\.'):
    embed(IMAGES, linear(channels=1))
  with pytest.raises(ValueError, match='transparency'):
    embed(np.zeros((2, 4, 5, 4), np.uint8), linear())
  with pytest.raises(ValueError, match='channels from first to last'):
    embed(IMAGES.transpose(0, 3, 1, 2), linear())
  # One batch gets the same sentence.
  with pytest.raises(ValueError, match=r"1 channels.*needs 3.*grey='repeat'"):
    linear()(IMAGES[..., :1])
  sized = dataclasses.replace(linear(), image_size=(8, 8))
  for call in (sized, lambda images: embed(images, sized)):
    with pytest.raises(ValueError, match=r'\(4, 5\) pixels.*\(8, 8\)'):
      call(IMAGES)


def test_mixed_sizes_and_nothing():
  with pytest.raises(ValueError, match=r'\(4, 5, 3\) and one of \(5, 5, 3\)'):
    embed([IMAGES, np.zeros((2, 5, 5, 3), np.uint8)], pixels())
  with pytest.raises(ValueError, match='no image'):
    embed(IMAGES[:0], pixels())
  with pytest.raises(ValueError, match='no image'):
    embed([], pixels())
  with pytest.raises(ValueError, match='batch_size=0'):
    embed(IMAGES, pixels(), batch_size=0)
  with pytest.raises(ValueError, match='traced'):
    jax.jit(lambda images: embed(images, pixels()))(IMAGES)


def test_features_that_are_not_finite_are_named(monkeypatch):
  monkeypatch.setattr(module, '_CHUNK', 10)

  def embedding(images):
    value = images.reshape(len(images), -1).astype(np.float32)
    value[images[:, 0, 0, 0] == 255] = np.nan
    return value

  images = np.zeros((23, 2, 2, 1), np.uint8)
  images[17] = 255
  with pytest.raises(ValueError, match='image 17 is not finite'):
    embed(images, embedding, batch_size=4)


def counting(calls):
  embed_pixels = pixels()

  def embedding(images):
    calls.append(len(images))
    return embed_pixels(images)

  embedding.name, embedding.digest = 'counted', 'abc'
  return embedding


def test_features_are_kept_by_content(tmp_path, monkeypatch):
  monkeypatch.setattr(module, '_CHUNK', 8)
  calls = []
  run = lambda images, **kwargs: embed(
    images, counting(calls), batch_size=8, cache_dir=tmp_path, **kwargs
  )
  first = run(IMAGES)
  assert calls == [8, 8, 8]
  np.testing.assert_array_equal(run(iter(np.split(IMAGES, 23))), first)
  assert len(calls) == 3
  changed = IMAGES.copy()
  changed[20, 0, 0, 0] ^= 1
  assert (run(changed) != first).sum() == 1
  assert len(calls) == 4  # the two chunks before are the same
  run(IMAGES.transpose(0, 2, 1, 3))
  assert len(calls) == 7  # the same bytes of another shape are others
  assert not list(tmp_path.rglob('*.tmp'))


def test_the_cache_tells_embeddings_apart(tmp_path):
  a, b = linear(), linear()
  b = Embedding(b.name, b.params, b.forward, digest='1' * 64, channels=(3,))
  for embedding in (a, b, a, b):
    found = embed(IMAGES, embedding, cache_dir=tmp_path)
    np.testing.assert_array_equal(found, embed(IMAGES, embedding))
  with pytest.raises(ValueError, match='`name` and `digest`'):
    embed(IMAGES, lambda x: x, cache_dir=tmp_path)


def test_a_killed_run_goes_on(tmp_path, monkeypatch):
  monkeypatch.setattr(module, '_CHUNK', 8)
  calls = []
  embedding = counting(calls)

  def dies(images):
    if len(calls) == 2:
      raise KeyboardInterrupt
    return embedding(images)

  dies.name, dies.digest = embedding.name, embedding.digest
  with pytest.raises(KeyboardInterrupt):
    embed(IMAGES, dies, batch_size=8, cache_dir=tmp_path)
  found = embed(IMAGES, embedding, batch_size=8, cache_dir=tmp_path)
  assert calls == [8, 8, 8]
  np.testing.assert_array_equal(found, embed(IMAGES, pixels(), batch_size=8))


@pytest.mark.parametrize('damage', [b'', b'nonsense', None])
def test_a_damaged_file_of_the_cache_is_replaced(tmp_path, damage):
  calls = []
  expected = embed(IMAGES, counting(calls), cache_dir=tmp_path)
  (path,) = tmp_path.rglob('*.npy')
  whole = path.read_bytes()
  path.write_bytes(whole[:-1] if damage is None else damage)
  found = embed(IMAGES, counting(calls), cache_dir=tmp_path)
  np.testing.assert_array_equal(found, expected)
  assert path.read_bytes() == whole


def test_progress_has_rate_and_time_left(monkeypatch, caplog):
  now = [0.0]
  clock = types.SimpleNamespace(monotonic=lambda: now[0])
  monkeypatch.setattr(module, 'time', clock)

  def embedding(images):
    now[0] += 4.0
    return images.reshape(len(images), -1)

  embedding.name = 'slow'
  with caplog.at_level(logging.INFO):
    embed(IMAGES, embedding, batch_size=2)
  # The first batch counts no time; a line every 5 seconds; 2 images in 4 s.
  assert caplog.messages[0] == 'slow: 4 of 23 images   0.5/s   ETA 0:00:38'
  assert len(caplog.messages) == 6


def test_apply_is_float32_whatever_the_default():
  embedding = linear()
  with jax.default_matmul_precision('bfloat16'):
    text = str(jax.make_jaxpr(embedding.apply)(embedding.params, IMAGES * 1.0))
  assert 'precision=(Precision.HIGHEST, Precision.HIGHEST)' in text


def test_apply_is_pure():
  embedding = linear()
  x = jnp.asarray(IMAGES, jnp.float32)
  expected = embedding.apply(embedding.params, x)
  each = jax.vmap(lambda x: embedding.apply(embedding.params, x[None])[0])(x)
  np.testing.assert_allclose(each, expected, rtol=1e-4, atol=1e-2)
  grads = jax.grad(lambda x: embedding.apply(embedding.params, x).sum())(x)
  np.testing.assert_allclose(
    grads[3].ravel(), embedding.params.sum(axis=1), rtol=1e-4, atol=1e-5
  )
  with pytest.raises(ValueError, match='no classifier'):
    embedding.logits(expected)
