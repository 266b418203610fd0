"""The aiohttp integration, over loopback."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestClient, TestServer

from wxpay_async import PayGateway, WxPayError
from wxpay_async.engine.callbacks import Verdict
from wxpay_async.integrations import service
from wxpay_async.integrations.aiohttp import (
    error_middleware,
    gateway_context,
    get_gateway,
    notification_route,
)
from wxpay_async.policy.retry import RetryPolicy

PATIENCE = 20.0  # seconds until a stuck test fails; nothing ever asserts on it
FORM = {"Content-Type": "application/x-www-form-urlencoded"}

Client = TestClient[web.Request, web.Application]


@asynccontextmanager
async def running(app: web.Application) -> AsyncIterator[Client]:
    """Start an app on loopback, and end it."""
    async with TestClient(TestServer(app)) as client:
        yield client


@asynccontextmanager
async def serving(app: web.Application) -> AsyncIterator[int]:
    """Start an app as `web.run_app` does: whoever hangs up does not cancel the handler."""
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield runner.addresses[0][1]
    await runner.cleanup()


async def status(request: web.Request) -> web.Response:
    """Tell how an order stands."""
    found = await get_gateway(request).query(out_trade_no=request.match_info["number"])
    return web.json_response({"status": found.state})


def make_app(shop: Any, **changes: Any) -> web.Application:  # noqa: ANN401 - the conftest's Shop
    """Build an app as the module's documentation does."""
    app = web.Application(middlewares=[error_middleware])
    app.cleanup_ctx.append(gateway_context(shop.gateway))
    given = {"on_trade": shop.on_trade, "on_refund": shop.on_refund, "hooks": (shop.events.append,)}
    app.add_routes([notification_route("/notify", shop.notifications, **(given | changes))])
    app.add_routes([web.get("/orders/{number}", status)])
    return app


async def test_the_gateway_is_at_hand(shop: Any) -> None:  # noqa: ANN401
    """A request leads to the gateway of its app."""
    async with running(make_app(shop)) as client, client.get("/orders/O-1") as reply:
        assert {"status": "paid"} == await reply.json()


async def test_an_app_inside_another_has_its_gateway(shop: Any) -> None:  # noqa: ANN401
    """A sub-application need not open one of its own."""
    inner = web.Application()
    inner.add_routes([web.get("/orders/{number}", status)])
    app = make_app(shop)
    app.add_subapp("/inner/", inner)

    async with running(app) as client, client.get("/inner/orders/O-1") as reply:
        assert {"status": "paid"} == await reply.json()


async def test_a_factory_makes_the_gateway(shop: Any) -> None:  # noqa: ANN401
    """What is given may be the gateway or what makes it."""
    made: list[PayGateway] = []

    def factory() -> PayGateway:
        made.append(shop.gateway)
        return shop.gateway

    app = web.Application()
    app.cleanup_ctx.append(gateway_context(factory))
    async with running(app):
        assert [shop.gateway] == made


async def test_an_app_without_a_gateway_says_so() -> None:
    """The mistake is named."""
    said = []

    async def root(request: web.Request) -> web.Response:
        with pytest.raises(RuntimeError, match="gateway_context") as caught:
            get_gateway(request)
        said.append(caught.value)
        return web.Response()

    app = web.Application()
    app.add_routes([web.get("/", root)])
    async with running(app) as client, client.get("/"):
        assert 1 == len(said)


async def test_callbacks_reach_their_handlers(
    shop: Any,  # noqa: ANN401
    trade_body: bytes,
    refund_body: bytes,
) -> None:
    """Each kind its own, once, answered with the exact bytes as JSON."""
    async with running(make_app(shop)) as client:
        for body in (trade_body, refund_body, trade_body):
            async with client.post("/notify", data=body, headers=FORM) as reply:
                assert (200, b'{"status": 1}') == (reply.status, await reply.read())
                assert "application/json" == reply.content_type

    assert (["O-1"], ["R-1"]) == (
        [notification.out_trade_no for notification in shop.trades],
        [notification.out_trade_no for notification in shop.refunds],
    )


async def test_a_forged_callback_is_answered_0(shop: Any, trade_body: bytes) -> None:  # noqa: ANN401
    """Nothing of it is handed on."""
    forged = trade_body.replace(b"1.00", b"0.01")
    async with (
        running(make_app(shop)) as client,
        client.post("/notify", data=forged, headers=FORM) as reply,
    ):
        assert (200, b'{"status": 0}') == (reply.status, await reply.read())

    assert ([], [Verdict.REFUSED]) == (shop.trades, [event.verdict for event in shop.events])


