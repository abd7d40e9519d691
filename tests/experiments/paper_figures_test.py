"""Every figure script on a tiny made-up study, against obvious computations."""

import importlib
import json
import pathlib
import shutil
import sys

import numpy as np
import pytest
import scipy.stats

from memjax import distance_ratio, make_folds, memorization_score
from memjax.analysis.memorization.analysis import analyze

EXPERIMENTS = pathlib.Path(__file__).parents[2] / 'experiments'
N, FOLDS, REPEATS, EPOCHS = 60, 5, 3, 6
PNG = b'\x89PNG'


@pytest.fixture
def script(monkeypatch):
  """Imports a script as `python experiments/….py` does."""
  monkeypatch.syspath_prepend(str(EXPERIMENTS))
  before = set(sys.modules)
  yield importlib.import_module
  for name in set(sys.modules) - before:
    if (EXPERIMENTS / f'{name}.py').exists():
      del sys.modules[name]


@pytest.fixture
def run(tmp_path):
  """A folder as a study leaves it; the score of item i rises with i."""
  rng = np.random.default_rng(0)
  folder = tmp_path / 'run'
  (folder / 'arrays').mkdir(parents=True)
  images = rng.integers(0, 256, (N + 20, 6, 6, 1)).astype(np.uint8)
  is_test = np.arange(N + 20) >= N
  labels = np.zeros(N + 20, int)
  data = tmp_path / 'tiny.npz'
  np.savez(data, images=images, labels=labels, is_test=is_test)
  held_out = make_folds(N, FOLDS, num_repeats=REPEATS)
  repeat = np.repeat(np.arange(REPEATS), FOLDS)
  log_px = {}
  for epoch in (2, EPOCHS):
    noise = rng.normal(size=held_out.shape)
    out = held_out * np.linspace(0, 8, N) * (epoch == EPOCHS)
    log_px[epoch] = noise - out - rng.permutation(N)
    np.savez(
      folder / f'arrays/log_px_epoch_{epoch:04d}.npz',
      log_px=log_px[epoch],
      encoder_log_px=log_px[epoch] - 2.0 * held_out - 1.0,
    )
  options = {'estimator': 'mean_log', 'num_permutations': 19, 'seed': 0}
  found = analyze(log_px, held_out, repeat, **options)
  np.savez(folder / 'arrays/held_out.npz', held_out=held_out, repeat=repeat)
  np.savez(
    folder / 'arrays/scores.npz',
    ids=np.arange(N),
    epochs=found.epochs,
    null=found.null,
    published=found.published,
    score=found.scores.score,
    log_px_in=found.scores.log_px_in,
    log_px_out=found.scores.log_px_out,
    q_value=found.test.q_value,
  )
  (folder / 'arrays/models.json').write_text('[]')
  source = {
    'source': f'npz:{data}',
    'split': 'train',
    'directory': '',
    'pad': 0,
  }
  config = {
    'data': {**source, 'num_items': 0},
    'folds': {'use_groups': False},
    'full': {'test_split': 'test'},
    'model': {
      'name': 'bernoulli_mlp_vae', 'hidden': [4], 'latent_dim': 2,
    },
    'score': {'estimator': 'mean_log', 'num_permutations': 19},
    'seed': 0,
    'train': {'learning_rate': 1e-3},
    'transform': 'binarize',
  }  # fmt: skip
  (folder / 'config.json').write_text(json.dumps({'config': config}))
  rows = [
    {
      'repeat': r, 'fold': k, 'attempt': 0, 'epoch': e,
      'train_loss': 20 - 2 * (e - 0.5), 'held_out_loss': 20 - 2 * e + 0.1 * e,
    }
    for r in range(REPEATS) for k in range(FOLDS) for e in range(1, EPOCHS + 1)
  ]  # fmt: skip
  text = ''.join(json.dumps(row) + '\n' for row in rows)
  (folder / 'metrics.jsonl').write_text(text)
  return folder, log_px, held_out


def numbers_of(out, script):
  return json.loads((out / 'numbers.json').read_text())[script]


