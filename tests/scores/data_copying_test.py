import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from sklearn.datasets import make_moons

from memjax.scores.cells import (
  data_copying_distances,
  make_cells,
  rank_cells,
  rank_z,
)
from memjax.scores.copying_cells import (
  data_copying_cells,
  data_copying_interval,
)
from memjax.scores.data_copying import (
  classwise_data_copying,
  data_copying_test,
)
from memjax.stats import exchange_test

# Goldens of part C of papers-and-their-code.md.
T = np.stack([np.sin(1.3 * np.arange(240)), np.cos(2.1 * np.arange(240))], 1)
P = np.stack(
  [np.sin(1.3 * np.arange(120) + 0.4), np.cos(2.1 * np.arange(120) + 0.7)], 1
)
Q = np.stack(
  [np.sin(1.3 * np.arange(160) + 0.01), np.cos(2.1 * np.arange(160) + 0.01)], 1
)
QUADRANTS = tuple((x[:, 0] > 0) + 2 * (x[:, 1] > 0) for x in (T, P, Q))


def slow_z(test_distance, generated_distance):
  """Every pair of a generated and a test distance, one by one."""
  n, m = len(test_distance), len(generated_distance)
  u = sum(
    (g > t) + 0.5 * (g == t) for g in generated_distance for t in test_distance
  )
  return (u - (n * m / 2 - 0.5)) / np.sqrt(n * m * (n + m + 1) / 12)


def slow_c_t(train, test, generated, cells, min_share):
  """The definition, cell by cell, with all pairs of points."""
  distance = lambda x, y: np.array(
    [np.linalg.norm(y - a, axis=1).min() for a in x]
  )
  total, weight = 0.0, 0.0
  for cell in range(max(c.max() for c in cells) + 1):
    t, p, q = (
      x[c == cell] for x, c in zip((train, test, generated), cells, strict=True)
    )
    if len(q) / len(generated) > min_share and len(p) and len(t):
      total += len(p) * slow_z(distance(p, t), distance(q, t))
      weight += len(p)
  return total / weight


@pytest.mark.parametrize(
  ('min_cell_share', 'c_t'), [(None, -5.0362465), (39 / 160, -4.8076291)]
)
def test_golden_values(min_cell_share, c_t):
  result = data_copying_test(
    T, P, Q, cells=QUADRANTS, min_cell_share=min_cell_share
  )
  np.testing.assert_allclose(result.z_u, -10.3061467, atol=5e-8)
  np.testing.assert_allclose(
    result.cell_z_u, [-4.2310329, -3.3920770, -5.7961943, -5.4800163], atol=5e-8
  )
  np.testing.assert_allclose(result.c_t, c_t, atol=5e-8)
  # Cell 0 holds 39 generated samples, cell 2 only 37.
  kept = [1, 1, 1, 1] if min_cell_share is None else [0, 1, 0, 1]
  test_counts = np.array(kept) * [21, 19, 40, 40]
  np.testing.assert_allclose(
    result.cell_weight, test_counts / test_counts.sum()
  )
  np.testing.assert_allclose(
    slow_c_t(T, P, Q, QUADRANTS, min_cell_share or 20 / 160), c_t, atol=5e-8
  )
  assert result.p_value == 1 / 1001
  np.testing.assert_allclose(
    result.null_std, np.linalg.norm(result.cell_weight), rtol=1e-6
  )
  distances = data_copying_distances(T, P, Q, cells=QUADRANTS)
  cells = data_copying_cells(distances)
  np.testing.assert_array_equal(cells.num_train, [52, 59, 63, 66])
  np.testing.assert_array_equal(cells.num_test, [21, 19, 40, 40])
  np.testing.assert_array_equal(cells.num_generated, [39, 44, 37, 40])
  assert cells.is_copying.all()


def test_four_points_with_ties():
  train = np.arange(4.0)[:, None]
  z = lambda test, generated: (
    data_copying_test(
      train, test, generated, num_cells=1, min_cell_share=0.0
    ).z_u
  )
  near = train + 0.25
  np.testing.assert_allclose(z(near, near), 0.1443376, atol=5e-8)
  np.testing.assert_allclose(z(near, train), -2.1650635, atol=5e-8)
  np.testing.assert_allclose(z(train, near), 2.4537386, atol=5e-8)


