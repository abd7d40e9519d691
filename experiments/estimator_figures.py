"""How much of the published score is the estimator of log p?

  python experiments/estimator_figures.py --run=FOLDER --out=FOLDER

Needs `encoder_log_px` beside `log_px` in the last epoch's arrays: log p of the
same models by the paper's proposal and by an accurate one. With means of log p
the score is linear in log p, so that published score = accurate score +
estimator's part, item by item, and each part has its own null. The reader
should see: which share of the mean and of the tail is memorization.
"""

import estimator_drawing
import numpy as np
import scipy.stats
import study_folder
from absl import app, flags

from memjax import stats
from memjax.scores.memorization import memorization_score
from memjax.scores.memorization_null import memorization_test, null_scores

_LINEAR = {'estimator': 'mean_log'}
_ENDS = ('estimate', 'low', 'high')
_SUMMARIES = ('mean', 'quantile_0.95', 'max')


def summarize(score: np.ndarray, top: int) -> np.ndarray:
  """Mean, 0.95 quantile, and the score of one item, the highest of all."""
  return np.array([np.nanmean(score), np.nanquantile(score, 0.95), score[top]])


def score_of(log_px, held_out, repeat) -> np.ndarray:
  """Scores [n]; NaN for items that these models do not score."""
  score = np.full(held_out.shape[1], np.nan)
  known = held_out.any(axis=0) & ~held_out.all(axis=0)
  given = log_px[:, known], held_out[:, known]
  score[known] = memorization_score(*given, repeat=repeat, **_LINEAR).score
  return score


def intervals(log_px, held_out, repeat) -> dict[str, dict[str, float]]:
  """Each summary with its 95 % jackknife t-interval over repeats.

  The maximum's is that of one item, and not corrected for picking it.
  """
  score = score_of(log_px, held_out, repeat)
  top = int(np.argmax(score))
  value, half, repeats = summarize(score, top), np.nan, np.unique(repeat)
  if len(repeats) > 1:
    rest = (
      [a[repeat != r] for a in (log_px, held_out, repeat)] for r in repeats
    )
    without = [summarize(score_of(*arrays), top) for arrays in rest]
    reach = scipy.stats.t.ppf(0.975, len(repeats) - 1)
    half = reach * stats.jackknife(np.stack(without))
  rows = zip(value, value - half, value + half, strict=True)
  named = [dict(zip(_ENDS, row, strict=True)) for row in rows]
  return dict(zip(_SUMMARIES, named, strict=True))


def measure(log_px, study) -> tuple[dict, np.ndarray, np.ndarray]:
  """Numbers of a part, its scores [n], and scores of its null [P, n]."""
  options = {**study.design, **_LINEAR, 'groups': study.groups}
  options['seed'] = study.config['seed']
  count = study.config['score']['num_permutations']
  test = memorization_test(log_px, num_permutations=count, **options)
  null = null_scores(log_px, num_permutations=20, **options)
  numbers = {
    **intervals(log_px, **study.design),
    'null_quantile_0.95': np.quantile(null, 0.95, axis=1).mean(),
    'p_of_mean': test.global_p_value[0],
    'p_of_quantile_0.95': test.global_p_value[1],
    'num_found': int((test.q_value <= 0.05).sum()),
  }
  return numbers, score_of(log_px, **study.design), null


def main(run: str, out: str) -> None:
  """Draws both scores and their difference; prints a table."""
  study = study_folder.read_run(run)
  epoch = int(study.scores['epochs'].max())
  published = study_folder.read_log_px(study, epoch, 'encoder_log_px')
  accurate = study_folder.read_log_px(study, epoch)
  parts = {'published': published, 'accurate': accurate}
  parts['estimator'] = published - accurate
  found = {k: measure(v, study) for k, v in parts.items()}
  numbers, scores, nulls = (
    {name: row[k] for name, row in found.items()} for k in range(3)
  )
  pair = scores['published'], scores['accurate']
  rank = scipy.stats.spearmanr(*pair).statistic
  numbers['rank_correlation_of_the_scores'] = {'estimate': rank}
  pictures = {
    'estimator_scatter': estimator_drawing.draw_scatter(scores, numbers),
    'estimator_parts': estimator_drawing.draw_parts(scores, nulls, numbers),
  }
  study_folder.keep(out, 'estimator_figures', pictures, numbers, run=run)
  print(estimator_drawing.table(numbers))


if __name__ == '__main__':
  _RUN = flags.DEFINE_string('run', None, 'A study.', required=True)
  _OUT = flags.DEFINE_string('out', None, 'For pictures.', required=True)
  app.run(lambda _: main(_RUN.value, _OUT.value))
