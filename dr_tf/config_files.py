"""Finds config files: a path as given, or the name of a config that comes with dr_tf, such as `idrid_transfer`."""

from __future__ import annotations

import difflib
import os
import pathlib

from dr_tf.console import UserError

_PACKAGE = pathlib.Path(__file__).parent
_GRIDS = "grids"


def shipped_folder() -> pathlib.Path:
    """Return the folder of the configs that come with dr_tf: inside the installed package, or `configs/` of a checkout."""
    installed = _PACKAGE / "configs"
    return installed if installed.is_dir() else _PACKAGE.parent / "configs"


def find_config(name: str | os.PathLike) -> str:
    """Return the path of a config for `--gin_file`.

    Args:
        name: a path, or the name of a shipped config without its folder, with or without `.gin`.

    Raises:
        UserError: there is neither such a file nor such a shipped config. The message lists similar names.
    """
    return _find(name, _stems(grids=False), "config")


def find_grid(name: str | os.PathLike) -> str:
    """Return the path of a config for `--grid_file`, which has `grid.parameters`. As `find_config`."""
    return _find(name, _stems(grids=True), "grid")


def _stems(*, grids: bool) -> dict[str, pathlib.Path]:
    files = sorted(shipped_folder().rglob("*.gin"))
    return {path.stem: path for path in files if (path.parent.name == _GRIDS) == grids}


def _find(name: str | os.PathLike, shipped: dict[str, pathlib.Path], kind: str) -> str:
    given = pathlib.Path(name)
    if given.is_file():
        return str(given)
    stem = given.name.removesuffix(".gin")
    if len(given.parts) == 1 and stem in shipped:
        return str(shipped[stem])
    similar = difflib.get_close_matches(stem, shipped, n=3)
    known = f"did you mean {' or '.join(similar)}?" if similar else f"dr_tf comes with {', '.join(sorted(shipped))}"
    raise UserError(f"there is no {kind} {os.fspath(name)!r}: neither a file nor a shipped {kind}; {known}")
