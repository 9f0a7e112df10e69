"""The licence check of `make check` finds what it is there to find."""

import runpy
from email.message import Message
from pathlib import Path
from types import SimpleNamespace

import pytest

CHECK = runpy.run_path(str(Path(__file__).resolve().parent.parent / ".ci" / "licences.py"))


def package(**headers):
    about = Message()
    about["Name"] = "somebody"
    for name, value in headers.items():
        about[name.replace("_", "-")] = value
    return SimpleNamespace(metadata=about, version="1.0")


@pytest.mark.parametrize(
    "headers",
    [
        {"License_Expression": "AGPL-3.0-only"},
        {"License": "GNU Affero General Public License"},
        {"Classifier": "License :: OSI Approved :: GNU Affero General Public License v3"},
    ],
)
def test_agpl_is_found_wherever_a_package_states_it(headers):
    assert len(CHECK["refused"]([package(**headers)])) == 1


@pytest.mark.parametrize(
    "headers", [{}, {"License_Expression": "Apache-2.0"}, {"License": "LGPL-2.1-or-later"}]
)
def test_other_licences_pass(headers):
    assert CHECK["refused"]([package(**headers)]) == []
