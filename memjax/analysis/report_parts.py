"""What all reports share: figures into files, settings, footer, the record."""

import datetime
import json
import pathlib
from typing import Any

from memjax import files, run_folder
from memjax.analysis import page

__all__ = [
  'footer',
  'settings',
  'write_figure',
  'write_page',
  'write_record',
]


def write_record(
  workdir: pathlib.Path, content: dict[str, Any]
) -> dict[str, Any]:
  """Writes report.json with what config.json knows, and returns the latter."""
  record = json.loads((workdir / 'config.json').read_text())
  files.write_json(workdir / 'report.json', {**content, **record})
  return record


def write_page(workdir: pathlib.Path, content: page.Page) -> None:
  """Writes report.html."""
  text = page.render(content)
  files.write_atomically(
    workdir / 'report.html', lambda file: file.write(text.encode())
  )


def write_figure(workdir: pathlib.Path, section: page.Section) -> page.Section:
  """Draws a section's figure once, for its own file and for the page."""
  if section.figure is None or isinstance(section.figure, bytes):
    return section
  content = page.png(section.figure)
  name = section.title.lower().replace(' ', '_') + '.png'
  files.write_atomically(
    workdir / 'figures' / name, lambda file: file.write(content)
  )
  return section._replace(figure=content)


def settings(record: dict[str, Any]) -> page.Section:
  """The config and the versions, folded away."""
  flat = run_folder.flatten(record['config'], 'config')
  flat |= run_folder.flatten(record['ran_on'], 'ran_on')
  rows = [[key, str(value)] for key, value in flat.items()]
  return page.Section(
    'Settings',
    table=page.Table(['key', 'value'], rows, 'Config and versions', True),
  )


def footer(record: dict[str, Any], method: str) -> str:
  """Who made the page, when, and by which method."""
  return (
    f'Made by memjax {record["ran_on"]["versions"]["memjax"]} on '
    f'{datetime.date.today().isoformat()}. {method}'
  )