@pytest.mark.parametrize(('size', 'z'), [(200, -17.30), (1000, -38.72)])
def test_saturation_of_a_pure_copier(size, z):
  rng = np.random.default_rng(0)
  train, test = rng.normal(size=(2, size, 3))
  result = data_copying_test(train, test, train, num_cells=1)
  np.testing.assert_allclose(result.z_u, z, atol=0.005)
  np.testing.assert_allclose(result.c_t, result.z_u)
  limit = -np.sqrt(3 * size * size / (2 * size + 1))
  np.testing.assert_allclose(result.z_u, limit, rtol=1e-4)


def test_cosine_distances_of_the_fork():
  """The fork's 1 − |cos| equals our 1 − cos for positive features."""

  def rows(size, phase):
    d = np.arange(5)
    angle = (0.7 + 0.3 * d) * np.arange(size)[:, None] + phase * (d + 1)
    return 1.5 + np.sin(angle)

  sets = rows(100, 0), rows(60, 0.37), rows(80, 0.05)
  z = lambda metric: data_copying_test(*sets, num_cells=1, metric=metric).z_u
  np.testing.assert_allclose(z('cosine'), -5.2276581, atol=5e-8)
  np.testing.assert_allclose(z('euclidean'), -6.6551056, atol=5e-8)


def test_z_equals_all_pairs():
  rng = np.random.default_rng(0)
  for _ in range(20):
    n, m = rng.integers(1, 12, size=2)
    test, generated = rng.integers(0, 6, n) / 4, rng.integers(0, 6, m) / 4
    np.testing.assert_allclose(
      rank_z(test, generated), slow_z(test, generated), rtol=1e-12
    )


def test_swapping_and_scaling():
  """Swapped arguments reflect U; the shift by ½ stays."""
  test, generated = np.random.default_rng(0).normal(size=(2, 30)) + 9
  spread = np.sqrt(30 * 30 * 61 / 12)
  np.testing.assert_allclose(
    rank_z(test, generated) + rank_z(generated, test), 1 / spread
  )
  assert rank_z(np.exp(test), np.exp(generated)) == rank_z(test, generated)
  one = data_copying_test(T, P, Q, cells=QUADRANTS)
  two = data_copying_test(7 * T - 3, 7 * P - 3, 7 * Q - 3, cells=QUADRANTS)
  np.testing.assert_allclose(two.cell_z_u, one.cell_z_u)
  order = np.random.default_rng(1).permutation(160)
  labels = (*QUADRANTS[:2], QUADRANTS[2][order])
  three = data_copying_test(jnp.asarray(T), P.tolist(), Q[order], cells=labels)
  np.testing.assert_allclose(three.cell_z_u, one.cell_z_u, atol=1e-6)


@pytest.mark.parametrize(
  ('bandwidth', 'c_t', 'c_t_std', 'z_u', 'z_u_std'),
  [(0.001, -17.36, 0.06, -38.51, 0.1), (0.01, -11.35, 0.27, -25.3, 0.6),
   (0.1, 0.38, 0.42, 0.9, 0.9)],
)  # fmt: skip
def test_kernel_densities_on_moons(bandwidth, c_t, c_t_std, z_u, z_u_std):
  """Bands of the reference code over 20 seeds, part C."""
  moons = lambda size, seed: make_moons(size, noise=0.2, random_state=seed)[0]
  train, test = moons(2000, 0), moons(1000, 1)
  rng = np.random.default_rng(2)
  generated = train[rng.integers(0, 2000, 1000)]
  generated = generated + bandwidth * rng.normal(size=(1000, 2))
  result = data_copying_test(train, test, generated)
  assert abs(result.c_t - c_t) < 4 * c_t_std
  assert abs(result.z_u - z_u) < 4 * z_u_std
  assert (result.p_value < 0.01) == (bandwidth < 0.1)


def test_neighbours_are_searched_within_cells():
  train = np.array([[0.0], [10.0]])
  test, generated = np.array([[1.0]]), np.array([[9.0]])
  distances = data_copying_distances(
    train, test, generated, cells=([0, 1], [1], [0])
  )
  assert (distances.test, distances.test_in_cell) == (1.0, 9.0)
  assert (distances.generated, distances.generated_in_cell) == (1.0, 9.0)


