"""How a browser's camera comes in, JPEG or WebRTC: `python -m bench.camera_roads`.

The same 720p pictures with a burned-in number go both ways on this machine, sender and receiver in
this process.  WebRTC is aiortc, which the program does not need: `pip install aiortc` first.
Prints latency from picture to picture, processor time of both ends together, and bytes a picture.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from contextlib import suppress
from typing import Any

import av
import cv2
import numpy as np

from bench.latency import SIZE, burned, read_back
from bench.machine import printed


def pictures(clip: str, count: int) -> list[np.ndarray]:
    with av.open(clip) as container:
        shown = [
            cv2.resize(frame.to_ndarray(format="rgb24"), SIZE[::-1])
            for _, frame in zip(range(30), container.decode(video=0), strict=False)
        ]
    return [burned(shown[i % len(shown)].copy(), i + 1) for i in range(count)]


def told(name: str, late: list[float], cpu: float, size: float | None) -> None:
    ms = np.array(late[len(late) // 3 :]) * 1000  # the first ones start things up
    if not len(ms):
        print(f"{name:10} nothing arrived")
        return
    bytes_ = "" if size is None else f"   {size / 1000:.0f} kB a picture"
    each = cpu / max(1, len(late)) * 1000
    print(
        f"{name:10} median {np.median(ms):6.1f} ms   95 % {np.percentile(ms, 95):6.1f} ms   "
        f"{len(late)} arrived   processor {each:.0f} ms a picture{bytes_}"
    )


async def by_websocket(shown: list[np.ndarray], rate: float) -> None:
    from websockets.asyncio.client import connect
    from websockets.asyncio.server import serve

    sent: dict[int, float] = {}
    late: list[float] = []
    size = 0

    async def receive(socket: Any) -> None:
        async for data in socket:
            bgr = await asyncio.to_thread(
                cv2.imdecode, np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR
            )
            number = None if bgr is None else read_back(bgr)
            if number in sent:
                late.append(time.monotonic() - sent[number])

    busy = time.process_time()
    async with serve(receive, "127.0.0.1", 0, max_size=None, compression=None) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        async with connect(f"ws://127.0.0.1:{port}", compression=None) as socket:
            begun = time.monotonic()
            for number, rgb in enumerate(shown, 1):
                await asyncio.sleep(max(0.0, begun + number / rate - time.monotonic()))
                sent[number] = time.monotonic()
                _, jpeg = await asyncio.to_thread(
                    cv2.imencode, ".jpg", rgb, [cv2.IMWRITE_JPEG_QUALITY, 85]
                )
                size += len(jpeg)
                await socket.send(jpeg.tobytes())
            await asyncio.sleep(0.5)
    told("WebSocket", late, time.process_time() - busy, size / len(shown))


async def by_webrtc(shown: list[np.ndarray], rate: float) -> None:
    from aiortc import RTCPeerConnection, VideoStreamTrack

    sent: dict[int, float] = {}
    late: list[float] = []
    over = asyncio.Event()

    class Camera(VideoStreamTrack):
        count = 0

        async def recv(self) -> av.VideoFrame:
            pts, time_base = await self.next_timestamp()
            await asyncio.sleep(max(0.0, 1 / rate - 1 / 30))
            if self.count >= len(shown):
                over.set()
            self.count = min(self.count + 1, len(shown))
            frame = av.VideoFrame.from_ndarray(shown[self.count - 1], format="rgb24")
            frame.pts, frame.time_base = pts, time_base
            sent.setdefault(self.count, time.monotonic())
            return frame

    async def receive(track: Any) -> None:
        while True:
            frame = await track.recv()
            number = read_back(frame.to_ndarray(format="rgb24"))
            if number in sent:
                late.append(time.monotonic() - sent.pop(number))

    here, there = RTCPeerConnection(), RTCPeerConnection()
    jobs: list[asyncio.Task] = []
    there.on("track", lambda track: jobs.append(asyncio.create_task(receive(track))))
    here.addTrack(Camera())
    busy = time.process_time()
    await here.setLocalDescription(await here.createOffer())
    await there.setRemoteDescription(here.localDescription)
    await there.setLocalDescription(await there.createAnswer())
    await here.setRemoteDescription(there.localDescription)
    with suppress(TimeoutError):
        await asyncio.wait_for(over.wait(), 20 + 4 * len(shown) / rate)
    await asyncio.sleep(0.5)
    busy = time.process_time() - busy
    for job in jobs:
        job.cancel()
    await asyncio.gather(here.close(), there.close())
    told("WebRTC", late, busy, None)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--clip", default="demo/bedroom.mp4")
    parser.add_argument("--rate", type=float, default=15.0)
    parser.add_argument("--count", type=int, default=150)
    said = parser.parse_args()
    shown = pictures(said.clip, said.count)
    print(printed())
    asyncio.run(by_websocket(shown, said.rate))
    asyncio.run(by_webrtc(shown, said.rate))


if __name__ == "__main__":
    main()
