"""The sanity suite: the changes are what they say, and metrics react."""

import json
import pathlib

import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver

import memjax

EXPERIMENTS = pathlib.Path(__file__).parents[2] / 'experiments'


@pytest.fixture(scope='module')
def suite():
  with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(str(EXPERIMENTS))
    import sanity_suite
  yield sanity_suite
  # Its flags are global; another script may name one alike.
  for name in ('out', 'draws', 'size', 'dimensions'):
    delattr(flags.FLAGS, name)


def draw(suite, case, dimension=6, seed=0, size=300):
  with flagsaver.flagsaver(size=size):
    return suite.draw(case, dimension, np.random.default_rng(seed))


def test_changes_are_what_they_say(suite):
  train, test, honest = draw(suite, 'honest')
  assert train.shape == test.shape == honest.shape == (300, 6)
  sets = {case: draw(suite, case)[2] for case in suite.CASES}
  np.testing.assert_allclose(sets['shifted by 0.3'] - honest, 0.3)
  spread = lambda x: x.std(axis=0)
  np.testing.assert_allclose(
    spread(sets['scaled by 0.8']), 0.8 * spread(honest)
  )
  copied = lambda x: np.isin(x[:, 0], train[:, 0]).sum()
  assert copied(sets['copies 20 %']) == 60
  assert copied(sets['copies 100 %']) == 300
  near = np.linalg.norm(
    sets['near-copies 20 %'][:60, None] - train[None], axis=2
  ).min(axis=1)
  assert near.mean() == pytest.approx(0.1 * np.sqrt(6), rel=0.15)
  moved = lambda x: (np.abs(x - honest).max(axis=1) > 1e-9).sum()
  assert moved(sets['a mode invented']) == 60
  assert 40 < moved(sets['a mode dropped']) < 110
  assert memjax.precision_recall(train, sets['a mode dropped']).coverage < (
    memjax.precision_recall(train, honest).coverage - 0.1
  )


def test_metrics_react_as_they_should(suite):
  """Against three honest draws: what must move does, and its direction."""
  with flagsaver.flagsaver(size=150):
    of = lambda case, seeds: [
      suite.measure(*suite.draw(case, 8, np.random.default_rng(seed)), seed)
      for seed in seeds
    ]
    honest = of('honest', range(3))
    row = lambda case: dict(
      zip(
        (*suite.METRICS, 'copying_test'),
        map(float, suite.reactions(of(case, [7]), honest)),
        strict=True,
      )
    )
    copies, shrunk, still = map(row, ('copies 100 %', 'modes shrunk', 'honest'))
  assert copies['FLD'] > 100
  assert copies['FLD gap'] < -100
  for name in ('gap ratio', 'DCR share', 'attack AUROC'):
    assert copies[name] > 5, name
  for name in ('MiFID distance', 'C_T', 'authenticity'):
    assert copies[name] < -3, name
  assert copies['copying_test'] == 1
  assert shrunk['copying_test'] == still['copying_test'] == 0
  assert shrunk['C_T'] < -3  # which is no copying
  assert shrunk['FLD'] < 0


def test_it_resumes_and_prints_a_table(suite, tmp_path, capsys):
  out = tmp_path / 'results.json'
  done = {
    f'{case}, d = {d}': [[0.1 * k] * (len(suite.METRICS) + 1)
                         for k in range(6 if case == 'honest' else 2)]
    for case in suite.CASES for d in (2, 16)
  }  # fmt: skip
  out.write_text(json.dumps(done))
  with flagsaver.flagsaver(out=str(out), draws=2, dimensions=['2', '16']):
    suite.main([])
  assert json.loads(out.read_text()) == done
  lines = capsys.readouterr().out.splitlines()
  assert lines[0].startswith('| case | kernel distance |')
  assert len(lines) == 2 + 2 * len(suite.CASES)
  assert {line.count('|') for line in lines} == {len(suite.METRICS) + 3}
