"""Callbacks as a merchant's server takes them, over HTTP, verified by hand."""
# ruff: noqa: ANN001 - the fixtures' classes live in conftest.py, which is no module to import

import asyncio
import base64
import hashlib
import subprocess
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from urllib.parse import parse_qsl

import pytest
from aiohttp import web
from Crypto.PublicKey import RSA

from wxpay_async.errors import InvalidRequestError
from wxpay_async.sandbox import Sandbox, callbacks
from wxpay_async.sandbox.auth import Call
from wxpay_async.sandbox.callbacks import Callbacks
from wxpay_async.sandbox.faults import Forgery

HANDLED = (200, b'{"status": 1}')
NOT_YET = (200, b'{"status": 0}')
FAST = (0, 0.001, 0.001)
EVENT = ("trade_status", "refund_status")
FRESH_MS = 300_000

Form = list[tuple[str, str]]
Answer = tuple[int, bytes] | Callable[[web.BaseRequest], Awaitable[tuple[int, bytes]]]


class Shop:
    """A merchant's server: answers from a list, and when that is used up, that it is handled."""

    def __init__(self) -> None:
        self.taken: list[Form] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.arrived = asyncio.Semaphore(0)
        self.answers: deque[Answer] = deque()
        self.closing = asyncio.Event()
        self.url = ""

    async def __call__(self, request: web.BaseRequest) -> web.Response:
        """Take a callback."""
        body = await request.read()
        self.taken.append(parse_qsl(body.decode(), keep_blank_values=True, strict_parsing=True))
        self.headers.append(dict(request.headers))
        self.paths.append(request.path)
        self.arrived.release()
        answer = self.answers.popleft() if self.answers else HANDLED
        status, said = answer if isinstance(answer, tuple) else await answer(request)
        headers = {"Location": f"{self.url}/elsewhere"} if status == 302 else None
        return web.Response(status=status, body=said, headers=headers)

    async def hang(self, request: web.BaseRequest) -> tuple[int, bytes]:
        """Say nothing until the test is over."""
        del request
        await self.closing.wait()
        return HANDLED

    async def reset(self, request: web.BaseRequest) -> tuple[int, bytes]:
        """Close the connection instead of answering."""
        request.transport.abort()
        return HANDLED

    def said(self) -> list[tuple[str, str]]:
        """Return number and status of each callback, in the order of arrival."""
        return [
            (dict(form)["out_trade_no"], next(v for k, v in form if k in EVENT))
            for form in self.taken
        ]


