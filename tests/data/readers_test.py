"""Genuine formats, written byte by byte, read back."""

import io
import os
import pickle
import struct
import zipfile

import numpy as np
import pytest
from PIL import Image

from memjax.data import readers


def png(pixels) -> bytes:
  file = io.BytesIO()
  Image.fromarray(np.asarray(pixels, np.uint8)).save(file, 'PNG')
  return file.getvalue()


def idx(shape, values, kind=8) -> bytes:
  sizes = b''.join(struct.pack('>I', size) for size in shape)
  return bytes([0, 0, kind, len(shape)]) + sizes + bytes(values)


def test_idx_files_hold_images_row_by_row():
  images, labels = readers.read_idx_pair(
    [idx((2, 2, 3), range(12)), idx((2,), [7, 1])]
  )
  assert images.shape == (2, 2, 3, 1)
  assert images[1, :, :, 0].tolist() == [[6, 7, 8], [9, 10, 11]]
  assert labels.tolist() == [7, 1]


@pytest.mark.parametrize(
  ('data', 'message'),
  [
    (b'', 'starts with'),
    (b'\x1f\x8b\x08\x00', 'starts with 00 00 08, not 1f 8b 08'),
    (idx((2,), range(8), kind=0x0D), 'starts with'),
    (idx((2, 2), range(3)), r'shape \(2, 2\) has 16 bytes: here 15'),
    (idx((2, 2), range(5)), 'here 17'),
    (idx((2, 2), range(4))[:7], 'bytes: here 7'),
  ],
)
def test_idx_files_of_another_type_or_length_are_refused(data, message):
  with pytest.raises(ValueError, match=message):
    readers.read_idx(data)


def test_idx_images_without_their_labels_are_refused():
  with pytest.raises(ValueError, match=r'\(2, 1, 1\) and \(3,\)'):
    readers.read_idx_pair([idx((2, 1, 1), [0, 0]), idx((3,), [0, 0, 0])])


def cifar_rows(seed, num_items):
  return np.random.default_rng(seed).integers(
    0, 256, (num_items, 3072), dtype=np.uint8
  )


def assert_planes(images, rows):
  """The rows hold all reds, then all greens, then all blues."""
  for n, y, x, c in [(0, 0, 0, 0), (1, 3, 30, 1), (2, 31, 31, 2), (1, 9, 0, 2)]:
    assert images[n, y, x, c] == rows[n, 1024 * c + 32 * y + x]


def test_binary_cifar_batches_are_joined():
  rows = cifar_rows(0, 3)
  records = [
    bytes([label]) + row.tobytes()
    for label, row in zip(b'\3\0\11', rows, strict=True)
  ]
  images, labels = readers.read_cifar_binary(
    [records[0], records[1] + records[2]]
  )
  assert images.shape == (3, 32, 32, 3)
  assert_planes(images, rows)
  assert labels.tolist() == [3, 0, 9]
  with pytest.raises(ValueError, match='3072 is no multiple'):
    readers.read_cifar_binary([rows[0].tobytes()])


def python2_batch(rows, labels) -> bytes:
  """What cPickle of Python 2 wrote for the genuine files, protocol 2."""
  raw = rows.tobytes()
  return b''.join(
    [
      b'\x80\x02}(U\x04datacnumpy.core.multiarray\n_reconstruct\n',
      b'(cnumpy\nndarray\nK\x00\x85U\x01btR(K\x01',
      b'K%cM\x00\x0c\x86' % len(rows),
      b'cnumpy\ndtype\n(U\x02u1K\x00K\x01tR',
      b'(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89',
      b'T' + struct.pack('<i', len(raw)) + raw + b'tb',
      b'U\x06labels](' + b''.join(b'K%c' % label for label in labels) + b'eu.',
    ]
  )


def test_python_cifar_batches_of_both_pythons_are_read():
  rows = cifar_rows(1, 3)
  files = [
    python2_batch(rows[:2], [4, 2]),
    pickle.dumps({b'data': rows[2:], b'labels': [9]}, protocol=2),
  ]
  images, labels = readers.read_cifar_pickles(files)
  assert_planes(images, rows)
  assert labels.tolist() == [4, 2, 9]


def test_fortran_ordered_batches_are_read():
  rows = cifar_rows(2, 3)
  batch = {'data': np.asfortranarray(rows), 'labels': [0, 1, 2]}
  images, _ = readers.read_cifar_pickles([pickle.dumps(batch, protocol=2)])
  assert_planes(images, rows)


class Hostile:
  def __init__(self, function, *arguments):
    self.call = function, arguments

  def __reduce__(self):
    return self.call


@pytest.mark.parametrize('protocol', range(6))
def test_a_pickle_that_runs_code_is_refused_unrun(protocol, tmp_path):
  target = tmp_path / 'ran'
  batch = {'data': Hostile(os.mkdir, str(target)), 'labels': [0]}
  with pytest.raises(ValueError, match=r'asks for \w+\.mkdir'):
    readers.read_cifar_pickles([pickle.dumps(batch, protocol=protocol)])
  assert not target.exists()
  pickle.loads(pickle.dumps(batch, protocol=protocol))
  assert target.exists()  # the pickle would have run


