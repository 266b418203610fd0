"""Record at the sandbox, replay without it; what the file holds, and what a crash leaves."""

from __future__ import annotations

import asyncio
import json
import os
import stat
import sys
from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlencode

import pytest
from Crypto.PublicKey import RSA

from tests.support import asking
from tests.support.canaries import (
    OPENID,
    SECRET,
    Canaries,
    catch_failure,
    find_leaks,
    render_error,
)
from tests.support.server import CALM
from tests.support.vectors import PRIVATE_KEY
from wxpay_async import (
    AiohttpTransport,
    InDoubtError,
    InvalidRequestError,
    Md5Signer,
    MemoryTransport,
    NotSentError,
    PayGateway,
    RecordingTransport,
    RefusedError,
    ReplayTransport,
    RetryPolicy,
    Transport,
    WxPayError,
)
from wxpay_async.protocol.wire import HttpRequest, HttpResponse
from wxpay_async.sandbox import Sandbox

PAYER_IP = "11.22.33.44"
NOWHERE = "http://127.0.0.1:9"
QUERY = "https://platform.example/api/instant/query"
PAID = '{"success":true,"data":{"status":"支付成功"}}'
ON_POSIX = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no modes of files")


@pytest.fixture
def cassette(tmp_path: Path) -> Path:
    """Return where a cassette will be."""
    return tmp_path / "cassette.jsonl"


def read(file: Path) -> bytes:
    """Return what a file holds."""
    return file.read_bytes()


def get_mode(file: Path) -> int:
    """Return who may do what with a file."""
    return stat.S_IMODE(file.stat().st_mode)


def link(file: Path, target: Path) -> None:
    """Make a link."""
    file.symlink_to(target)


def write(file: Path, content: bytes) -> None:
    """Make a file that others can read."""
    file.write_bytes(content)
    file.chmod(0o644)


def make_request(number: str = "O-1", **params: str) -> HttpRequest:
    """Make a query of an order."""
    given = {"outTradeNo": number, "nonce": os.urandom(8).hex(), "sign": "s", **params}
    return HttpRequest(QUERY, urlencode(given).encode())


def make_reply(body: str = PAID) -> HttpResponse:
    """Make a reply."""
    return HttpResponse(200, body.encode())


async def record(cassette: Path, *answers: Any, requests: Any = None, **given: Any) -> None:  # noqa: ANN401 - MemoryTransport's
    """Record exchanges with a platform that answers so, however it answers."""
    async with aclosing(RecordingTransport(MemoryTransport(answers), cassette, **given)) as made:
        for number in range(len(answers)):
            request = requests[number] if requests else make_request()
            try:
                await made.send(request, timeout=CALM)
            except WxPayError as error:
                if error not in answers:
                    raise


def make_gateway(transport: Transport, base_url: str, *, app_key: str, secret: str) -> PayGateway:
    """Make a gateway that tries once."""
    return PayGateway(
        app_key,
        Md5Signer(secret),
        base_url=base_url,
        transport=transport,
        retry=RetryPolicy(attempts=1),
    )


async def buy(gateway: PayGateway, confirm: Callable[[str], None] = lambda _: None) -> list[object]:
    """Buy, pay, query, refund, and ask for an order that is not there."""
    method = asking.method(open_id=OPENID)
    trade = await gateway.trade(asking.trade(payer_ip=PAYER_IP, pay_method=method))
    assert trade.pay_token is not None
    pay = asking.pay(
        pay_token=trade.pay_token, terminal_payer_id=OPENID, app_id="wx1", out_trade_no="O-1"
    )
    prepay = await gateway.pay(pay)
    confirm("O-1")
    status = await gateway.query(out_trade_no="O-1")
    refund = await gateway.refund(asking.refund())
    with pytest.raises(RefusedError) as caught:
        await gateway.query(out_trade_no="O-unknown")
    return [trade, prepay, status, refund, caught.value.code]


