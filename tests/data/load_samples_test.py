import tracemalloc
import zipfile

import numpy as np
import pytest
from PIL import Image

from memjax.data.samples import (
  as_images,
  check_scales,
  check_shapes,
  common_labels,
  common_names,
  load_samples,
  match_channels,
)

POINTS = np.arange(12.0).reshape(4, 3)


def write_images(folder, names, size=(5, 4), mode='L'):
  for value, name in enumerate(names):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(
      mode, size, (value,) * len(mode) if len(mode) > 1 else value
    ).save(path)


def test_npy_of_any_rank_and_type(tmp_path):
  for values in (
    POINTS,
    POINTS.astype(np.float16),
    POINTS.astype(np.uint8).reshape(4, 3, 1, 1),
    POINTS.astype(np.int64),
    POINTS > 5,
  ):
    np.save(tmp_path / 'x.npy', values)
    values_found, labels, _ = load_samples('train', str(tmp_path / 'x.npy'))
    assert labels is None
    assert values_found.dtype == values.dtype
    np.testing.assert_array_equal(values_found, values)


@pytest.mark.parametrize(
  'key',
  ['samples', 'images', 'features', 'embeddings', 'x', 'data', 'arr_0', 'own'],
)
def test_npz_with_a_known_name_or_alone(key, tmp_path):
  path = str(tmp_path / 'x.npz')
  np.savez(path, **{key: POINTS}, labels=np.array([0, 2, 1, 1]))
  values, labels, _ = load_samples('train', path)
  np.testing.assert_array_equal(values, POINTS)
  assert labels.tolist() == [0, 2, 1, 1]
  assert labels.dtype == np.int64
  np.savez(path, **{key: POINTS})
  assert load_samples('train', path).labels is None


def test_npz_names_are_taken_in_a_fixed_order(tmp_path):
  path = str(tmp_path / 'x.npz')
  np.savez(path, other=np.ones(3), x=POINTS + 1, features=POINTS)
  np.testing.assert_array_equal(load_samples('train', path).values, POINTS)


def test_a_file_of_labels_replaces_others(tmp_path):
  np.savez(tmp_path / 'x.npz', samples=POINTS, labels=np.zeros(4, int))
  np.save(tmp_path / 'y.npy', np.array([3, 1, 2, 0], np.uint8))
  np.savez(tmp_path / 'z.npz', labels=np.arange(4))
  load = lambda labels: (
    load_samples(
      'train', str(tmp_path / 'x.npz'), str(tmp_path / labels)
    ).labels
  )
  assert load('y.npy').tolist() == [3, 1, 2, 0]
  assert load('z.npz').tolist() == [0, 1, 2, 3]


def test_home_folders_are_found(tmp_path, monkeypatch):
  monkeypatch.setenv('HOME', str(tmp_path))
  np.save(tmp_path / 'x.npy', POINTS)
  np.save(tmp_path / 'y.npy', np.arange(4))
  _, labels, _ = load_samples('train', '~/x.npy', '~/y.npy')
  assert labels.tolist() == [0, 1, 2, 3]


def test_folders_of_images(tmp_path):
  write_images(tmp_path / 'flat', ['a.png', 'b.png', 'c.png'])
  values, labels, _ = load_samples('train', str(tmp_path / 'flat'))
  assert values.shape == (3, 4, 5, 1)
  assert values.dtype == np.uint8
  assert values[:, 0, 0, 0].tolist() == [0, 1, 2]
  assert labels is None
  write_images(
    tmp_path / 'classes', ['dog/a.png', 'cat/b.png', 'dog/c.jpg'], mode='RGB'
  )
  values, labels, _ = load_samples('train', str(tmp_path / 'classes'))
  assert values.shape == (3, 4, 5, 3)
  assert labels.tolist() == [0, 1, 1]


def test_a_broken_image_is_named(tmp_path):
  write_images(tmp_path, ['a.png', 'b.png'])
  (tmp_path / 'broken.png').write_bytes(b'\x89PNG\r\n\x1a\n and no more')
  with pytest.raises(ValueError, match=r'broken\.png: it is damaged') as error:
    load_samples('train', str(tmp_path))
  assert 'BytesIO' not in str(error.value)


