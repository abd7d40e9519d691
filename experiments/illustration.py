"""What the score means, in closed form: Figure 1 of the first paper, and more.

  python experiments/illustration.py --out=FOLDER

The reader should see: a kernel density estimate (KDE) loses an isolated item
wholly when it is left out, a fitted Gaussian hardly; and that of two items that
lie equally far out the one with a near-duplicate has a score near log 2,
because the twin stays in training. Leaving out both shows what is memorized.
"""

import illustration_drawing as pictures
import numpy as np
import study_folder
from absl import app, flags
from closed_form import BANDWIDTH, FAR, log_probs, make_data, scores


def measure(data: np.ndarray) -> dict:
  """Scores of every item under both learners, leaving out one or its group."""
  alone = np.arange(len(data))
  paired = np.r_[alone[:-1], alone[-2]]
  return {
    name: {
      'one': scores(name, data, alone),
      'group': scores(name, data, paired),
    }
    for name in ('KDE', 'Gaussian')
  }


def say(found: dict) -> dict:
  """The numbers of a figure."""
  numbers = {}
  for name, of in found.items():
    numbers[name] = {
      'outlier': of['one'][-3],
      'one_of_the_pair': of['one'][-2],
      'one_of_the_pair_when_both_are_left_out': of['group'][-2],
      'median_of_the_others': np.median(of['one'][:-3]),
    }
  return numbers


def twin_curve(data: np.ndarray) -> dict:
  """Score of the outlier against the distance of a twin, in bandwidths."""
  distance = np.r_[0, np.geomspace(0.05, 10, 60)]
  groups = np.r_[np.arange(len(data) - 2), len(data) - 3]
  without_pair = data[:-2]
  curves = {'distance': distance, 'one': [], 'group': []}
  for apart in distance * BANDWIDTH:
    # Away from the others, so that the twin alone comes nearer.
    twin = without_pair[-1:] - np.eye(data.shape[1])[:1] * apart
    both = np.concatenate([without_pair, twin])
    for kind, label in (('one', np.arange(len(both))), ('group', groups)):
      curves[kind].append(scores('KDE', both, label)[-2])
  curves['alone'] = scores('KDE', without_pair, np.arange(len(without_pair)))[
    -1
  ]
  return {name: np.asarray(values) for name, values in curves.items()}


def main(out: str) -> None:
  """Draws in one and two dimensions, and a twin that comes nearer."""
  line, plane = make_data(1), make_data(2)
  found = {1: measure(line), 2: measure(plane)}
  grid = np.linspace(-1.45 * FAR, 1.45 * FAR, 801)
  points = np.float32(grid[:, None])
  keep = np.ones((2, len(grid), len(line)), bool)
  keep[1, :, -3] = False
  density = {
    name: [np.exp(log_probs(name, points, np.float32(line), k)) for k in keep]
    for name in found[1]
  }
  curve = twin_curve(line)
  numbers = {f'{d}d': say(of) for d, of in found.items()}
  numbers['twin'] = {
    'score_without_twin': curve['alone'],
    'score_with_exact_twin': curve['one'][0],
    'log_2': np.log(2),
    'score_with_exact_twin_when_both_are_left_out': curve['group'][0],
  }
  drawn = {
    'illustration_1d': pictures.draw_line(line[:, 0], grid, density, found[1]),
    'illustration_2d': pictures.draw_plane(plane, found[2]),
    'illustration_twin': pictures.draw_twin(curve),
  }
  study_folder.keep(out, 'illustration', drawn, numbers)


if __name__ == '__main__':
  _OUT = flags.DEFINE_string('out', None, 'For pictures.', required=True)
  app.run(lambda _: main(_OUT.value))
