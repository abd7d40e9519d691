import numpy as np
import pytest

from memjax.scores.copying import (
  RATIOS,
  copying_test,
  detectable_share,
)


def sizes(rng, num_train, num_test, num_generated, num_features):
  return [
    rng.normal(size=(n, num_features))
    for n in (num_train, num_test, num_generated)
  ]


def with_copies(train, generated, share, noise, rng):
  """Some samples replaced by copies of as many training points."""
  count = round(share * len(generated))
  chosen = rng.choice(len(train), count, replace=False)
  copies = train[chosen] + noise * rng.normal(size=(count, train.shape[1]))
  return np.concatenate([copies, generated[count:]])


def slow_distance(x, points):
  return min(np.sqrt(((x - y) ** 2).sum()) for y in points)


def slow_ratio(d_train, d_test):
  if d_train == 0:
    return 1.0 if d_test == 0 else np.inf
  return d_test / d_train


def slow_test(train, test, generated, ratios, num_permutations, seed):
  """Every definition of `copying_test`, one sample and one point at a time."""
  near = lambda near, far, r: int(far > 0 and far >= r * near)

  def excess(train, test):
    total = []
    for r in ratios:
      value = 0
      for g in generated:
        a, b = slow_distance(g, train), slow_distance(g, test)
        value += near(a, b, r) - near(b, a, r)
      total.append(value / len(generated))
    return np.array(total)

  sample = [
    slow_ratio(slow_distance(g, train), slow_distance(g, test))
    for g in generated
  ]
  null = [
    slow_ratio(
      slow_distance(x, train),
      slow_distance(x, np.delete(test, i, axis=0)),
    )
    for i, x in enumerate(test)
  ]
  rng, pooled = np.random.default_rng(seed), np.concatenate([train, test])
  everything = [excess(train, test)]
  for _ in range(num_permutations):
    label = rng.permutation(np.arange(len(pooled)) < len(train))
    everything.append(excess(pooled[label], pooled[~label]))
  everything = np.array(everything)
  std = np.maximum(everything.std(axis=0), 1 / len(generated))
  z = (everything - everything.mean(axis=0)) / std
  largest = z[1:].max(axis=1)
  p = [(1 + (largest >= v - 1e-9).sum()) / (1 + len(largest)) for v in z[0]]
  # A share is told where samples are at least 1.5 times nearer.
  is_near_copy = np.array(ratios) >= 1.5
  best = int(np.argmax(np.where(is_near_copy, z[0], -np.inf)))
  rate = [np.mean([s >= r for s in sample]) for r in ratios]
  null_rate = [np.mean([s >= r for s in null]) for r in ratios]
  share = (rate[best] - null_rate[best]) / (1 - null_rate[best])
  variance = everything[1:, best].var() + max(share, 0) * (
    1 - max(share, 0)
  ) / len(generated)
  error = 1.96 * np.sqrt(variance) / (1 - null_rate[best])
  q = []
  for own in sample:
    rates = []
    for x in sample:
      if x <= own:
        found = sum(s >= x for s in sample) / len(sample)
        decoys = (1 + sum(s >= x for s in null)) / (1 + len(null))
        rates.append(min(1.0, decoys / found))
    q.append(min(rates))
  return {
    'p_value': min(p),
    'ratio': ratios[best],
    'copied_share': max(share, 0),
    'interval': (max(0, share - error), max(0, min(1, share + error))),
    'rate': rate,
    'null_rate': null_rate,
    'ratio_p_value': p,
    'sample_ratio': sample,
    'q_value': q,
  }


@pytest.mark.parametrize('num_copies', [0, 5])
@pytest.mark.parametrize(('num_train', 'num_test'), [(12, 7), (8, 13)])
def test_equals_the_definitions(num_copies, num_train, num_test):
  rng = np.random.default_rng(num_train)
  train, test, generated = sizes(rng, num_train, num_test, 10, 3)
  generated[:num_copies] = train[:num_copies] + 0.01
  generated[0] = train[0]
  test[1] = generated[9] = train[1]  # of both sets: no evidence
  ratios = (1.0, 1.3, 2.0, 50.0)
  result = copying_test(
    train, test, generated, ratios=ratios, num_permutations=19, seed=6
  )
  expected = slow_test(train, test, generated, ratios, 19, 6)
  for name, value in expected.items():
    np.testing.assert_allclose(
      getattr(result, name), value, atol=1e-9, err_msg=name
    )
  for i, g in enumerate(generated):
    np.testing.assert_allclose(result.d_train[i], slow_distance(g, train))
    np.testing.assert_allclose(result.d_test[i], slow_distance(g, test))
    np.testing.assert_allclose(
      np.linalg.norm(g - train[result.nearest_train[i]]), result.d_train[i]
    )
    np.testing.assert_allclose(
      np.linalg.norm(g - test[result.nearest_test[i]]), result.d_test[i]
    )


