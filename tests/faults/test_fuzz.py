"""Case 16: mutated files, seeded, so that a failure can be made again; `make fuzz` goes further."""

import pytest

from tests.faults.fuzz import CORPUS, fuzz, tried


def test_a_thousand_mutated_files_break_no_promise():
    defects = fuzz(1000, seed=20261122)

    assert [f"{defect.path.name}: {defect.what}" for defect in defects] == []


@pytest.mark.parametrize("whole", [False, True], ids=["decoded", "whole"])
def test_every_file_that_ever_mattered_still_ends_well(tmp_path, whole):
    """The corpus, in this process: what is wrong with a file is seen in the traceback."""
    files = sorted(CORPUS.glob("*.*"))
    for file in files[:: 3 if whole else 1]:
        assert tried(file, whole)

    assert len(files) >= 50
