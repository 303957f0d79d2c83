"""The command line: from `argv` to one checked configuration, and that on the screen.

tyro turns the nested dataclass into flags and `--help`. What a user typed is read once before tyro
sees it, because the task and the preset decide the defaults, and because every mistake must come
back as one sentence.
"""

from __future__ import annotations

import ast
import dataclasses
import importlib.metadata
import inspect
import re
import sys
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Any, cast, get_type_hints

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
from tom.console import say
from tom.devices import check_device
from tom.flags import check_strings, read_flags
from tom.names import short_name
from tom.one_line import refusals
from tom.run_folder import saved_config
from tom.settings import Settings, SettingsT, among, override, validate, walk
from tom.tasks import Preset, defaults

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

    Where `--run-dir` holds a run, its settings stand for the first three, unless a preset or
    another task is given; a preset is then that of the run's task.

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
    if argv == ["--version"]:
        print(f"tom {importlib.metadata.version('tom-rl')}")
        raise SystemExit
    with refusals():
        check_strings(argv)
        helping = any(a in ("-h", "--help") or a.startswith("--tyro-") for a in argv)
        kind = get_type_hints(arguments)["config"]
        given = read_flags(argv, kind, strict=not helping)
        preset: Preset = given.get("preset", "default")
        typed = tyro.cli(
            arguments,
            prog=program,
            description=description,
            args=argv,
            default=arguments(preset, _default(given, kind, defaults)),
            registry=_registry(),
        )
        config: SettingsT = typed.config
        validate(config)
        check_device(config.device)
    return config, preset


def _default(
    given: Mapping[str, Any],
    kind: type[SettingsT],
    defaults: Callable[[str, Preset], SettingsT],
) -> SettingsT:
    """What stands where nothing is `given`: the preset's settings, or those of a folder's run.

    Raises:
        ConfigError: they cannot be read.
    """
    saved = saved_config(given["run_dir"], kind) if given.get("run_dir") else None
    if saved is None or given.get("env", saved.env) != saved.env:
        return defaults(given.get("env", kind.env), given.get("preset", "default"))
    if "preset" not in given:
        return saved
    return override(defaults(saved.env, given["preset"]), {"env_args": saved.env_args})


def default_run_dir(config: Config, preset: Preset = "default") -> str:
    """`runs/ENV-ALGORITHM-seedK`, `seedKtoL` for several; a preset has folders of its own.

    Arguments of the task stand behind its name.
    """
    seeds = f"{config.seed}"
    if config.seeds > 1:
        seeds += f"to{config.seed + config.seeds - 1}"
    task = "-".join([config.env, *config.env_args])
    return run_dir_named(f"{task}-{short_name(config.algorithm)}-seed{seeds}", preset)


def run_dir_named(name: str, preset: Preset) -> str:
    """`runs/NAME`, and the preset's name if it is not default, in a file name's characters."""
    if preset != "default":
        name += f"-{preset}"
    return "runs/" + re.sub(r"[^\w.-]+", "-", name)


def print_config(config: SettingsT, console: Console, default: SettingsT) -> None:
    """Print what is used, one line or two per group; `*` marks what is not `default`'s."""
    plain = dict(_leaves(default))
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    groups: dict[str, list[Text]] = {}
    for name, value in _leaves(config):
        if among(name, config.unused):
            continue
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


def print_unused(config: Config, console: Console, argv: Sequence[str]) -> None:
    """Name the settings of a command line that change nothing, if there are any."""
    given = read_flags(argv, type(config), strict=False)
    if names := [name for name in given if among(name, config.unused)]:
        say(console, f"not used by {config.algorithm}: {', '.join(names)}")
    rollout = config.rollout
    grows = config.model_based and rollout.final_length > rollout.length
    if grows and rollout.length_at(config.steps) == rollout.length:
        say(
            console,
            f"rollouts do not grow in {config.steps:,} steps: from {rollout.length} to "
            f"{rollout.final_length} between rollout.growth_start = {rollout.growth_start:,} and "
            f"rollout.growth_end = {rollout.growth_end:,}",
        )


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
        return ",".join(map(str, value)) or "none"
    return "auto" if value is None else str(value) or "''"