def test_nothing_but_distances_counts():
  rng = np.random.default_rng(0)
  sets = sizes(rng, 60, 50, 70, 4)
  sets[2] = with_copies(sets[0], sets[2], 0.1, 0.01, rng)
  small = {'num_permutations': 99, 'seed': 8}
  expected = copying_test(*sets, **small)
  rotation = np.linalg.qr(rng.normal(size=(4, 4)))[0]
  for moved in (
    [x @ rotation for x in sets],
    [8.0 * x for x in sets],
    [x + 3.0 for x in sets],
    [x.reshape(-1, 2, 2) for x in sets],
  ):
    result = copying_test(*moved, **small)
    for name in expected._fields:
      if name in ('d_train', 'd_test'):
        continue
      np.testing.assert_allclose(
        getattr(result, name), getattr(expected, name), rtol=1e-6, err_msg=name
      )


def test_order_of_samples_does_not_matter():
  rng = np.random.default_rng(1)
  train, test, generated = sizes(rng, 60, 50, 70, 3)
  generated[:7] = train[:7]
  order = rng.permutation(70)
  small = {'num_permutations': 99, 'seed': 8}
  one = copying_test(train, test, generated, **small)
  two = copying_test(train, test, generated[order], **small)
  assert one.p_value == two.p_value
  assert one.interval == two.interval
  for name in ('sample_ratio', 'q_value', 'd_train', 'nearest_test'):
    np.testing.assert_array_equal(getattr(one, name)[order], getattr(two, name))
  # The order of the others changes the random labels alone.
  three = copying_test(
    train[rng.permutation(60)], test[rng.permutation(50)], generated, **small
  )
  np.testing.assert_array_equal(one.sample_ratio, three.sample_ratio)
  np.testing.assert_array_equal(one.rate, three.rate)
  np.testing.assert_array_equal(one.q_value, three.q_value)
  assert abs(one.p_value - three.p_value) < 0.1


def test_cosine_sees_directions_alone():
  rng = np.random.default_rng(2)
  sets = sizes(rng, 50, 50, 50, 5)
  sets[2][:8] = 3 * sets[0][:8]
  result = copying_test(*sets, metric='cosine', num_permutations=99)
  assert result.p_value == 0.01
  np.testing.assert_allclose(result.d_train[:8], 0, atol=1e-30)
  scaled = [x * rng.uniform(0.5, 2, (50, 1)) for x in sets]
  again = copying_test(*scaled, metric='cosine', num_permutations=99)
  np.testing.assert_allclose(again.rate, result.rate)
  assert again.p_value == result.p_value


def test_points_of_both_sets_are_no_evidence():
  """What occurs in train and in test was not learnt from train alone."""
  rng = np.random.default_rng(3)
  train, test, generated = sizes(rng, 80, 80, 60, 3)
  test[:30] = train[:30]
  generated[:30] = train[:30]
  result = copying_test(train, test, generated, num_permutations=99)
  assert result.p_value > 0.05
  np.testing.assert_array_equal(result.sample_ratio[:30], 1.0)
  assert (result.q_value[:30] > 0.5).all()
  np.testing.assert_array_equal(result.d_test[:30], 0)


def test_discrete_data_full_of_ties_is_no_evidence():
  p = []
  for seed in range(60):
    rng = np.random.default_rng(seed)
    sets = rng.integers(0, 3, (3, 40, 3)).astype(float)
    result = copying_test(*sets, num_permutations=39, seed=seed + 500)
    p.append(result.p_value)
    assert np.isfinite(result.copied_share)
  assert np.mean(np.array(p) <= 0.1) <= 0.1 + 3 * np.sqrt(0.09 / 60)


def test_all_points_equal_is_no_evidence():
  result = copying_test(
    np.zeros((5, 2)), np.zeros((5, 2)), np.zeros((5, 2)), num_permutations=19
  )
  assert result.p_value == 1.0
  assert result.q_value.min() == 1.0


