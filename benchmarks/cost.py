"""Is the cost of a study linear, and its memory flat?

  python benchmarks/cost.py

Runs small studies on digits, each in a process of its own, and doubles one of
n, L, epochs and N at a time. Prints seconds spent in training and in scoring,
without compilation, and the peak memory of the process. Linear: doubling n, L
or epochs doubles training; doubling n, L or N doubles scoring. Flat: the peak
grows with neither L nor N.
"""

import json
import pathlib
import subprocess
import sys
import tempfile

from absl import app, flags

_RUNS = flags.DEFINE_integer('runs', 3, 'Runs of each study.')

_BASE = {'items': 800, 'repeats': 2, 'epochs': 20, 'samples': 256}

# One study, timed inside: programs are compiled by a first, tiny call.
_STUDY = """
import json, pathlib, resource, sys, time
import numpy as np, optax
from memjax.data.sources import load_dataset
from memjax.data.transforms import binarize
from memjax.folds import make_folds
from memjax.models.vae import bernoulli_mlp_vae
from memjax.training.loop import train_and_score
from memjax.training.plan import LoopOptions, ModelGrid
from memjax.training.programs import ScoringOptions
from memjax.training.progress import Progress

seconds = {'train': 0.0, 'score': 0.0}
first = set()
advance = Progress.advance
def timed(self, kind, units, spent, where):
  if kind in first:  # the first call also compiles
    seconds[kind] += spent
  first.add(kind)
  advance(self, kind, units, spent, where)
Progress.advance = timed

size = json.loads(sys.argv[1])
K, L = 5, size['repeats']
data = load_dataset('digits', pad=2, num_items=size['items'])
grid = ModelGrid(np.repeat(np.arange(L), K), np.tile(np.arange(K), L),
                 make_folds(size['items'], K, num_repeats=L), K)
options = LoopOptions(
  seed=0, epochs=size['epochs'], batch_size=64, score_epochs=(size['epochs'],),
  scoring=ScoringOptions(
    max(1, 2**22 // (K * size['samples'] * 144)), size['samples'], 'encoder'),
  redraw=False,
  models_at_once=K, lift='vmap',
  max_attempts=1, checkpoint_seconds=1e9, progress_seconds=1e9)
train_and_score(bernoulli_mlp_vae((12, 12, 1), latent_dim=8, hidden=(128, 64)),
                optax.adam(1e-3), binarize(), data, grid, options,
                pathlib.Path(sys.argv[2]))
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
print(json.dumps({**seconds, 'peak_mib': peak}))
"""


def measure(size: dict[str, int]) -> dict[str, float]:
  """Least seconds of training and scoring over runs, and least peak MiB."""
  runs = [_measure_once(size) for _ in range(_RUNS.value)]
  return {key: min(run[key] for run in runs) for key in runs[0]}


def _measure_once(size: dict[str, int]) -> dict[str, float]:
  with tempfile.TemporaryDirectory() as workdir:
    out = subprocess.run(
      [sys.executable, '-c', _STUDY, json.dumps(size), workdir],
      capture_output=True,
      text=True,
      check=True,
    )
  return json.loads(out.stdout.splitlines()[-1])


def main(_) -> None:
  """Prints the table and writes it beside this file."""
  rows = [{**_BASE, **measure(_BASE)}]
  for name in _BASE:
    size = {**_BASE, name: 2 * _BASE[name]}
    rows.append({'doubled': name, **size, **measure(size)})
  base = rows[0]
  print(
    f'{"doubled":10s} {"training":>10s} {"scoring":>10s} {"peak memory":>12s}'
  )
  for row in rows:
    print(
      f'{row.get("doubled", "-"):10s} '
      f'{row["train"] / base["train"]:9.2f}x '
      f'{row["score"] / base["score"]:9.2f}x '
      f'{row["peak_mib"] - base["peak_mib"]:+8.0f} MiB',
      flush=True,
    )
  path = pathlib.Path(__file__).with_suffix('.json')
  path.write_text(json.dumps(rows, indent=1) + '\n')


if __name__ == '__main__':
  app.run(main)
