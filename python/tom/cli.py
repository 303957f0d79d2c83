"""The command line: from `argv` to one checked configuration, and that on the screen.

tyro turns the nested dataclass into flags and `--help`. What a user typed is read once before tyro
sees it, because the task and the preset decide the defaults, and because every mistake must come
back as one sentence.
"""

from __future__ import annotations

import ast
import dataclasses
import difflib
import inspect
import re
import sys
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from types import NoneType
from typing import Annotated, Any, Literal, cast, get_args, get_origin, get_type_hints

import tyro
from rich.console import Console
from rich.table import Table
from rich.text import Text
from tyro.constructors import (
    ConstructorRegistry,
    StructConstructorSpec,
    StructFieldSpec,
    StructTypeInfo,
)

from tom.config import Config
from tom.devices import check_device
from tom.one_line import refusals
from tom.settings import ConfigError, Settings, SettingsT, override, types, validate, walk
from tom.tasks import TASKS, Preset, defaults

PROGRAM = "python -m tom.train"
DESCRIPTION = f"""\
Train TOM, PMAC, MBPO or plain SAC on a Gymnasium task; the same command resumes the run.

Defaults shown are those of the task and the preset; name both to see theirs:
$ {PROGRAM} --env ant --preset debug --help"""


@dataclass(frozen=True)
class Arguments:
    """The command line: a preset, and the settings that it gives values to."""

    preset: Preset = "default"
    """Where the defaults come from: default; paper, its table also where default leaves it (what
    the table does not say, such as dual_q.settle-constant, stays as it is); or debug, a whole run
    of tiny networks in well under a minute."""
    config: Annotated[Config, tyro.conf.arg(name="")] = dataclasses.field(default_factory=Config)


def parse(argv: Sequence[str] | None = None) -> Config:
    """Read the command line; order of precedence: defaults < task < preset < command line.

    Args:
        argv: arguments without the program's name; by default those of this process.

    Returns:
        A validated configuration with `run_dir` filled in.

    Raises:
        SystemExit: status 0 after `--help`; status 2 after one sentence on stderr that names the
            setting, what was given and what is allowed. Nothing has been written.
    """
    config, preset = read(argv, Arguments, PROGRAM, DESCRIPTION, defaults)
    if not config.run_dir:
        config = override(config, {"run_dir": default_run_dir(config, preset)})
    return config


def read(
    argv: Sequence[str] | None,
    arguments: Any,
    program: str,
    description: str,
    defaults: Callable[[str, Preset], SettingsT],
) -> tuple[SettingsT, Preset]:
    """The settings and the preset that a command line gives; other commands share it.

    Args:
        argv: arguments without the program's name; None: those of this process.
        arguments: a dataclass of a preset and a configuration, like :class:`Arguments`.
        program: the command that --help names.
        description: what --help says first.
        defaults: the settings of a task and a preset.

    Raises:
        SystemExit: as :func:`parse`.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    helping = any(a in ("-h", "--help") or a.startswith("--tyro-") for a in argv)
    with refusals():
        kind = get_type_hints(arguments)["config"]
        given = _read(argv, kind, strict=not helping)
        preset: Preset = given.get("preset", "default")
        default = defaults(given.get("env", kind.env), preset)
        typed = tyro.cli(
            arguments,
            prog=program,
            description=description,
            args=argv,
            default=arguments(preset, default),
            registry=_registry(),
        )
        config: SettingsT = typed.config
        validate(config)
        check_device(config.device)
    return config, preset


def default_run_dir(config: Config, preset: Preset = "default") -> str:
    """`runs/ENV-ALGORITHM-seedK`, `seedKtoL` for several; a preset has folders of its own."""
    seeds = f"{config.seed}"
    if config.seeds > 1:
        seeds += f"to{config.seed + config.seeds - 1}"
    return run_dir_named(f"{config.env}-{config.algorithm}-seed{seeds}", preset)


def run_dir_named(name: str, preset: Preset) -> str:
    """`runs/NAME`, and the preset's name if it is not default, in a file name's characters."""
    if preset != "default":
        name += f"-{preset}"
    return "runs/" + re.sub(r"[^\w.-]+", "-", name)


def print_config(config: SettingsT, console: Console, default: SettingsT) -> None:
    """Print every setting, one line or two per group; `*` marks those that are not `default`'s."""
    plain = dict(_leaves(default))
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    groups: dict[str, list[Text]] = {}
    for name, value in _leaves(config):
        group, _, leaf = name.rpartition(".")
        changed = value != plain[name]
        # Name and value hold together at line breaks; spaces occur between settings alone.
        setting = Text(f"{leaf}=", style="" if changed else "dim")
        setting.append(_show(value) + ("*" if changed else ""), "bold green" if changed else "")
        groups.setdefault(group or "run", []).append(setting)
    for group, settings in groups.items():
        table.add_row(group, Text("  ").join(settings))
    console.print(table)
    console.print(Text("* differs from the task's default", style="dim"))


def field_docs(kind: type) -> dict[str, str]:
    """Name → docstring, on one line, of the fields of a class that have one."""
    body = cast(ast.ClassDef, ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0]).body
    docs: dict[str, str] = {}
    for pair in pairwise(body):
        match pair:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(
                value=ast.Constant(value=str(text))
            ):
                docs[name] = " ".join(text.split())
    return docs


def _registry() -> ConstructorRegistry:
    """How tyro reads our dataclasses: as it would by itself, but with docstrings reflowed.

    By itself it keeps the line breaks of an indented docstring, in the middle of sentences.
    """
    registry = ConstructorRegistry()

    def fields_with_docs(info: StructTypeInfo) -> StructConstructorSpec | None:
        if not dataclasses.is_dataclass(info.type):
            return None
        docs, hints = field_docs(info.type), get_type_hints(info.type, include_extras=True)
        fields = (
            StructFieldSpec(f.name, hints[f.name], getattr(info.default, f.name), docs.get(f.name))
            for f in dataclasses.fields(info.type)
        )
        return StructConstructorSpec(info.type, tuple(fields))

    registry.struct_rule(fields_with_docs)
    return registry


def _leaves(config: Settings) -> Iterable[tuple[str, Any]]:
    return ((name, value) for name, _, value in walk(config))


def _show(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return "auto" if value is None else str(value) or "''"


def _read(argv: Sequence[str], kind: type[Settings], *, strict: bool) -> dict[str, Any]:
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
            mend = f"--env {flag}" if flag in TASKS else "--NAME VALUE"
            raise ConfigError(f"{flag}: given without the name of its setting, allowed is {mend}")
        raise ConfigError(f"{flag}: no such setting{_suggest(name, hints)}")
    hint = hints[name]
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


def _grammar(hint: Any) -> tuple[str, Any]:
    """What a setting of this type allows, in words and as a predicate on one word."""
    if get_origin(hint) is Literal:
        choices = get_args(hint)
        return f"are {', '.join(choices)}", choices.__contains__
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
    """`; did you mean --x or --y?` for settings of the same last part, or of a similar name."""
    leaf = name.rpartition(".")[2]
    close = [known for known in names if known.rpartition(".")[2] == leaf]
    close = close or difflib.get_close_matches(name, list(names), n=1, cutoff=0.6)
    if not close:
        leaves = {known.rpartition(".")[2]: known for known in names}
        close = [leaves[m] for m in difflib.get_close_matches(leaf, list(leaves), n=2, cutoff=0.75)]
    if not close:
        return "; --help lists them all"
    flags = ["--" + known.replace("_", "-") for known in close]
    return f"; did you mean {', '.join(flags[:-1])}{' or ' if flags[:-1] else ''}{flags[-1]}?"
