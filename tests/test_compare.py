"""Comparing runs: what is pooled, drawn and printed, and what is refused."""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from helpers import assert_refused
from tom import compare, figures
from tom.config import Config
from tom.metrics import MetricsTable
from tom.settings import override, to_dict


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")


def make_run(name: str, curves: Mapping[int, Mapping[int, float]], /, **settings: Any) -> str:
    """A run folder with the evaluations seed → step → return; returns its name."""
    folder = Path(name)
    folder.mkdir()
    config = override(Config(seed=min(curves, default=0), seeds=max(1, len(curves))), settings)
    (folder / "config.json").write_text(json.dumps(to_dict(config)))
    table = MetricsTable(folder / "metrics.csv", 0)
    for seed, curve in curves.items():
        table.append(1, [seed], {"tom/ess": [3.0]})
        for step, value in curve.items():
            table.append(step, [seed], {"eval/mean_reward": [value], "eval/std_reward": [1.0]})
    table.close()
    return name


def ramp(steps: int, height: float) -> dict[int, float]:
    """Returns that rise by `height` every 1000 steps."""
    return {1000 * (t + 1): height * (t + 1) for t in range(steps)}


def drawn(figure: Figure) -> dict[str, Any]:
    return {str(line.get_label()): line for line in figure.axes[0].lines}


def refused(capsys: pytest.CaptureFixture[str], arguments: list[str], *words: str) -> None:
    assert_refused(compare.main, arguments, words, Path("comparison.png"), capsys)


def test_seeds_of_all_folders_with_a_label_are_pooled(
    figure: list[Figure], capsys: pytest.CaptureFixture[str]
) -> None:
    make_run("a", {0: ramp(8, 100.0), 1: ramp(8, 200.0)})
    make_run("b", {2: ramp(5, 600.0)})  # stopped early
    make_run("c", {0: ramp(8, 50.0)}, algorithm="mbpo")
    compare.main(["a", "c", "b"])
    assert Path("comparison.png").stat().st_size > 10_000
    assert sorted(path.name for path in Path().iterdir()) == ["a", "b", "c", "comparison.png"]

    lines = drawn(figure[0])
    tom, mbpo = lines["TOM, 3 seeds"], lines["MBPO, 1 seed"]
    np.testing.assert_allclose(tom.get_xydata()[:, 0], 1000 * np.arange(1, 6))
    np.testing.assert_allclose(tom.get_xydata()[:, 1], 300 * np.arange(1, 6))
    assert len(mbpo.get_xydata()) == 8
    assert tom.get_color() == figures.VERMILION and mbpo.get_color() == figures.BLUE
    assert len(figure[0].axes[0].lines) == 3 + 2 + 1  # seeds, means, a key to the thin lines

    # The band does not set the limits, but the curves do.
    axes = figure[0].axes[0]
    assert axes.get_ylim() == pytest.approx((50 - 147.5, 3000 + 147.5))
    assert axes.get_xlim() == pytest.approx((0, 8160))
    band = axes.collections[0]
    margin = figures.confidence_margin(np.array([[500.0], [1000.0], [3000.0]]))[0]
    assert band.get_paths()[0].get_extents().ymax == pytest.approx(1500 + margin)
    assert to_hex(band.get_facecolor()[0]).upper() == figures.VERMILION

    # Quarters of 8000, but both labels have no more than 5000.
    printed = capsys.readouterr().out
    assert re.search(r"seeds . +2,000 . +4,000 . +5,000 . +8,000", printed)
    assert re.search(r"TOM +. +3 . +600 ± 432 . +1,200 ± 864 . +1,500 ± 1,080 . +– ", printed)
    assert re.search(r"MBPO +. +1 . +100 . +200 . +250 . +400 ", printed)
    assert "differ" not in printed


