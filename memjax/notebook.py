"""What a notebook needs beside memjax itself: the device, a folder, a study.

The notebooks in `colab/` hold no logic of their own. IPython and Colab are
imported when a function needs them, so that scripts can use this module too.
"""

import importlib
import importlib.util
import json
import pathlib
import sys
from collections.abc import Mapping
from typing import Any

import jax
from absl import logging
from ml_collections import ConfigDict

from memjax import main

__all__ = [
  'choose_workdir',
  'describe_device',
  'load_config',
  'run_study',
  'show_report',
]


def describe_device() -> str:
  """Says what JAX computes on.

  Example:
    >>> 'device' in describe_device()
    True
  """
  devices = jax.devices()
  kind = devices[0].device_kind
  plural = 's' if len(devices) > 1 else ''
  hint = ''
  if devices[0].platform == 'cpu':
    hint = ': in Colab, Runtime → Change runtime type offers faster ones'
  platform = devices[0].platform.upper()
  return f'{len(devices)} {platform} device{plural} ({kind}){hint}'


def choose_workdir(config: str, *, use_drive: bool = False) -> pathlib.Path:
  """Where a study keeps its results.

  Args:
    config: path of the config, with its variant: each has a folder of its own;
      or any name.
    use_drive: mount Google Drive and put the folder there, so that the same
      notebook goes on after a disconnect, even on another machine.

  Returns:
    `runs/NAME`, or `memjax/NAME` on the Drive.

  Raises:
    ValueError: `use_drive` outside Colab.

  Example:
    >>> choose_workdir('configs/mnist_vae.py:small').as_posix()
    'runs/mnist_vae_small'
  """
  workdir = pathlib.Path(main.default_workdir(config, '', ''))
  if not use_drive:
    return workdir
  try:
    drive = importlib.import_module('google.colab.drive')
  except ImportError as error:
    raise ValueError(
      'use_drive=True: expected to run in Colab; elsewhere folders stay.'
    ) from error
  drive.mount('/content/drive')
  return pathlib.Path('/content/drive/MyDrive/memjax') / workdir.name


def load_config(
  path: str, changes: Mapping[str, Any] | None = None
) -> ConfigDict:
  """Reads a config file, as `--config=` does.

  Args:
    path: for instance 'configs/mnist_vae.py:small'.
    changes: values by their dotted names, such as {'train.epochs': 10}.

  Raises:
    FileNotFoundError: naming the configs there are.
    KeyError: a key that the config lacks; it names the nearest.

  Example:
    >>> load_config('configs/digits_vae.py', {'train.epochs': 3}).train.epochs
    3
  """
  config = main.read_config(path)
  config.lock()
  config.update_from_flattened_dict(dict(changes or {}))
  return config


def run_study(
  path: str,
  workdir: pathlib.Path,
  changes: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
  """Runs a study, or goes on with one; progress is printed.

  Args:
    path: of the config, see `load_config`.
    workdir: its folder; the same one resumes.
    changes: values by their dotted names.

  Returns:
    The content of its report.json.

  Raises:
    ValueError: bad values; a folder of another config.
  """
  config = load_config(path, changes)
  main.quiet_libraries()
  # Cells show what is printed; in a script the command line sees to this.
  logging.use_absl_handler()
  logging.get_absl_handler().python_handler.stream = sys.stdout
  main.run_study(config, pathlib.Path(workdir))
  return json.loads((pathlib.Path(workdir) / 'report.json').read_text())


def show_report(workdir: pathlib.Path, *, num_figures: int = 4) -> None:
  """Shows the verdict and the first pictures of a report below the cell.

  Args:
    workdir: of a finished study.
    num_figures: how many pictures.

  Raises:
    FileNotFoundError: if the study has not finished.
  """
  from IPython import display

  workdir = pathlib.Path(workdir)
  report = workdir / 'report.json'
  if not report.exists():
    raise FileNotFoundError(
      f'{report}: expected the report of a finished study; run it first.'
    )
  verdict = json.loads(report.read_text())['verdict']
  lines = [f'**{verdict["headline"]}**', verdict.get('uncertainty', '')]
  lines += [f'But: {caveat}' for caveat in verdict.get('caveats', ())]
  display.display(display.Markdown('\n\n'.join(filter(None, lines))))
  for figure in _figures(workdir)[:num_figures]:
    name = figure.stem.replace('_', ' ')
    display.display(display.Image(str(figure), alt=name))


def _figures(workdir: pathlib.Path) -> list[pathlib.Path]:
  """The report's pictures in its order, without what an older run left."""
  page = (workdir / 'report.html').read_text()
  places = {
    figure: page.find(f'-{figure.stem.replace("_", "-")}--title')
    for figure in (workdir / 'figures').glob('*.png')
  }
  shown = [figure for figure, place in places.items() if place >= 0]
  return sorted(shown, key=places.__getitem__)
