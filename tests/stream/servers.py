"""Servers for tests: MPEG-TS of the squares over TCP, HTTP, or RTSP (interleaved RTP)."""

import socket
import struct
import threading
import time
from fractions import Fraction

import av

from tests.fakes import TWO, picture


class Camera(threading.Thread):
    """Plays the squares to whoever connects; can be silent (`stalled`) or hang up (`unplug`)."""

    scheme, path = "tcp", ""
    form, codec, pix_fmt = "mpegts", "mpeg2video", "yuv420p"

    def __init__(self, size=(96, 160), port=0):
        super().__init__(daemon=True)
        self.server = socket.create_server(("127.0.0.1", port))
        self.port = self.server.getsockname()[1]
        self.size, self.stalled, self.over = size, threading.Event(), threading.Event()
        self.connection = None
        self.start()

    @property
    def uri(self):
        return f"{self.scheme}://127.0.0.1:{self.port}{self.path}"

    def run(self):
        while not self.over.is_set():
            try:
                self.connection, _ = self.server.accept()
            except OSError:
                return
            try:
                self.greet(self.connection)
                self.send(self)
            except Exception:  # the other side has gone; FFmpeg has many words for it
                continue

    def greet(self, connection):
        """What the protocol says before pictures come."""

    def write(self, data):
        self.connection.sendall(data)
        return len(data)

    def send(self, file):
        with av.open(file, "w", format=self.form) as out:
            stream = out.add_stream(self.codec, rate=25)
            stream.height, stream.width = self.size
            stream.pix_fmt, stream.bit_rate = self.pix_fmt, 2_000_000
            stream.codec_context.gop_size = 5
            index = 0
            while not self.over.is_set():
                if self.stalled.is_set():
                    time.sleep(0.05)
                    continue
                frame = av.VideoFrame.from_ndarray(picture(0, TWO, self.size), format="rgb24")
                frame.pts, frame.time_base = index, Fraction(1, 25)
                for packet in stream.encode(frame):
                    out.mux(packet)
                index += 1
                time.sleep(0.02)

    def unplug(self):
        if self.connection:
            self.connection.shutdown(socket.SHUT_RDWR)
            self.connection.close()

    def close(self):
        self.over.set()
        self.server.close()


class MotionJpeg(Camera):
    form, codec, pix_fmt = "matroska", "mjpeg", "yuvj420p"


class HttpCamera(Camera):
    scheme, path = "http", "/live.ts"

    def greet(self, connection):
        said(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: video/mp2t\r\n\r\n")


class RtspCamera(Camera):
    """RFC 2326 as far as a camera needs it: OPTIONS, DESCRIBE, SETUP over TCP, PLAY."""

    scheme, path = "rtsp", "/live"

    def greet(self, connection):
        sdp = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=squares\r\nt=0 0\r\nm=video 0 RTP/AVP 33\r\n"
        self.count, self.rest = 0, b""
        while True:
            asked = said(connection)
            method = asked.split()[0]
            number = next(line for line in asked.splitlines() if line.lower().startswith("cseq"))
            head = f"RTSP/1.0 200 OK\r\n{number}\r\nSession: 7\r\n"
            if method == "DESCRIBE":
                answer = f"{head}Content-Type: application/sdp\r\nContent-Length: {len(sdp)}"
                connection.sendall(f"{answer}\r\n\r\n{sdp}".encode())
            elif method == "SETUP":
                answer = f"{head}Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n\r\n"
                connection.sendall(answer.encode())
            else:
                connection.sendall(f"{head}Public: DESCRIBE, SETUP, PLAY\r\n\r\n".encode())
            if method == "PLAY":
                return

    def write(self, data):
        self.rest += data
        while len(self.rest) >= 7 * 188:  # RFC 2250: whole packets of the stream in each of RTP
            part, self.rest = self.rest[: 7 * 188], self.rest[7 * 188 :]
            when = int(time.monotonic() * 90_000) & 0xFFFFFFFF
            packet = struct.pack(">BBHII", 0x80, 33, self.count & 0xFFFF, when, 1) + part
            self.connection.sendall(struct.pack(">BBH", 0x24, 0, len(packet)) + packet)
            self.count += 1
        return len(data)


def said(connection):
    """A request of HTTP or RTSP, up to its empty line."""
    text = b""
    while b"\r\n\r\n" not in text:
        more = connection.recv(4096)
        if not more:
            raise OSError("hung up")
        text += more
    return text.decode()