@pytest.fixture
async def shop() -> AsyncIterator[Shop]:
    """A shop that listens on loopback."""
    taking = Shop()
    runner = web.ServerRunner(web.Server(taking), shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    taking.url = "http://127.0.0.1:{1}/notify".format(*runner.addresses[0])
    yield taking
    taking.closing.set()
    await runner.cleanup()


@pytest.fixture
async def sandbox(clock, shop, pay_key) -> AsyncIterator[Sandbox]:
    """A sandbox whose merchant signs by MD5 and takes callbacks at the shop."""
    async with Sandbox(
        pay_key=pay_key, clock=clock, notify_url=shop.url, callback_schedule=FAST
    ) as running:
        yield running
    assert set() == running.callbacks._tasks, "tasks outlive the sandbox"


def canonical(form: Form) -> str:
    """Lay out what was signed, by the published rule."""
    return "&".join(f"{k}={v}" for k, v in sorted(form) if v and k != "sign")


def md5(form: Form, secret: str) -> str:
    """Sign by the published rule."""
    text = f"{canonical(form)}&appSecret={secret}"
    return hashlib.md5(text.encode()).hexdigest().upper()


def openssl_verifies(form: Form, public_key: str, folder: Path) -> bool:
    """Ask the openssl program whether the signature of a callback fits."""
    key, signature = folder / "callback.pub", folder / "callback.sig"
    key.write_text(public_key)
    signature.write_bytes(base64.b64decode(dict(form)["sign"]))
    done = subprocess.run(
        ["openssl", "dgst", "-sha256", "-verify", str(key), "-signature", str(signature)],
        input=canonical(form).encode(),
        capture_output=True,
        check=False,
    )
    return done.returncode == 0


def believes(form: Form, sandbox: Sandbox, folder: Path, *, rsa: bool) -> bool:
    """Judge a callback as a careful merchant would."""
    said = dict(form)
    if len(said) < len(form) or said.get("appKey") != sandbox.app_key or not said.get("sign"):
        return False
    if abs(int(said["timestamp"]) - sandbox.platform.clock() * 1000) > FRESH_MS:
        return False
    if rsa:
        return said.get("signType") == "RSA" and openssl_verifies(
            form, sandbox.callback_public_key, folder
        )
    return said["sign"] == md5(form, sandbox.app_secret)


def without_envelope(form: Form) -> dict[str, str]:
    """Return the business fields of a callback."""
    return {k: v for k, v in form if k not in {"appKey", "nonce", "timestamp", "sign", "signType"}}


# What is told


async def test_paid(merchant, sandbox, shop, clock) -> None:
    """A confirmation is told once, with the platform's fields and a request's envelope."""
    await merchant.trade("A1")
    clock.move(90)
    sandbox.confirm("A1")
    sandbox.confirm("A1")
    await sandbox.callbacks_idle()
    (form,) = shop.taken
    said = dict(form)
    assert without_envelope(form) == {
        "out_trade_no": "A1",
        "inner_trade_no": sandbox.platform.trades["A1"].trade_no,
        "trade_status": "TRADE_SUCCESS",
        "trade_amount": "33.69",
        "gmt_payment": "2025-11-23 12:01:30",
        "gmt_close": "",
        "failReason": "",
    }
    assert (said["appKey"], said["timestamp"]) == (sandbox.app_key, str(round(clock() * 1000)))
    assert len(said["nonce"]) == 32
    assert said["sign"] == md5(form, sandbox.app_secret)
    assert "signType" not in said


async def test_shape_of_the_request(merchant, sandbox, shop) -> None:
    """A callback is a POST of a form, and bears the sandbox's marker."""
    await merchant.trade("A1")
    sandbox.confirm("A1")
    await sandbox.callbacks_idle()
    (headers,) = shop.headers
    assert headers["Content-Type"] == "application/x-www-form-urlencoded"
    assert headers["x-wxpay-sandbox"] == "1"


@pytest.mark.parametrize(
    ("act", "status", "filled"),
    [
        ("cancel", "TRANSFER_FAIL", {"failReason": "付款人取消支付"}),
        ("expire", "TRADE_CLOSED", {"gmt_close": "2025-11-23 12:00:00"}),
    ],
)
async def test_not_paid(merchant, sandbox, shop, act, status, filled) -> None:
    """A cancellation is told as failed with a reason, the end of the time as closed."""
    await merchant.trade("A1")
    getattr(sandbox, act)("A1")
    await sandbox.callbacks_idle()
    said = without_envelope(shop.taken[0])
    optional = {k: v for k, v in said.items() if k in {"gmt_payment", "gmt_close", "failReason"}}
    assert shop.said() == [("A1", status)]
    assert {k: v for k, v in optional.items() if v} == filled


async def test_time_limit_is_told_when_noticed(merchant, sandbox, shop, clock) -> None:
    """A time limit that ran out is told at the first look, as of the limit, and once."""
    await merchant.trade("A1", timeoutExpress="30m")
    clock.move(3600)
    await sandbox.callbacks_idle()
    before = list(shop.taken)
    for _ in range(3):
        assert await merchant.status("A1") == "已关闭"
    sandbox.confirm("A1")
    await sandbox.callbacks_idle()
    assert before == []
    assert shop.said() == [("A1", "TRADE_CLOSED")]
    assert dict(shop.taken[0])["gmt_close"] == "2025-11-23 12:30:00"


async def test_refund(merchant, sandbox, shop, clock) -> None:
    """A refund is told under its own number, beside that of the order."""
    await merchant.trade("A1")
    sandbox.confirm("A1")
    clock.move(60)
    await merchant.refund("B1", "A1", "3.60")
    await sandbox.callbacks_idle()
    refund = next(form for form in shop.taken if ("out_trade_no", "B1") in form)
    assert without_envelope(refund) == {
        "orig_outer_trade_no": "A1",
        "out_trade_no": "B1",
        "inner_trade_no": sandbox.platform.refunds["B1"].trade_no,
        "refund_status": "REFUND_SUCCESS",
        "refund_amount": "3.60",
        "gmt_refund": "2025-11-23 12:01:00",
    }
    assert dict(refund)["sign"] == md5(refund, sandbox.app_secret)


async def test_each_order_of_a_purchase(merchant, sandbox, shop, make_item) -> None:
    """Orders that are paid together are told one by one."""
    await merchant.trade("A1", tradeInfo=[make_item("A1"), make_item("A2", "3.00")])
    sandbox.confirm("A2")
    await sandbox.callbacks_idle()
    told = [(dict(form)["out_trade_no"], dict(form)["trade_amount"]) for form in shop.taken]
    assert sorted(told) == [("A1", "33.69"), ("A2", "3.00")]


async def test_refused_refund_is_not_told(merchant, sandbox, shop) -> None:
    """Nothing is told of what did not happen."""
    await merchant.trade("A1")
    await merchant.refund("B1", "A1", "3.60")
    await sandbox.callbacks_idle()
    assert shop.taken == []


# How it is signed


async def test_rsa(merchant, clock, shop, pay_key, merchant_key, session, tmp_path) -> None:
    """A merchant with a public key is told by RSA, which the openssl program verifies."""
    public = merchant_key.public_key().export_key()
    async with Sandbox(
        pay_key=pay_key, clock=clock, merchant_public_key=public, notify_url=shop.url
    ) as sandbox:
        await type(merchant)(session, sandbox, rsa=False).trade("A1")
        sandbox.confirm("A1")
        await sandbox.callbacks_idle()
        (form,) = shop.taken
        assert ("signType", "RSA") in form
        assert openssl_verifies(form, sandbox.callback_public_key, tmp_path)
        form[0] = (form[0][0], f"{form[0][1]}0")
        assert not openssl_verifies(form, sandbox.callback_public_key, tmp_path)


async def test_scheme_by_choice(merchant, sandbox, shop, tmp_path) -> None:
    """The scheme can be chosen, whatever keys are registered."""
    app = sandbox.platform.apps[sandbox.app_key]
    app.callback_scheme = "rsa"
    await merchant.trade("A1")
    sandbox.confirm("A1")
    await sandbox.callbacks_idle()
    assert openssl_verifies(shop.taken[0], sandbox.pay_public_key, tmp_path)


async def test_scheme_beside_a_public_key(pay_key, merchant_key) -> None:
    """A merchant that calls by RSA may take its callbacks by MD5."""
    public = merchant_key.public_key().export_key()
    sandbox = Sandbox(pay_key=pay_key, merchant_public_key=public, callback_scheme="md5")
    second = sandbox.add_app("second", merchant_public_key=public)
    third = sandbox.add_app("third", callback_scheme="rsa")
    first = sandbox.platform.apps[sandbox.app_key]
    assert ["md5", "rsa", "rsa"] == [app.notify_scheme for app in (first, second, third)]


async def test_key_of_its_own(clock, shop, pay_key, merchant_key, session, merchant) -> None:
    """Callbacks can be signed by another key than prepays are."""
    async with Sandbox(
        pay_key=pay_key,
        callback_key=merchant_key,
        callback_scheme="rsa",
        clock=clock,
        notify_url=shop.url,
    ) as sandbox:
        assert RSA.import_key(sandbox.callback_public_key) == merchant_key.public_key()
        assert RSA.import_key(sandbox.pay_public_key) == pay_key.public_key()
        await type(merchant)(session, sandbox, rsa=False).trade("A1")
        sandbox.confirm("A1")
        await sandbox.callbacks_idle()
        ours = sandbox.callbacks.sign_rsa(canonical(shop.taken[0]).encode())
    assert dict(shop.taken[0])["sign"] == ours != sandbox._sign_pay(b"")


def test_callback_key_before_the_start(merchant_key) -> None:
    """A key that was given can be asked for at once, one that is made on start cannot."""
    given = Sandbox(callback_key=merchant_key)
    assert RSA.import_key(given.callback_public_key) == merchant_key.public_key()
    for early in (lambda: Sandbox().callback_public_key, lambda: given._sign_callback(b"")):
        with pytest.raises(RuntimeError, match="not started"):
            early()


# Again, until it is handled


@pytest.mark.parametrize(
    "answer",
    [
        NOT_YET,
        (200, b'{"status": true}'),
        (200, b'{"status": 1.0}'),
        (200, b'{"status": "1"}'),
        (200, b'{"status": 1, "more": 1}'),
        (200, b'{"code": 1}'),
        (200, b"[1]"),
        (200, b"1"),
        (200, b"success"),
        (200, b""),
        (200, b"\xff"),
        (200, b"[" * 4000),
        (200, b'{"status": 1}' + b" " * 5000),
        (201, b'{"status": 1}'),
        (302, b'{"status": 1}'),
        (500, b'{"status": 1}'),
    ],
    ids=lambda answer: f"{answer[0]}-{answer[1][:24]!r}",
)
async def test_anything_else_is_no_acknowledgement(merchant, sandbox, shop, answer) -> None:
    """Only 200 with the object {"status": 1} is; after anything else it comes again."""
    shop.answers.extend([answer, answer])
    await merchant.trade("A1")
    sandbox.confirm("A1")
    await sandbox.callbacks_idle()
    trials = [(delivery.attempt, delivery.acknowledged) for delivery in sandbox.callbacks.log]
    assert trials == [(1, False), (2, False), (3, True)]
    assert (sandbox.callbacks.delivered, sandbox.callbacks.acknowledged) == (3, 1)
    assert (sandbox.callbacks.given_up, sandbox.callbacks.waiting) == (0, 0)


async def test_redirects_are_not_followed(merchant, sandbox, shop) -> None:
    """A merchant's redirect leads nowhere, least of all off this machine."""
    shop.answers.append((302, b""))
    await merchant.trade("A1")
    sandbox.confirm("A1")
    await sandbox.callbacks_idle()
    assert shop.paths == ["/notify", "/notify"]


@pytest.mark.parametrize("answer", [b'{"status":1}', b' { "status" : 1 }\n'])
async def test_acknowledgement_is_json(merchant, sandbox, shop, answer) -> None:
    """Blanks in the acknowledgement do not matter."""
    shop.answers.append((200, answer))
    await merchant.trade("A1")
    sandbox.confirm("A1")
    await sandbox.callbacks_idle()
    assert [delivery.acknowledged for delivery in sandbox.callbacks.log] == [True]


async def test_each_delivery_is_signed_afresh(merchant, sandbox, shop, clock) -> None:
    """What is said stays; nonce, timestamp and signature are new, and fit."""

    async def later(request: web.BaseRequest) -> tuple[int, bytes]:
        del request
        clock.move(15)
        return NOT_YET

    shop.answers.append(later)
    await merchant.trade("A1")
    sandbox.confirm("A1")
    await sandbox.callbacks_idle()
    first, second = map(dict, shop.taken)
    assert without_envelope(shop.taken[0]) == without_envelope(shop.taken[1])
    assert int(second["timestamp"]) - int(first["timestamp"]) == 15_000
    assert first["nonce"] != second["nonce"]
    assert second["sign"] == md5(shop.taken[1], sandbox.app_secret)


@pytest.mark.parametrize("how", ["hang", "reset"])
async def test_no_answer(merchant, sandbox, shop, how) -> None:
    """A shop that says nothing, or hangs up, is told again; the log says why."""
    if how == "hang":
        sandbox.callbacks.timeout = 0.05
    shop.answers.append(getattr(shop, how))
    await merchant.trade("A1")
    sandbox.confirm("A1")
    await sandbox.callbacks_idle()
    first, second = sandbox.callbacks.log
    assert (first.status, first.acknowledged, bool(first.problem)) == (None, False, True)
    assert (second.status, second.acknowledged, second.problem) == (200, True, "")
    assert sandbox.callbacks.delivered == 1


async def test_given_up(merchant, sandbox, unused_tcp_port) -> None:
    """After the last delivery of the schedule a callback is given up."""
    sandbox.notify_url = f"http://127.0.0.1:{unused_tcp_port}/"
    await merchant.trade("A1")
    sandbox.confirm("A1")
    await sandbox.callbacks_idle()
    assert [delivery.attempt for delivery in sandbox.callbacks.log] == [1, 2, 3]
    assert {delivery.problem for delivery in sandbox.callbacks.log} == {"ClientConnectorError"}
    assert (sandbox.callbacks.given_up, sandbox.callbacks.delivered) == (1, 0)


async def test_schedule(merchant, clock, shop, pay_key, session, monkeypatch) -> None:
    """Before each delivery it waits as long as the schedule says."""
    slept: list[float] = []
    real_sleep = asyncio.sleep

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        await real_sleep(0)

    shop.answers.extend([NOT_YET] * 3)
    async with Sandbox(
        pay_key=pay_key, clock=clock, notify_url=shop.url, callback_schedule=[2, 15, 60]
    ) as sandbox:
        await type(merchant)(session, sandbox, rsa=False).trade("A1")
        monkeypatch.setattr(asyncio, "sleep", sleep)
        sandbox.confirm("A1")
        await sandbox.callbacks_idle()
    assert [seconds for seconds in slept if seconds] == [2, 15, 60]
    assert sandbox.callbacks.given_up == 1


@pytest.mark.parametrize("schedule", [(), (-1,), (float("inf"),), (float("nan"),)])
def test_schedules_that_are_none(schedule) -> None:
    """A schedule is at least one finite time to wait."""
    with pytest.raises(ValueError, match="schedule"):
        Sandbox(callback_schedule=schedule)


def test_default_schedule() -> None:
    """Without a word of the test, a callback comes at once, and again over an hour."""
    sandbox = Sandbox()
    assert sandbox.callbacks.schedule[0] == 0
    assert sum(sandbox.callbacks.schedule) > 3600
    assert 4 < sandbox.callbacks.timeout <= 5


# Where it goes


async def test_no_address(merchant, sandbox, shop) -> None:
    """Without an address nothing is told, and nothing waits; set later, it hears the rest."""
    sandbox.notify_url = None
    await merchant.trade("A1")
    await merchant.trade("A2")
    sandbox.confirm("A1")
    await sandbox.callbacks_idle()
    sandbox.notify_url = shop.url
    sandbox.confirm("A2")
    await sandbox.callbacks_idle()
    assert sandbox.notify_url == shop.url
    assert shop.said() == [("A2", "TRADE_SUCCESS")]


async def test_address_that_moves(merchant, sandbox, shop) -> None:
    """What waits goes to the address of the moment."""

    async def move(request: web.BaseRequest) -> tuple[int, bytes]:
        sandbox.notify_url = str(request.url.with_path("/moved"))
        return NOT_YET

    shop.answers.append(move)
    await merchant.trade("A1")
    sandbox.confirm("A1")
    await sandbox.callbacks_idle()
    assert shop.paths == ["/notify", "/moved"]


async def test_address_that_goes_away(merchant, sandbox, shop) -> None:
    """What waits for an address that is taken back is tried and given up."""

    async def leave(request: web.BaseRequest) -> tuple[int, bytes]:
        del request
        sandbox.notify_url = None
        return NOT_YET

    shop.answers.append(leave)
    await merchant.trade("A1")
    sandbox.confirm("A1")
    await sandbox.callbacks_idle()
    assert [delivery.problem for delivery in sandbox.callbacks.log] == ["", *["no address"] * 2]


async def test_each_merchant_has_its_own(merchant, sandbox, shop) -> None:
    """Another merchant is told at its own address, in its own name, by its own secret."""
    sandbox.notify_url = None
    sandbox.add_app("other", app_secret="its-secret", notify_url=shop.url)
    merchant.app_key, merchant.app_secret = "other", "its-secret"
    await merchant.trade("A1")
    sandbox.confirm("A1")
    await sandbox.callbacks_idle()
    (form,) = shop.taken
    assert dict(form)["appKey"] == "other"
    assert dict(form)["sign"] == md5(form, "its-secret")


@pytest.mark.parametrize(
    "url",
    [
        "http://192.0.2.1/notify",
        "https://shop.example/notify",
        "http://127.0.0.1.example/",
        "ftp://127.0.0.1/",
        "http:///notify",
        "http://127.0.0.1:99999/",
        "http://127.0.0.1:0/",
        "http://[::1/",
        "127.0.0.1:80",
        "",
    ],
)
def test_addresses_that_are_refused(url) -> None:
    """A callback never leaves this machine unasked: however the address is set."""
    sandbox = Sandbox()
    for setting in (
        lambda: Sandbox(notify_url=url),
        lambda: setattr(sandbox, "notify_url", url),
        lambda: sandbox.add_app("other", notify_url=url),
    ):
        with pytest.raises(InvalidRequestError, match="notify_url"):
            setting()
    assert (sandbox.notify_url, "other" in sandbox.platform.apps) == (None, False)


@pytest.mark.parametrize("url", ["http://[::1]:8080/", "http://localhost/n", "https://127.0.0.2/"])
def test_addresses_that_are_taken(url) -> None:
    """This machine is taken by any of its names."""
    assert Sandbox(notify_url=url).notify_url == url


def test_other_machines_on_request() -> None:
    """A switch allows other machines, for every merchant."""
    sandbox = Sandbox(notify_remote=True)
    sandbox.notify_url = "https://shop.example/notify"
    sandbox.add_app("other", notify_url="https://shop.example/other")
    with pytest.raises(InvalidRequestError, match="notify_url"):
        sandbox.notify_url = "shop.example"


# Its life


async def test_closing_keeps_what_waits(merchant, sandbox, shop) -> None:
    """Closing ends every task; what was not handled comes again after the next start."""
    shop.answers.append(shop.hang)
    await merchant.trade("A1")
    sandbox.confirm("A1")
    await shop.arrived.acquire()
    await sandbox.aclose()
    waiting = sandbox.callbacks.waiting
    with pytest.raises(RuntimeError, match="not running"):
        await sandbox.callbacks_idle()
    await sandbox.start()
    await sandbox.callbacks_idle()
    assert (waiting, shop.said()) == (1, [("A1", "TRADE_SUCCESS")] * 2)


async def test_what_happened_while_closed(merchant, sandbox, shop) -> None:
    """What happens while the sandbox is closed is told after the start, unless it is held."""
    await merchant.trade("A1")
    await merchant.trade("A2")
    await sandbox.aclose()
    sandbox.confirm("A1")
    sandbox.faults.reorder(2)
    sandbox.cancel("A2")
    await sandbox.start()
    await shop.arrived.acquire()
    assert shop.said() == [("A1", "TRADE_SUCCESS")]
    await sandbox.callbacks_idle()
    assert shop.said() == [("A1", "TRADE_SUCCESS"), ("A2", "TRANSFER_FAIL")]


async def test_closing_right_after_it_happened(merchant, sandbox, shop) -> None:
    """A callback that had no time to begin is not lost by closing."""
    await merchant.trade("A1")
    sandbox.confirm("A1")
    await sandbox.aclose()
    await asyncio.sleep(0)
    assert (sandbox.callbacks.waiting, shop.taken) == (1, [])
    await sandbox.start()
    await sandbox.callbacks_idle()
    assert shop.said() == [("A1", "TRADE_SUCCESS")]


async def test_idle_when_there_is_nothing() -> None:
    """Nothing waits in a sandbox that was never started."""
    await Sandbox().callbacks_idle()


def test_two_loops(pay_key, clock) -> None:
    """What waits in one event loop is told in the next."""
    sandbox = Sandbox(pay_key=pay_key, clock=clock, callback_schedule=(0, 0, 0))

    async def fail() -> None:
        async with sandbox:
            sandbox.notify_url = "http://127.0.0.1:1/"
            sandbox.platform.tell(notice())
            await asyncio.sleep(0)

    def notice() -> callbacks.Notice:
        fields = {"out_trade_no": "A1", "trade_status": "TRADE_SUCCESS"}
        return callbacks.Notice(
            app_key=sandbox.app_key, kind="trade", out_trade_no="A1", fields=fields
        )

    async def succeed() -> list[tuple[str, str]]:
        shop = Shop()
        runner = web.ServerRunner(web.Server(shop))
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        sandbox.notify_url = "http://127.0.0.1:{1}/".format(*runner.addresses[0])
        async with sandbox:
            await sandbox.callbacks_idle()
        await runner.cleanup()
        return shop.said()

    asyncio.run(fail())
    assert asyncio.run(succeed()) == [("A1", "TRADE_SUCCESS")]


async def test_payer_in_another_thread(merchant, sandbox, shop) -> None:
    """The payer may act in a thread that has no event loop."""
    await merchant.trade("A1")
    await asyncio.to_thread(sandbox.confirm, "A1")
    await sandbox.callbacks_idle()
    assert shop.said() == [("A1", "TRADE_SUCCESS")]


async def test_no_task_is_left(merchant, sandbox, shop) -> None:
    """Closing leaves no task behind, however many callbacks wait."""
    sandbox.callbacks.schedule = (60.0,)
    for number in range(20):
        await merchant.trade(f"A{number}")
        sandbox.confirm(f"A{number}")
    await asyncio.sleep(0)
    began = len(sandbox.callbacks._tasks)
    await sandbox.aclose()
    assert (began, sandbox.callbacks._tasks, shop.taken) == (20, set(), [])


async def test_queue_is_bounded(merchant, sandbox, shop, monkeypatch) -> None:
    """Callbacks beyond the bound are dropped and counted; the others go out."""
    monkeypatch.setattr(callbacks, "_MAX_WAITING", 2)
    for number in ("A1", "A2", "A3"):
        await merchant.trade(number)
    for number in ("A1", "A2", "A3"):
        sandbox.confirm(number)
    await sandbox.callbacks_idle()
    assert (sandbox.callbacks.dropped, len(shop.taken)) == (1, 2)


def test_log_is_bounded(sandbox) -> None:
    """The log forgets its oldest lines."""
    assert sandbox.callbacks.log.maxlen == 1000


async def test_log_shows_no_signature(merchant, sandbox, shop) -> None:
    """A delivery can be shown without its form."""
    await merchant.trade("A1")
    sandbox.confirm("A1")
    await sandbox.callbacks_idle()
    shown = repr(sandbox.callbacks.log)
    assert dict(shop.taken[0])["sign"] not in shown
    assert sandbox.app_secret not in shown + repr(sandbox.callbacks)


async def test_many(merchant, sandbox, shop) -> None:
    """300 payers at once: each order is told once."""
    numbers = [f"A{number}" for number in range(300)]
    for number in numbers:
        await merchant.trade(number)
    for number in numbers:
        sandbox.confirm(number)
    await sandbox.callbacks_idle()
    assert Counter(shop.said()) == Counter((number, "TRADE_SUCCESS") for number in numbers)
    assert sandbox.callbacks.acknowledged == 300


# CallbackFault on request


async def test_double(merchant, sandbox, shop) -> None:
    """The copies of a doubled callback arrive at once, each signed for itself."""
    together = asyncio.Barrier(3)

    async def wait_for_others(request: web.BaseRequest) -> tuple[int, bytes]:
        del request
        await together.wait()
        return HANDLED

    shop.answers.extend([wait_for_others] * 3)
    sandbox.faults.double(copies=3)
    for number in ("A1", "A2"):
        await merchant.trade(number)
        sandbox.confirm(number)
        await sandbox.callbacks_idle()
    told = [("A1", "TRADE_SUCCESS")] * 3 + [("A2", "TRADE_SUCCESS")]
    assert shop.said() == told
    assert len({dict(form)["nonce"] for form in shop.taken}) == 4


async def test_reorder(merchant, sandbox, shop) -> None:
    """Reordered callbacks arrive the last first; those after them as they happen."""
    sandbox.faults.reorder(3)
    numbers = ["A1", "A2", "A3", "A4"]
    for number in numbers:
        await merchant.trade(number)
    for number in numbers[:2]:
        sandbox.confirm(number)
    await asyncio.sleep(0)
    held = list(shop.taken)
    sandbox.confirm("A3")
    await sandbox.callbacks_idle()
    sandbox.confirm("A4")
    await sandbox.callbacks_idle()
    assert held == []
    assert [number for number, _ in shop.said()] == ["A3", "A2", "A1", "A4"]


async def test_refund_before_the_payment(merchant, sandbox, shop) -> None:
    """A refund can be told before the payment that it gives back."""
    sandbox.faults.reorder()
    await merchant.trade("A1")
    sandbox.confirm("A1")
    await merchant.refund("B1", "A1", "1.00")
    await sandbox.callbacks_idle()
    assert shop.said() == [("B1", "REFUND_SUCCESS"), ("A1", "TRADE_SUCCESS")]


async def test_reorder_in_turn(merchant, sandbox, shop) -> None:
    """A reordered callback waits until the one before it was answered, however badly."""
    events: list[str] = []

    async def refuse_slowly(request: web.BaseRequest) -> tuple[int, bytes]:
        del request
        number = shop.said()[-1][0]
        events.append(f"{number} came")
        await asyncio.sleep(0.02)  # room for the other one, if it came too early
        events.append(f"{number} was answered")
        return NOT_YET

    shop.answers.extend([refuse_slowly, refuse_slowly])
    sandbox.callbacks.schedule = (0.0, 0.1)
    sandbox.faults.reorder(2)
    for number in ("A1", "A2"):
        await merchant.trade(number)
        sandbox.confirm(number)
    await sandbox.callbacks_idle()
    assert events == ["A2 came", "A2 was answered", "A1 came", "A1 was answered"]
    assert Counter(number for number, _ in shop.said()) == {"A1": 2, "A2": 2}


async def test_reorder_of_too_few(merchant, sandbox, shop) -> None:
    """What waits for callbacks that never come goes out when somebody waits for it."""
    sandbox.faults.reorder(3)
    for number in ("A1", "A2"):
        await merchant.trade(number)
        sandbox.confirm(number)
    await sandbox.callbacks_idle()
    assert [number for number, _ in shop.said()] == ["A2", "A1"]


async def test_late(merchant, sandbox, shop, clock) -> None:
    """A late callback bears an old timestamp, properly signed, at each delivery."""
    shop.answers.append(NOT_YET)
    sandbox.faults.late(3600)
    await merchant.trade("A1")
    sandbox.confirm("A1")
    await sandbox.callbacks_idle()
    expected = str(round((clock() - 3600) * 1000))
    assert [dict(form)["timestamp"] for form in shop.taken] == [expected] * 2
    assert dict(shop.taken[0])["sign"] == md5(shop.taken[0], sandbox.app_secret)


async def test_pause(merchant, sandbox, shop) -> None:
    """A pause holds the first delivery up, while other callbacks pass."""
    sandbox.faults.pause(60)
    await merchant.trade("A1")
    await merchant.trade("A2")
    sandbox.confirm("A1")
    sandbox.confirm("A2")
    await shop.arrived.acquire()
    assert shop.said() == [("A2", "TRADE_SUCCESS")]


async def test_forgery_before_the_genuine(merchant, sandbox, shop, tmp_path) -> None:
    """A forgery is answered before the genuine callback goes out, and is not sent again."""
    shop.answers.append(NOT_YET)
    sandbox.faults.forge("amount")
    await merchant.trade("A1")
    sandbox.confirm("A1")
    await sandbox.callbacks_idle()
    judged = [believes(form, sandbox, tmp_path, rsa=False) for form in shop.taken]
    assert judged == [False, True]
    assert [dict(form)["trade_amount"] for form in shop.taken] == ["3369.00", "33.69"]
    assert [line.forgery for line in sandbox.callbacks.log] == [Forgery.AMOUNT, None]
    assert (sandbox.callbacks.believed, sandbox.callbacks.acknowledged) == (0, 1)


async def test_believed_forgeries_are_counted(merchant, sandbox) -> None:
    """A shop that acknowledges a forgery is found out."""
    sandbox.faults.forge(Forgery.UNSIGNED)
    await merchant.trade("A1")
    sandbox.confirm("A1")
    await sandbox.callbacks_idle()
    assert (sandbox.callbacks.believed, sandbox.callbacks.acknowledged) == (1, 1)


async def test_all_at_once(merchant, sandbox, shop, clock) -> None:
    """CallbackFault combines: doubled, late and out of order."""
    sandbox.faults.double(2)
    sandbox.faults.late(60, 2)
    sandbox.faults.reorder(2)
    for number in ("A1", "A2"):
        await merchant.trade(number)
        sandbox.confirm(number)
    await sandbox.callbacks_idle()
    assert [number for number, _ in shop.said()] == ["A2", "A2", "A1", "A1"]
    stamps = {int(dict(form)["timestamp"]) for form in shop.taken}
    assert stamps == {round((clock() - 60) * 1000)}


@pytest.mark.parametrize("scheme", ["md5", "rsa"])
@pytest.mark.parametrize("kind", list(Forgery))
async def test_forgeries_do_not_verify(merchant, sandbox, shop, tmp_path, kind, scheme) -> None:
    """No forgery passes a careful merchant; the genuine callback does."""
    sandbox.platform.apps[sandbox.app_key].callback_scheme = scheme
    await merchant.trade("A1")
    shop.answers.append(NOT_YET)
    delivery = await sandbox.send_forged(kind, "A1")
    sandbox.confirm("A1")
    await sandbox.callbacks_idle()
    fake, genuine = (believes(form, sandbox, tmp_path, rsa=scheme == "rsa") for form in shop.taken)
    assert (fake, genuine) == (False, True)
    assert (delivery.forgery, delivery.acknowledged, delivery.answer) == (kind, False, NOT_YET[1])
    assert delivery.pairs == tuple(shop.taken[0])


async def test_forged_payment_of_an_open_order(merchant, sandbox, shop, clock) -> None:
    """A forgery about an order that awaits payment says that it is paid, and pays nothing."""
    await merchant.trade("A1")
    clock.move(1)
    delivery = await sandbox.send_forged("signature", "A1")
    assert shop.said() == [("A1", "TRADE_SUCCESS")]
    assert dict(shop.taken[0])["gmt_payment"] == "2025-11-23 12:00:01"
    assert delivery.acknowledged
    assert await merchant.status("A1") == "待付款"


async def test_forged_refund(merchant, sandbox, shop) -> None:
    """A forgery about a refund says what a refund says."""
    await merchant.trade("A1")
    sandbox.confirm("A1")
    await merchant.refund("B1", "A1", "1.00")
    await sandbox.callbacks_idle()
    await sandbox.send_forged("status", "B1")
    assert shop.said()[-1] == ("B1", "REFUND_FAIL")


async def test_forgeries_that_cannot_be(merchant, sandbox) -> None:
    """There must be an order, an address, such a forgery, and a sandbox that runs."""
    await merchant.trade("A1")
    with pytest.raises(InvalidRequestError, match="no such order"):
        await sandbox.send_forged("amount", "A2")
    with pytest.raises(ValueError, match="blue"):
        await sandbox.send_forged("blue", "A1")
    sandbox.notify_url = None
    with pytest.raises(InvalidRequestError, match="notify_url"):
        await sandbox.send_forged("amount", "A1")
    await sandbox.aclose()
    with pytest.raises(RuntimeError, match="not running"):
        await sandbox.send_forged("amount", "A1")


async def test_platform_alone_tells_nobody(clock) -> None:
    """The platform without a server has nobody to tell, and works."""
    sandbox = Sandbox(clock=clock)
    assert isinstance(sandbox.callbacks, Callbacks)
    reply = sandbox.platform.answer(Call(path="/api/instant/trade"))
    assert reply["success"] is False
