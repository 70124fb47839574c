"""Pictures of noise, by the numbers that are drawn: lines, strokes, widths of bars."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from matplotlib.axes import Axes
from matplotlib.colors import same_color
from matplotlib.figure import Figure
from scipy import stats
from scipy.integrate import cumulative_trapezoid

from jaxnoise.errors import ArgumentError
from jaxnoise.figures.log_snr import (
    LogSnrMoment,
    LogSnrPlan,
    logsnr_figure,
    save_logsnr_plot,
)
from jaxnoise.figures.noise import NoisePlan, band_shares, noise_figure, save_noise_plot
from jaxnoise.figures.noise_plans import log_snr_grid, log_snr_plan, noise_plan
from jaxnoise.figures.style import BAND_COLORS, MAIN, MOMENT_COLORS
from jaxnoise.noise import (
    CLTS,
    Cauchy,
    Cosine,
    Difficulty,
    HighToLow,
    KarrasGrid,
    Laplace,
    NoPacing,
    Normal,
    ShrinkingGap,
    Uniform,
    UniformPairs,
    constant,
    window,
)
from jaxnoise.objectives import (
    ConsistencyObjective,
    DenoisingObjective,
    ECTObjective,
    LearnedUncertainty,
    MeanFlowObjective,
    Prediction,
    density_weight,
    inverse_gap,
    squared_l2,
    uniform_weight,
)

# Densities are drawn beside the weights of eps, bounded or not.
pytestmark = pytest.mark.filterwarnings("ignore::jaxnoise.errors.WeightWarning")


def bar_widths(axes: Axes, moment: int) -> list[float]:
    """The parts of one bar, from the left, in the order of the bands."""
    bars = [container[moment] for container in axes.containers]
    for bar, color in zip(bars, BAND_COLORS, strict=True):
        assert same_color(bar.get_facecolor(), color)
    for bar, following in pairwise(bars):
        assert following.get_x() == pytest.approx(bar.get_x() + bar.get_width())
    return [bar.get_width() for bar in bars]


def row_names(axes: Axes) -> list[str]:
    return [text.get_text() for text in axes.get_yticklabels()]


def headings(figure: Figure, columns: slice) -> list[str]:
    return [axes.texts[0].get_text() for axes in figure.axes[columns]]


# Over a grid of levels


def plan(title: str, counts: list[int], last_step: int = 100) -> NoisePlan:
    steps = np.linspace(0, last_step, len(counts)).astype(int)
    moments = []
    for step, count in zip(steps, counts, strict=True):
        levels = np.geomspace(0.002, 80, count)
        moments.append((int(step), levels, np.full(count - 1, 1 / (count - 1))))
    return NoisePlan(title, steps, np.array(counts), moments)


OURS, THEIRS = [5, 9, 17, 9, 5], [11, 12, 33]


@pytest.fixture(scope="module")
def noise() -> Figure:
    return noise_figure(plan("ours", OURS), plan("theirs", THEIRS))


def test_noise_plot_has_four_lines_of_two_columns(noise: Figure) -> None:
    assert len(noise.axes) == 8
    assert headings(noise, slice(0, 2)) == ["ours", "theirs"]
    for left, right in zip(noise.axes[::2], noise.axes[1::2], strict=True):
        assert left.get_title("left") == right.get_title("left")
        assert left.get_xlim() == right.get_xlim()
        assert left.get_ylim() == right.get_ylim()


def test_columns_name_their_own_moments(noise: Figure) -> None:
    ours = ["k = 0\nN = 5", "k = 25\nN = 9", "k = 50\nN = 17", "k = 75\nN = 9", "k = 100\nN = 5"]
    theirs = ["k = 0\nN = 11", "k = 50\nN = 12", "k = 100\nN = 33"]
    for column, expected in [(0, ours), (1, theirs)]:
        assert row_names(noise.axes[2 + column]) == expected
        assert row_names(noise.axes[6 + column]) == expected


def test_labels_join_steps(tmp_path: Path) -> None:
    labelled = replace(plan("ours", [5, 9]), labels=("stage 1/2", "stage 2/2"))
    axes = noise_figure(labelled, plan("theirs", [5])).axes
    assert row_names(axes[2]) == ["k = 0\nN = 5, stage 1/2", "k = 100\nN = 9, stage 2/2"]
    assert [line.get_label() for line in axes[4].lines] == ["stage 1/2", "stage 2/2"]
    with pytest.raises(ArgumentError, match="labels=1"):
        replace(labelled, labels=("stage 1/2",))


def test_counts_are_drawn_with_their_moments(noise: Figure) -> None:
    for axes, counts in zip(noise.axes[:2], (OURS, THEIRS), strict=True):
        curve, *dots = axes.lines
        np.testing.assert_array_equal(curve.get_ydata(), counts)
        places = np.linspace(0, 100, len(counts))
        for dot, at, count, color in zip(dots, places, counts, MOMENT_COLORS, strict=False):
            np.testing.assert_array_equal(dot.get_xydata(), [[at, count]])
            assert same_color(dot.get_color(), color)


def test_every_level_is_a_stroke(noise: Figure) -> None:
    strokes = noise.axes[2].collections
    assert len(strokes) == len(OURS)
    for i, (lines, count, color) in enumerate(zip(strokes, OURS, MOMENT_COLORS, strict=True)):
        segments = np.array(lines.get_segments())
        np.testing.assert_allclose(segments[:, 0, 0], np.geomspace(0.002, 80, count))
        assert (segments[:, 0, 1] < i).all()
        assert (segments[:, 1, 1] > i).all()
        assert same_color(lines.get_color()[0], color)


def test_levels_without_samples_are_not_drawn() -> None:
    levels = np.array([0.1, 1.0, 10.0, 80.0])
    windowed = NoisePlan("", np.array([0]), np.array([4]), [(0, levels, np.array([0, 0.25, 0.75]))])
    law = noise_figure(windowed, windowed).axes[4]
    np.testing.assert_array_equal(law.lines[0].get_ydata(), [np.nan, 0.25, 0.75])
    assert law.get_ylim()[0] > 0.2


def test_bars_are_as_long_as_the_shares(noise: Figure) -> None:
    shares = band_shares(np.geomspace(0.002, 80, 33), np.full(32, 1 / 32))
    assert bar_widths(noise.axes[7], 2) == pytest.approx(list(shares))
    assert sum(shares) == pytest.approx(1)


def test_band_shares_follow_the_student() -> None:
    # Levels of students: 0.05 | 0.1, 0.5 | 1, 5 | 10, 80. An edge belongs to the band above it.
    levels = np.array([0.002, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 80.0])
    probs = np.array([0.3, 0.2, 0.1, 0.15, 0.05, 0.12, 0.08])
    np.testing.assert_allclose(band_shares(levels, probs), [0.3, 0.3, 0.2, 0.2], atol=1e-12)


@pytest.mark.takes_a_second
def test_plans_of_very_different_sizes(tmp_path: Path) -> None:
    save_noise_plot(plan("a", [2], 1), plan("b", [11, 1281], 400_000), tmp_path / "noise.png")
    assert tiny.read_png(tmp_path / "noise.png").shape[:2] == (1560, 1440)


def test_noise_plan_refuses_what_does_not_fit() -> None:
    good = plan("x", [5, 9])
    with pytest.raises(ArgumentError, match="num_levels=1"):
        replace(good, num_levels=good.num_levels[:1])
    with pytest.raises(ArgumentError, match="moments=0"):
        replace(good, moments=[])
    step, levels, probs = good.moments[0]
    with pytest.raises(ArgumentError, match=r"5 levels, 3 probabilities"):
        replace(good, moments=[(step, levels, probs[1:])])
    with pytest.raises(ArgumentError, match=r"sum 0\.5"):
        replace(good, moments=[(step, levels, probs / 2)])


# Over log SNR

LAM = np.linspace(-10, 10, 401)


def box(low: float, high: float) -> np.ndarray:
    inside = ((low <= LAM) & (high >= LAM)).astype(float)
    return inside / np.trapezoid(inside, LAM)


def moment(name: str, low: float, high: float, weighted: bool = True) -> LogSnrMoment:
    density = box(low, high)
    emphasis = 7 * density * np.exp(-LAM / 4) if weighted else None
    return LogSnrMoment(name, density, np.array([0.1, 0.2, 0.3, 0.4]), emphasis)


def logsnr_plan(title: str, moments: list[LogSnrMoment]) -> LogSnrPlan:
    t = np.linspace(0.1, 0.9, 9)
    return LogSnrPlan(title, LAM, moments, (t, 4 - 8 * t))


@pytest.fixture(scope="module")
def over_lam() -> Figure:
    ours = logsnr_plan("ours", [moment("k = 0", -5, -1), moment("k = 9", -5, 3)])
    return logsnr_figure(ours, logsnr_plan("theirs", [moment(f"k = {k}", -4, 4) for k in range(5)]))


def test_logsnr_plot_has_four_lines_of_two_columns(over_lam: Figure) -> None:
    axes = over_lam.axes
    assert len(axes) == 8
    assert headings(over_lam, slice(0, 2)) == ["ours", "theirs"]
    for left, right in zip(axes[::2], axes[1::2], strict=True):
        assert left.get_title("left") == right.get_title("left")
        assert left.get_xlim() == right.get_xlim()
        assert left.get_ylim() == right.get_ylim()
    for panel in axes[:4]:
        assert panel.get_xlim() == (-10, 10)
        assert panel.get_ylim()[0] == 0


def test_densities_are_drawn_in_the_colors_of_their_moments(over_lam: Figure) -> None:
    lines = over_lam.axes[0].lines
    assert [line.get_label() for line in lines] == ["k = 0", "k = 9"]
    for line, density, color in zip(lines, [box(-5, -1), box(-5, 3)], MOMENT_COLORS, strict=False):
        np.testing.assert_array_equal(line.get_xdata(), LAM)
        np.testing.assert_array_equal(line.get_ydata(), density)
        assert same_color(line.get_color(), color)
    # The earlier line is wider, so that it shows where the two are the same.
    assert lines[0].get_linewidth() > lines[1].get_linewidth()


def test_equal_moments_are_one_line(over_lam: Figure) -> None:
    (line,) = over_lam.axes[1].lines
    assert line.get_label() == "all of training"
    assert same_color(line.get_color(), MAIN)
    assert row_names(over_lam.axes[7]) == ["all of training"]
    assert bar_widths(over_lam.axes[7], 0) == pytest.approx([0.1, 0.2, 0.3, 0.4])


def test_emphasis_has_area_one(over_lam: Figure) -> None:
    for line in (*over_lam.axes[2].lines, *over_lam.axes[3].lines):
        assert np.trapezoid(line.get_ydata(), LAM) == pytest.approx(1)
    drawn = np.asarray(over_lam.axes[2].lines[1].get_ydata())
    inside = drawn > 0
    slope = np.diff(np.log(drawn[inside])) / np.diff(LAM[inside])
    np.testing.assert_allclose(slope, -0.25, atol=1e-9)


def test_the_top_axis_gives_sigma(over_lam: Figure) -> None:
    (top,) = over_lam.axes[0].child_axes
    ticks = dict(
        zip([label.get_text() for label in top.get_xticklabels()], top.get_xticks(), strict=True)
    )
    assert set(ticks) == {"100", "10", "1", "0.1", "0.01"}
    for label, lam in ticks.items():
        assert np.exp(-lam / 2) == pytest.approx(float(label))


def test_the_schedule_is_drawn_over_t(over_lam: Figure) -> None:
    (line,) = over_lam.axes[4].lines
    t = np.linspace(0.1, 0.9, 9)
    np.testing.assert_allclose(line.get_xydata(), np.stack([t, 4 - 8 * t], axis=1))
    assert over_lam.axes[4].get_ylim() == (-10, 10)


@pytest.mark.takes_a_second
def test_without_weights_there_is_no_emphasis() -> None:
    bare = logsnr_plan("bare", [moment("k = 0", -4, 4, weighted=False)])
    assert len(logsnr_figure(bare, bare).axes) == 6
    beside = logsnr_figure(bare, logsnr_plan("weighted", [moment("k = 0", -4, 4)])).axes
    assert len(beside) == 8
    assert not beside[2].lines
    assert beside[2].texts[0].get_text() == "the weight is learned in training"
    assert beside[2].get_ylim() == beside[3].get_ylim()


def test_logsnr_plan_refuses_what_does_not_fit() -> None:
    right = moment("k = 0", -4, 4)
    good = logsnr_plan("x", [right])
    with pytest.raises(ArgumentError, match="lam='401 numbers'"):
        replace(good, lam=LAM[::-1])
    with pytest.raises(ArgumentError, match="moments=6"):
        replace(good, moments=[right] * 6)
    with pytest.raises(ArgumentError, match="quantiles='9 and 8 numbers'"):
        replace(good, quantiles=(good.quantiles[0], good.quantiles[1][1:]))
    for change, message in [
        ({"density": right.density[1:]}, r"density of shape \[400\], integral nan"),
        ({"density": -right.density}, r"density of shape \[401\], integral nan"),
        ({"density": 2 * right.density}, r"density of shape \[401\], integral 2"),
        ({"emphasis": 0 * right.density}, r"emphasis of shape \[401\], integral 0"),
        ({"shares": right.shares[:3]}, r"3 shares of sum 0\.6"),
        ({"shares": right.shares / 2}, r"4 shares of sum 0\.5"),
    ]:
        with pytest.raises(ArgumentError, match=f"k = 0: {message}"):
            replace(good, moments=[replace(right, **change)])


# Plans of objectives

STEPS = 101
KEY = jax.random.key(0)


def paced_pairs(pacing: HighToLow | Difficulty) -> ConsistencyObjective:
    curriculum = constant(s0=11)
    grid = KarrasGrid(curriculum.max_levels)
    law = UniformPairs()
    return ConsistencyObjective(grid, law, curriculum, squared_l2, inverse_gap, pacing=pacing)


def test_a_plan_of_pairs_is_paced() -> None:
    shown = noise_plan("", paced_pairs(HighToLow(total_steps=100, width=0.2)), KEY, STEPS)
    assert [step for step, _, _ in shown.moments] == [0, 25, 50, 75, 100]
    # Of ten equally likely pairs, the window's (0.8, 1), (0.4, 1) and (0, 1) are left.
    np.testing.assert_allclose(shown.moments[0][2], [0] * 8 + [0.5] * 2, atol=1e-5)
    np.testing.assert_allclose(shown.moments[2][2], [0] * 4 + [1 / 6] * 6, atol=1e-5)
    np.testing.assert_allclose(shown.moments[4][2], [0.1] * 10, atol=1e-5)
    assert not shown.labels


def test_a_plan_of_pairs_names_stages() -> None:
    shown = noise_plan("", paced_pairs(Difficulty(clusters=5)), KEY, STEPS)
    assert list(shown.labels) == [f"stage {m}/5" for m in range(1, 6)]
    for m, (_, _, probs) in enumerate(shown.moments, start=1):
        expected = np.where(np.arange(10) < 10 - 2 * m, 0, 1 / (2 * m))
        np.testing.assert_allclose(probs, expected, atol=1e-5)


def denoising(law, **settings) -> DenoisingObjective:
    settings = {"weight": uniform_weight("v"), "prediction": Prediction("eps")} | settings
    return DenoisingObjective(law, **settings)


def shown_plan(objective: DenoisingObjective) -> LogSnrPlan:
    return log_snr_plan("ours", objective, log_snr_grid([objective], STEPS), STEPS)


@pytest.mark.takes_a_second
def test_a_plan_over_log_snr_is_the_law_and_its_schedule() -> None:
    shown = shown_plan(denoising(Laplace(0.0, 2.0)))
    assert shown.title == "ours: Laplace(mu=0.0, b=2.0)"
    np.testing.assert_allclose(
        [shown.lam[0], shown.lam[-1]], [2 * np.log(2e-4), -2 * np.log(2e-4)], rtol=1e-3
    )
    (only,) = shown.shown
    np.testing.assert_allclose(only.density, np.exp(-np.abs(shown.lam) / 2) / 4, rtol=1e-5)
    tail = 0.5 * np.exp(-np.log(10.0))
    np.testing.assert_allclose(only.shares, [tail, 0.5 - tail, 0.5 - tail, tail], atol=1e-6)
    # Uniform on v, whatever is predicted.
    np.testing.assert_allclose(only.emphasis, only.density / only.density.max(), rtol=1e-5)
    t, lam = shown.quantiles
    np.testing.assert_allclose(lam, np.asarray(Laplace(0.0, 2.0).inverse_survival(t)), atol=1e-6)


def test_a_plan_over_log_snr_is_paced() -> None:
    shown = shown_plan(denoising(Cosine(), pacing=HighToLow(total_steps=100, width=0.5)))
    first, last = shown.moments[0], shown.moments[-1]
    assert (first.name, last.name) == ("k = 0", "k = 100")
    cosine = np.exp(np.asarray(Cosine().log_prob(jnp.asarray(shown.lam))))
    noisy = shown.lam < 0
    np.testing.assert_allclose(first.density[noisy], 2 * cosine[noisy], rtol=1e-5)
    assert not first.density[shown.lam > 1e-3].any()
    np.testing.assert_allclose(last.density, cosine, rtol=1e-5)
    assert first.shares[:2] == pytest.approx([0, 0], abs=1e-6)
    assert first.shares[3] == pytest.approx(2 * last.shares[3], rel=1e-4)


@pytest.mark.takes_a_second
@pytest.mark.parametrize(
    "law",
    [
        window(Laplace(0.0, 0.5), 0.45, 0.5),
        window(Laplace(0.0, 0.5), 0.5, 0.52),
        window(Laplace(0.0, 0.5), 0.9, 0.92),
        window(Cosine(), 0.3, 0.31),
        Uniform(-0.05, 0.05),
    ],
)
def test_a_density_that_ends_has_no_ramp(law) -> None:
    """Also beside a wide baseline, whose axis has few points where a narrow law lies."""
    baseline = denoising(Cosine())
    for pacing in (NoPacing(), HighToLow(total_steps=100, width=0.5)):
        ours = denoising(law, pacing=pacing)
        shown = log_snr_plan("ours", ours, log_snr_grid([ours, baseline], STEPS), STEPS)
        for moment in shown.moments:
            assert np.trapezoid(moment.density, shown.lam) == pytest.approx(1, abs=0.01)


def test_a_plan_over_log_snr_names_each_stage_once() -> None:
    shown = shown_plan(denoising(Cosine(), pacing=Difficulty(clusters=2)))
    assert [m.name for m in shown.moments] == ["stage 1/2", "stage 2/2"]
    assert shown.moments[0].shares[2:].sum() == pytest.approx(1)
    assert shown.moments[1].shares[2:].sum() == pytest.approx(0.5)


def test_compensation_leaves_the_weight() -> None:
    wide = Laplace(0.0, 2.0)
    weight = density_weight(Cosine(), space="v")
    objective = denoising(wide, weight=weight, compensation="importance")
    shown = shown_plan(objective)
    cosine = np.exp(np.asarray(Cosine().log_prob(jnp.asarray(shown.lam))))
    emphasis = shown.moments[0].emphasis
    assert emphasis is not None
    np.testing.assert_allclose(emphasis, cosine / cosine.max(), rtol=1e-5)
    clipped = shown_plan(replace(objective, max_ratio=0.5)).moments[0]
    expected = np.minimum(cosine, 0.5 * clipped.density)
    np.testing.assert_allclose(clipped.emphasis, expected / expected.max(), rtol=1e-5)


def test_a_learned_weight_is_not_drawn() -> None:
    shown = shown_plan(denoising(Cosine(), uncertainty=LearnedUncertainty()))
    assert all(m.emphasis is None for m in shown.moments)


@pytest.mark.takes_a_second
def test_an_objective_beside_a_law_without_ends(tmp_path: Path) -> None:
    ours = denoising(Cauchy(3.0, 0.5), prediction=Prediction("v"), pacing=CLTS(ramp_steps=50))
    theirs = denoising(Cosine())
    lam = log_snr_grid([ours, theirs], STEPS)
    assert (lam[0], lam[-1]) == pytest.approx((-17.496, 23), abs=0.05)
    path = tmp_path / "noise.png"
    save_logsnr_plot(
        log_snr_plan("this config", ours, lam, STEPS),
        log_snr_plan("baseline", theirs, lam, STEPS),
        path,
    )
    assert tiny.read_png(path).shape[1] == 1440


@pytest.mark.takes_a_second
def test_a_plan_of_tuning_shows_how_far_below_partners_lie() -> None:
    objective = ECTObjective(Cosine(), ShrinkingGap(total_steps=80))
    lam = np.linspace(-8, 8, 65, dtype=np.float32)
    shown = log_snr_plan("tuning", objective, lam, 80)
    assert [name for name, _ in shown.gaps] == ["k = 0", "k = 20", "k = 40", "k = 59", "k = 79"]
    widened = 1 + 8 / (1 + np.exp(np.exp(-lam.astype(np.float64) / 2)))
    for stage, (_, gap) in zip((0, 2, 4, 5, 7), shown.gaps, strict=True):
        np.testing.assert_allclose(gap, np.minimum(1, widened / 2 ** (stage + 1)), rtol=1e-4)
    axes = logsnr_figure(shown, shown).axes
    # No weight of an error, but a panel of gaps in its place.
    assert len(axes) == 8
    for line, (name, gap) in zip(axes[2].lines, shown.gaps, strict=True):
        assert line.get_label() == name
        np.testing.assert_array_equal(line.get_ydata(), gap)
    assert axes[2].get_yscale() == "log"
    for wrong in (shown.gaps[0][1][1:], 0 * shown.gaps[0][1], 2 * shown.gaps[0][1]):
        with pytest.raises(ArgumentError, match="gaps='k = 0: of shape"):
            replace(shown, gaps=[("k = 0", wrong)])


@pytest.mark.takes_a_second
def test_a_plan_of_mean_flow_shows_where_jumps_end() -> None:
    objective = MeanFlowObjective(
        Normal(1.2, 3.2), Normal(6.0, 2.0), pacing=HighToLow(total_steps=100, width=0.5)
    )
    lam = log_snr_grid([objective], STEPS)
    # Both laws are on the axis; at first only the noisier half of the one is drawn.
    tails = stats.norm.ppf([5e-5, 1 - 1e-4])
    assert (lam[0], lam[-1]) == pytest.approx((1.2 + 3.2 * tails[0], 6 + 2 * tails[1]), abs=0.02)
    shown = log_snr_plan("jumps", objective, lam, STEPS)
    key, count = jax.random.key(0), 100_000
    always = replace(objective, interval=1.0)
    for moment, step in ((shown.moments[0], 0), (shown.moments[-1], STEPS - 1)):
        assert moment.lower is not None
        pairs = always.draw(key, key, step, count, objective.pacing.init())
        below = cumulative_trapezoid(moment.lower, lam, initial=0)
        share = np.interp(-2 * np.log(np.asarray(pairs.sigma_lo)), lam, below)
        assert stats.kstest(share, "uniform").pvalue > 0.01
    axes = logsnr_figure(shown, shown).axes[0]
    dashed = [line for line in axes.lines if line.get_linestyle() == "--"]
    for line, moment in zip(dashed, shown.moments, strict=True):
        np.testing.assert_array_equal(line.get_ydata(), moment.lower)
    said = [text.get_text() for text in axes.get_legend().get_texts()]
    assert said == [*(moment.name for moment in shown.moments), "end of a jump"]
