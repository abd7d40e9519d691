"""The estimate of operations against formulas written by hand."""

import importlib
import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl import flags

from configs import audit, celeba_vae, cifar_vae, mnist_vae

BENCHMARKS = pathlib.Path(__file__).parents[2] / 'benchmarks'


@pytest.fixture
def script(monkeypatch):
  monkeypatch.syspath_prepend(str(BENCHMARKS))
  yield importlib.import_module('cost_estimate')
  del sys.modules['cost_estimate']


def test_products_are_counted_in_loops_branches_and_derivatives(script):
  a, b = jnp.ones((3, 5)), jnp.ones((5, 7))
  count = script.count_operations
  one = 2 * 3 * 5 * 7
  assert count(jnp.dot, a, b) == one
  assert count(jax.jit(jnp.dot), a, b) == one
  assert count(jax.vmap(jnp.dot), jnp.stack([a] * 4), jnp.stack([b] * 4)) == (
    4 * one
  )
  loop = lambda a, b: jax.lax.map(lambda _: (a @ b).sum(), jnp.arange(6))
  assert count(loop, a, b) == 6 * one
  either = lambda a, b: jax.lax.cond(
    a.sum() > 0, lambda: (a @ b).sum(), lambda: 0.0
  )
  assert count(either, a, b) == one
  # Forward, and one product for each operand's gradient.
  grad = jax.grad(lambda a, b: jnp.square(a @ b).sum(), (0, 1))
  assert count(grad, a, b) == 3 * one
  with pytest.raises(ValueError, match='found a convolution'):
    count(lambda x: jax.lax.conv(x, x, (1, 1), 'SAME'), jnp.ones((1, 1, 3, 3)))


def test_the_mnist_study_takes_what_its_layers_say(script):
  """Products of the MLP alone: no Laplace proposal, no second estimate."""
  config = mnist_vae.get_config()
  config.score.proposal = 'encoder'
  config.score.num_samples = 8
  config.score.encoder_num_samples = 0
  config.score.escalation = ()
  cost = script.estimate(config, rescored=0.5)
  encoder = 1024 * 512 + 512 * 256 + 2 * 256 * 16
  decoder = 16 * 256 + 256 * 512 + 512 * 1024
  trained = 100 * (60000 * 9 * 10 + 60000)
  # The gradient of an image is never needed.
  step = 3 * (encoder + decoder) - 1024 * 512
  assert cost.training == 2 * trained * step
  held_out = 100 * (60000 * 10 + 10000)
  assert cost.held_out_loss == 2 * held_out * (encoder + decoder)
  scored = 20 * 100 * 60000
  assert cost.scoring == 2 * scored * (encoder + 8 * decoder)
  assert cost.rescoring == cost.encoder_scoring == 0


def test_the_estimate_grows_as_the_study_does(script):
  config = cifar_vae.get_config()
  base = script.estimate(config, rescored=0.5)
  assert base.rescoring > 0
  assert base.encoder_scoring > 0
  config.folds.num_repeats *= 2
  config.full.is_run = False
  twice = script.estimate(config, rescored=1.0)
  assert 1.9 < twice.training / base.training < 2
  assert twice.scoring == 2 * base.scoring
  assert twice.rescoring == 4 * base.rescoring
  config.score.tracked_epochs = (10, 50, 200)
  config.score.num_tracked = 500
  more = script.estimate(config, rescored=1.0).scoring - twice.scoring
  assert np.isclose(more, twice.scoring / 2 / 100)  # of 50,000 items, one epoch
  assert 'rates' not in flags.FLAGS  # importing it defines no flag


def test_celeba_is_known_and_other_data_are_refused(script):
  config = celeba_vae.get_config('small')
  found = script.estimate(config, rescored=0.5)
  assert found.training > 0
  config.data.source = 'npz:mine.npz'
  with pytest.raises(ValueError, match=r"config\.data\.source='npz:mine.npz'"):
    script.estimate(config, rescored=0.5)
  with pytest.raises(ValueError, match="config.study='audit'"):
    script.estimate(audit.get_config(), rescored=0.5)
