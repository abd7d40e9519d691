"""What the console says while a run trains and scores."""

import logging
import types

import numpy as np
import pytest

from memjax.training import progress
from memjax.training.progress import Progress, describe_resumption


def test_no_rate_counts_a_call_that_compiles(monkeypatch, caplog):
  now = [0.0]
  clock = types.SimpleNamespace(monotonic=lambda: now[0])
  monkeypatch.setattr(progress, 'time', clock)
  line = Progress({'train': 60, 'score': 10, 'final': 10}, 3, every=5.0)

  def call(kind, seconds, units=10):
    line.start(kind, kind)
    now[0] += seconds
    line.advance(kind, units, seconds, kind)

  with caplog.at_level(logging.INFO, logger='absl'):
    call('train', 100.0)
    assert np.isnan(line.eta())
    call('train', 10.0)
    call('score', 50.0)
    call('final', 200.0, units=5)
    call('final', 10.0, units=5)
  assert caplog.messages == [
    'Compiling for train …',
    'train   1 images·models trained/s   ETA 0:01:00',
    'Compiling for score …',
    'Compiling for final …',
    'final   0.5 log p(x)/s   ETA 0:00:40',
  ]


@pytest.mark.parametrize(
  ('models', 'epoch', 'step', 'attempt', 'words'),
  [
    ([3], (2, 9), (4, 7), 0, 'model 3 of 6 goes on after epoch 2 of 9, step 4'),
    ([3], (0, 9), (4, 7), 0, 'goes on after epoch 0 of 9, step 4 of 7'),
    ([2, 5], (2, 9), (0, 7), 1, '2 of 6 models, attempt 2, goes on after'),
    ([1, 2], (9, 9), (0, 7), 0, 'models 1 to 2 of 6 was done already'),
    ([1, 2], (0, 9), (0, 7), 0, 'starts anew: there is no usable checkpoint'),
  ],
)
def test_where_a_run_goes_on(models, epoch, step, attempt, words):
  assert words in describe_resumption(np.array(models), 6, epoch, step, attempt)
