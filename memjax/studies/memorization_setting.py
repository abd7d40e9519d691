"""What a K-fold study begins with: its config, checked, as objects."""

import jax
import numpy as np
from ml_collections import ConfigDict

from memjax import validate
from memjax.data import transforms
from memjax.data.dataset import Dataset
from memjax.devices import lay_out
from memjax.folds import make_folds
from memjax.likelihood import PROPOSALS, choose_proposal
from memjax.models import vae
from memjax.scores.fold_design import ESTIMATORS
from memjax.training.lift import choose_lift
from memjax.training.plan import LoopOptions, ModelGrid
from memjax.training.programs import ScoringOptions

__all__ = [
  'FLIPS',
  'find_groups',
  'make_grid',
  'make_model',
  'make_options',
  'tracked_epochs',
]

_MODELS = (
  'bernoulli_mlp_vae',
  'diagonal_gaussian_dcvae',
  'constant_gaussian_dcvae',
)
_TRANSFORMS = ('binarize', 'dequantize_logit')
FLIPS = {
  'none': None,
  'per_batch': transforms.flip_batch,
  'per_image': transforms.flip_images,
}
_PRECISIONS = ('float32', 'tensorfloat32', 'bfloat16')
# Floats that the decoder's layers may put out in one scoring call, by default:
# they should stay in cache on a CPU, and fill an accelerator.
_FLOATS_PER_CALL = {'cpu': 2**24}
_FLOATS_ON_ACCELERATOR = 2**29


def find_groups(dataset: Dataset, use_groups: bool) -> np.ndarray | None:
  """The groups that folds keep together, if that is asked for."""
  if use_groups and dataset.groups is None:
    raise ValueError(
      'config.folds.use_groups=True: expected a data set with `groups`; an '
      '.npz file may hold them beside its images.'
    )
  return dataset.groups if use_groups else None


def make_grid(config, num_items: int, groups) -> ModelGrid:
  """Which model of which repeat and fold holds out which item."""
  if num_items < 2:
    raise ValueError(
      f'config.data.source={config.data.source!r} and config.data.num_items='
      f'{config.data.num_items} give {num_items} item: expected 2 or more.'
    )
  num_folds, num_repeats = config.folds.num_folds, config.folds.num_repeats
  held_out = make_folds(
    num_items,
    num_folds,
    num_repeats=num_repeats,
    seed=config.seed,
    groups=groups,
  )
  return ModelGrid(
    repeat=np.repeat(np.arange(num_repeats), num_folds),
    fold=np.tile(np.arange(num_folds), num_repeats),
    held_out=held_out,
    num_folds=num_folds,
  )


def make_model(config, image_shape) -> vae.VAE:
  """The model that the config names, for images of this shape."""
  fields = config.model.to_dict()
  name = validate.one_of('config.model.name', fields.pop('name'), _MODELS)
  return getattr(vae, name)(image_shape, **fields)


def make_options(config, model, dataset: Dataset) -> LoopOptions:
  """Checks the numbers of the config and gathers those that the loop needs."""
  train, score = config.train, config.score
  check = validate.integer
  epochs = check('config.train.epochs', train.epochs, 1)
  score_epochs = _epochs(
    'config.score.epochs',
    score.epochs,
    epochs,
    hint=f' With --config.train.epochs={epochs} pass '
    f"--config.score.epochs='({epochs},)' too.",
  )
  if not score_epochs:
    raise ValueError('config.score.epochs=(): expected one epoch or more.')
  validate.real('config.train.learning_rate', train.learning_rate, 0.0, 1e3)
  validate.one_of('config.transform', config.transform, _TRANSFORMS)
  validate.one_of('config.train.flip', train.flip, FLIPS)
  validate.one_of('config.score.estimator', score.estimator, ESTIMATORS)
  check('config.score.num_permutations', score.num_permutations, 1)
  num_tracked = check('config.score.num_tracked', score.num_tracked, 1, 2**31)
  width = check('config.train.models_at_once', train.models_at_once, 1)
  num_models = config.folds.num_folds * config.folds.num_repeats
  how = choose_lift(model, train.lift)
  return LoopOptions(
    seed=config.seed,
    epochs=epochs,
    batch_size=check('config.train.batch_size', train.batch_size, 1),
    score_epochs=score_epochs,
    scoring=_make_scoring(
      score, model, min(width, num_models), len(dataset.ids)
    ),
    redraw=score.redraw,
    models_at_once=min(width, num_models),
    lift=how,
    max_attempts=check('config.train.max_attempts', train.max_attempts, 1),
    checkpoint_seconds=validate.real(
      'config.train.checkpoint_seconds', train.checkpoint_seconds, 0.0
    ),
    progress_seconds=5.0,
    precision=validate.one_of(
      'config.train.precision', train.precision, _PRECISIONS
    ),
    tracked_epochs=tracked_epochs(score),
    tracked=_tracked(config.seed, len(dataset.ids), num_tracked),
  )


