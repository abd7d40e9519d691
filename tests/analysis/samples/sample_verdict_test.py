"""Where the words change, number by number."""

import numpy as np
import pytest

from memjax.analysis.page import VERDICTS
from memjax.analysis.samples import report_page
from memjax.analysis.samples.analysis import analyze_samples
from memjax.analysis.samples.verdict import judge_samples
from memjax.stats import Interval


@pytest.fixture(scope='module')
def honest():
  sets = np.random.default_rng(0).normal(size=(3, 150, 4))
  analysis = analyze_samples(*sets, num_permutations=99, seed=50, level=1.0)
  return change(
    analysis._replace(detectable=0.02),
    copying={'p_value': 0.4, 'ratio_p_value': np.full(9, 0.4)},
    mixing={'p_value': 0.4},
    frechet={'p_value': 0.4},
    reference={'p_value': 0.4},
    nearness={'p_narrow': 0.4, 'p_wide': 0.6},
    data_copying={'p_value': 0.4},
    precision={'p_value': 0.4},
    coverage={'p_value': 0.4},
  )


def change(analysis, **parts):
  for name, fields in parts.items():
    if name in ('precision', 'coverage'):
      test = getattr(analysis.coverage, name)._replace(**fields)
      beside = {name: test}
      # What test points alone have is told beside the samples' value.
      if name == 'precision':
        beside['test_precision'] = test.null_mean
      else:
        beside['equal_coverage'] = test.value
        beside['test_coverage'] = test.null_mean
      analysis = analysis._replace(
        coverage=analysis.coverage._replace(**beside)
      )
    elif isinstance(fields, dict):
      part = getattr(analysis, name)._replace(**fields)
      analysis = analysis._replace(**{name: part})
    else:
      analysis = analysis._replace(**{name: fields})
  return analysis


def copying(p_strong, p_weak=None, low=0.02, share=0.05, high=0.08):
  """p of ratios of 1.5 and more, and of those below."""
  p_weak = p_strong if p_weak is None else p_weak
  p = np.where(np.arange(9) >= 3, p_strong, p_weak)
  return {
    'p_value': float(p.min()),
    'ratio_p_value': p,
    'copied_share': share,
    'interval': Interval(low, high),
    'ratio': 2.0 if p_strong <= p_weak else 1.0,
  }


@pytest.mark.parametrize(
  ('fields', 'kind', 'phrase'),
  [
    (copying(0.01), 'copies', 'It copies: about 5.0 % of the samples'),
    (copying(0.02), 'leans', 'Possibly it copies: about 5.0 %'),
    (copying(0.05), 'leans', 'Possibly it copies'),
    (copying(0.06), 'no_copying', 'No copying found.'),
    (copying(0.5, 0.01), 'leans', 'It leans towards its training set'),
    (copying(0.01, low=0.0), 'leans', 'how many are copies cannot be told'),
  ],
)
def test_what_counts_as_copying(honest, fields, kind, phrase):
  verdict = judge_samples(change(honest, copying=fields))
  assert verdict.kind == kind
  assert phrase in verdict.headline
  assert kind in VERDICTS


@pytest.mark.parametrize(
  ('detectable', 'phrase'),
  [
    (0.02, 'in 9 of 10 trials, if they were 2.0 % of the samples'),
    (0.001, 'if they were 0.10 % of the samples'),
    (np.inf, 'But even 20 % of exact copies would hardly have been found'),
  ],
)
def test_what_no_copying_found_is_worth(honest, detectable, phrase):
  verdict = judge_samples(change(honest, detectable=detectable))
  assert phrase in verdict.uncertainty


@pytest.mark.parametrize(
  ('parts', 'phrase'),
  [
    ({'precision': {'p_value': 0.001, 'value': 0.5, 'null_mean': 0.9}},
     'Samples lie off the data (noise, or other content): 50 % lie among'),
    ({'nearness': {'p_wide': 0.001, 'to_held_out': 0.3}},
     'farther from held-out data than data are in 70 % of pairs'),
    ({'coverage': {'p_value': 0.001, 'value': 0.5, 'null_mean': 0.9}},
     'Too little diversity: samples leave 50 % of the data uncovered, as many '
     'test points 10.0 %'),
    ({'nearness': {'p_narrow': 0.001, 'to_held_out': 0.7}},
     'samples keep to the dense regions, nearer to held-out data than data '
     'are in 70 % of pairs'),
    ({'mixing': {'p_value': 0.001, 'value': 0.1}},
     'Their distribution differs'),
    ({'frechet': {'p_value': 0.001}, 'mixing': {'value': 0.1}},
     'Their distribution differs'),
    ({'precision': {'p_value': 0.001, 'value': 0.5, 'null_mean': 0.9},
      'coverage': {'p_value': 0.001, 'value': 0.5, 'null_mean': 0.9}},
     'They leave 50 % of the data uncovered'),
  ],
)  # fmt: skip
def test_other_differences_are_said_and_are_no_copying(honest, parts, phrase):
  verdict = judge_samples(change(honest, **parts))
  assert verdict.kind == 'differs'
  assert phrase in verdict.headline
  copies = judge_samples(change(honest, copying=copying(0.01), **parts))
  assert copies.kind == 'copies'
  assert phrase in copies.headline


