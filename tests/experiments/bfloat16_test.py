"""The comparison of training precisions, on made-up scores and a tiny run."""

import importlib
import json
import pathlib
import sys

import numpy as np
import pytest

EXPERIMENTS = pathlib.Path(__file__).parents[2] / 'experiments'


@pytest.fixture
def script(monkeypatch):
  monkeypatch.syspath_prepend(str(EXPERIMENTS))
  before = set(sys.modules)
  yield importlib.import_module('bfloat16')
  for name in set(sys.modules) - before:
    if (EXPERIMENTS / f'{name}.py').exists():
      del sys.modules[name]


def test_compare_says_how_scores_moved(script):
  score = np.array([0.0, 1.0, 2.0, 3.0])
  found = script.compare(score, np.array([0.5, 1.5, 4.0, 3.0]))
  assert found['mean_score'] == 2.25
  assert found['mean_change'] == 0.75  # of 0.5, 0.5, 2 and 0
  assert np.isclose(found['rms_change'], np.sqrt((0.25 + 0.25 + 4) / 4))
  assert np.isclose(found['std_err_over_items'], np.sqrt(2.25 / 3) / 2)
  assert np.isclose(found['rank_correlation'], 0.8)  # one swap: 1 − 6·2/60


@pytest.mark.slow
def test_a_tiny_study_leaves_numbers_and_a_picture(script, tmp_path):
  script.main(str(tmp_path), 'digits', 2, 60, 2)
  assert (tmp_path / 'bfloat16.png').read_bytes().startswith(b'\x89PNG')
  found = json.loads((tmp_path / 'numbers.json').read_text())['bfloat16']
  assert found['design']['items'] == 60
  # Another precision is a small change of the same run, another seed is not.
  low, seed = found['bfloat16'], found['another seed']
  assert 0 < low['rms_change'] < seed['rms_change']