def _epochs(name: str, values, last: int, hint: str = '') -> tuple[int, ...]:
  """Epochs in order, each once."""
  check = lambda epoch: validate.integer(name, epoch, 1, last, hint=hint)
  return tuple(sorted({check(epoch) for epoch in values}))


def tracked_epochs(score: ConfigDict) -> tuple[int, ...]:
  """Tracked epochs before the last scored one, of which the verdict is.

  Later ones are left out, so that a config can be cut short by its number of
  epochs and its scored epochs alone.
  """
  tracked = _epochs('config.score.tracked_epochs', score.tracked_epochs, 2**31)
  return tuple(
    epoch
    for epoch in tracked
    if epoch < max(score.epochs) and epoch not in score.epochs
  )


def _tracked(seed: int, num_items: int, num_tracked: int) -> np.ndarray:
  """The items whose scores are followed over training: a fixed random few."""
  rng = np.random.default_rng([seed, 1])
  chosen = rng.choice(num_items, min(num_tracked, num_items), replace=False)
  return np.sort(chosen)


def _make_scoring(
  score: ConfigDict, model: vae.VAE, width: int, num_items: int
) -> ScoringOptions:
  """Checks how log p is to be estimated; chooses blocks that fit the device."""
  check = validate.integer
  num_samples = check('config.score.num_samples', score.num_samples, 1)
  encoder = check(
    'config.score.encoder_num_samples', score.encoder_num_samples, 0
  )
  validate.one_of('config.score.proposal', score.proposal, PROPOSALS)
  escalation = []
  for entry in score.escalation:
    if not isinstance(entry, tuple | list) or len(entry) != 2:
      raise ValueError(
        f'config.score.escalation has {entry!r}: expected pairs of a proposal '
        "and a number of samples, such as ('variational', 512)."
      )
    name, samples = entry
    validate.one_of('config.score.escalation', name, PROPOSALS)
    check('config.score.escalation', samples, 1)
    escalation.append((name, samples))
  for name in (score.proposal, *(name for name, _ in escalation)):
    choose_proposal(model, name)
  # On a CPU each model fills the cores by itself, and larger products than its
  # own help nobody; on an accelerator they do.
  how = 'map' if jax.default_backend() == 'cpu' else 'vmap'
  models = lay_out(width).rows_per_device if how == 'vmap' else 1
  at_once = lambda decodes: _items_at_once(model, decodes * models)
  # The Laplace proposal decodes once for each latent dimension as well, the
  # variational one for each of four draws at a time.
  jacobians = {'encoder': 0, 'laplace': 1, 'variational': 4}
  decodes = lambda name, samples: max(
    samples, jacobians[name] * model.latent_dim
  )
  chosen = check('config.score.items_at_once', score.items_at_once, 0)
  automatic = at_once(max(decodes(score.proposal, num_samples), encoder))
  rescored = at_once(max((decodes(*e) for e in escalation), default=1))
  items_at_once = min(chosen or automatic, num_items)
  return ScoringOptions(
    items_at_once=items_at_once,
    num_samples=num_samples,
    proposal=score.proposal,
    encoder_num_samples=0 if score.proposal == 'encoder' else encoder,
    escalation=tuple(escalation),
    rescored_at_once=min(rescored, items_at_once),
    lift=how,
  )


def _items_at_once(model: vae.VAE, num_decodes: int) -> int:
  backend = jax.default_backend()
  floats = _FLOATS_PER_CALL.get(backend, _FLOATS_ON_ACCELERATOR)
  return max(1, floats // (num_decodes * model.floats_per_decode()))
