import functools
import subprocess
import sys

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memjax import neighbors
from memjax.neighbors import make_plan, nearest_neighbors


def slow_neighbors(queries, references, metric, k, exclude_self=False):
  """All pairs in float64, one query at a time; ties to the lower index."""
  x = np.asarray(queries, np.float32).astype(np.float64)
  y = np.asarray(references, np.float32).astype(np.float64)
  distance, index = np.empty((len(x), k)), np.empty((len(x), k), int)
  for i in range(len(x)):
    if metric == 'euclidean':
      d = np.sqrt(((x[i] - y) ** 2).sum(axis=1))
    else:
      d = 1 - y @ x[i] / np.linalg.norm(y, axis=1) / np.linalg.norm(x[i])
    if exclude_self:
      d[i] = np.inf
    index[i] = np.argsort(d, kind='stable')[:k]
    distance[i] = d[index[i]]
  return distance, index


def assert_equal_search(near, expected, rtol=2e-6, atol=0.0):
  np.testing.assert_array_equal(near.index, expected[1])
  np.testing.assert_allclose(near.distance, expected[0], rtol=rtol, atol=atol)


def normal(*shape, seed=0):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize(
  ('metric', 'num_queries', 'num_references', 'num_features', 'k'),
  [
    ('euclidean', 7, 30, 3, 30),
    ('euclidean', 130, 4100, 20, 7),
    ('cosine', 130, 4100, 20, 7),
  ],
)
def test_search_equals_all_pairs(
  metric, num_queries, num_references, num_features, k
):
  x = normal(num_queries, num_features) + 0.3
  y = normal(num_references, num_features, seed=1) + 0.3
  near = nearest_neighbors(x, y, metric=metric, k=k)
  expected = slow_neighbors(x, y, metric, k)
  assert_equal_search(near, expected, atol=3e-7)


def test_a_line_of_many_points():
  """Matmul cannot tell neighbours that are 1e-5 of the spread apart."""
  x, y = normal(50, 1), normal(5000, 1, seed=1)
  near = nearest_neighbors(x, y, k=2)
  assert_equal_search(near, slow_neighbors(x, y, 'euclidean', 2))


def test_a_point_is_no_neighbour_of_itself():
  x = normal(700, 5)
  x[13] = x[600]
  expected = slow_neighbors(x, x, 'euclidean', 3, exclude_self=True)
  x = jnp.asarray(x)
  near = nearest_neighbors(x, x, k=3, exclude_self=True)
  assert_equal_search(near, expected, atol=3e-7)
  assert near.index[13, 0] == 600
  assert near.index[600, 0] == 13
  assert near.distance[13, 0] == 0


@pytest.mark.parametrize('metric', neighbors.METRICS)
def test_near_duplicates_are_measured_right(metric):
  """|x|² + |y|² − 2xy is 20 % off here: field-notes, section 5 (faiss)."""
  rng = np.random.default_rng(0)
  references = rng.uniform(size=(4000, 3072)).astype(np.float32)
  own = rng.integers(0, 4000, size=60)
  noise = 1e-3 * rng.normal(size=(60, 3072))
  queries = (references[own] + noise).astype(np.float32)
  near = nearest_neighbors(queries, references, metric=metric)
  np.testing.assert_array_equal(near.index[:, 0], own)
  x, y = queries.astype(np.float64), references[own].astype(np.float64)
  if metric == 'cosine':
    x, y = (p / np.linalg.norm(p, axis=1, keepdims=True) for p in (x, y))
  expected = np.linalg.norm(x - y, axis=1)
  if metric == 'cosine':
    expected = expected**2 / 2
  np.testing.assert_allclose(near.distance[:, 0], expected, rtol=1e-4)
  if metric == 'euclidean':
    np.testing.assert_allclose(near.distance[:, 0], expected, rtol=3e-6)


def test_offset_data_find_their_neighbours():
  """Mean 100, spread 0.2: faiss finds 54 % of the right neighbours."""
  references = 100 + 0.2 * normal(5000, 32)
  queries = 100 + 0.2 * normal(40, 32, seed=1)
  expected = slow_neighbors(queries, references, 'euclidean', 3)
  assert_equal_search(nearest_neighbors(queries, references, k=3), expected)


def test_distant_clusters_fall_back_to_direct_differences():
  """Centring does not help two clusters: the bound proves nothing there."""
  rng = np.random.default_rng(0)
  side = lambda n: 200 * rng.integers(0, 2, size=(n, 1)) - 100
  references = (side(5000) + 0.2 * rng.normal(size=(5000, 32))).astype('f')
  queries = (side(40) + 0.2 * rng.normal(size=(40, 32))).astype('f')
  expected = slow_neighbors(queries, references, 'euclidean', 3)
  assert_equal_search(nearest_neighbors(queries, references, k=3), expected)
  plan = make_plan(40, references.shape, 3)
  bound, _ = nominate(queries, references, plan)
  assert (bound < expected[0][:, -1] ** 2).all()
  # The usual case needs no second look.
  x, y = normal(40, 32), normal(5000, 32, seed=1)
  bound, _ = nominate(x, y, plan)
  assert (bound > slow_neighbors(x, y, 'euclidean', 3)[0][:, -1] ** 2).all()