@pytest.mark.parametrize(
  ('batch', 'message'),
  [
    ({'data': Hostile(eval, '1'), 'labels': []}, r'asks for __builtin__\.eval'),
    ({'data': np.array([None]), 'labels': [0]}, 'not of bytes'),
    ({'data': np.zeros(3072), 'labels': [0]}, 'not of bytes'),
    ({'data': np.float64(3), 'labels': [0]}, 'asks for numpy.*scalar'),
  ],
)
def test_other_arrays_and_callables_are_refused(batch, message):
  with pytest.raises(ValueError, match=message):
    readers.read_cifar_pickles([pickle.dumps(batch, protocol=2)])


def test_a_dotted_name_does_not_reach_through_a_permitted_one():
  # Protocol 4 resolves ndarray.__class__ by attributes.
  data = b'\x80\x04\x8c\x05numpy\x8c\x11ndarray.__class__\x93.'
  with pytest.raises(ValueError, match=r'numpy\.ndarray\.__class__'):
    readers.read_cifar_pickles([data])


def test_images_stay_grey_only_if_all_are():
  grey, colour = np.full((2, 3), 7), np.full((2, 3, 3), 9)
  files = [png(grey), png(colour), png(grey)]
  images = readers.decode_images('abc', lambda i: files[i])
  assert images.shape == (3, 2, 3, 3)
  assert images[:, 0, 0].tolist() == [[7] * 3, [9] * 3, [7] * 3]
  images = readers.decode_images('ac', lambda i: files[2 * i])
  assert images.shape == (2, 2, 3, 1)
  assert (images == 7).all()


def test_many_images_keep_their_order():
  files = [png(np.full((1, 1), value)) for value in range(200)]
  images = readers.decode_images(range(200), lambda i: files[i])
  assert images.ravel().tolist() == list(range(200))


def test_images_that_cannot_be_decoded_are_named():
  good = png(np.zeros((4, 4)))
  noise = png(cifar_rows(4, 2))
  deep = io.BytesIO()
  Image.fromarray(np.zeros((4, 4), np.uint16)).save(deep, 'PNG')
  pcx = io.BytesIO()
  Image.new('L', (4, 4)).save(pcx, 'PCX')  # Pillow reads it, memjax need not
  for bad, message in [
    (png(np.zeros((4, 5))), 'image b is 5×4, but a is 4×4'),
    (
      noise[: len(noise) // 2],
      'cannot decode image b: .*cut off, or none of BMP',
    ),
    (pcx.getvalue(), 'cannot decode image b'),
    (deep.getvalue(), 'cannot decode image b.*8 bits'),
  ]:
    with pytest.raises(ValueError, match=message):
      readers.decode_images('ab', lambda i, bad=bad: (good, bad)[i])


def triangle_filter(pixels, size):
  """Bilinear reduction of the first axis, as a weighted mean of each window."""
  scale = len(pixels) / size
  centres = (np.arange(size) + 0.5) * scale
  distance = np.abs(np.arange(len(pixels)) + 0.5 - centres[:, None]) / scale
  weights = np.maximum(0, 1 - distance)
  weights /= weights.sum(axis=1, keepdims=True)
  return np.einsum('ij,j...->i...', weights, pixels)


def celeba_files(folder, numbers):
  rng = np.random.default_rng(3)
  pixels = rng.integers(0, 256, (len(numbers), 218, 178, 3), dtype=np.uint8)
  folder.mkdir(parents=True)
  for number, image in zip(numbers, pixels, strict=True):
    # Lossless, so that the crop can be told to a pixel.
    (folder / f'{number:06d}.jpg').write_bytes(png(image))
  return pixels


def test_celeba_is_cropped_to_the_face_and_reduced(tmp_path):
  folder = tmp_path / 'img_align_celeba'
  pixels = celeba_files(folder, range(5, 8))
  archive = tmp_path / 'img_align_celeba.zip'
  with zipfile.ZipFile(archive, 'w') as file:
    for path in folder.iterdir():
      file.write(path, f'img_align_celeba/{path.name}')
  face = pixels[1:, 40:188, 15:163].astype(np.float64)
  for size in (32, 64):
    rows = triangle_filter(face.swapaxes(0, 1), size).swapaxes(0, 1)
    expected = triangle_filter(np.moveaxis(rows, 2, 0), size)
    expected = np.moveaxis(expected, 0, 2)
    for path in (folder, archive):
      images = readers.read_celeba(path, range(6, 8), size=size)
      assert images.shape == (2, size, size, 3)
      np.testing.assert_allclose(images, expected, atol=1.01)


def test_celeba_in_the_wild_is_not_the_aligned_one(tmp_path):
  (tmp_path / '000001.jpg').write_bytes(png(np.zeros((218, 179, 3))))
  with pytest.raises(ValueError, match=r'000001.jpg.*178×218'):
    readers.read_celeba(tmp_path, range(1, 2))
