"""The pages of many sources: a wall with all of them, and each one's own page behind it.

    GET    /                          the wall
    GET    /api/sources               every source, as JSON: state, figures, share of the engine
    POST   /api/sources               {name, source}: begin with one more; 201
    DELETE /api/sources/NAME          end one; its recording and sinks are finished first
    *      /sources/NAME/…            that source's page, with everything of web/server.py below it

The page may add cameras, addresses, `test` and `browser`.  Files and the screen are for those who
start the program: a path is never taken from the page.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Mount, Route

from configs.schema import LiveSettings
from stream.camera import LiveSource, Wanted, address_of
from stream.live import Live
from stream.many import Many
from web.guard import Guard
from web.hub import Hub
from web.server import ANSWERS, Desk, Refusal, asked, file_of_the_page, pages
from web.uploads import Library

FROM_THE_PAGE = ("camera", "network", "test", "browser")
FILES = {"/": "wall.html", "/wall.js": "wall.js", "/picture.js": "picture.js",
         "/style.css": "style.css", "/icon.svg": "icon.svg"}  # fmt: skip


class Wall:
    """What the wall can see and do.  A source's own page is made when it is first looked at."""

    def __init__(
        self, many: Many, recordings: Path, settings: LiveSettings, wanted: Wanted
    ) -> None:
        self.many = many
        self._recordings, self._settings, self._wanted = recordings, settings, wanted
        self._lock = threading.Lock()
        self._rooms: dict[Live, tuple[Desk, Starlette]] = {}

    def state(self) -> dict[str, Any]:
        return {"engine": self.many.turns.name, "sources": self.many.status()}

    def room(self, name: str) -> Starlette | None:
        """The page of a source; None where there is none of that name."""
        live = self.many.get(name)
        if live is None:
            return None
        with self._lock:
            if live not in self._rooms:
                hub = Hub(self._settings.preview_rows, self._settings.preview_quality)
                library = Library(self._settings.upload_megabytes)
                source, wanted = live.source, self._wanted
                reopen = (
                    None if source.kind == "browser" else lambda: LiveSource(source.uri, wanted)
                )
                desk = Desk(live, hub, library, self._recordings / name, reopen)
                live.sinks.append(hub)
                self._rooms[live] = desk, pages(desk)
            return self._rooms[live][1]

    def add(self, name: Any, source: Any) -> None:
        if not isinstance(name, str) or not isinstance(source, str | int):
            raise Refusal('expected {"name": …, "source": …}')
        uri = str(source).strip()
        # Asked first: a path that is there and one that is not must get the same answer.
        plain = "://" not in uri and not uri.startswith(("camera:", "/dev/video"))
        if (plain and not uri.isdecimal() and uri not in ("test", "browser")) or (
            address_of(uri, self._wanted).kind not in FROM_THE_PAGE
        ):
            raise Refusal(
                "a source added here should be a camera (0, /dev/video0, camera:NAME), an address "
                "such as rtsp://…, test or browser; files and the screen are given at the start"
            )
        self.many.add(name, uri)

    def remove(self, name: str) -> None:
        live = self.many.get(name)
        try:
            self.many.remove(name)
        except KeyError:
            raise Refusal(f"there is no source {name}", 404) from None
        if live is not None:
            self._shut(live)

    def _shut(self, live: Live) -> None:
        with self._lock:
            room = self._rooms.pop(live, None)
        if room:
            room[0].hub.close()  # closed with its session already, unless it came a moment later
            room[0].library.close()

    def close(self) -> None:
        for live in list(self._rooms):
            self._shut(live)


def wall_application(
    wall: Wall, *, token: str | None = None, names: tuple[str, ...] = (), tls: bool = False
) -> Guard:
    """The ASGI application."""

    async def sources(request: Request) -> Response:
        return JSONResponse(wall.state())

    async def add(request: Request) -> Response:
        about = await asked(request)
        await run_in_threadpool(wall.add, about.get("name"), about.get("source"))
        return JSONResponse(wall.state(), 201)

    async def remove(request: Request) -> Response:
        await run_in_threadpool(wall.remove, request.path_params["name"])
        return JSONResponse(wall.state())

    async def room(scope: Any, receive: Any, send: Any) -> None:
        root = scope.get("root_path", "")
        name, slash, _ = scope["path"][len(root) :].lstrip("/").partition("/")
        page = await run_in_threadpool(wall.room, name)
        if scope["type"] == "websocket":
            if page is None:
                await receive()  # websocket.connect
                await send({"type": "websocket.close", "code": 4404, "reason": "no such source"})
                return
        elif page is None:
            await JSONResponse({"error": f"there is no source {name}"}, 404)(scope, receive, send)
            return
        elif not slash:  # the page's own addresses are relative to its folder
            await RedirectResponse(f"{root}/{name}/")(scope, receive, send)
            return
        await page({**scope, "root_path": f"{root}/{name}"}, receive, send)

    routes = [
        *(Route(path, file_of_the_page(name), methods=["GET"]) for path, name in FILES.items()),
        Route("/api/sources", sources, methods=["GET"]),
        Route("/api/sources", add, methods=["POST"]),
        Route("/api/sources/{name}", remove, methods=["DELETE"]),
        Mount("/sources", app=room),
    ]
    app = Starlette(routes=routes, exception_handlers=ANSWERS)
    return Guard(app, token=token, names=names, tls=tls)
