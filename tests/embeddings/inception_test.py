import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pth_writer
import pytest

from memjax.embeddings import inception as module
from memjax.embeddings import weights
from memjax.embeddings.embed import embed
from memjax.embeddings.inception import inception, inception_shapes

# Features of torch-fidelity's network with the weights of `random_weights`, see
# tests/golden/make_embedding_goldens.py (torch 2.13.0, torch-fidelity 0.4.0).
GOLDEN = np.load(pathlib.Path(__file__).parents[1] / 'golden/embeddings.npz')


def random_weights(shapes, seed):
  """As in make_embedding_goldens.py."""
  rng = np.random.default_rng(seed)
  arrays = {}
  for name in sorted(shapes):
    shape = shapes[name]
    if len(shape) > 1:
      scale = np.sqrt(2 / np.prod(shape[1:]))
      array = scale * rng.standard_normal(shape)
    elif name.endswith(('running_var', 'bn.weight')):
      array = rng.uniform(0.5, 1.5, shape)
    else:
      array = 0.1 * rng.standard_normal(shape)
    arrays[name] = array.astype(np.float32)
  return arrays


def images(seed, size, channels=3):
  """As in make_embedding_goldens.py."""
  rng = np.random.default_rng(seed)
  coarse = rng.integers(0, 256, (2, 4, 4, channels))
  x = coarse.repeat(size // 4, 1).repeat(size // 4, 2)
  return np.clip(x + rng.integers(-20, 21, x.shape), 0, 255).astype(np.uint8)


@pytest.fixture(scope='module')
def path(tmp_path_factory):
  """A file of random weights, half the size of its PyTorch twin."""
  folder = tmp_path_factory.mktemp('weights')
  arrays = random_weights(inception_shapes(), seed=7)
  return pth_writer.write_pth(folder / 'random.pth', arrays, 'stream')


@pytest.fixture(scope='module')
def network(path):
  return inception(path, any_weights=True)


def test_features_and_logits_are_those_of_torch_fidelity(path, network):
  features = embed(images(0, 32), network, batch_size=2)
  expected = GOLDEN['inception/features']
  assert features.shape == expected.shape == (2, 2048)
  error = np.abs(features - expected).max() / np.abs(expected).max()
  assert error < 3e-6
  logits = network.logits(features)
  error = np.abs(logits - GOLDEN['inception/logits']).max()
  assert error / np.abs(logits).max() < 3e-6
  arrays = random_weights(inception_shapes(), seed=7)
  own = inception(path, any_weights=True, logits_bias=True)
  expected_logits = GOLDEN['inception/logits'] + arrays['fc.bias']
  error = np.abs(own.logits(features) - expected_logits).max()
  assert error / np.abs(logits).max() < 3e-6
  assert np.abs(arrays['fc.bias']).max() / np.abs(logits).max() > 1e-3
  assert own.name == f'{network.name}, biased logits'
  # The two images differ by far more than the error.
  assert np.abs(features[0] - features[1]).max() > 0.05 * expected.max()


def test_other_weights_are_not_canonical(path, network):
  assert not network.is_canonical
  assert network.has_logits
  assert network.digest == weights.digest_of(path)
  assert network.name == (
    f'Inception-v3 weights {network.digest[:8]}, tf1 to 299, (x-128)/128'
  )
  with pytest.raises(ValueError, match='expected 95628359'):
    inception(path)
  with pytest.raises(ValueError, match="grey='repeat'"):
    embed(images(0, 32, 1), network)


def test_the_name_says_what_was_done(path):
  found = inception(
    path,
    resize='clean',
    scaling='x/127.5-1',
    grey='repeat',
    any_weights=True,
  )
  assert found.name.endswith(', clean to 299, x/127.5-1, grey repeated')
  for wrong in ({'resize': 'area'}, {'scaling': '2x-1'}, {'grey': 'yes'}):
    (name,) = wrong
    with pytest.raises(ValueError, match=f'{name}='):
      inception(path, **wrong)


def test_the_published_bytes_are_canonical(path, monkeypatch, tmp_path):
  # These random weights stand for the published ones.
  monkeypatch.setattr(module, '_SIZE', path.stat().st_size)
  monkeypatch.setattr(module, '_SHA256', weights.digest_of(path))
  monkeypatch.setenv('TORCH_HOME', str(tmp_path))
  monkeypatch.setenv('MEMJAX_DATA', str(tmp_path / 'cache'))
  monkeypatch.setenv('HOME', str(tmp_path))
  folder = tmp_path / 'hub/checkpoints'
  folder.mkdir(parents=True)
  for url in module._URLS:
    place = folder / url.rpartition('/')[2]
    place.symlink_to(path)
    found = inception(download=False)
    assert found.is_canonical
    assert found.name == 'Inception-v3 2015-12-05, tf1 to 299, (x-128)/128'
    place.unlink()

  # Where torch puts them without $TORCH_HOME.
  monkeypatch.delenv('TORCH_HOME')
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'xdg'))
  place = tmp_path / 'xdg/torch/hub/checkpoints' / place.name
  place.parent.mkdir(parents=True)
  place.symlink_to(path)
  assert inception(download=False).is_canonical
  for other in (
    {'resize': 'clean'},
    {'resize': 'bilinear', 'scaling': 'x/127.5-1'},
    {'scaling': 'x/127.5-1'},
    {'grey': 'repeat'},
    {'logits_bias': True},
  ):
    found = inception(download=False, **other)
    assert not found.is_canonical
    assert found.name.startswith('Inception-v3 2015-12-05, ')
  place.unlink()

  def fetch(urls, place, expected):
    assert tuple(urls) == module._URLS
    assert expected == f'sha256:{module._SHA256}'
    place.parent.mkdir(parents=True)
    return place.symlink_to(path) or place

  monkeypatch.setattr(module.downloads, 'fetch', fetch)
  assert inception().is_canonical
  assert (tmp_path / 'cache/weights').is_dir()
  assert inception(download=False).is_canonical  # where it was put