async def record_purchase(cassette: Path) -> tuple[list[object], Canaries]:
    """Record a purchase at a sandbox; return its results, and every secret that was in it."""
    key = RSA.import_key(PRIVATE_KEY.read_bytes())  # making one takes seconds
    async with Sandbox(app_secret=SECRET, pay_key=key) as sandbox:
        network = AiohttpTransport()

        async def forward(request: HttpRequest) -> HttpResponse:
            return await network.send(request, timeout=CALM)

        sent = MemoryTransport(forward)
        recording = RecordingTransport(sent, cassette, hide=[SECRET])
        async with make_gateway(
            recording, sandbox.url, app_key=sandbox.app_key, secret=SECRET
        ) as gateway:
            results = await buy(gateway, sandbox.confirm)
        await recording.aclose()
        await network.aclose()
    trade, prepay = cast("tuple[Any, Any]", tuple(results[:2]))
    canaries = {
        "the secret": SECRET,
        "the openid": OPENID,
        "the payer's address": PAYER_IP,
        "the payToken": str(trade.pay_token),
        "the return URL": str(trade.return_url),
        "the prepay": prepay.prepay_id,
        "the nonce": prepay.nonce_str,
        "the paySign": prepay.pay_sign,
        "the appKey": "sandbox-app-key",
        "the payee's name": "商户 100",
    }
    for number, request in enumerate(sent.requests):
        form = dict(pair.split("=") for pair in request.body.decode().split("&"))
        canaries |= {f"the {name} of {number}": form[name] for name in ("sign", "nonce")}
    return results, canaries


# Record, then replay


async def test_purchase_is_replayed_without_the_platform(cassette: Path) -> None:
    """The same results, with placeholders for what was redacted; nothing is left over."""
    recorded, _ = await record_purchase(cassette)
    replaying = ReplayTransport(cassette)
    gateway = make_gateway(replaying, NOWHERE, app_key="another", secret="another")

    replayed = cast("list[Any]", await buy(gateway))

    trade, prepay, status, refund, code = cast("list[Any]", recorded)
    assert (refund, code) == (replayed[3], replayed[4])
    assert (status.out_trade_no, status.total_amount, status.state) == (
        replayed[2].out_trade_no,
        replayed[2].total_amount,
        replayed[2].state,
    )
    assert trade.trade_res_list == replayed[0].trade_res_list
    assert ("redacted-payToken-1", "redacted-payeeName-1") == (
        replayed[0].pay_token,
        replayed[2].payee_name,
    )
    assert {
        "timeStamp": prepay.time_stamp,
        "nonceStr": "redacted-nonceStr-2",
        "package": "prepay_id=redacted-prepayId-2",
        "signType": "RSA",
        "paySign": "redacted-paySign-2",
    } == replayed[1].jsapi_params()
    assert (0, []) == (replaying.left, list(replaying.unmatched))


async def test_cassette_holds_no_secret(cassette: Path) -> None:
    """Neither the credentials of the merchant nor those of the payer, in whatever form."""
    _, canaries = await record_purchase(cassette)

    assert len(canaries) == 20
    assert [] == find_leaks({"the cassette": read(cassette)}, canaries)


async def test_recording_changes_nothing(cassette: Path) -> None:
    """The caller gets the reply as it came, and the error that was raised."""
    reply, error = HttpResponse(200, b'{"openId":"oX"}', {"location": "x"}), InDoubtError("reset")
    recording = RecordingTransport(MemoryTransport([reply, error]), cassette)

    async with aclosing(recording):
        assert reply is await recording.send(make_request(), timeout=CALM)
        with pytest.raises(InDoubtError) as caught:
            await recording.send(make_request(), timeout=CALM)

    assert error is caught.value


async def test_error_is_recorded_and_replayed(cassette: Path) -> None:
    """A lost answer is a scenario, too: what follows it is replayed after it."""
    await record(cassette, InDoubtError("reset"), make_reply())
    replaying = ReplayTransport(cassette)

    with pytest.raises(InDoubtError, match="recorded: reset"):
        await replaying.send(make_request(), timeout=CALM)
    assert make_reply() == await replaying.send(make_request(), timeout=CALM)


async def test_cancelled_request_is_not_recorded(cassette: Path) -> None:
    """Nothing is known of its end."""

    async def never(_: HttpRequest) -> HttpResponse:
        await asyncio.Event().wait()
        raise AssertionError

    async with aclosing(RecordingTransport(MemoryTransport(never), cassette)) as recording:
        task = asyncio.create_task(recording.send(make_request(), timeout=CALM))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    assert b"" == read(cassette)


# What is replayed


async def test_replies_to_the_same_request_come_in_their_order(cassette: Path) -> None:
    """A query that was repeated until the order was paid."""
    bodies = ['{"data":{"status":"待付款"}}', '{"data":{"status":"支付成功"}}']
    await record(cassette, *map(make_reply, bodies))
    replaying = ReplayTransport(cassette)

    replies = [await replaying.send(make_request(), timeout=CALM) for _ in bodies]

    assert [make_reply(body) for body in bodies] == replies


async def test_requests_may_come_in_another_order(cassette: Path) -> None:
    """Concurrent calls do."""
    requests = [make_request("O-1"), make_request("O-2")]
    replies = [make_reply('{"data":{"total":1}}'), make_reply('{"data":{"total":2}}')]
    await record(cassette, *replies, requests=requests)
    replaying = ReplayTransport(cassette)

    assert replies[::-1] == [await replaying.send(each, timeout=CALM) for each in requests[::-1]]


