"""Numbers put right in finished results: what is not concerned stays the same to the bit."""

import hashlib
import json
from fractions import Fraction

import av
import numpy as np
import pytest

import run_stream
from stream import identities
from stream.decode import InputError, open_source
from stream.encode import Deliverables
from tests.fakes import Square, SquaresEngine, named, write_clip

TIMES = [0, 3000, 12000, 12100, 12345, 40001, 90000]  # in ticks of 1/90000 s
RED, GREEN, BLUE = 1, 2, 3


@pytest.fixture
def out(tmp_path):
    """Red throughout, green in the first four frames, blue from the third frame on."""
    people = [
        Square("red", (8, 8), (0, 3)),
        Square("green", (40, 8), (0, 4), last=3),
        Square("blue", (40, 90), (0, -2), first=2),
    ]
    clip = write_clip(
        tmp_path / "clip.mp4", squares=people, pts=TIMES, time_base=Fraction(1, 90000)
    )
    engine, state = SquaresEngine(), 0
    folder = tmp_path / "out"
    with open_source(str(clip)) as source, Deliverables(folder, source) as files:
        for frame in source.frames():
            mattes, state = engine.step(frame.rgb, state)
            files.write(frame, named(mattes), frame.rgb)
    return folder


def tracks(out):
    """Number -> (title, packets, mattes)."""
    found = {}
    with av.open(str(out / "alpha.mkv")) as file:
        for stream in file.streams.video:
            found[int(stream.metadata["PERSON_ID"])] = (stream.metadata["title"], [], [])
        for packet in file.demux(*file.streams.video):
            if packet.size:
                number = int(packet.stream.metadata["PERSON_ID"])
                found[number][1].append(hashlib.sha256(bytes(packet)).hexdigest())
                for picture in packet.decode():
                    found[number][2].append(picture.to_ndarray(format="gray"))
    return found


def people(out):
    document = json.loads((out / "people.json").read_text())
    return {person["id"]: person for person in document["people"]}


def exact_times(out):
    with av.open(str(out / "alpha.mkv")) as file:
        (attached,) = file.streams.attachments
        return json.loads(bytes(attached.data))["pts"]


@pytest.mark.parametrize(
    ("typed", "name"),
    [("Anna", "Anna"), ("..", None), (" a\nb. ", "a_b"), ("7", None), ("x" * 80, "x" * 60),
     ("", None), ("Zoë 🙂", "Zoë 🙂")],
)  # fmt: skip
def test_what_was_typed_becomes_a_name_where_it_can(typed, name):
    made = identities.usable({3: typed})

    assert made.get(3) == name
    if name:
        assert identities.checked_name(made[3]) == name


def test_a_name_reaches_the_track_and_the_register_and_changes_nothing_else(out):
    before, told = tracks(out), people(out)
    pts = exact_times(out)

    identities.rename(out, {GREEN: "anna"})

    after = tracks(out)
    assert after[GREEN][0] == "anna" and after[RED][0] == "Person 1"
    assert {n: t[1] for n, t in after.items()} == {n: t[1] for n, t in before.items()}
    assert people(out) == {**told, GREEN: {**told[GREEN], "name": "anna"}}
    assert exact_times(out) == pts
    assert sorted(p.name for p in out.iterdir()) == ["alpha.mkv", "composite.mp4", "people.json"]


def test_two_numbers_become_one_person_where_they_take_turns_and_where_they_meet(out):
    before = tracks(out)

    identities.merge(out, GREEN, [BLUE])

    after = tracks(out)
    assert sorted(after) == [RED, GREEN]
    assert after[RED][1] == before[RED][1]
    assert after[GREEN][1][:2] == before[GREEN][1][:2]  # green alone: the same packets
    assert after[GREEN][1][4:] == before[BLUE][1][4:]  # blue alone
    for frame in (2, 3):  # both: their mattes together
        both = np.maximum(before[GREEN][2][frame], before[BLUE][2][frame])
        assert (after[GREEN][2][frame] == both).all() and both.any()
    told = people(out)
    assert told[GREEN]["present"] == list(range(7)) and BLUE not in told
    box = told[GREEN]["boxes"][2]
    assert box[0] < 40 and box[2] > 90  # around both


