"""SAGAN on CIFAR-10 with Memorization Rejection, as in Bai et al. (2022).

  python -m memjax.main --config=configs/cifar_sagan.py --config.threshold=0.13

and with --config.threshold=0 for training without; with --config.compare=True
for both and their difference. The reference of the paper, CIFAR-10.1:

  python experiments/rejection_references.py --runs=WORKDIR --out=FOLDER \
      --embeddings=judging --references=test,cifar10_1 --judge=rejecting

Published, class mean of C_T against CIFAR-10.1: 0.05 without rejection, 0.24 at
τ = 0.13, 0.49 at 0.16 (SAGAN does not copy to begin with).

The published τ belong to torchvision's Inception and their C_T to cells of 64
principal components of its features; the network here is FID's, and cells have
all features: compare signs and trends, not values (docs/gan.md).

Needs an accelerator: a day or so on one GPU (not measured). Downloads CIFAR-10,
170 MB, and the Inception weights, 96 MB. Without a network for these,
--config.embedding.rejecting=efficientnet --config.embedding.judging=pixels
--config.threshold=auto, since no τ is published for that network.

`:small` is a smoke test of a narrow network; it needs the data.
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
  config.threshold = '0.13'
  # What becomes of rejected samples: 'drop' (they leave the batch, which is
  # what was published), 'resample' (drawn again, Algorithm 1), 'none'.
  config.policy = 'drop'
  config.max_redraws = 8  # of 'resample'
  # Train without rejection too, from the same seeds, and compare.
  config.compare = False

  config.data = config_dict.ConfigDict()
  config.data.source = 'cifar10'
  config.data.split = 'train'
  # Of the images that the generator never sees; empty: held out from `split`.
  config.data.test_split = 'test'
  # Where to look for data first; empty: the usual places.
  config.data.directory = ''
  # Zero pixels added on each side, then means of shrink × shrink pixels.
  config.data.pad = 0
  config.data.shrink = 1
  # Images in each set; 0: all. Further ones train the 'encoder' embedding.
  config.data.num_train = 0
  config.data.num_test = 0
  config.data.num_further = 0

  config.embedding = config_dict.ConfigDict()
  # 'pixels', 'encoder' (trained on further images), 'efficientnet' or
  # 'inception': the one that rejects, and another that judges the result.
  config.embedding.rejecting = 'inception'
  config.embedding.judging = 'efficientnet'
  config.embedding.metric = 'cosine'
  # Of the nearest training image in a step: 'exact', on the device, or
  # 'approximate', by faiss on the host, for very many training images.
  config.embedding.search = 'exact'
  # Of 'encoder'.
  config.embedding.num_features = 64
  config.embedding.num_steps = 600

  config.model = config_dict.ConfigDict()
  config.model.name = 'sagan'
  config.model.latent_dim = 128
  config.model.generator_width = 64
  config.model.discriminator_width = 64
  config.model.attention_size = 16

  config.train = config_dict.ConfigDict()
  # Seeds, each trained with and without rejection.
  config.train.num_repeats = 1
  # Updates of the generator; each follows so many of the discriminator.
  config.train.steps = 100000
  config.train.discriminator_steps = 5
  config.train.batch_size = 64
  config.train.learning_rate = 2e-4
  # The sampled generator is an average of weights; 0: it is the last one.
  config.train.ema_decay = 0.0
  config.train.ema_start = 1000
  # What the discriminator sees: 'color', 'translation', 'cutout'.
  config.train.augmentations = ()
  config.train.flip = True
  # So many steps in a row without an accepted sample end training.
  config.train.patience = 200
  # Of matrix products while training: 'float32', 'tensorfloat32', 'bfloat16'.
  config.train.precision = 'tensorfloat32'
  # Seeds together ('vmap'), in turn ('map'), or 'auto': by backend.
  config.train.lift = 'auto'
  # A row of metrics.jsonl and a grid of samples every so many steps.
  config.train.evaluate_every = 2000
  config.train.num_evaluated = 2000
  config.train.checkpoint_seconds = 300.0

  config.score = config_dict.ConfigDict()
  config.score.num_samples = 10000  # of each trained generator
  # k-means cells of C_T, and in each class.
  config.score.num_cells = 10
  config.score.num_class_cells = 10
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
    config.embedding.rejecting = 'encoder'
    config.embedding.judging = 'pixels'
  return config
