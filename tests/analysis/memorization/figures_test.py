"""What is drawn: heights, lines, offsets and words, read back from figures."""

import itertools
import subprocess
import sys
from concurrent import futures

import numpy as np
import pytest
import scipy.stats

from memjax.analysis import drawing, page
from memjax.analysis.memorization import figures

NAN = np.nan


def texts(figure):
  """All words of a figure, in one string."""
  found = [
    t.get_text() for t in figure.findobj(lambda a: hasattr(a, 'get_text'))
  ]
  return ' '.join(' '.join(found).split()).replace('\xa0', ' ')


def labelled(figure, start, axis=0):
  """The artist whose legend label begins so."""
  handles, labels = figure.axes[axis].get_legend_handles_labels()
  found = [
    h for h, x in zip(handles, labels, strict=True) if x.startswith(start)
  ]
  assert len(found) == 1, labels
  return found[0]


def is_sentence(figure):
  return not figure.axes and len(figure.texts) == 1


def heights(figure, start):
  return labelled(figure, start).get_data().values


@pytest.fixture
def rng():
  return np.random.default_rng(0)


@pytest.fixture
def study(rng):
  score = rng.gamma(0.6, 1.5, 500)
  score[7] = NAN
  return {
    'score': score,
    'null': rng.normal(0, 0.5, (6, 500)),
    'q_value': np.where(score > 2, 0.01, 0.5),
  }


class TestScoreDistribution:
  def test_counts_every_item_once(self, study):
    study['score'][3:6] = 1e4
    figure = figures.score_distribution(study['score'], study['null'])
    kept = study['score'][np.isfinite(study['score'])]
    low, high = figure.axes[0].get_xlim()
    inside = (kept >= low) & (kept <= high)
    assert heights(figure, 'observed').sum() == inside.sum()
    beyond = kept.size - inside.sum()
    assert beyond >= 3
    assert f'{beyond} items beyond the axis not drawn' in texts(figure)
    assert '1 item without a finite score' in texts(figure)

  def test_null_is_comparable_with_one_permutation(self, study):
    figure = figures.score_distribution(study['score'], study['null'])
    # 499 items have a score, and the null's narrow spread is all in sight.
    assert heights(figure, 'null').sum() == pytest.approx(499)

  def test_marks_both_quantiles(self, study):
    figure = figures.score_distribution(study['score'], study['null'])
    observed = np.nanquantile(study['score'], 0.95)
    null = np.quantile(study['null'], 0.95, axis=1).mean()
    for start, value in (('their 0.95', observed), ('its 0.95', null)):
      np.testing.assert_allclose(labelled(figure, start).get_xdata(), value)
    assert f'above {page.format_number(observed)} nats' in texts(figure)
    assert f'folds, above {page.format_number(null)}' in texts(figure)

  def test_ticks_discoveries_also_beyond_the_axis(self, study):
    study['score'][3] = 1e4
    study['q_value'][3] = 0.05
    figure = figures.score_distribution(**study)
    ticks = labelled(figure, f'{(study["score"] > 2).sum()} items with q')
    high = figure.axes[0].get_xlim()[1]
    assert high < 100
    assert ticks.get_xdata().max() == high
    assert ticks.get_xdata().min() > 2

  def test_an_item_without_score_is_no_discovery(self, study):
    study['q_value'][7] = 0.0
    count = (study['score'] > 2).sum()
    labelled(figures.score_distribution(**study), f'{count} items with q')

  @pytest.mark.parametrize('value', [0.0, -3.5, 1e6])
  def test_equal_scores(self, value):
    score = np.full(40, value)
    figure = figures.score_distribution(score, np.tile(score, (3, 1)))
    assert heights(figure, 'observed').sum() == 40
    low, high = figure.axes[0].get_xlim()
    assert low < value < high

  def test_three_items_fall_in_three_bins(self):
    figure = figures.score_distribution(np.arange(3.0), np.zeros((2, 3)))
    assert sorted(heights(figure, 'observed'))[-3:] == [1, 1, 1]

  def test_heavy_tails_leave_the_bulk_in_sight(self, rng):
    score = rng.standard_cauchy(2000)
    figure = figures.score_distribution(score, np.zeros((0, 2000)))
    low, high = figure.axes[0].get_xlim()
    bulk = np.ptp(np.quantile(score, (0.05, 0.95)))
    assert high - low < 10 * bulk < np.ptp(score)
    assert page.format_number(score.max()) in texts(figure)

  def test_without_a_null_or_a_score(self, study):
    none = np.zeros((0, 500))
    figure = figures.score_distribution(study['score'], none)
    assert 'null' not in texts(figure)
    assert is_sentence(figures.score_distribution(np.full(500, NAN), none))