@functools.partial(jax.jit, static_argnums=2)
def nominate(x, y, plan):
  """The bound on what is left out, and the candidates."""
  centre = neighbors._centre(y)
  blocks = neighbors._reference_blocks(y - centre, plan)
  nobody = jnp.full(len(x), -1)
  return neighbors._nominate(x - centre, nobody, blocks, False, plan)


@pytest.mark.parametrize('num_features', [1, 8, 700])
def test_the_bound_is_below_every_reference_that_was_left_out(num_features):
  """Also for outliers and clusters, whose norms differ by orders."""
  rng = np.random.default_rng(num_features)
  plan = make_plan(100, (800, num_features), 2, group=2, reference_block=128)
  for offset in (0.0, 30.0):
    scale = 10.0 ** rng.integers(-3, 4, size=(900, 1))
    points = offset + scale * rng.normal(size=(900, num_features))
    points = points.astype(np.float32)
    x, y = points[:100], points[100:]
    bound, candidates = nominate(x, y, plan)
    x, y = x.astype(np.float64), y.astype(np.float64)
    squared = ((x[:, None] - y[None]) ** 2).sum(axis=2)
    for i in range(100):
      left_out = np.setdiff1d(np.arange(len(y)), candidates[i])
      assert squared[i, left_out].min() >= bound[i]


def test_block_sizes_change_nothing():
  x, y = normal(40, 12), normal(900, 12, seed=1)
  y[200:220] = y[3]
  x[5] = y[3]
  reference = nearest_neighbors(x, y, k=3)
  for sizes in (
    {'query_block': 7, 'reference_block': 100, 'group': 4, 'slack': 0},
    {'group': 1, 'reference_block': 13, 'fallback_block': 3},
  ):
    plan = make_plan(len(x), y.shape, 3, **sizes)
    near = neighbors._search(x, y, 'euclidean', False, plan)
    np.testing.assert_array_equal(near.index, reference.index)
    np.testing.assert_allclose(near.distance, reference.distance, rtol=1e-6)


def test_ties_go_to_the_lowest_index():
  """36 copies of each reference: more than the search keeps as candidates."""
  y = np.tile(normal(25, 12), (36, 1))
  order = np.random.default_rng(1).permutation(len(y))
  near = nearest_neighbors(y[order[:40]], y[order], k=3)
  np.testing.assert_array_equal(near.distance, np.zeros((40, 3)))
  expected = [np.flatnonzero(order % 25 == o % 25)[:3] for o in order[:40]]
  np.testing.assert_array_equal(near.index, expected)
  integers = np.random.default_rng(2).integers(0, 3, size=(900, 12))
  near = nearest_neighbors(integers[:40].astype('f'), integers.astype('f'), k=3)
  expected = slow_neighbors(integers[:40], integers, 'euclidean', 3)
  assert_equal_search(near, expected)


def test_permuted_references_give_permuted_indices():
  x, y = normal(40, 12), normal(900, 12, seed=1)
  order = np.random.default_rng(2).permutation(900)
  near, again = (nearest_neighbors(x, p, k=3) for p in (y, y[order]))
  np.testing.assert_array_equal(order[again.index], near.index)
  np.testing.assert_array_equal(again.distance, near.distance)


@pytest.mark.parametrize('exponent', [-100, -30, 30, 90])
def test_any_magnitude_that_float32_holds(exponent):
  x, y = normal(40, 12), normal(900, 12, seed=1)
  near = nearest_neighbors(x, y, k=3)
  scaled = nearest_neighbors(np.ldexp(x, exponent), np.ldexp(y, exponent), k=3)
  np.testing.assert_array_equal(scaled.index, near.index)
  np.testing.assert_array_equal(
    np.ldexp(scaled.distance, -exponent), near.distance
  )
  y[17] = 1e20
  expected = slow_neighbors(x, y, 'euclidean', 3)
  assert_equal_search(nearest_neighbors(x, y, k=3), expected)


def test_cosine_of_zero_and_of_scaled_vectors():
  y = np.array([[1, 0], [0, 0], [0, 2], [-3, 0]], np.float32)
  x = np.array([[0, 0], [5, 0]], np.float32)
  near = nearest_neighbors(x, y, metric='cosine', k=4)
  np.testing.assert_array_equal(near.index, [[0, 1, 2, 3]] * 2)
  np.testing.assert_allclose(
    near.distance, [[1, 1, 1, 1], [0, 1, 1, 2]], rtol=1e-6
  )
  huge = nearest_neighbors(x * 1e30, y * 1e-30, metric='cosine', k=4)
  np.testing.assert_allclose(huge.distance, near.distance, rtol=1e-6)


