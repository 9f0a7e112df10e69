"""Figures of a run for a Prometheus that asks for them, on this machine only.

    python run_stream.py clip.mp4 -o out/ --metrics 9464

serves `http://127.0.0.1:9464/metrics` in Prometheus' text format while the program runs.  Requests
that name another host are refused, so that no web page can have a browser read them.
"""

from __future__ import annotations

import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from configs.schema import ConfigError

WHAT = {
    "frames_total": ("counter", "Frames written."),
    "inputs_total": ("counter", "Inputs finished."),
    "warnings_total": ("counter", "Warnings told: damage, lost frames, early ends."),
    "errors_total": ("counter", "Errors told."),
    "people": ("gauge", "People in the frame written last."),
    "frames_per_second": ("gauge", "Frames written per second, lately."),
    "uptime_seconds": ("gauge", "Seconds since the program began."),
}


class Metrics:
    """Figures by name, and the page that shows them.  Raises ConfigError if the port is taken."""

    def __init__(self, port: int) -> None:
        self._values = dict.fromkeys(WHAT, 0.0)
        self._lock = threading.Lock()
        self._began = time.monotonic()
        page = self.page

        class Answer(BaseHTTPRequestHandler):
            timeout = 5  # seconds: whoever connects and says nothing is let go

            def do_GET(self) -> None:
                host = (self.headers.get("Host") or "").rsplit(":", 1)[0]
                if host not in ("127.0.0.1", "localhost"):
                    self.send_error(421)
                elif self.path != "/metrics":
                    self.send_error(404)
                else:
                    body = page().encode()
                    self.send_response(200)
                    self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
                    self.send_header("Content-Length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                """Requests are not worth a line."""

        try:
            self._server = ThreadingHTTPServer(("127.0.0.1", port), Answer)
        except OSError as error:
            reason = error.strerror
            raise ConfigError(f"--metrics {port}: the port cannot be had ({reason})") from None
        self._server.daemon_threads = True
        serve = self._server.serve_forever
        self._thread = threading.Thread(target=serve, name="metrics", daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        return self._server.server_address[1]

    def count(self, name: str, more: float = 1) -> None:
        with self._lock:
            self._values[name] += more

    def set(self, name: str, value: float) -> None:
        with self._lock:
            self._values[name] = value

    def page(self) -> str:
        """All figures in Prometheus' text format, version 0.0.4."""
        self.set("uptime_seconds", round(time.monotonic() - self._began, 3))
        with self._lock:
            values = dict(self._values)
        return "".join(
            f"# HELP troupe_{name} {said}\n# TYPE troupe_{name} {kind}\n"
            f"troupe_{name} {values[name]:g}\n"
            for name, (kind, said) in WHAT.items()
        )

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