def test_score_figures(script, run, tmp_path, capsys):
  folder, log_px, held_out = run
  # Only some items were scored at the first epoch.
  log_px[2][:, :7] = np.nan
  np.savez(folder / 'arrays/log_px_epoch_0002.npz', log_px=log_px[2])
  script('score_figures').main(str(folder), str(tmp_path))
  found = numbers_of(tmp_path, 'score_figures')
  score = memorization_score(
    log_px[EPOCHS], held_out, estimator='mean_log'
  ).score
  order = np.argsort(score)
  assert found['score_distribution']['max'] == pytest.approx(score.max())
  assert found['items_low']['ids'] == order[:15].tolist()
  assert found['items_high']['ids'] == order[-15:].tolist()
  middle = np.abs(np.array(found['items_median']['score']) - np.median(score))
  assert middle.max() < np.sort(np.abs(score - np.median(score)))[17]
  epochs = found['losses_and_scores']
  # Training loss 20 − 2t at t = e − ½; held-out loss 20 − 1.9 t.
  gap = 0.1 * (np.arange(2, EPOCHS + 1) - 0.5)
  np.testing.assert_allclose(epochs['gap'], gap)
  assert epochs['opens'] == 2
  assert epochs['opens_as_published'] is None
  # No effect at epoch 2, a large one at the end.
  assert epochs['leaves_null']['mean'] == EPOCHS
  assert epochs['value']['mean'][1] == pytest.approx(score[7:].mean())
  assert epochs['num_items'] == N - 7
  outliers = found['outliers']
  assert sum(outliers['high']) == outliers['num_high'] == 3
  assert sum(outliers['items']) == N
  for picture in (*found, 'score_against_log_prob'):
    assert (tmp_path / f'{picture}.png').read_bytes()[:4] == PNG
  lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
  assert [line['figure'] for line in lines] == list(found)


@pytest.mark.parametrize(
  ('is_so', 'expected'),
  [
    ([1, 1, 1], 5), ([0, 1, 1], 10), ([1, 0, 1], 15), ([1, 1, 0], None),
  ],
)  # fmt: skip
def test_what_does_not_last_has_not_begun(script, is_so, expected):
  first = script('epoch_drawing').first_lasting([5, 10, 15], np.bool_(is_so))
  assert first == expected


def test_losses_are_compared_over_the_same_time(script):
  """Equal losses have no gap, however curved, up to third powers."""
  loss = lambda t: 100 - 9 * t + 0.8 * t**2 - 0.03 * t**3
  whole = lambda t: 100 * t - 4.5 * t**2 + 0.8 * t**3 / 3 - 0.03 * t**4 / 4
  epochs = np.arange(1, 9)
  train = (whole(epochs) - whole(epochs - 1))[None]
  found = script('epoch_drawing').compare_losses(
    epochs, np.zeros(1, int), train, loss(epochs)[None]
  )
  np.testing.assert_allclose(found['gap'][:, 1:-1], 0, atol=1e-9)


def test_ratio_figures(script, run, tmp_path, monkeypatch):
  folder, *_ = run
  samples = np.random.default_rng(1).uniform(size=(20, 6, 6, 1))
  reader = script('study_folder')
  monkeypatch.setattr(reader, 'draw_samples', lambda *_: samples)
  figures = script('ratio_figures')
  figures.main(str(folder), str(tmp_path))
  study = reader.read_run(str(folder))
  images = reader.load_items(study).images / 255
  test = reader.load_items(study, 'test').images / 255
  small = [x[:, ::2, ::2] + x[:, 1::2, ::2] + x[:, ::2, 1::2] + x[:, 1::2, 1::2]
           for x in (images, test, samples)]  # fmt: skip
  rho = distance_ratio(*small)
  found = numbers_of(tmp_path, 'ratio_figures')
  correct = found['ratio_by_score']
  rank = scipy.stats.spearmanr(study.scores['score'], rho).statistic
  assert correct['rank_correlation']['estimate'] == pytest.approx(rank)
  assert correct['rank_correlation']['low'] < rank
  assert correct['median'] == pytest.approx(np.median(rho))
  assert correct['num_test'] == correct['num_samples'] == 20
  published = distance_ratio(*small, as_published=True)
  median = found['ratio_as_published']['median']
  assert median == pytest.approx(np.median(published))


