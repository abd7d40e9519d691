"""What does somebody else's model, or its log-probabilities, tell?

  python -m memjax.main --config=configs/audit.py \
      --config.log_px=log_px.npy --config.held_out=held_out.npy

`log_px` [m, n] holds log p(x) of n items under m models, in nats, `held_out`
[m, n] which model did not train on which item. No training; seconds on a CPU.
"""

from ml_collections import config_dict


def get_config():
  config = config_dict.ConfigDict()
  config.study = 'audit'
  config.seed = 0
  # .npy files. The first two are required.
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
  config.num_permutations = 1000
  return config
