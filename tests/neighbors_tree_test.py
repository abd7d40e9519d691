import numpy as np
import pytest

from memjax.distances import exact_neighbors
from memjax.neighbors_tree import few_dimensional_neighbors


@pytest.mark.parametrize('num_features', [1, 2, 6, 7])
def test_agrees_with_all_pairs(num_features):
  rng = np.random.default_rng(0)
  references = rng.normal(size=(300, num_features))
  # Near-copies far from the origin, where a matmul would cancel.
  queries = references[:200] + 1e-9 * rng.normal(size=(200, num_features))
  queries = np.concatenate([queries, rng.normal(size=(100, num_features))])
  queries, references = queries + 1e3, references + 1e3
  found = few_dimensional_neighbors(queries, references)
  expected = exact_neighbors(queries, references)
  np.testing.assert_array_equal(found.index, expected.index)
  np.testing.assert_allclose(found.distance, expected.distance, rtol=1e-12)


def test_ties_have_the_right_distance():
  references = np.array([[1.0, 0.0], [-1.0, 0.0], [1.0, 0.0]])
  found = few_dimensional_neighbors(np.zeros((1, 2)), references)
  assert found.distance.item() == 1.0
  assert found.index.item() in (0, 1, 2)
