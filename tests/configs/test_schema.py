"""Settings: what a user wrote is what the program does, or the program says why not."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.schema import ConfigError, Settings, load

CONFIGS = Path(__file__).parents[2] / "configs"
PRESETS = sorted(p for p in CONFIGS.glob("*.yaml") if not p.name.startswith("train"))  # own schema


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def complaint(tmp_path: Path, text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(written(tmp_path, text))
    return str(caught.value)


def test_nothing_said_means_the_defaults(tmp_path):
    assert load() == Settings()
    assert load(written(tmp_path, "")) == Settings()
    assert load(written(tmp_path, "engine:\n")) == Settings()


def test_the_command_line_wins_over_set_which_wins_over_the_file(tmp_path):
    file = written(tmp_path, "engine: {threads: 1, score_threshold: 0.3, backends: [torch]}")

    settings = load(
        file,
        overrides=["engine.threads=2", "engine.score_threshold=0.4"],
        options={"engine": {"threads": 3}},
    )

    assert settings.engine.threads == 3
    assert settings.engine.score_threshold == 0.4
    assert settings.engine.backends == ("torch",)


def test_people_of_all_layers_are_put_together(tmp_path):
    file = written(tmp_path, "look: {people: {1: blur, 2: remove}}")

    settings = load(file, ["look.people.2=keep"], {"look": {"people": {7: "beach.jpg"}}})

    assert settings.look.people == {1: "blur", 2: "keep", 7: "beach.jpg"}


def test_a_misspelt_key_is_answered_with_file_key_and_the_nearest_match(tmp_path):
    said = complaint(tmp_path, "engine: {score_treshold: 0.4}")

    assert "mine.yaml" in said
    assert "engine.score_treshold" in said
    assert "did you mean engine.score_threshold?" in said


def test_a_key_in_the_wrong_section_is_answered_with_the_right_one(tmp_path):
    assert "did you mean engine.threads?" in complaint(tmp_path, "threads: 2")


def test_a_key_like_no_other_is_answered_with_what_there_is(tmp_path):
    assert "engine, tracking, people, look, output, pipeline" in complaint(tmp_path, "zzz: 2")


@pytest.mark.parametrize(
    ("text", "expected", "found"),
    [
        ("engine: {threads: two}", "a whole number", "'two'"),
        ("engine: {threads: 2.0}", "a whole number", "2.0"),
        ("engine: {threads: true}", "a whole number", "true"),
        ("engine: {backends: torch}", "a list", "'torch'"),
        ("engine: {backends: []}", "a list", "a list"),
        ("engine: {backends: [torch, 3]}", "text", "3"),
        ("engine: [1, 2]", "keys", "a list"),
        ("look: {background: 3}", "text", "3"),
        ("look: {people: [blur]}", "key: value", "a list"),
        ("look: {people: {anna: blur}}", "person's number", "'anna'"),
        ("look: {people: {0: blur}}", "person's number", "0"),
        ("output: {overwrite: 1}", "true or false", "1"),
        ("just text", "keys", "'just text'"),
    ],
)
def test_a_wrong_type_says_what_was_expected_and_found(tmp_path, text, expected, found):
    said = complaint(tmp_path, text)

    assert expected in said
    assert found in said


@pytest.mark.parametrize("value", ["-0.1", "1.5", ".nan", ".inf"])
def test_a_number_out_of_range_is_refused(tmp_path, value):
    said = complaint(tmp_path, f"engine: {{score_threshold: {value}}}")

    assert "between 0 and 1" in said


def test_yaml_reads_1e_3_as_text_and_we_say_what_to_write(tmp_path):
    assert "write 0.001" in complaint(tmp_path, "engine: {score_threshold: 1e-3}")


def test_yaml_reads_no_as_false_and_we_say_so(tmp_path):
    assert "put it in" in complaint(tmp_path, "look: {background: no}")
    assert "quotes" in complaint(tmp_path, "look: {no: blur}")


def test_yaml_takes_a_colour_for_a_comment_and_we_say_so(tmp_path):
    assert "comment" in complaint(tmp_path, "look:\n  background: #00ff00\n")


@pytest.mark.parametrize("number", ["010", "1:30"])
def test_yaml_rewrites_some_numbers_and_we_refuse_those(tmp_path, number):
    assert f"YAML reads {number} as" in complaint(tmp_path, f"engine: {{threads: {number}}}")


def test_a_repeated_key_is_refused_not_silently_dropped(tmp_path):
    said = complaint(tmp_path, "look:\n  background: blur\n  background: keep\n")

    assert "twice" in said
    assert "line 3" in said


def test_yaml_cannot_make_objects(tmp_path):
    assert "not YAML" in complaint(tmp_path, "engine: !!python/object/apply:os.getcwd []")


def test_broken_yaml_and_missing_files_are_said_plainly(tmp_path):
    assert "not YAML" in complaint(tmp_path, "engine: {threads: 2")
    with pytest.raises(ConfigError, match=r"no settings file .*absent.yaml"):
        load(tmp_path / "absent.yaml")


@pytest.mark.parametrize("text", ["engine.threads", "=2", "engine..threads=2", ""])
def test_set_wants_key_and_value(text):
    with pytest.raises(ConfigError, match="KEY=VALUE"):
        load(overrides=[text])


def test_set_takes_colours_and_names_its_own_mistakes():
    assert load(overrides=["look.background=#00ff00"]).look.background == "#00ff00"
    with pytest.raises(ConfigError, match=r"--set engine.thread=2: .*did you mean engine.threads"):
        load(overrides=["engine.thread=2"])


def test_the_offline_preset_spells_out_the_defaults():
    """Whoever copies it as a start should not change anything by that."""
    assert load(Path(__file__).parents[2] / "configs" / "offline.yaml") == Settings()


@pytest.mark.parametrize("preset", PRESETS, ids=lambda path: path.name)
def test_every_preset_is_valid_and_says_why_beside_every_number(preset):
    load(preset)

    bare = [
        line for line in preset.read_text(encoding="utf-8").splitlines()
        if any(c.isdigit() for c in line.split("#")[0]) and "#" not in line
    ]  # fmt: skip
    assert bare == []


@given(st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["engine", "look", "people", "threads", "backends"]) | st.text(max_size=4)
        | st.integers(), inner, max_size=4),
    max_leaves=12,
))  # fmt: skip
def test_whatever_is_written_gives_settings_or_a_config_error(values):
    try:
        settings = load(options=values if isinstance(values, dict) else {"engine": values})
    except ConfigError:
        return
    assert isinstance(settings, Settings)
