"""Error of log p(x) against seconds, for every proposal.

  python benchmarks/log_prob.py                       # trains a VAE on digits
  python benchmarks/log_prob.py --run=runs/mnist_vae  # a study's first model

The truth is log p by the refitted proposal with many samples, several times
over; "truth" is the spread of these. Bias and RMSE (nats) are against it, over
items and repetitions; "repeats" is the spread between repetitions of the same
item. Seconds are of this machine: read them as ratios within one run, and run
it on an idle machine. Writes `--out`.
"""

import json
import pathlib
import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import app, flags

from memjax.data import transforms
from memjax.data.sources import load_dataset
from memjax.likelihood import importance_log_prob
from memjax.models import vae
from memjax.training.loop import load_variables
from memjax.training.state import init_state
from memjax.training.step import epoch_order, make_train_steps, no_metrics

_RUN = flags.DEFINE_string('run', '', 'Folder of a trained study.')
_ITEMS = flags.DEFINE_integer('items', 32, 'Items to score.')
_REPEATS = flags.DEFINE_integer('repeats', 4, 'Repetitions with other noise.')
_AT_ONCE = flags.DEFINE_integer('items_at_once', 8, 'Items in one program.')
_OUT = flags.DEFINE_string(
  'out', 'benchmarks/log_prob.json', 'Where results go.'
)
_TRUTH = flags.DEFINE_integer('truth', 8192, 'Samples of the truth.')

_EPOCHS = 20

# (proposal, samples); the first is the paper's for MNIST.
_CASES = (
  ('encoder', 256),
  ('encoder', 2048),
  ('laplace', 64),
  ('laplace', 128),
  ('laplace', 512),
  ('variational', 64),
  ('variational', 128),
  ('variational', 512),
)


def load_run(run: pathlib.Path):
  """The first model of a study, and items as it sees them."""
  config = json.loads((run / 'config.json').read_text())['config']
  fields = dict(config['model'])
  data = config['data']
  dataset = load_dataset(
    data['source'],
    split=data['split'],
    data_dir=data['directory'] or None,
    pad=data['pad'],
    num_items=_ITEMS.value,
  )
  make_model = getattr(vae, fields.pop('name'))
  model = make_model(dataset.images.shape[1:], **fields)
  width = min(
    config['train']['models_at_once'],
    config['folds']['num_folds'] * config['folds']['num_repeats'],
  )
  optimizer = optax.adam(config['train']['learning_rate'])
  group = 'attempt_0_group_000'
  variables = load_variables(model, optimizer, run, group, width)
  variables = jax.tree.map(lambda leaf: leaf[0], variables)
  transform = getattr(transforms, config['transform'])()
  return model, variables, transform, dataset.images


def train_on_digits():
  """A small VAE of 8×8 digits, trained here."""
  images = load_dataset('digits').images
  model = vae.bernoulli_mlp_vae((8, 8, 1), latent_dim=8, hidden=(128, 64))
  optimizer, transform = optax.adam(1e-3), transforms.binarize()
  steps = make_train_steps(model, optimizer, transform)
  state = init_state(model, optimizer, jax.random.key(0))
  pixels, program = jnp.asarray(images), jax.jit(steps)
  batches = (len(images) // 64, 64)
  for epoch in range(_EPOCHS):
    key = jax.random.fold_in(jax.random.key(1), epoch)
    order = epoch_order(key, jnp.ones(len(images), bool), batches)
    state, _ = program(state, no_metrics(), pixels, order, 0, batches[0], key)
  return model, state.variables, transform, images[: _ITEMS.value]


def measure(model, variables, x, proposal: str, num_samples: int):
  """LogProb of [repetitions, items] arrays, and seconds an item."""

  @jax.jit
  def score(variables, x, keys):
    one = lambda pair: importance_log_prob(
      model,
      variables,
      *pair,
      num_samples=num_samples,
      proposal=proposal,
    )
    return jax.lax.map(one, (x, keys), batch_size=_AT_ONCE.value)

  found, seconds = [], []
  for repeat in range(_REPEATS.value + 1):
    key = jax.random.fold_in(jax.random.key(num_samples), repeat)
    keys = jax.random.split(key, len(x))
    begin = time.perf_counter()
    found.append(jax.device_get(score(variables, x, keys)))
    seconds.append(time.perf_counter() - begin)
  # The first call also compiles.
  arrays = jax.tree.map(lambda *a: np.stack(a).astype(np.float64), *found[1:])
  return arrays, statistics.median(seconds[1:]) / len(x)


def main(_) -> None:
  """Prints the table and writes it beside this file."""
  run = _RUN.value
  loaded = load_run(pathlib.Path(run)) if run else train_on_digits()
  model, variables, transform, images = loaded
  keys = jax.random.split(jax.random.key(7), len(images))
  x = jax.vmap(transform.apply)(jnp.asarray(images), keys)
  truth, _ = measure(model, variables, x, 'variational', _TRUTH.value)
  exact = np.logaddexp.reduce(truth.log_px) - np.log(len(truth.log_px))
  spread = np.sqrt(truth.log_px.var(axis=0, ddof=1).mean())
  print(f'truth: log p = {exact.mean():.3f}, spread of repeats {spread:.3f}')
  print(
    f'{"proposal":12s} {"N":>5s} {"bias":>8s} {"RMSE":>7s} {"repeats":>8s} '
    f'{"std_err":>8s} {"ESS":>7s} {"reliable":>9s} {"ms/item":>8s}'
  )
  rows = []
  for proposal, num_samples in _CASES:
    found, seconds = measure(model, variables, x, proposal, num_samples)
    error = found.log_px - exact
    row = {
      'proposal': proposal,
      'num_samples': num_samples,
      'bias': error.mean(),
      'rmse': np.sqrt(np.square(error).mean()),
      'repeats': np.sqrt(found.log_px.var(axis=0, ddof=1).mean()),
      'std_err': found.std_err.mean(),
      'ess': found.ess.mean(),
      'reliable': found.is_reliable.mean(),
      'seconds_per_item': seconds,
    }
    rows.append(row)
    print(
      f'{proposal:12s} {num_samples:5d} {row["bias"]:+8.3f} {row["rmse"]:7.3f} '
      f'{row["repeats"]:8.3f} {row["std_err"]:8.3f} {row["ess"]:7.1f} '
      f'{row["reliable"]:9.0%} {1e3 * seconds:8.2f}',
      flush=True,
    )
  report = {
    'run': run or 'digits, trained here',
    'device': jax.devices()[0].device_kind,
    'jax': jax.__version__,
    'items': len(images),
    'truth': {'log_px': float(exact.mean()), 'spread': float(spread)},
    'rows': [
      {k: v if isinstance(v, str) else float(v) for k, v in row.items()}
      for row in rows
    ],
  }
  path = pathlib.Path(_OUT.value)
  path.write_text(json.dumps(report, indent=1) + '\n')


if __name__ == '__main__':
  app.run(main)
