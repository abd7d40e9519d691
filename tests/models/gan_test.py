"""The GANs: parameter counts, losses, sizes, what is conditional on what."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memjax.models import gan


def count(variables):
  return sum(leaf.size for leaf in jax.tree.leaves(variables['params']))


def counts(model):
  shapes = jax.eval_shape(model.init, jax.random.key(0))
  return tuple(map(count, shapes))


@pytest.mark.parametrize(
  ('make', 'expected'),
  [
    # G: count_trainable_parameters.ipynb of jybai/MRGAN; D: by running it.
    (gan.sagan, (4_386_308, 1_075_586)),
    (gan.biggan, (9_416_196, 2_415_170)),
  ],
)
def test_parameter_counts_of_the_public_code(make, expected):
  assert counts(make((32, 32, 3), 10)) == expected


def test_hinge_losses_of_the_public_code():
  real, fake = jnp.array([0.5, 2.0, -1.0]), jnp.array([-0.5, -2.0, 1.0])
  loss = gan.hinge_discriminator_loss(real, fake)
  np.testing.assert_allclose(loss, 5 / 3, rtol=1e-6)
  losses = gan.hinge_generator_losses(fake)
  assert losses.tolist() == [0.5, 2.0, -1.0]
  np.testing.assert_allclose(losses.mean(), 0.5)


@pytest.mark.parametrize('size', [8, 16, 32])
@pytest.mark.parametrize('make', [gan.sagan, gan.biggan])
def test_sizes(make, size):
  model = make(
    (size, size, 1), 4, latent_dim=24, generator_width=2,
    discriminator_width=4,
  )  # fmt: skip
  shapes = jax.eval_shape(model.init, jax.random.key(0))
  z, label = jnp.zeros((5, 24)), jnp.zeros(5, jnp.int32)
  image = jax.eval_shape(model.generate, shapes[0], z, label)
  assert image.shape == (5, size, size, 1)
  score, _ = jax.eval_shape(model.discriminate_train, shapes[1], image, label)
  assert score.shape == (5,)
  # Both networks have self-attention, or neither.
  for variables in shapes:
    assert ('attention' in variables['params']) == (size in (16, 32))


@pytest.fixture(scope='module')
def small():
  model = gan.biggan(
    (8, 8, 1), 3, latent_dim=4, shared_dim=5, generator_width=2,
    discriminator_width=4, attention_size=0,
  )  # fmt: skip
  return model, *jax.jit(model.init)(jax.random.key(0))


def test_weights_are_orthogonal_at_first_and_biases_zero(small):
  for variables in small[1:]:
    paths = jax.tree_util.tree_flatten_with_path(variables['params'])[0]
    for path, leaf in paths:
      name = path[-1].key
      if name in ('kernel', 'shared'):
        matrix = np.asarray(leaf).reshape(-1, leaf.shape[-1])
        short = min(matrix.shape)
        gram = matrix.T @ matrix
        gram = gram if short == matrix.shape[1] else matrix @ matrix.T
        np.testing.assert_allclose(gram, np.eye(short), atol=1e-5)
      elif name == 'bias':
        assert not leaf.any()


def test_images_depend_on_class_and_every_part_of_the_latent(small):
  model, variables, _ = small
  generate = jax.jit(model.generate)
  z = jax.random.normal(jax.random.key(1), (1, 4))
  label = jnp.zeros(1, jnp.int32)
  image = generate(variables, z, label)
  assert np.abs(image).max() <= 1
  assert np.abs(generate(variables, z, label + 1) - image).max() > 1e-5
  for place in range(4):
    moved = generate(variables, z.at[0, place].add(1.0), label)
    assert np.abs(moved - image).max() > 1e-5, place


def test_each_image_for_itself_when_not_training(small):
  model, variables, _ = small
  z, label = jax.random.normal(jax.random.key(2), (3, 4)), jnp.arange(3)
  together = model.generate(variables, z, label)
  alone = jnp.concatenate(
    [
      model.generate(variables, z[i : i + 1], label[i : i + 1])
      for i in range(3)
    ]
  )
  np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-5)


def test_score_is_projected_on_the_class(small):
  model, _, variables = small
  image = jax.random.normal(jax.random.key(3), (1, 8, 8, 1))
  scores = [
    model.discriminate_train(variables, image, jnp.array([k]))[0][0]
    for k in range(3)
  ]
  assert np.ptp(scores) > 1e-3


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    ({'image_shape': (28, 28, 1)}, r'image_shape\[0\]=28'),
    ({'image_shape': (8, 16, 1)}, 'square'),
    ({'latent_dim': 33}, 'latent_dim=33: expected a multiple of 4'),
    ({'num_classes': 0}, 'num_classes=0'),
    ({'attention_size': 5}, 'attention_size=5'),
  ],
)
def test_bad_sizes_are_named(change, message):
  arguments = {'image_shape': (32, 32, 1), 'num_classes': 3, **change}
  with pytest.raises(ValueError, match=message):
    gan.biggan(**arguments)
