# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/memjax/memjax/blob/main/colab/audit_samples.ipynb)
#
# # Does your generator copy its training data?
#
# Give three sets: what the generator was trained on, data of the same source
# that it never saw, and its samples. The audit says whether samples are copies
# and which, whether they lie on the data, reach all of it, and are distributed
# alike, each beside what an honest generator would give.

# %%
import importlib.util
import subprocess
import sys

if importlib.util.find_spec('memjax') is None:
  # With its accelerator's plugin named, pip keeps the jax that is here, or, if
  # memjax needs another one, changes both.
  plugins = {
    'jax_cuda12_plugin': 'cuda12',
    'jax_cuda13_plugin': 'cuda13',
    'libtpu': 'tpu',
  }
  here = [plugins[name] for name in plugins if importlib.util.find_spec(name)]
  packages = [
    'memjax[efficientnet] @ git+https://github.com/memjax/memjax',
    f'jax[{",".join(here)}]',
  ]
  command = [sys.executable, '-m', 'pip', 'install', '-q', *packages]
  subprocess.run(command, check=True)

# %%
import os
import pathlib

import numpy as np
from sklearn.datasets import load_digits

import memjax
from memjax import notebook

print(notebook.describe_device())

# %%
# @title Settings
# Files (.npy, .npz) or folders of images; empty: an example is made.
train = ''  # @param {type: "string"}
test = ''  # @param {type: "string"}
generated = ''  # @param {type: "string"}
# What near means. Empty: the numbers as they are (features, tables, pixels);
# shifted, flipped or recoloured copies of images need another one.
embedding = ''  # @param ["", "pixels", "encoder", "efficientnet", "inception"]
# Black and white of images that are no bytes, such as (0.0, 1.0).
value_range = ()  # @param {type: "raw"}
use_drive = False  # @param {type: "boolean"}

is_fast = bool(os.environ.get('MEMJAX_FAST'))  # for tests of this notebook
workdir = notebook.choose_workdir('audit_samples', use_drive=use_drive)

# %% [markdown]
# ## The example: a generator of digits of which 5 % are near-copies
#
# Its other samples are real digits that nobody else has seen: the most honest
# generator there is.

# %%
if not train:
  folder = pathlib.Path('example')
  folder.mkdir(exist_ok=True)
  rng = np.random.default_rng(0)
  images = rng.permutation(load_digits().images.astype(np.float32))
  own, held_out, samples = np.split(images[:1797], 3)
  samples[:30] = np.clip(own[:30] + rng.normal(0, 0.5, (30, 8, 8)), 0, 16)
  train, test, generated = (
    str(folder / f'{name}.npy') for name in ('train', 'test', 'generated')
  )
  np.save(train, own)
  np.save(test, held_out)
  np.save(generated, samples)
  value_range = (0.0, 16.0) if embedding else ()

# %%
changes = {'train': train, 'test': test, 'generated': generated}
changes |= {'embedding': embedding, 'value_range': value_range}
if embedding in ('efficientnet', 'inception'):  # grey images as colour
  changes['grey'] = 'repeat'
if is_fast:
  changes['num_permutations'] = 99
report = notebook.run_study('configs/audit.py', workdir, changes)

# %%
notebook.show_report(workdir)

# %% [markdown]
# ## The same from Python
#
# Every number comes from a function that takes arrays. `copying_test` relabels
# training and test items: if samples are no nearer to the training set than to
# items of the same source, p is uniform.

# %%
if all(path.endswith('.npy') for path in (train, test, generated)):
  arrays = [np.load(path) for path in (train, test, generated)]
  found = memjax.data_copying_test(*arrays)
  print(f'C_T = {found.c_t:.2f} (negative = copying), p = {found.p_value:.3f}')
  print(memjax.copying_test(*arrays)._fields)