HONEST = {
  'honest': lambda rng: sizes(rng, 50, 50, 50, 3),
  'narrow and elsewhere': lambda rng: [
    *sizes(rng, 50, 50, 1, 3)[:2],
    0.3 * rng.normal(size=(50, 3)) + 1,
  ],
  'noisy': lambda rng: [
    *sizes(rng, 50, 50, 1, 3)[:2],
    3 * rng.normal(size=(50, 3)),
  ],
  'much training': lambda rng: sizes(rng, 80, 20, 40, 3),
  'little training': lambda rng: sizes(rng, 20, 80, 40, 3),
  'dependent samples': lambda rng: [
    *sizes(rng, 50, 50, 1, 3)[:2],
    np.repeat(rng.normal(size=(8, 3)), 6, axis=0)
    + 0.01 * rng.normal(size=(48, 3)),
  ],
}


@pytest.mark.parametrize('name', HONEST)
def test_without_copying_p_is_valid(name):
  """The seeds of data and labels differ: equal ones would correlate."""
  p = np.array(
    [
      copying_test(
        *HONEST[name](np.random.default_rng(seed)),
        num_permutations=19,
        seed=100_000 + seed,
      ).p_value
      for seed in range(100)
    ]
  )
  for level in (0.05, 0.1, 0.25, 0.5):
    allowed = level + 3 * np.sqrt(level * (1 - level) / len(p))
    assert (p <= level).mean() <= allowed, level
  # And it is no waste: p is nearly uniform.
  assert (p <= 0.5).mean() > 0.3


def test_each_ratio_is_corrected_for_the_others():
  """A p below the level at any ratio is as rare as the smallest of them."""
  result = copying_test(
    *sizes(np.random.default_rng(0), 60, 60, 60, 4), num_permutations=99
  )
  assert result.p_value == result.ratio_p_value.min()
  assert result.ratio >= 1.5


@pytest.mark.parametrize('num_features', [2, 8, 64])
@pytest.mark.parametrize('noise', [0.0, 0.01])
def test_planted_copies_are_found(num_features, noise):
  """5 % of 300 samples in at least 9 of 10 data sets."""
  found = 0
  for seed in range(10):
    rng = np.random.default_rng(seed)
    train, test, generated = sizes(rng, 300, 300, 300, num_features)
    # In two dimensions noise of 0.01 is a fifth of the distance to a point.
    generated = with_copies(train, generated, 0.05, noise / 5, rng)
    result = copying_test(
      train, test, generated, num_permutations=99, seed=seed + 1000
    )
    found += result.p_value <= 0.05
  assert found >= 9


@pytest.mark.parametrize('num_features', [2, 8, 64])
def test_the_interval_covers_the_share_of_copies(num_features):
  """And q holds: at most 5 % of those it names are no copies."""
  share, covers, false = 0.1, [], []
  for seed in range(60):
    rng = np.random.default_rng(seed)
    train, test, generated = sizes(rng, 200, 200, 200, num_features)
    generated = with_copies(train, generated, share, 0.001, rng)
    result = copying_test(
      train, test, generated, num_permutations=49, seed=seed + 1000
    )
    low, high = result.interval
    covers.append(low <= share <= high)
    named = result.q_value <= 0.05
    false.append(named[20:].sum() / max(1, named.sum()))
  assert np.mean(covers) >= 0.9
  assert np.mean(false) <= 0.05 + 2 * np.std(false) / np.sqrt(60)


@pytest.mark.parametrize('num_features', [2, 16])
def test_keeping_to_dense_regions_is_not_copying(num_features):
  p, named = [], 0
  for seed in range(40):
    rng = np.random.default_rng(seed)
    train, test, generated = sizes(rng, 150, 150, 150, num_features)
    result = copying_test(
      train, test, 0.5 * generated, num_permutations=39, seed=seed + 1000
    )
    p.append(result.p_value)
    named += (result.q_value <= 0.05).any()
  assert np.mean(np.array(p) <= 0.05) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 40)
  assert named <= 4


def test_one_by_one_copies_are_named_before_others():
  rng = np.random.default_rng(0)
  train, test, generated = sizes(rng, 300, 300, 300, 16)
  generated = with_copies(train, generated, 0.1, 0.01, rng)
  result = copying_test(train, test, generated, num_permutations=99)
  assert (result.q_value[:30] <= 0.05).all()
  assert (result.q_value[30:] <= 0.05).sum() <= 4
  assert result.copied_share == pytest.approx(0.1, abs=0.03)


