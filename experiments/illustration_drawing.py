"""Pictures of the score in closed form."""

import numpy as np
from matplotlib.colors import PowerNorm

from memjax.analysis import drawing
from memjax.analysis.page import format_number

_LOOKS = {'KDE': (drawing.BLUE, 'o'), 'Gaussian': (drawing.VERMILION, '^')}


def draw_line(x, grid, density: dict, found: dict) -> drawing.Figure:
  """Densities with and without the outlier, and every item's score."""
  kde = found['KDE']
  one, pair, both = kde['one'][-3], kde['one'][-2], kde['group'][-2]
  headline = (
    f'Left out alone, the outlier scores {format_number(one, "nats")}, '
  )
  headline += f'an item with a twin {format_number(pair)}; '
  headline += f'with its twin, {format_number(both)}'
  figure, panels = drawing.start(6.4, headline, rows=3)
  marks = np.full(len(x), -0.03)
  for ax, name in zip(panels[:2], density, strict=True):
    (whole, without), color = density[name], _LOOKS[name][0]
    ax.plot(grid, whole, color=color, lw=2, label=f'{name} of all items')
    style = {'ls': drawing.DASHED, 'color': drawing.INK, 'lw': 1.3}
    ax.plot(grid, without, label='without the outlier', **style)
    top = 1.1 * max(whole.max(), without.max())
    style = {'marker': '|', 'ls': '', 'color': drawing.GREY, 'ms': 9}
    ax.plot(x, marks * top, **style)
    ax.set(ylabel='density', ylim=(-0.08 * top, top))
    ax.legend(loc='upper right', fontsize=8.5, frameon=False)
  style = {'ha': 'center', 'fontsize': 8.5, 'color': drawing.INK}
  height = 0.16 * panels[0].get_ylim()[1]
  panels[0].text(x[-3], height, 'outlier', **style)
  panels[0].text(x[-2], 1.4 * height, 'near-duplicates', **style)
  ax = panels[2]
  for name, (color, marker) in _LOOKS.items():
    style = {'s': 26, 'color': color, 'marker': marker}
    label = f'{name}, the item left out'
    ax.scatter(x, found[name]['one'], label=label, **style)
    style |= {'facecolor': 'white', 's': 34, 'linewidths': 1.4}
    label = f'{name}, the pair left out'
    ax.scatter(x[-2:], found[name]['group'][-2:], label=label, **style)
  ax.set(xlabel='x', ylabel='score (nats)', xlim=grid[[0, -1]])
  ax.axhline(0, color=drawing.GREY, lw=0.6, zorder=0)
  style = {'fontsize': 8.5, 'frameon': False, 'ncols': 2}
  figure.legend(
    *ax.get_legend_handles_labels(), loc='outside lower left', **style
  )
  return figure


def draw_plane(points, found: dict) -> drawing.Figure:
  """The items in the plane, coloured by their score under each learner."""
  tops = [format_number(of['one'].max()) for of in found.values()]
  headline = f'The same items score up to {tops[0]} nats under a KDE, '
  headline += f'{tops[1]} under a Gaussian'
  figure, panels = drawing.start(5.4, headline, rows=2)
  top = max(of['one'].max() for of in found.values())
  norm = PowerNorm(0.5, vmin=0, vmax=top)
  for ax, (name, of) in zip(panels, found.items(), strict=True):
    order = np.argsort(of['one'])
    style = {'cmap': 'cividis_r', 'norm': norm, 's': 42, 'marker': 'o'}
    style |= {'edgecolor': drawing.INK, 'linewidth': 0.5}
    drawn = ax.scatter(*points[order].T, c=of['one'][order], **style)
    ax.set_title(name, loc='left', fontsize=9.5, color=drawing.INK)
    ax.set(ylabel='x₂', aspect='equal', ylim=(-3.7, 3.7), xlim=(-7, 7))
    for row, what in ((-3, 'outlier'), (-2, 'pair')):
      text = f'{what}: {format_number(of["one"][row])}'
      if what == 'pair':
        text += f'\n(both out: {format_number(of["group"][row])})'
      style = {'ha': 'center', 'va': 'bottom', 'fontsize': 8.5}
      ax.text(points[row, 0], 0.4, text, **style)
  panels[1].set_xlabel('x₁')
  bar = figure.colorbar(drawn, ax=panels, shrink=0.7, pad=0.02)
  bar.set_label('leave-one-out score (nats)', fontsize=9.5)
  return figure


def draw_twin(curve: dict) -> drawing.Figure:
  """The outlier's score while a twin comes nearer."""
  alone, exact = curve['alone'], curve['one'][0]
  headline = 'An exact copy in training takes the score from '
  headline += f'{format_number(alone)} to {format_number(exact, "nats")}'
  figure, (ax,) = drawing.start(3.6, headline)
  # The exact copy, at distance 0, stands at the left edge.
  x = np.maximum(curve['distance'], curve['distance'][1] / 1.5)
  style = {'color': drawing.VERMILION, 'ls': drawing.DASHED, 'lw': 2}
  ax.plot(x[1:], curve['group'][1:], label='item and twin left out', **style)
  style = {'color': drawing.BLUE, 'lw': 2}
  ax.plot(x[1:], curve['one'][1:], label='item left out, twin kept', **style)
  for kind, color in (('one', drawing.BLUE), ('group', drawing.VERMILION)):
    ax.plot(x[:1], curve[kind][:1], 'o', color=color, ms=6)
  style = {'color': drawing.GREY, 'lw': 1, 'ls': (0, (1, 1.5))}
  ax.axhline(np.log(2), label='log 2', **style)
  ax.set_xscale('log')
  ticks = [0.1, 0.3, 1, 3, 10]
  ax.set_xticks([x[0], *ticks], ['copy', *map(str, ticks)])
  ax.minorticks_off()
  ax.set(xlabel='distance of the twin (bandwidths)', ylabel='score (nats)')
  ax.set_ylim(0, 1.08 * max(curve['group'].max(), alone))
  return drawing.finish(figure)