def test_samples_come_from_the_model_of_all_items(script, run, monkeypatch):
  folder, *_ = run
  reader = script('study_folder')
  study = reader.read_run(str(folder))
  with pytest.raises(SystemExit, match='full'):
    reader.draw_samples(study, (6, 6, 1), 5)
  (folder / 'full/checkpoints/attempt_0_group_000').mkdir(parents=True)
  (folder / 'full/arrays').mkdir()
  (folder / 'full/arrays/models.json').write_text('[]')

  def random_variables(model, adam, root, group, width):
    assert (root, group, width) == (folder / 'full', 'attempt_0_group_000', 1)
    import jax

    return jax.vmap(model.init)(jax.random.split(jax.random.key(0), 1))

  monkeypatch.setattr(reader, 'load_variables', random_variables)
  samples = reader.draw_samples(study, (6, 6, 1), 5)
  assert samples.shape == (5, 6, 6, 1)
  assert samples.min() >= 0
  assert samples.max() <= 1
  assert len(np.unique(samples.reshape(5, -1), axis=0)) == 5


def test_illustration(script, tmp_path):
  script('illustration').main(str(tmp_path))
  found = numbers_of(tmp_path, 'illustration')
  of_kde = found['1d']['KDE']
  # Alone in its place, an item is 1 of n kernels; then 1 or 2 of n − 1.
  assert of_kde['one_of_the_pair'] == pytest.approx(
    np.log(2 * 62 / 63), abs=0.01
  )
  assert of_kde['outlier'] > 10
  both = of_kde['one_of_the_pair_when_both_are_left_out']
  assert both == pytest.approx(of_kde['outlier'] + np.log(2), abs=0.1)
  assert found['1d']['Gaussian']['outlier'] < 2
  twin = found['twin']
  exact = twin['score_with_exact_twin']
  # 61 items and the copy: 2 of 62 kernels with it, 1 of 61 without.
  assert exact == pytest.approx(np.log(2 * 61 / 62), abs=1e-3)
  assert twin['score_without_twin'] > 10 * exact
  for name in ('1d', '2d', 'twin'):
    assert (tmp_path / f'illustration_{name}.png').read_bytes()[:4] == PNG


def test_estimator_figures(script, run, tmp_path, capsys):
  folder, log_px, held_out = run
  script('estimator_figures').main(str(folder), str(tmp_path))
  found = numbers_of(tmp_path, 'estimator_figures')
  # The encoder's log p is 2 nats lower where an item is held out.
  part = found['estimator']
  for what in ('mean', 'quantile_0.95', 'max'):
    for value in part[what].values():
      assert value == pytest.approx(2.0)
  means = [found[k]['mean']['estimate'] for k in ('published', 'accurate')]
  assert means[0] - means[1] == pytest.approx(2.0)
  assert part['p_of_mean'] == pytest.approx(1 / 20)
  score = memorization_score(log_px[EPOCHS], held_out, estimator='mean_log')
  accurate = found['accurate']['max']
  top = np.argmax(score.score)
  assert accurate['estimate'] == pytest.approx(score.score[top])
  half = scipy.stats.t.ppf(0.975, REPEATS - 1) * score.std_err[top]
  assert accurate['high'] - accurate['estimate'] == pytest.approx(half)
  assert '| Accurate estimator | ' in capsys.readouterr().out


def test_one_estimator_is_not_enough(script, run, tmp_path):
  folder, log_px, _ = run
  path = folder / f'arrays/log_px_epoch_{EPOCHS:04d}.npz'
  np.savez(path, log_px=log_px[EPOCHS])
  with pytest.raises(SystemExit, match='encoder_log_px') as error:
    script('estimator_figures').main(str(folder), str(tmp_path))
  assert '\n' not in str(error.value)