def test_bad_numbers_do_not_go_unnoticed():
  for bad in (np.nan, np.inf):
    x, y = normal(40, 12), normal(900, 12, seed=1)
    x[1, 0] = bad
    distance = np.asarray(nearest_neighbors(x, y, k=3).distance)
    assert np.isnan(distance[1]).all()
    assert np.isfinite(distance[2:]).all()
    y[100, 2] = bad
    assert np.isnan(nearest_neighbors(x, y, k=3).distance).all()


def test_vmap_equals_a_loop():
  x, y = normal(3, 40, 12), normal(3, 900, 12, seed=1)
  y[1, :450] = y[1, 450:]  # ties, so that one member needs the fallback
  search = functools.partial(nearest_neighbors, k=3)
  near = jax.vmap(search)(x, y)
  for i in range(3):
    one = search(x[i], y[i])
    np.testing.assert_array_equal(near.index[i], one.index)
    np.testing.assert_allclose(near.distance[i], one.distance, rtol=1e-6)


def test_sharded_queries_need_no_collectives():
  """XLA's compiler aborted here once: top_k behind an optimization barrier."""
  code = """
import jax, numpy as np
from memjax.neighbors import nearest_neighbors
jax.config.update('jax_num_cpu_devices', 2)
x, y = np.random.default_rng(0).normal(size=(2, 64, 8)).astype('f')
mesh = jax.make_mesh((2,), ('q',), axis_types=(jax.sharding.AxisType.Auto,))
search = jax.jit(jax.shard_map(
  nearest_neighbors, mesh=mesh, in_specs=(jax.P('q'), jax.P()),
  out_specs=jax.P('q'),
))
assert 'all-' not in search.lower(x, y).compile().as_text()
near, one = search(x, y), nearest_neighbors(x, y)
np.testing.assert_array_equal(near.index, one.index)
np.testing.assert_allclose(near.distance, one.distance, rtol=1e-6)
"""
  subprocess.run([sys.executable, '-c', code], check=True)


def test_one_trace_for_one_shape():
  search = jax.jit(chex.assert_max_traces(nearest_neighbors, n=1))
  for seed in range(3):
    search(normal(4, 2, seed=seed), normal(4, 2))


def test_dots_are_lowered_in_full_precision():
  text = (
    jax.jit(nearest_neighbors).lower(normal(8, 30), normal(50, 30)).as_text()
  )
  dots = [line for line in text.splitlines() if 'dot_general' in line]
  assert dots
  assert all('HIGHEST' in line for line in dots)


@pytest.mark.parametrize(
  ('queries', 'references', 'k', 'limit'),
  [
    ((20_000, 64), (60_000, 64), 1, 1.5e9),
    ((10_000, 2048), (50_000, 2048), 5, 4e9),
  ],
)
def test_memory_is_bounded(queries, references, k, limit):
  shapes = (jax.ShapeDtypeStruct(s, jnp.float32) for s in (queries, references))
  search = jax.jit(functools.partial(nearest_neighbors, k=k))
  memory = search.lower(*shapes).compile().memory_analysis()
  assert memory.temp_size_in_bytes + memory.output_size_in_bytes < limit


def test_no_queries():
  near = nearest_neighbors(normal(0, 3), normal(5, 3), k=2)
  assert near.distance.shape == near.index.shape == (0, 2)


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    ({'k': 0}, r'k=0: .*\[1, 6\]'),
    ({'k': 7}, r'k=7: .*\[1, 6\]'),
    ({'metric': 'cosin'}, "metric='cosin': .*mean 'cosine'"),
    ({'queries': np.zeros((4, 3))}, 'queries has 3 features and references 2'),
    ({'exclude_self': True}, 'exclude_self=True with 4 queries and 6 refer'),
    ({'exclude_self': True, 'queries': np.zeros((6, 2)), 'k': 6}, r'\[1, 5\]'),
  ],
)
def test_bad_arguments_are_named(arguments, message):
  arguments = {
    'queries': np.zeros((4, 2)), 'references': np.zeros((6, 2)), **arguments
  }  # fmt: skip
  with pytest.raises(ValueError, match=message):
    nearest_neighbors(**arguments)


def test_the_import_is_light():
  code = (
    'import sys, memjax.neighbors\n'
    "heavy = {'faiss', 'flax', 'matplotlib', 'sklearn', 'orbax'}\n"
    'assert not heavy & set(sys.modules), heavy & set(sys.modules)'
  )
  subprocess.run([sys.executable, '-c', code], check=True)
