"""Can images with a watermark be found by when they are memorized?

  python experiments/watermark.py --runs=runs/watermark

300 of scikit-learn's digits, 2 % of them with a white corner, as the first six
principal components of the pixels; the tiny model learns their distribution,
all repeats at once, each with other images. Each training image gets the mean
evaluation at which samples are memorized from it; AUROC of marked against other
images, mean over repeats, with p by marking other images at random. The same is
asked of the distance to the mean, which needs no model. Resumes; writes
`results/watermark.json`.

Reference: Outliers Memorized Last (2023), section 5.1.
"""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import scipy.stats
from absl import app, flags, logging

from memjax import files, run_folder, stats
from memjax.data.sources import load_dataset
from memjax.files import save_arrays, write_json
from memjax.models.denoiser import Denoiser
from memjax.scores.memorized_when import (
  memorized_from,
  time_memorized,
)
from memjax.training.epochs import init_epoch_state, make_train_epochs
from memjax.training.resumable import run_resumable

# Fifty steps of the published schedule generate far points too rarely.
_SIZE, _MARKED, _COMPONENTS, _VISITS, _STEPS = 300, 6, 6, 25, 250
_PERMUTATIONS = 999


def draw(repeat):
  """(train, test) embeddings [300, 6]; the first six images are marked."""
  images = load_dataset('digits').images.astype(np.float64)
  rng = np.random.default_rng([repeat, 17])
  images = images[rng.permutation(len(images))[: 2 * _SIZE]]
  sets = images.reshape(2, _SIZE, *images.shape[1:])
  sets[:, :_MARKED, -3:, -3:] = 255
  train, test = sets.reshape(2, _SIZE, -1)
  mean = train.mean(axis=0)
  axes = np.linalg.svd(train - mean, full_matrices=False)[2][:_COMPONENTS]
  scale = ((train - mean) @ axes.T).std()
  return [
    ((x - mean) @ axes.T / scale).astype(np.float32) for x in (train, test)
  ]


def count_over_training(sets, folder, epochs):
  """[E, R, n] samples memorized from each image, at each evaluation."""
  model = Denoiser(num_features=_COMPONENTS, num_steps=_STEPS)
  optimizer = optax.chain(
    optax.clip_by_global_norm(1.0), optax.adamw(1e-3, weight_decay=0.01)
  )
  init_keys, train_keys, sample_keys = (
    jax.random.split(key, len(sets))
    for key in jax.random.split(jax.random.key(0), 3)
  )
  points = jnp.stack([train for train, _ in sets])
  train = jax.jit(
    jax.vmap(
      make_train_epochs(model, optimizer, _SIZE // 2),
      in_axes=(0, 0, None, None, 0),
    )
  )
  sample = jax.jit(
    lambda variables, keys: jax.lax.map(
      lambda a: model.sample(*a, _SIZE, block_size=256), (variables, keys)
    )
  )
  grid = np.geomspace(max(1, epochs // 200), epochs, _VISITS)
  visits = sorted({int(v) for v in grid.round()})
  part = lambda epoch: folder / 'arrays' / f'counts_{epoch:06d}.npz'

  def visit(epoch, state):
    keys = jax.vmap(lambda key: jax.random.fold_in(key, epoch))(sample_keys)
    samples = np.asarray(sample(state.train.variables, keys), np.float64)
    counts = [
      memorized_from(*(np.float64(x) for x in pair), generated)
      for pair, generated in zip(sets, samples, strict=True)
    ]
    save_arrays(part(epoch), counts=np.array(counts))

  init = jax.jit(jax.vmap(lambda key: init_epoch_state(model, optimizer, key)))
  run_folder.claim(
    folder,
    {'epochs': epochs, 'visits': visits, 'diffusion_steps': _STEPS},
    files.fingerprint(np.asarray(part) for pair in sets for part in pair),
  )
  run_resumable(
    init(init_keys),
    lambda state, begin, end: train(state, points, begin, end, train_keys),
    epochs,
    folder / 'checkpoints',
    visits=visits,
    visit=visit,
    unit='images·models trained',
    units_per_step=_SIZE * len(sets),
    checkpoint_seconds=60.0,
  )
  counts = []
  for epoch in visits:
    with np.load(part(epoch)) as saved:
      counts.append(saved['counts'])
  return np.array(counts)


def aurocs(scores, is_marked):
  """Of each repeat: is the score of marked images [n] above the others'?"""
  ranks = scipy.stats.rankdata(scores, axis=-1)[..., is_marked].sum(axis=-1)
  count, total = is_marked.sum(), len(is_marked)
  return (ranks - count * (count + 1) / 2) / (count * (total - count))


def compare(scores):
  """Mean AUROC over repeats, Student's interval, p of a random marking."""
  scores = np.asarray(scores, np.float64)
  found = aurocs(scores, np.arange(_SIZE) < _MARKED)
  half = float(stats.student_reach(found))
  rng = np.random.default_rng(0)
  nulls = np.array([
    aurocs(rng.permuted(scores, axis=1), np.arange(_SIZE) < _MARKED).mean()
    for _ in range(_PERMUTATIONS)
  ])  # fmt: skip
  mean = float(found.mean())
  p = stats.permutation_p_value(mean, nulls, alternative='two-sided')
  return {'auroc': mean, 'low': mean - half, 'high': mean + half, 'p': p}


def main(runs, out, repeats, epochs):
  """Trains or goes on, and prints."""
  logging.set_verbosity(logging.INFO)
  sets = [draw(repeat) for repeat in range(repeats)]
  counts = count_over_training(sets, pathlib.Path(runs), epochs)
  number = np.arange(len(counts), dtype=np.float64)
  by_repeat = counts.swapaxes(0, 1)
  scores = {
    'later memorized': [time_memorized(number, c) for c in by_repeat],
    'more often memorized': [c.sum(axis=0) for c in by_repeat],
    'farther from the mean': [
      np.linalg.norm(np.float64(train), axis=1) for train, _ in sets
    ],
  }
  result = {
    'samples_memorized': counts.sum(axis=2).mean(axis=1) / _SIZE,
    'images_never_singled_out': (counts.sum(axis=0) == 0).mean(),
  }
  print(f'never singled out: {result["images_never_singled_out"]:.2f}')
  for name, values in scores.items():
    result[name] = compare(values)
    text = '{auroc:.2f} ({low:.2f} to {high:.2f}), p = {p:.3f}'
    print(f'| {name} | {text.format(**result[name])} |')
  write_json(pathlib.Path(out), result)


if __name__ == '__main__':
  _RUNS = flags.DEFINE_string('runs', 'runs/watermark', 'Where the run goes.')
  _OUT = flags.DEFINE_string(
    'out', 'experiments/results/watermark.json', 'Where results go.'
  )
  _REPEATS = flags.DEFINE_integer('repeats', 10, 'Draws of images and models.')
  _EPOCHS = flags.DEFINE_integer('epochs', 1500, 'Of two steps each.')
  app.run(
    lambda _: main(_RUNS.value, _OUT.value, _REPEATS.value, _EPOCHS.value)
  )
