"""The arrows of CONTRIBUTING.md, checked: who may import what from another room.

Read from the source, not by importing, so that a stray import is found even where its package is
missing.
"""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# A room may import these parts of other rooms.  What is not listed here is not a room.
ARROWS = {
    "configs": (),
    "matting": (),
    "tracking": ("matting.frames",),
    "stream": ("matting.frames",),
    "engines": ("matting.frames", "matting.network"),
    "web": ("configs", "stream", "engines", "tracking", "matting.frames", "run_stream", "troupe"),
    "troupe": ("configs", "stream", "engines", "tracking", "matting.frames", "run_stream"),
    "run_stream": (
        "commands", "configs", "stream", "engines", "tracking", "cluster", "matting.frames",
    ),
    "cluster": ("configs", "stream", "engines", "matting.frames"),
    "commands": ("configs", "stream", "engines", "tracking", "matting.frames"),
    "bench": (
        "configs", "stream", "engines", "tracking", "matting", "run_stream", "troupe", "web",
        "cluster",
    ),
}
# Nobody but these may import the recipe that made the weights.
TRAINERS = ("matting/training", "bench", "tests")
# Running the shipped network on a CPU needs no torch: these must import without it.
WITHOUT_TORCH = (
    "run_stream", "configs", "tracking", "matting.frames", "engines", "engines.base",
    "stream.decode", "stream.overlap", "stream.stages", "stream.compose", "stream.encode",
    "stream.sheet", "stream.store", "commands.finalize", "troupe", "web.server", "web.command",
    "engines.openvino_engine", "engines.onnxruntime_engine",
)  # fmt: skip


def sources(room: str) -> list[Path]:
    single = ROOT / f"{room}.py"
    return [single] if single.exists() else sorted((ROOT / room).rglob("*.py"))


def imports(file: Path) -> set[str]:
    """Every module this file imports, at its head or inside a function, as dotted names."""
    names = set()
    package = file.relative_to(ROOT).with_suffix("").parts[:-1]
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*base, *([node.module] if node.module else [])])
            names |= {f"{module}.{alias.name}" for alias in node.names}
    return names


def under(name: str, part: str) -> bool:
    return name == part or name.startswith(part + ".")


def strays(room: str) -> list[str]:
    return [
        f"{file.relative_to(ROOT)} imports {name}"
        for file in sources(room)
        for name in sorted(imports(file))
        if name.split(".")[0] in ARROWS.keys() - {room}
        and not any(under(name, allowed) for allowed in ARROWS[room])
    ]


@pytest.mark.parametrize("room", ARROWS)
def test_rooms_import_only_along_the_arrows(room):
    assert strays(room) == []


def test_nothing_imports_the_web_page_or_the_training():
    found = []
    for file in sorted(ROOT.rglob("*.py")):
        where = file.relative_to(ROOT).as_posix()
        if where.startswith((".", "build/")):
            continue
        for name in imports(file):
            if under(name, "matting.training") and not where.startswith(TRAINERS):
                found.append(f"{where} imports {name}")
            if under(name, "web") and not where.startswith(("web/", "tests/", "bench/")):
                found.append(f"{where} imports {name}")

    assert found == []


def test_every_room_with_code_has_its_arrows_written_down():
    rooms = {
        path.parent.name for path in ROOT.glob("*/*.py") if not path.parent.name.startswith(".")
    } | {path.stem for path in ROOT.glob("*.py")}

    assert rooms - ARROWS.keys() <= {"tests"}


def test_a_cpu_run_needs_no_torch():
    """An import of torch anywhere on the way fails here, also where torch is installed."""
    modules = [m for m in WITHOUT_TORCH if _exists(m)]
    code = (
        "import sys; sys.modules['torch'] = None; import importlib\n"
        f"for name in {modules!r}: importlib.import_module(name)"
    )

    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)

    assert run.returncode == 0, run.stderr


def _exists(module: str) -> bool:
    path = ROOT / Path(*module.split("."))
    return path.with_suffix(".py").exists() or (path / "__init__.py").exists()


def test_the_reader_of_imports_sees_every_spelling(tmp_path, monkeypatch):
    file = tmp_path / "engines" / "odd.py"
    file.parent.mkdir()
    file.write_text("def f():\n    from stream import decode\n    from . import base\nimport web.a")
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)

    assert imports(file) == {"stream.decode", "engines.base", "web.a"}
