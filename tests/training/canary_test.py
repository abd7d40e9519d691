import numpy as np
import pytest

from memjax.data.synthetic import Injection, draw_points
from memjax.scores.kind_references import KINDS, count_repeats, mark_kinds
from memjax.training.canary import (
  CanaryCounts,
  canaries_are_memorized,
  stop_at_canaries,
)


def test_sign_test_by_hand():
  # P(X ≥ 7 | 7, ½) = 1/128; P(X ≥ 6 | 6, ½) = 1/64.
  assert canaries_are_memorized(CanaryCounts(7, 0))
  assert not canaries_are_memorized(CanaryCounts(6, 0))
  assert canaries_are_memorized(CanaryCounts(6, 0), level=0.02)
  assert not canaries_are_memorized(CanaryCounts(0, 0))
  assert not canaries_are_memorized(CanaryCounts(0, 50))


def test_false_alarms_are_as_rare_as_the_level_says():
  """Samples of the process itself: counted as a study counts them."""
  injection = Injection(num_outliers=20, outlier_direction=0.0)
  draw = lambda repeat: draw_points(
    'line', 40, injection, seed=0, repeat=repeat
  )
  samples = np.stack([draw(1000 + r).train.points for r in range(400)])
  marked = [[mark_kinds(draw(r), 'with_outliers', seed=r)] for r in range(400)]
  counts = count_repeats(samples, marked, (1.5,))
  at = (slice(None), 0, 0, KINDS.index('outlier'))
  pairs = np.stack([counts['copied'][at], counts['swapped_copied'][at]], axis=1)
  assert pairs.mean() > 3  # there is something to alarm
  alarms = [
    canaries_are_memorized(CanaryCounts(*map(int, pair)), level=0.05)
    for pair in pairs
  ]
  assert np.mean(alarms) <= 0.05


def test_stops_before_the_inliers_pass_a_level():
  """Canaries that rise with the inliers are noticed long before them."""
  inlier_excess = lambda step: max(0.0, (step - 100) / 1000)
  rng = np.random.default_rng(0)

  def count(step, state):
    # 200 canaries over all repeats, memorized at the inliers' pace.
    chance = 0.1
    rate = chance + inlier_excess(step)
    return CanaryCounts(
      int(rng.binomial(200, rate)), int(rng.binomial(200, chance))
    )

  visit = stop_at_canaries(count, level=1e-3)
  stopped = next(step for step in range(0, 1000, 10) if visit(step, None))
  assert stopped > 100  # nothing was memorized before
  assert inlier_excess(stopped) < 0.2


@pytest.mark.parametrize(
  ('counts', 'level', 'message'),
  [
    ((-1, 0), 0.01, r'copied=-1: expected an integer 0 or more'),
    ((1, 0.5), 0.01, r'control=0.5'),
    ((1, 1), 0.0, r'level=0.0: expected a number in \(0.0, 1.0\)'),
  ],
)
def test_bad_values(counts, level, message):
  with pytest.raises(ValueError, match=message):
    canaries_are_memorized(CanaryCounts(*counts), level=level)
  if level == 0:
    with pytest.raises(ValueError, match=message):
      stop_at_canaries(lambda step, state: CanaryCounts(0, 0), level=level)