def test_null_moments_equal_exchange_test_within_strata():
  """The one null mechanism, with ties; here C_T is computed anew each time."""
  rng = np.random.default_rng(0)
  train = rng.integers(0, 4, size=(60, 2)) / 2
  test, generated = rng.integers(0, 12, size=(2, 90, 2)) / 6
  cells = tuple(rng.integers(0, 2, len(x)) for x in (train, test, generated))
  distances = data_copying_distances(train, test, generated, cells=cells)
  result = data_copying_test(train, test, generated, cells=cells)

  def c_t(test, generated):
    z = [
      rank_z(test[test[:, 1] == c, 0], generated[generated[:, 1] == c, 0])
      for c in (0, 1)
    ]
    return result.cell_weight @ z

  pack = lambda d, c: np.stack([d, c], axis=1)
  slow = exchange_test(
    c_t,
    pack(distances.test_in_cell, cells[1]),
    pack(distances.generated_in_cell, cells[2]),
    strata=cells[1:],
    num_permutations=2000,
    alternative='less',
  )
  np.testing.assert_allclose(slow.value, result.c_t)
  np.testing.assert_allclose(slow.null_std, result.null_std, rtol=0.06)
  null_mean = rank_cells(distances).null_mean @ result.cell_weight
  assert abs(slow.null_mean - null_mean) < 4 * result.null_std / 2000**0.5
  assert abs(slow.p_value - result.p_value) < 0.06
  assert (rank_cells(distances).null_std < 1).all()  # ties


def draws(seed, num_features=2, copied=0, size=150):
  """Train, test, and an honest generator's samples of which some are copies."""
  rng = np.random.default_rng(seed)
  train, test, generated = rng.normal(size=(3, size, num_features))
  generated[:copied] = train[:copied] + 1e-3 * rng.normal(
    size=(copied, num_features)
  )
  return train, test, generated


def test_under_the_null_p_is_uniform():
  p, z = [], []
  for seed in range(200):
    sets = draws(seed)
    cells = tuple((x[:, 0] > 0).astype(int) for x in sets)
    result = data_copying_test(
      *sets, cells=cells, num_permutations=99, seed=seed
    )
    p.append(result.p_value)
    z.append(result.c_t / result.null_std)
  assert scipy.stats.kstest(np.array(p) - 0.005, 'uniform').pvalue > 0.01
  # 200 draws: 5 standard errors of a mean and of a standard deviation.
  assert abs(np.mean(z)) < 5 * 0.071
  assert abs(np.std(z) - 1) < 5 * 0.05


@pytest.mark.parametrize('num_features', [2, 8, 64])
def test_copies_are_found(num_features):
  found = 0
  for seed in range(6):
    sets = draws(seed, num_features, copied=60)
    found += data_copying_test(*sets, num_cells=2).p_value <= 0.05
  assert found == 6


def test_too_wide_a_generator_is_no_copier():
  train, test, generated = draws(0)
  result = data_copying_test(train, test, 3 * generated, num_cells=2)
  assert result.c_t > 3
  assert result.p_value > 0.99


def test_the_interval_covers_the_mean_of_c_t():
  """Fixed train and cells, new test and generated sets; 90 % nominal."""
  rng = np.random.default_rng(0)
  train = rng.normal(size=(200, 2))
  values, intervals = [], []
  for seed in range(200):
    test, generated = rng.normal(size=(2, 150, 2))
    is_copy = rng.random(150) < 0.3
    source = train[rng.integers(0, 200, is_copy.sum())]
    generated[is_copy] = source + 0.02 * rng.normal(size=source.shape)
    cells = tuple((x[:, 0] > 0).astype(int) for x in (train, test, generated))
    distances = data_copying_distances(train, test, generated, cells=cells)
    values.append(data_copying_test(
      train, test, generated, cells=cells, num_permutations=1
    ).c_t)  # fmt: skip
    intervals.append(
      data_copying_interval(
        distances, confidence=0.9, num_resamples=200, seed=seed
      )
    )
  covered = [low <= np.mean(values) <= high for low, high in intervals]
  # The standard error of the coverage is 0.021.
  assert 0.84 < np.mean(covered) < 0.96


