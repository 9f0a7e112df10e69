"""Refuse packages under the AGPL among everything that is installed beside us.

Their terms would reach whoever runs Troupe behind a web page.  Read from the packages' own
metadata, so it needs no network: `python .ci/licences.py`.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from importlib.metadata import Distribution, distributions

REFUSED = re.compile(r"\bAGPL|Affero", re.IGNORECASE)


def stated(package: Distribution) -> str:
    """What a package says its licence is; whole licence texts are cut to their title."""
    about = package.metadata
    says = [about.get("License-Expression") or "", (about.get("License") or "")[:200]]
    says += [c for c in about.get_all("Classifier") or [] if c.startswith("License")]
    return "; ".join(text for text in says if text)


def refused(packages: Iterable[Distribution]) -> list[str]:
    return [
        f"{package.metadata['Name']} {package.version}: {stated(package)}"
        for package in packages
        if REFUSED.search(stated(package))
    ]


def main() -> int:
    packages = list(distributions())
    found = refused(packages)
    for line in found:
        print(f"refused, AGPL: {line}", file=sys.stderr)
    print(f"licences: {len(packages)} packages looked at, {len(found)} refused")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