def test_models_and_items_that_are_out_stay_out(script, run):
  folder, *_ = run
  scores = dict(np.load(folder / 'arrays/scores.npz'))
  scores['score'][3] = np.nan
  scores['null'] = np.delete(scores['null'], 3, axis=1)
  np.savez(folder / 'arrays/scores.npz', **scores)
  excluded = [{'model': 1, 'attempt': 2, 'epoch': 1, 'reason': '',
               'is_excluded': True}]  # fmt: skip
  (folder / 'arrays/models.json').write_text(json.dumps(excluded))
  reader = script('study_folder')
  study = reader.read_run(str(folder))
  shape = (REPEATS * FOLDS - 1, N - 1)
  assert study.held_out.shape == shape
  assert reader.read_log_px(study, EPOCHS).shape == shape
  assert study.scores['q_value'].shape == (N - 1,)
  assert study.scores['null'].shape[1] == N - 1
  assert len(reader.load_items(study).ids) == N - 1


def test_a_folder_that_is_no_study_is_named(script, tmp_path):
  with pytest.raises(SystemExit, match='config.json is missing'):
    script('score_figures').main(str(tmp_path), str(tmp_path))


def repeated(folder, name, change):
  """The same study with other scores and, where asked, fewer items."""
  other = folder.parent / name
  shutil.copytree(folder, other)
  path = other / 'arrays/scores.npz'
  with np.load(path) as saved:
    arrays = dict(saved)
  np.savez(path, **change(arrays))
  return other


def test_pruning_drops_the_highest_and_compares_the_rest(
  script, run, tmp_path, capsys
):
  folder, _, _ = run
  pruning, out = script('pruning'), tmp_path / 'out'
  pruning.prepare(str(folder), 0.1, str(out))
  printed = capsys.readouterr().out
  assert f'--config.data.source=npz:{out}/pruned.npz' in printed
  with np.load(folder / 'arrays/scores.npz') as saved:
    score = saved['score']
  highest = set(np.argsort(score)[-6:].tolist())
  with np.load(out / 'pruned.npz') as saved:
    is_test = saved['is_test']
    assert is_test.sum() == 20
    left = set(saved['ids'][~is_test].tolist())
    images = saved['images'][~is_test]
  assert left == set(range(N)) - highest
  with np.load(tmp_path / 'tiny.npz') as saved:
    np.testing.assert_array_equal(images, saved['images'][sorted(left)])
  with np.load(out / 'control.npz') as saved:
    random = set(range(N)) - set(saved['ids'][~saved['is_test']].tolist())
  assert len(random) == 6
  assert random != highest
  # Scores one higher, held-out log-probabilities half a nat lower.
  change = lambda arrays: {
    **arrays,
    'score': arrays['score'] + 1.0,
    'log_px_out': arrays['log_px_out'] - 0.5,
  }
  other = str(repeated(folder, 'other', change))
  pruning.main(str(folder), other, str(folder), str(out))
  found = numbers_of(out, 'pruning')
  assert found['pruned']['score_change']['estimate'] == pytest.approx(1.0)
  drop = found['pruned']['held_out_log_px_change']
  assert drop['low'] == pytest.approx(-0.5)
  assert found['control']['score_change']['high'] == 0.0
  assert found['control']['rank_correlation'] == pytest.approx(1.0)
  assert (out / 'pruning_pruned.png').read_bytes().startswith(PNG)


@pytest.mark.parametrize('share', [0.0, 0.5, -1.0])
def test_pruning_refuses_a_share_that_is_none(script, share):
  with pytest.raises(SystemExit, match=r'expected a number in \(0, 0.5\)'):
    script('pruning').keep_but(np.arange(9.0), share, 0)


