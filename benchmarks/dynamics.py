"""The small study of dynamics in memjax against PyTorch, side by side.

  pip install -e '.[bench]' && python benchmarks/dynamics.py

Training and sampling of `configs/moons_dynamics.py:small`: memjax's repeats all
at once, PyTorch's one after the other, as tiny-diffusion does. Same model, same
data, same numbers of steps and samples; medians of alternating pairs after one
warm-up, compilation and file writing left out. Beside it: one evaluation's
sampling and its search for nearest neighbours. Run it on an idle machine; it
writes `benchmarks/dynamics.json`.
"""

import json
import math
import pathlib
import platform
import runpy
import statistics
import time

import jax
import numpy as np
import torch
import torch.nn.functional as F
from absl import app, flags
from torch import nn

from memjax.models.denoiser import make_schedule
from memjax.scores.kind_references import count_repeats
from memjax.studies import dynamics

_PAIRS = flags.DEFINE_integer('pairs', 3, 'Repetitions of each pair.')
_SHARE = flags.DEFINE_float('share', 0.05, 'Of the epochs and evaluations.')


class TorchDenoiser(nn.Module):
  """tiny-diffusion's MLP."""

  def __init__(self, hidden=128, blocks=3, dim=128):
    super().__init__()
    half = dim // 2
    exponent = torch.arange(half) / (half - 1)
    self.register_buffer('frequency', torch.exp(-math.log(1e4) * exponent))
    self.first = nn.Linear(3 * dim, hidden)
    self.blocks = nn.ModuleList(
      nn.Linear(hidden, hidden) for _ in range(blocks)
    )
    self.last = nn.Linear(hidden, 2)

  def embed(self, x, scale=1.0):
    """Sine and cosine of one number a row."""
    angle = scale * x[:, None] * self.frequency
    return torch.cat([torch.sin(angle), torch.cos(angle)], -1)

  def forward(self, x, t):
    """Predicts the noise."""
    parts = [self.embed(x[:, 0], 25.0), self.embed(x[:, 1], 25.0)]
    h = F.gelu(self.first(torch.cat([*parts, self.embed(t)], -1)))
    for block in self.blocks:
      h = h + F.gelu(block(h))
    return self.last(h)


class TorchRepeat:
  """One repeat: its model, optimizer, data, and loops."""

  def __init__(self, points, config):
    self.data = torch.from_numpy(points.astype(np.float32))
    self.model = TorchDenoiser()
    self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-3)
    self.batch = config.train.batch_size
    schedule = make_schedule(config.model.num_steps)
    self.schedule = [torch.from_numpy(np.array(a)) for a in schedule]

  def train(self, epochs):
    """Epochs of shuffled batches, the last partial one dropped."""
    alpha_bar = self.schedule[1]
    for _ in range(epochs):
      order = torch.randperm(len(self.data))
      for start in range(0, len(order) - self.batch + 1, self.batch):
        x = self.data[order[start : start + self.batch]]
        t = torch.randint(0, len(alpha_bar), (len(x),))
        noise = torch.randn_like(x)
        a = alpha_bar[t][:, None]
        noisy = a.sqrt() * x + (1 - a).sqrt() * noise
        loss = F.mse_loss(self.model(noisy, t.float()), noise)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()

  @torch.no_grad()
  def sample(self):
    """As many samples as training points, all at once."""
    _, alpha_bar, x0_weight, xt_weight, variance = self.schedule
    x = torch.randn_like(self.data)
    for t in reversed(range(len(alpha_bar))):
      predicted = self.model(x, torch.full((len(x),), float(t)))
      a = alpha_bar[t]
      x0 = (x - (1 - a).sqrt() * predicted) / a.sqrt()
      x = x0_weight[t] * x0 + xt_weight[t] * x
      if t:
        x = x + variance[t].sqrt() * torch.randn_like(x)
    return x


def main(_) -> None:
  """Alternates both and prints the ratio."""
  folder = pathlib.Path(__file__).parents[1] / 'configs'
  path = str(folder / 'moons_dynamics.py')
  config = runpy.run_path(path)['get_config']('small')
  epochs = max(1, round(_SHARE.value * config.train.epochs))
  visits = max(1, round(epochs / config.evaluate.every))
  draws = [dynamics.draw_repeat(config, r) for r in range(config.num_repeats)]
  programs = dynamics.make_programs(config, draws)
  repeats = [TorchRepeat(draw.train.points, config) for draw in draws]
  at = 0
  state = programs.init()

  def ours():
    nonlocal state, at
    state = jax.block_until_ready(programs.advance(state, at, at + epochs))
    at += epochs
    for visit in range(visits):
      programs.sample(state, visit)

  def theirs():
    for repeat in repeats:
      repeat.train(epochs)
      for _ in range(visits):
        repeat.sample()

  seconds = {'memjax': [], 'torch': []}
  for pair in range(_PAIRS.value + 1):
    for name, function in (('memjax', ours), ('torch', theirs)):
      start = time.perf_counter()
      function()
      if pair:  # the first compiles and warms up
        seconds[name].append(time.perf_counter() - start)
  ratios = [t / m for m, t in zip(*seconds.values(), strict=True)]
  own = [dynamics.mark_repeat(config, draw, r) for r, draw in enumerate(draws)]
  start = time.perf_counter()
  samples = programs.sample(state, 0)
  sampled = time.perf_counter()
  count_repeats(samples, own, tuple(config.evaluate.ratios))
  parts = {
    'sampling': sampled - start,
    'neighbours': time.perf_counter() - sampled,
  }
  result = {
    'epochs': epochs,
    'evaluations': visits,
    'repeats': config.num_repeats,
    'seconds': {k: statistics.median(v) for k, v in seconds.items()},
    'ratio': statistics.median(ratios),
    'range': [min(ratios), max(ratios)],
    'goal': 5,
    'seconds_of_one_evaluation': parts,
    'machine': f'{platform.processor() or platform.machine()} × '
    f'{torch.get_num_threads()} threads',
    'versions': {'jax': jax.__version__, 'torch': torch.__version__},
  }
  print(json.dumps(result, indent=1))
  out = pathlib.Path(__file__).with_suffix('.json')
  out.write_text(json.dumps(result, indent=1) + '\n')


if __name__ == '__main__':
  app.run(main)
