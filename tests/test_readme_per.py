"""The README's lines for people who want only the buffer run as they stand there."""

import re
from pathlib import Path
from typing import Any

import torch

README = Path(__file__).parents[1] / "README.md"


def test_the_prioritized_replay_example_runs() -> None:
    found = re.search(
        r"^#+ Only the buffer\n.*?```python\n(.*?)```", README.read_text(), re.M | re.S
    )
    assert found, "README.md has no Python block under the heading 'Only the buffer'"
    code = found.group(1)
    assert len([line for line in code.splitlines() if line.strip()]) <= 15
    torch.manual_seed(0)
    names: dict[str, Any] = {}
    exec(compile(code, str(README), "exec"), names)
    buffer = names["buffer"]
    assert len(buffer) == 1600
    assert names["importance"].shape == (256,)
    assert 0 < names["importance"].min() <= names["importance"].max() == 1
    last = dict(zip(names["idx"].tolist(), names["error"].tolist(), strict=True))
    idx = torch.tensor(list(last))
    expected = (torch.tensor(list(last.values())) + 1e-6) ** names["alpha"]
    torch.testing.assert_close(buffer.weights[idx].float(), expected)
