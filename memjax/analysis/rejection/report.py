"""The report of a study of Memorization Rejection: numbers, pictures, words.

`write` leaves report.html, report.json, figures/*.png and, with a row for each
sample of one seed, samples_<arm>.csv in the workdir.
"""

import pathlib
from typing import Any

import numpy as np

from memjax.analysis import page, report_parts
from memjax.analysis.page import format_number, format_p
from memjax.analysis.rejection import figures as rejection_figures
from memjax.analysis.rejection import tables
from memjax.analysis.rejection.analysis import (
  compare_arms,
  measure_distances,
  summarize,
)
from memjax.analysis.rejection.sample_table import Shown, all_samples
from memjax.analysis.rejection.tables import Summary
from memjax.analysis.rejection.verdict import (
  WORDS,
  ArmResult,
  Study,
  Verdict,
  judge,
)
from memjax.analysis.samples import figures as sample_figures
from memjax.scores.copying import CopyingTest, copying_test
from memjax.training.metrics_writer import read_metrics

__all__ = ['Shown', 'write']

_NUM_SHOWN = 8
_NUM_GRID = 40
_METHOD = (
  'Methods: Bai et al. 2022 (Memorization Rejection), Meehan et al. 2020 '
  '(C_T), Kynkäänniemi et al. 2019 and Naeem et al. 2020 (precision, recall, '
  'density, coverage); nulls and intervals are memjax’s.'
)
_HOW_TO_READ = (
  '**Rejection.** While training, samples within τ = {threshold} of a training '
  'image (embedding: {rejecting}) are left out of the generator’s update. '
  'Sampling is as usual: the generator has learned to keep its distance, or '
  'has not.\n\n'
  '**Copies** are samples much nearer to a training image than to any test '
  'image. The test shuffles which images are called training images and looks '
  'whether the samples know the difference; it holds for a generator of any '
  'quality.\n\n'
  '**C_T** asks whether samples are nearer to the training images than test '
  'images are. Negative = nearer, which is read as copying; but samples that '
  'keep to dense regions of the data score negative too, without a copy. Its '
  'p-value exchanges samples and test images within cells. It is measured in '
  'the embedding that rejects and in one that does not: what shows in the '
  'first alone, the generator has learned about the embedding, not about the '
  'images.\n\n'
  '**Fréchet distance** is to the TEST images, in the embedding named beside '
  'it; high = unlike them. It is not FID. Published FIDs are to the TRAINING '
  'images: for these see its own row, which copies improve.\n\n'
  '**Published numbers** (Bai et al.) are on other scales. Their C_T is the '
  'mean over classes, in cells of 64 principal components of torchvision’s '
  'Inception features, against CIFAR-10.1; here “C_T, mean over classes” has '
  'cells of all features of the embeddings named above, against these test '
  'images, and C_T is of all classes together. Their τ = 0.13 too belongs to '
  'that network.\n\n'
  '**Uncertainty.** A difference is taken seed by seed (both arms share '
  'initialization, batches and latents) and has a Student interval over '
  'seeds; with one seed it has none. The test images are the same for all: the '
  'interval does not say what other test images would give.\n\n'
  'No distance says what an attacker could learn.'
)


def write(
  workdir: pathlib.Path,
  study: Study,
  results: dict[str, ArmResult],
  shown: dict[str, Shown],
) -> Verdict:
  """Writes every result of a study into its folder.

  Args:
    workdir: with config.json and metrics.jsonl.
    study: the data.
    results: of 'plain', 'rejection', or both.
    shown: of the same arms.
  """
  summary = _summarize(results)
  verdict = judge(
    study, summary.arms, summary.differences, results, summary.num_seeds
  )
  record = report_parts.write_record(
    workdir,
    {
      'verdict': verdict._asdict(),
      'numbers': _numbers(study, results, summary),
    },
  )
  sections = [
    report_parts.write_figure(workdir, section)
    for section in _sections(workdir, study, results, shown)
  ]
  how = _HOW_TO_READ.format(
    threshold=format_number(study.threshold), rejecting=study.sets[0].name
  )
  report_parts.write_page(
    workdir,
    page.Page(
      title=f'Memorization Rejection on {study.name}',
      question='Does the GAN copy its training images? Does rejection help?',
      verdict_kind=verdict.kind,
      verdict=verdict.headline,
      uncertainty=verdict.uncertainty,
      key_numbers=_cards(study, summary),
      sections=[
        tables.both_arms(study, summary),
        *sections,
        tables.by_seed(study, results),
        page.Section('What these numbers mean', body=how),
        report_parts.settings(record),
      ],
      footer=report_parts.footer(record, _METHOD),
    ),
  )
  return verdict


def _summarize(results: dict[str, ArmResult]) -> Summary:
  # Seeds that stopped early in an arm are named, and count in none.
  lasted = np.all([arm.failed_step < 0 for arm in results.values()], axis=0)
  of = lambda name, k: [
    results[name].models[seed][k]
    for seed in np.flatnonzero(
      lasted if lasted.any() else results[name].failed_step < 0
    )
  ]
  arms = {
    name: (summarize(of(name, 0)), summarize(of(name, 1))) for name in results
  }
  differences = ()
  if len(results) == 2 and lasted.any():
    differences = tuple(
      compare_arms(of('plain', k), of('rejection', k)) for k in range(2)
    )
  return Summary(arms, differences, int(lasted.sum()))


