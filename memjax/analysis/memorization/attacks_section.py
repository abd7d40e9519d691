"""What a study's report says of membership attacks: table, numbers, arrays."""

from typing import Any

import numpy as np

from memjax.analysis import page
from memjax.analysis.memorization.attacks import Attack, MembershipAttacks
from memjax.analysis.page import format_number, format_p

__all__ = ['ARRAYS', 'membership_arrays', 'membership_record', 'section']

ARRAYS = 'arrays/membership.npz'

_NAMES = {
  'loss': 'log p under the model',
  'calibrated': 'log p less that of other repeats’ held-out models',
  'memorized': 'the same, of the 5 % most memorized items',
}
_PER_MODEL = (
  'auroc',
  'auroc_low',
  'auroc_high',
  'tpr_at_1_percent',
  'tpr_at_01_percent',
)
_BODY = (
  'The score above is about a way of training; this is about one trained '
  'model. An attacker who holds a model and an item ranks items by a number, '
  'and calls the highest ones training data. **AUROC** is the probability that '
  'an item it was trained on ranks above one that it held out (½ = guessing). '
  '**TPR** is the share of training items found while so many held-out ones '
  'are accused falsely (0.01 and 0.001 = guessing). Means over {models} '
  'models, each with about {num_out:,} held-out items.'
)
_ALONE = (
  '\n\nWith one repeat there are no other models to compare with, and no '
  'interval.'
)
_CALIBRATED = (
  '\n\nThe second attack subtracts what models of other repeats give an item '
  'that they did not train on, so that easy items are not taken for training '
  'data; models of the same repeat are not used, because they would give the '
  'answer away. The third asks about the items with the highest memorization '
  'score by the other repeats.'
)
_FEW = (
  '\n\nWith fewer than {least:,} held-out items a model, the TPR at {percent} '
  'cannot be told.'
)


def section(attacks: MembershipAttacks) -> page.Section:
  """A table with a row an attack, and how to read it."""
  floor = 1 / (1 + attacks.num_permutations)
  named = _attacks(attacks)
  rows = [
    [
      _NAMES[name],
      *(
        _with_interval(value, interval)
        for value, interval in zip(attack.mean, attack.intervals, strict=True)
      ),
      format_p(attack.p_value, floor),
    ]
    for name, attack in named.items()
  ]
  body = _BODY.format(
    models=len(attacks.loss.auroc), num_out=round(attacks.loss.num_out)
  )
  body += _ALONE if attacks.calibrated is None else _CALIBRATED
  if attacks.loss.num_out < 1000:
    is_very_few = attacks.loss.num_out < 100
    body += _FEW.format(
      least=100 if is_very_few else 1000,
      percent='1 %' if is_very_few else '0.1 %',
    )
  columns = ['ranked by', 'AUROC', 'TPR at 1 %', 'TPR at 0.1 %', 'p (AUROC)']
  return page.Section(
    'Could an attacker tell who was trained on?',
    body,
    table=page.Table(columns, rows),
  )


def membership_record(attacks: MembershipAttacks) -> dict[str, Any]:
  """The numbers, for report.json."""
  names = ('auroc', 'tpr_at_1_percent', 'tpr_at_01_percent')
  record: dict[str, Any] = {'num_permutations': attacks.num_permutations}
  for name, attack in _attacks(attacks).items():
    record[name] = {
      field: {
        'estimate': value,
        **interval._asdict(),
        'level': 0.95,
        'array': f'{ARRAYS}:{name}_{field}',
      }
      for field, value, interval in zip(
        names, attack.mean, attack.intervals, strict=True
      )
    }
    record[name] |= {
      'p_value': attack.p_value,
      'num_in': attack.num_in,
      'num_out': attack.num_out,
    }
  return record


def membership_arrays(attacks: MembershipAttacks) -> dict[str, np.ndarray]:
  """Every attack's numbers, model by model."""
  return {
    f'{name}_{field}': getattr(attack, field)
    for name, attack in _attacks(attacks).items()
    for field in _PER_MODEL
  }


def _attacks(attacks: MembershipAttacks) -> dict[str, Attack]:
  found = {name: getattr(attacks, name) for name in _NAMES}
  return {name: attack for name, attack in found.items() if attack is not None}


def _with_interval(value: float, interval) -> str:
  text = format_number(value)
  if np.isnan(interval.low):
    return text
  low, high = map(format_number, interval)
  return f'{text} ({low} to {high})'