async def test_exchange_is_replayed_once(cassette: Path) -> None:
    """A shop that sends a payment twice is found out."""
    await record(cassette, make_reply())
    replaying = ReplayTransport(cassette)
    await replaying.send(make_request(), timeout=CALM)

    with pytest.raises(NotSentError, match="all replayed before"):
        await replaying.send(make_request(), timeout=CALM)


async def test_last_exchange_is_repeated_if_the_test_says_so(cassette: Path) -> None:
    """A caller that polls may poll more often than the recorded one."""
    await record(cassette, make_reply('{"data":{"total":1}}'), make_reply('{"data":{"total":2}}'))
    replaying = ReplayTransport(cassette, repeat=True)

    replies = [(await replaying.send(make_request(), timeout=CALM)).body for _ in range(4)]

    assert [b"1", b"2", b"2", b"2"] == [body[-3:-2] for body in replies]


@pytest.mark.parametrize(
    ("request_", "told"),
    [
        (make_request("O-2"), "outTradeNo is 'O-2', recorded 'O-1'"),
        (make_request("O-3", page="1"), "outTradeNo is 'O-3', recorded 'O-1'"),
        (HttpRequest(f"{QUERY}2", b""), "query2 is not in the cassette: it has /api/instant/query"),
    ],
    ids=["a field", "the nearest exchange", "a path"],
)
async def test_request_that_was_not_recorded_is_told(
    request_: HttpRequest, told: str, cassette: Path
) -> None:
    """What differs is named; nothing was sent, and another try does not help."""
    await record(
        cassette, make_reply(), make_reply(), requests=[make_request(), make_request("O", a="1")]
    )
    replaying = ReplayTransport(cassette)

    with pytest.raises(NotSentError) as caught:
        await replaying.send(request_, timeout=CALM)

    assert told in str(caught.value)
    assert not caught.value.retryable
    assert [str(caught.value)] == list(replaying.unmatched)
    assert 2 == replaying.left


async def test_unmatched_request_shows_no_secret(cassette: Path) -> None:
    """Neither its text nor its traceback."""
    await record(cassette, make_reply())
    request = make_request("O-2", openId=OPENID, subject=f"for {OPENID}")

    error = await catch_failure(
        lambda: ReplayTransport(cassette).send(request, timeout=CALM)  # pragma: no branch
    )

    assert [] == find_leaks(render_error(error), {"the openid": OPENID})


async def test_reply_repeats_what_the_caller_sent(cassette: Path) -> None:
    """An echo is the caller's own, also of a value that was redacted."""
    reply = make_reply('{"data":{"openId":"oRecorded"}}')
    await record(cassette, reply, requests=[make_request(openId="oRecorded")])

    replayed = await ReplayTransport(cassette).send(make_request(openId="oMine"), timeout=CALM)

    assert b'{"data":{"openId":"oMine"}}' == replayed.body


async def test_text_that_must_not_be_written_is_hidden(cassette: Path) -> None:
    """A platform that explains a signature may show the secret, however short it is."""
    reply = make_reply('{"errorMsg":"signed with k3y-42","data":null}')

    await record(cassette, reply, hide=["k3y-42"])

    assert b"signed with redacted-secret-1" in read(cassette)


async def test_field_that_is_kept_is_compared(cassette: Path) -> None:
    """A call of one's own is told apart by fields that the SDK does not know."""
    await record(cassette, make_reply(), requests=[make_request(storeId="7")], keep=["storeId"])

    with pytest.raises(NotSentError, match="storeId"):
        await ReplayTransport(cassette).send(make_request(storeId="8"), timeout=CALM)


def test_single_text_is_a_type_error(cassette: Path) -> None:
    """It would be taken apart into its letters."""
    with pytest.raises(TypeError, match="a list of texts"):
        RecordingTransport(MemoryTransport(), cassette, hide=cast("list[str]", "secret"))


# The file


@ON_POSIX
@pytest.mark.parametrize("there_before", [False, True])
async def test_only_the_owner_reads_the_cassette(there_before: bool, cassette: Path) -> None:  # noqa: FBT001 - the case
    """Also where a file was made by others before."""
    if there_before:
        write(cassette, b"")
    await record(cassette, make_reply())

    assert 0o600 == get_mode(cassette)


