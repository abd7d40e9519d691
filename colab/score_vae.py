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
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/memjax/memjax/blob/main/colab/score_vae.ipynb)
#
# # What has a VAE memorized?
#
# This notebook trains the K fold models of one small study at once, scores every
# training item by what training on it adds to its log-probability, and says
# whether that is more than chance. It takes some three minutes on two CPU cores.

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

import matplotlib.pyplot as plt
import numpy as np

from memjax import notebook

print(notebook.describe_device())

# %%
# @title Settings
# 'configs/mnist_vae.py:small' downloads MNIST; the digits come with
# scikit-learn.
config = 'configs/digits_vae.py'  # @param ["configs/digits_vae.py", "configs/mnist_vae.py:small", "configs/fashion_vae.py:small", "configs/cifar_vae.py:small"]
use_drive = False  # @param {type: "boolean"}

is_fast = bool(os.environ.get('MEMJAX_FAST'))  # for tests of this notebook
config = f'{config}:small' if is_fast else config
workdir = notebook.choose_workdir(config, use_drive=use_drive)

# %% [markdown]
# ## Train and score
#
# If the runtime disconnects, run all cells again: with `use_drive` the study
# goes on where it was.

# %%
report = notebook.run_study(config, workdir)

# %%
notebook.show_report(workdir)

# %% [markdown]
# ## The numbers
#
# The score of an item is U − V in nats: the log-probability that models trained
# on it give it, minus that of models that held it out. Positive = memorized.

# %%
with np.load(workdir / 'arrays' / 'scores.npz') as saved:
  score, q_value, null = saved['score'], saved['q_value'], saved['null']
print(f'{score.size} items, mean score {np.nanmean(score):.2f} nats,', end=' ')
print(f'{np.sum(q_value <= 0.05)} stand out (q ≤ 0.05)')

plt.hist(score, bins=60, density=True, alpha=0.6, label='scores')
plt.hist(null.ravel(), bins=60, density=True, histtype='step', label='chance')
plt.xlabel('score (nats)')
plt.ylabel('density')
plt.legend()
plt.show()

# %% [markdown]
# Everything else is in the folder: `report.html` has all pictures, `scores.csv`
# a row an item.

# %%
print(sorted(path.name for path in workdir.iterdir()))
