"""The blocks of the GANs beside slow twins."""

import jax
import numpy as np
import pytest

from memjax.models.gan_blocks import DownBlock


def conv_twin(x, layer, spectral):
  """A 3×3 convolution with spectral norm, one product after another."""
  kernel = np.asarray(layer['weight']['kernel'], np.float64)
  u, v = (np.asarray(spectral['weight'][k], np.float64) for k in 'uv')
  kernel = kernel / (v @ kernel.reshape(-1, kernel.shape[-1]) @ u)
  padded = np.pad(x, ((1, 1), (1, 1), (0, 0)))
  out = np.zeros((*x.shape[:2], kernel.shape[-1]))
  for i, j in np.ndindex(x.shape[:2]):
    for r, s in np.ndindex(3, 3):
      out[i, j] += padded[i + r, j + s] @ kernel[r, s]
  return out + np.asarray(layer['bias'])


def halved_twin(x):
  return (x[::2, ::2] + x[1::2, ::2] + x[::2, 1::2] + x[1::2, 1::2]) / 4


@pytest.mark.parametrize('is_first', [False, True])
@pytest.mark.parametrize('is_halved', [False, True])
def test_a_block_of_the_discriminator_is_the_public_code_s(is_first, is_halved):
  """An in-place ReLU comes before the shortcut: it, too, sees relu(x)."""
  block = DownBlock(3, is_first, is_halved)
  x = jax.random.normal(jax.random.key(0), (1, 4, 4, 3))
  variables = block.init(jax.random.key(1), x, False)
  noise = iter(jax.random.split(jax.random.key(2), 20))
  params = jax.tree.map(
    lambda leaf: leaf + jax.random.normal(next(noise), leaf.shape),
    variables['params'],
  )
  spectral = variables['spectral']
  found = block.apply({'params': params, 'spectral': spectral}, x, False)

  start = np.asarray(x[0], np.float64)
  start = start if is_first else np.maximum(start, 0)
  h = conv_twin(start, params['conv_1'], spectral['conv_1'])
  h = conv_twin(np.maximum(h, 0), params['conv_2'], spectral['conv_2'])
  if is_halved:
    weight = np.asarray(params['shortcut']['weight']['kernel'], np.float64)
    of = spectral['shortcut']['weight']
    weight = weight / (np.asarray(of['v']) @ weight @ np.asarray(of['u']))
    start = start @ weight + np.asarray(params['shortcut']['bias'])
    h, start = halved_twin(h), halved_twin(start)
  np.testing.assert_allclose(found[0], h + start, rtol=1e-4, atol=1e-4)
