"""Inliers, outliers and near-duplicates over training (outliers2023).

  python -m memjax.main --config=configs/moons_dynamics.py:small
  python -m memjax.main --config=configs/moons_dynamics.py:figure_1

Variants figure_1 … figure_4 are the paper's: 400, 200, 100, 100 outliers and as
many duplicated points; 400, 800, 800, 10 epochs; 20,000 or 10,000 points; 10
repeats, sampled before every epoch. What the paper does not report is set here
as tiny-diffusion has it (T = 50, batch 32, learning rate 1e-3), and by choices
of ours: spread and gap of the outliers, test set as large as the training set.
'noise' reaches noise (T = 250). '' is figure_4, the least of them.

Cost, computed: an epoch is 0.6 MFLOP a point and repeat, sampling 0.16 MFLOP a
sample, repeat and step, T/4 times as much. One CPU core takes (measured) 12 µs
for the one in batches of 32 and 2.5 µs for the other. figure_1 is 10 repeats ×
20,800 points × 400 epochs: 0.3 hours of training, 2.9 of sampling; figure_2 is
6 hours, figure_3 is 3, figure_4 is 3 minutes; 'noise' is 12 minutes; 'small' is
half a minute. Nearest neighbours take a twentieth of sampling. An accelerator
(not measured) has 7 × 10¹⁴ FLOP to do for figure_1, a minute at 10 TFLOP/s, and
250,000 training steps in sequence, half a minute at 0.1 ms each.
"""

from ml_collections import config_dict

# Variant: outliers and duplicates, epochs, inliers.
_FIGURES = {
  'figure_1': (400, 400, 20_000),
  'figure_2': (200, 800, 20_000),
  'figure_3': (100, 800, 10_000),
  'figure_4': (100, 10, 10_000),
}
_VARIANTS = ('', 'small', 'noise', *_FIGURES)


def get_config(variant=''):
  if variant not in _VARIANTS:
    raise ValueError(f'variant={variant!r}: expected one of {_VARIANTS}.')
  injected, epochs, num_inliers = _FIGURES.get(variant, _FIGURES['figure_4'])
  config = config_dict.ConfigDict()
  config.study = 'dynamics'
  config.seed = 0
  # Other weights, orders and data each; all train at once.
  config.num_repeats = 10

  config.data = config_dict.ConfigDict()
  # 'moons', 'dino', 'line' or 'circle'.
  config.data.shape = 'moons'
  # Before anything is injected; the training set is larger by that.
  config.data.num_inliers = num_inliers
  # 0: as many. Otherwise the larger set is cut, kind by kind.
  config.data.num_test_inliers = 0
  # Of the moons, before they are stretched.
  config.data.noise = 0.03
  # Where to look for the dinosaur first; empty: the usual places.
  config.data.directory = ''

  config.outliers = config_dict.ConfigDict()
  config.outliers.num = injected
  # Of the cluster's centre from the mean, in standard deviations.
  config.outliers.distance = 2.0
  # Standard deviation of the cluster, in the data's units.
  config.outliers.spread = 0.1
  # Radians; None: drawn anew for each repeat.
  config.outliers.direction = config_dict.placeholder(float)
  # Directions whose centre is nearer to the inliers are drawn again.
  config.outliers.min_gap = 0.5

  config.duplicates = config_dict.ConfigDict()
  config.duplicates.num = injected
  # Added to each of them.
  config.duplicates.copies = 1
  # Standard deviation of a copy around its original; 0: exact.
  config.duplicates.jitter = 0.0

  config.model = config_dict.ConfigDict()
  config.model.num_steps = 50
  config.model.schedule_kind = 'linear'
  config.model.hidden = 128
  config.model.num_blocks = 3
  config.model.embedding_dim = 128
  config.model.input_scale = 25.0

  config.train = config_dict.ConfigDict()
  config.train.learning_rate = 1e-3
  config.train.weight_decay = 0.01
  config.train.clip_norm = 1.0
  config.train.batch_size = 32
  config.train.epochs = epochs
  # As tiny-diffusion did until 2024, and so, most likely, the paper.
  config.train.scale_gradient_by_loss = False
  config.train.checkpoint_seconds = 60.0

  config.evaluate = config_dict.ConfigDict()
  # Sample every so many epochs and at the end, or at the listed ones.
  config.evaluate.every = 1
  config.evaluate.epochs = ()
  # Above 1; each of true distances and of squared ones. The first is drawn.
  config.evaluate.ratios = (1.5, 2.0)
  # The first decides; without outliers all samples near them look memorized.
  config.evaluate.test_sets = ('with_outliers', 'without_outliers')
  # Epochs whose samples are kept and drawn; empty: four.
  config.evaluate.sample_epochs = ()
  # 'vmap', 'map', or 'auto': by backend.
  config.evaluate.lift = 'auto'

  config.stop = config_dict.ConfigDict()
  # Stop when the outliers, as canaries, are memorized: the chance of a false
  # alarm in the whole run, divided among its evaluations; 0: never stop.
  config.stop.canary_level = 0.0

  if variant == 'noise':
    config.model.num_steps = 250
  if variant == 'small':
    config.num_repeats = 8
    config.data.num_inliers = 100
    config.outliers.num = config.duplicates.num = 20
    config.outliers.spread = 0.3
    config.train.epochs = 1500
    config.evaluate.every = 75
  return config
