"""Runs one study: `python -m memjax.main --config=configs/digits_vae.py`."""

import difflib
import hashlib
import importlib
import json
import pathlib
import runpy
import sys
from collections.abc import Sequence

from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

from memjax import processes, run_folder, validate
from memjax.processes import ALONE, Processes
from memjax.training.preemption import Preempted

STUDIES = ('memorization', 'audit', 'rejection', 'dynamics')
# Whose models several processes share.
_SHARED_STUDIES = ('memorization',)
_DEFAULT_CONFIG = 'configs/digits_vae.py'


def resolve_config(path: str) -> str:
  """Finds a config file in the current folder, or among the shipped ones.

  Args:
    path: for instance 'configs/digits_vae.py:small'; what follows the colon is
      handed to the file's `get_config`.

  Raises:
    FileNotFoundError: naming the configs there are.
    ValueError: a variant of a config that has none.
  """
  name, colon, variant = path.partition(':')
  package = pathlib.Path(__file__).resolve().parent
  shipped = (package, package.parent)  # in the wheel; in a checkout
  for folder in (pathlib.Path(), *shipped):
    if (folder / name).is_file():
      if variant and 'def get_config()' in (folder / name).read_text('utf-8'):
        raise ValueError(f'--config={path!r}: {name} has no variants.')
      return str(folder / name) + colon + variant
  known = {
    file.stem: f'configs/{file.name}'
    for folder in shipped
    for file in sorted((folder / 'configs').glob('[a-z]*.py'))
  }
  near = difflib.get_close_matches(pathlib.Path(name).stem, known, n=1)
  hint = f' Did you mean {known[near[0]]}{colon}{variant}?' if near else ''
  raise FileNotFoundError(
    f'--config={path!r}: no such file here or among the shipped configs: '
    f'{", ".join(known.values())}.{hint}'
  )


def read_config(path: str) -> ConfigDict:
  """The config of a file, as it is before the command line's changes.

  Args:
    path: as for `resolve_config`.

  Raises:
    FileNotFoundError: naming the configs there are.
    ValueError: a variant that the file lacks.
  """
  name, _, variant = resolve_config(path).partition(':')
  get_config = runpy.run_path(name)['get_config']
  return get_config(variant) if variant else get_config()


def run_study(
  config: ConfigDict, workdir: pathlib.Path, mine: Processes = ALONE
) -> None:
  """Runs the study that a config names, or goes on with it.

  Args:
    config: of one of `STUDIES`.
    workdir: its folder.
    mine: which of how many processes that share the folder this is.

  Raises:
    ValueError: bad values; a folder of another config, or at work.
  """
  validate.one_of('config.study', config.study, STUDIES)
  if mine.count > 1 and config.study not in _SHARED_STUDIES:
    raise ValueError(
      f'config.study={config.study!r} runs in one process, and there are '
      f'{mine.count}: expected one of {_SHARED_STUDIES}, or --num_processes=1 '
      '--process_id=0.'
    )
  study = importlib.import_module(f'memjax.studies.{config.study}')
  shared = (mine,) if mine.count > 1 else ()
  with run_folder.lock(workdir, mine.index):
    study.run(config, workdir, *shared)


def default_workdir(config_path: str, config: str, unchanged: str) -> str:
  """The folder `runs/NAME`; changed configs get one of their own.

  Args:
    config_path: as resolved.
    config: the config as JSON, with the command line's changes.
    unchanged: the same without them.
  """
  name, _, variant = config_path.partition(':')
  folder = '_'.join(filter(None, (pathlib.Path(name).stem, variant)))
  if config != unchanged:
    digest = hashlib.sha256(config.encode()).hexdigest()
    folder = f'{folder}-{digest[:8]}'
  return str(pathlib.Path('runs') / folder)


def parse_flags(argv: Sequence[str]) -> list[str]:
  """Parses the command line, with the default config if it names none."""
  argv = list(argv)
  for index, argument in enumerate(argv):
    name, equals, value = argument.partition('=')
    if name in ('--config', '-config') and equals:
      argv[index] = f'--config={resolve_config(value)}'
    elif name in ('--config', '-config') and index + 1 < len(argv):
      argv[index + 1] = resolve_config(argv[index + 1])
  if not any(a.partition('=')[0] in ('--config', '-config') for a in argv):
    argv.insert(1, f'--config={resolve_config(_DEFAULT_CONFIG)}')
  return flags.FLAGS(argv)


