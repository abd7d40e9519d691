"""What does training in bfloat16 change in the scores?

  python experiments/bfloat16.py --out=FOLDER

trains a small MNIST study three times with the same folds: in float32, in
bfloat16, and in float32 from another seed, which also redraws what log p is
estimated with. Two seeds differ by chance alone, so their difference is the
yardstick. Scoring is in float32 throughout. The reader should see: bfloat16
changes scores less than another seed does, and their mean not at all.
"""

import pathlib

import jax
import numpy as np
import optax
import scipy.stats
import study_folder
from absl import app, flags, logging

import memjax
from memjax.analysis import drawing
from memjax.data.sources import load_dataset
from memjax.data.transforms import binarize
from memjax.models.vae import bernoulli_mlp_vae
from memjax.training.loop import train_and_score
from memjax.training.plan import LoopOptions, ModelGrid
from memjax.training.programs import ScoringOptions

FOLDS, REPEATS = 5, 2


def study(data, seed: int, precision: str, folder, epochs: int) -> np.ndarray:
  """Scores of one study, [n] nats; it resumes in its folder."""
  held_out = memjax.make_folds(len(data.ids), FOLDS, num_repeats=REPEATS)
  repeat = np.repeat(np.arange(REPEATS), FOLDS)
  fold = np.tile(np.arange(FOLDS), REPEATS)
  grid = ModelGrid(repeat, fold, held_out, FOLDS)
  options = LoopOptions(
    seed=seed,
    epochs=epochs,
    batch_size=64,
    score_epochs=(epochs,),
    scoring=ScoringOptions(50, 64, 'laplace'),
    redraw=False,
    models_at_once=FOLDS,
    lift='vmap',
    max_attempts=3,
    checkpoint_seconds=60.0,
    progress_seconds=5.0,
    precision=precision,
  )
  model = bernoulli_mlp_vae(data.images.shape[1:])
  adam = optax.adam(1e-3)
  train_and_score(model, adam, binarize(), data, grid, options, folder)
  with np.load(folder / f'arrays/log_px_epoch_{epochs:04d}.npz') as saved:
    log_px = saved['log_px']
  scores = memjax.memorization_score(log_px, held_out, estimator='mean_log')
  return np.asarray(scores.score)


def compare(score: np.ndarray, other: np.ndarray) -> dict[str, float]:
  """How another run's scores differ from the reference's, in nats."""
  change = other - score
  return {
    'mean_score': float(other.mean()),
    'mean_change': float(change.mean()),
    'std_err_over_items': float(change.std(ddof=1) / np.sqrt(change.size)),
    'rms_change': float(np.sqrt(np.square(change).mean())),
    'rank_correlation': float(scipy.stats.spearmanr(score, other).statistic),
  }


def draw(score: np.ndarray, others: dict[str, np.ndarray]) -> drawing.Figure:
  """All comparisons in one plane."""
  title = 'Scores after a change of training'
  figure, (ax,) = drawing.start(4.6, title, 'dashed: no change')
  colors = (drawing.LIGHT_BLUE, drawing.VERMILION)
  for (name, other), color in zip(others.items(), colors, strict=True):
    style = {'s': 4, 'color': color, 'lw': 0, 'rasterized': True}
    ax.scatter(score, other, label=name, **style)
  ends = score.min(), score.max()
  ax.plot(ends, ends, color=drawing.INK, lw=1, ls=drawing.DASHED)
  ax.set(xlabel='score in float32 (nats)', ylabel='score (nats)')
  ax.legend(frameon=False, loc='upper left')
  return figure


def main(out: str, source: str, pad: int, num_items: int, epochs: int) -> None:
  """Runs the three studies, compares, and keeps the numbers."""
  logging.set_verbosity(logging.WARNING)  # Orbax tells much
  data = load_dataset(source, pad=pad, num_items=num_items)
  run = lambda name, seed, precision: study(
    data, seed, precision, pathlib.Path(out) / 'runs' / name, epochs
  )
  score = run('float32', 0, 'float32')
  others = {
    'another seed': run('another_seed', 1, 'float32'),
    'bfloat16': run('bfloat16', 0, 'bfloat16'),
  }
  found = {name: compare(score, other) for name, other in others.items()}
  found['float32'] = {'mean_score': float(score.mean())}
  found['design'] = {'source': source, 'items': num_items, 'epochs': epochs}
  found['design']['backend'] = jax.default_backend()
  study_folder.keep(out, 'bfloat16', {'bfloat16': draw(score, others)}, found)


if __name__ == '__main__':
  _OUT = flags.DEFINE_string('out', None, 'For results.', required=True)
  _SOURCE = flags.DEFINE_string('source', 'mnist', 'Data set.')
  _PAD = flags.DEFINE_integer('pad', 2, 'Zero pixels on each side.')
  _ITEMS = flags.DEFINE_integer('items', 1000, 'Images.')
  _EPOCHS = flags.DEFINE_integer('epochs', 20, 'Epochs.')
  _ALL = (_OUT, _SOURCE, _PAD, _ITEMS, _EPOCHS)
  app.run(lambda _: main(*(flag.value for flag in _ALL)))
