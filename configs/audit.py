"""Does somebody else's generator copy, or somebody else's model memorize?

  python -m memjax.main --config=configs/audit.py \
      --config.train=train.npy --config.test=test.npy \
      --config.generated=generated.npy

audits samples: are they copies, do they lie on the data, do they reach all of
it? Each set is an .npy or .npz file of numbers [n, …] (pixels, embeddings, rows
of a table) or a folder of images; `test` must be held out from training and of
the same source. 10,000 points of each in 64 dimensions: 54 seconds on 2 CPU
cores (measured); images take minutes.

  python -m memjax.main --config=configs/audit.py \
      --config.log_px=log_px.npy --config.held_out=held_out.npy

scores memorization from log-probabilities: `log_px` [m, n] holds log p(x) of n
items under m models, in nats, `held_out` [m, n] which model did not train on
which item. Seconds on a CPU.
"""

from ml_collections import config_dict


def get_config():
  config = config_dict.ConfigDict()
  config.study = 'audit'
  config.seed = 0
  config.num_permutations = 1000

  # Samples.
  config.train = ''
  config.test = ''
  config.generated = ''
  # Optional .npy files of integers, one a sample: C_T class by class.
  config.train_labels = ''
  config.test_labels = ''
  config.generated_labels = ''
  config.metric = 'euclidean'  # or 'cosine'
  config.num_cells = 5
  # Principal components, for the cells and for the Fréchet distance only.
  config.num_components = 64
  config.k = 5  # the neighbour that sets the reach of a point

  # Log-probabilities.
  config.log_px = ''
  config.held_out = ''
  # Optional: the repeat of each model [m]; labels, ids and groups of near-
  # duplicates [n]; images [n, h, w] or [n, h, w, c] to show in the report.
  config.repeat = ''
  config.labels = ''
  config.ids = ''
  config.groups = ''
  config.images = ''
  config.estimator = 'mean_log'
  return config
