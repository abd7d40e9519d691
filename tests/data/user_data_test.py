import io

import numpy as np
import pytest
from PIL import Image

from memjax.data import user_data
from memjax.data.sources import load_dataset


def jpeg(value, size=(8, 8)) -> bytes:
  file = io.BytesIO()
  Image.new('RGB', size, (value, value, value)).save(file, 'JPEG')
  return file.getvalue()


@pytest.mark.parametrize(
  ('values', 'expected'),
  [
    (np.array([0, 9, 255], np.uint8), [0, 9, 255]),
    (np.array([False, True]), [0, 255]),
    (np.array([0, 1, 255], np.int64), [0, 1, 255]),
    (np.array([0, 0.2, 0.4999, 1.0]), [0, 51, 127, 255]),
    (np.arange(256, dtype=np.float32) / np.float32(255), list(range(256))),
    (np.array([0.5, 1], np.float16), [128, 255]),
  ],
)
def test_accepted_values(values, expected, tmp_path):
  np.save(tmp_path / 'x.npy', values[None, None])
  images = load_dataset(f'npy:{tmp_path}/x.npy').images
  assert images.dtype == np.uint8
  assert images.shape == (1, 1, len(expected), 1)
  assert images.ravel().tolist() == expected


@pytest.mark.parametrize(
  ('values', 'message'),
  [
    (np.array([0.0, np.nan]), r'gen.npy\[0, 0, 1\]=nan: .*1 of 2 are not'),
    (np.array([0.0, np.inf]), r'\[0, 0, 1\]=inf: expected finite'),
    (np.array([-1.0, 1.0]), r'from -1.0 to 1.0: expected uint8, bool'),
    (np.array([0.0, 255.0]), r'from 0.0 to 255.0'),
    (np.array([0, 256]), r'int64 values from 0 to 256'),
    (np.array([-1, 3], np.int8), r'int8 values from -1 to 3'),
    (np.array([1j]), r'dtype complex128'),
    (np.array(['a']), r'dtype <U1'),
  ],
)
def test_other_values_are_refused_with_their_range(values, message):
  with pytest.raises(
    ValueError, match=f'gen.npy (holds|has) {message}|{message}'
  ):
    user_data.as_uint8('gen.npy', values[None, None])


@pytest.mark.parametrize(
  'shape', [(), (4,), (4, 4), (0, 4, 4), (2, 0, 4), (2, 3, 32, 32), (1,) * 5]
)
def test_other_shapes_are_refused(shape):
  with pytest.raises(ValueError, match=r'x has shape .*channels come last'):
    user_data.as_uint8('x', np.zeros(shape, np.uint8))


def save(path, **arrays):
  np.savez(path, **arrays)
  return f'npz:{path}'


def test_npz_splits_keep_the_ids_of_the_file(tmp_path):
  images = np.arange(5, dtype=np.uint8)[:, None, None]
  is_test = np.array([True, False, False, True, False])
  source = save(
    tmp_path / 'x.npz',
    images=images,
    is_test=is_test,
    labels=np.arange(5) * 2,
    groups=np.array([0, 0, 1, 1, 2]),
  )
  train = load_dataset(source)
  assert train.ids.tolist() == train.images.ravel().tolist() == [1, 2, 4]
  assert train.labels.tolist() == [2, 4, 8]
  assert train.groups.tolist() == [0, 1, 2]
  assert load_dataset(source, split='test').ids.tolist() == [0, 3]
  two = load_dataset(source, num_items=2, pad=1)
  assert two.images.shape == (2, 3, 3, 1)
  assert two.images[:, 1, 1, 0].tolist() == [1, 2]
  assert two.images.sum() == 3
  with pytest.raises(ValueError, match=r'num_items=4: .* in \[1, 3\]'):
    load_dataset(source, num_items=4)
  with pytest.raises(ValueError, match="'train', 'test'"):
    load_dataset(source, split='validation')