def main(argv: Sequence[str]) -> None:
  """One study, from flags to report."""
  if len(argv) > 1:
    hint = f' Did you mean --config={argv[1]}?' if '.py' in argv[1] else ''
    raise ValueError(f'argument {argv[1]!r}: expected flags only.{hint}')
  config = flags.FLAGS.config
  text = json.dumps(config.to_dict(), sort_keys=True)
  path = config_flags.get_config_filename(flags.FLAGS['config'])
  unchanged = json.dumps(read_config(path).to_dict(), sort_keys=True)
  workdir = pathlib.Path(
    flags.FLAGS.workdir or default_workdir(path, text, unchanged)
  )
  print(f'workdir: {workdir.resolve()}', flush=True)
  mine = processes.meet(
    flags.FLAGS.coordinator_address,
    flags.FLAGS.num_processes,
    flags.FLAGS.process_id,
  )
  run_study(config, workdir, mine)
  if mine.index:
    done = f'process {mine.index} of {mine.count} has done its share'
    print(f'{done}; process 0 reports.', flush=True)
    return
  print(f'report: {(workdir / "report.html").resolve()}', flush=True)


def _run(argv: Sequence[str]) -> None:
  quiet_libraries()
  try:
    main(argv)
  except Preempted as stopped:
    print(
      f'{stopped}: everything is saved; run the same command to go on.',
      file=sys.stderr,
      flush=True,
    )
    sys.exit(128 + stopped.signal_number)
  except (
    ValueError,
    OSError,
    RuntimeError,
    ArithmeticError,
    ImportError,
  ) as error:
    if flags.FLAGS.debug:
      raise
    sys.exit(f'memjax: {error}')


def _parse(argv: Sequence[str]) -> list[str]:
  """Parses; a mistake on the command line is one line, not a traceback."""
  try:
    return parse_flags(argv)
  except (KeyError, AttributeError) as error:
    # ml_collections says which key is near; an error may hold another.
    while error.args and isinstance(error.args[0], Exception):
      error = error.args[0]
    text = ' '.join(str(error.args[0]).split())
    sys.exit(f'memjax: no such key in the config: {text}')
  except (flags.Error, TypeError, ValueError, OSError) as error:
    # An error inside a config file comes with its whole traceback as text.
    last = str(error).strip().splitlines()[-1]
    sys.exit(f'memjax: {last.removeprefix("ValueError: ")}')


def quiet_libraries() -> None:
  """Keeps our own lines: Orbax tells absl about each of a save's 40 steps."""
  logging.set_verbosity(logging.INFO)
  # Not '/memjax/': an environment may lie in a folder of that name.
  package = str(pathlib.Path(__file__).parent)
  logging.get_absl_handler().addFilter(
    lambda record: record.levelno >= 30 or record.pathname.startswith(package)
  )
  logging.get_absl_handler().setFormatter(None)


def _define_flags() -> None:
  config_flags.DEFINE_config_file(
    'config',
    None,
    'A config file, and after a colon a variant of it. Any value can be '
    f'changed by --config.name=value. Default {_DEFAULT_CONFIG}.',
    lock_config=True,
  )
  flags.DEFINE_string(
    'workdir', None, 'Where results go and a run resumes; default runs/NAME.'
  )
  flags.DEFINE_string(
    'coordinator_address',
    None,
    'host:port of process 0, where the processes meet before they begin. '
    'Without it they start apart, as the jobs of an array do.',
  )
  flags.DEFINE_integer(
    'num_processes',
    None,
    'Processes that share the models and --workdir. Default: what '
    '`jax.distributed` finds in a SLURM step or on a TPU pod slice; else 1.',
  )
  flags.DEFINE_integer('process_id', None, 'Which of them, from 0.')
  flags.DEFINE_bool('debug', False, 'Show the traceback of an error.')


if __name__ == '__main__':
  _define_flags()
  app.run(_run, flags_parser=_parse)