def test_the_interval_of_one_resample_equals_its_c_t():
  """A resample is C_T of the repeated points, in cells that are kept."""
  distances = data_copying_distances(T, P, Q, cells=QUADRANTS)
  rng = np.random.default_rng(3)
  counts = [rng.multinomial(n, np.full(n, 1 / n), 1)[0] for n in (120, 160)]
  test = np.repeat(np.arange(120), counts[0])
  generated = np.repeat(np.arange(160), counts[1])
  expected = data_copying_test(
    T, P[test], Q[generated],
    cells=(QUADRANTS[0], QUADRANTS[1][test], QUADRANTS[2][generated]),
    min_cell_share=0.0,
  ).c_t  # fmt: skip
  low, high = data_copying_interval(distances, num_resamples=1, seed=3)
  np.testing.assert_allclose([low, high], expected, rtol=1e-12)


def test_the_cell_that_copies_and_its_samples_are_named():
  rng = np.random.default_rng(0)
  cells = tuple(np.arange(300) % 3 for _ in range(3))
  train, test, generated = rng.normal(size=(3, 300, 4)) + 20 * cells[0][:, None]
  copies = np.arange(1, 150, 3)
  generated[copies] = train[copies + 3] + 1e-4
  distances = data_copying_distances(train, test, generated, cells=cells)
  result = data_copying_cells(distances)
  np.testing.assert_array_equal(result.is_copying, [False, True, False])
  assert set(copies) == set(result.suspicious[: len(copies)])
  assert len(result.suspicious) < len(copies) + 15
  np.testing.assert_allclose(
    result.p_value,
    [
      scipy.stats.mannwhitneyu(
        distances.generated_in_cell[cells[2] == c],
        distances.test_in_cell[cells[1] == c],
        alternative='less',
      ).pvalue
      for c in range(3)
    ],
  )


def test_cells_without_points_are_left_out_and_shown():
  train, test, generated = draws(0)
  cells = [np.zeros(150, int) for _ in range(3)]
  cells[0][:20], cells[1][:30], cells[2][:40] = 1, 2, 3
  for part in cells:
    part[40:90] = 4
  cells[1][60] = 6  # a last cell without training points
  distances = data_copying_distances(train, test, generated, cells=tuple(cells))
  result = data_copying_cells(distances)
  is_complete = np.array([True, False, False, False, True, False, False])
  np.testing.assert_array_equal(np.isfinite(result.z_u), is_complete)
  np.testing.assert_array_equal(np.isfinite(result.p_value), is_complete)
  np.testing.assert_array_equal(result.weight > 0, is_complete)
  np.testing.assert_array_equal(result.num_train, [80, 20, 0, 0, 50, 0, 0])
  np.testing.assert_array_equal(result.num_test, [70, 0, 30, 0, 49, 0, 1])
  whole = data_copying_test(train, test, generated, cells=tuple(cells))
  np.testing.assert_allclose(whole.cell_weight.sum(), 1)
  assert np.isfinite(data_copying_interval(distances)).all()


def test_equal_distances_are_no_discovery():
  same = np.zeros((60, 2))
  result = data_copying_test(same, same, same, cells=(np.zeros(60, int),) * 3)
  assert result.p_value == 1.0
  assert result.null_std == 0.0
  distances = data_copying_distances(same, same, same, cells=([0] * 60,) * 3)
  assert data_copying_cells(distances).p_value == 1.0


def test_classes_are_tests_of_their_own():
  train, test, generated = draws(0, copied=50, size=300)
  label = np.repeat([0, 1, 4], 100)
  result = classwise_data_copying(
    train, test, generated, labels=(label,) * 3, num_cells=2
  )
  np.testing.assert_array_equal(result.label, [0, 1, 4])
  for c in range(3):
    rows = slice(100 * c, 100 * c + 100)
    alone = data_copying_test(
      train[rows], test[rows], generated[rows], num_cells=2
    )
    np.testing.assert_allclose(result.c_t[c], alone.c_t)
    np.testing.assert_allclose(result.null_std[c], alone.null_std)
    assert abs(result.p_value[c] - alone.p_value) < 0.06
  np.testing.assert_allclose(result.mean_c_t, result.c_t.mean())
  np.testing.assert_allclose(
    result.mean_null_std, np.linalg.norm(result.null_std) / 3
  )
  assert result.p_value[0] < 0.01 < result.p_value[1:].min()
  assert result.null_mean.min() > 0


