"""K-fold VAEs in memjax against PyTorch, side by side in one run.

  pip install -e '.[bench]' && python benchmarks/vae.py

Three ratios, each the median of repeated pairs: training images·models a second
of the MNIST VAE and of the CIFAR VAE, and decodes a second of log p(x). Run it
on an idle machine; it prints what the machine can do beside what was reached,
and writes `benchmarks/vae.json`.

PyTorch's side trains one fold after the other, as an idiomatic loop does, with
the batches already in memory; its log p(x) is the published way:
MultivariateNormal, sigmoid, binary cross-entropy.
"""

import itertools
import json
import pathlib
import platform
import statistics
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
import torch.nn.functional as F
from absl import app, flags
from torch import nn

from memjax.data import transforms
from memjax.evaluate import make_score_items
from memjax.models import vae
from memjax.training.lift import choose_lift, lift
from memjax.training.state import init_state
from memjax.training.step import epoch_order, make_train_steps, no_metrics

_PAIRS = flags.DEFINE_integer('pairs', 5, 'Repetitions of each pair.')
_MODELS = flags.DEFINE_integer('models', 10, 'Fold models, K.')
_LIFT = flags.DEFINE_string('lift', 'auto', "'auto', 'vmap' or 'map'.")

_BATCH = 64


class TorchMLP(nn.Module):
  """The paper's MNIST VAE."""

  def __init__(self, pixels=1024, latent=16):
    super().__init__()
    self.encoder = nn.Sequential(
      nn.Linear(pixels, 512), nn.ReLU(), nn.Linear(512, 256), nn.ReLU()
    )
    self.mean = nn.Linear(256, latent)
    self.logvar = nn.Linear(256, latent)
    self.decoder = nn.Sequential(
      nn.Linear(latent, 256), nn.ReLU(), nn.Linear(256, 512), nn.ReLU(),
      nn.Linear(512, pixels), nn.Sigmoid(),
    )  # fmt: skip

  def log_likelihood(self, x, z):
    """Summed over pixels, one value a row."""
    p = self.decoder(z)
    return -F.binary_cross_entropy(p, x, reduction='none').sum(-1)


class TorchDCVAE(nn.Module):
  """The paper's CIFAR VAE."""

  def __init__(self, latent=64, features=32):
    super().__init__()
    widths = [3, features, 2 * features, 4 * features, 8 * features]
    layers = []
    for index, (a, b) in enumerate(itertools.pairwise(widths)):
      layers.append(nn.Conv2d(a, b, 4, 2, 1, bias=False))
      layers += [nn.BatchNorm2d(b)] if index else []
      layers.append(nn.LeakyReLU(0.2))
    self.encoder = nn.Sequential(*layers, nn.Flatten())
    self.mean = nn.Linear(32 * features, latent)
    self.logvar = nn.Linear(32 * features, latent)
    layers = [nn.ConvTranspose2d(latent, widths[-1], 2, 1, 0, bias=False)]
    layers += [nn.BatchNorm2d(widths[-1]), nn.ReLU()]
    for a, b in zip(widths[:1:-1], widths[-2:0:-1], strict=False):
      layers += [
        nn.ConvTranspose2d(a, b, 4, 2, 1, bias=False),
        nn.BatchNorm2d(b),
        nn.ReLU(),
      ]
    layers.append(nn.ConvTranspose2d(features, 6, 4, 2, 1, bias=False))
    self.decoder = nn.Sequential(*layers)

  def log_likelihood(self, x, z):
    """Gaussian log-density up to a constant, one value a row."""
    mean, logvar = self.decoder(z[:, :, None, None]).chunk(2, 1)
    logvar = logvar.clamp(min=-7)
    square = (x - mean) ** 2 * torch.exp(-logvar)
    return -0.5 * (logvar + square).flatten(1).sum(1)


def torch_training(make_model, batches, to_input, memory_format) -> Callable:
  """Trains K models one after the other, over the same batches."""
  models = [
    make_model().to(memory_format=memory_format) for _ in range(_MODELS.value)
  ]
  optimizers = [torch.optim.Adam(m.parameters(), lr=1e-3) for m in models]

  def run():
    for model, optimizer in zip(models, optimizers, strict=True):
      for pixels in batches:
        x = to_input(pixels)
        hidden = model.encoder(x)
        mean, logvar = model.mean(hidden), model.logvar(hidden)
        z = mean + torch.exp(0.5 * logvar) * torch.randn_like(mean)
        divergence = 0.5 * (mean**2 + logvar.exp() - 1 - logvar).sum()
        loss = divergence - model.log_likelihood(x, z).sum()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

  return run


def memjax_training(model, transform, images, steps) -> Callable:
  """Trains K models in one program."""
  optimizer = optax.adam(1e-3)
  keys = jax.random.split(jax.random.key(0), _MODELS.value)
  state = jax.vmap(lambda key: init_state(model, optimizer, key))(keys)
  metrics = jax.vmap(lambda key: no_metrics())(keys)
  is_train = jnp.ones(len(images), bool)
  order = jax.vmap(lambda k: epoch_order(k, is_train, (steps, _BATCH)))(keys)
  program = jax.jit(
    lift(
      make_train_steps(model, optimizer, transform),
      choose_lift(model, _LIFT.value),
      (0, 0, None, 0, None, None, 0),
    )
  )

  def run():
    out = program(state, metrics, images, order, 0, steps, keys)
    jax.block_until_ready(out)

  return run


