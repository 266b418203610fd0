"""aiohttp.web alone: bodies that its server unpacks or cannot read."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import ClientSession, web

from tests.contract.web_apps import TRADE_BODY, Aiohttp, Shop
from tests.support.platform import FORM
from wxpay_async.integrations import service
from wxpay_async.integrations.aiohttp import gateway_context, get_gateway, notification_route

AIOHTTP = Aiohttp()
PATIENCE = 20.0  # seconds until a stuck test fails; nothing ever asserts on it


@asynccontextmanager
async def serve(app: web.Application) -> AsyncIterator[int]:
    """Start an app like `web.run_app`, where a client that disconnects cancels no handler."""
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield runner.addresses[0][1]
    await runner.cleanup()


async def test_app_without_a_gateway_names_the_mistake() -> None:
    """The error names the cleanup context that is missing."""
    errors = []

    async def root(request: web.Request) -> web.Response:
        with pytest.raises(RuntimeError, match="gateway_context") as caught:
            get_gateway(request)
        errors.append(caught.value)
        return web.Response()

    app = web.Application()
    app.add_routes([web.get("/", root)])
    async with AIOHTTP.run(app) as send:
        await send("GET", "/")

    assert 1 == len(errors)


@pytest.mark.parametrize("path", ["/pay/notify", "/pay/notify/"])
async def test_root_of_an_inner_app_is_answered(path: str) -> None:
    """The inner app's path is the whole path of the callback."""
    shop = Shop()
    app, inner = web.Application(), web.Application()
    app.cleanup_ctx.append(gateway_context(shop.gateway))
    inner.add_routes([notification_route("/", shop.notifications, on_trade=shop.on_trade)])
    app.add_subapp("/pay/notify", inner)

    async with AIOHTTP.run(app) as send:
        reply = await send("POST", path, TRADE_BODY)

    assert (200, b'{"status": 1}') == (reply.status, reply.body)


async def test_compressed_callback_is_refused() -> None:
    """The server unpacks the body, so the bytes are no longer those that were sent."""
    shop, headers = Shop(), {**FORM, "Content-Encoding": "gzip"}
    async with (
        serve(AIOHTTP.make_app(shop)) as port,
        ClientSession() as session,
        session.post(
            f"http://127.0.0.1:{port}/notify", data=gzip.compress(TRADE_BODY), headers=headers
        ) as reply,
    ):
        assert b'{"status": 0}' == await reply.read()

    assert "the body is compressed" == shop.events[0].reason


BROKEN = {
    "gzip": b"Content-Encoding: gzip\r\nContent-Length: 5\r\n\r\naaaaa",
    "deflate": b"Content-Encoding: deflate\r\nContent-Length: 5\r\n\r\naaaaa",
    "too slow": b"Content-Length: 500\r\n\r\na",
}


@pytest.mark.parametrize("how", [*BROKEN, "disconnected"])
async def test_unreadable_body_is_no_error(
    how: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A garbled, slow or incomplete body is answered with 0, and no error is logged."""
    monkeypatch.setattr(service, "ANSWER_WITHIN", 0.1 if how == "too slow" else PATIENCE)
    shop = Shop()
    head = b"POST /notify HTTP/1.1\r\nHost: shop\r\nContent-Type: application/json\r\n"
    async with serve(AIOHTTP.make_app(shop)) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(head + BROKEN.get(how, BROKEN["too slow"]))
        await writer.drain()
        if how != "disconnected":
            answer = await asyncio.wait_for(reader.readuntil(b"}"), PATIENCE)
            assert (b"200 OK", b'{"status": 0}') == (answer[9:15], answer[-13:])
        writer.close()
        await asyncio.sleep(0.05)

    assert [] == shop.events
    assert "Error handling request" not in caplog.text
