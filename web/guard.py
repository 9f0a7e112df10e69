"""Who may talk to the page: the right Host, the right Origin, and from elsewhere the right token.

A page on 127.0.0.1 can be reached by every website that is open in the same browser.  Three checks
keep them out.  *Host* must name this machine, so that a foreign name which suddenly points here
(DNS rebinding) is refused.  *Origin*, where a browser sends one, must be the page itself: other
sites can neither post nor open a socket.  No CORS header is ever sent.  Beyond this machine a
*token* is needed: once as `?token=…` in the address, from then on as a cookie that only this page
gets, or as `Authorization: Bearer …` for programs.
"""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Iterable
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

COOKIE = "troupe_token"
HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(self), microphone=(), geolocation=()"),
    (b"cache-control", b"no-store"),
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
        b"media-src 'self' blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
        b"frame-ancestors 'none'",
    ),
]


class Guard:
    """ASGI middleware around the whole page, sockets included."""

    def __init__(
        self, app: Any, *, token: str | None = None, names: Iterable[str] = (), tls: bool = False
    ) -> None:
        self._app, self._token, self._tls = app, token, tls
        self._names = {name.lower().rstrip(".") for name in names}

    async def __call__(self, scope: dict, receive: Any, send: Any) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = {
            key.decode("latin-1"): value.decode("latin-1") for key, value in scope["headers"]
        }
        refusal = self._refusal(scope, headers)
        if refusal:
            await _refuse(scope, receive, send, *refusal)
            return
        if self._token:
            given = dict(parse_qsl(scope["query_string"].decode("latin-1"))).get("token")
            if given and scope["type"] == "http" and self._same(given):
                await self._welcome(scope, send)
                return
            if not (
                self._same(given) or self._same(_cookie(headers)) or self._same(_bearer(headers))
            ):
                why = "This page needs its token: open the address with ?token= that the program"
                await _refuse(scope, receive, send, 401, f"{why} printed.")
                return

        async def safer(message: dict) -> None:
            if message["type"] == "http.response.start":
                own = {key for key, _ in message["headers"]}
                added = [header for header in HEADERS if header[0] not in own]
                message = {**message, "headers": [*message["headers"], *added]}
            await send(message)

        await self._app(scope, receive, safer)

    def _refusal(self, scope: dict, headers: dict[str, str]) -> tuple[int, str] | None:
        host = headers.get("host", "")
        if not self._known(host):
            return 421, (
                f"This page does not answer to the name {host[:80]!r}. If it is a name of this "
                "machine, allow it with --allow-host."
            )
        origin = headers.get("origin")
        if origin is not None and scope.get("method") not in ("GET", "HEAD"):
            secure = scope["scheme"] in ("https", "wss")
            if origin.lower() != f"{'https' if secure else 'http'}://{host.lower()}":
                return 403, "Requests from other pages are refused."
        return None

    def _known(self, host: str) -> bool:
        """Addresses and our own names.  An address cannot be pointed elsewhere, a name can."""
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        if name == "localhost" or name.rstrip(".") in self._names:
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        return address.is_loopback or self._token is not None

    def _same(self, given: str | None) -> bool:
        assert self._token
        return given is not None and hmac.compare_digest(given.encode(), self._token.encode())

    async def _welcome(self, scope: dict, send: Any) -> None:
        """Keep the token as a cookie, and take it out of the address bar and the history."""
        left = [p for p in parse_qsl(scope["query_string"].decode("latin-1")) if p[0] != "token"]
        where = scope["path"] + (f"?{urlencode(left)}" if left else "")
        if not where.startswith("/") or where.startswith("//"):
            where = "/"
        cookie = f"{COOKIE}={self._token}; Path=/; HttpOnly; SameSite=Strict"
        cookie += "; Secure" if self._tls else ""
        headers = [(b"location", where.encode()), (b"set-cookie", cookie.encode()), *HEADERS]
        await send({"type": "http.response.start", "status": 303, "headers": headers})
        await send({"type": "http.response.body", "body": b""})


def _cookie(headers: dict[str, str]) -> str | None:
    try:
        found = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return None
    return found.value if found else None


def _bearer(headers: dict[str, str]) -> str | None:
    kind, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if kind.lower() == "bearer" else None


async def _refuse(scope: dict, receive: Any, send: Any, status: int, text: str) -> None:
    if scope["type"] == "websocket":
        await receive()  # websocket.connect
        await send({"type": "websocket.close", "code": 4000 + status % 1000, "reason": text[:120]})
        return
    headers = [(b"content-type", b"text/plain; charset=utf-8"), *HEADERS]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": text.encode() + b"\n"})