def test_classes_without_points_have_no_value():
  train, test, generated = draws(0)
  label = np.repeat([0, 1], 75)
  only = np.zeros(150, int)
  result = classwise_data_copying(
    train, test, generated, labels=(label, label, only), num_cells=2
  )
  np.testing.assert_array_equal(np.isnan(result.c_t), [False, True])
  np.testing.assert_array_equal(np.isnan(result.p_value), [False, True])
  np.testing.assert_allclose(result.mean_c_t, result.c_t[0])
  with pytest.raises(ValueError, match='none of the 2 classes'):
    classwise_data_copying(
      train, test, generated, labels=(only, only, only + 1)
    )


def test_the_mean_over_classes_has_a_uniform_null():
  label = np.repeat([0, 1, 2], 60)
  p = [
    classwise_data_copying(
      *draws(seed, size=180), labels=(label,) * 3, num_cells=1,
      num_permutations=99, seed=seed,
    ).mean_p_value
    for seed in range(80)
  ]  # fmt: skip
  assert scipy.stats.kstest(np.array(p) - 0.005, 'uniform').pvalue > 0.01


def test_cells_come_from_the_training_set_alone():
  train, test, generated = draws(0, num_features=6)
  cells = make_cells(train, test, generated, num_cells=4)
  moved = make_cells(train, test + 5, generated[:7] * 9, num_cells=4)
  np.testing.assert_array_equal(cells[0], moved[0])
  again = make_cells(train, train, test, num_cells=4)
  np.testing.assert_array_equal(again[0], again[1])
  np.testing.assert_array_equal(again[2], cells[1])
  assert [len(np.unique(c)) for c in cells] == [4, 4, 4]


def test_pca_serves_the_cells_only():
  """The first component separates; distances see all features."""
  train, test, generated = draws(0, num_features=6)
  for x in (train, test, generated):
    x[:, 2] += 50 * (np.arange(150) % 2)
  cells = make_cells(train, test, generated, num_cells=2, num_components=1)
  for part in cells:
    assert len(set(zip(part, np.arange(150) % 2, strict=True))) == 2
  with_pca = data_copying_test(
    train, test, generated, num_cells=2, num_components=1
  )
  by_hand = data_copying_test(train, test, generated, cells=cells)
  assert with_pca.c_t == by_hand.c_t


def bad(**change):
  train, test, generated = draws(0, size=30)
  return {'train': train, 'test': test, 'generated': generated, **change}


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    (bad(test=np.ones((5, 3))), 'test has 3 features and train 2'),
    (bad(generated=np.full((5, 2), np.nan)), r'generated\[0, 0\]=nan'),
    (bad(num_cells=31), r'num_cells=31: .*\[1, 30\]'),
    (
      bad(train=np.ones((30, 2))),
      'num_cells=5: .* distinct training points, 1',
    ),
    (bad(metric='cosin'), "metric='cosin'"),
    (bad(metric='cosine', train=np.zeros((30, 2))), r'train\[0\] is a zero'),
    (bad(cells=([0] * 30, [0] * 29, [0] * 30)), r'cells\[1\] has 29 .*30 int'),
    (bad(cells=([0.5] * 30, [0] * 30, [0] * 30)), r'cells\[0\] .*float64'),
    (bad(cells=([0] * 30, [0] * 30, [-1] * 30)), r'cells\[2\] holds -1'),
    (bad(num_cells=2, min_cell_share=1.0), 'no cell is left.*=1: take fewer'),
    (bad(min_cell_share=2.0), 'min_cell_share=2.0'),
    (bad(generated=np.ones((5, 2)), num_cells=2), 'no cell is left: of 5'),
    (bad(num_components=3), r'num_components=3: .*\[1, 2\]'),
    (bad(num_permutations=0), 'num_permutations=0'),
    (bad(seed=-1), 'seed=-1'),
  ],
)
def test_bad_arguments_are_named(arguments, message):
  with pytest.raises(ValueError, match=message):
    data_copying_test(**arguments)