def test_missing_weights_say_where_and_how(monkeypatch, tmp_path):
  monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'torch'))
  monkeypatch.setenv('HOME', str(tmp_path))
  monkeypatch.delenv('MEMJAX_DATA', raising=False)
  monkeypatch.delenv('XDG_CACHE_HOME', raising=False)
  place = tmp_path / 'torch/hub/checkpoints' / module._URLS[0].split('/')[-1]
  place.parent.mkdir(parents=True)
  place.write_bytes(b'<html>')
  with pytest.raises(FileNotFoundError) as error:
    inception(download=False)
  message = str(error.value)
  for part in (str(place), '6 bytes', '.cache/memjax/weights', 'curl -L http',
               '--config.inception_weights'):  # fmt: skip
    assert part in message

  def fetch(*_):
    raise ConnectionError('no network')

  monkeypatch.setattr(module.downloads, 'fetch', fetch)
  with pytest.raises(FileNotFoundError, match='no network'):
    inception()
  with pytest.raises(
    FileNotFoundError, match="inception_weights.='nowhere.pth' is not a file"
  ):
    inception('nowhere.pth')


def test_a_file_of_another_network(tmp_path):
  path = pth_writer.write_pth(tmp_path / 'x.pth', {'fc': np.zeros(3)})
  with pytest.raises(ValueError, match='weights of another network'):
    inception(path, any_weights=True)


def test_grey_is_three_equal_channels(path):
  found = inception(path, grey='repeat', any_weights=True)
  grey = jnp.asarray(images(0, 8, 1)[:1], jnp.float32)
  shape = jax.eval_shape(found.apply, found.params, grey)
  assert shape.shape == (1, 2048)
  prepare = lambda x: str(jax.make_jaxpr(found.apply)(found.params, x))
  assert '3]' in prepare(grey)
