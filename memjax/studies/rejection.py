"""A GAN trained with Memorization Rejection (Bai et al. 2022), and without:
data, embedding, training, samples, copying and quality, report.
"""

import functools
import pathlib
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from ml_collections import ConfigDict

from memjax import files, validate
from memjax.analysis import page
from memjax.analysis.rejection import figures as rejection_figures
from memjax.analysis.rejection import report as rejection_report
from memjax.analysis.rejection.analysis import ModelScores, score_model
from memjax.analysis.rejection.verdict import ArmResult, Study
from memjax.devices import lay_out
from memjax.scores.frechet import frechet_distance
from memjax.studies.rejection_embeddings import apply_embedding, features
from memjax.studies.rejection_setting import Setting, prepare
from memjax.training.gan_state import FAILURES, GanState, init_gan_state
from memjax.training.gan_step import make_gan_steps
from memjax.training.lift import choose_lift, lift
from memjax.training.metrics_writer import MetricsWriter
from memjax.training.resumable import run_resumable

__all__ = ['TrainingFailed', 'run']

_NUM_SHOWN = 40  # samples in a grid
_NUM_KEPT = 500  # samples of the first seed that a visit keeps
_BATCH = 250  # samples generated at once


class TrainingFailed(RuntimeError):
  """Every seed stopped early: there is nothing to sample from."""


class Arm(NamedTuple):
  """One way of training: its name and its policy of rejection."""

  name: str
  policy: str


def run(config: ConfigDict, workdir: pathlib.Path) -> None:
  """Trains, samples, scores and reports; resumes what is in the folder.

  Args:
    config: as in `configs/digits_gan.py`.
    workdir: created if missing; refused if it belongs to another config.

  Raises:
    TrainingFailed: every seed stopped early, with and without rejection. Where
      one of both is left, the report is of that one, and says so.
  """
  setting = prepare(config, workdir)
  results, shown, failed = {}, {}, []
  for arm in _arms(config, setting.threshold):
    path = workdir / 'arrays' / f'samples_{arm.name}.npz'
    try:
      if not path.exists():
        _train(setting, arm, path)
    except TrainingFailed as error:
      failed.append(str(error))
      continue
    with np.load(path) as saved:
      results[arm.name], shown[arm.name] = _score(setting, **saved)
  if not results:
    raise TrainingFailed(' '.join(failed))
  rejection_report.write(
    workdir,
    Study(
      name=config.data.source,
      train=setting.images.train.images,
      test=setting.images.test.images,
      sets=setting.sets,
      threshold=setting.threshold,
      policy=config.policy,
      num_permutations=config.score.num_permutations,
      failed=tuple(failed),
    ),
    results,
    shown,
  )


def _arms(config: ConfigDict, threshold: float) -> list[Arm]:
  """Plain training, training with rejection, or both."""
  plain, rejecting = Arm('plain', 'none'), Arm('rejection', config.policy)
  # τ = 0 would refuse exact copies alone, and pay for the embedding.
  if config.policy == 'none' or threshold == 0:
    return [plain]
  return [plain, rejecting] if config.compare else [rejecting]


def _keys(config: ConfigDict, use: int) -> jax.Array:
  """A key a seed; the arms share it, so that they differ by rejection alone.

  `use`: 0 initialization, 1 training, 2 samples while training, 3 at the end.
  """
  root = jax.random.key(config.seed)
  of_repeat = lambda repeat: jax.random.fold_in(
    jax.random.fold_in(root, repeat), use
  )
  return jax.vmap(of_repeat)(jnp.arange(config.train.num_repeats))


def _train(setting: Setting, arm: Arm, path: pathlib.Path) -> None:
  """Trains all seeds of an arm; their samples are written last."""
  config, model = setting.config, setting.model
  train = config.train
  options = setting.options._replace(policy=arm.policy)
  how = choose_lift(model, train.lift)
  layout = lay_out(train.num_repeats)
  init = jax.jit(
    lift(
      lambda key: init_gan_state(model, options, train.steps, key),
      how,
      (0,),
      layout.devices,
    )
  )
  embed_batch = functools.partial(apply_embedding, setting.embeddings[0])
  steps = make_gan_steps(model, options, embed_batch, setting.search)
  axes = (0, None, None, None, None, 0)
  compiled = jax.jit(lift(steps, how, axes, layout.devices))
  keys, data = layout.spread(_keys(config, 1)), layout.replicate(setting.data)
  threshold = jnp.float32(setting.threshold)

  def advance(state, begin, end):
    state = layout.spread(state)
    return layout.gather(compiled(state, data, threshold, begin, end, keys))

  generate = jax.jit(model.generate)
  visits = [*range(0, train.steps, train.evaluate_every), train.steps]
  finished = run_resumable(
    layout.gather(init(layout.spread(_keys(config, 0)))),
    advance,
    train.steps,
    setting.workdir / 'checkpoints' / arm.name,
    visits=visits[1:],
    visit=functools.partial(_visit, setting, arm, generate),
    unit=f'steps of {train.num_repeats} GANs',
    checkpoint_seconds=validate.real(
      'config.train.checkpoint_seconds', train.checkpoint_seconds, 0.0
    ),
  )
  state = finished.state
  failures = _failures(arm, state)
  for sentence in failures.values():
    logging.error('%s', sentence)
  if len(failures) == train.num_repeats:
    raise TrainingFailed(
      f'{"; ".join(failures.values())}. The last good state is in '
      f'{setting.workdir / "checkpoints" / arm.name}. Try a lower threshold or '
      'learning rate in another --workdir.'
    )
  drawn = [
    _sample(setting, generate, state, repeat, key, config.score.num_samples)
    for repeat, key in enumerate(_keys(config, 3))
  ]
  files.save_arrays(
    path,
    images=np.stack([images for images, _ in drawn]),
    labels=np.stack([labels for _, labels in drawn]),
    failed_step=np.asarray(state.failed_step),
  )


