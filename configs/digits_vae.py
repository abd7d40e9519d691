"""What has a small VAE memorized of 1,797 real handwritten digits?

  python -m memjax.main --config=configs/digits_vae.py

Data: scikit-learn's digits, in the wheel; nothing is downloaded. K = 10 folds,
L = 5 repeats, 50 models. Cost, measured: 2:39 minutes on 2 CPU cores.

Expected (seed 0): it memorizes, but little. Mean score 0.09 nats (95 % interval
0.07 to 0.11), the top 5 % score 0.52 nats or more where chance gives 0.41, and
one digit stands out by itself.

`:small` is a smoke test: two repeats of three folds of 300 digits, seconds.
"""

from ml_collections import config_dict


def get_config(variant=''):
  if variant not in ('', 'small'):
    raise ValueError(f"variant={variant!r}: expected '' or 'small'.")
  config = config_dict.ConfigDict()
  config.study = 'memorization'
  config.seed = 0

  config.data = config_dict.ConfigDict()
  # digits, npz:PATH or npy:PATH
  config.data.source = 'digits'
  config.data.split = 'train'
  # Where to look for data first; empty: the usual places.
  config.data.directory = ''
  # Zero pixels added on each side: 8×8 becomes 12×12.
  config.data.pad = 2
  # Use the first so many items; 0: all.
  config.data.num_items = 0

  config.folds = config_dict.ConfigDict()
  config.folds.num_folds = 10
  config.folds.num_repeats = 5
  # Keep the data set's groups of near-duplicates in one fold.
  config.folds.use_groups = False

  config.model = config_dict.ConfigDict()
  config.model.name = 'bernoulli_mlp_vae'
  config.model.latent_dim = 8
  config.model.hidden = (128, 64)
  config.transform = 'binarize'

  config.train = config_dict.ConfigDict()
  config.train.learning_rate = 1e-3
  config.train.epochs = 80
  config.train.batch_size = 64
  # Mirror images while training: 'none', 'per_batch' or 'per_image'.
  config.train.flip = 'none'
  # Of matrix products: 'float32', 'tensorfloat32' or 'bfloat16'. Scoring is
  # always in float32.
  config.train.precision = 'float32'
  # Models in one program; they share it, but no random number.
  config.train.models_at_once = 10
  # 'vmap', 'map', or 'auto': by model and backend.
  config.train.lift = 'auto'
  # How often a model that diverges is trained before it is excluded.
  config.train.max_attempts = 3
  config.train.checkpoint_seconds = 60.0

  config.score = config_dict.ConfigDict()
  # After which epochs all items are scored; the last one decides.
  config.score.epochs = (80,)
  # Of the items, num_tracked are scored at these earlier epochs too.
  config.score.tracked_epochs = (20, 40, 60)
  config.score.num_tracked = 500
  # 'encoder' is the published way; 'laplace' and 'variational' come closer.
  config.score.proposal = 'laplace'
  config.score.num_samples = 64
  # At the last epoch: what is not reliable is estimated anew, round by round,
  # and everything by the published way too (0: not).
  config.score.escalation = (('variational', 256),)
  config.score.encoder_num_samples = 64
  # True: draw binarization and noise anew for each model, as published.
  config.score.redraw = False
  # Items in one program call; 0: chosen by memory.
  config.score.items_at_once = 0
  # 'mean_log', 'log_mean_exp' (the paper's, biased upward) or 'matched'.
  config.score.estimator = 'mean_log'
  config.score.num_permutations = 1000

  config.full = config_dict.ConfigDict()
  # One more model on all data, its loss on another split, and its samples; the
  # digits have no test split.
  config.full.is_run = False
  config.full.test_split = 'test'

  if variant == 'small':
    config.data.num_items = 300
    config.folds.num_folds = 3
    config.folds.num_repeats = 2
    config.train.models_at_once = 3
    config.train.epochs = 4
    config.score.epochs = (2, 4)
    config.score.tracked_epochs = ()
    config.score.num_samples = 16
    config.score.encoder_num_samples = 16
    config.score.num_permutations = 300
  return config
