"""What has the paper's VAE memorized of MNIST? (van den Burg and Williams 2021)

  python -m memjax.main --config=configs/mnist_vae.py

The paper's settings in full: K = 10, L = 10, 100 epochs, scored every five
epochs. `:lr3` is the same (η = 1e-3); `:lr4` has η = 1e-4. Log p(x) is
estimated by the Laplace proposal, and at the last epoch by the paper's as well,
N = 256.

Cost (computed from measured rates on 2 CPU cores, not run): 5.4e8 training
images at 9,700 a second, 15 hours; 1.2e8 log-probabilities at 1.6 ms, 55 hours;
at the last epoch 6e6 by the encoder, 5 hours, and half of them anew, 6 hours.

Expected, by the published estimator: median 4.4 nats and maxima near 200 at
η = 1e-3; 3.5 and 80 at 1e-4. `experiments/README.md` has ours.

`:one_repeat` is less than a tenth of it, L = 1 at η = 1e-3: all images are
scored at the last epoch, 6,000 of them every five epochs. Estimated: 7 hours
on 2 CPU cores, partly beside other work. Mean 2.19 nats, 126 digits stand out;
by the published estimator the median is 3.40 nats and the maximum 309.

`:small` takes 5,000 images, K = 5, L = 2, 20 epochs. Measured: 8:36 minutes on
2 CPU cores.
"""

from ml_collections import config_dict


def get_config(variant=''):
  allowed = ('', 'lr3', 'lr4', 'one_repeat', 'small')
  if variant not in allowed:
    raise ValueError(f'variant={variant!r}: expected one of {allowed}.')
  config = config_dict.ConfigDict()
  config.study = 'memorization'
  config.seed = 42

  config.data = config_dict.ConfigDict()
  config.data.source = 'mnist'
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

  if variant == 'lr4':
    config.train.learning_rate = 1e-4

  if variant == 'one_repeat':
    config.folds.num_repeats = 1
    config.score.epochs = (100,)
    config.score.tracked_epochs = tuple(range(5, 100, 5))

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