def test_groups_of_near_duplicates_are_compared_apart(
  script, run, tmp_path, capsys
):
  folder, _, _ = run
  with np.load(tmp_path / 'tiny.npz') as saved:
    arrays = dict(saved)
  arrays['images'][7] = arrays['images'][3]  # twins
  np.savez(tmp_path / 'tiny.npz', **arrays)
  module, out = script('duplicate_groups'), tmp_path / 'out'
  module.prepare(str(folder), str(out))
  assert '--config.folds.use_groups=True' in capsys.readouterr().out
  found = numbers_of(out, 'near_duplicates')['groups']
  assert (found['num_groups'], found['num_items_in_groups']) == (1, 2)
  # Planted ones are found, beside those that were there.
  module.prepare(str(folder), str(tmp_path / 'planted'), 5)
  assert '--config.folds.use_groups=False' in capsys.readouterr().out
  found = numbers_of(tmp_path / 'planted', 'near_duplicates')['groups']
  assert found['num_items_in_groups'] in (10, 11, 12)
  with np.load(tmp_path / 'planted/grouped.npz') as saved:
    assert (~saved['is_test']).sum() == N + 5
    assert len(np.unique(saved['ids'])) == N + 5 + 20
  with pytest.raises(SystemExit, match='--plant=61: expected 1 to 60'):
    module.prepare(str(folder), str(out), 61)
  grouped = repeated(
    folder,
    'grouped',
    lambda arrays: {
      **arrays,
      'score': arrays['score'] + 3.0 * np.isin(arrays['ids'], (3, 7)),
    },
  )
  with pytest.raises(SystemExit, match='use_groups=True'):
    module.main(str(folder), str(grouped), str(out))
  config = json.loads((grouped / 'config.json').read_text())
  config['config']['folds']['use_groups'] = True
  config['config']['data']['source'] = f'npz:{out}/grouped.npz'
  (grouped / 'config.json').write_text(json.dumps(config))
  module.main(str(folder), str(grouped), str(out))
  found = numbers_of(out, 'duplicate_groups')
  change = found['with_a_near_duplicate']['score_change']
  assert change['estimate'] == pytest.approx(3.0)
  assert found['without']['score_change']['high'] == 0.0


@pytest.mark.parametrize('shared', [0.0, 1.0])
def test_intervals_over_folds_cover(script, shared):
  """One repeat of ten; models differ from one another by `shared` nats."""
  half_width = script('claims').half_width
  rng = np.random.default_rng(0)
  covered, halves, medians = 0, [], []
  for seed in range(200):
    held_out = make_folds(300, 10, seed=seed)
    log_px = rng.normal(size=held_out.shape)
    log_px += shared * rng.normal(size=(10, 1))
    score = memorization_score(log_px, held_out, estimator='mean_log').score
    half = half_width(
      lambda rows, score=score: np.median(score[rows]), held_out
    )
    covered += abs(np.median(score)) <= half
    halves.append(half)
    medians.append(np.median(score))
  assert covered >= 184  # 190 expected; more where models differ
  if not shared:
    assert np.mean(halves) < 3 * np.std(medians)


def test_claims_split_the_published_median(script, run, tmp_path, capsys):
  folder, log_px, held_out = run
  script('score_figures').main(str(folder), str(tmp_path))
  module = script('claims')
  module.main(str(folder), str(tmp_path))
  printed = capsys.readouterr().out
  found = numbers_of(tmp_path, 'claims')
  encoder = log_px[EPOCHS] - 2.0 * held_out - 1.0
  for name, values in (('encoder', encoder), ('accurate', log_px[EPOCHS])):
    for estimator in ('log_mean_exp', 'mean_log'):
      score = memorization_score(values, held_out, estimator=estimator).score
      value = found[name][estimator]['value']
      assert value['median'] == pytest.approx(np.median(score))
      assert value['max'] == pytest.approx(score.max())
      row = found[name][estimator]
      half = row['high']['median'] - row['value']['median']
      assert f'{np.median(score):.2f} ± {half:.2f}; ' in printed
      assert row['high']['max'] is None
  # The encoder's log p is 2 nats lower wherever an item was held out.
  means = [
    found[k]['mean_log']['value']['mean'] for k in ('encoder', 'accurate')
  ]
  assert means[0] - means[1] == pytest.approx(2.0)
  split = found['split']
  whole, *parts = (part['estimate'] for part in split.values())
  assert sum(parts) == pytest.approx(whole)
  assert split['estimator']['low'] < 2.0 < split['estimator']['high']
  assert split['estimator']['estimate'] == pytest.approx(2.0, abs=0.5)
  assert 'proportions by bin of log p: from ' in printed
  assert 'run ratio_figures.py first' in printed
