"""Write docs/third_party_licences.md: the licence of each package that dr_tf installs, as the package itself states it.

    .venv/bin/python docs/licences.py

Packages that only the tests or this documentation need are left out; so are those of extras that are not installed.
"""

import ast
import pathlib
import re
from collections.abc import Iterable, Iterator
from importlib import metadata
from typing import Any

from packaging.requirements import Requirement

PAGE = pathlib.Path(__file__).parent / "third_party_licences.md"
EXTRAS = ("", "train", "export", "litert", "app", "serve", "dicom", "excel", "bucket")
# Classifiers and free texts, where a package has no SPDX expression -> SPDX expression.
SPDX = {
    "Apache Software License": "Apache-2.0", "Apache 2.0": "Apache-2.0", "Apache License 2.0": "Apache-2.0",
    "Apache License, Version 2.0": "Apache-2.0", "Apache 2": "Apache-2.0", "Apache": "Apache-2.0",
    "BSD License": "BSD-3-Clause", "BSD": "BSD-3-Clause", "3-Clause BSD License": "BSD-3-Clause", "MIT License": "MIT",
    "ISC License (ISCL)": "ISC", "Python Software Foundation License": "PSF-2.0",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
}  # fmt: skip
INTRODUCTION = """\
# Third-party licences

dr_tf is licensed under Apache 2.0. It installs the packages below, each under its own licence, stated here as the package
states it. This page is made by `docs/licences.py`. `make audit` writes a software bill of materials with the hashes of all
packages to `build/sbom.json`.

The weights of the model that comes with dr_tf started from the ImageNet weights of EfficientNet-Lite0 (Apache-2.0) and were
trained on photographs of [IDRiD](https://doi.org/10.21227/H25W98) (CC-BY-4.0).

| Package | Version | Licence | Extra |
|---|---|---|---|
"""


def stated(name: str) -> Any:
    """Return a literal of setup.py: the installed metadata of an editable install may be old."""
    nodes = ast.parse((PAGE.parents[1] / "setup.py").read_text(encoding="utf-8")).body
    return next(
        ast.literal_eval(node.value)
        for node in nodes
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name
    )


def needed(extra: str) -> dict[str, metadata.Distribution]:
    """Return {name: package} of what an extra of dr_tf installs, and a base install for ""."""
    found: dict[str, metadata.Distribution] = {}

    def add(requirements: Iterable[str], extras: set[str]) -> None:
        for requirement in map(Requirement, requirements):
            if requirement.marker and not any(requirement.marker.evaluate({"extra": name}) for name in extras | {""}):
                continue
            name = re.sub(r"[-_.]+", "-", requirement.name).lower()
            try:
                package = metadata.distribution(requirement.name)
            except metadata.PackageNotFoundError:
                continue
            if name not in found:
                found[name] = package
                add(package.requires or (), set(requirement.extras))

    add(stated("EXTRAS")[extra] if extra else stated("BASE"), set())
    return found


def licence(package: metadata.Distribution) -> str:
    """Return the SPDX expression of a package's licence, or what it says of it."""
    about = package.metadata
    if expression := about.get("License-Expression"):
        return SPDX.get(expression, expression)
    classifiers = [
        text.split(" :: ")[-1] for text in about.get_all("Classifier") or () if text.startswith("License ::")
    ]
    texts = [text for text in classifiers if text != "OSI Approved"] or [(about.get("License") or "").strip()]
    texts = [SPDX.get(line, line) for text in texts for line in text.splitlines()[:1]]
    return " AND ".join(sorted(set(texts))) or "not stated"


def rows() -> Iterator[tuple[str, str, str, str]]:
    """Yield (package, version, licence, first extra that needs it), sorted by name."""
    first: dict[str, tuple[metadata.Distribution, str]] = {}
    for extra in EXTRAS:
        for name, package in needed(extra).items():
            first.setdefault(name, (package, extra))
    for name, (package, extra) in sorted(first.items()):
        yield name, package.version, licence(package), extra or "base"


def page() -> str:
    """Return the page."""
    return INTRODUCTION + "".join(f"| {' | '.join(row)} |\n" for row in rows())


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
