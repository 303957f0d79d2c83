"""The figures: what is drawn, and that it is drawn for every shape of run."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch
from matplotlib.figure import Figure

from tom import figures, plots
from tom.config import Config
from tom.metrics import MetricsTable
from tom.settings import to_dict


def run_with(path: Path, returns: np.ndarray) -> Path:
    """A run folder whose evaluations are `returns` `[S, T]`, every 1000 steps."""
    (path / "config.json").write_text(json.dumps(to_dict(Config(seeds=max(len(returns), 1)))))
    table = MetricsTable(path / "metrics.csv", 0)
    table.append(1, range(len(returns)), {"tom/ess": [3.0] * len(returns)})
    for t, row in enumerate(returns.T):
        table.append(1000 * (t + 1), range(len(returns)), {"eval/mean_reward": row.tolist()})
    table.close()
    return path


def lines(figure: Figure) -> dict[str, Any]:
    return {str(line.get_label()): line.get_xydata() for line in figure.axes[0].lines}


def test_t_quantiles() -> None:
    for freedom in (*range(1, 40), 100, 1000):
        assert figures.t975(freedom) == pytest.approx(scipy.stats.t.ppf(0.975, freedom), rel=1e-4)


def test_confidence_margin_is_that_of_the_t_interval() -> None:
    curves = np.random.default_rng(0).normal(size=(5, 3))
    low, high = scipy.stats.t.interval(
        0.95, 4, curves.mean(axis=0), scipy.stats.sem(curves, axis=0)
    )
    np.testing.assert_allclose(figures.confidence_margin(curves), (high - low) / 2, rtol=1e-4)


def test_returns_of_several_seeds(tmp_path: Path, figure: list[Figure]) -> None:
    returns = np.array([[1.0, 5.0, 3.0], [3.0, 1.0, 9.0]])
    path = plots.plot_returns(run_with(tmp_path, returns))
    assert path == tmp_path / "plots" / "returns.png" and path.stat().st_size > 10_000
    drawn = lines(figure[0])
    np.testing.assert_array_equal(
        drawn["mean over 2 seeds"], [[1000, 2.0], [2000, 3.0], [3000, 6.0]]
    )
    np.testing.assert_array_equal(
        drawn["cumulative maximum (mean)"], [[1000, 2.0], [2000, 4.0], [3000, 7.0]]
    )
    assert len(figure[0].axes[0].lines) == 4
    (band,) = figure[0].axes[0].collections
    assert band.get_label() == "95 % confidence interval (Student's t)"
    assert band.get_paths()[0].get_extents().ymax == pytest.approx(6 + 12.7062 * 3, rel=1e-4)


def test_limits_are_those_of_the_curves_with_room_for_markers(
    tmp_path: Path, figure: list[Figure]
) -> None:
    plots.plot_returns(run_with(tmp_path, np.array([[0.0, 10.0, 60.0], [5.0, -40.0, 20.0]])))
    axes = figure[0].axes[0]
    (band,) = axes.collections
    assert band.get_paths()[0].get_extents().ymax > 200
    assert axes.get_ylim() == pytest.approx((-45, 65))
    assert axes.get_xlim() == pytest.approx((0, 3060))


@pytest.mark.parametrize(
    ("curve", "limits"),
    [
        ([0.0, 0.0], (-1, 1)),
        ([-100.0, -100.0], (-105, -95)),
        ([0.0, np.nan, 10.0, np.inf], (-0.5, 10.5)),
    ],
)
def test_limits_of_odd_curves(curve: list[float], limits: tuple[float, float]) -> None:
    _, axes = figures.new_figure()
    figures.limit_to_curves(axes, 1, [np.array(curve)])
    assert axes.get_ylim() == pytest.approx(limits)


def test_long_labels_stay_inside_the_figure() -> None:
    figure, axes = figures.new_figure()
    for label in ("short", "long " * 40):
        axes.plot([0, 1], [0, 1], label=label)
    figures.draw_legend(figure, columns=2)
    figure.draw_without_rendering()
    legend = figure.legends[0].get_window_extent()
    assert legend.x0 >= 0 and legend.x1 <= figure.bbox.x1 and legend.y0 >= 0
    assert axes.get_window_extent().height > 0.5 * figures.SIZE_INCHES[1] * figure.dpi


def test_long_titles_stay_inside_the_figure() -> None:
    figure, axes = figures.new_figure()
    figures.set_title(
        axes, "my.package.environments:Point-v0: weights for a policy of return 9,360"
    )
    figure.canvas.draw()
    box = axes.title.get_window_extent()
    assert box.x0 > 0 and box.x1 < figure.bbox.width and box.y1 < figure.bbox.height


def test_returns_of_one_seed(tmp_path: Path, figure: list[Figure]) -> None:
    plots.plot_returns(run_with(tmp_path, np.array([[1.0, 0.0]])))
    drawn = lines(figure[0])
    assert set(drawn) == {"seed 0", "cumulative maximum"}
    np.testing.assert_array_equal(drawn["seed 0"], [[1000, 1.0], [2000, 0.0]])
    assert not figure[0].axes[0].collections


def test_returns_before_any_evaluation(tmp_path: Path, figure: list[Figure]) -> None:
    plots.plot_returns(run_with(tmp_path, np.empty((1, 0))))
    assert [text.get_text() for text in figure[0].axes[0].texts] == ["no evaluation yet"]
    (tmp_path / "metrics.csv").unlink()
    assert plots.plot_returns(tmp_path).exists()


def test_weights_are_relative_to_their_mean_and_newest_on_the_right(
    tmp_path: Path, figure: list[Figure]
) -> None:
    path = tmp_path / "plots" / "weights.png"
    ages = torch.arange(100).flip(0)
    weights = torch.where(ages < 50, 3.0, 1.0)
    assert plots.plot_weight_age(path, ages, weights, "title") == path and path.exists()
    drawn = lines(figure[0])
    curve = drawn["mean over 2-step bins"]
    np.testing.assert_allclose(curve[curve[:, 0] < 50, 1], 1.5)
    np.testing.assert_allclose(curve[curve[:, 0] > 50, 1], 0.5)
    assert drawn["mean weight"][:, 1].tolist() == [1, 1]
    left, right = figure[0].axes[0].get_xlim()
    assert left > right == 0


@pytest.mark.parametrize(("ages", "weights"), [([5], [2.0]), ([0, 0], [0.0, 0.0])])
def test_weights_of_few_rows(tmp_path: Path, ages: list[int], weights: list[float]) -> None:
    assert plots.plot_weight_age(tmp_path / "w.png", ages, weights, "title").exists()


@pytest.mark.parametrize(("ages", "weights"), [([], []), ([1, 2], [1.0]), ([[1]], [1.0])])
def test_mismatched_weights_are_refused(tmp_path: Path, ages: Any, weights: Any) -> None:
    with pytest.raises(ValueError, match="ages and weights: given shapes"):
        plots.plot_weight_age(tmp_path / "w.png", ages, weights, "title")
