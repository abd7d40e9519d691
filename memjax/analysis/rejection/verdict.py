"""What a study of rejection has found, in words."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Int, Shaped

from memjax.analysis.page import format_number, format_p
from memjax.analysis.rejection.analysis import (
  ArmScores,
  Difference,
  EmbeddedSets,
  ModelScores,
)
from memjax.stats import LEVEL

__all__ = ['WORDS', 'ArmResult', 'Study', 'Verdict', 'judge', 'with_interval']

WORDS = {'plain': 'without rejection', 'rejection': 'with rejection'}


class Study(NamedTuple):
  """What was studied.

  Attributes:
    name: of the data.
    train: uint8 [l, h, w, c].
    test: uint8 [t, h, w, c].
    sets: their features in the embedding that rejects and the one that judges.
    threshold: τ.
    policy: of rejection.
    num_permutations: of C_T's null.
    failed: a sentence for each arm of which every seed stopped early.
  """

  name: str
  train: Shaped[np.ndarray, 'l h w c']
  test: Shaped[np.ndarray, 't h w c']
  sets: tuple[EmbeddedSets, EmbeddedSets]
  threshold: float
  policy: str
  num_permutations: int
  failed: tuple[str, ...] = ()


class ArmResult(NamedTuple):
  """One arm's scores.

  Attributes:
    models: for each seed, the scores in both embeddings.
    failed_step: [m], where a seed stopped early; −1: it did not.
  """

  models: list[tuple[ModelScores, ...]]
  failed_step: Int[np.ndarray, ' m']


class Verdict(NamedTuple):
  """What is found, in words.

  Attributes:
    kind: of the page.
    headline: prose.
    uncertainty: prose.
  """

  kind: str
  headline: str
  uncertainty: str


def judge(
  study: Study,
  arms: dict[str, tuple[ArmScores, ArmScores]],
  differences: tuple[dict[str, Difference], ...],
  results: dict[str, ArmResult],
  num_seeds: int,
) -> Verdict:
  """Puts the numbers in words.

  Args:
    study: names embeddings and threshold.
    arms: each arm's means in the two embeddings.
    differences: with − without, in the two embeddings; () with one arm.
    results: where seeds stopped early.
    num_seeds: that count in all arms; 0: each arm has others.
  """
  last = arms.get('rejection', arms.get('plain'))
  assert last is not None
  kind = 'no_copying'
  if last[1].copying_p_value <= LEVEL:
    kind = 'copies'
  # Of four, and of two, the smallest p.
  elif min(min(s.copying_p_value, s.p_value) for s in last) <= LEVEL / 4:
    kind = 'leans'
  elif min(scores.p_value_farther for scores in last) <= LEVEL / 2:
    kind = 'differs'
  sentences = [_copying_sentence(study, name, arms[name]) for name in arms]
  if differences:
    sentences.append(_change_sentence(differences))
  seeds = f'{num_seeds} seed{"s" if num_seeds > 1 else ""}'
  if not num_seeds:
    seeds = 'No seed lasted with and without rejection, so that there is no '
    seeds += 'comparison'
  notes = [
    f'{seeds}; '
    f'{len(study.train):,} training and {len(study.test):,} test images. '
    'p of copies relabels training and test images, p of C_T exchanges samples '
    'and test images; over seeds it is twice their median. C_T alone does not '
    'tell copies from samples that lack variety: see recall.'
  ]
  if differences:
    frechet = differences[1]['frechet']
    notes.append(
      'What it costs: the Fréchet distance to test images '
      f'({study.sets[1].name}) changes by {with_interval(frechet)}.'
    )
  notes += [*study.failed, *_failed(results)]
  return Verdict(kind, ' '.join(sentences), '\n\n'.join(notes))


def _copying_sentence(study: Study, name: str, scores) -> str:
  """One arm: copies, and C_T in both embeddings."""
  judged = scores[1]
  floor = judged.floor(study.num_permutations)
  says = 'no copies are found'
  if min(s.copying_p_value for s in scores) <= LEVEL:
    says = 'copies are found in the rejecting embedding alone'
  if judged.copying_p_value <= LEVEL:
    share = format_number(100 * judged.mean['copied_share'], '%', digits=2)
    says = f'it copies: about {share} of the samples'
  values = ' and '.join(
    f'{format_number(s.mean["c_t"])} ({format_p(s.p_value, floor)}; {kind})'
    for s, kind in zip(scores, ('rejecting', 'judging embedding'), strict=True)
  )
  is_near = [s.p_value <= LEVEL for s in scores]
  lies = 'are not nearer'
  if all(is_near):
    lies = 'are nearer'
  elif any(is_near):
    lies = 'are, in one of two embeddings, nearer'
  elif any(s.p_value_farther <= LEVEL for s in scores):
    lies = 'lie farther from, not nearer'
  return (
    f'**{WORDS[name].capitalize()}** {says} '
    f'({format_p(judged.copying_p_value, floor)}); samples {lies} to the '
    f'training images than test images are: C_T = {values}.'
  )


def _change_sentence(differences: tuple[dict[str, Difference], ...]) -> str:
  """What rejection does to C_T in the embedding that does not reject."""
  change = differences[1]['c_t']
  low, high = change.interval
  says = 'changes C_T by'
  if low > 0:
    says = 'makes the generator keep its distance: C_T rises by'
  elif high < 0:
    says = 'brings samples nearer: C_T changes by'
  elif np.isfinite(low):
    says = 'has no effect that these seeds show: C_T changes by'
  return (
    f'Rejection {says} {with_interval(change)} in the judging embedding, by '
    f'{with_interval(differences[0]["c_t"])} in the rejecting one.'
  )


def with_interval(change: Difference) -> str:
  """A difference and how sure it is."""
  low, high = change.interval
  text = format_number(change.mean)
  if not np.isfinite(low):
    return f'{text} (one seed: no interval)'
  return f'{text} (95 % interval {format_number(low)} to {format_number(high)})'


def _failed(results: dict[str, ArmResult]) -> list[str]:
  return [
    f'{WORDS[name].capitalize()}, seed {seed} stopped before step {step}: its '
    'last good state was sampled.'
    for name, result in results.items()
    for seed, step in enumerate(result.failed_step)
    if step >= 0
  ]
