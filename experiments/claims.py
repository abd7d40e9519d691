"""The first paper's claims on MNIST, beside the numbers of a finished study.

  python experiments/claims.py --run=FOLDER --out=FOLDER

Run score_figures.py, estimator_figures.py and ratio_figures.py with the same
folders before: it reads their numbers, adds the scores by each estimator with
what chance alone gives, and prints the tables of experiments/README.md. The
reader should see how much of the published score is chance, how much is the
estimator of log p(x), and how much is memorization.
"""

import json
import pathlib
from typing import Any

import numpy as np
import scipy.stats
import study_folder
from absl import app, flags

from memjax import stats
from memjax.scores.memorization import memorization_score
from memjax.scores.memorization_null import null_scores

_PERMUTATIONS = 20
_PROPOSALS = {'encoder': 'encoder_log_px', 'accurate': 'log_px'}
_ESTIMATORS = ('log_mean_exp', 'mean_log')
_SUMMARIES = ('median', 'mean', 'quantile_0.95', 'max')
_PARTS = ('published_median', 'chance', 'estimator', 'memorization')
_ENDS = ('estimate', 'low', 'high')


def summarize(score: np.ndarray) -> np.ndarray:
  """Median, mean, 0.95 quantile and maximum over the items, [..., 4]."""
  parts = np.quantile(score, (0.5, 0.95), axis=-1)
  ends = score.mean(axis=-1), parts[1], score.max(axis=-1)
  return np.stack([parts[0], *ends], axis=-1)


def half_width(function, held_out: np.ndarray) -> np.ndarray:
  """Half a 95 % interval of numbers made of items: jackknife over folds.

  Items of a fold share the model that held them out. What all models share,
  such as the data and the settings, is not in the interval.

  Args:
    function: rows of items, bool [n] -> numbers.
    held_out: bool [m, n].
  """
  # Of the first repeat; those who held items out in another are other models.
  fold = held_out.argmax(axis=0)
  without = np.stack([function(fold != k) for k in np.unique(fold)])
  reach = scipy.stats.t.ppf(0.975, len(without) - 1)
  return reach * stats.jackknife(without)


def measure(log_px: np.ndarray, study, estimator: str):
  """Numbers of a score, its values [n], and its null [P, n]."""
  options = {**study.design, 'estimator': estimator}
  score = memorization_score(log_px, **options).score
  null = null_scores(
    log_px,
    **options,
    groups=study.groups,
    seed=study.config['seed'],
    num_permutations=_PERMUTATIONS,
  )
  value, chance = summarize(score), summarize(null).mean(axis=0)
  half = half_width(lambda rows: summarize(score[rows]), study.held_out)
  half[_SUMMARIES.index('max')] = np.nan  # no jackknife is right for it
  table = {'value': value, 'low': value - half, 'high': value + half}
  numbers = {
    name: dict(zip(_SUMMARIES, row, strict=True))
    for name, row in {**table, 'chance': chance}.items()
  }
  return numbers, score, null


def split_median(scores, nulls, held_out: np.ndarray) -> dict[str, Any]:
  """The published median as chance + the estimator's part + the rest.

  What is left by the accurate estimator above its own chance is memorization,
  as far as that estimator is right; what the encoder's adds to that is the
  estimator's part. Medians do not add up exactly over items, so this splits the
  median, not a median item.

  Args:
    scores: by log-mean-exp, [n], by proposal.
    nulls: theirs, [P, n].
    held_out: bool [m, n].
  """

  def split(rows) -> np.ndarray:
    value, chance = (
      {k: np.median(v[..., rows], axis=-1).mean() for k, v in part.items()}
      for part in (scores, nulls)
    )
    encoder, accurate = (value[k] - chance[k] for k in _PROPOSALS)
    parts = chance['encoder'], encoder - accurate, accurate
    return np.array([value['encoder'], *parts])

  estimate = split(slice(None))
  half = half_width(split, held_out)
  rows = zip(estimate, estimate - half, estimate + half, strict=True)
  return {
    name: dict(zip(_ENDS, row, strict=True))
    for name, row in zip(_PARTS, rows, strict=True)
  }


