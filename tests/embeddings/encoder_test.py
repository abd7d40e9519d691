import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.datasets import load_digits

from memjax import nearest_neighbors
from memjax.embeddings import encoder as module
from memjax.embeddings.embed import embed
from memjax.embeddings.encoder import (
  load_encoder,
  save_encoder,
  train_encoder,
)

DIGITS = load_digits()
IMAGES = (DIGITS.images * 15.9375).astype(np.uint8)[..., None]
TRAIN, TEST = slice(0, 1200), slice(1200, 1797)
QUICK = {'num_steps': 200, 'batch_size': 64, 'num_features': 16}


@pytest.fixture(scope='module')
def classifier():
  return train_encoder(IMAGES[TRAIN], DIGITS.target[TRAIN], **QUICK)


@pytest.fixture(scope='module')
def autoencoder():
  return train_encoder(IMAGES[TRAIN], **QUICK)


def neighbor_accuracy(embedding):
  """Share of test digits whose nearest training digit has their class."""
  near = nearest_neighbors(
    embed(IMAGES[TEST], embedding),
    embed(IMAGES[TRAIN], embedding),
    metric='cosine',
  ).index[:, 0]
  labels = DIGITS.target[TRAIN][np.asarray(near)]
  return (labels == DIGITS.target[TEST]).mean()


def test_a_classifier_tells_held_out_digits_apart(classifier):
  features = embed(IMAGES[TEST], classifier)
  found = classifier.logits(features).argmax(axis=1)
  assert (found == DIGITS.target[TEST]).mean() > 0.85
  assert neighbor_accuracy(classifier) > 0.85
  assert features.min() == 0  # after max(0, ·)
  assert classifier.name == (
    'classifier of 10 classes trained on 1200 images 8×8×1, 16 features, '
    '200 steps, seed 0'
  )


def test_a_code_keeps_digits_apart_without_labels(autoencoder):
  assert neighbor_accuracy(autoencoder) > 0.75  # by chance: 0.1
  assert not autoencoder.has_logits
  assert autoencoder.name.startswith('autoencoder trained on 1200 images')


def test_an_autoencoder_reconstructs():
  pixels = IMAGES[TRAIN]
  params = module._init(jax.random.key(0), pixels, 16, 0)
  labels = np.zeros(len(pixels), np.int32)
  _, losses = module._train(params, pixels, labels, jax.random.key(1), 200, 64)
  # Standardized images have variance 1, which a constant's error would be.
  assert losses[0] > 0.9
  assert losses[-20:].mean() < 0.4


@pytest.mark.parametrize('kind', ['classifier', 'autoencoder'])
def test_from_disk_it_is_the_same(request, tmp_path, kind):
  trained = request.getfixturevalue(kind)
  save_encoder(tmp_path / 'encoder.npz', trained)
  found = load_encoder(tmp_path / 'encoder.npz')
  assert (found.name, found.digest) == (trained.name, trained.digest)
  assert found.channels == trained.channels
  assert found.image_size == trained.image_size
  images = IMAGES[TEST][:50]
  np.testing.assert_array_equal(found(images), trained(images))
  assert found.has_logits == trained.has_logits
  if found.has_logits:
    codes = found(images)
    np.testing.assert_array_equal(found.logits(codes), trained.logits(codes))


def test_the_seed_decides():
  run = lambda seed: train_encoder(
    IMAGES[:100], seed=seed, num_steps=3, num_features=4
  )
  first, again, other = run(0), run(0), run(1)
  jax.tree.map(np.testing.assert_array_equal, first.params, again.params)
  assert first.digest == again.digest != other.digest


def test_value_ranges_agree():
  run = lambda images, **kwargs: train_encoder(
    images, num_steps=3, num_features=4, **kwargs
  )
  expected = run(IMAGES[:100])
  found = run(IMAGES[:100] / 127.5 - 1, value_range=(-1, 1))
  x = IMAGES[:5]
  np.testing.assert_allclose(found(x), expected(x), rtol=1e-3, atol=1e-4)
  with pytest.raises(ValueError, match='say what is black'):
    run(IMAGES[:100] / 255)


def test_apply_serves_inside_a_training_step(classifier):
  x = jnp.asarray(IMAGES[:4], jnp.float32)
  apply = jax.jit(lambda x: classifier.apply(classifier.params, x))
  np.testing.assert_allclose(
    apply(x), classifier(IMAGES[:4]), rtol=1e-5, atol=1e-5
  )
  each = jax.jit(jax.vmap(lambda x: apply(x[None])[0]))(x)
  np.testing.assert_allclose(each, apply(x), rtol=1e-4, atol=1e-5)
  grads = jax.jit(jax.grad(lambda x: apply(x).sum()))(x)
  step = 0.1 * jnp.sign(grads)
  assert apply(x + step).sum() > apply(x).sum() > apply(x - step).sum()


@pytest.mark.parametrize(
  ('shape', 'labels'),
  [((9, 7, 3), None), ((20, 33, 1), np.arange(6) % 2)],
)
def test_any_size_and_number_of_channels(shape, labels):
  images = np.random.default_rng(0).integers(0, 256, (6, *shape), np.uint8)
  found = train_encoder(images, labels, num_steps=1, num_features=3)
  assert found(images).shape == (6, 3)
  wider = np.concatenate([images, images], axis=2)
  with pytest.raises(ValueError, match='was trained on'):
    embed(wider, found)


def test_constant_images_do_no_harm():
  images = np.full((6, 1, 1, 1), 7, np.uint8)
  found = train_encoder(images, np.arange(6) % 2, num_steps=2)
  assert np.isfinite(found(images)).all()


def test_bad_input():
  run = lambda labels, **kwargs: train_encoder(IMAGES[:10], labels, **kwargs)
  with pytest.raises(ValueError, match='two classes'):
    run(np.zeros(10, int))
  with pytest.raises(ValueError, match=r'labels are -1'):
    run(np.arange(10) - 1)
  for name in ('num_features', 'num_steps', 'batch_size'):
    with pytest.raises(ValueError, match=f'{name}=0'):
      run(None, **{name: 0})
  with pytest.raises(ValueError, match='no image'):
    train_encoder(IMAGES[:0])
