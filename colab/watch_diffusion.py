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
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/memjax/memjax/blob/main/colab/watch_diffusion.ipynb)
#
# # Watch a diffusion model memorize
#
# A tiny diffusion model learns two moons, with a cluster of outliers and some
# points that occur twice. At chosen epochs it draws as many samples as it was
# trained on: which of them are copies, and of what? Beside each curve stands
# its null, the same question with training and test points swapped.

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

from memjax import notebook

print(notebook.describe_device())

# %%
# @title Settings
config = 'configs/moons_dynamics.py:small'  # @param ["configs/moons_dynamics.py:small", "configs/moons_dynamics.py:figure_4", "configs/moons_dynamics.py:figure_3"]
use_drive = False  # @param {type: "boolean"}

is_fast = bool(os.environ.get('MEMJAX_FAST'))  # for tests of this notebook
changes = {'train.epochs': 20, 'evaluate.every': 10} if is_fast else {}
workdir = notebook.choose_workdir(config, use_drive=use_drive)

# %% [markdown]
# ## Train all repeats at once, and watch
#
# If the runtime disconnects, run all cells again: with `use_drive` training goes
# on where it was.

# %%
report = notebook.run_study(config, workdir, changes)

# %%
notebook.show_report(workdir)

# %% [markdown]
# Everything else is in the folder: `report.html` has all pictures and says what
# they mean.

# %%
print(sorted(path.name for path in workdir.iterdir()))
