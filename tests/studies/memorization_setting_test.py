"""What a K-fold study says of a config before it begins."""

import pathlib

import numpy as np
import pytest

from memjax import main
from memjax.data.sources import load_dataset
from memjax.models.vae import bernoulli_mlp_vae
from memjax.studies.memorization_setting import make_grid, make_options

CONFIG = pathlib.Path(__file__).parents[2] / 'configs' / 'digits_vae.py'


def test_one_image_is_too_few():
  config = main.read_config(str(CONFIG))
  config.data.source = 'npz:one.npz'
  message = "source='npz:one.npz' and .*num_items=0 give 1 item: expected 2"
  with pytest.raises(ValueError, match=message):
    make_grid(config, 1, None)
  assert make_grid(config, 10, None).held_out.shape == (50, 10)


def test_fewer_epochs_come_with_the_other_key_to_pass():
  config = main.read_config(str(CONFIG))
  config.train.epochs = 3
  digits = load_dataset('digits', num_items=4)
  model = bernoulli_mlp_vae(digits.images.shape[1:], latent_dim=2, hidden=(2,))
  message = r"80: .* \[1, 3\]\. .*pass --config.score.epochs='\(3,\)' too"
  with pytest.raises(ValueError, match=message):
    make_options(config, model, digits)
  config.score.epochs = (3,)
  options = make_options(config, model, digits)
  assert options.score_epochs == (3,)
  np.testing.assert_array_equal(options.tracked_epochs, ())
