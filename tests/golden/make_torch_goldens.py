"""Regenerates torch_layers.npz, torch_training.npz and torch_forward.json.

  python tests/golden/make_torch_goldens.py

needs torch and numpy, and nothing of memjax: the models are written here from
the paper's Table 1 (van den Burg and Williams 2021, Supplement B). The numbers
in the repository were made with torch 2.13.0 on a CPU, in float64.
"""

import json
import pathlib

import numpy as np
import torch
from torch import nn
from torch.nn import functional

HERE = pathlib.Path(__file__).parent
STRIDED = {'stride': 2, 'padding': 1}


def wave(*shape, scale=0.2):
  """Scale · sin(1), scale · sin(2), …, row-major."""
  steps = torch.arange(1, int(np.prod(shape)) + 1, dtype=torch.float64)
  return scale * torch.sin(steps).reshape(shape)


def gradients(fun, *inputs):
  """Inputs, output, cotangent and gradients, by name."""
  inputs = [i.clone().requires_grad_() for i in inputs]
  y = fun(*inputs)
  cotangent = wave(*y.shape, scale=1.0).roll(3, -1)
  grads = torch.autograd.grad(y, inputs, cotangent)
  named = {'y': y, 'cotangent': cotangent}
  for index, (value, grad) in enumerate(zip(inputs, grads, strict=True)):
    named |= {f'input_{index}': value, f'grad_{index}': grad}
  return named


def layers():
  torch.manual_seed(0)
  draw = lambda *shape: torch.randn(shape).double()
  cases = {
    'conv': gradients(
      lambda x, w: functional.conv2d(x, w, **STRIDED),
      draw(2, 3, 8, 6),
      draw(5, 3, 4, 4),
    ),
    'conv_transpose': gradients(
      lambda x, w: functional.conv_transpose2d(x, w, **STRIDED),
      draw(2, 5, 4, 3),
      draw(5, 3, 4, 4),
    ),
    'pixel_conv_transpose': gradients(
      functional.conv_transpose2d, draw(2, 5, 1, 1), draw(5, 3, 2, 2)
    ),
  }
  norm = nn.BatchNorm2d(4).double()
  nn.init.uniform_(norm.weight, 0.5, 1.5)
  nn.init.uniform_(norm.bias)
  # Twice: a batch of 3, then one of 2, as at the end of an epoch.
  for name, size in (('norm_first', 3), ('norm_second', 2)):
    fun = lambda x, w, b: functional.batch_norm(
      x, norm.running_mean, norm.running_var, w, b, training=True
    )
    x = 3.0 + 2.0 * draw(size, 4, 2, 2)
    cases[name] = gradients(fun, x, norm.weight.detach(), norm.bias.detach())
    cases[name] |= {'mean': norm.running_mean.clone()}
    cases[name] |= {'var': norm.running_var.clone()}
  norm.eval()
  cases['norm_second']['scored'] = norm(cases['norm_second']['input_0'])
  return cases


def dense_networks(latent, hidden, pixels):
  side = int(pixels**0.5)
  encoder, decoder, before = [nn.Flatten()], [], pixels
  for after in hidden:
    encoder += [nn.Linear(before, after), nn.ReLU()]
    before = after
  before = latent
  for after in hidden[::-1]:
    decoder += [nn.Linear(before, after), nn.ReLU()]
    before = after
  decoder += [nn.Linear(before, pixels), nn.Sigmoid()]
  return encoder, [*decoder, nn.Unflatten(1, (1, side, side))]