def test_an_image_of_another_size_is_named(tmp_path):
  write_images(tmp_path, ['a.png'])
  write_images(tmp_path, ['wide.png'], size=(9, 4))
  with pytest.raises(ValueError, match=r'wide\.png is 9×4'):
    load_samples('train', str(tmp_path))


def test_an_empty_folder_is_named(tmp_path):
  with pytest.raises(ValueError, match='holds no image'):
    load_samples('train', str(tmp_path))


@pytest.mark.parametrize(
  ('values', 'message'),
  [
    (np.zeros(5), r'test=.*x.npy.* has shape \(5,\): expected \[n, …\]'),
    (np.float64(3), r'shape \(\)'),
    (np.zeros((0, 3)), r'shape \(0, 3\)'),
    (np.zeros((3, 0)), r'shape \(3, 0\)'),
    (np.zeros((3, 2), complex), 'dtype complex128: expected real numbers'),
    (np.array([['a', 'b']]), 'dtype <U1: expected real numbers'),
    (np.zeros((2, 2), 'M8[s]'), 'expected real numbers'),
    (np.array([[{}]], object), r'x\.npy is not a NumPy file of plain numbers'),
  ],
)
def test_other_arrays_are_refused(values, message, tmp_path):
  path = tmp_path / 'x.npy'
  np.save(path, values, allow_pickle=True)
  with pytest.raises(ValueError, match=message):
    load_samples('test', str(path))


def test_pickles_are_never_opened(tmp_path):
  opened = tmp_path / 'opened'

  class Evil:
    def __reduce__(self):
      return (opened.touch, ())

  np.save(tmp_path / 'x.npy', np.array([[Evil()]]), allow_pickle=True)
  np.savez(tmp_path / 'x.npz', samples=np.array([[Evil()]], object))
  np.savez(
    tmp_path / 'y.npz', samples=POINTS, labels=np.array([Evil()] * 4, object)
  )
  for name in ('x.npy', 'x.npz', 'y.npz'):
    with pytest.raises(ValueError, match=f'{name[0]}\\.{name[2:]}') as error:
      load_samples('test', str(tmp_path / name))
    assert 'allow_pickle' not in str(error.value)
  assert not opened.exists()


@pytest.mark.parametrize('content', [b'', b'1,2,3\n4,5,6\n'])
def test_files_of_another_kind_are_named(content, tmp_path):
  path = tmp_path / 'x.csv'
  path.write_bytes(content)
  with pytest.raises(ValueError, match=r'x\.csv .*expected an \.npy') as error:
    load_samples('test', str(path))
  assert 'pickle' not in str(error.value)


def test_a_damaged_archive_is_named(tmp_path):
  path = tmp_path / 'x.npz'
  np.savez(path, samples=POINTS)
  content = bytearray(path.read_bytes())
  with zipfile.ZipFile(path) as archive:
    start = archive.infolist()[0].header_offset
  content[start + 180] ^= 255
  path.write_bytes(bytes(content))
  with pytest.raises(ValueError, match=r"test='.*x\.npz': samples is damaged"):
    load_samples('test', str(path))


def test_npz_without_samples_says_what_it_holds(tmp_path):
  path = str(tmp_path / 'x.npz')
  np.savez(path, a=POINTS, b=POINTS)
  with pytest.raises(ValueError, match=r"holds \['a', 'b'\].* samples, images"):
    load_samples('test', path)
  np.savez(path, labels=np.arange(3))
  with pytest.raises(ValueError, match=r"holds \['labels'\]"):
    load_samples('test', path)


def test_missing_files_are_named(tmp_path):
  with pytest.raises(FileNotFoundError, match=r"generated='no/x.npy' does not"):
    load_samples('generated', 'no/x.npy')
  np.save(tmp_path / 'x.npy', POINTS)
  with pytest.raises(FileNotFoundError, match=r"train_labels='no/y.npy'"):
    load_samples('train', str(tmp_path / 'x.npy'), 'no/y.npy')


@pytest.mark.parametrize(
  ('labels', 'message'),
  [
    (np.arange(3), r'train_labels has shape \(3,\).* expected 4 integers'),
    (np.zeros((4, 1), int), r'shape \(4, 1\)'),
    (np.zeros(4), 'dtype float64'),
    (np.array([0, 1, -1, 2]), 'train_labels holds -1: expected labels from 0'),
  ],
)
def test_wrong_labels_are_named(labels, message, tmp_path):
  np.save(tmp_path / 'x.npy', POINTS)
  np.save(tmp_path / 'y.npy', labels)
  np.savez(tmp_path / 'x.npz', samples=POINTS, labels=labels)
  for arguments in (('x.npy', 'y.npy'), ('x.npz',)):
    with pytest.raises(ValueError, match=message):
      load_samples('train', *(str(tmp_path / name) for name in arguments))


