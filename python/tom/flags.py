"""What was typed on a command line, flag by flag; every mistake comes back as one sentence."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from tom.settings import ConfigError, Settings, types
from tom.tasks import TASKS, Preset

SYNONYMS = {
    "lr": ("sac.learning_rate", "dynamics.learning_rate"),
    "gamma": ("discount",),
    "utd": ("updates_per_step",),
    "utd_ratio": ("updates_per_step",),
    "task": ("env",),
    "env_id": ("env",),
    "algo": ("algorithm",),
    "logdir": ("run_dir",),
    "log_dir": ("run_dir",),
    "output": ("run_dir",),
    "resume": ("run_dir",),
    "gpu": ("device",),
    "cuda": ("device",),
    "num_seeds": ("seeds",),
    "total_timesteps": ("steps", "transitions"),
    "timesteps": ("steps", "transitions"),
    "total_steps": ("steps", "transitions"),
    "steps": ("transitions",),
    "transitions": ("steps",),
    "kwargs": ("env_args",),
    "env_kwargs": ("env_args",),
    "buffer_size": ("replay.capacity",),
    "ensemble_size": ("dynamics.members",),
}
"""What other programs call a setting, in its last part or whole → names here."""


def check_strings(argv: Sequence[Any]) -> None:
    """Check that arguments which a script gives are strings, as those of a shell are.

    Raises:
        ConfigError: the first that is none.
    """
    for before, word in zip(["", *argv], argv, strict=False):
        if isinstance(word, str):
            continue
        mend = f", such as {str(word)!r}"
        if callable(word):
            mend = "; a function is module:function, or __main__:function in the script that runs"
        raise ConfigError(
            f"{before or 'arguments'}: given {word!r}, which is no string, allowed are "
            f"strings{mend}"
        )


def read_flags(argv: Sequence[str], kind: type[Settings], *, strict: bool) -> dict[str, Any]:
    """Dotted name → value (the last word of it) of every flag in `argv`.

    Raises:
        ConfigError: if `strict`, the first word that tyro would not understand.
    """
    hints: dict[str, Any] = {"preset": Preset, **types(kind)}
    found: dict[str, Any] = {}
    position = 0
    while position < len(argv):
        flag, equals, attached = argv[position].partition("=")
        position += 1
        words = [attached] if equals else []
        while not equals and position < len(argv) and not _is_flag(argv[position]):
            words.append(argv[position])
            position += 1
        name = _name(flag, hints)
        if name in hints and words:
            found[name] = words[-1]
        if strict:
            _check_words(flag, name, words, hints)
    if found.get("preset", "default") not in get_args(Preset):
        found["preset"] = "default"
    return found


def _is_flag(word: str) -> bool:
    """A word that begins with a dash and is no negative number (`-5`, `-.5`, `-inf`)."""
    return re.match(r"-(?!\d|\.\d|inf|nan)", word, re.IGNORECASE) is not None


def _name(flag: str, hints: Mapping[str, Any]) -> str:
    """The dotted name that a flag sets: `--dual-q.l2` → `dual_q.l2`; `x.no_y` → `x.y` if bool."""
    name = flag.removeprefix("--").replace("-", "_") if flag.startswith("--") else ""
    positive = re.sub(r"(^|\.)no_(\w+)$", r"\1\2", name)
    return positive if hints.get(positive) is bool else name


def _check_words(flag: str, name: str, words: Sequence[str], hints: Mapping[str, Any]) -> None:
    if name not in hints:
        if not _is_flag(flag):
            raise _nameless(flag)
        raise ConfigError(f"{flag}: no such setting{_suggest(name, hints)}")
    hint = hints[name]
    # As in `--threads 1 hopper`, behind what the setting takes.
    spare = set(words if hint is bool else words[1:]) & set(TASKS)
    if spare and name != "env":
        raise _nameless(spare.pop())
    if hint is bool:
        if words:
            off = re.sub(r"(\w+)$", r"no_\1", name).replace("_", "-")
            on = name.replace("_", "-")
            raise ConfigError(f"{name}: given {words[0]!r}, allowed is --{on} or --{off}, no value")
        return
    allowed, fits = _grammar(hint)
    for word in words:
        if not fits(word):
            raise ConfigError(f"{name}: given {word!r}, allowed {allowed}")
    if get_origin(hint) is not tuple and len(words) != 1:
        what = " ".join(words) if words else "nothing"
        one = re.sub(r"^(is an?\b|are\b)", lambda m: "is one" + " of" * (m[0] == "are"), allowed)
        raise ConfigError(f"{name}: given {what}, allowed {one}")


def _nameless(word: str) -> ConfigError:
    mend = f"--env {word}" if word in TASKS else "--NAME VALUE"
    return ConfigError(f"{word}: given without the name of its setting, allowed is {mend}")


def _grammar(hint: Any) -> tuple[str, Any]:
    """What a setting of this type allows, in words and as a predicate on one word."""
    if get_origin(hint) is Literal:
        choices = get_args(hint)
        return f"are {', '.join(choices)}", choices.__contains__
    if hint == tuple[str, ...]:
        return "are words such as contact_cost_weight=0", lambda word: True
    if get_origin(hint) is tuple:
        return "are whole numbers such as 256 256", lambda word: _converts(int, word)
    if hint is int:
        return "is a whole number in digits", lambda word: _converts(int, word)
    if hint is float:
        return "is a number", lambda word: _converts(float, word)
    if NoneType in get_args(hint):
        return "is a number or None", lambda word: word == "None" or _converts(float, word)
    return "is one word", lambda word: True


def _converts(kind: type, word: str) -> bool:
    try:
        kind(word)
    except ValueError:
        return False
    return True


def _suggest(name: str, names: Iterable[str]) -> str:
    """`; did you mean --x or --y?`: a synonym, the same last part, or a similar name."""
    group, _, leaf = name.rpartition(".")
    close = [known for known in names if known.rpartition(".")[2] == leaf]
    meant = [known for known in SYNONYMS.get(leaf, ()) if known in names]
    if not group:
        close = [*meant, *close]
    elif not close:
        beside = {f"{group}.{known.rpartition('.')[2]}" for known in meant}  # in the group named
        close = [known for known in names if known in beside] or meant
    close = close or difflib.get_close_matches(name, list(names), n=1, cutoff=0.65)
    if not close:
        leaves = {known.rpartition(".")[2]: known for known in names}
        close = [leaves[m] for m in difflib.get_close_matches(leaf, list(leaves), n=2, cutoff=0.75)]
    if not close:
        return "; --help lists them all"
    flags = ["--" + known.replace("_", "-") for known in close]
    return f"; did you mean {', '.join(flags[:-1])}{' or ' if flags[:-1] else ''}{flags[-1]}?"