def convolutional_networks(latent, features, channels):
  down = lambda a, b: nn.Conv2d(a, b, 4, bias=False, **STRIDED)
  up = lambda a, b: nn.ConvTranspose2d(a, b, 4, bias=False, **STRIDED)
  encoder = [down(3, features), nn.LeakyReLU(0.2)]
  for width in (features, 2 * features, 4 * features):
    encoder += [down(width, 2 * width), nn.BatchNorm2d(2 * width)]
    encoder += [nn.LeakyReLU(0.2)]
  decoder = [nn.Unflatten(1, (latent, 1, 1))]
  decoder += [nn.ConvTranspose2d(latent, 8 * features, 2, bias=False)]
  for width in (8 * features, 4 * features, 2 * features):
    decoder += [nn.BatchNorm2d(width), nn.ReLU(), up(width, width // 2)]
  decoder += [nn.BatchNorm2d(features), nn.ReLU(), up(features, channels)]
  return [*encoder, nn.Flatten()], decoder


class TorchVAE(nn.Module):
  """The paper's models, with the module names of its public code."""

  def __init__(self, kind, latent, *, features=2, hidden=(5, 4), pixels=16):
    super().__init__()
    self.kind = kind
    if kind == 'constant':
      self.loggamma = nn.Parameter(torch.tensor(-2.0))
    if kind == 'bernoulli':
      encoder, decoder = dense_networks(latent, hidden, pixels)
    else:
      channels = {'diagonal': 6, 'constant': 3}[kind]
      encoder, decoder = convolutional_networks(latent, features, channels)
    width = hidden[-1] if kind == 'bernoulli' else 32 * features
    self._encoder = nn.Sequential(*encoder)
    self._mu, self._logvar = nn.Linear(width, latent), nn.Linear(width, latent)
    self._decoder = nn.Sequential(*decoder)

  def encode(self, x):
    hidden = self._encoder(x)
    return self._mu(hidden), self._logvar(hidden)

  def decode(self, z):
    return self._decoder(z)

  def log_likelihood(self, output, x):
    """One number an item."""
    if self.kind == 'bernoulli':
      error = functional.binary_cross_entropy(output, x, reduction='none')
      return -error.flatten(1).sum(1)
    mean = output[:, :3]
    if self.kind == 'constant':
      logvar = self.loggamma.expand_as(mean)
    else:
      logvar = output[:, 3:].clamp(min=-7.0)
    normal = torch.distributions.Normal(mean, torch.exp(0.5 * logvar))
    return normal.log_prob(x).flatten(1).sum(1)


def kl_divergence(mean, logvar):
  normal = torch.distributions.Normal(mean, torch.exp(0.5 * logvar))
  prior = torch.distributions.Normal(torch.zeros_like(mean), 1.0)
  return torch.distributions.kl_divergence(normal, prior).sum(1)


def images(kind, *shape):
  steps = torch.arange(int(np.prod(shape)), dtype=torch.float64)
  x = torch.sin(0.37 * steps).reshape(shape)
  return (x > 0).double() if kind == 'bernoulli' else 1.5 * x


def training(kind):
  """One training step of a small model, then the model in eval mode."""
  torch.manual_seed(1)
  latent = 3
  model = TorchVAE(kind, latent)
  for module in model.modules():
    if isinstance(module, nn.BatchNorm2d):
      nn.init.uniform_(module.weight, 0.5, 1.5)
      nn.init.uniform_(module.bias, -0.5, 0.5)
      nn.init.uniform_(module.running_mean, -0.5, 0.5)
      nn.init.uniform_(module.running_var, 0.5, 1.5)
  model.double()
  x = images(kind, 3, *((1, 4, 4) if kind == 'bernoulli' else (3, 32, 32)))
  noise = wave(3, latent, scale=1.0)
  named = {f'before/{k}': v.clone() for k, v in model.state_dict().items()}
  mean, logvar = model.encode(x)
  output = model.decode(mean + torch.exp(0.5 * logvar) * noise)
  loss = kl_divergence(mean, logvar) - model.log_likelihood(output, x)
  loss.sum().backward()
  named |= {'x': x, 'noise': noise, 'loss': loss.sum()}
  named |= {f'grad/{k}': p.grad for k, p in model.named_parameters()}
  named |= {f'after/{k}': v.clone() for k, v in model.named_buffers()}
  model.eval()
  mean, logvar = model.encode(x)
  named |= {'mean': mean, 'logvar': logvar, 'output': model.decode(noise[:1])}
  named['log_likelihood'] = model.log_likelihood(named['output'], x[:1])
  return named


def forward(kind, latent):
  """The forward check of reference/papers-and-their-code.md, part A10."""
  sizes = {'features': 32, 'hidden': (512, 256), 'pixels': 1024}
  model = TorchVAE(kind, latent, **sizes).double().eval()
  with torch.no_grad():
    for name, parameter in model.named_parameters():
      if name != 'loggamma':
        parameter.copy_(wave(*parameter.shape))
    for module in model.modules():
      if isinstance(module, nn.BatchNorm2d):
        module.weight += 1.0
    channels = 1 if kind == 'bernoulli' else 3
    x = images(kind, 1, channels, 32, 32)
    mean, logvar = model.encode(x)
    z = torch.linspace(-1, 1, latent, dtype=torch.float64)
    output = model.decode(z[None])
    log_prob = model.log_likelihood(output, x).item()
    log_det = 3072 * np.log(0.9 / 256) - (x - 2 * functional.softplus(x)).sum()
  numbers = {
    'mean': mean[0].tolist(),
    'kl': kl_divergence(mean, logvar).item(),
    'output[0,0,0]': output[0, 0, 0, 0].item(),
    'output[0,5,7]': output[0, 0, 5, 7].item(),
    'output[last,31,31]': output[0, -1, 31, 31].item(),
    'output_sum': output.sum().item(),
    'output_every_97': output.flatten()[::97].tolist(),
    'log_prob': log_prob,
  }
  if kind != 'bernoulli':
    numbers['log_prob_pixel'] = log_prob + log_det.item()
  return numbers


def flat(cases):
  return {
    f'{case}/{name}': np.asarray(value.detach(), np.float32)
    for case, named in cases.items()
    for name, value in named.items()
    if not name.endswith('num_batches_tracked')
  }


def main():
  kinds = {'bernoulli': 16, 'diagonal': 64, 'constant': 32}
  np.savez_compressed(HERE / 'torch_layers.npz', **flat(layers()))
  trained = {kind: training(kind) for kind in kinds}
  np.savez_compressed(HERE / 'torch_training.npz', **flat(trained))
  numbers = {
    'made_by': 'tests/golden/make_torch_goldens.py',
    'torch': torch.__version__,
    **{kind: forward(kind, latent) for kind, latent in kinds.items()},
  }
  path = HERE / 'torch_forward.json'
  path.write_text(json.dumps(numbers, indent=1) + '\n')


if __name__ == '__main__':
  main()
