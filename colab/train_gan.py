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
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/memjax/memjax/blob/main/colab/train_gan.ipynb)
#
# # A GAN with Memorization Rejection
#
# Memorization Rejection leaves samples that come too close to a training image
# out of the generator's update. This notebook trains the same small GAN with and
# without it, from the same seeds, and asks of both: do their samples copy, and
# how good are they?

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
    'memjax @ git+https://github.com/memjax/memjax',
    f'jax[{",".join(here)}]',
  ]
  command = [sys.executable, '-m', 'pip', 'install', '-q', *packages]
  subprocess.run(command, check=True)

# %%
import os

import jax
import jax.numpy as jnp
import numpy as np

import memjax.rejection
from memjax import notebook

print(notebook.describe_device())

# %%
# @title Settings
# The digits need no download; the others do. CIFAR-10 with the paper's BigGAN
# may take a day on one GPU (not measured), keep it on Drive; it trains with rejection alone.
config = 'configs/digits_gan.py'  # @param ["configs/digits_gan.py", "configs/fashion_gan.py", "configs/cifar_biggan.py"]
use_drive = False  # @param {type: "boolean"}

is_fast = bool(os.environ.get('MEMJAX_FAST'))  # for tests of this notebook
config = f'{config}:small' if is_fast else config
workdir = notebook.choose_workdir(config, use_drive=use_drive)

# %% [markdown]
# ## Train, with and without rejection
#
# CIFAR-10 with rejection alone (`compare` of the config is False): there
# `run_study(config, workdir, {'compare': True})` trains both, in twice the time.
#
# The threshold is the mean distance of a training image to its nearest other
# one, unless `threshold` says otherwise. If the runtime disconnects, run all
# cells again: with `use_drive` training goes on where it was.

# %%
report = notebook.run_study(config, workdir)

# %%
notebook.show_report(workdir)

# %% [markdown]
# ## A guard at sampling time
#
# A model that is trained already cannot unlearn, but its sampler can refuse
# near-copies. `guard` wraps any sampler and says how many it refused; here that
# is a sampler of points, a fifth of which are copies.

# %%
rng = np.random.default_rng(0)
train = rng.normal(size=(200, 8))


def sampler(key, number):
  fresh = jax.random.normal(key, (number, 8))
  is_copy = jnp.arange(number) % 5 == 0
  copies = jnp.resize(jnp.asarray(train, jnp.float32), (number, 8))
  return jnp.where(is_copy[:, None], copies, fresh)


index = memjax.rejection.make_index(train, metric='euclidean')
guarded = memjax.rejection.guard(sampler, index, 0.1)
found = guarded(jax.random.key(0), 100)
print(f'{len(found.samples)} samples; refused {found.num_refused}', end=' ')
print(f'of {found.num_drawn} drawn')