def _failures(arm: Arm, state: GanState) -> dict[int, str]:
  """A sentence for each seed that stopped early."""
  steps, kinds = np.asarray(state.failed_step), np.asarray(state.failure)
  return {
    int(repeat): f'{arm.name}, seed {repeat}: stopped before step '
    f'{steps[repeat]}, {FAILURES[kinds[repeat]]}'
    for repeat in np.flatnonzero(steps >= 0)
  }


def _sample(setting, generate, state: GanState, repeat, key, number):
  """(uint8 images, classes) of one seed, classes in turn."""
  variables = jax.tree.map(lambda leaf: leaf[repeat], state.sampled())
  labels = np.arange(number) % setting.model.num_classes
  images = []
  for start in range(0, number, _BATCH):
    # Always as many at once: another size would be another program.
    label = jnp.asarray((start + np.arange(_BATCH)) % setting.model.num_classes)
    z = jax.random.normal(
      jax.random.fold_in(key, start), (_BATCH, setting.model.latent_dim)
    )
    made = np.asarray(generate(variables, z, label))
    images.append(np.rint((made + 1) * 127.5).astype(np.uint8))
  return np.concatenate(images)[:number], labels


def _visit(setting, arm, generate, step: int, state: GanState) -> bool:
  """Logs a row a seed and a grid; ends training when all seeds have failed."""
  record = jax.tree.map(np.asarray, state.record)
  row = -(-step // setting.options.record_every) - 1
  rows, kept = [], []
  for repeat, key in enumerate(_keys(setting.config, 2)):
    images, labels = _sample(
      setting, generate, state, repeat, key, setting.config.train.num_evaluated
    )
    kept.append((images[:_NUM_KEPT], labels[:_NUM_KEPT]))
    rows.append(
      {
        'arm': arm.name,
        'seed': repeat,
        'step': step,
        **_row(record, repeat, row, arm.policy),
        **_quality(setting, images),
        'failed_step': int(state.failed_step[repeat]),
      }
    )
  writer = MetricsWriter(setting.workdir / 'metrics.jsonl')
  writer.keep(lambda old: old['arm'] != arm.name or old['step'] < step)
  writer.write_scalars(rows)
  name = f'{arm.name}_{step:06d}'
  images, labels = kept[0]
  files.save_arrays(
    setting.workdir / 'arrays' / 'stages' / f'{name}.npz',
    images=images,
    labels=labels,
  )
  picture = page.png(rejection_figures.sample_grid(images[:_NUM_SHOWN]))
  files.write_atomically(
    setting.workdir / 'figures' / f'{name}.png',
    lambda file: file.write(picture),
  )
  for old in rows:
    logging.info(
      '%s, seed %d, step %d: acceptance %.3g, Fréchet distance %.4g.',
      arm.name, old['seed'], step, old['acceptance'], old['frechet'],
    )  # fmt: skip
  return bool((np.asarray(state.failed_step) >= 0).all())


def _row(record, repeat: int, row: int, policy: str) -> dict[str, float]:
  """Means over the last stretch of one seed; NaN if it took no step."""
  unknown = {'distance'} if policy == 'none' else set()
  steps = record.steps[repeat, row]
  with np.errstate(invalid='ignore'):
    means = {
      name: float(getattr(record, name)[repeat, row] / steps)
      for name in record._fields
      if name not in {'steps', 'skipped', *unknown}
    }
  return {**means, 'skipped': int(record.skipped[repeat, row])}


def _quality(setting: Setting, images: np.ndarray) -> dict[str, float]:
  """Of some samples: Fréchet distance to test, and how many keep away."""
  rejecting, judging = setting.embeddings
  points = features(rejecting, images).astype(np.float32)
  # In parts: to every training image at once the matrix would be large.
  distance = [
    np.asarray(setting.search(setting.data.index, jnp.asarray(part)))
    for part in np.split(points, range(_BATCH, len(points), _BATCH))
  ]
  return {
    'frechet': frechet_distance(
      setting.sets[1].test, features(judging, images)
    ),
    'share_above_threshold': float(
      (np.concatenate(distance) > setting.threshold).mean()
    ),
  }


def _score(setting: Setting, images, labels, failed_step):
  """Scores of each seed in both embeddings, and one seed's samples."""
  config, score = setting.config, setting.config.score
  of_sets = setting.images.train.labels, setting.images.test.labels
  models: list[tuple[ModelScores, ...]] = []
  for drawn, label in zip(images, labels, strict=True):
    models.append(
      tuple(
        score_model(
          sets,
          features(embedding, drawn),
          (*of_sets, label),
          threshold=threshold,
          num_cells=score.num_cells,
          num_class_cells=score.num_class_cells,
          num_permutations=score.num_permutations,
          k=score.k,
          seed=config.seed + 1,
        )
        for sets, embedding, threshold in zip(
          setting.sets,
          setting.embeddings,
          (setting.threshold, float('nan')),
          strict=True,
        )
      )
    )
  seed = int(np.argmax(failed_step < 0))
  shown = rejection_report.Shown(
    images[seed],
    labels[seed],
    features(setting.embeddings[0], images[seed]),
    seed,
  )
  return ArmResult(models, np.asarray(failed_step)), shown
