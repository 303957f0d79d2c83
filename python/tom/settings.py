"""What every command's configuration is made of: a nested frozen dataclass with checked values.

Such a class is at once the command line (:mod:`tom.cli`), the saved `config.json`
(:mod:`tom.run_folder`) and the argument of the components. Numbers carry their allowed range beside
their default, and :func:`validate` checks all of them before anything is written.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast, get_args, get_origin, get_type_hints

Number = TypeVar("Number", int, float)

FLOAT32_MAX = 3.4028234663852886e38  # what the numbers become in the networks' arithmetic


class ConfigError(ValueError):
    """A setting that cannot be used; the message names it, what was given and what is allowed."""


@dataclass(frozen=True)
class Settings:
    """Base of the configurations."""

    if TYPE_CHECKING:  # Fields that every configuration has.

        @property
        def env(self) -> str:
            """The task."""

        @property
        def env_args(self) -> tuple[str, ...]:
            """The task's arguments, NAME=VALUE each."""

        @property
        def device(self) -> str:
            """Where the networks are computed."""

        @property
        def run_dir(self) -> str:
            """The run's folder."""

    @property
    def free(self) -> tuple[str, ...]:
        """Settings, or groups of them, with which a folder's run may go on in another value.

        They say where and how fast it happens, not what it computes.
        """
        return ("threads", "run_dir")

    @property
    def unused(self) -> tuple[str, ...]:
        """Settings, or groups of them, that mean nothing beside the others."""
        return ()

    def check(self) -> None:
        """Check the pairs of settings that must fit; raises :class:`ConfigError`."""


SettingsT = TypeVar("SettingsT", bound=Settings)


def bounded(
    default: Number,
    low: float,
    high: float = math.inf,
    *,
    open_low: bool = False,
    open_high: bool = False,
) -> Number:
    """A numeric field with its allowed range, `low <= x <= high`, without an end that is open."""
    bounds = {"low": low, "high": high, "open_low": open_low, "open_high": open_high}
    return field(default=default, metadata=bounds)


def walk(config: Any, prefix: str = "") -> Iterator[tuple[str, dataclasses.Field[Any], Any]]:
    """Yield (dotted name, field, value) of every leaf setting."""
    for item in dataclasses.fields(config):
        value = getattr(config, item.name)
        if dataclasses.is_dataclass(value):
            yield from walk(value, f"{prefix}{item.name}.")
        else:
            yield prefix + item.name, item, value


def among(name: str, names: Collection[str]) -> bool:
    """Whether these names of settings and groups have a setting's, or that of its group."""
    return name in names or name.partition(".")[0] in names


def override(config: SettingsT, values: Mapping[str, Any]) -> SettingsT:
    """A copy of `config` with settings replaced, such as `{"seeds": 3, "dual_q.steps": 5000}`.

    A group's own name replaces the whole group. Values are not checked here: :func:`validate` does,
    and so does whoever takes a configuration.

    Raises:
        ConfigError: a name that is not a setting.
    """
    known = types(type(config))
    whole = {name.partition(".")[0] for name in known}
    for name in values:
        if name not in known and name not in whole:
            near = [other for other in known if other.startswith(f"{name.split('.')[0]}.")]
            raise ConfigError(f"{name}: no such setting; allowed are {', '.join(near or known)}")
    groups: dict[str, dict[str, Any]] = {}
    changes: dict[str, Any] = {}
    for name, value in values.items():
        group, _, leaf = name.rpartition(".")
        if group:
            groups.setdefault(group, {})[leaf] = value
        else:
            changes[name] = value
    for group, leaves in groups.items():
        whole_group = changes.get(group, getattr(config, group))
        changes[group] = dataclasses.replace(whole_group, **leaves)
    return dataclasses.replace(config, **changes)


def to_dict(config: Settings) -> dict[str, Any]:
    """Nested plain data, as written to `config.json`."""
    return dataclasses.asdict(config)


def from_dict(kind: type[SettingsT], values: Mapping[str, Any]) -> SettingsT:
    """The inverse of :func:`to_dict`; also accepts what JSON makes of it (lists for tuples).

    Raises:
        ConfigError: a name that is not a setting.
    """
    return cast(SettingsT, _from_dict(kind, values, ""))