class TestScoreQuantilesOverEpochs:
  def draw(self, rng, num_epochs=4, shift=2.0):
    epochs = np.arange(10, 10 + num_epochs)
    score = rng.normal(shift, 1, (num_epochs, 200))
    null = rng.normal(0, 1, (num_epochs, 9, 200))
    levels = (0.5, 0.95, 0.999)
    null = np.quantile(null, levels, axis=2).transpose(1, 2, 0)
    figure = figures.score_quantiles_over_epochs(epochs, score, null)
    return figure, epochs, score, null

  def test_lines_are_the_quantiles(self, rng):
    figure, epochs, score, _ = self.draw(rng)
    for k, level in enumerate((0.5, 0.95, 0.999)):
      line = labelled(figure, 'observed', axis=k)
      np.testing.assert_array_equal(line.get_xdata(), epochs)
      expected = np.quantile(score, level, axis=1)
      np.testing.assert_allclose(line.get_ydata(), expected)

  def test_bands_are_the_null(self, rng):
    figure, _, _, null = self.draw(rng)
    for k in range(3):
      band = labelled(figure, 'null', axis=k)
      ends = np.quantile(null[:, :, k], (0.05, 0.95), axis=1)
      drawn = band.get_paths()[0].vertices[:, 1]
      for value in ends.ravel():
        assert np.isclose(drawn, value).any()
      assert drawn.min() == pytest.approx(ends.min())
      assert drawn.max() == pytest.approx(ends.max())

  @pytest.mark.parametrize(
    ('shift', 'words'),
    [
      (2.0, 'epoch 13, the 0.5, 0.95 and 0.999 quantiles lie above their'),
      (-2.0, 'epoch 13, no quantile lies above'),
    ],
  )
  def test_headline_says_what_lies_above(self, rng, shift, words):
    assert words in texts(self.draw(rng, shift=shift)[0])

  def test_one_epoch_is_a_point_and_a_piece_of_band(self, rng):
    figure, epochs, score, null = self.draw(rng, num_epochs=1)
    line = labelled(figure, 'observed')
    assert line.get_marker() == 'o'
    np.testing.assert_allclose(line.get_ydata(), np.median(score))
    drawn = labelled(figure, 'null').get_paths()[0].vertices
    assert np.ptp(drawn[:, 0]) > 0
    ends = np.quantile(null[0, :, 0], (0.05, 0.95))
    np.testing.assert_allclose((drawn[:, 1].min(), drawn[:, 1].max()), ends)
    low, high = figure.axes[0].get_xlim()
    assert low < epochs[0] < high

  def test_missing_scores_and_no_null(self):
    score = np.array([[1.0, NAN, 3.0], [NAN, NAN, NAN]])
    figure = figures.score_quantiles_over_epochs(
      np.array([1, 2]), score, np.zeros((2, 0, 1)), quantiles=(0.5,)
    )
    drawn = labelled(figure, 'observed').get_ydata()
    np.testing.assert_array_equal(drawn, [2, NAN])
    assert 'null' not in texts(figure)
    nothing = np.full((2, 3), NAN), np.zeros((2, 0, 3))
    assert is_sentence(
      figures.score_quantiles_over_epochs(np.array([1, 2]), *nothing)
    )

  def test_quantiles_must_match(self):
    with pytest.raises(ValueError, match=r'null_quantiles .*\(2, any, 1\)'):
      figures.score_quantiles_over_epochs(
        np.arange(2), np.zeros((2, 5)), np.zeros((2, 4, 3)), quantiles=(0.5,)
      )


