"""The other process: `python -m web.decode_upload IN OUT` decodes one stranger's file.

It may use little memory and little time, cannot start other processes, and reads nothing but IN.
It writes OUT.png, or OUT.mp4 without sound, and OUT.jpg as thumbnail, and prints which as JSON.
Exit code 3 with `upload: reason` on stderr where the file is not usable.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

MEMORY_BYTES = 3 << 30  # of address space: libraries alone map about 1 GiB
CPU_SECONDS = 90
FILE_BYTES = 500_000_000
LARGEST_SIDE = 1920  # what is kept of either, in pixels
LONGEST_SECONDS = 60.0  # of a video
MOST_FRAMES = 3600


def limit() -> None:
    try:
        import resource
    except ImportError:  # Windows has no such limits; the wall clock of the caller remains
        return
    for what, most in (
        (resource.RLIMIT_CPU, CPU_SECONDS),
        (resource.RLIMIT_FSIZE, FILE_BYTES),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(what, (most, most))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))


def main(incoming: str, out: str) -> None:
    limit()
    import cv2

    from stream.decode import InputError, Limits, open_source

    cv2.setNumThreads(1)
    try:
        # a background, which is not matted
        with open_source(incoming, threads=1, limits=Limits(aspect=math.inf)) as source:
            if source.kind == "images":
                rgb = next(iter(source.frames())).rgb
                made = _picture(cv2, rgb, out)
            else:
                made = _video(cv2, source, out)
    except InputError as error:
        # the reason without our own file's name
        text = str(error).replace(incoming, "the file")
        print(f"upload: {text}", file=sys.stderr)
        sys.exit(3)
    except MemoryError:
        print("upload: the file needs too much memory to decode", file=sys.stderr)
        sys.exit(3)
    print(json.dumps(made))


def _small(cv2, rgb, side: int):  # type: ignore[no-untyped-def]
    scale = side / max(rgb.shape[:2])
    if scale >= 1:
        return rgb
    size = max(2, round(rgb.shape[1] * scale)), max(2, round(rgb.shape[0] * scale))
    return cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)


def _thumbnail(cv2, rgb, out: str) -> str:  # type: ignore[no-untyped-def]
    path = f"{out}.jpg"
    cv2.imwrite(path, _small(cv2, rgb, 240)[:, :, ::-1])
    return Path(path).name


def _picture(cv2, rgb, out: str) -> dict[str, str]:  # type: ignore[no-untyped-def]
    path = f"{out}.png"
    if not cv2.imwrite(path, _small(cv2, rgb, LARGEST_SIDE)[:, :, ::-1]):
        print("upload: the picture cannot be kept", file=sys.stderr)
        sys.exit(3)
    return {"kind": "picture", "file": Path(path).name, "thumbnail": _thumbnail(cv2, rgb, out)}


def _video(cv2, source, out: str) -> dict[str, str]:  # type: ignore[no-untyped-def]
    import av
    import numpy as np

    path = f"{out}.mp4"
    thumbnail = ""
    with av.open(f"file:{path}", "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=source.rate or 25)
        stream.time_base = stream.codec_context.time_base = source.time_base
        begun = None
        for count, frame in enumerate(source.frames()):
            begun = frame.pts if begun is None else begun
            if count >= MOST_FRAMES or (frame.pts - begun) * source.time_base > LONGEST_SECONDS:
                break
            rgb = _small(cv2, frame.rgb, LARGEST_SIDE)
            rgb = np.ascontiguousarray(rgb[: rgb.shape[0] & ~1 or 2, : rgb.shape[1] & ~1 or 2])
            if not thumbnail:
                thumbnail = _thumbnail(cv2, rgb, out)
                codec = stream.codec_context
                codec.height, codec.width = rgb.shape[:2]
                codec.pix_fmt, codec.thread_count = "yuv420p", 1
                codec.colorspace, codec.color_range = 1, 1
                codec.options = {"preset": "ultrafast", "crf": "20", "bf": "0"}
            picture = av.VideoFrame.from_ndarray(rgb, format="rgb24")
            picture = picture.reformat(format="yuv420p", dst_colorspace=1, dst_color_range=1)
            picture.pts, picture.time_base = frame.pts - begun, source.time_base
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    return {"kind": "video", "file": Path(path).name, "thumbnail": thumbnail}


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
