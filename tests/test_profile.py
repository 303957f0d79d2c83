"""The table of where the time went."""

from __future__ import annotations

from rich.console import Console

from tom.profile import Profile


def test_seconds_per_thousand_steps_by_phase() -> None:
    profile = Profile()
    profile.start(5000, 10.0, {"policy": 1.0})
    table = profile.table(7000, 50.0, {"policy": 21.0, "dynamics": 19.0})
    console = Console(width=80)
    with console.capture() as capture:
        console.print(table)
    lines = capture.get().splitlines()
    found = {row.split("│")[1].strip(): row.split("│")[2:4] for row in lines if "│" in row}
    values = {name: [cell.strip() for cell in cells] for name, cells in found.items()}
    assert values == {
        "policy": ["10.00", "50.0%"],
        "dynamics": ["9.50", "47.5%"],
        "rest (loop, logging)": ["0.50", "2.5%"],
        "all": ["20.00", "100.0%"],
    }


def test_nothing_to_show_before_the_first_step() -> None:
    profile = Profile()
    assert profile.table(100, 1.0, {}) is None
    profile.start(100, 1.0, {})
    assert profile.table(100, 1.0, {}) is None