class TestLossCurves:
  def draw(self, rng, change=lambda train, held_out: None):
    epochs = np.arange(1, 41)
    train = 50 + 900 * np.exp(-epochs / 1.5) + rng.normal(0, 1, (5, 1))
    train = train + rng.normal(0, 0.2, (5, 40))
    held_out = train + 4
    change(train, held_out)
    return figures.loss_curves(epochs, train, held_out), train, held_out

  def test_lines_are_means_and_bands_are_ranges(self, rng):
    figure, *losses = self.draw(rng)
    for name, loss in zip(('training', 'held-out'), losses, strict=True):
      line = labelled(figure, f'{name}: mean of 5 models')
      np.testing.assert_allclose(line.get_ydata(), loss.mean(axis=0))
      band = labelled(figure, f'{name}: lowest').get_paths()[0].vertices[:, 1]
      assert band.min() == pytest.approx(loss.min())
      assert band.max() == pytest.approx(loss.max())

  def test_the_first_epoch_does_not_flatten_the_rest(self, rng):
    figure, train, held_out = self.draw(rng)
    low, high = figure.axes[0].get_ylim()
    assert low < train.min()
    assert held_out[:, 5:].max() < high < 200
    assert page.format_number(held_out.max()) in texts(figure)

  def test_a_diverged_model_is_left_out_and_reported(self, rng):
    def diverge(train, held_out):
      train[2, 20:] = held_out[2, 20:] = NAN

    figure, train, _ = self.draw(rng, diverge)
    line = labelled(figure, 'training: mean')
    np.testing.assert_allclose(line.get_ydata(), np.nanmean(train, axis=0))
    assert '1 of 5 models lacks' in texts(figure)

  def test_an_exploding_model_does_not_flatten_the_rest(self, rng):
    def explode(train, held_out):
      train[2, 20:] = held_out[2, 20:] = 1e12

    low, high = self.draw(rng, explode)[0].axes[0].get_ylim()
    assert 40 < low < high < 300

  def test_epochs_without_evaluation_are_bridged(self, rng):
    def skip(train, held_out):
      held_out[:, 1::2] = NAN

    figure, _, held_out = self.draw(rng, skip)
    line = labelled(figure, 'held-out: mean')
    np.testing.assert_array_equal(line.get_xdata(), np.arange(1, 41, 2))
    np.testing.assert_allclose(line.get_ydata(), held_out[:, ::2].mean(axis=0))
    assert 'lack' not in texts(figure)

  @pytest.mark.parametrize(('gap', 'side'), [(1.5, 'above'), (-1.5, 'below')])
  def test_headline_is_the_gap(self, gap, side):
    train = np.full((2, 6), 3.0)
    figure = figures.loss_curves(np.arange(6), train, train + gap)
    assert f'ends 1.5 nats {side} the training loss' in texts(figure)

  def test_one_model_one_epoch(self):
    one = np.array([[3.0]])
    figure = figures.loss_curves(np.array([1]), one, one)
    assert labelled(figure, 'training').get_marker() == 'o'
    assert 'mean of 1 model' in texts(figure)
    assert 'lowest' not in texts(figure)

  def test_only_one_of_the_losses_or_none(self):
    epochs, loss = np.arange(4), np.ones((2, 4))
    figure = figures.loss_curves(epochs, loss, NAN * loss)
    assert 'held-out' not in texts(figure)
    assert is_sentence(figures.loss_curves(epochs, NAN * loss, NAN * loss))