@pytest.mark.parametrize(
  'parts',
  [
    {'precision': {'p_value': 0.001, 'value': 0.89, 'null_mean': 0.9}},
    {'coverage': {'p_value': 0.001, 'value': 0.89, 'null_mean': 0.9}},
    {'mixing': {'p_value': 0.001, 'value': 0.019}},
    {'nearness': {'p_narrow': 0.001, 'to_held_out': 0.54}},
    {'nearness': {'p_wide': 0.001, 'to_held_out': 0.46}},
  ],
)
def test_certain_but_small_differences_are_called_small(honest, parts):
  verdict = judge_samples(change(honest, **parts))
  assert verdict.kind == 'no_copying'
  answers = [view.answer for view in verdict.views]
  assert 'mostly' in answers or 'slightly different' in answers


@pytest.mark.parametrize(
  'parts',
  [
    {'precision': {'p_value': 0.02, 'value': 0.5, 'null_mean': 0.9}},
    {'coverage': {'p_value': 0.02, 'value': 0.5, 'null_mean': 0.9}},
    {'mixing': {'p_value': 0.02, 'value': 0.3}},
    {'nearness': {'p_narrow': 0.02, 'to_held_out': 0.7}},
  ],
)
def test_six_tests_share_one_level(honest, parts):
  verdict = judge_samples(change(honest, **parts))
  assert verdict.kind == 'no_copying'
  assert 'No other difference from the data was found.' in verdict.headline


def test_doubtful_test_points_make_copying_invalid(honest):
  unlike = {'reference': {'p_value': 0.001, 'value': 0.1}}
  for fields in (copying(0.01), copying(0.5, 0.01)):
    verdict = judge_samples(change(honest, copying=fields, **unlike))
    assert verdict.kind == 'not_valid'
    assert 'No verdict: the test points differ' in verdict.headline
  verdict = judge_samples(change(honest, **unlike))
  assert verdict.kind == 'not_valid'
  assert 'every comparison with test points is doubtful' in verdict.caveats[0]
  small = {'reference': {'p_value': 0.001, 'value': 0.01}}
  verdict = judge_samples(change(honest, copying=copying(0.01), **small))
  assert verdict.kind == 'copies'


def test_c_t_alone_is_explained(honest):
  low = {'data_copying': {'p_value': 1 / 1001, 'c_t': -4.0}}
  verdict = judge_samples(change(honest, **low))
  assert verdict.kind == 'no_copying'
  (caveat,) = verdict.caveats
  assert 'C_T is −4 (p ≤ 0.001), which is commonly read as copying' in caveat
  assert 'finds none' in caveat
  dense = {'nearness': {'to_held_out': 0.6}}
  (caveat,) = judge_samples(change(honest, **low, **dense)).caveats
  assert 'keep to dense regions' in caveat
  both = judge_samples(change(honest, copying=copying(0.01), **low))
  assert both.caveats == ()


def test_samples_that_stand_out_are_told_though_the_test_finds_nothing(honest):
  q_value = np.ones(150)
  q_value[:30] = 0.01
  nearest = np.arange(150)
  nearest[:30] = np.arange(30) % 2
  stand_out = {'q_value': q_value, 'nearest_train': nearest}
  verdict = judge_samples(change(honest, copying=stand_out))
  assert verdict.kind == 'leans'
  assert 'Possibly it copies: 30 samples' in (verdict.headline)
  assert 'so near to 2 training points' in verdict.headline
  found = judge_samples(change(honest, copying={**stand_out, **copying(0.01)}))
  assert 'samples are so near' not in found.headline


def test_repeats_like_those_of_the_training_set_are_no_caveat(honest):
  caveats = lambda repeats: (
    judge_samples(change(honest, repeats=repeats)).caveats
  )
  assert caveats((0.1, 0.1)) == ()
  assert len(caveats((0.2, 0.1))) == 1


def test_a_share_that_does_not_exist_is_not_called_a_number(honest):
  nothing = {
    'copied_share': np.nan, 'interval': Interval(0.0, 1.0),
    'p_value': 0.001, 'ratio_p_value': np.full(9, 0.001),
  }  # fmt: skip
  verdict = judge_samples(change(honest, copying=nothing))
  assert verdict.kind == 'leans'
  assert 'nan' not in f'{verdict.headline}{verdict.uncertainty}'


def test_p_values_do_not_claim_more_than_their_tests(honest):
  """Of two tests the smaller p is doubled, and so is the least it can be."""
  lost = change(honest, coverage={'p_value': 1 / 1001})
  verdict = judge_samples(lost, 1000)
  rows = report_page.views(verdict, 1000, '').table.rows
  assert [row[-1] for row in rows if row[0] == verdict.views[2].question] == [
    'p ≤ 0.002'
  ]
  assert {view.num_tests for view in verdict.views} == {1, 2}


def test_exact_copies_are_named_where_no_single_one_stands_out(honest):
  """Of ten copies beside few test points q cannot be below 0.05."""
  ratio = honest.copying.sample_ratio.copy()
  ratio[:10] = np.inf
  q_value = np.full(len(ratio), 0.09)
  fields = {**copying(0.001), 'sample_ratio': ratio, 'q_value': q_value}
  found = change(honest, copying=fields)
  verdict = judge_samples(found)
  assert '10 samples are exactly a training point' in verdict.uncertainty
  assert 'No single one stands out: 150 test points' in verdict.uncertainty
  assert 'falsely' not in verdict.uncertainty
  tile = report_page.key_numbers(found, verdict)[1]
  assert (tile.value, tile.interval) == ('0 of 150', 'the lowest q is 0.09')
  fields['q_value'] = np.where(np.isinf(ratio), 0.01, 1.0)
  found = change(honest, copying=fields)
  verdict = judge_samples(found)
  assert '10 samples stand out one by one, at most 5 %' in verdict.uncertainty
  assert report_page.key_numbers(found, verdict)[1].value == '10 of 150'
