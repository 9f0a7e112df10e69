"""docs/reliability.md and the tests belong together: 76 cases, each with a test that exists."""

import ast
import re
from functools import cache
from pathlib import Path

TESTS = Path(__file__).parent
TABLE = TESTS.parent / "docs" / "reliability.md"
STATES = {"tested", "part", "live", "hardware"}


def rows() -> list[list[str]]:
    lines = TABLE.read_text(encoding="utf-8").splitlines()
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in lines
        if re.match(r"\|\s*\d+\s*\|", line)
    ]


@cache
def functions(file: str) -> set[str]:
    tree = ast.parse((TESTS / file).read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_every_case_is_in_the_table_once():
    assert [int(row[0]) for row in rows()] == list(range(1, 77))


def test_every_case_has_a_promise_and_a_state():
    for row in rows():
        assert len(row) == 5, row
        assert row[1] and row[2], row
        assert row[4] in STATES, row


def test_every_test_that_is_named_exists_and_no_tested_case_is_without_one():
    missing = []
    for case, _, _, tests, state in rows():
        named = re.findall(r"`([\w/]+\.py)::(\w+)`", tests)
        missing += [f"case {case}: {file}::{name}" for file, name in named
                    if not (TESTS / file).exists() or name not in functions(file)]  # fmt: skip
        assert named or state != "tested", f"case {case} is said to be tested, and names no test"
    assert missing == []
