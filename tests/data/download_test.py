"""Downloads from a server in this process that misbehaves on request."""

import contextlib
import gzip
import hashlib
import http.server
import threading

import numpy as np
import pytest

from memjax.data import download

CONTENT = np.random.default_rng(0).bytes(3_000_000)
DIGEST = f'sha256:{hashlib.sha256(CONTENT).hexdigest()}'


class Server(http.server.ThreadingHTTPServer):
  """Serves `content` and keeps the Range header of every request.

  Attributes:
    honours_range: False sends everything, as many servers do.
    stops_after: the bytes sent before each connection closes, in turn.
  """

  def __init__(self, content=CONTENT, honours_range=True, stops_after=()):
    super().__init__(('127.0.0.1', 0), Handler)
    self.content, self.honours_range = content, honours_range
    self.stops_after = list(stops_after)
    self.ranges = []

  @property
  def url(self):
    return f'http://127.0.0.1:{self.server_port}/file.bin'


class Handler(http.server.BaseHTTPRequestHandler):
  def log_message(self, *arguments):
    pass

  def do_GET(self):
    wanted = self.headers['Range']
    self.server.ranges.append(wanted)
    if self.path != '/file.bin':
      return self.send_error(404)
    content, status, start = self.server.content, 200, 0
    if wanted and self.server.honours_range:
      start, status = int(wanted.removeprefix('bytes=').removesuffix('-')), 206
      if start >= len(content):
        return self.send_error(416)
    self.send_response(status)
    self.send_header('Content-Length', str(len(content) - start))
    if status == 206:
      last = f'{len(content) - 1}/{len(content)}'
      self.send_header('Content-Range', f'bytes {start}-{last}')
    self.end_headers()
    body = content[start:]
    if self.server.stops_after:
      body = body[: self.server.stops_after.pop(0)]
    self.wfile.write(body)


@contextlib.contextmanager
def serving(**options):
  with Server(**options) as server:
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
      yield server
    finally:
      server.shutdown()
      thread.join()


def fetch(urls, path, expected=DIGEST, lines=None):
  lines = [] if lines is None else lines
  return download.fetch(urls, path, expected, report=lines.append)


def assert_complete(path):
  assert path.read_bytes() == CONTENT
  assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_download_arrives_whole_and_tells_how_fast(tmp_path):
  lines = []
  with serving() as server:
    path = fetch([server.url], tmp_path / 'new' / 'x', lines=lines)
    assert server.ranges == [None]
  assert_complete(path)
  assert server.url in lines[0]
  assert lines[-1].startswith('3.0 of 3.0 MB, ')
  assert lines[-1].endswith(' MB/s, 0 s left')


def test_what_an_earlier_call_had_begun_is_not_sent_again(tmp_path):
  (tmp_path / 'x.part').write_bytes(CONTENT[:1000])
  with serving() as server:
    fetch([server.url], tmp_path / 'x')
    assert server.ranges == ['bytes=1000-']
  assert_complete(tmp_path / 'x')


def test_a_finished_part_needs_no_more_bytes(tmp_path):
  (tmp_path / 'x.part').write_bytes(CONTENT)
  with serving() as server:
    fetch([server.url], tmp_path / 'x')
    assert server.ranges == [f'bytes={len(CONTENT)}-']
  assert_complete(tmp_path / 'x')


def test_a_server_that_ignores_ranges_starts_afresh(tmp_path):
  (tmp_path / 'x.part').write_bytes(CONTENT[:1000])
  with serving(honours_range=False) as server:
    fetch([server.url], tmp_path / 'x')
    assert server.ranges == ['bytes=1000-']
  assert_complete(tmp_path / 'x')


def test_a_broken_transfer_goes_on_where_it_stopped(tmp_path):
  with serving(stops_after=[1_500_000]) as server:
    fetch([server.url], tmp_path / 'x')
    assert server.ranges == [None, 'bytes=1500000-']
  assert_complete(tmp_path / 'x')


def test_a_truncated_file_is_kept_apart_for_the_next_call(tmp_path):
  with serving(stops_after=[1000, 500]) as server:
    with pytest.raises(ConnectionError, match='stopped after 1500 of 3000000'):
      fetch([server.url], tmp_path / 'x')
    assert not (tmp_path / 'x').exists()
    assert (tmp_path / 'x.part').read_bytes() == CONTENT[:1500]
    fetch([server.url], tmp_path / 'x')
    assert server.ranges[-1] == 'bytes=1500-'
  assert_complete(tmp_path / 'x')


@pytest.mark.parametrize('length', [1000, len(CONTENT) + 5])
def test_a_part_of_another_file_is_thrown_away(length, tmp_path):
  (tmp_path / 'x.part').write_bytes(bytes(length))
  with serving() as server:
    fetch([server.url], tmp_path / 'x')
    assert server.ranges == [f'bytes={length}-', None]
  assert_complete(tmp_path / 'x')


def test_an_altered_file_is_deleted_and_the_next_mirror_asked(tmp_path):
  altered = CONTENT[:-1] + bytes([CONTENT[-1] ^ 1])
  with serving(content=altered) as bad, serving() as good:
    fetch([bad.url, good.url], tmp_path / 'x')
    assert (bad.ranges, good.ranges) == ([None], [None])
    assert_complete(tmp_path / 'x')
    message = 'is not the published file: its sha256 is'
    with pytest.raises(ConnectionError, match=message):
      fetch([bad.url], tmp_path / 'y')
  assert_complete(tmp_path / 'x')


def test_every_mirror_that_failed_is_listed(tmp_path):
  with serving() as server:
    absent = server.url.replace('file.bin', 'absent')
  with serving() as server:
    not_found = server.url.replace('file.bin', 'absent')
    with pytest.raises(ConnectionError) as error:
      fetch([absent, not_found], tmp_path / 'x')
  first, second = str(error.value).split('\n')
  assert first.startswith(f'{absent}: ')
  assert 'refused' in first
  assert second == f'{not_found}: HTTP Error 404: Not Found'
  assert list(tmp_path.iterdir()) == []


def test_gz_files_are_verified_by_what_they_hold(tmp_path):
  text = b'pixels' * 1000
  expected = f'md5:{hashlib.md5(text).hexdigest()}'
  for level in (1, 9):
    packed = gzip.compress(text, level)
    with serving(content=packed) as server:
      path = fetch([server.url], tmp_path / f'{level}.gz', expected)
    assert path.read_bytes() == packed
    with download.open_plain(path) as file:
      assert file.read() == text
  with serving(content=packed[:-20]) as server:
    with pytest.raises(ConnectionError, match='its md5 is unknown'):
      fetch([server.url], tmp_path / 'cut.gz', expected)
  # An archive is verified as it is.
  archive = tmp_path / 'x.tar.gz'
  archive.write_bytes(packed)
  download.verify(archive, f'sha1:{hashlib.sha1(packed).hexdigest()}')
  with pytest.raises(ValueError, match=r'x\.tar\.gz is not the published file'):
    download.verify(archive, expected)
