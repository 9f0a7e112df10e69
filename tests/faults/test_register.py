"""Case 75: whatever is in people.json, whoever reads it answers in one sentence."""

import contextlib
import copy
import io
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stream import sheet
from tests.fakes import write_clip
from tests.faults.builders import run

GONE = object()
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
    | st.sampled_from([0, -1, 10**400, 1 << 40, "1e999999999", "1/0", "../..", "/dev/zero", "\0",
                       "\udcff\ud800" * 3000]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner,
                                                                max_size=3),
    max_leaves=4,
)  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A finished run; its two files as they were."""
    folder = tmp_path_factory.mktemp("register")
    clip = write_clip(folder / "clip.mp4", frames=4)
    assert run(clip, "-o", folder / "out", "--quiet") == 0
    out = folder / "out"
    return clip, out, (out / "people.json").read_bytes(), (out / "alpha.mkv").read_bytes()


def places(value, path=()):
    """The way to every value of a document; of long lists, to the first two of them."""
    found = [path]
    if isinstance(value, dict):
        for key in value:
            found += places(value[key], (*path, key))
    elif isinstance(value, list):
        for index in range(min(2, len(value))):
            found += places(value[index], (*path, index))
    return found


def edited(document, path, value):
    if not path:
        return value
    document = copy.deepcopy(document)
    inner = document
    for key in path[:-1]:
        inner = inner[key]
    if value is GONE:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    return document


def answers(made, text):
    """The exit code and the last words of everyone who reads people.json when it says this."""
    clip, out, _, alpha = made
    found = {}
    for words in (
        ("ids", "list", out), ("ids", "rename", out, "1", "anna"), ("finalize", out),
        ("finalize", out, "--preset", "matte", "--overwrite"), ("sheet",),
    ):  # fmt: skip
        (out / "people.json").write_bytes(text)
        said = io.StringIO()
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            code = sheet.main([str(clip), str(out)]) if words == ("sheet",) else run(*words)
        found[" ".join(map(str, words))] = code, said.getvalue()
        if (out / "alpha.mkv").stat().st_size != len(alpha):
            (out / "alpha.mkv").write_bytes(alpha)
    return found


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("people", 0, "present", 0), 10**30),
        (("people", 0, "present"), []),
        (("people", 0, "boxes", 0), [1, 2, 3]),
        (("people", 0, "scores"), GONE),
        (("people", 0, "id"), 7),  # nobody's track
        (("people", 1, "id"), 1),
        (("people", 0, "name"), ".."),  # would name a folder
        (("people", 0, "first_seconds"), float("nan")),
        (("time_base",), "1e999999999"),  # as a number, days of work
        (("time_base",), "1/7"),
        (("size",), [60000, 60000]),
        (("frames",), 5),
        (("people",), {}),
        (("about",), []),
        ((), [1, 2]),
        ((), None),
    ],
)
def test_a_register_that_cannot_be_is_refused_by_everyone_who_reads_it(made, path, value):
    text = json.dumps(edited(json.loads(made[2]), path, value)).encode()

    for words, (code, said) in answers(made, text).items():
        if words.startswith("ids list") or words.endswith("out"):  # look at people.json alone
            assert code in (0, 3), (words, said)
        elif words != "sheet":
            last = said.splitlines()[-1]
            assert last.startswith("error: "), words
            nobody = code == 2 and "there is no person 1" in last
            assert nobody or (code == 3 and "people.json" in last), words


@pytest.mark.parametrize("text", [b"", b"\xff\xfe", b"{", b"[" * 100_000, b'{"kind": "video"}'])
def test_what_is_no_register_at_all_is_refused(made, text):
    for words, (code, said) in answers(made, text).items():
        assert code == (0 if words == "sheet" else 3) or code == 3, (words, said)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(data=st.data())
def test_any_edit_of_the_register_gives_an_answer_and_never_a_traceback(made, data):
    document = json.loads(made[2])
    path = data.draw(st.sampled_from(places(document)))
    value = data.draw(JSON | (st.just(GONE) if path else st.nothing()))
    changed = edited(document, path, value)

    for words, (code, said) in answers(made, json.dumps(changed).encode()).items():
        assert code in (0, 2, 3), (words, changed, said)
        assert "Traceback" not in said and "our mistake" not in said
        if code:
            assert said.splitlines()[-1].startswith("error: "), said
