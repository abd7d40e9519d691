import pathlib

import jax
import numpy as np
import pytest

from memjax.models import vae
from memjax.models.pytorch_weights import (
  pytorch_shapes,
  variables_from_pytorch,
)

# State dicts of PyTorch's small models and their outputs, made by
# tests/golden/make_torch_goldens.py with torch 2.13.0 in float64.
GOLDEN = np.load(
  pathlib.Path(__file__).parents[1] / 'golden/torch_training.npz'
)
SIZES = {'latent_dim': 3, 'num_features': 2}
MODELS = {
  'bernoulli': vae.bernoulli_mlp_vae((4, 4, 1), latent_dim=3, hidden=(5, 4)),
  'diagonal': vae.diagonal_gaussian_dcvae((32, 32, 3), **SIZES),
  'constant': vae.constant_gaussian_dcvae((32, 32, 3), **SIZES),
}
every_kind = pytest.mark.parametrize('kind', list(MODELS))


def state_dict(kind):
  """As after one training step: the running statistics have moved."""
  result = {}
  for part in ('before', 'after'):
    prefix = f'{kind}/{part}/'
    for name in GOLDEN.files:
      if name.startswith(prefix):
        result[name.removeprefix(prefix)] = GOLDEN[name]
  return result


@every_kind
def test_outputs_are_those_of_pytorch(kind):
  model = MODELS[kind]
  variables = variables_from_pytorch(model, state_dict(kind))
  torch = lambda name: GOLDEN[f'{kind}/{name}']
  x, z = torch('x').transpose(0, 2, 3, 1), torch('noise')[0]

  @jax.jit
  def evaluate(variables, x, z):
    posterior = jax.vmap(model.encode, (None, 0))(variables, x)
    log_prob = model.log_likelihood(variables, x[0], z)
    return *posterior, model.decode(variables, z), log_prob

  mean, logvar, decoded, log_prob = evaluate(variables, x, z)
  np.testing.assert_allclose(mean, torch('mean'), rtol=1e-5, atol=1e-5)
  np.testing.assert_allclose(logvar, torch('logvar'), rtol=1e-5, atol=1e-5)
  output = torch('output')[0, : x.shape[-1]].transpose(1, 2, 0)
  np.testing.assert_allclose(decoded, output, rtol=1e-5, atol=1e-5)
  np.testing.assert_allclose(log_prob, torch('log_likelihood')[0], rtol=1e-5)


@every_kind
def test_variables_have_the_models_structure(kind):
  model = MODELS[kind]
  variables = variables_from_pytorch(model, state_dict(kind))
  expected = jax.eval_shape(model.init, jax.random.key(0))
  shapes = lambda tree: jax.tree.map(lambda a: (a.shape, a.dtype), tree)
  assert shapes(variables) == shapes(expected)


@every_kind
def test_the_published_order_and_shapes(kind):
  saved = {k: v.shape for k, v in state_dict(kind).items()}
  assert list(pytorch_shapes(MODELS[kind]).items()) == list(saved.items())


def assert_equal(actual, expected):
  jax.tree.map(np.testing.assert_array_equal, actual, expected)


def test_names_decide_where_all_are_known():
  saved = state_dict('constant')
  expected = variables_from_pytorch(MODELS['constant'], saved)
  # Alphabetically, `_logvar` comes before `_mu`.
  actual = variables_from_pytorch(
    MODELS['constant'], dict(sorted(saved.items()))
  )
  assert_equal(actual, expected)


def test_order_decides_where_names_are_others():
  saved = state_dict('diagonal')
  expected = variables_from_pytorch(MODELS['diagonal'], saved)
  renamed = {f'module.{name}': value for name, value in saved.items()}
  renamed['module._encoder.3.num_batches_tracked'] = np.array(7)
  assert_equal(variables_from_pytorch(MODELS['diagonal'], renamed), expected)


def test_what_does_not_fit_is_refused():
  model, saved = MODELS['bernoulli'], state_dict('bernoulli')
  with pytest.raises(
    ValueError, match=r"_mu.bias'\] has shape \(2,\): .*\(3,\)"
  ):
    variables_from_pytorch(model, saved | {'_mu.bias': np.zeros(2)})
  del saved['_mu.bias']
  with pytest.raises(ValueError, match=r'13 arrays: expected 14, named _enc'):
    variables_from_pytorch(model, saved)
  color = vae.bernoulli_mlp_vae((4, 4, 3), latent_dim=3, hidden=(5, 4))
  with pytest.raises(ValueError, match=r'\(4, 4, 3\): expected one channel'):
    pytorch_shapes(color)