class TestScoreAgainstLogProb:
  def test_offsets_are_the_items(self, rng):
    log_px, score = rng.uniform(-90, -80, 300), rng.uniform(-1, 3, 300)
    q_value = np.where(score > 2.5, 0.05, 0.051)
    figure = figures.score_against_log_prob(log_px, score, q_value=q_value)
    items = np.stack([log_px, score], axis=1)
    found = score > 2.5
    for start, chosen in (
      (f'{(~found).sum()} items with q >', ~found),
      (f'{found.sum()} items with q ≤', found),
    ):
      drawn = labelled(figure, start).get_offsets()
      np.testing.assert_allclose(drawn, items[chosen])

  def test_an_extreme_item_stands_at_the_edge(self, rng):
    log_px, score = rng.normal(-90, 3, 300), rng.normal(0, 1, 300)
    score[5] = 800.0
    figure = figures.score_against_log_prob(log_px, score)
    drawn = labelled(figure, '300 items').get_offsets()
    high = figure.axes[0].get_ylim()[1]
    assert high < 20
    assert drawn[5, 1] == high
    assert 'highest score 800' in texts(figure)

  def test_many_items_become_a_density(self, rng, monkeypatch):
    monkeypatch.setattr(figures, '_MANY_POINTS', 250)
    log_px, score = rng.uniform(-90, -80, 300), rng.uniform(-1, 3, 300)
    q_value = np.where(score > 2.5, 0.0, 1.0)
    figure = figures.score_against_log_prob(log_px, score, q_value=q_value)
    cells, found = figure.axes[0].collections
    assert cells.get_array().sum() == 300
    assert len(found.get_offsets()) == (score > 2.5).sum()
    assert 'items per cell' in texts(figure)

  def test_drops_what_is_not_finite(self):
    log_px = np.array([-1.0, NAN, -3.0, -np.inf])
    score = np.array([0.0, 1.0, NAN, 2.0])
    figure = figures.score_against_log_prob(log_px, score)
    drawn = labelled(figure, '1 item').get_offsets()
    np.testing.assert_allclose(drawn, [[-1, 0]])
    assert '3 items without' in texts(figure)
    assert is_sentence(figures.score_against_log_prob(log_px, score * NAN))

  @pytest.mark.parametrize(('sign', 'word'), [(1, 'higher'), (-1, 'lower')])
  def test_headline_is_the_correlation(self, sign, word):
    x = np.arange(20.0)
    found = texts(figures.score_against_log_prob(x, sign * x**3))
    assert f'{word} log-probability (rank correlation' in found
    assert ('−1)' if sign < 0 else ' 1)') in found


class TestItemGrid:
  @pytest.mark.parametrize('channels', [1, 3, 4])
  def test_shows_every_image_with_its_caption(self, rng, channels):
    images = rng.integers(0, 256, (7, 6, 5, channels), dtype=np.uint8)
    captions = [f'item {k}\nM {k}' for k in range(7)]
    figure = figures.item_grid(images, captions, columns=3)
    assert len(figure.axes) == 7
    for image, caption, ax in zip(images, captions, figure.axes, strict=True):
      shown = ax.images[0]
      np.testing.assert_array_equal(
        shown.get_array(), image.squeeze(-1) if channels == 1 else image
      )
      assert shown.get_interpolation() == 'nearest'
      assert ax.get_xlabel() == caption
      if channels == 1:
        assert (shown.cmap.name, *shown.get_clim()) == ('gray', 0, 255)

  def test_rows_fill_from_the_top_left_without_overlap(self, rng):
    images = rng.integers(0, 256, (7, 4, 4, 1), dtype=np.uint8)
    figure = figures.item_grid(images, ['a\nb'] * 7, columns=3, title='seven')
    boxes = [ax.get_position() for ax in figure.axes]
    assert boxes[0].x0 < boxes[1].x0 < boxes[2].x0
    assert boxes[0].y0 == boxes[2].y0 > boxes[3].y1
    assert boxes[3].x0 == boxes[0].x0
    assert min(box.y0 for box in boxes) > 0
    assert max(box.y1 for box in boxes) < 1
    width, height = figure.get_size_inches()
    assert boxes[0].width * width == pytest.approx(boxes[0].height * height)

  def test_captions_stay_below_their_image(self, rng):
    images = rng.integers(0, 256, (10, 4, 4, 1), dtype=np.uint8)
    figure = figures.item_grid(images, ['a caption of great length'] * 10)
    figure.draw_without_rendering()
    texts = [ax.xaxis.label.get_window_extent() for ax in figure.axes]
    assert figure.axes[0].get_xlabel().endswith('…')
    for left, right in itertools.pairwise(texts):
      assert left.x1 <= right.x0
    assert texts[0].y0 >= 0

  def test_captions_are_no_mathematics(self):
    image = np.zeros((1, 4, 4, 1), np.uint8)
    page.png(figures.item_grid(image, [r'$\frac{$'], title='$^$'))

  def test_none(self):
    assert is_sentence(figures.item_grid(np.zeros((0, 4, 4, 1), np.uint8), []))

  @pytest.mark.parametrize(
    ('images', 'captions', 'message'),
    [
      (np.zeros((2, 4, 4, 1)), ['a', 'b'], 'float64.*uint8'),
      (np.zeros((2, 4, 4, 2), np.uint8), ['a', 'b'], '2 channels'),
      (np.zeros((2, 4, 4, 3), np.uint8), ['a'], 'captions has 1.*2'),
    ],
  )
  def test_refuses(self, images, captions, message):
    with pytest.raises(ValueError, match=message):
      figures.item_grid(images, captions)