def test_detectable_share_is_that_of_the_actual_power():
  """Of 60 data sets with 1 % copies .23 are found, with 2 % .90, with 3 % 1."""
  power = {}
  for share in (0.01, 0.03):
    p = []
    for seed in range(15):
      rng = np.random.default_rng(seed)
      train, test, generated = sizes(rng, 300, 300, 300, 16)
      generated = with_copies(train, generated, share, 0.0, rng)
      p.append(
        copying_test(
          train, test, generated, num_permutations=99, seed=seed + 1000
        ).p_value
      )
    power[share] = np.mean(np.array(p) <= 0.05)
  assert power[0.01] < 0.8
  assert power[0.03] >= 0.9
  for seed in range(3):
    rng = np.random.default_rng(seed + 500)
    sets = sizes(rng, 300, 300, 300, 16)
    # What the samples show by themselves is no part of the answer.
    sets[2][: 3 * seed] = sets[0][: 3 * seed]
    found = detectable_share(*sets, num_permutations=99, seed=seed)
    assert 0.02 <= found <= 0.05


def test_a_hopeless_test_says_so():
  rng = np.random.default_rng(0)
  small = {'num_permutations': 39, 'num_draws': 4}
  assert detectable_share(*sizes(rng, 5, 5, 4, 3), **small) == np.inf
  # With 1,000 training points to a test point nearly every label is train.
  assert detectable_share(*sizes(rng, 1000, 2, 20, 3), **small) == np.inf


def test_a_share_of_less_than_a_sample_is_never_promised():
  """With many test points one copy is enough; it is 1 of 20 samples."""
  sets = sizes(np.random.default_rng(0), 10, 600, 20, 32)
  found = detectable_share(*sets, num_permutations=99, num_draws=5)
  assert 0.05 <= found < np.inf


def test_detectable_share_is_reproducible_and_among_the_asked():
  sets = sizes(np.random.default_rng(0), 100, 100, 100, 16)
  small = {'num_permutations': 39, 'num_draws': 3, 'seed': 4}
  found = detectable_share(*sets, shares=(0.02, 0.3), **small)
  assert found == 0.3
  assert found == detectable_share(*sets, shares=(0.02, 0.3), **small)
  low = detectable_share(*sets, shares=(0.3,), power=0.0, **small)
  assert low == 0.3


GOOD = {'train': np.eye(6), 'test': np.eye(6)[:4], 'generated': np.eye(6)[:3]}


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    ({'test': np.eye(6)[:1]}, 'test has 1 point: expected 2 or more'),
    ({'ratios': ()}, r'ratios=\(\)'),
    ({'ratios': (0.9, 2.0)}, 'ratios=0.9: expected a number in'),
    ({'ratios': (float('nan'),)}, 'ratios=nan'),
    ({'num_permutations': 0}, 'num_permutations=0'),
    ({'seed': -1}, 'seed=-1'),
    ({'metric': 'manhattan'}, "metric='manhattan'"),
    ({'train': np.eye(5)}, 'test has 6 features and train 5'),
    ({'train': np.empty((0, 6))}, r'train has shape \(0, 6\)'),
    ({'generated': np.arange(6.0)}, r'generated has shape \(6,\)'),
    ({'generated': np.full((2, 6), np.nan)}, r'generated\[0, 0\]=nan'),
    ({'train': np.zeros((6, 6)), 'metric': 'cosine'}, r'train\[0\] is a zero'),
  ],
)
def test_bad_arguments_are_named(arguments, message):
  with pytest.raises(ValueError, match=message):
    copying_test(**{**GOOD, **arguments})


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    ({'level': 0.0}, 'level=0.0'),
    ({'level': 1.0}, 'level=1.0'),
    ({'power': 1.5}, 'power=1.5'),
    ({'num_draws': 0}, 'num_draws=0'),
    ({'shares': (2.0,)}, 'shares=2.0'),
    ({'num_permutations': 0}, 'num_permutations=0'),
    ({'test': np.eye(6)[:1]}, 'test has 1 point: expected 2 or more'),
    ({'seed': -1}, 'seed=-1'),
    ({'train': np.eye(5)}, 'test has 6 features and train 5'),
  ],
)
def test_bad_arguments_of_detectable_share_are_named(arguments, message):
  with pytest.raises(ValueError, match=message):
    detectable_share(**{**GOOD, **arguments})


def test_ratios_may_come_in_any_order_and_twice():
  sets = sizes(np.random.default_rng(0), 30, 30, 30, 3)
  one, two = (
    copying_test(*sets, ratios=ratios, num_permutations=19)
    for ratios in ((2.0, 1.0, 2.0, 5.0), (1.0, 2.0, 5.0))
  )
  assert one.p_value == two.p_value
  np.testing.assert_array_equal(one.ratios, (1.0, 2.0, 5.0))
  assert tuple(sorted(RATIOS)) == RATIOS
