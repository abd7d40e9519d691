"""Strict settings for every test: they change no number, only find faults."""

import os
import tempfile

# Subprocesses inherit the compilation cache: a kill-and-resume test compiles
# its programs once.
os.environ.setdefault(
  'JAX_COMPILATION_CACHE_DIR',
  os.path.join(tempfile.gettempdir(), 'memjax-test-cache'),
)
os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', '0')

import jax
import pytest
from absl import flags

jax.config.update('jax_numpy_rank_promotion', 'raise')
flags.FLAGS.mark_as_parsed()


@pytest.fixture
def getkey():
  """A function that returns a fresh key at every call."""
  state = [jax.random.key(0)]

  def next_key():
    state[0], key = jax.random.split(state[0])
    return key

  return next_key