class TestScoreByClass:
  def test_draws_quantiles_of_each_class(self, rng):
    labels = np.repeat([0, 3, 4], 50)
    score = rng.normal(labels, 1.0)
    score[0] = NAN
    null = rng.normal(0, 1, (4, 150))
    names = ['frog', '', '', 'cat', r'$\frac{$']
    figure = figures.score_by_class(labels, score, null, class_names=names)
    spread = labelled(figure, '5–95').get_segments()
    middle = labelled(figure, 'middle').get_segments()
    medians = labelled(figure, 'median').get_offsets()
    bars = labelled(figure, 'null').patches
    for row, label in enumerate((0, 3, 4)):
      of_class = score[labels == label]
      ends = lambda *levels, x=of_class: np.nanquantile(x, levels)
      np.testing.assert_allclose(spread[row][:, 0], ends(0.05, 0.95))
      np.testing.assert_allclose(middle[row][:, 0], ends(0.25, 0.75))
      np.testing.assert_allclose(medians[row], [*ends(0.5), row])
      chance = np.quantile(null[:, labels == label], (0.05, 0.95))
      bar = bars[row].get_x(), bars[row].get_x() + bars[row].get_width()
      np.testing.assert_allclose(bar, chance)
    figure.draw_without_rendering()  # names are no mathematics
    ticks = [tick.get_text() for tick in figure.axes[0].get_yticklabels()]
    assert ticks == ['frog', 'cat', r'$\frac{$']
    assert r'Class $\frac{$ reaches highest' in texts(figure)

  def test_too_many_classes_or_none(self):
    labels, score = np.arange(31), np.ones(31)
    null = np.zeros((0, 31))
    assert is_sentence(figures.score_by_class(labels, score, null))
    assert is_sentence(figures.score_by_class(labels, score * NAN, null))
    # 30 are fine, and so is an absent null.
    score[0] = NAN
    figure = figures.score_by_class(labels, score, null)
    assert 'null' not in texts(figure)


class TestScoreIntervals:
  def draw(self, **options):
    score = np.array([1.0, NAN, 5.0, -2.0, 3.0, 0.5])
    std_err = np.array([0.1, 0.1, 0.5, 0.1, 2.0, NAN])
    return figures.score_intervals(score, std_err, 4, **options)

  def segments(self, figure, start):
    value, _, (bars,) = labelled(figure, start)
    # An interval that is not known has no segment.
    segments = [s[:, 0] for s in bars.get_segments() if len(s)]
    return value, segments

  def test_highest_items_with_student_intervals(self):
    figure = self.draw(count=3)
    reach = scipy.stats.t.ppf(0.975, 3)
    value, bars = self.segments(figure, 'interval above')
    np.testing.assert_allclose(value.get_xdata(), [5, 1])
    np.testing.assert_allclose(value.get_ydata(), [0, 2])
    np.testing.assert_allclose(bars[0], 5 + reach * np.array([-0.5, 0.5]))
    np.testing.assert_allclose(bars[1], 1 + reach * np.array([-0.1, 0.1]))
    value, bars = self.segments(figure, 'interval not above')
    np.testing.assert_allclose(value.get_xdata(), [3])
    np.testing.assert_allclose(bars[0], 3 + reach * np.array([-2, 2]))
    assert '2 of the 3 highest scores' in texts(figure)

  def test_names_items_from_the_top(self):
    for ids, names in (
      (None, ['2', '4', '0']),
      (np.arange(6) * 10, ['20', '40', '0']),
    ):
      figure = self.draw(count=3, ids=ids)
      ticks = [tick.get_text() for tick in figure.axes[0].get_yticklabels()]
      assert ticks == names
      bottom, top = figure.axes[0].get_ylim()
      assert bottom > top

  def test_an_unknown_error_is_not_above_zero(self):
    figure = self.draw()
    value, bars = self.segments(figure, 'interval not above')
    assert 0.5 in value.get_xdata()
    assert len(bars) == len(value.get_xdata()) - 1
    assert '2 of the 5 highest scores' in texts(figure)

  def test_an_extreme_item_stands_at_the_edge(self, rng):
    score = np.append(rng.uniform(1, 2, 19), 500.0)
    figure = figures.score_intervals(score, np.full(20, 0.2), 5)
    low, high = figure.axes[0].get_xlim()
    assert low < 0
    assert 2 < high < 30
    value, _ = self.segments(figure, 'interval above')
    assert value.get_xdata()[0] == high
    assert 'farthest at 500' in texts(figure)

  def test_needs_repeats_and_scores(self):
    one = np.ones(4)
    assert is_sentence(figures.score_intervals(one, NAN * one, 1))
    assert is_sentence(figures.score_intervals(NAN * one, one, 3))
    with pytest.raises(ValueError, match='num_repeats=0'):
      figures.score_intervals(one, one, 0)