def _from_dict(kind: type, values: Mapping[str, Any], prefix: str) -> Any:
    hints = get_type_hints(kind)
    if not isinstance(values, Mapping):
        raise ConfigError(
            f"{prefix.rstrip('.') or 'config'}: given {values!r}, allowed is a group of settings"
        )
    unknown = sorted(set(values) - set(hints))
    if unknown:
        raise ConfigError(f"{prefix}{unknown[0]}: no such setting; allowed are {', '.join(hints)}")
    arguments: dict[str, Any] = {}
    for name, value in values.items():
        if dataclasses.is_dataclass(hints[name]):
            value = _from_dict(cast(type, hints[name]), value, f"{prefix}{name}.")
        elif isinstance(value, list):
            value = tuple(value)
        arguments[name] = value
    return kind(**arguments)


def validate(config: Settings) -> None:
    """Check every value against its allowed range or choices, then the pairs that must fit.

    Raises:
        ConfigError: one sentence naming the field, what was given and what is allowed.
    """
    check_values(config)
    config.check()


def check_values(config: Settings) -> None:
    """Check every value by itself.

    Raises:
        ConfigError: as :func:`validate`.
    """
    hints = types(type(config))
    for name, item, value in walk(config):
        if name not in hints:  # in the place of a group
            raise ConfigError(
                f"{name}: given a {type(value).__name__}, allowed is a group of settings; "
                f'tom.override(config, {{"{name}.NAME": value}}) changes one of them'
            )
        if get_origin(hints[name]) is Literal:
            allowed = get_args(hints[name])
            if value not in allowed:
                raise ConfigError(f"{name}: given {value!r}, allowed are {', '.join(allowed)}")
        else:
            _check_leaf(name, hints[name], item.metadata, value)


def _check_leaf(name: str, hint: Any, bounds: Mapping[str, Any], value: Any) -> None:
    if name.endswith("hidden"):
        widths = value if isinstance(value, tuple | list) else ()
        if not widths or any(type(width) is not int or width < 1 for width in widths):
            raise ConfigError(f"{name}: given {value!r}, allowed are widths of at least 1")
    elif bounds:
        low, high = bounds["low"], bounds["high"]
        above, below = bounds["open_low"], bounds["open_high"]
        least = f"above {low:g}" if above else f"of at least {low:g}"
        most = f" and {'below' if below else 'at most'} {high:g}" if high < math.inf else ""
        kind = "a whole number" if hint is int else "a number"
        ok = type(value) is int or (hint is not int and isinstance(value, float))
        ok = ok and (low < value if above else low <= value)
        if not ok or not (value < high if below else value <= high):
            raise ConfigError(f"{name}: given {value!r}, allowed is {kind} {least}{most}")
        if hint is not int and value > FLOAT32_MAX:
            raise ConfigError(
                f"{name}: given {value}, allowed is a finite number in float32's range"
            )
    elif isinstance(value, float) and not abs(value) <= FLOAT32_MAX:
        raise ConfigError(f"{name}: given {value}, allowed is a finite number in float32's range")
    elif hint == tuple[str, ...]:
        if not isinstance(value, tuple) or not all(isinstance(word, str) for word in value):
            raise ConfigError(f"{name}: given {value!r}, allowed are words")
    elif hint == float | None and not isinstance(value, int | float | None):
        raise ConfigError(f"{name}: given {value!r}, allowed is a number or None")
    elif isinstance(hint, type) and not isinstance(value, hint):
        raise ConfigError(f"{name}: given {value!r}, allowed is a {hint.__name__}")


def types(kind: type, prefix: str = "") -> dict[str, Any]:
    """Dotted name → type of every leaf setting."""
    found: dict[str, Any] = {}
    for name, hint in get_type_hints(kind).items():
        if dataclasses.is_dataclass(hint):
            found.update(types(cast(type, hint), f"{prefix}{name}."))
        else:
            found[prefix + name] = hint
    return found
