"""What has the paper's VAE memorized of CIFAR-10? (van den Burg and Williams
2021)

  python -m memjax.main --config=configs/cifar_vae.py

The paper's settings in full: a convolutional VAE with diagonal Gaussian
likelihood, K = 10, L = 10, 100 epochs, scored at epochs 50 and 100. Log p(x) is
estimated by the Laplace proposal, and at the last epoch by the paper's as well,
N = 128, which is hundreds of nats low here.

Cost (computed from measured rates on 2 CPU cores, not run): 4.5e8 training
images at 1,300 a second, 96 hours; 1e7 log-probabilities at 64 ms, 180 hours;
19 of 20 of the last epoch's anew at 283 ms, 370 hours, and by the encoder, 30
hours: for an accelerator.

Expected, by the published estimator: scores from about −180 to 900, median 97.

`:small` takes 500 images, K = 5, L = 2, 20 epochs: minutes on 2 CPU cores. Any
32×32 colour images will do: --config.data.source=npz:mine.npz
"""

from ml_collections import config_dict


def get_config(variant=''):
  allowed = ('', 'small')
  if variant not in allowed:
    raise ValueError(f'variant={variant!r}: expected one of {allowed}.')
  config = config_dict.ConfigDict()
  config.study = 'memorization'
  config.seed = 42

  config.data = config_dict.ConfigDict()
  config.data.source = 'cifar10'
  config.data.split = 'train'
  config.data.directory = ''
  config.data.pad = 0
  config.data.num_items = 0

  config.folds = config_dict.ConfigDict()
  config.folds.num_folds = 10
  config.folds.num_repeats = 10
  config.folds.use_groups = False

  config.model = config_dict.ConfigDict()
  config.model.name = 'diagonal_gaussian_dcvae'
  config.model.latent_dim = 64
  config.model.num_features = 32
  config.transform = 'dequantize_logit'

  config.train = config_dict.ConfigDict()
  config.train.learning_rate = 1e-3
  config.train.epochs = 100
  config.train.batch_size = 64
  # 'none', 'per_batch' (the paper's code) or 'per_image'.
  config.train.flip = 'per_batch'
  # Of matrix products: 'float32', 'tensorfloat32' or 'bfloat16'. Scoring is
  # always in float32.
  config.train.precision = 'float32'
  config.train.models_at_once = 10
  config.train.lift = 'auto'
  config.train.max_attempts = 3
  config.train.checkpoint_seconds = 300.0

  config.score = config_dict.ConfigDict()
  config.score.epochs = (50, 100)
  # Of the items, num_tracked are scored at these earlier epochs too.
  config.score.tracked_epochs = ()
  config.score.num_tracked = 6000
  # 'encoder' is the published way; 'laplace' and 'variational' come closer.
  config.score.proposal = 'laplace'
  config.score.num_samples = 128
  # At the last epoch: what is not reliable is estimated anew, round by round,
  # and everything by the published way too (0: not).
  config.score.escalation = (('variational', 512),)
  config.score.encoder_num_samples = 128
  config.score.redraw = False
  config.score.items_at_once = 0
  config.score.estimator = 'mean_log'
  config.score.num_permutations = 1000

  config.full = config_dict.ConfigDict()
  # One more model on all data, its loss on this split, and its samples.
  config.full.is_run = True
  config.full.test_split = 'test'

  if variant == 'small':
    config.data.num_items = 500
    config.folds.num_folds = 5
    config.folds.num_repeats = 2
    config.train.models_at_once = 5
    config.train.epochs = 20
    config.score.epochs = (20,)
    config.score.tracked_epochs = (10,)
    config.score.num_tracked = 100
    config.score.num_samples = 32
    config.score.encoder_num_samples = 32
    config.score.escalation = ()
  return config
