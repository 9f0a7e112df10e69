"""Write down exactly what is installed: the lock files of the two documented set-ups.

    python .ci/lock.py            in an environment that has them (`make lock`)
    python .ci/lock.py --check    do the lock files still fit pyproject.toml?

`requirements/core.txt` is what `pip install .` brings, `requirements/dev.txt` what `".[dev]"` adds.
pip takes them as constraints (`pip install . -c requirements/core.txt`), so that they say which
version of a package, and pyproject.toml which packages.  Digests are left to pip's own record:
with digests in a constraints file pip refuses to install a folder such as this one.
"""

from __future__ import annotations

import argparse
import re
import sys
import tomllib
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
LOCKS = {"core": (), "dev": ("dev",)}  # the file, and the extras it holds


def wanted(extras: Iterable[str]) -> list[Requirement]:
    """What pyproject.toml asks for here, with these extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = list(project["dependencies"])
    for extra in extras:
        lines += project["optional-dependencies"][extra]
    found = [Requirement(line) for line in lines]
    return [one for one in found if one.marker is None or one.marker.evaluate()]


def closure(asked: Iterable[Requirement]) -> dict[str, str]:
    """Name and version of everything these need, as installed."""
    pins: dict[str, str] = {}
    line = list(asked)
    while line:
        one = line.pop()
        name = re.sub(r"[-_.]+", "-", one.name).lower()
        if name in pins:
            continue
        try:
            package = distribution(one.name)
        except PackageNotFoundError:
            sys.exit(f"{one.name} is not installed: run this where everything is (make lock)")
        pins[name] = Version(package.version).public  # 2.13.0+cpu is a build of 2.13.0
        for text in package.requires or ():
            needed = Requirement(text)
            extras = one.extras or {""}
            if needed.marker is None or any(needed.marker.evaluate({"extra": e}) for e in extras):
                line.append(needed)
    return pins


def locked(path: Path) -> dict[str, str]:
    lines = path.read_text(encoding="utf-8").splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def misfits() -> list[str]:
    """What pyproject.toml asks for and a lock file does not give."""
    found = []
    for name, extras in LOCKS.items():
        pins = locked(ROOT / "requirements" / f"{name}.txt")
        for one in wanted(extras):
            pin = pins.get(re.sub(r"[-_.]+", "-", one.name).lower())
            if pin is None or not one.specifier.contains(pin, prereleases=True):
                found.append(f"requirements/{name}.txt: {one} is asked for, {pin} is locked")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="only compare with pyproject.toml")
    if parser.parse_args().check:
        found = misfits()
        print("\n".join(found) or "lock files: they fit pyproject.toml")
        return 1 if found else 0
    for name, extras in LOCKS.items():
        pins = closure(wanted(extras))
        head = f"# Constraints for pip, written by .ci/lock.py: {len(pins)} packages.\n"
        text = "".join(f"{package}=={version}\n" for package, version in sorted(pins.items()))
        (ROOT / "requirements" / f"{name}.txt").write_text(head + text, encoding="utf-8")
        print(f"requirements/{name}.txt: {len(pins)} packages")
    return 0


if __name__ == "__main__":
    sys.exit(main())