def test_a_file_of_labels_without_labels_is_an_error(tmp_path):
  """It is not an audit without classes."""
  np.save(tmp_path / 'x.npy', POINTS)
  np.savez(tmp_path / 'y.npz', classes=np.arange(4))
  with pytest.raises(ValueError, match=r"train_labels=.*holds \['classes'\]"):
    load_samples('train', str(tmp_path / 'x.npy'), str(tmp_path / 'y.npz'))


def test_sets_of_one_scale_pass():
  rng = np.random.default_rng(0)
  train = rng.normal(size=(20, 3))
  check_scales(train=train, test=3 * train, generated=train / 10)
  check_scales(train=train, test=np.zeros((5, 3)), generated=train)
  check_scales(train=train > 0, test=train > 1, generated=train > -1)


@pytest.mark.parametrize(
  ('train', 'generated'),
  [
    (np.array([[0, 255]], np.uint8), np.array([[0.0, 1.0]])),
    (np.array([[0.0, 1.0]]), np.array([[0, 255]], np.uint8)),
    (np.array([[False, True]]), np.array([[0, 255]], np.uint8)),
    (np.array([[-1.0, 1.0]], np.float16), np.array([[0, 65535]], np.uint16)),
  ],
)
def test_sets_of_other_scales_are_named_with_their_ranges(train, generated):
  message = r'generated has values .* … .* and train .* … .*: expected one'
  with pytest.raises(ValueError, match=message):
    check_scales(train=train, test=train, generated=generated)


@pytest.mark.parametrize(
  ('shape', 'expected'),
  [
    ((2, 8, 7), (2, 8, 7, 1)),
    ((2, 8, 7, 1), (2, 8, 7, 1)),
    ((2, 8, 7, 3), (2, 8, 7, 3)),
    ((2, 8, 7, 4), (2, 8, 7, 4)),
    ((2, 8, 7, 2), None),
    ((2, 3, 8, 8), None),
    ((2, 64), None),
    ((2, 3, 8), None),
    ((2, 8, 3), None),
    ((2, 8, 8, 8, 1), None),
  ],
)
def test_shapes_of_images(shape, expected):
  images = as_images(np.zeros(shape))
  assert (images is None and expected is None) or (
    images.shape == expected and images.dtype == np.uint8
  )


@pytest.mark.parametrize(
  ('low', 'high', 'shown'),
  [
    (0.0, 1.0, (0, 255)),
    (0.0, 0.4, (0, 102)),
    (0.0, 255.0, (0, 255)),
    (0.0, 51.0, (0, 51)),
    (-1.0, 1.0, (0, 255)),
    (-0.2, 1.0, (102, 255)),
    (-3.0, 2.0, (0, 255)),
    (0.0, 700.0, (0, 255)),
    (-5.0, -5.0, (0, 0)),
    (300.0, 300.0, (0, 0)),
  ],
)
def test_values_of_images(low, high, shown):
  values = np.full((1, 4, 4), low)
  values[0, 1, 1] = high
  images = as_images(values)
  assert (images[0, 0, 0, 0], images[0, 1, 1, 0]) == shown


def test_bytes_and_bools_are_shown_as_they_are():
  values = np.arange(16, dtype=np.uint8).reshape(1, 4, 4)
  np.testing.assert_array_equal(as_images(values)[..., 0], values)
  np.testing.assert_array_equal(
    as_images(values > 7)[..., 0], 255 * (values > 7)
  )


def test_class_folders_are_matched_by_their_names(tmp_path):
  def folder(name, classes):
    for label in classes:
      (tmp_path / name / label).mkdir(parents=True)
      for i in range(2):
        pixels = np.full((4, 4), 10 * i + 1, np.uint8)
        Image.fromarray(pixels).save(tmp_path / name / label / f'{i}.png')
    return load_samples(name, str(tmp_path / name))

  train = folder('train', ['cat', 'cow', 'dog'])
  generated = folder('generated', ['cow', 'dog'])
  labels = common_labels(train, generated)
  assert labels is not None
  assert labels[0].tolist() == [0, 0, 1, 1, 2, 2]
  assert labels[1].tolist() == [1, 1, 2, 2]
  assert common_names(generated, train) == ('cat', 'cow', 'dog')
  flat = train._replace(class_names=())
  with pytest.raises(ValueError, match='names of folders, of others numbers'):
    common_labels(flat, generated)
  assert common_labels(train, generated._replace(labels=None)) is None