def test_labels_sort_runs_and_have_colours_of_their_own(
    figure: list[Figure], capsys: pytest.CaptureFixture[str]
) -> None:
    make_run("plain", {0: ramp(4, -1.0)})
    make_run("kl=0", {0: ramp(4, 2.0)}, divergence="kl")
    changes = {"weights.max_weight": 5.0, "weights.decay": 0.9}  # TOM has no use for the latter
    make_run("kl1", {1: ramp(4, 3.0)}, divergence="kl", threads=2, **changes)
    compare.main(["plain", "[b]$k$=kl=0", "[b]$k$=kl1", "x=kl=0", "--output", "new/figure.svg"])
    assert Path("new/figure.svg").read_text().startswith("<?xml")
    lines = drawn(figure[0])
    assert set(lines) >= {"TOM, 1 seed", r"[b]\$k\$, 2 seeds", "x, 1 seed"}
    colours = {lines[name].get_color() for name in lines if "seed" in name and name[0] != "e"}
    assert len(colours) == 3
    printed = capsys.readouterr().out
    assert re.search(r"\[b\]\$k\$ +. +2 . +2\.5 ± 0\.5", printed) and "−1.0" in printed
    assert "runs of [b]$k$ differ in weights.max_weight\n" in printed


def test_a_folder_whose_name_has_an_equals_sign_is_no_label(figure: list[Figure]) -> None:
    compare.main([make_run("x=y", {0: ramp(1, 1.0)})])
    assert "TOM, 1 seed" in drawn(figure[0])
    assert not figure[0].axes[0].collections


def test_the_replay_half_of_an_offline_run_is_found(figure: list[Figure]) -> None:
    Path("offline").mkdir()
    make_run("offline/sac", {0: ramp(2, 1.0)}, algorithm="sac")
    compare.main(["offline"])
    assert "SAC, 1 seed" in drawn(figure[0])


def test_two_names_of_one_task_are_one_task() -> None:
    make_run("a", {0: ramp(2, 1.0)}, env="hopper")
    make_run("b", {1: ramp(2, 1.0)}, env="Hopper-v5")
    compare.main(["a", "b"])


def test_a_run_that_has_begun_does_not_hide_the_end_of_another(
    capsys: pytest.CaptureFixture[str],
) -> None:
    make_run("a", {0: ramp(100, 1.0)})
    make_run("live", {1: ramp(30, 2.0)}, algorithm="mbpo")
    compare.main(["a", "live"])
    printed = capsys.readouterr().out
    assert re.search(r"seeds . +25,000 . +30,000 . +50,000 . +75,000 . +100,000", printed)
    assert re.search(r"TOM +. +1 . +25 . +30 . +50 . +75 . +100 ", printed)
    assert re.search(r"MBPO +. +1 . +50 . +60 . +– . +– . +– ", printed)


def test_figure_and_table_need_no_common_step(
    figure: list[Figure], capsys: pytest.CaptureFixture[str]
) -> None:
    make_run("a", {0: ramp(40, 1.0)})
    make_run("later", {1: {1500: 1.0}})
    compare.main(["a", "x=later"])
    assert {"TOM, 1 seed", "x, 1 seed"} <= set(drawn(figure[0]))
    printed = capsys.readouterr().out
    assert re.search(r"seeds . +1,500 . +10,000 . +20,000 . +30,000 . +40,000", printed)
    assert re.search(r"TOM +. +1 . +– . +10\.0 .* 40\.0 ", printed)
    assert re.search(r"x +. +1 . +1\.0 . +– . +– . +– . +– ", printed)


def test_columns_are_those_that_most_labels_have(capsys: pytest.CaptureFixture[str]) -> None:
    make_run("a", {0: {1000 * i: 1.0 for i in range(1, 13)}})
    make_run("b", {1: {1500 * i: 1.0 for i in range(1, 9)}}, algorithm="mbpo")
    compare.main(["a", "b"])
    assert re.search(r"seeds . +3,000 . +6,000 . +9,000 . +12,000 .", capsys.readouterr().out)


def test_many_labels_have_no_line_for_each_seed(figure: list[Figure]) -> None:
    for i in range(4):
        make_run(f"run{i}", {0: ramp(3, 1.0 + i), 1: ramp(3, 2.0 + i)})
    compare.main([f"{i}=run{i}" for i in range(4)])
    assert len(figure[0].axes[0].lines) == 4
    assert "each seed" not in drawn(figure[0])


