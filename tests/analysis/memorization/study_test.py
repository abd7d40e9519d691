"""What the images of a study say of its scores."""

import json

import numpy as np
import pytest

from memjax import make_folds, run_folder
from memjax.analysis.memorization import report
from memjax.analysis.memorization.analysis import analyze
from memjax.analysis.memorization.study import (
  Study,
  has_twin,
  loses_intensities,
)

REPEAT = np.repeat([0, 1], 3)


def study(images, held_out, **options):
  nothing = [None] * 3
  labels, losses, estimates = nothing
  return Study(
    'mine', np.arange(len(images)), labels, images, held_out, REPEAT, [],
    losses, estimates, 0, **options,
  )  # fmt: skip


def draw(n, channels=1):
  rng = np.random.default_rng(0)
  return rng.integers(0, 256, (n, 4, 4, channels)).astype(np.uint8)


def slow_twins(images, held_out):
  return [
    any(
      row[i] and not row[j] and (images[i] == images[j]).all()
      for j in range(len(images))
      for row in held_out
    )
    for i in range(len(images))
  ]


def test_twins_are_copies_on_the_other_side():
  images = draw(30)
  images[20:25], images[29] = images[:5], images[0]
  held_out = make_folds(30, 3, num_repeats=2)
  twin = has_twin(study(images, held_out))
  np.testing.assert_array_equal(twin, slow_twins(images, held_out))
  assert twin.sum() == 9  # of 11; one pair shares its folds
  groups = np.r_[:20, :5, 25:29, 0]
  grouped = make_folds(30, 3, num_repeats=2, groups=groups)
  assert not has_twin(study(images, grouped)).any()
  assert not has_twin(study(draw(30), held_out)).any()
  assert has_twin(study(draw(30), held_out)._replace(images=None)) is None


@pytest.mark.parametrize('same', ['all', 'every one twice'])
def test_the_report_tells_of_twins_and_of_binarization(same, tmp_path):
  images = draw(30, channels=3)
  if same == 'all':
    images[:] = images[0]
  else:
    images[15:] = images[:15]
  held_out = make_folds(30, 3, num_repeats=2)
  log_px = np.random.default_rng(0).normal(size=held_out.shape)
  analysis = analyze(
    {1: log_px}, held_out, REPEAT, estimator='mean_log', num_permutations=100,
    seed=0,
  )  # fmt: skip
  run_folder.claim(tmp_path, {'study': 'memorization'}, 'data')
  described = study(images, held_out, is_binarized=True)
  verdict = report.write(tmp_path, described, analysis)
  count = int(has_twin(described).sum())
  assert count > 20  # of 30; two that share a fold twice hide nothing
  found = json.loads((tmp_path / 'report.json').read_text())
  assert found['numbers']['num_items_with_twin'] == count
  assert found['verdict']['headline'] == verdict.headline
  page = (tmp_path / 'report.html').read_text()
  assert f'{count} of 30 items have an exact copy' in page
  assert 'each colour channel as black or white' in page
  assert 'adds to its log-probability. Chance alone: ' in page


def test_grey_images_that_are_binarized_are_told_from_black_and_white():
  held_out = make_folds(30, 3, num_repeats=2)
  grey, binary = draw(30), draw(30) // 128 * 255
  assert loses_intensities(study(grey, held_out, is_binarized=True))
  assert not loses_intensities(study(grey, held_out))
  assert not loses_intensities(study(binary, held_out, is_binarized=True))
