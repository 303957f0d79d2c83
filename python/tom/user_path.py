"""Paths as users write them."""

from __future__ import annotations

from pathlib import Path

from tom.settings import ConfigError


def user_path(path: str | Path, given: str, allowed: str = "a folder") -> Path:
    """The path, with the home folder in place of a leading ~ or ~user.

    Args:
        path: what was written.
        given: setting and value, for messages: "run_dir: given ~/run".
        allowed: what it is to be, for messages.

    Raises:
        ConfigError: a user whose home folder is not known.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise ConfigError(
            f"{given}, whose home folder is not known, allowed is {allowed}"
        ) from error
