"""What a finished study memorized: Figures 2–4, 7–11 of the first paper.

  python experiments/score_figures.py --run=FOLDER --out=FOLDER

The reader should see: scores beside what chance gives (4c); losses above score
quantiles, and which comes first (4a, 4b); the items with the lowest, middle and
highest scores (2, 7–9); and that many highly memorized items are no outliers
(3, 10, 11). Prints the numbers, and keeps them in numbers.json.
"""

import epoch_drawing
import numpy as np
import outlier_drawing
import study_folder
from absl import app, flags

from memjax.analysis import drawing
from memjax.analysis.memorization import figures
from memjax.analysis.page import format_number

_SHOWN = 15


def three_ends(score: np.ndarray) -> dict[str, np.ndarray]:
  """The items with the lowest, the middle and the highest scores, in order."""
  order = np.argsort(score, stable=True)
  count = min(_SHOWN, len(order))
  start = (len(order) - count) // 2
  middle = order[start : start + count]
  return {'low': order[:count], 'median': middle, 'high': order[-count:]}


def main(run: str, out: str) -> None:
  """Draws everything."""
  study = study_folder.read_run(run)
  found, items = study.scores, study_folder.load_items(study)
  score, q_value = found['score'], found['q_value']
  pictures, numbers = {}, {}

  name = 'score_distribution'
  null = found['null']
  pictures[name] = figures.score_distribution(score, null, q_value=q_value)
  numbers[name] = {
    'estimator': study.config['score']['estimator'],
    'median': np.median(score),
    'mean': score.mean(),
    'quantile_0.95': np.quantile(score, 0.95),
    'null_quantile_0.95': drawing.mean_quantile(null, 0.95),
    'min': score.min(),
    'max': score.max(),
    'published_median': np.median(found['published']),
    'published_max': found['published'].max(),
    'num_found': int((q_value <= 0.05).sum()),
  }

  name, estimator = 'losses_and_scores', study.config['score']['estimator']
  log_px = {e: study_folder.read_log_px(study, e) for e in found['epochs']}
  design = *study.design.values(), study.groups
  followed = epoch_drawing.follow(log_px, *design, estimator)
  epochs, repeat, *losses = study_folder.read_losses(
    study.folder, study.is_kept
  )
  compared = epoch_drawing.compare_losses(epochs, repeat, *losses)
  losses = (epochs, *losses)
  pictures[name] = epoch_drawing.draw(losses, compared, followed)
  numbers[name] = epoch_drawing.numbers(compared, followed)

  for kind, rows in three_ends(score).items():
    ends = ' to '.join(format_number(score[k]) for k in rows[[0, -1]])
    name, title = f'items_{kind}', f'{kind} scores: {ends} nats'.capitalize()
    captions = [format_number(value) for value in score[rows]]
    grid = figures.item_grid(
      items.images[rows], captions, columns=5, title=title
    )
    pictures[name] = grid
    numbers[name] = {'ids': items.ids[rows], 'score': score[rows]}

  name = 'score_against_log_prob'
  pair = found['log_px_in'], score
  pictures[name] = figures.score_against_log_prob(*pair, q_value=q_value)
  name = 'outliers'
  numbers[name] = outlier_drawing.measure(
    score, found['log_px_in'], found['log_px_out'], q_value
  )
  pictures[name] = outlier_drawing.draw(
    score, found['log_px_in'], items.images, numbers[name]
  )
  study_folder.keep(out, 'score_figures', pictures, numbers, run=run)


if __name__ == '__main__':
  _RUN = flags.DEFINE_string('run', None, 'A study.', required=True)
  _OUT = flags.DEFINE_string('out', None, 'For pictures.', required=True)
  app.run(lambda _: main(_RUN.value, _OUT.value))