def test_npz_defaults(tmp_path):
  source = save(tmp_path / 'x.npz', images=np.zeros((3, 2, 2, 3), bool))
  dataset = load_dataset(source)
  assert dataset.ids.tolist() == [0, 1, 2]
  assert dataset.labels.tolist() == [0, 0, 0]
  assert dataset.groups is None
  with pytest.raises(ValueError, match="split='test': expected one of 'train'"):
    load_dataset(source, split='test')


@pytest.mark.parametrize('ends', [False, True])
def test_npz_of_encoded_files(ends, tmp_path):
  values = [10, 60, 110, 200]
  files = [jpeg(value) for value in values]
  lengths = np.cumsum([0] + [len(file) for file in files])
  source = save(
    tmp_path / 'x.npz',
    jpeg=np.frombuffer(b''.join(files), np.uint8),
    offsets=lengths if ends else lengths[:-1],
    labels=np.array([3, 2, 1, 0], np.uint8),
    is_test=np.array([False, True, True, False]),
  )
  test = load_dataset(source, split='test')
  assert test.images.shape == (2, 8, 8, 3)
  assert test.images[:, 4, 4].tolist() == [[60] * 3, [110] * 3]
  assert test.labels.tolist() == [2, 1]
  assert test.ids.tolist() == [1, 2]
  assert load_dataset(source, num_items=1).images[0, 0, 0, 0] == 10


ONE = np.zeros((3, 2, 2), np.uint8)


@pytest.mark.parametrize(
  ('arrays', 'message'),
  [
    ({'x_train': ONE}, r"holds \['x_train'\]: expected `images`"),
    ({'images': ONE, 'labels': np.zeros(2, int)}, r'labels has shape \(2,\)'),
    ({'images': ONE, 'labels': np.zeros(3)}, 'labels has dtype float64'),
    ({'images': ONE, 'ids': np.array([1, 2, 1])}, 'ids holds 1 2 times'),
    ({'images': ONE, 'ids': np.array([-1, 2, 1])}, 'from -1 to 2'),
    ({'images': ONE, 'ids': np.array([0, 1, 2**31])}, 'from 0 to 2147483648'),
    ({'images': ONE, 'groups': np.zeros((3, 1), int)}, 'groups has shape'),
    ({'images': ONE, 'is_test': np.zeros(3)}, 'is_test has dtype float64'),
    ({'images': ONE, 'is_test': np.ones(3, bool)}, 'no image in split'),
    ({'images': ONE - 1.0}, 'images holds float64 values from -1.0 to -1.0'),
    (
      {'images': ONE, 'labels': np.array([None] * 3)},
      'labels is damaged, or holds objects: expected .* np.stack',
    ),
    (
      {'jpeg': np.zeros(9, np.uint8), 'offsets': np.array([0, 5, 5, 9])},
      'offsets must increase',
    ),
    (
      {'jpeg': np.zeros(9, np.uint8), 'offsets': np.array([0, 10])},
      'offsets must increase',
    ),
    ({'jpeg': np.zeros(9, int), 'offsets': np.array([0])}, 'jpeg has dtype'),
    ({'jpeg': np.zeros(9, np.uint8), 'offsets': np.array([0])}, r'x.npz\[0\]'),
  ],
)
def test_npz_errors_name_the_array(arrays, message, tmp_path):
  with pytest.raises(ValueError, match=message) as error:
    load_dataset(save(tmp_path / 'x.npz', **arrays))
  where = f"source (--config.data.source)='npz:{tmp_path}/x.npz': "
  assert str(error.value).startswith(where)
  assert 'pickle' not in str(error.value)


def test_an_id_may_not_recur_in_the_other_split(tmp_path):
  source = save(
    tmp_path / 'x.npz',
    images=ONE,
    ids=np.array([0, 1, 0]),
    is_test=np.array([False, False, True]),
  )
  with pytest.raises(ValueError, match='unique ids'):
    load_dataset(source)


