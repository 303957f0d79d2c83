"""The README's examples in Python run as they stand there."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from tom.train import main

README = Path(__file__).parents[1] / "README.md"


def _code_under(heading: str) -> str:
    found = re.search(rf"^#+ {heading}\n.*?```python\n(.*?)```", README.read_text(), re.M | re.S)
    assert found, f"README.md has no Python block under the heading {heading!r}"
    return found.group(1)


def _run(code: str) -> dict[str, Any]:
    torch.manual_seed(0)
    names: dict[str, Any] = {}
    exec(compile(code, str(README), "exec"), names)
    return names


def test_the_prioritized_replay_example_runs() -> None:
    code = _code_under("Only the buffer")
    assert len([line for line in code.splitlines() if line.strip()]) <= 15
    names = _run(code)
    buffer = names["buffer"]
    assert len(buffer) == 1600
    assert names["importance"].shape == (256,)
    assert 0 < names["importance"].min() <= names["importance"].max() == 1
    last = dict(zip(names["idx"].tolist(), names["error"].tolist(), strict=True))
    idx = torch.tensor(list(last))
    expected = (torch.tensor(list(last.values())) + 1e-6) ** names["alpha"]
    torch.testing.assert_close(buffer.weights[idx].float(), expected)


def test_the_example_of_the_simulator_runs() -> None:
    names = _run(_code_under("Only the simulator"))
    names["env"].close()
    assert names["observations"].shape == (16, 11) and names["infos"]


def test_the_example_of_weights_prefers_the_policys_own_rows() -> None:
    names = _run(_code_under("Only the weights"))
    weights = names["weights"]
    assert weights.shape == (5000,)
    assert weights[4000:].mean() > 3 * weights[:4000].mean()
    assert torch.isfinite(names["loss"])


def test_the_example_of_a_trained_policy_acts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    main(["--env", "inverted_pendulum", "--seeds", "3", "--preset", "debug", "--run-dir",
          "runs/inverted_pendulum-tom-seed0to2", "--steps", "250"])  # fmt: skip
    names = _run(_code_under("Install and train"))
    assert names["over"] and names["total"] > 0
