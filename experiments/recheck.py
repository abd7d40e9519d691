"""Are the highest scores right? Their unreliable log p anew, with many samples.

  python experiments/recheck.py --run=FOLDER --out=FOLDER

An estimate of log p(x) that hangs on few samples is likely too low, and most so
for items that a model has not seen: that adds to the score of just those items
that seem memorized most. Each estimate of an item scoring above `--above` whose
Pareto k̂ was bad is made anew with `--samples` draws of the variational proposal
under the same model; then scores and q are computed again. The reader should
see how much of the highest scores stays, and how many estimates stay bad.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import study_folder
from absl import app, flags

from memjax.analysis import drawing
from memjax.data import transforms
from memjax.evaluate import make_rescore_items
from memjax.scores.memorization import memorization_score
from memjax.scores.memorization_null import memorization_test
from memjax.training.programs import score_key

_BINS = (5.0, 10.0, 20.0, 40.0, np.inf)
_AT_ONCE = 8


def rescore(study: study_folder.Run, is_bad: np.ndarray, num_samples: int):
  """(log_px, is_reliable) of the estimates marked in `is_bad` [m, n]."""
  items = study_folder.load_items(study)
  model = study_folder.make_model(study, items.images.shape[1:])
  anew = jax.jit(
    make_rescore_items(
      model,
      getattr(transforms, study.config['transform'])(),
      num_samples=num_samples,
      proposal='variational',
    )
  )
  log_px, is_reliable = np.zeros(is_bad.shape), np.zeros(is_bad.shape, bool)
  images = jnp.asarray(items.images)
  ids = jnp.asarray(items.ids.astype(np.uint32))
  rounds = len(study.config['score']['escalation']) + 1  # other noise
  models = study_folder.load_fold_models(study, model)
  for k, variables in enumerate(models):
    key = score_key(study.config['seed'], int(study.repeat[k]))
    rows = np.flatnonzero(is_bad[k])
    for begin in range(0, len(rows), _AT_ONCE):
      part = rows[begin : begin + _AT_ONCE]
      padded = np.pad(part, (0, _AT_ONCE - len(part)), constant_values=-1)
      found = anew(variables, images, ids, jnp.asarray(padded), key, rounds)
      log_px[k, part] = np.asarray(found.log_px)[: len(part)]
      is_reliable[k, part] = np.asarray(found.is_reliable)[: len(part)]
    print(f'model {k + 1} of {len(models)}: {len(rows)} anew', flush=True)
  return log_px, is_reliable


def share_bad(study, is_reliable, rows) -> float:
  """Of the held-out estimates of some items, those that are not reliable."""
  return float((~is_reliable)[:, rows][study.held_out[:, rows]].mean())


def compare(study, before, after) -> dict:
  """By bin of the score before: what stays, and what is still bad."""
  (old, old_reliable), (new, new_reliable) = before, after
  bins = []
  for low, high in itertools.pairwise(_BINS):
    rows = (old > low) & (old <= high)
    if not rows.any():
      continue
    bins.append({
      'above': low, 'num_items': int(rows.sum()),
      'mean_before': old[rows].mean(), 'mean_after': new[rows].mean(),
      'bad_held_out_before': share_bad(study, old_reliable, rows),
      'bad_held_out_after': share_bad(study, new_reliable, rows),
    })  # fmt: skip
  is_sure = (new_reliable | ~study.held_out).all(axis=0)
  top = np.argsort(-old)[:15]
  return {
    'bins': bins,
    'max_before': old.max(), 'max_after': new.max(),
    'max_after_with_held_out_reliable': new[is_sure].max(),
    'top': [
      {'id': int(study.scores['ids'][i]), 'before': old[i], 'after': new[i],
       'held_out_reliable': bool(is_sure[i])}
      for i in top
    ],
  }  # fmt: skip


def draw(old, new, is_sure) -> drawing.Figure:
  """Score after against score before."""
  figure, (ax,) = drawing.start(
    4.4,
    'The highest scores, with their unreliable log p estimated anew',
    'dashed: no change; open: the held-out estimate is still unreliable',
  )
  for rows, face, name in (
    (is_sure, drawing.BLUE, 'reliable when held out'),
    (~is_sure, 'none', 'still unreliable'),
  ):
    ax.scatter(old[rows], new[rows], s=10, facecolors=face,
               edgecolors=drawing.BLUE, lw=0.6, label=name)  # fmt: skip
  ends = [min(old.min(), new.min()), old.max()]
  ax.plot(ends, ends, color=drawing.INK, lw=1, ls=drawing.DASHED)
  ax.set(xlabel='score before (nats)', ylabel='score after (nats)')
  return drawing.finish(figure)


def main(run: str, out: str, above: float, num_samples: int) -> None:
  """Estimates anew, compares and draws."""
  study = study_folder.read_run(run)
  epoch = int(study.scores['epochs'].max())
  log_px = study_folder.read_log_px(study, epoch)
  reliable = study_folder.read_log_px(study, epoch, 'is_reliable').astype(bool)
  options = {**study.design, 'estimator': study.config['score']['estimator']}
  old = memorization_score(log_px, **options).score
  is_bad = ~reliable & (old > above)
  fresh, is_good = rescore(study, is_bad, num_samples)
  changed = np.where(is_bad, fresh, log_px)
  after = np.where(is_bad, is_good, reliable)
  new = memorization_score(changed, **options).score
  found = compare(study, (old, reliable), (new, after))
  exact = {'seed': study.config['seed'], 'groups': study.groups}
  exact['num_permutations'] = study.config['score']['num_permutations']
  for name, values in (('before', log_px), ('after', changed)):
    q_value = memorization_test(values, **options, **exact).q_value
    found[f'stand_out_{name}'] = int((q_value <= 0.05).sum())
    if name == 'after':
      sure = (after | ~study.held_out).all(axis=0)
      found['stand_out_held_out_reliable'] = int((q_value[sure] <= 0.05).sum())
  found['num_anew'] = int(is_bad.sum())
  rows = old > above
  is_sure = (after | ~study.held_out).all(axis=0)[rows]
  picture = draw(old[rows], new[rows], is_sure)
  numbers = {'found': found}
  study_folder.keep(out, 'recheck', {'recheck': picture}, numbers, run=run)


if __name__ == '__main__':
  _RUN = flags.DEFINE_string('run', None, 'A study.', required=True)
  _OUT = flags.DEFINE_string('out', None, 'For results.', required=True)
  _ABOVE = flags.DEFINE_float('above', 5.0, 'Scores, in nats.')
  _SAMPLES = flags.DEFINE_integer('samples', 4096, 'Draws an estimate.')
  app.run(lambda _: main(_RUN.value, _OUT.value, _ABOVE.value, _SAMPLES.value))