def test_files_that_are_not_of_plain_numbers_are_named(tmp_path):
  path = tmp_path / 'x.npy'
  np.save(path, np.array([{}]), allow_pickle=True)
  with pytest.raises(ValueError, match=r'x\.npy is not a NumPy .* \.npy') as e:
    load_dataset(f'npy:{path}')
  assert 'pickle' not in str(e.value)
  path.write_bytes(b'')
  with pytest.raises(ValueError, match=r'x\.npy is not a NumPy file'):
    load_dataset(f'npy:{path}')
  np.save(path, ONE)
  with pytest.raises(ValueError, match='read it with npy:'):
    load_dataset(f'npz:{path}')
  with pytest.raises(ValueError, match="split='test'"):
    load_dataset(f'npy:{path}', split='test')
  with pytest.raises(FileNotFoundError, match=r'absent\.npy does not exist'):
    load_dataset('npy:absent.npy')
  with pytest.raises(FileNotFoundError, match='is a folder: expected an .npy'):
    load_dataset(f'npz:{tmp_path}')


def test_folders_are_classes_in_the_order_of_their_names(tmp_path):
  for name, value in [('dog/b', 40), ('dog/a', 30), ('cat/z', 20)]:
    path = tmp_path / 'train' / f'{name}.png'
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new('L', (3, 2), value).save(path)
  (tmp_path / 'train' / 'ant').mkdir()
  (tmp_path / 'train' / 'dog' / 'notes.txt').write_text('not an image')
  (tmp_path / 'test').mkdir()
  Image.new('L', (3, 2), 50).save(tmp_path / 'test' / 'only.png')
  train = load_dataset(f'folder:{tmp_path}')
  assert train.images.shape == (3, 2, 3, 1)
  assert train.images[:, 0, 0, 0].tolist() == [20, 30, 40]
  assert train.labels.tolist() == [0, 1, 1]
  assert load_dataset(f'folder:{tmp_path}', num_items=2).labels.tolist() == [
    0,
    1,
  ]
  test = load_dataset(f'folder:{tmp_path}', split='test')
  assert (test.images == 50).all()
  assert test.labels.tolist() == [0]
  with pytest.raises(ValueError, match="expected one of 'train', 'test'"):
    load_dataset(f'folder:{tmp_path}', split='validation')


def test_folders_without_images_or_with_stray_ones_are_refused(tmp_path):
  with pytest.raises(ValueError, match='holds no image'):
    load_dataset(f'folder:{tmp_path}')
  with pytest.raises(FileNotFoundError, match="absent' does not exist: exp"):
    load_dataset(f'folder:{tmp_path}/absent')
  with pytest.raises(FileNotFoundError, match="' is a file: expected a folder"):
    load_dataset(f'folder:{__file__}')
  (tmp_path / 'cat').mkdir()
  for name in ('cat/a.png', 'stray.png'):
    Image.new('L', (2, 2)).save(tmp_path / name)
  with pytest.raises(ValueError, match=r'stray.png lies beside class folders'):
    load_dataset(f'folder:{tmp_path}')


@pytest.mark.parametrize('dtype', [np.uint8, np.int64])
def test_zeros_and_ones_are_not_taken_for_two_greys(dtype):
  values = np.array([[[0, 1], [1, 0]]], dtype)
  with pytest.raises(ValueError, match='expected bool for binary images'):
    user_data.as_uint8('images', values)
  white = user_data.as_uint8('images', values.astype(bool))
  assert white.ravel().tolist() == [0, 255, 255, 0]
  assert not user_data.as_uint8('images', 0 * values).any()  # black


def test_arrays_that_are_not_used_are_named(tmp_path, monkeypatch):
  told = []
  monkeypatch.setattr(user_data.logging, 'warning', lambda *a: told.append(a))
  path = tmp_path / 'mine.npz'
  np.savez(path, images=np.zeros((3, 4, 4), np.uint8), label=np.arange(3))
  user_data.read_npz(path)
  assert told[0][1:3] == (path, ['label'])