def test_classes_of_a_split_are_its_folders(tmp_path):
  """Not the names of the splits."""
  for split in ('train', 'test'):
    write_images(tmp_path / split, ['cat/a.png', 'cat/b.png', 'dog/c.png'])
  train = load_samples('train', str(tmp_path))
  test = load_samples('test', str(tmp_path / 'test'))
  assert train.class_names == test.class_names == ('cat', 'dog')
  labels = common_labels(train, test)
  assert [part.tolist() for part in labels] == [[0, 0, 1]] * 2
  for split in ('train', 'test'):
    write_images(tmp_path / 'flat' / split, ['a.png', 'b.png'])
  assert load_samples('train', str(tmp_path / 'flat')).labels is None


def test_a_split_is_that_of_its_set(tmp_path):
  for split, count in (('train', 3), ('test', 2)):
    write_images(tmp_path / split, [f'{i}.png' for i in range(count)])
  assert len(load_samples('train', str(tmp_path)).values) == 3
  assert len(load_samples('test', str(tmp_path)).values) == 2
  with pytest.raises(ValueError, match='generated=.* holds the splits train, '):
    load_samples('generated', str(tmp_path))
  # A class called train, as CIFAR-100 has one.
  write_images(tmp_path / 'car', ['a.png'])
  with pytest.raises(ValueError, match="'train' beside 'car': a split or"):
    load_samples('train', str(tmp_path))


def test_layouts_and_ranges_that_differ_are_named():
  last, first = np.zeros((3, 8, 8, 3)), np.zeros((3, 3, 8, 8))
  with pytest.raises(ValueError, match=r'generated .*\(3, 8, 8\).*train'):
    check_shapes(train=last, generated=first)
  check_shapes(train=np.zeros((3, 8, 8)), generated=np.zeros((2, 8, 8, 1)))
  unit = np.random.default_rng(0).uniform(size=(4, 8, 8))
  with pytest.raises(ValueError, match='train has no negative value and gen'):
    check_scales(train=unit, generated=2 * unit - 1)
  # Bright images: hardly a pixel is negative.
  bright = np.ones((4, 8, 8))
  bright[0, 0] = -1
  with pytest.raises(ValueError, match='test has no negative .* down to -1:'):
    check_scales(train=bright, test=unit)
  # A little noise.
  check_scales(train=unit, generated=unit.clip(0, 0.9) - 0.1)
  with pytest.raises(ValueError, match='generated holds 1e.31'):
    check_scales(train=unit, generated=1e31 * unit.round())


def test_spreads_are_compared_in_little_memory():
  """No float64 copy of the whole set: bytes take an eighth."""
  rng = np.random.default_rng(0)
  train = rng.integers(0, 256, (300, 128, 128), np.uint8)
  other = (train[:7] / 255).astype(np.float32)
  tracemalloc.start()
  try:
    with pytest.raises(ValueError, match='generated has values 0 … 1'):
      check_scales(train=train, test=train, generated=other)
    assert tracemalloc.get_traced_memory()[1] < 1.5 * train.nbytes
  finally:
    tracemalloc.stop()


def test_grey_images_that_were_written_as_rgb_are_grey():
  rng = np.random.default_rng(0)
  grey = rng.integers(0, 256, (3, 8, 8, 1), np.uint8)
  coded = np.repeat(grey, 3, axis=3)
  matched = match_channels(train=grey[..., 0], generated=coded)
  np.testing.assert_array_equal(matched['generated'], grey)
  check_shapes(**matched)
  assert match_channels(train=coded, test=coded)['test'].shape[3] == 3
  coded[2, 5, 5, 1] ^= 1
  matched = match_channels(train=coded, generated=grey)
  assert matched['train'].shape[3] == 3
  with pytest.raises(ValueError, match='one set is grey, the other of 3'):
    check_shapes(**matched)
