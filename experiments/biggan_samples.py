"""A narrow BigGAN on a LOSSY copy of CIFAR-10: does it learn, what comes out?

  python experiments/biggan_samples.py --source=npz:lossy.npz --out=FOLDER

The file holds JPEG files, `npz:` of `memjax.data`: their pixels are not those
of CIFAR-10, and every caption and file says so. Rejection is on, by distance of
pixels (biggan_check.py). Resumes: the same command goes on after a kill. Every
--every steps it writes FOLDER/samples_*.png, a row a class, and
FOLDER/biggan.json: losses, acceptance, seconds, memory. The reader should see
rows that differ by class and losses that stay finite; 2,000 steps of a width of
24 are no image quality.
"""

import functools
import pathlib
import time

import biggan_check
import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags, logging

from memjax import files
from memjax.analysis import drawing, page
from memjax.models import gan
from memjax.training.gan_state import FAILURES, GanOptions, init_gan_state
from memjax.training.gan_step import make_gan_steps
from memjax.training.resumable import run_resumable

_COLUMNS = 10  # samples of a class
_LOSSY = 'a LOSSY copy of CIFAR-10 (JPEG), not CIFAR-10'


def grid(images: np.ndarray, caption: str) -> drawing.Figure:
  """Samples [classes · 10, h, w, c] in rows of a class, under a caption."""
  rows, title = len(images) // _COLUMNS, 0.5
  height = drawing.WIDTH * rows / _COLUMNS + title
  figure = drawing.Figure(figsize=(drawing.WIDTH, height), facecolor='white')
  figure.suptitle(drawing.fill(caption, 80), fontsize=8.5, color=drawing.INK)
  tall = (1 - title / height) / rows
  for place, image in enumerate(images):
    row, column = divmod(place, _COLUMNS)
    box = column / _COLUMNS, tall * (rows - 1 - row)
    drawing.image(figure, (*box, 0.94 / _COLUMNS, 0.94 * tall), image)
  return figure


def summary(options: GanOptions, state, step: int) -> dict:
  """What is known after some steps, as JSON."""
  made, record = state['gan'], state['gan'].record
  steps = np.maximum(np.asarray(record.steps), 1)
  rows = -(-step // options.record_every)
  mean = lambda name: (np.asarray(getattr(record, name)) / steps)[:rows]
  seconds = float(state['seconds'])
  return {
    'data': _LOSSY,
    'step': step,
    'failure': FAILURES[int(made.failure)],
    'failed_step': int(made.failed_step),
    'is_finite': bool(
      all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(made.sampled()))
    ),
    'steps_a_row': options.record_every,
    'discriminator_loss': mean('discriminator_loss'),
    'generator_loss': mean('generator_loss'),
    'acceptance': mean('acceptance'),
    'threshold': biggan_check.THRESHOLD,
    'batch_size': options.batch_size,
    'discriminator_steps': options.discriminator_steps,
    'seconds': seconds,  # of steps, compilation included, over all starts
    'seconds_a_step': seconds / step,
    'peak_gigabytes': biggan_check.peak_gigabytes(),  # of this start
  }


def main(
  source: str, out: str, steps: int, width: int, options: GanOptions, count: int
) -> None:
  """Trains, or goes on; draws and tells every `options.record_every` steps."""
  logging.set_verbosity(logging.INFO)
  root, data = pathlib.Path(out), biggan_check.load(source, count)
  classes = int(data.labels.max()) + 1
  model = gan.biggan(
    data.images.shape[1:], classes, generator_width=width,
    discriminator_width=width,
  )  # fmt: skip
  init = functools.partial(init_gan_state, model, options, steps)
  state = jax.jit(init)(jax.random.key(0))
  compiled = jax.jit(make_gan_steps(model, options, biggan_check.embed))
  generate = jax.jit(model.generate)
  threshold = jnp.float32(biggan_check.THRESHOLD)

  def advance(state, begin, end):
    start = time.perf_counter()
    made = jax.block_until_ready(
      compiled(state['gan'], data, threshold, begin, end, jax.random.key(1))
    )
    seconds = state['seconds'] + np.float32(time.perf_counter() - start)
    return {'gan': made, 'seconds': seconds}

  def visit(step, state) -> bool:
    label = jnp.repeat(jnp.arange(classes), _COLUMNS)
    z = jax.random.normal(jax.random.key(2), (len(label), model.latent_dim))
    images = np.asarray(generate(state['gan'].sampled(), z, label))
    caption = (
      f'Samples of a BigGAN of width {width} after {step:,} steps on {_LOSSY}. '
      'A row a class, not chosen.'
    )
    pixels = np.rint((images + 1) * 127.5).astype(np.uint8)
    content = page.png(grid(pixels, caption))
    files.write_atomically(
      root / f'samples_{step:06d}.png', lambda file: file.write(content)
    )
    found = {'width': width, **summary(options, state, step)}
    files.write_json(root / 'biggan.json', found)
    return int(state['gan'].failed_step) >= 0

  run_resumable(
    {'gan': state, 'seconds': jnp.zeros(())},
    advance,
    steps,
    root / 'checkpoints',
    visits=[*range(options.record_every, steps, options.record_every), steps],
    visit=visit,
  )
  print((root / 'biggan.json').read_text())


if __name__ == '__main__':
  _SOURCE = flags.DEFINE_string('source', None, 'npz:FILE.', required=True)
  _OUT = flags.DEFINE_string('out', None, 'Folder.', required=True)
  _STEPS = flags.DEFINE_integer('steps', 2000, 'Generator updates.')
  _EVERY = flags.DEFINE_integer('every', 500, 'Steps between pictures.')
  _UPDATES = flags.DEFINE_integer('updates', 5, 'Discriminator updates each.')
  _WIDTH = flags.DEFINE_integer('width', 24, 'Of both networks.')
  _BATCH = flags.DEFINE_integer('batch', 64, 'Batch size.')
  _COUNT = flags.DEFINE_integer('count', 0, 'Training images used; 0: all.')
  app.run(
    lambda _: main(
      _SOURCE.value, _OUT.value, _STEPS.value, _WIDTH.value,
      GanOptions(
        batch_size=_BATCH.value, discriminator_steps=_UPDATES.value, flip=True,
        record_every=_EVERY.value,
      ),
      _COUNT.value,
    )
  )  # fmt: skip
