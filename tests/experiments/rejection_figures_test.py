"""The scripts of bai2022's figures, on two tiny studies."""

import json
import pathlib
import sys

import numpy as np
import pytest

EXPERIMENTS = pathlib.Path(__file__).parents[2] / 'experiments'
TINY = [
  'embedding.rejecting="pixels"', 'train.steps=4', 'train.evaluate_every=2',
  'train.num_evaluated=200', 'score.num_samples=200', 'score.num_cells=1',
  'score.num_permutations=19',
]  # fmt: skip


@pytest.fixture(scope='module')
def scripts():
  sys.path.insert(0, str(EXPERIMENTS))
  yield
  sys.path.remove(str(EXPERIMENTS))


@pytest.fixture(scope='module')
def sweep(scripts, tmp_path_factory):
  import rejection_frontier

  out = tmp_path_factory.mktemp('sweep')
  arguments = ('configs/digits_gan.py:small', str(out), ['0', '0.5d'], TINY)
  rejection_frontier.main(*arguments)
  return out, arguments


def test_frontier_has_a_row_a_threshold(sweep):
  out, _ = sweep
  rows = json.loads((out / 'frontier.json').read_text())['rows']
  assert rows[0]['threshold'] == 0.0 < rows[1]['threshold']
  for row in rows:
    for kind in ('rejecting', 'judging'):
      assert len(row[kind]['c_t_by_seed']) == 2
      low, high = row[kind]['interval']['c_t']
      assert low <= row[kind]['mean']['c_t'] <= high
  assert 'difference' in rows[1]['judging']
  assert (out / 'frontier_judging.png').exists()


def test_it_resumes_without_training(sweep, monkeypatch):
  import rejection_frontier

  monkeypatch.setattr(rejection_frontier.rejection, 'run', None)
  rejection_frontier.main(*sweep[1])


def test_other_embeddings_and_references(sweep, tmp_path):
  import rejection_references

  out, _ = sweep
  rejection_references.main(
    str(out), str(tmp_path), ['pixels'], ['test', 'train']
  )
  numbers = json.loads((tmp_path / 'numbers.json').read_text())
  rows = numbers['rejection_references']['by_embedding']['pixels']
  frontier = json.loads((out / 'frontier.json').read_text())['rows']
  # Pixels reject here, and judge: the same number by two ways.
  np.testing.assert_allclose(
    [row[1] for row in rows],
    [row['rejecting']['mean']['c_t'] for row in frontier],
  )


def test_samples_by_distance_and_maps(sweep, tmp_path):
  import rejection_maps
  import rejection_samples

  run = str(next(sweep[0].glob('threshold_0.*')))
  rejection_samples.main(run, str(tmp_path), 1, ('test', 'train'))
  rejection_maps.main(run, str(tmp_path), '', 1)
  assert (tmp_path / 'sorted_nearest_rejection.png').exists()
  assert (tmp_path / 'map_stages.png').exists()


def test_rows_are_sorted_by_distance(scripts):
  import rejection_samples

  distance = np.random.default_rng(0).permutation(200).astype(float)
  images = distance[:, None, None, None]
  rows = rejection_samples.sorted_rows(images, distance, (20, 100)).ravel()
  assert rows.tolist() == [*range(30, 40), *range(190, 200)]


pytestmark = pytest.mark.slow  # trains four tiny GANs: minutes
