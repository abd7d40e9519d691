"""Z_U and precision/recall in memjax against scikit-learn and prdc.

  pip install -e '.[bench]' && python benchmarks/neighbors.py

Both sides run in turn on the same data, on an idle machine; results must agree.
Printed are medians of seconds and of ratios, and the share of the machine's
measured float32 matrix-product peak that memjax reaches, counting 2·q·r·d
operations for each distance matrix that the definition needs. Writes
`benchmarks/neighbors.json`.
"""

import contextlib
import io
import json
import pathlib
import platform
import statistics
import time
from collections.abc import Callable

import jax
import numpy as np
import prdc
import scipy.stats
import sklearn
from absl import app, flags
from sklearn.neighbors import NearestNeighbors

import memjax
from memjax.distances import exact_neighbors
from memjax.scores.cells import rank_z

_PAIRS = flags.DEFINE_integer('pairs', 3, 'Repetitions of each pair.')
_SCALE = flags.DEFINE_float('scale', 1.0, 'Of all sizes, for a quick look.')


def z_u(train, test, generated) -> float:
  """Z_U by memjax."""
  near = lambda x: exact_neighbors(x, train).distance[:, 0]
  pooled = near(np.concatenate([test, generated]))
  return rank_z(pooled[: len(test)], pooled[len(test) :])


def z_u_of_sklearn(train, test, generated) -> float:
  """Z_U by scikit-learn's brute-force search and SciPy's rank test."""
  index = NearestNeighbors(n_neighbors=1, algorithm='brute').fit(train)
  d_test, d_generated = (
    index.kneighbors(x)[0][:, 0] for x in (test, generated)
  )
  u = scipy.stats.mannwhitneyu(d_generated, d_test).statistic
  m, n = len(generated), len(test)
  return (u - (n * m / 2 - 0.5)) / np.sqrt(n * m * (n + m + 1) / 12)


def prdc_of_prdc(real, generated) -> tuple[float, ...]:
  """The four numbers by prdc 0.2, which prints its progress."""
  with contextlib.redirect_stdout(io.StringIO()):
    found = prdc.compute_prdc(real, generated, nearest_k=5)
  return tuple(
    float(found[k]) for k in ('precision', 'recall', 'density', 'coverage')
  )


def peak() -> float:
  """Operations a second of a float32 matrix product."""
  a = jax.random.normal(jax.random.key(0), (2048, 2048))
  product = jax.jit(lambda a: a @ a)
  product(a).block_until_ready()
  seconds = []
  for _ in range(5):
    begin = time.perf_counter()
    product(a).block_until_ready()
    seconds.append(time.perf_counter() - begin)
  return 2 * 2048**3 / min(seconds)


def compare(
  name: str, ours: Callable, theirs: Callable, flops: float, top: float
) -> dict[str, object]:
  """Medians of alternating pairs."""
  np.testing.assert_allclose(ours(), theirs(), rtol=1e-3)  # compiles, too
  seconds = []
  for _ in range(_PAIRS.value):
    pair = []
    for run in (ours, theirs):
      begin = time.perf_counter()
      run()
      pair.append(time.perf_counter() - begin)
    seconds.append(pair)
  own, other = (
    statistics.median(column) for column in zip(*seconds, strict=True)
  )
  ratios = [b / a for a, b in seconds]
  row = {
    'name': name,
    'memjax_seconds': own,
    'peer_seconds': other,
    'ratio': statistics.median(ratios),
    'ratio_range': [min(ratios), max(ratios)],
    'share_of_peak': flops / own / top,
    'floor_seconds': flops / top,
  }
  print(
    f'{name:40s} memjax {own:7.2f} s   peer {other:7.2f} s   ratio '
    f'{row["ratio"]:.2f}   {row["share_of_peak"]:.0%} of peak',
    flush=True,
  )
  return row


def main(_) -> None:
  """Runs both comparisons."""
  rng = np.random.default_rng(0)
  top = peak()
  size = lambda n: round(n * _SCALE.value)
  train = rng.normal(size=(size(50_000), 64))
  test, generated = rng.normal(size=(2, size(10_000), 64))
  real, fake = rng.normal(size=(2, size(10_000), 1000))
  rows = [
    compare(
      'Z_U, 50k train, 10k test, 10k generated',
      lambda: z_u(train, test, generated),
      lambda: z_u_of_sklearn(train, test, generated),
      2 * len(train) * 2 * len(test) * 64,
      top,
    ),
    compare(
      'precision … coverage, 10k × 10k × 1000',
      lambda: tuple(memjax.precision_recall(real, fake)),
      lambda: prdc_of_prdc(real, fake),
      3 * 2 * len(real) * len(fake) * 1000,
      top,
    ),
  ]
  report = {
    'machine': {
      'processor': platform.processor() or platform.machine(),
      'gflop_per_second': top / 1e9,
      'jax': jax.__version__,
      'sklearn': sklearn.__version__,
      'prdc': '0.2',
    },
    'scale': _SCALE.value,
    'rows': rows,
  }
  path = pathlib.Path(__file__).with_suffix('.json')
  path.write_text(json.dumps(report, indent=1) + '\n')


if __name__ == '__main__':
  app.run(main)