def _cards(study: Study, summary: Summary) -> list[page.KeyNumber]:
  """C_T of each arm, its change, the cost."""
  cards = []
  for name, scores in summary.arms.items():
    judged = scores[1]
    low, high = judged.interval['c_t']
    floor = judged.floor(study.num_permutations)
    over_seeds = (
      f'{format_number(low)} to {format_number(high)} over seeds; '
      if np.isfinite(low)
      else ''
    )
    cards.append(
      page.KeyNumber(
        f'C_T {WORDS[name]}',
        format_number(judged.mean['c_t']),
        over_seeds + format_p(judged.p_value, floor),
        'Negative = nearer to training images than test images are.',
      )
    )
  if summary.differences:
    for key, label, meaning in (
      ('c_t', 'Change of C_T', 'Positive = rejection keeps samples away.'),
      ('frechet', 'Change of Fréchet distance', 'Positive = quality lost.'),
    ):
      change = summary.differences[1][key]
      low, high = change.interval
      cards.append(
        page.KeyNumber(
          label,
          format_number(change.mean),
          f'95 % {format_number(low)} to {format_number(high)}'
          if np.isfinite(low)
          else 'one seed: no interval',
          meaning,
        )
      )
  return cards


def _sections(workdir, study: Study, results, shown) -> list[page.Section]:
  """Pictures, and samples one by one."""
  rejecting = study.sets[0]
  # Of these samples one by one: no relabelling is asked for.
  copying = {
    name: copying_test(
      rejecting.train,
      rejecting.test,
      part.features,
      metric=rejecting.metric,
      num_permutations=1,
    )
    for name, part in shown.items()
  }
  sections = []
  for name, part in shown.items():
    sections += _nearest_pairs(study, name, part, copying[name])
  sections.append(
    page.Section(
      'Distance to the training images',
      figure=rejection_figures.distances(
        measure_distances(rejecting, rejecting.test).train,
        {name: found.d_train for name, found in copying.items()},
        study.threshold,
        rejecting.metric,
      ),
      alt='Cumulative distribution of distances to the nearest training image, '
      'of test images and of samples.',
      caption='Left of the dashed line: nearer than test images are. Rejection '
      'should move the samples’ line right of τ.',
    )
  )
  sections += [
    tables.by_class(study, name, result) for name, result in results.items()
  ]
  sections.append(
    page.Section(
      'Training',
      figure=rejection_figures.training_curves(
        read_metrics(workdir / 'metrics.jsonl'), study.threshold
      ),
      alt='Fréchet distance and share of samples beyond the threshold over '
      'steps.',
      caption='One line a seed.',
    )
  )
  sections += [
    all_samples(workdir, study, name, part, copying[name])
    for name, part in shown.items()
  ]
  return sections


def _nearest_pairs(
  study: Study, name: str, part: Shown, copying: CopyingTest
) -> list[page.Section]:
  """The samples nearest to training images, and some as they come."""
  order = np.argsort(copying.d_train, kind='stable')[:_NUM_SHOWN]
  pairs = sample_figures.suspicious_pairs(
    part.images[order],
    study.train[copying.nearest_train[order]],
    study.test[copying.nearest_test[order]],
    [f'{copying.d_train[i]:.3f}\n{copying.d_test[i]:.3f}' for i in order],
  )
  words = WORDS[name]
  return [
    page.Section(
      f'Nearest samples {words}',
      figure=pairs,
      alt=f'The {len(order)} samples nearest to a training image, each above '
      'its nearest training and test image.',
      caption='Below each: its distance to the nearest training image, and to '
      'the nearest test image.',
    ),
    page.Section(
      f'Samples {words}',
      figure=rejection_figures.sample_grid(part.images[:_NUM_GRID]),
      alt='Samples, classes in turn, not chosen.',
      caption='Classes in turn, not chosen.',
    ),
  ]


def _numbers(study: Study, results, summary: Summary) -> dict[str, Any]:
  """The numbers of report.json."""
  kinds = ('rejecting', 'judging')
  return {
    'threshold': study.threshold,
    'policy': study.policy,
    'failed': study.failed,
    'embeddings': dict(
      zip(kinds, (sets.name for sets in study.sets), strict=True)
    ),
    'sizes': {'train': len(study.train), 'test': len(study.test)},
    'arms': {
      name: {
        'failed_step': result.failed_step,
        'models': [
          {k: s._asdict() for k, s in zip(kinds, model, strict=True)}
          for model in result.models
        ],
        **{
          kind: {
            'mean': scores.mean,
            'interval': {
              key: found._asdict() for key, found in scores.interval.items()
            },
            'p_value': scores.p_value,
            'copying_p_value': scores.copying_p_value,
          }
          for kind, scores in zip(kinds, summary.arms[name], strict=True)
        },
        'array': f'arrays/samples_{name}.npz:images',
      }
      for name, result in results.items()
    },
    'differences': {
      kind: {
        key: {**d._asdict(), 'interval': d.interval._asdict()}
        for key, d in found.items()
      }
      for kind, found in zip(kinds, summary.differences, strict=False)
    },
  }
