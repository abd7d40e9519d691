"""Does somebody else's generator copy, or somebody else's model memorize?

  python -m memjax.main --config=configs/audit.py \
      --config.train=train.npy --config.test=test.npy \
      --config.generated=generated.npy

audits samples: are they copies, do they lie on the data, do they reach all of
it? Each set is an .npy or .npz file of numbers [n, …] (pixels, embeddings, rows
of a table) or a folder of images; `test` must be held out from training and of
the same source. 10,000 points of each in 64 dimensions: 1:55 minutes on 2 CPU
cores (measured); images take minutes.

  python -m memjax.main --config=configs/audit.py \
      --config.train=train/ --config.test=test/ --config.generated=samples/ \
      --config.embedding=efficientnet --config.metric=cosine \
      --config.second_embedding=pixels

compares images in the features of a network (see `embedding` below), and shows
two embeddings side by side. Features are kept in the workdir. The metric is for
both: a second embedding in which 'cosine' finds no direction, such as that of a
black image in pixels, is left out, and the report says so.

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
  # What "near" is judged by: '' compares the numbers as they are (pixels,
  # features, tables); 'pixels', 'efficientnet', 'inception' or 'encoder' (a
  # small network trained on the images of all three sets) embed images.
  # A second one is shown beside it, where the two disagree.
  config.embedding = ''
  config.second_embedding = ''
  # What follows, to inception_weights, is refused where no embedding uses it.
  # Black and white of images that are no bytes, such as (0.0, 1.0).
  config.value_range = ()
  config.grey = 'refuse'  # 'repeat': a colour network sees grey images thrice
  # Of a network's input; '' is what it was published with. Both are part of
  # the name of every number: 'bilinear', 'tf1' or 'clean'; '(x-128)/128' or
  # 'x/127.5-1' (Inception alone).
  config.resize = ''
  config.scaling = ''
  config.inception_weights = ''  # a path, where the file is not found by itself
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
