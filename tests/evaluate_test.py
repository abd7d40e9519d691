import functools

import jax
import jax.numpy as jnp
import numpy as np

from memjax.data.transforms import binarize
from memjax.evaluate import (
  make_rescore_items,
  make_score_items,
  rescore_unreliable,
)
from memjax.likelihood import LogProb
from memjax.models.vae import bernoulli_mlp_vae

MODEL = bernoulli_mlp_vae((4, 4, 1), latent_dim=2, hidden=(6,))
VARIABLES = MODEL.init(jax.random.key(0))
IMAGES = jnp.asarray(
  np.random.default_rng(0).integers(0, 256, (9, 4, 4, 1)), jnp.uint8
)
IDS = jnp.arange(100, 109, dtype=jnp.uint32)
KEY = jax.random.key(4)


@functools.cache
def rescore(num_samples=64, proposal='laplace'):
  return jax.jit(
    make_rescore_items(
      MODEL, binarize(), num_samples=num_samples, proposal=proposal
    )
  )


def test_rescoring_depends_on_key_id_and_round_alone():
  both = rescore()(VARIABLES, IMAGES, IDS, jnp.array([7, 2]), KEY, 1)
  again = rescore()(VARIABLES, IMAGES, IDS, jnp.array([2, -1]), KEY, 1)
  assert float(both.log_px[1]) == float(again.log_px[0])
  later = rescore()(VARIABLES, IMAGES, IDS, jnp.array([2, -1]), KEY, 2)
  assert float(later.log_px[0]) != float(again.log_px[0])
  moved = rescore()(
    VARIABLES, IMAGES[::-1], IDS[::-1], jnp.array([6, -1]), KEY, 1
  )
  assert float(moved.log_px[0]) == float(again.log_px[0])


def test_no_item_gives_nothing():
  found = rescore()(VARIABLES, IMAGES, IDS, jnp.array([-1, 3]), KEY, 1)
  for field in found[:-1]:
    assert np.isnan(field[0])
    assert np.isfinite(field[1])
  assert not bool(found.is_reliable[0])


def test_rescoring_sees_the_same_image_but_other_noise():
  score = make_score_items(
    MODEL, binarize(), block=9, num_samples=64, proposal='laplace'
  )
  first = jax.jit(score)(VARIABLES, IMAGES, IDS, 0, KEY)
  errors = []
  for round in range(1, 6):
    new = rescore()(VARIABLES, IMAGES, IDS, jnp.arange(9), KEY, round)
    # Another binarization would change log p by nats.
    np.testing.assert_allclose(new.log_px, first.log_px, atol=0.5)
    assert (np.asarray(new.log_px) != np.asarray(first.log_px)).all()
    errors.append(np.asarray(new.log_px - first.log_px))
  # Not the same noise round after round.
  assert (np.std(errors, axis=0) > 1e-4).all()


def fake_estimates(is_reliable):
  shape = is_reliable.shape
  return {
    'log_px': np.zeros(shape),
    'std_err': np.ones(shape),
    'ess': np.ones(shape),
    'pareto_k': np.where(is_reliable, 0.1, 1.0),
    'is_reliable': is_reliable,
  }


def test_only_unreliable_pairs_are_scored_again_and_rounds_are_bounded():
  rng = np.random.default_rng(0)
  is_reliable = rng.uniform(size=(3, 20)) < 0.6
  is_reliable[1] = True
  estimates = fake_estimates(is_reliable)
  asked = []

  def rescore(indices, round):
    """Makes reliable what is at an even place; values tell the round."""
    assert indices.shape == (3, 4)
    asked.extend(
      (round, row, int(item))
      for row in range(3)
      for item in indices[row]
      if item >= 0
    )
    value = np.where(indices >= 0, 100.0 * round + indices, np.nan)
    good = (indices >= 0) & (indices % 2 == 0)
    return LogProb(*[jnp.asarray(value)] * 4, jnp.asarray(good))

  found = rescore_unreliable(rescore, estimates, block=4, num_rounds=3)
  first = [(1, *pair) for pair in np.argwhere(~is_reliable).tolist()]
  odd = [pair for pair in first if pair[2] % 2]
  expected = first + [(r, *pair[1:]) for r in (2, 3) for pair in odd]
  assert sorted(asked) == sorted(expected)
  for row, item in np.ndindex(3, 20):
    if is_reliable[row, item]:
      assert found['log_px'][row, item] == 0
    else:
      round = 3 if item % 2 else 1
      assert found['log_px'][row, item] == 100 * round + item
  assert (~found['is_reliable']).sum() == len(odd)
  np.testing.assert_array_equal(estimates['is_reliable'], is_reliable)
  assert not estimates['log_px'].any()


def test_nothing_unreliable_costs_nothing():
  estimates = fake_estimates(np.ones((2, 5), bool))

  def rescore(indices, round):
    raise AssertionError('nothing was to be done')

  found = rescore_unreliable(rescore, estimates, block=4, num_rounds=3)
  np.testing.assert_array_equal(found['log_px'], estimates['log_px'])


def test_rescoring_makes_estimates_reliable():
  """End to end, for two models; the block does not matter."""
  both = jax.vmap(MODEL.init)(jax.random.split(jax.random.key(0)))
  both = jax.tree.map(lambda a: 2 * a, both)
  score = make_score_items(
    MODEL, binarize(), block=9, num_samples=32, proposal='encoder'
  )
  first = jax.vmap(score, (0, None, None, None, None))(
    both, IMAGES, IDS, 0, KEY
  )
  program = jax.jit(
    jax.vmap(
      make_rescore_items(
        MODEL, binarize(), num_samples=512, proposal='variational'
      ),
      (0, None, None, 0, None, None),
    )
  )
  again = lambda indices, round: program(both, IMAGES, IDS, indices, KEY, round)
  estimates = {k: np.asarray(v) for k, v in first._asdict().items()}
  assert (~estimates['is_reliable']).sum() > 3
  few = rescore_unreliable(again, estimates, block=2, num_rounds=2)
  many = rescore_unreliable(again, estimates, block=7, num_rounds=2)
  assert few['is_reliable'].all()
  np.testing.assert_allclose(few['log_px'], many['log_px'], atol=1e-4)
  kept = estimates['is_reliable']
  np.testing.assert_array_equal(few['log_px'][kept], estimates['log_px'][kept])