async def test_cassette_is_continued(cassette: Path) -> None:
    """By a later process, which gives no placeholder for two values."""
    await record(cassette, make_reply('{"payToken":"one"}'))
    await record(cassette, make_reply('{"payToken":"two"}'))
    replaying = ReplayTransport(cassette)

    bodies = [(await replaying.send(make_request(), timeout=CALM)).body for _ in range(2)]

    assert [b'{"payToken":"redacted-payToken-%d"}' % number for number in (1, 2)] == bodies


@pytest.mark.parametrize("cut", [1, 40])
async def test_line_that_a_crash_cut_off_is_replaced(cut: int, cassette: Path) -> None:
    """It is no exchange; what is recorded next does not stick to it."""
    await record(cassette, make_reply(), make_reply())
    content = read(cassette)
    write(cassette, content[:-cut])
    assert 1 == ReplayTransport(cassette).left

    await record(cassette, make_reply())

    assert content == read(cassette)


async def test_lines_are_whole_while_it_records(cassette: Path) -> None:
    """A process that is killed in the next moment has recorded them."""
    recording = RecordingTransport(MemoryTransport([make_reply(), make_reply()]), cassette)
    async with aclosing(recording):
        for number in (1, 2):
            await recording.send(make_request(), timeout=CALM)
            lines = read(cassette).splitlines(keepends=True)
            assert number == len([json.loads(line) for line in lines if line.endswith(b"\n")])


@pytest.mark.parametrize("content", [b"-----BEGIN PRIVATE KEY-----\n", b"a note", b"{}\n"])
async def test_file_of_another_kind_is_left_alone(content: bytes, cassette: Path) -> None:
    """A wrong path is told before anything is sent; and no such file is replayed."""
    write(cassette, content)
    platform = MemoryTransport([make_reply()])

    with pytest.raises(NotSentError, match="is no cassette"):
        await RecordingTransport(platform, cassette).send(make_request(), timeout=CALM)

    assert (0, content) == (platform.calls, read(cassette))


async def test_folder_is_no_cassette(tmp_path: Path) -> None:
    """Recording and replaying say so."""
    with pytest.raises(NotSentError, match="cannot be opened"):
        await RecordingTransport(MemoryTransport(), tmp_path).send(make_request(), timeout=CALM)
    with pytest.raises(InvalidRequestError, match=r"cannot be read .*; allowed: a cassette"):
        ReplayTransport(tmp_path)


@ON_POSIX
async def test_link_is_not_followed(cassette: Path, tmp_path: Path) -> None:
    """In a folder that others can write to, it could lead anywhere."""
    link(cassette, tmp_path / "elsewhere")

    with pytest.raises(NotSentError, match="cannot be opened"):
        await record(cassette, make_reply())


@ON_POSIX
async def test_pipe_is_no_cassette(cassette: Path) -> None:
    """What is written there is gone, as with a device, which must not get another mode either."""
    os.mkfifo(cassette, 0o644)

    with pytest.raises(NotSentError, match="is no file"):
        await record(cassette, make_reply())
    assert 0o644 == get_mode(cassette)


def test_cassette_that_cannot_be_read_is_told_at_once(cassette: Path) -> None:
    """When the transport is made, not in the middle of a test."""
    write(cassette, b"a note\n")

    with pytest.raises(InvalidRequestError, match="line 1 is none of a cassette"):
        ReplayTransport(cassette)


async def test_reply_that_cannot_be_written_is_in_doubt(
    cassette: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was executed: "not sent" would make the caller pay again."""

    def fill(*_: object) -> int:
        raise OSError(28, "No space left on device")

    recording = RecordingTransport(MemoryTransport([make_reply()]), cassette)
    with monkeypatch.context() as disk:
        disk.setattr(os, "write", fill)
        with pytest.raises(InDoubtError, match="No space left on device"):
            await recording.send(make_request(), timeout=CALM)
    await recording.aclose()


async def test_line_that_the_disk_takes_in_parts_is_whole(
    cassette: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each write may take less than it was given."""
    write = os.write
    with monkeypatch.context() as disk:
        disk.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:7]))
        await record(cassette, make_reply())

    assert 1 == ReplayTransport(cassette).left


async def test_closed_transports_work_on(cassette: Path) -> None:
    """They may be closed twice, and used again; the recording one closes the other one."""
    closed: list[bool] = []

    class Watched(MemoryTransport):
        async def aclose(self) -> None:
            closed.append(True)

    recording = RecordingTransport(Watched([make_reply()] * 2), cassette)
    for _ in range(2):
        await recording.send(make_request(), timeout=CALM)
        await recording.aclose()
    await recording.aclose()
    replaying = ReplayTransport(cassette)
    await replaying.aclose()
    await replaying.aclose()

    assert [True] * 3 == closed
    assert make_reply() == await replaying.send(make_request(), timeout=CALM)
