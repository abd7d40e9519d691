"""Does a GAN copy 1,000 garments, and does rejection stop it?

  python -m memjax.main --config=configs/fashion_gan.py

Data: Fashion-MNIST (31 MB are downloaded if it is nowhere on this machine),
padded to 32×32 and averaged to 16×16. 1,000 images train the GAN, few enough to
be memorized; 2,000 test images judge it; 10,000 others train the classifier
whose features reject near-copies. Three seeds, each with and without rejection.
Cost: about two hours on one CPU core, computed from a rate of 2.9 steps of
three GANs a second.

Several thresholds: experiments/rejection_frontier.py.

`:small` is a smoke test: two seeds, six steps.
"""

from ml_collections import config_dict


def get_config(variant=''):
  if variant not in ('', 'small'):
    raise ValueError(f"variant={variant!r}: expected '' or 'small'.")
  config = config_dict.ConfigDict()
  config.study = 'rejection'
  config.seed = 0
  # τ: samples within it of a training image teach the generator nothing.
  # 'auto': the mean distance of a training image to its nearest other one.
  # 0: no rejection.
  config.threshold = 'auto'
  # What becomes of rejected samples: 'drop' (they leave the batch, which is
  # what was published), 'resample' (drawn again, Algorithm 1), 'none'.
  config.policy = 'drop'
  config.max_redraws = 8  # of 'resample'
  # Train without rejection too, from the same seeds, and compare.
  config.compare = True

  config.data = config_dict.ConfigDict()
  config.data.source = 'fashion_mnist'
  config.data.split = 'train'
  # Of the images that the generator never sees; empty: held out from `split`.
  config.data.test_split = 'test'
  # Where to look for data first; empty: the usual places.
  config.data.directory = ''
  # Zero pixels added on each side, then means of shrink × shrink pixels.
  config.data.pad = 2
  config.data.shrink = 2
  # Images in each set; 0: all. Further ones train the 'encoder' embedding.
  config.data.num_train = 1000
  config.data.num_test = 2000
  config.data.num_further = 10000

  config.embedding = config_dict.ConfigDict()
  # 'pixels', 'encoder' (trained on further images), 'efficientnet' or
  # 'inception': the one that rejects, and another that judges the result.
  config.embedding.rejecting = 'encoder'
  config.embedding.judging = 'pixels'
  config.embedding.metric = 'cosine'
  # Of the nearest training image in a step: 'exact', on the device, or
  # 'approximate', by faiss on the host, for very many training images.
  config.embedding.search = 'exact'
  # Of 'encoder'.
  config.embedding.num_features = 64
  config.embedding.num_steps = 600

  config.model = config_dict.ConfigDict()
  config.model.name = 'sagan'
  config.model.latent_dim = 32
  config.model.generator_width = 8
  config.model.discriminator_width = 16
  config.model.attention_size = 0

  config.train = config_dict.ConfigDict()
  # Seeds, each trained with and without rejection.
  config.train.num_repeats = 3
  # Updates of the generator; each follows so many of the discriminator.
  config.train.steps = 10000
  config.train.discriminator_steps = 1
  config.train.batch_size = 32
  config.train.learning_rate = 1e-3  # 2e-4 in the paper, for 100,000 steps
  # The sampled generator is an average of weights; 0: it is the last one.
  config.train.ema_decay = 0.999
  config.train.ema_start = 1000
  # What the discriminator sees: 'color', 'translation', 'cutout'.
  config.train.augmentations = ()
  config.train.flip = False
  # So many steps in a row without an accepted sample end training.
  config.train.patience = 200
  # Of matrix products while training: 'float32', 'tensorfloat32', 'bfloat16'.
  config.train.precision = 'float32'
  # Seeds together ('vmap'), in turn ('map'), or 'auto': by backend.
  config.train.lift = 'auto'
  # A row of metrics.jsonl and a grid of samples every so many steps.
  config.train.evaluate_every = 1000
  config.train.num_evaluated = 1000
  config.train.checkpoint_seconds = 300.0

  config.score = config_dict.ConfigDict()
  config.score.num_samples = 2000  # of each trained generator
  # k-means cells of C_T, and in each class.
  config.score.num_cells = 5
  config.score.num_class_cells = 1
  config.score.num_permutations = 1000
  config.score.k = 5  # the neighbour that sets the reach of a point

  if variant == 'small':
    config.data.num_train = 300
    config.data.num_test = 300
    config.data.num_further = 200
    config.embedding.num_steps = 20
    config.model.generator_width = 2
    config.model.discriminator_width = 4
    config.train.num_repeats = 2
    config.train.steps = 6
    config.train.batch_size = 8
    config.train.evaluate_every = 3
    config.train.num_evaluated = 80
    config.score.num_samples = 250
    config.score.num_cells = 2
    config.score.num_class_cells = 1
    config.score.num_permutations = 50
  return config
