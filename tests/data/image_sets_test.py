"""Training, test and further images never share an item."""

import numpy as np
import pytest

from memjax.data.image_sets import load_image_sets
from memjax.data.sources import load_dataset


def write(path, count, size=8):
  rng = np.random.default_rng(0)
  images = rng.integers(0, 256, (count, size, size), dtype=np.uint8)
  np.savez(path, images=images, labels=np.arange(count) % 3)
  return f'npz:{path}'


def test_sets_are_disjoint_and_of_the_sizes_asked_for(tmp_path):
  source = write(tmp_path / 'x.npz', 50)
  whole = load_dataset(source)
  sets = load_image_sets(source, num_train=0, num_test=12, num_further=8)
  assert [len(part.ids) for part in sets] == [30, 12, 8]
  ids = np.concatenate([part.ids for part in sets])
  assert sorted(ids) == list(range(50))
  for part in sets:
    np.testing.assert_array_equal(part.images, whole.images[part.ids])
    np.testing.assert_array_equal(part.labels, whole.labels[part.ids])


def test_the_seed_draws_and_the_training_set_keeps_apart_from_the_encoders(
  tmp_path,
):
  source = write(tmp_path / 'x.npz', 40)
  options = {'num_train': 10, 'num_test': 10, 'num_further': 10}
  one = load_image_sets(source, **options)
  two = load_image_sets(source, **options)
  other = load_image_sets(source, **options, seed=1)
  assert (one.train.ids == two.train.ids).all()
  assert set(one.train.ids) != set(other.train.ids)


def test_a_test_split_of_its_own_leaves_the_training_split_whole(monkeypatch):
  from memjax.data import image_sets
  from memjax.data.dataset import Dataset

  def load(source, *, split, data_dir, pad):
    start = {'train': 0, 'test': 100}[split]
    ids = np.arange(start, start + 20)
    return Dataset(np.zeros((20, 4, 4, 1), np.uint8), ids % 2, ids)

  monkeypatch.setattr(image_sets, 'load_dataset', load)
  sets = load_image_sets('x', num_train=0, num_test=5, test_split='test')
  assert sorted(sets.train.ids) == list(range(20))
  assert len(sets.test.ids) == 5
  assert (sets.test.ids >= 100).all()


def test_shrinking_takes_means(tmp_path):
  source = write(tmp_path / 'x.npz', 6)
  whole = load_dataset(source, pad=2)
  part = load_image_sets(source, num_train=0, num_test=2, pad=2, shrink=3).train
  assert part.images.shape == (4, 4, 4, 1)
  block = whole.images[part.ids[0], 3:6, 6:9].astype(float)
  assert part.images[0, 1, 2, 0] == np.rint(block.mean())


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'num_test': 0}, 'num_test=0'),
    ({'num_test': 7}, 'num_test=7: expected at most 6'),
    ({'num_train': 5, 'num_test': 2}, 'num_train=5: expected at most 4'),
    ({'num_test': 2, 'num_further': 5}, 'num_further=5: expected at most 4'),
    ({'num_test': 2, 'shrink': 3}, 'shrink=3: expected a divisor of 8'),
  ],
)
def test_bad_sizes_are_named(tmp_path, options, message):
  source = write(tmp_path / 'x.npz', 6)
  with pytest.raises(ValueError, match=message):
    load_image_sets(source, **{'num_train': 0, **options})