def test_runs_with_other_arguments_are_of_another_task(capsys: pytest.CaptureFixture[str]) -> None:
    make_run("a", {0: ramp(3, 1.0)})
    make_run("b", {1: ramp(3, 1.0)}, env_args=["frame_skip=5"])
    refused(capsys, ["a", "b"], "given a of hopper and b of hopper frame_skip=5")


def test_runs_that_do_not_fit_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    make_run("a", {0: ramp(3, 1.0)})
    make_run("ant", {0: ramp(3, 1.0)}, env="ant")
    make_run("again", {0: ramp(3, 1.0)})
    make_run("later", {1: {1500: 1.0}})
    make_run("early", {}, algorithm="mbpo")
    refused(
        capsys, ["a", "ant"], "given a of hopper and ant of ant", "allowed are runs of one task"
    )
    refused(capsys, ["a", "again"], "seed 0 of TOM twice", "in again", "once per label")
    refused(capsys, ["a", "later"], "TOM, whose seeds were evaluated at no common step")
    refused(capsys, ["a", "early"], "given early, which has no evaluation yet", "allowed is")
    refused(capsys, ["a", "gone"], "given gone, which holds no run", "allowed is a run folder")
    refused(capsys, ["~nobody-of-this-name/a"], "home folder is not known", "allowed is a folder")
    refused(capsys, ["=a"], "given =a", "allowed are FOLDER and LABEL=FOLDER")
    refused(capsys, ["_x=a"], "given _x=a", "underscore")
    refused(capsys, [f"{i}=a" for i in range(8)], "given 8 labels, allowed are at most 7")


def test_damaged_runs_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    folder = Path(make_run("a", {0: ramp(3, 1.0)}))
    (folder / "metrics.csv").write_text("step,eval/mean_reward\n1,2\n")
    refused(capsys, ["a"], "given a, which cannot be read")
    (folder / "config.json").write_text("[1")
    refused(capsys, ["a"], "given a, which cannot be read")
    (folder / "config.json").write_text("{}")
    refused(capsys, ["a"], "given a, which cannot be read")


def test_wrong_arguments_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    make_run("a", {0: ramp(3, 1.0)})
    refused(capsys, [], "required: RUN", "allowed is python -m tom.compare")
    refused(capsys, ["a", "--outptu", "b.png"], "--outptu", "[--output FILE] RUN [RUN ...]")
    refused(capsys, ["a", "--output", "b.txt"], "given b.txt", "end in", ".png")
    refused(
        capsys, ["a", "--output", "a/config.json/b.png"], "given a/config.json/b.png", "allowed"
    )


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ending:
        compare.main(["--help"])
    assert ending.value.code == 0
    assert "LABEL=FOLDER" in capsys.readouterr().out


@pytest.fixture
def curves() -> ModuleType:
    """The script that draws the repository's own learning curves."""
    file = Path(__file__).parents[1] / "bench" / "returns" / "curves.py"
    spec = importlib.util.spec_from_file_location("curves", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_repository_s_curves_are_replaced_on_demand_alone(
    curves: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_run("a", {0: ramp(3, 1.0), 1: ramp(2, 1.0)})
    repository = Path("repository").resolve()
    repository.mkdir()
    (repository / "published.csv").write_text((curves.HERE / "published.csv").read_text())
    monkeypatch.setattr(curves, "HERE", repository)
    curves.main(["a"])
    assert len(Path("hopper.csv").read_text().splitlines()) == 6
    assert Path("hopper.png").exists() and len(list(repository.iterdir())) == 1
    curves.main(["a", "--update"])
    assert len(list(repository.iterdir())) == 3

    make_run("b", {0: ramp(3, 1.0)}, env="ant")
    for arguments, words in (
        (["gone"], ["given gone, which holds no run"]),
        (["a", "b"], ["given runs of ant, hopper"]),
    ):
        assert_refused(curves.main, arguments, words, Path("ant.csv"), capsys)
    monkeypatch.chdir(repository)
    assert_refused(curves.main, ["../b"], ["current folder", "--update"], Path("ant.csv"), capsys)
    with pytest.raises(SystemExit) as ending:
        curves.main(["--help"])
    assert ending.value.code == 0
