"""What has the paper's MNIST VAE memorized of Fashion-MNIST?

  python -m memjax.main --config=configs/fashion_vae.py

Not in the paper: the same model and settings as `mnist_vae.py` on clothes,
which share no scribble with digits. Cost as there. The data: on Debian
`apt install dataset-fashion-mnist`, else it is downloaded.

`:small` takes 5,000 images, K = 5, L = 2, 20 epochs: minutes on 2 CPU cores.
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
  config.data.source = 'fashion_mnist'
  config.data.split = 'train'
  config.data.directory = ''
  config.data.pad = 2
  config.data.num_items = 0

  config.folds = config_dict.ConfigDict()
  config.folds.num_folds = 10
  config.folds.num_repeats = 10
  config.folds.use_groups = False

  config.model = config_dict.ConfigDict()
  config.model.name = 'bernoulli_mlp_vae'
  config.model.latent_dim = 16
  config.model.hidden = (512, 256)
  config.transform = 'binarize'

  config.train = config_dict.ConfigDict()
  config.train.learning_rate = 1e-3
  config.train.epochs = 100
  config.train.batch_size = 64
  # 'none', 'per_batch' (the paper's code) or 'per_image'.
  config.train.flip = 'none'
  # Of matrix products: 'float32', 'tensorfloat32' or 'bfloat16'. Scoring is
  # always in float32.
  config.train.precision = 'float32'
  config.train.models_at_once = 10
  config.train.lift = 'auto'
  config.train.max_attempts = 3
  config.train.checkpoint_seconds = 300.0

  config.score = config_dict.ConfigDict()
  config.score.epochs = tuple(range(5, 101, 5))
  # Of the items, num_tracked are scored at these earlier epochs too.
  config.score.tracked_epochs = ()
  config.score.num_tracked = 6000
  # 'encoder' is the published way; 'laplace' and 'variational' come closer.
  config.score.proposal = 'laplace'
  config.score.num_samples = 64
  # At the last epoch: what is not reliable is estimated anew, round by round,
  # and everything by the published way too (0: not).
  config.score.escalation = (('variational', 256),)
  config.score.encoder_num_samples = 256
  config.score.redraw = False
  config.score.items_at_once = 0
  config.score.estimator = 'mean_log'
  config.score.num_permutations = 1000

  config.full = config_dict.ConfigDict()
  # One more model on all data, its loss on this split, and its samples.
  config.full.is_run = True
  config.full.test_split = 'test'

  if variant == 'small':
    config.data.num_items = 5000
    config.folds.num_folds = 5
    config.folds.num_repeats = 2
    config.train.models_at_once = 5
    config.train.epochs = 20
    config.score.epochs = (5, 20)
    config.score.num_samples = 64
    config.score.encoder_num_samples = 64
  return config
