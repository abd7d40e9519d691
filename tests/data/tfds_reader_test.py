"""A tiny data set, prepared by TFDS in its own format, without TensorFlow."""

import io
import json
import pathlib
import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from memjax.data import catalog, search
from memjax.data.sources import load_dataset


class TinyImages(tfds.core.GeneratorBasedBuilder):
  """Item i is a grey 4×3 image of value 10·i, class i mod 3."""

  VERSION = tfds.core.Version('1.0.0')
  pkg_dir_path = pathlib.Path(__file__).parent

  def _info(self):
    return self.dataset_info_from_configs(
      features=tfds.features.FeaturesDict(
        {
          'image': tfds.features.Image(shape=(None, None, 1)),
          'label': tfds.features.ClassLabel(num_classes=3),
        }
      )
    )

  def _split_generators(self, dl_manager):
    return {
      'train': self._generate_examples(6),
      'test': self._generate_examples(2),
    }

  def _generate_examples(self, num_items):
    for i in range(num_items):
      file = io.BytesIO()
      Image.new('L', (4, 3), 10 * i).save(file, 'PNG')
      yield i, {'image': file.getvalue(), 'label': i % 3}


@pytest.fixture(scope='module')
def prepared(tmp_path_factory):
  folder = tmp_path_factory.mktemp('tensorflow_datasets')
  builder = TinyImages(data_dir=folder, file_format='array_record')
  builder.download_and_prepare()
  return folder


def test_array_records_are_read_without_tensorflow(prepared):
  train = load_dataset('tfds:tiny_images', data_dir=str(prepared), pad=1)
  assert train.images.shape == (6, 5, 6, 1)
  values = train.images[:, 2, 2, 0] // 10
  assert sorted(values) == list(range(6))
  np.testing.assert_array_equal(train.labels, values % 3)
  assert train.ids.tolist() == list(range(6))
  few = load_dataset('tfds:tiny_images', data_dir=str(prepared), num_items=2)
  np.testing.assert_array_equal(few.images, train.images[:2, 1:-1, 1:-1])
  test = load_dataset('tfds:tiny_images', split='test', data_dir=str(prepared))
  assert sorted(test.images[:, 0, 0, 0]) == [0, 10]
  assert 'tensorflow' not in sys.modules


def test_unknown_names_and_splits_are_errors(prepared):
  with pytest.raises(ValueError, match=r"'validation'.*'train', 'test'"):
    load_dataset('tfds:tiny_images', split='validation', data_dir=str(prepared))
  with pytest.raises(ValueError, match=r'Did you mean tfds:mnist\?') as error:
    load_dataset('tfds:mnits', data_dir=str(prepared))
  assert '\n' not in str(error.value)


def test_unprepared_sets_come_with_the_command(tmp_path):
  with pytest.raises(FileNotFoundError) as error:
    load_dataset('tfds:mnist', data_dir=str(tmp_path))
  message = str(error.value)
  assert 'does not exist' in message
  assert "pip install -e '.[prepare]'" in message
  assert f'(--config.data.directory={tmp_path})' in message
  assert (
    'python -c "import tensorflow_datasets as tfds; '
    f"tfds.builder('mnist', data_dir='{tmp_path}', "
    "file_format='array_record').download_and_prepare()\""
  ) in message


def test_other_formats_get_a_folder_of_their_own(prepared, tmp_path):
  version = tmp_path / 'tiny_images' / '1.0.0'
  version.mkdir(parents=True)
  for file in (prepared / 'tiny_images' / '1.0.0').iterdir():
    name = file.name.replace('array_record', 'tfrecord')
    (version / name).write_bytes(file.read_bytes())
  info = json.loads((version / 'dataset_info.json').read_text())
  info['fileFormat'] = 'tfrecord'
  (version / 'dataset_info.json').write_text(json.dumps(info))
  with pytest.raises(FileNotFoundError) as error:
    load_dataset('tfds:tiny_images', data_dir=str(tmp_path))
  assert 'is in the format tfrecord' in str(error.value)
  assert f"data_dir='{tmp_path}/array_record'" in str(error.value)


def test_published_sets_are_read_from_what_tfds_prepared(prepared, caplog):
  published = catalog.PUBLISHED['mnist']._replace(tfds='tiny_images', urls={})
  dataset = search.find_published(
    'mnist', 'test', [prepared], published=published
  )
  assert len(dataset.images) == 2
  assert 'not in the published order' in caplog.text