def test_from_a_moment_on_it_was_someone_else(out):
    before, told = tracks(out), people(out)

    new = identities.split(out, RED, 12345 / 90000)

    after = tracks(out)
    assert new == 4
    assert after[RED][1][:4] == before[RED][1][:4] and not np.any(after[RED][2][4:])
    assert after[4][1][4:] == before[RED][1][4:] and not np.any(after[4][2][:4])
    assert people(out)[4]["boxes"] == told[RED]["boxes"][4:]
    assert people(out)[4]["first_pts"] == 12345
    identities.merge(out, RED, [4])
    assert tracks(out)[RED][1] == before[RED][1]
    assert people(out) == told


def test_someone_is_taken_out_and_at_last_everyone(out):
    before = tracks(out)
    identities.delete(out, [GREEN])
    after = tracks(out)
    assert sorted(after) == [RED, BLUE]
    assert after[RED][1] == before[RED][1] and after[BLUE][1] == before[BLUE][1]

    identities.delete(out, [RED, BLUE])
    ((title, packets, mattes),) = tracks(out).values()
    assert title == "no one" and len(packets) == 7 and not np.any(mattes)
    assert people(out) == {}


def test_deliverables_made_afterwards_carry_the_name_and_the_edited_mattes(out):
    from stream.finalize import Wishes, deliver

    identities.rename(out, {RED: "anna"})
    identities.merge(out, GREEN, [BLUE])
    deliver(out, Wishes(presets=("disco",)))

    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["disco"]["files"][0]["people"] == {"1": "anna", "2": "person_0002"}


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (["merge", "1", "9"], "there is no person 9; there are 1, 2, 3"),
        (["merge", "1", "1"], "name everyone once"),
        (["split", "2", "7"], "nothing is left on one side of 7 s"),
        (["rename", "2", "a/b"], "cannot be a name"),
        (["rename", "2", "17"], "cannot be a name"),
        (["rename", "2"], "ids --help"),
        (["explode", "2"], "invalid choice"),
    ],
)
def test_what_makes_no_sense_is_said_and_changes_nothing(out, capsys, wrong, said):
    before = (out / "alpha.mkv").read_bytes(), (out / "people.json").read_bytes()

    code = run_stream.main(["ids", wrong[0], str(out), *wrong[1:]])

    assert code == 2 and said in capsys.readouterr().err
    assert ((out / "alpha.mkv").read_bytes(), (out / "people.json").read_bytes()) == before


def test_one_name_for_two_people_is_refused(out):
    identities.rename(out, {RED: "anna"})
    with pytest.raises(identities.IdentityError, match="merge them"):
        identities.rename(out, {GREEN: "anna"})
    identities.rename(out, {RED: None, GREEN: "anna"})
    assert "name" not in people(out)[RED]


def test_a_folder_without_results_is_an_input_error(tmp_path, capsys):
    assert run_stream.main(["ids", "list", str(tmp_path)]) == 3
    assert "holds no results" in capsys.readouterr().err
    with pytest.raises(InputError):
        identities.listed(tmp_path)


def test_the_list_is_for_people_and_for_programs(out, capsys):
    assert run_stream.main(["ids", "rename", str(out), "1", "anna", "--quiet"]) == 0
    assert run_stream.main(["ids", "list", str(out)]) == 0
    first = capsys.readouterr().out.splitlines()[0]
    assert first.split()[:3] == ["1", "anna", "7"]

    assert run_stream.main(["ids", "list", str(out), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [person["name"] for person in told["people"]] == ["anna", None, None]
