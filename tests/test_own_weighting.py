"""Weights of the user's own, `--algorithm module:function`."""

from __future__ import annotations

import csv
import textwrap
from pathlib import Path

import pytest

from tom.compare import main as compare
from tom.train import main

DEBUG = ["--env", "inverted_pendulum", "--preset", "debug"]


def _train(*arguments: str) -> None:
    main([*DEBUG, "--algorithm", "recent:Newest", *arguments])


def _rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    return [{k: v for k, v in row.items() if not k.startswith("time/")} for row in rows]


def test_the_readmes_weights_are_those_of_the_run(user_folder: Path) -> None:
    (user_folder / "recent.py").write_text(
        (user_folder / "recent.py").read_text().replace("2000", "150")
    )
    _train("--seeds", "2")
    rows = _rows(user_folder / "runs" / "inverted_pendulum-Newest-seed0to1-debug")
    trained = [row for row in rows if int(row["step"]) > 200]
    assert {row["seed"] for row in trained} == {"0", "1"}
    for row in trained:
        assert float(row["tom/ess"]) == 150
        assert float(row["tom/kept"]) == pytest.approx(150 / int(row["step"]))


def test_a_run_resumes_and_is_compared_under_its_own_name(
    user_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _train("--run-dir", "whole")
    _train("--run-dir", "parts", "--steps", "400")
    main(["--run-dir", "parts", "--steps", "600"])
    assert _rows(Path("parts"))[-1] == _rows(Path("whole"))[-1]
    capsys.readouterr()
    compare(["whole"])
    assert "Newest" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("algorithm", "message"),
    [
        ("mpbo", "algorithm: given 'mpbo', allowed are tom, mbpo, pmac, sac or module:function"),
        ("recent:", "algorithm: given 'recent:', allowed are tom"),
        ("nowhere:Newest", "Python finds no module 'nowhere'"),
        ("recent:Newer", "has no function 'Newer'; did you mean recent:Newest?"),
        ("other:number", "number in the module other is of type int; it must be a function"),
        ("other:fails", "which raised KeyError ('x'), allowed is a function"),
        ("other:empty", "which made a int without uniform_share, allowed is a function"),
        ("other:Share", "which has uniform_share 2.0, allowed is a number in [0, 1]"),
        ("other:Stateful", "the state's w that other:Stateful saves is [3]; allowed are tensors"),
        ("other:Counting", "the state's n that other:Counting saves is of type int; allowed are"),
    ],
)
def test_what_cannot_be_a_weighting_is_refused(
    algorithm: str, message: str, user_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = """\
        import recent, torch

        number = 1

        def fails(*_):
            raise KeyError("x")

        def empty(*_):
            return 1

        class Share(recent.Newest):
            uniform_share = 2.0

        class Stateful(recent.Newest):
            def state_dict(self):
                return {"w": torch.ones(3)}

        class Counting(recent.Newest):
            def state_dict(self):
                return {"n": 3}
        """
    (user_folder / "other.py").write_text(textwrap.dedent(code))
    with pytest.raises(SystemExit):
        main([*DEBUG, "--algorithm", algorithm])
    assert message in " ".join(capsys.readouterr().err.split())
    assert not (user_folder / "runs").exists()


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ("None", "returned a NoneType; allowed are weights and metrics"),
        ("(0.0 * w, {})", "all 0 for a seed; allowed are finite ones ≥ 0"),
        ("(-w, {})", "negative, not finite, or all 0"),
        ("(w / 0, {})", "negative, not finite, or all 0"),
        ("(w[0], {})", "returned weights [200]; allowed are a tensor [1, 200]"),
        ("([1.0], {})", "returned weights of type list; allowed are a tensor"),
        ("(w > 0, {})", "returned weights of bool; allowed are weights of float32 or float64"),
        ("(w.half(), {})", "returned weights of float16; allowed are weights of float32 or"),
        ("(w, None)", "returned metrics of type NoneType; allowed are dictionaries"),
        ("(w, {'step': w[:, 0]})", "returned a metric 'step'; allowed are names such as"),
        ("(w, {'tom/kept': 1.0})", "returned tom/kept of type float; allowed are a tensor [1]"),
    ],
)
def test_weights_that_cannot_be_used_end_the_run_in_a_sentence(
    returned: str, message: str, user_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = f"""\
        import recent

        class Bad(recent.Newest):
            def update(self, replays, initial_states, policy):
                w = replays.ages() + 1.0
                return {returned}
        """
    (user_folder / "bad.py").write_text(textwrap.dedent(code))
    with pytest.raises(SystemExit):
        main([*DEBUG, "--algorithm", "bad:Bad"])
    said = " ".join(capsys.readouterr().err.split())
    assert said.startswith("error: step 200: the update of bad:Bad returned") and message in said
