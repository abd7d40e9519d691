"""Nearest-neighbour ratio against memorization score: Figures 5, 12, 13.

  python experiments/ratio_figures.py --run=FOLDER --out=FOLDER

ρ = distance of a training item to the nearest test item over that to the
nearest sample, by eq. (6). As in the paper: images at half size, the official
test set, equally many samples, which are decoder means of the study's model of
all items. The reader should see: the mean ρ over bins of the score, correct and
as the published script computes it (from the first item of each block of 256);
and how little the 5 % highest scores differ in ρ from the others.
"""

import numpy as np
import outlier_drawing
import ratio_drawing
import scipy.stats
import study_folder
from absl import app, flags

from memjax import stats
from memjax.scores.distance_ratio import distance_ratio

_FEWEST = 10  # items in a bin that is drawn


def half_size(images: np.ndarray) -> np.ndarray:
  """Means of 2 × 2 pixels; a last odd row or column is dropped."""
  n, height, width, channels = images.shape
  h, w = height // 2, width // 2
  even = images[:, : 2 * h, : 2 * w].reshape(n, h, 2, w, 2, channels)
  return even.mean(axis=(2, 4))


def rank_correlation(pairs: np.ndarray) -> float:
  """Spearman's, of [n, 2]; 0 where one is constant."""
  both = np.ptp(pairs, axis=0) > 0
  return scipy.stats.spearmanr(*pairs.T).statistic if both.all() else 0.0


def measure(score: np.ndarray, rho: np.ndarray) -> dict:
  """Rank correlation with a bootstrap interval, and what bins say."""
  is_finite, is_high = np.isfinite(rho), score > np.quantile(score, 0.95)
  pairs = np.stack([score, rho], axis=1)
  options = {'method': 'percentile', 'num_resamples': 499}
  low, high = stats.bootstrap_interval(rank_correlation, pairs, **options)
  edges, place = outlier_drawing.bins_of(score)
  inside = [is_finite & (place == k) for k in range(len(edges) - 1)]
  use = [k for k, rows in enumerate(inside) if rows.sum() >= _FEWEST]
  of_bins = [rho[inside[k]] for k in use]
  return {
    'rank_correlation': {
      'estimate': rank_correlation(pairs), 'low': low, 'high': high,
    },
    'median': np.median(rho),
    'median_of_top_5_percent': np.median(rho[is_high]),
    'median_of_others': np.median(rho[~is_high]),
    'share_above_1': outlier_drawing.proportion((rho > 1).sum(), rho.size),
    'num_infinite': int((~is_finite).sum()),
    'bin_middle': ((edges[1:] + edges[:-1]) / 2)[use],
    'bin_mean': [values.mean() for values in of_bins],
    'bin_half_width': [1.96 * scipy.stats.sem(values) for values in of_bins],
    'bin_count': [len(values) for values in of_bins],
  }  # fmt: skip


def main(run: str, out: str) -> None:
  """Draws both, and compares the two ways to compute ρ."""
  study = study_folder.read_run(run)
  items, score = study_folder.load_items(study), study.scores['score']
  test = study_folder.load_items(
    study, study.config['full']['test_split']
  ).images
  samples = study_folder.draw_samples(study, items.images.shape[1:], len(test))
  sets = (
    half_size(items.images / 255),
    half_size(test / 255),
    half_size(samples),
  )
  rho, script = (distance_ratio(*sets, as_published=k) for k in (False, True))
  correct, published = measure(score, rho), measure(score, script)
  correct['num_test'] = correct['num_samples'] = len(test)
  published['rank_correlation_with_correct'] = rank_correlation(
    np.stack([rho, script], axis=1)
  )
  study_folder.keep(
    out,
    'ratio_figures',
    {
      'ratio_by_score': ratio_drawing.draw_bins(correct, published),
      'ratio_distribution': ratio_drawing.draw_distribution(
        score, rho, correct
      ),
    },
    {'ratio_by_score': correct, 'ratio_as_published': published},
    run=run,
  )


if __name__ == '__main__':
  _RUN = flags.DEFINE_string('run', None, 'A study.', required=True)
  _OUT = flags.DEFINE_string('out', None, 'For pictures.', required=True)
  app.run(lambda _: main(_RUN.value, _OUT.value))
