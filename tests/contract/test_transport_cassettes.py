"""Over every transport: a recording changes nothing, and its replay says the same again."""

from __future__ import annotations

from contextlib import aclosing
from pathlib import Path

import pytest

from tests.contract.transports import QUICK, make_request
from tests.support.server import Listener
from wxpay_async.adapters.transports.recording import RecordingTransport, ReplayTransport
from wxpay_async.errors import Fate, WxPayError
from wxpay_async.protocol.wire import MAX_BODY, HttpRequest, HttpResponse, Transport

Said = HttpResponse | tuple[type[WxPayError], Fate, bool]


async def ask(transport: Transport, request: HttpRequest) -> Said:
    """Return the reply; of an error what a caller decides by: its kind, its fate, the retry."""
    try:
        return await transport.send(request, timeout=QUICK)
    except WxPayError as error:
        return type(error), error.fate, error.retryable


@pytest.mark.parametrize(
    "path",
    ["status/200", "status/502", "headers", "cut", "reset", "hang", f"body/{MAX_BODY + 1}"],
)
async def test_recording_and_replay_say_what_the_transport_says(
    transport: Transport, server: Listener, path: str, tmp_path: Path
) -> None:
    """Replies with their headers, and failures with their fate."""
    request, cassette = make_request(f"{server.url}/{path}"), tmp_path / "cassette.jsonl"
    said = await ask(transport, request)

    async with aclosing(RecordingTransport(transport, cassette)) as recording:
        assert said == await ask(recording, request)
    replay = ReplayTransport(cassette)

    assert said == await ask(replay, request)
    assert (2, 0) == (len(server.requests), replay.left)


async def test_what_was_not_sent_is_recorded_as_not_sent(
    transport: Transport, closed_port: int, tmp_path: Path
) -> None:
    """The proof that nothing was sent is kept: the SDK retries such a call by itself."""
    request = make_request(f"http://127.0.0.1:{closed_port}/")
    cassette = tmp_path / "cassette.jsonl"
    said = await ask(transport, request)

    async with aclosing(RecordingTransport(transport, cassette)) as recording:
        assert said == await ask(recording, request)

    assert said == await ask(ReplayTransport(cassette), request)