def torch_log_px(model, x, num_samples) -> Callable:
  """The published estimator, all latents of a batch decoded at once."""

  @torch.no_grad()
  def run():
    hidden = model.encoder(x)
    mean, logvar = model.mean(hidden), model.logvar(hidden)
    q = torch.distributions.MultivariateNormal(
      mean, torch.diag_embed(logvar.exp())
    )
    z = q.rsample((num_samples,))
    prior = torch.distributions.MultivariateNormal(
      torch.zeros_like(mean), torch.eye(mean.shape[1])
    )
    repeated = x.expand(num_samples, *x.shape).flatten(0, 1)
    log_likelihood = model.log_likelihood(repeated, z.flatten(0, 1))
    weights = log_likelihood.view(num_samples, -1)
    weights = weights + prior.log_prob(z) - q.log_prob(z)
    return torch.logsumexp(weights, 0) - np.log(num_samples)

  return run


def memjax_log_px(model, images, num_samples) -> Callable:
  """All K models score the same items."""
  keys = jax.random.split(jax.random.key(0), _MODELS.value)
  variables = jax.vmap(model.init)(keys)
  program = jax.jit(
    lift(
      make_score_items(
        model,
        transforms.binarize(),
        block=len(images),
        num_samples=num_samples,
        proposal='encoder',
      ),
      'map' if jax.default_backend() == 'cpu' else 'vmap',
      (0, None, None, None, 0),
    )
  )
  ids = jnp.arange(len(images), dtype=jnp.uint32)
  return lambda: jax.block_until_ready(program(variables, images, ids, 0, keys))


def compare(name, ours, theirs, our_units, their_units) -> dict[str, object]:
  """Medians of alternating pairs, in units a second, and of their ratios."""
  ours(), theirs()  # compile, allocate
  seconds = []
  for _ in range(_PAIRS.value):
    pair = []
    for run in (ours, theirs):
      begin = time.perf_counter()
      run()
      pair.append(time.perf_counter() - begin)
    seconds.append(pair)
  rates = [(our_units / a, their_units / b) for a, b in seconds]
  row = {
    'name': name,
    'memjax_per_second': statistics.median(r[0] for r in rates),
    'pytorch_per_second': statistics.median(r[1] for r in rates),
    'ratio': statistics.median(r[0] / r[1] for r in rates),
    'ratio_range': [
      min(r[0] / r[1] for r in rates), max(r[0] / r[1] for r in rates),
    ],
  }  # fmt: skip
  print(
    f'{name:34s} memjax {row["memjax_per_second"]:10,.0f}/s   '
    f'PyTorch {row["pytorch_per_second"]:10,.0f}/s   '
    f'ratio {row["ratio"]:.2f}',
    flush=True,
  )
  return row


def machine() -> dict[str, object]:
  """Matmul peak and copy bandwidth, measured."""
  a = jax.random.normal(jax.random.key(0), (2048, 2048))
  product = jax.jit(lambda a: a @ a)
  values = jnp.zeros(2**26)
  copy = jax.jit(lambda x: x + 1)
  rates = {}
  for name, fun, arg, units in (
    ('gflop_per_second', product, a, 2 * 2048**3 / 1e9),
    ('gbyte_per_second', copy, values, 2 * 4 * 2**26 / 1e9),
  ):
    jax.block_until_ready(fun(arg))
    best = np.inf
    for _ in range(5):
      begin = time.perf_counter()
      jax.block_until_ready(fun(arg))
      best = min(best, time.perf_counter() - begin)
    rates[name] = units / best
  return {
    'processor': platform.processor() or platform.machine(),
    'threads': torch.get_num_threads(),
    'jax': jax.__version__,
    'torch': torch.__version__,
    **rates,
  }


def main(_) -> None:
  """Runs the three comparisons."""
  rng = np.random.default_rng(0)
  steps, models = 20, _MODELS.value
  report = {'machine': machine(), 'models': models, 'pairs': _PAIRS.value}
  print(json.dumps(report['machine']), flush=True)
  grey = rng.integers(0, 256, (steps * _BATCH, 32, 32, 1)).astype(np.uint8)
  colour = rng.integers(0, 256, (steps * _BATCH, 32, 32, 3)).astype(np.uint8)
  torch_grey = torch.tensor(grey).flatten(1).split(_BATCH)
  torch_colour = torch.tensor(colour).permute(0, 3, 1, 2).split(_BATCH)
  units = steps * _BATCH * models

  def dequantize(pixels):
    unit = (pixels + torch.rand(pixels.shape)) / 256
    y = torch.logit(0.05 + 0.9 * unit)
    return y.contiguous(memory_format=torch.channels_last)

  mlp = vae.bernoulli_mlp_vae((32, 32, 1))
  num_samples = 256
  report['rows'] = [
    compare(
      'MNIST VAE, training images·models',
      memjax_training(mlp, transforms.binarize(), jnp.asarray(grey), steps),
      torch_training(
        TorchMLP,
        torch_grey,
        lambda pixels: torch.bernoulli(pixels / 255),
        torch.contiguous_format,
      ),
      units,
      units,
    ),
    compare(
      'log p(x) at N = 256, decodes',
      memjax_log_px(mlp, jnp.asarray(grey[:_BATCH]), num_samples),
      torch_log_px(
        TorchMLP(), torch.bernoulli(torch_grey[0] / 255), num_samples
      ),
      # Ours scores a batch under all models, PyTorch's under one, as published.
      _BATCH * num_samples * models,
      _BATCH * num_samples,
    ),
    compare(
      'CIFAR VAE, training images·models',
      memjax_training(
        vae.diagonal_gaussian_dcvae((32, 32, 3)),
        transforms.dequantize_logit(),
        jnp.asarray(colour),
        steps,
      ),
      torch_training(TorchDCVAE, torch_colour, dequantize, torch.channels_last),
      units,
      units,
    ),
  ]
  path = pathlib.Path(__file__).with_suffix('.json')
  path.write_text(json.dumps(report, indent=1) + '\n')


if __name__ == '__main__':
  app.run(main)
