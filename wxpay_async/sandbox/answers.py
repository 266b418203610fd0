"""Build the sandbox's HTTP answers: marker, date by its own clock, JSON errors."""

from __future__ import annotations

from collections.abc import Mapping
from email.utils import formatdate
from typing import Final

from aiohttp import web
from attrs import define, field

from wxpay_async.protocol.wire import SANDBOX_MARKER
from wxpay_async.sandbox.platform import Platform
from wxpay_async.sandbox.responses import encode_json

JSON: Final = "application/json;charset=UTF-8"
HTML: Final = "text/html;charset=UTF-8"


@define(eq=False)
class Answers:
    """Build answers.

    Attributes:
        platform: whose clock is in the header Date.
    """

    platform: Platform
    _date: tuple[int, str] = field(init=False, default=(-1, ""))

    def build(
        self,
        body: bytes,
        *,
        status: int = 200,
        content_type: str = JSON,
        headers: Mapping[str, str] | None = None,
        ahead: float = 0.0,
    ) -> web.Response:
        """Return an answer with the headers that every answer of the sandbox has.

        Args:
            body: as it is sent.
            status: of HTTP.
            content_type: of the body.
            headers: more of them.
            ahead: seconds by which the header Date is wrong.
        """
        everything = {**self.build_headers(content_type, ahead=ahead), **(headers or {})}
        return web.Response(body=body, status=status, headers=everything)

    def build_error(self, message: str, *, status: int) -> web.Response:
        """Return why something was not done, as JSON."""
        return self.build(encode_json({"error": message}), status=status)

    def build_redirect(self, path: str) -> web.Response:
        """Return an answer that leads a browser to a page of the sandbox."""
        return self.build(b"", status=303, headers={"Location": path})

    def build_headers(self, content_type: str, *, ahead: float = 0.0) -> dict[str, str]:
        """Return the headers of every answer."""
        date = self._format_date(ahead)
        return {"Content-Type": content_type, SANDBOX_MARKER: "1", "Date": date}

    def _format_date(self, ahead: float) -> str:
        """Return the time of the sandbox's own clock as an HTTP date, formatted once a second."""
        second = int(self.platform.clock() + ahead)
        if self._date[0] != second:
            self._date = (second, formatdate(second, usegmt=True))
        return self._date[1]
