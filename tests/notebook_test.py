"""What the notebooks in colab/ use."""

import json
import sys
import types

import jax
import pytest
from IPython import display

from memjax import notebook

TINY = {
  'data.num_items': 40,
  'train.epochs': 1,
  'score.epochs': (1,),
  'score.num_permutations': 20,
}


def test_load_config_reads_variants_and_changes():
  config = notebook.load_config(
    'configs/digits_vae.py:small', {'train.epochs': 7}
  )
  assert (config.data.num_items, config.train.epochs) == (300, 7)
  assert notebook.load_config('configs/digits_vae.py').data.num_items == 0


def test_a_typo_names_the_nearest_key():
  with pytest.raises(KeyError, match='Did you mean "epochs"'):
    notebook.load_config('configs/digits_vae.py', {'train.epoch': 7})


def test_a_missing_config_lists_those_there_are():
  with pytest.raises(FileNotFoundError, match=r'configs/mnist_vae.py'):
    notebook.load_config('configs/mnits_vae.py')


def test_the_drive_is_refused_outside_colab():
  with pytest.raises(ValueError, match='use_drive=True'):
    notebook.choose_workdir('x', use_drive=True)


def test_the_drive_is_mounted_where_asked(monkeypatch):
  mounted = []
  drive = types.SimpleNamespace(mount=mounted.append)
  monkeypatch.setitem(sys.modules, 'google', types.ModuleType('google'))
  colab = types.ModuleType('google.colab')
  monkeypatch.setitem(sys.modules, 'google.colab', colab)
  monkeypatch.setitem(sys.modules, 'google.colab.drive', drive)
  found = notebook.choose_workdir('configs/mnist_vae.py:small', use_drive=True)
  assert mounted == ['/content/drive']
  assert found.as_posix() == '/content/drive/MyDrive/memjax/mnist_vae_small'


@pytest.mark.parametrize('platform', ['cpu', 'gpu', 'tpu'])
def test_the_device_is_named_and_a_cpu_gets_a_hint(platform, monkeypatch):
  device = types.SimpleNamespace(platform=platform, device_kind='Kind 7')
  monkeypatch.setattr(jax, 'devices', lambda: [device, device])
  found = notebook.describe_device()
  assert found.startswith(f'2 {platform.upper()} devices (Kind 7)')
  assert ('Change runtime type' in found) == (platform == 'cpu')


def test_a_study_runs_and_its_report_is_shown(tmp_path, monkeypatch):
  shown = []
  monkeypatch.setattr(display, 'display', shown.append)
  with pytest.raises(FileNotFoundError, match='run it first'):
    notebook.show_report(tmp_path)
  config = 'configs/digits_vae.py:small'
  report = notebook.run_study(config, tmp_path, TINY)
  assert report == json.loads((tmp_path / 'report.json').read_text())
  # After a disconnect: the same folder goes on, with nothing to train.
  trained = (tmp_path / 'metrics.jsonl').read_bytes()
  assert notebook.run_study(config, tmp_path, TINY) == report
  assert (tmp_path / 'metrics.jsonl').read_bytes() == trained
  (tmp_path / 'figures' / 'stale.png').touch()
  notebook.show_report(tmp_path, num_figures=2)
  text, *images = shown
  assert text.data.startswith(f'**{report["verdict"]["headline"]}**')
  assert [image.alt for image in images] == [
    'most memorized items',
    'least memorized items',
  ]


def test_the_buts_of_a_verdict_are_shown(tmp_path, monkeypatch):
  from IPython import display

  shown = []
  monkeypatch.setattr(display, 'display', shown.append)
  verdict = {'headline': 'Yes.', 'uncertainty': 'Surely.', 'caveats': ['Few.']}
  (tmp_path / 'report.json').write_text(json.dumps({'verdict': verdict}))
  (tmp_path / 'report.html').write_text('')
  notebook.show_report(tmp_path)
  assert shown[0].data == '**Yes.**\n\nSurely.\n\nBut: Few.'


def test_a_study_that_is_none_is_refused(tmp_path):
  with pytest.raises(ValueError, match='config.study'):
    notebook.run_study(
      'configs/digits_vae.py', tmp_path, {'study': 'memorisation'}
    )
