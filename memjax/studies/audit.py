"""Somebody else's generator or models: a report without training anything."""

import pathlib

import numpy as np
from absl import logging
from ml_collections import ConfigDict

from memjax import files, run_folder, validate
from memjax.analysis.memorization import report
from memjax.analysis.memorization.analysis import analyze
from memjax.analysis.samples import report as sample_report
from memjax.analysis.samples.analysis import (
  SampleAnalysis,
  analyze_samples,
  check_counts,
)
from memjax.analysis.samples.verdict import judge_samples
from memjax.data.samples import (
  SampleSet,
  check_scales,
  check_shapes,
  common_labels,
  common_names,
  load_samples,
  match_channels,
)
from memjax.data.user_data import load_numpy, read_npy
from memjax.distances import sample_sets
from memjax.embeddings.base import Embedding
from memjax.neighbors import METRICS
from memjax.scores.fold_design import ESTIMATORS, check_log_px
from memjax.studies.audit_embeddings import (
  EMBEDDINGS,
  check_images,
  check_settings,
  embed_images,
  make_embedding,
)

__all__ = ['run']

_SETS = ('train', 'test', 'generated')


def run(config: ConfigDict, workdir: pathlib.Path) -> None:
  """Audits samples, or scores log-probabilities; whichever are given.

  Args:
    config: as in `configs/audit.py`.
    workdir: created if missing; refused if it belongs to another config.
  """
  samples = [name for name in _SETS if config[name]]
  if samples and (config.log_px or config.held_out):
    raise ValueError(
      f'config.{samples[0]} and config.log_px are both given: expected either '
      'samples (train, test, generated) or log-probabilities (log_px, '
      'held_out).'
    )
  if samples:
    _audit_samples(config, workdir)
  elif config.log_px or config.held_out:
    _audit_log_px(config, workdir)
  else:
    raise ValueError(
      'Nothing to audit: expected --config.train, --config.test and '
      '--config.generated (samples), or --config.log_px and --config.held_out '
      '(log-probabilities).'
    )


def _audit_samples(config: ConfigDict, workdir: pathlib.Path) -> None:
  """Asks whether somebody's samples are copies."""
  _check_numbers(config)
  sets, values = _load_sets(config)
  given = [part.labels for part in sets.values() if part.labels is not None]
  common = common_labels(*sets.values())
  labels = None if common is None else (common[0], common[1], common[2])
  own = sets['generated']
  if labels is not None:
    names = common_names(*sets.values())
    own = own._replace(labels=labels[2], class_names=names)
  warnings = []
  if given and labels is None:
    warnings.append(
      'Not all of train, test and generated have labels: classes are left out.'
    )
    logging.warning('%s', warnings[0])
  others = [
    make_embedding(config, name, values, labels)
    for name in (config.embedding, config.second_embedding)
    if name
  ]
  data = files.fingerprint((*values.values(), *given))
  # Nothing is kept that took time to compute, but features, which are kept by
  # their content: an audit may be repeated on other files.
  free = {*run_folder.flatten(config.to_dict(), 'config'), 'the data itself'}
  run_folder.claim(workdir, config.to_dict(), data, free=free)
  first = others.pop(0) if config.embedding else None
  analysis = _analyze(config, first, values, labels, workdir)
  second = None
  for embedding in others:
    second, warning = _second_view(config, embedding, values, labels, workdir)
    warnings += [warning] if warning else []
  verdict = sample_report.write_samples(
    workdir,
    sample_report.Audit(
      pathlib.Path(config.generated).name,
      *values.values(),
      labels=own.labels,
      class_names=own.class_names,
      metric=config.metric,
      num_permutations=config.num_permutations,
      embedding='' if first is None else first.name,
      is_canonical=first is not None and first.is_canonical,
    ),
    analysis._replace(warnings=(*analysis.warnings, *warnings)),
    second,
  )
  logging.info('%s', verdict.headline)


def _check_numbers(config: ConfigDict) -> None:
  """The settings of an audit of samples, before any file is read."""
  validate.one_of('config.metric', config.metric, METRICS)
  for name, low in (
    ('num_cells', 1), ('num_components', 1), ('k', 1), ('num_permutations', 19),
    ('seed', 0),
  ):  # fmt: skip
    validate.integer(f'config.{name}', config[name], low, 2**31)
  for name in ('embedding', 'second_embedding'):
    validate.one_of(f'config.{name}', config[name], ('', *EMBEDDINGS))
  if config.second_embedding and config.second_embedding == config.embedding:
    raise ValueError(
      f'config.second_embedding={config.second_embedding!r} is '
      'config.embedding too: expected another one.'
    )
  check_settings(config)
  for name in _SETS:
    if not config[name]:
      raise ValueError(
        f"config.{name}='': expected an .npy or .npz file or a folder of "
        'images; an audit needs train, test (held out) and generated.'
      )


