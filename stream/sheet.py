"""A contact sheet of a finished run: one picture that shows whether people came out as people.

    python -m stream.sheet clip.mp4 out/

Rows are moments of the clip; columns are the frame, each person's matte and the composite.  Reads
the files a run left behind, so what it shows is what the next program will open.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import av
import cv2
import numpy as np

from stream import register
from stream.compose import write_text
from stream.decode import InputError, open_source

MOMENTS = 5  # rows
CELL_WIDTH = 320  # pixels
MOST_PEOPLE = 6  # columns of people; a sheet of a crowd would be wider than any screen
GAP = 6  # pixels between cells
HEAD = 26  # pixels for the line of text above a column


def contact_sheet(uri: str, out: Path, moments: int = MOMENTS) -> np.ndarray:
    """The sheet of the run that turned the video `uri` into the files in `out`: (H, W, 3) RGB.
    A run of tracks alone has no column for the composite.

    Raises InputError where a file is missing or is not what a run leaves behind.
    """
    alphas, composite = out / "alpha.mkv", out / "composite.mp4"
    if not alphas.is_file():
        raise InputError(
            f"there is no {alphas}; make it first: python run_stream.py {uri} -o {out}"
        )
    titles = _tracks(alphas)
    when = evenly(_frames(alphas), moments)
    # A sheet of results that were moved about without their register is still a sheet.
    known = register.read_document(out) if (out / register.PEOPLE).exists() else {}
    chosen = known.get("video_stream")
    if chosen is not None and type(chosen) is not int:
        raise InputError(f"{out / register.PEOPLE} is not as a run writes it: video_stream")
    with open_source(uri, video_stream=chosen) as source:
        pictures = [(frame.rgb, frame.seconds) for frame in _picked(source.frames(), when)]
    columns = [("frame", [_cell(rgb) for rgb, _ in pictures])]
    shown = _most_present(alphas, len(titles), when)
    for track in shown:
        mattes = [_cell(cv2.cvtColor(alpha, cv2.COLOR_GRAY2RGB))
                  for alpha in _picked(_alphas(alphas, track), when)]  # fmt: skip
        columns.append((titles[track], mattes))
    if composite.is_file():
        columns.append(("composite", [_cell(rgb) for rgb in _picked(_colours(composite), when)]))
    return _laid_out(columns, [f"{seconds:.1f} s" for _, seconds in pictures])


def evenly(frames: int, moments: int) -> list[int]:
    """Indices of at most `moments` different frames, spread over the clip, off its very ends."""
    return sorted({int((i + 0.5) * frames / moments) for i in range(moments)}) if frames else []


def _tracks(path: Path) -> list[str]:
    """The titles of the alpha tracks."""
    with av.open(str(path)) as file:
        return [
            stream.metadata.get("title", f"track {i + 1}")
            for i, stream in enumerate(file.streams.video)
        ]


def _frames(path: Path) -> int:
    with av.open(str(path)) as file:
        return sum(1 for packet in file.demux(video=0) if packet.size)


def _most_present(path: Path, tracks: int, when: Sequence[int]) -> list[int]:
    """The tracks to show: those that cover most of the picture at these moments, in their order."""
    if tracks <= MOST_PEOPLE:
        return list(range(tracks))
    cover = [sum(float(a.mean()) for a in _picked(_alphas(path, i), when)) for i in range(tracks)]
    return sorted(sorted(range(tracks), key=lambda i: -cover[i])[:MOST_PEOPLE])


def _picked(items: Iterable, when: Sequence[int]) -> Iterator:
    """The items at these rising indices; stops reading after the last."""
    wanted = set(when)
    for i, item in enumerate(items):
        if i in wanted:
            yield item
        if when and i >= when[-1]:
            return


def _alphas(path: Path, track: int) -> Iterator[np.ndarray]:
    with av.open(str(path)) as file:
        for frame in file.decode(file.streams.video[track]):
            yield frame.to_ndarray(format="gray")


def _colours(path: Path) -> Iterator[np.ndarray]:
    with av.open(str(path)) as file:
        for frame in file.decode(file.streams.video[0]):
            yield frame.to_ndarray(format="rgb24")


def _cell(rgb: np.ndarray) -> np.ndarray:
    height = max(1, round(rgb.shape[0] * CELL_WIDTH / rgb.shape[1]))
    return cv2.resize(rgb, (CELL_WIDTH, height), interpolation=cv2.INTER_AREA)


def _laid_out(columns: list[tuple[str, list[np.ndarray]]], rows: list[str]) -> np.ndarray:
    height = max((cell.shape[0] for _, cells in columns for cell in cells), default=0)
    sheet = np.full(
        (HEAD + len(rows) * (height + GAP), len(columns) * (CELL_WIDTH + GAP) + GAP, 3),
        32,
        np.uint8,
    )
    for i, (title, cells) in enumerate(columns):
        left = GAP + i * (CELL_WIDTH + GAP)
        write_text(sheet, title, (left + 4, HEAD - 8), 0.5)
        for j, cell in enumerate(cells):
            top = HEAD + j * (height + GAP)
            sheet[top : top + cell.shape[0], left : left + CELL_WIDTH] = cell
            if i == 0:
                write_text(sheet, rows[j], (left + 6, top + 20), 0.5)
    return sheet


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m stream.sheet", description=__doc__)
    parser.add_argument("source", help="the video that was matted")
    parser.add_argument("out", type=Path, help="the folder with its results")
    parser.add_argument("--moments", type=int, default=MOMENTS, help="rows of the sheet")
    said = parser.parse_args(argv)
    if said.moments < 1:
        parser.error(f"--moments should be 1 or more, got {said.moments}")
    target = said.out / "sheet.png"
    try:
        sheet = contact_sheet(said.source, said.out, said.moments)
    except (InputError, av.error.FFmpegError) as error:  # FFmpeg's name the file
        print(f"error: {error}", file=sys.stderr)
        return 3
    if not cv2.imwrite(str(target), cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR)):
        print(f"error: cannot write {target}; is the folder writable?", file=sys.stderr)
        return 5
    print(target)
    return 0


if __name__ == "__main__":
    sys.exit(main())