async def test_a_compressed_callback_is_refused(shop: Any, trade_body: bytes) -> None:  # noqa: ANN401
    """The server has unpacked it by then, so it is not what was sent."""
    headers = {**FORM, "Content-Encoding": "gzip"}
    async with (
        running(make_app(shop)) as client,
        ClientSession() as session,
        session.post(
            client.make_url("/notify"), data=gzip.compress(trade_body), headers=headers
        ) as reply,
    ):
        assert b'{"status": 0}' == await reply.read()

    assert "the body is compressed" == shop.events[0].reason


async def test_a_body_without_end_is_not_read(
    shop: Any,  # noqa: ANN401
    endless: Callable[[], Any],
) -> None:
    """Reading stops behind 64 KB, and nothing is parsed."""
    async with (
        running(make_app(shop)) as client,
        client.post("/notify", data=endless(), headers=FORM) as reply,
    ):
        assert (200, b'{"status": 0}') == (reply.status, await reply.read())

    assert [] == shop.events


GARBLED = {
    "gzip": b"Content-Encoding: gzip\r\nContent-Length: 5\r\n\r\naaaaa",
    "deflate": b"Content-Encoding: deflate\r\nContent-Length: 5\r\n\r\naaaaa",
    "too slow": b"Content-Length: 500\r\n\r\na",
}


@pytest.mark.parametrize("how", [*GARBLED, "gone"])
async def test_a_body_that_cannot_be_read_is_no_error(
    how: str,
    shop: Any,  # noqa: ANN401
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Garbled, slower than the platform waits, or half of it: answered 0, and nobody is alarmed."""
    monkeypatch.setattr(service, "ANSWER_WITHIN", 0.1 if how == "too slow" else PATIENCE)
    head = b"POST /notify HTTP/1.1\r\nHost: shop\r\nContent-Type: application/json\r\n"
    async with serving(make_app(shop)) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(head + GARBLED.get(how, GARBLED["too slow"]))
        await writer.drain()
        if how != "gone":
            answer = await asyncio.wait_for(reader.readuntil(b"}"), PATIENCE)
            assert (b"200 OK", b'{"status": 0}') == (answer[9:15], answer[-13:])
        writer.close()
        await asyncio.sleep(0.05)

    assert [] == shop.events
    assert "Error handling request" not in caplog.text


async def test_hooks_and_the_limit_are_the_app_s_choice(
    shop: Any,  # noqa: ANN401
    trade_body: bytes,
) -> None:
    """Hooks come as any sequence; a handler that takes longer than the limit has failed."""

    async def slow(_: object) -> None:
        await asyncio.sleep(PATIENCE)

    shop.gateway._dispatcher.retry = RetryPolicy(min_left=0.01)
    app = make_app(shop, on_trade=slow, hooks=[shop.events.append], limit=0.01)
    async with (
        running(app) as client,
        client.post("/notify", data=trade_body, headers=FORM) as reply,
    ):
        assert b'{"status": 0}' == await reply.read()

    assert ["it took over 0.01 s"] == [event.reason for event in shop.events]


async def test_the_end_waits_for_handlers(shop: Any, trade_body: bytes) -> None:  # noqa: ANN401
    """A handler that is still running when the app ends has its effect."""
    entered, gate, done = asyncio.Event(), asyncio.Event(), []

    async def slow(_: object) -> None:
        entered.set()
        await gate.wait()
        done.append(1)

    async with running(make_app(shop, on_trade=slow)) as client:
        call = asyncio.create_task(client.post("/notify", data=trade_body, headers=FORM))
        await asyncio.wait_for(entered.wait(), PATIENCE)
        call.cancel()
        asyncio.get_running_loop().call_later(0.05, gate.set)

    assert [1] == done


async def test_payers_learn_a_word_and_no_more(
    shop: Any,  # noqa: ANN401
    told: tuple[WxPayError, int, bytes],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Every error of the SDK has a status and one word; the rest is in the log."""
    error, status_code, content = told

    async def fail(request: web.Request) -> web.Response:
        del request
        raise error

    app = make_app(shop)
    app.add_routes([web.get("/fail", fail)])
    async with running(app) as client, client.get("/fail") as reply:
        assert (status_code, content) == (reply.status, await reply.read())
        assert "canary" not in str(reply.headers)

    assert "canary-5a1e-reason" in caplog.text