def _load_sets(
  config: ConfigDict,
) -> tuple[dict[str, SampleSet], dict[str, np.ndarray]]:
  """The sets, and their values on one layout.

  All checks come before anything is written or computed for long.
  """
  sets = {
    name: load_samples(name, config[name], config[f'{name}_labels'])
    for name in _SETS
  }
  values = match_channels(**{name: part.values for name, part in sets.items()})
  check_shapes(**values)
  if not config.embedding:
    # Images for an embedding stay as they are: in float64 they fill memory.
    sample_sets(config.metric, **values)
  # Images first: where their range is stated, an error must speak of it.
  if config.embedding or config.second_embedding:
    check_images(config, values)
  check_scales(**values)
  check_counts(config.k, **values)
  return sets, values


def _second_view(
  config: ConfigDict, embedding: Embedding, values, labels, workdir
) -> tuple[sample_report.SecondView | None, str]:
  """(what is found in another embedding, ''), or (None, why it cannot be told).

  The first took minutes, and its report must not be lost.
  """
  try:
    found = _analyze(config, embedding, values, labels, workdir)
  except ValueError as error:
    warning = f'The second embedding was left out. {error}'
    logging.warning('%s', warning)
    return None, warning
  verdict = judge_samples(found, config.num_permutations)
  return (
    sample_report.SecondView(
      embedding.name, found, verdict, embedding.is_canonical
    ),
    '',
  )


def _analyze(
  config: ConfigDict,
  embedding: Embedding | None,
  values: dict[str, np.ndarray],
  labels,
  workdir: pathlib.Path,
) -> SampleAnalysis:
  """Everything of one view; None leaves the numbers as they are."""
  logits = None
  if embedding is not None:
    values = {
      name: embed_images(config, embedding, part, workdir)
      for name, part in values.items()
    }
    if embedding.has_logits:
      of = lambda name: embedding.logits(values[name]).astype(np.float64)
      logits = of('test'), of('generated')
  try:
    return analyze_samples(
      *values.values(),
      labels=labels,
      logits=logits,
      metric=config.metric,
      num_cells=config.num_cells,
      num_components=config.num_components,
      k=config.k,
      num_permutations=config.num_permutations,
      seed=config.seed,
    )
  except ValueError as error:
    if embedding is None:
      raise
    raise ValueError(f'In the embedding {embedding.name}: {error}') from error


def _audit_log_px(config: ConfigDict, workdir: pathlib.Path) -> None:
  """Scores given log-probabilities and reports."""
  validate.one_of('config.estimator', config.estimator, ESTIMATORS)
  validate.integer('config.num_permutations', config.num_permutations, 1)
  validate.integer('config.seed', config.seed, 0, 2**32 - 1)
  log_px, held_out, repeat = check_log_px(
    _load_required(config, 'log_px'),
    _load_required(config, 'held_out'),
    _load(config, 'repeat'),
  )
  num_items = log_px.shape[1]
  items = {
    name: _check_items(name, _load(config, name), num_items)
    for name in ('labels', 'ids', 'groups')
  }
  images = read_npy(config.images).images if config.images else None
  study = report.Study(
    name=pathlib.Path(config.log_px).stem,
    ids=np.arange(num_items) if items['ids'] is None else items['ids'],
    labels=items['labels'],
    images=_check_length('images', images, num_items),
    held_out=held_out,
    repeat=repeat,
    divergences=[],
    losses=None,
    estimates=None,
    num_samples=0,
  )
  data = files.fingerprint(
    (log_px, held_out, repeat, study.images, *items.values())
  )
  # Nothing is kept that took time to compute: an audit may be repeated on
  # other files.
  free = {*run_folder.flatten(config.to_dict(), 'config'), 'the data itself'}
  run_folder.claim(workdir, config.to_dict(), data, free=free)
  analysis = analyze(
    {0: log_px},
    held_out,
    repeat,
    estimator=config.estimator,
    num_permutations=config.num_permutations,
    seed=config.seed,
    groups=items['groups'],
  )
  verdict = report.write(workdir, study, analysis)
  logging.info('%s', verdict.headline)


def _load_required(config: ConfigDict, name: str) -> np.ndarray:
  array = _load(config, name)
  if array is None:
    raise ValueError(
      f'config.{name}={config[name]!r}: expected the path of an .npy file.'
    )
  return array


def _load(config: ConfigDict, name: str) -> np.ndarray | None:
  path = config[name]
  if not path:
    return None
  try:
    array = load_numpy(path)
  except ValueError as error:
    raise ValueError(f'config.{name}={path!r}: {error}') from error
  if not isinstance(array, np.ndarray):
    array.close()
    raise ValueError(
      f'config.{name}={path!r}: expected an .npy file with one array, not .npz.'
    )
  return array


def _check_length(name, array, num_items: int) -> np.ndarray | None:
  if array is not None and (found := len(np.atleast_1d(array))) != num_items:
    raise ValueError(
      f'config.{name} holds {found} items: expected {num_items}, as log_px has.'
    )
  return array


def _check_items(name, array, num_items: int) -> np.ndarray | None:
  """Labels, ids or groups: one number or text an item, ids unique."""
  if _check_length(name, array, num_items) is None:
    return None
  if array.ndim != 1 or array.dtype.kind not in 'iuUS':
    raise ValueError(
      f'config.{name} has shape {array.shape} and dtype {array.dtype}: '
      f'expected {num_items} integers or texts.'
    )
  if name == 'ids' and len(np.unique(array)) < num_items:
    raise ValueError('config.ids holds an id twice: expected unique ids.')
  return array