def all_figures(dtype=np.float64):
  """One of each, of 60 items under 3 repeats."""
  rng = np.random.default_rng(1)
  score = rng.gamma(1, 1, 60).astype(dtype)
  null = rng.normal(0, 1, (4, 60)).astype(dtype)
  epochs = np.arange(1, 4)
  by_epoch = np.stack([score] * 3)
  null_quantiles = rng.normal(0, 1, (3, 4, 3)).astype(dtype)
  loss = rng.uniform(9, 10, (5, 3)).astype(dtype)
  images = rng.integers(0, 256, (6, 8, 8, 1), dtype=np.uint8)
  return [
    figures.score_distribution(score, null, q_value=score),
    figures.score_quantiles_over_epochs(epochs, by_epoch, null_quantiles),
    figures.loss_curves(epochs, loss, loss),
    figures.score_against_log_prob(-score, score, q_value=score),
    figures.score_by_class(np.arange(60) % 3, score, null),
    figures.score_intervals(score, score / 9, 3),
    figures.item_grid(images, list('abcdef'), title='six'),
  ]


@pytest.mark.parametrize('dtype', [np.float16, np.float32])
def test_any_float_will_do(dtype):
  for figure in all_figures(dtype):
    figure.draw_without_rendering()


def test_axes_are_labelled_and_headlines_fit():
  for figure in all_figures()[:-1]:
    figure.draw_without_rendering()
    labels = figure.axes[-1].get_xlabel() + figure.axes[0].get_ylabel()
    assert '(nats' in labels
    assert figure.get_suptitle()
    frame = figure.bbox
    for text in (figure._suptitle, *figure.legends, figure.axes[0].title):
      box = text.get_window_extent()
      assert box.x0 >= frame.x0
      assert box.x1 <= frame.x1


def test_figures_can_be_drawn_in_threads():
  def draw(_):
    loss = np.ones((2, 5))
    return page.png(figures.loss_curves(np.arange(5), loss, loss + 1))

  with futures.ThreadPoolExecutor(2) as pool:
    assert len({draw(0), *pool.map(draw, range(4))}) == 1


def test_pyplot_is_never_imported():
  code = (
    'import sys, memjax; assert "matplotlib" not in sys.modules;'
    'import memjax.analysis.page; assert "matplotlib" not in sys.modules;'
    'import memjax.analysis.drawing; assert "matplotlib" in sys.modules;'
    'assert "matplotlib.pyplot" not in sys.modules'
  )
  subprocess.run([sys.executable, '-c', code], check=True, timeout=120)


def test_headlines_break_into_even_lines():
  words = 'of ' * 25
  lines = drawing.fill(words).splitlines()
  assert len(lines) == 2
  assert abs(len(lines[0]) - len(lines[1])) <= 3


def test_a_number_and_its_per_cent_sign_stay_together():
  text = 'Median ratio 1.04 among the highest 5 % of scores, 0.987 among others'
  for width in range(13, 60):
    lines = drawing.fill(text, width).splitlines()
    assert ' '.join(lines) == text
    assert not any(line.startswith('%') for line in lines)
