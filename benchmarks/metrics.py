"""FLD against its public form in PyTorch, Fréchet distance against SciPy's.

  pip install -e '.[bench]' && python benchmarks/metrics.py

The public form of FLD (github.com/marcojira/fld, `MoG.py` and `FLD.py`; not on
PyPI) is written down here from its recipe: cached `torch.cdist` distances, 50
steps of Adam at rate 0.5 with automatic differentiation, one baseline of half
of the training set. memjax computes the same number, with one baseline too. The
Fréchet distance's other form is that of pytorch-fid: `scipy.linalg.sqrtm` of
the product of the covariances.

Both sides run in turn on the same data, on an idle machine; results must agree.
Prints medians of seconds and of ratios; writes `benchmarks/metrics.json`.
"""

import json
import math
import pathlib
import platform
import statistics
import time
from collections.abc import Callable

import jax
import numpy as np
import scipy
import scipy.linalg
import torch
from absl import app, flags

import memjax

_PAIRS = flags.DEFINE_integer('pairs', 3, 'Repetitions of each pair.')
_SCALE = flags.DEFINE_float('scale', 1.0, 'Of all sizes, for a quick look.')
_OUT = flags.DEFINE_string(
  'out', str(pathlib.Path(__file__).with_suffix('.json')), 'Where results go.'
)


class TorchMixture:
  """Gaussians around points, with fitted variances: the public form."""

  def __init__(self, centres: torch.Tensor):
    self.centres = centres
    self.log_variance = torch.zeros(len(centres), requires_grad=True)
    self.origin = torch.zeros((), requires_grad=True)

  def log_density(self, squared, log_variance):
    """Of each pair, given its squared distance."""
    d = self.centres.shape[1]
    value = -0.5 * squared / torch.exp(log_variance)
    return value - d / 2 * log_variance - d / 2 * math.log(2 * math.pi)

  def fit(self, points: torch.Tensor) -> None:
    """50 full steps; the sizes here make one batch of the published 10,000."""
    d = points.shape[1]
    squared = torch.cdist(points, self.centres) ** 2
    far = 0.81 * torch.cdist(points, points.mean(dim=0)[None]) ** 2
    nearest = squared.min(dim=0).values
    self.log_variance.data = ((nearest + 1e-3) / d).log()
    optimizer = torch.optim.Adam([self.log_variance, self.origin], lr=0.5)
    for _ in range(50):
      optimizer.zero_grad()
      inside = self.log_density(squared, self.log_variance)
      inside = inside - math.log(len(self.centres))
      outside = self.log_density(far, self.origin)
      both = torch.cat([inside, outside], dim=1)
      loss = -torch.logsumexp(both, dim=1).mean() / d
      loss.backward()
      optimizer.step()
      self.log_variance.data.clamp_(-40, 20)

  @torch.no_grad()
  def negative_log_likelihood(self, points: torch.Tensor) -> float:
    """Mean over the points, nats a feature."""
    squared = torch.cdist(points, self.centres) ** 2
    inside = self.log_density(squared, self.log_variance)
    values = torch.logsumexp(inside - math.log(len(self.centres)), dim=1)
    return float(-values.mean() / points.shape[1])


def fld_of_torch(train, test, generated) -> float:
  """100 (NLL of the samples' mixture − NLL of half of the training set's)."""
  mean, std = test.mean(axis=0), test.std(axis=0, ddof=1)
  train, test, generated = (
    torch.tensor((points - mean) / std, dtype=torch.float32)
    for points in (train, test, generated)
  )
  mixture = TorchMixture(generated)
  mixture.fit(train)
  train = train[torch.randperm(len(train))]
  half = min(len(generated), len(train) // 2)
  baseline = TorchMixture(train[:half])
  baseline.fit(train[half:])
  ours, theirs = (m.negative_log_likelihood(test) for m in (mixture, baseline))
  return 100 * (ours - theirs)


def fld_of_memjax(train, test, generated) -> float:
  """The same, with one draw of the baseline as there."""
  return memjax.feature_likelihood_divergence(
    train, test, generated, num_baselines=1
  ).value


def frechet_of_scipy(x, y) -> float:
  """The textbook form with a matrix square root."""
  a, b = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
  root = scipy.linalg.sqrtm(a @ b)
  shift = x.mean(axis=0) - y.mean(axis=0)
  return float(
    shift @ shift + np.trace(a) + np.trace(b) - 2 * np.trace(root.real)
  )


def compare(
  name: str, ours: Callable, theirs: Callable, goal: float, tolerance: float
) -> dict[str, object]:
  """Medians of alternating pairs; the first run of each compiles."""
  values = ours(), theirs()
  assert abs(values[0] - values[1]) <= tolerance, values
  seconds = []
  for _ in range(_PAIRS.value):
    pair = []
    for run in (ours, theirs):
      begin = time.perf_counter()
      run()
      pair.append(time.perf_counter() - begin)
    seconds.append(pair)
  own, other = (
    statistics.median(column) for column in zip(*seconds, strict=True)
  )
  ratios = [b / a for a, b in seconds]
  print(
    f'{name:44s} memjax {own:7.2f} s   peer {other:7.2f} s   ratio '
    f'{statistics.median(ratios):.2f}   goal {goal:g}   values '
    f'{values[0]:.4f}, {values[1]:.4f}',
    flush=True,
  )
  return {
    'name': name,
    'memjax_seconds': own,
    'peer_seconds': other,
    'ratio': statistics.median(ratios),
    'ratio_range': [min(ratios), max(ratios)],
    'goal': goal,
    'values': values,
  }


def main(_) -> None:
  """Runs both comparisons."""
  rng = np.random.default_rng(0)
  size = lambda n: round(n * _SCALE.value)
  sets = rng.normal(size=(3, size(10_000), 1024))
  wide = size(2048)
  mix = rng.normal(size=(wide, wide)) / np.sqrt(wide)
  x, y = rng.normal(size=(2, 2 * wide, wide)) @ mix
  rows = [
    # Their baselines are other draws, which differ by less than this.
    compare(
      f'FLD, 3 × {size(10_000):,}, d = 1,024',
      lambda: fld_of_memjax(*sets),
      lambda: fld_of_torch(*sets),
      goal=5,
      tolerance=1.0 / _SCALE.value,
    ),
    compare(
      f'Fréchet distance, 2 × {2 * wide:,}, d = {wide:,}',
      lambda: memjax.frechet_distance(x, y),
      lambda: frechet_of_scipy(x, y),
      goal=1,
      tolerance=1e-3,
    ),
  ]
  report = {
    'machine': {
      'processor': platform.processor() or platform.machine(),
      'jax': jax.__version__,
      'torch': torch.__version__,
      'scipy': scipy.__version__,
    },
    'scale': _SCALE.value,
    'rows': rows,
  }
  pathlib.Path(_OUT.value).write_text(json.dumps(report, indent=1) + '\n')


if __name__ == '__main__':
  app.run(main)