def table(found: dict[str, Any]) -> str:
  """Scores by proposal and estimator, ± half an interval; and by chance."""
  lines = [
    '| log p(x) by | score by | median | mean | 0.95 quantile | maximum |'
  ]
  lines.append('|---|---|---|---|---|---|')
  for proposal in _PROPOSALS:
    for estimator in _ESTIMATORS:
      row = found[proposal][estimator]
      cells = [_cell(row, k) for k in _SUMMARIES]
      lines.append(f'| {proposal} | {estimator} | {" | ".join(cells)} |')
  return '\n'.join(lines)


def _cell(row: dict[str, Any], name: str) -> str:
  half = row['high'][name] - row['value'][name]
  error = f' ± {half:.2f}' if np.isfinite(half) else ''
  return f'{row["value"][name]:.2f}{error}; {row["chance"][name]:.2f}'


def say_claims(numbers: dict[str, Any]) -> str:
  """What other scripts found, a line a claim; what is missing is named."""
  lines = []
  outliers = numbers.get('score_figures', {}).get('outliers')
  if outliers:
    for name in filter(lambda name: name.startswith('share_of'), outliers):
      share = outliers[name]
      lines.append(f'{name}: ' + _interval(share))
    rows = zip(outliers['edges'], outliers['proportion'], strict=False)
    bins = [f'from {edge:g}: {_interval(share)}' for edge, share in rows]
    lines.append('proportions by bin of log p: ' + '; '.join(bins))
  epochs = numbers.get('score_figures', {}).get('losses_and_scores')
  if epochs:
    lines.append(
      f'summaries leave their null at epoch: {epochs["leaves_null"]}'
    )
    lines.append(f'the gap of the loss opens in epoch: {epochs["opens"]}')
    crossing = epochs['opens_as_published']
    lines.append(f'the curves as published cross in epoch: {crossing}')
  ratios = numbers.get('ratio_figures', {})
  for name, row in ratios.items():
    found = row['rank_correlation']
    lines.append(f'{name}, rank correlation with the score: {_interval(found)}')
  missing = {'score_figures', 'ratio_figures', 'estimator_figures'} - {*numbers}
  lines += [f'run {name}.py first' for name in sorted(missing)]
  return '\n'.join(lines)


def _interval(found: dict[str, Any]) -> str:
  ends = [found[k] for k in _ENDS]
  if any(end is None for end in ends):
    return 'none'
  return '{:.3f} ({:.3f} to {:.3f})'.format(*ends)


def main(run: str, out: str) -> None:
  """Prints the tables, and keeps the numbers."""
  study = study_folder.read_run(run)
  epoch = int(study.scores['epochs'].max())
  found: dict[str, Any] = {proposal: {} for proposal in _PROPOSALS}
  scores, nulls = {}, {}
  for proposal, name in _PROPOSALS.items():
    log_px = study_folder.read_log_px(study, epoch, name)
    for estimator in reversed(_ESTIMATORS):
      found[proposal][estimator], scores[proposal], nulls[proposal] = measure(
        log_px, study, estimator
      )
  # What is left in both is of log-mean-exp, the published score.
  found['split'] = split_median(scores, nulls, study.held_out)
  study_folder.keep(out, 'claims', {}, found, run=run)
  print(table(found))
  for name, part in found['split'].items():
    print(f'{name}: {_interval(part)} nats')
  path = pathlib.Path(out) / 'numbers.json'
  print(say_claims(json.loads(path.read_text())))


if __name__ == '__main__':
  _RUN = flags.DEFINE_string('run', None, 'A study.', required=True)
  _OUT = flags.DEFINE_string('out', None, 'For results.', required=True)
  app.run(lambda _: main(_RUN.value, _OUT.value))
