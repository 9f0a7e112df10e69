"""What the documents say holds: code runs, links lead somewhere, settings and targets exist."""

import re
from pathlib import Path

import pytest

import engines
from configs.schema import setting_names
from tests.fakes import SquaresEngine, write_clip

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def text(document):
    return document.read_text(encoding="utf-8")


def test_the_lines_of_python_in_the_readme_run(tmp_path, monkeypatch, capsys):
    (code,) = re.findall(r"```python\n(.*?)```", text(ROOT / "README.md"), re.DOTALL)
    write_clip(tmp_path / "clip.mp4", frames=6)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(engines, "load_engine", lambda *_, **__: SquaresEngine())

    exec(compile(code, "README.md", "exec"), {})

    told = capsys.readouterr().out.splitlines()
    assert len([line for line in told if line.endswith(" 1 (96, 160)")]) == 6
    assert len([line for line in told if line.endswith(" 2 (96, 160)")]) == 6


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(document):
    links = re.findall(r"\]\((?!https?:)([^)#]+)", text(document))

    assert [link for link in links if not (document.parent / link).exists()] == []


def test_every_setting_that_is_recommended_exists():
    sections = "engine|tracking|look|pipeline|limits|cluster"
    recommended = re.findall(rf"`((?:{sections})\.\w+)", text(ROOT / "README.md"))
    recommended += re.findall(r"`(\w+\.\w+)(?:`|:)", text(ROOT / "docs" / "symptoms.md"))
    recommended += re.findall(r"--set (\w+\.\w+)=", "".join(map(text, DOCUMENTS)))

    files = {"alpha.mkv", "people.json"}
    assert "tracking.memory_seconds" in recommended
    assert set(recommended) - set(setting_names()) - files == set()


def test_every_make_target_that_is_named_exists():
    makefile = text(ROOT / "Makefile")
    named = set(re.findall(r"make ([a-z][a-z-]+)(?:`|\n| DATA)", "".join(map(text, DOCUMENTS))))

    assert {"demo", "test", "check", "bench", "train"} <= named
    assert {t for t in named if not re.search(rf"^{t}:", makefile, re.MULTILINE)} == set()
