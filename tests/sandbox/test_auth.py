"""Every check that a call must pass before its business, over HTTP."""

import asyncio
import base64
import json
import subprocess
from pathlib import Path
from urllib.parse import urlencode

import aiohttp
import pytest
from Crypto.PublicKey import RSA

from tests.sandbox.raw_merchant import (
    MERCHANTS,
    QUERY,
    TRADE,
    Merchant,
    make_trade_body,
    make_trade_item,
)
from tests.support.clock import MovedClock
from wxpay_async.errors import InvalidRequestError
from wxpay_async.sandbox import Sandbox
from wxpay_async.sandbox.auth import App
from wxpay_async.sandbox.error_codes import Code, RefusalError

FORM = "application/x-www-form-urlencoded"
AWKWARD = '茶 & 糖 = 100% + 🍵 "引号" a=b&c=d %26 \\ /'


async def test_call_signed_by_either_scheme_is_executed(md5_or_rsa_merchant: Merchant) -> None:
    """A call that is signed by MD5 or by RSA is executed."""
    reply = await md5_or_rsa_merchant.call(MERCHANTS)
    assert reply["success"] is True
    assert (reply["errorCode"], reply["errorMsg"]) == ("", "")


@pytest.mark.parametrize("query", [False, True], ids=["form", "query"])
async def test_awkward_text_by_form_and_query_string_is_unchanged(
    md5_or_rsa_merchant: Merchant, *, query: bool
) -> None:
    """Chinese text, & = + % and emoji arrive unchanged by form and by query string."""
    body = make_trade_body("A1", tradeInfo=[make_trade_item("A1", subject=AWKWARD)])
    params = md5_or_rsa_merchant.sign(bizContent=json.dumps(body, ensure_ascii=False))
    reply = await md5_or_rsa_merchant.send(TRADE, params, query=query)
    assert reply["success"] is True
    found = await md5_or_rsa_merchant.query("A1")
    assert found["data"]["subject"] == AWKWARD


async def test_signature_by_a_former_secret_is_refused(merchant: Merchant) -> None:
    """A changed secret applies at once, and what the former one signed is refused."""
    old, app = merchant.sign(), merchant.sandbox.platform.apps[merchant.app_key]
    app.change_secret("the-secret-of-this-year")
    refused = await merchant.send(MERCHANTS, old)
    merchant.switch_to(app)
    reply = await merchant.call(MERCHANTS)
    assert "CO_MSG_000006" == refused["errorCode"]
    assert reply["success"] is True


async def test_signature_of_openssl_is_accepted(
    merchant: Merchant, merchant_key: RSA.RsaKey, tmp_path: Path
) -> None:
    """A signature made by the openssl program verifies."""
    pem = tmp_path / "merchant.pem"
    pem.write_bytes(merchant_key.export_key("PEM"))
    merchant.key = merchant_key
    params = merchant.envelope({})
    text = "&".join(f"{name}={params[name]}" for name in sorted(params))
    made = await asyncio.to_thread(
        subprocess.run,
        ["openssl", "dgst", "-sha256", "-sign", str(pem)],
        input=text.encode(),
        capture_output=True,
        check=True,
    )
    params["sign"] = base64.b64encode(made.stdout).decode()
    reply = await merchant.send(MERCHANTS, params)
    assert reply["success"] is True


async def test_signature_without_empty_values_is_accepted(merchant: Merchant) -> None:
    """A parameter whose value is empty is left out of the canonical string."""
    reply = await merchant.call(MERCHANTS, pageSize="", signType="")
    assert reply["success"] is True


async def test_signature_without_value_zero_is_refused(merchant: Merchant) -> None:
    """Only empty values are left out: a signature without the value "0" is wrong."""
    params = merchant.envelope({"note": "0"})
    unsigned = {name: value for name, value in params.items() if name != "note"}
    reply = await merchant.send(MERCHANTS, {**params, "sign": merchant.signature(unsigned)})
    assert reply["errorCode"] == "CO_MSG_000006"


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
async def test_method_other_than_post_is_refused(
    merchant: Merchant, session: aiohttp.ClientSession, method: str
) -> None:
    """Anything but POST is CO_MSG_0000016, with HTTP 200."""
    url = f"{merchant.sandbox.url}{MERCHANTS}?{urlencode(merchant.sign())}"
    async with session.request(method, url) as answer:
        assert answer.status == 200
        reply = json.loads(await answer.read())
    assert reply["errorCode"] == "CO_MSG_0000016"


@pytest.mark.parametrize(
    "content_type",
    ["application/json", "text/plain", "", f"{FORM}; charset=gbk"],
)
async def test_media_type_other_than_utf8_form_is_refused(
    merchant: Merchant, content_type: str
) -> None:
    """A body that is not a UTF-8 form is CO_MSG_0000015, even with a right signature."""
    body = urlencode(merchant.sign()).encode()
    reply = await merchant.send_bytes(MERCHANTS, body, content_type)
    assert reply["errorCode"] == "CO_MSG_0000015"


@pytest.mark.parametrize("charset", ["", "; charset=utf-8", ';charset="UTF-8"'])
async def test_media_type_with_utf8_charset_is_accepted(merchant: Merchant, charset: str) -> None:
    """A form may name its charset, in any of the usual spellings."""
    body = urlencode(merchant.sign()).encode()
    reply = await merchant.send_bytes(MERCHANTS, body, f"{FORM}{charset}")
    assert reply["success"] is True


@pytest.mark.parametrize("name", ["appKey", "nonce", "timestamp", "sign"])
@pytest.mark.parametrize("empty", [False, True], ids=["absent", "empty"])
async def test_envelope_parameter_missing_or_empty_is_refused(
    merchant: Merchant, name: str, *, empty: bool
) -> None:
    """Each of the four parameters is required, and the refusal names it."""
    params = merchant.sign()
    del params[name]
    if empty:
        params[name] = ""
    reply = await merchant.send(MERCHANTS, params)
    assert reply["errorCode"] == "CO_MSG_000001"
    assert name in reply["errorMsg"]


@pytest.mark.parametrize(
    "body",
    [b"no-pairs", b"appKey=%ff", "appKey=\xff".encode("latin-1"), b"&".join([b"a=1"] * 65)],
    ids=["no pairs", "escaped bytes", "raw bytes", "too many"],
)
async def test_body_that_is_not_pairs_is_malformed(merchant: Merchant, body: bytes) -> None:
    """A body that cannot be read as name=value pairs in UTF-8 is malformed."""
    reply = await merchant.send_bytes(MERCHANTS, body, FORM)
    assert reply["errorCode"] == "CO_MSG_000001"


async def test_parameter_sent_twice_is_malformed(merchant: Merchant) -> None:
    """One name with two values, in body and query string, is ambiguous."""
    params = merchant.sign()
    reply = await merchant.send(f"{MERCHANTS}?pageSize=3", {**params, "pageSize": "4"})
    assert reply["errorCode"] == "CO_MSG_000001"
    assert "twice" in reply["errorMsg"]


@pytest.mark.parametrize("timestamp", ["soon", "-1763870400000", "1763870400000.5", "9" * 16, "١"])
async def test_timestamp_that_is_not_milliseconds_is_malformed(
    merchant: Merchant, timestamp: str
) -> None:
    """A timestamp that is not a plain number is malformed."""
    reply = await merchant.call(MERCHANTS, timestamp=timestamp)
    assert reply["errorCode"] == "CO_MSG_000001"
    assert "timestamp" in reply["errorMsg"]


async def test_app_key_unknown_is_refused_before_its_signature(merchant: Merchant) -> None:
    """An unknown appKey is CO_MSG_000004, before its signature is checked."""
    reply = await merchant.call(MERCHANTS, appKey="nobody", sign="00")
    assert reply["errorCode"] == "CO_MSG_000004"


async def test_app_switched_off_is_refused(merchant: Merchant, sandbox: Sandbox) -> None:
    """An appKey that was switched off is CO_MSG_000008 until it is switched on."""
    app = sandbox.platform.apps[sandbox.app_key]
    app.valid = False
    refused = await merchant.call(MERCHANTS)
    app.valid = True
    accepted = await merchant.call(MERCHANTS)
    assert refused["errorCode"] == "CO_MSG_000008"
    assert accepted["success"] is True


async def test_address_outside_the_allow_list_is_refused(
    merchant: Merchant, sandbox: Sandbox
) -> None:
    """A caller outside the allow-list is CO_MSG_0000017, one inside is let in."""
    app = sandbox.platform.apps[sandbox.app_key]
    app.addresses = {"192.0.2.1"}
    refused = await merchant.call(MERCHANTS)
    app.addresses = {"127.0.0.1"}
    accepted = await merchant.call(MERCHANTS)
    assert refused["errorCode"] == "CO_MSG_0000017"
    assert accepted["success"] is True


@pytest.mark.parametrize("name", ["nonce", "timestamp", "pageSize", "signType"])
async def test_parameter_changed_after_signing_is_refused(
    md5_or_rsa_merchant: Merchant, clock: MovedClock, name: str
) -> None:
    """A parameter that is changed or added after signing is CO_MSG_000006."""
    params = md5_or_rsa_merchant.sign(pageSize="3")
    changed = {"timestamp": str(int(clock.time() * 1000) + 1), "signType": "MD5"}.get(name, "4")
    reply = await md5_or_rsa_merchant.send(MERCHANTS, {**params, name: changed})
    assert reply["errorCode"] == "CO_MSG_000006"


async def test_md5_in_lower_case_is_refused(merchant: Merchant) -> None:
    """The MD5 scheme is upper-case hexadecimal."""
    params = merchant.sign()
    reply = await merchant.send(MERCHANTS, {**params, "sign": params["sign"].lower()})
    assert reply["errorCode"] == "CO_MSG_000006"


async def test_sign_type_removed_after_signing_is_refused(md5_or_rsa_merchant: Merchant) -> None:
    """The parameter signType is signed too: without it an RSA signature is wrong."""
    params = md5_or_rsa_merchant.sign()
    params.pop("signType", None)
    reply = await md5_or_rsa_merchant.send(MERCHANTS, params)
    assert reply["success"] is (md5_or_rsa_merchant.key is None)


@pytest.mark.parametrize("sign", ["not base64 !", "QUJD"])
async def test_signature_of_wrong_form_is_refused(md5_or_rsa_merchant: Merchant, sign: str) -> None:
    """A signature that is not Base64, or too short, is refused like a wrong one."""
    reply = await md5_or_rsa_merchant.call(MERCHANTS, sign=sign)
    assert reply["errorCode"] == "CO_MSG_000006"


async def test_rsa_without_a_registered_key_is_refused(
    merchant: Merchant, sandbox: Sandbox, merchant_key: RSA.RsaKey
) -> None:
    """An appKey without a public key cannot sign by RSA, and the refusal says why."""
    merchant.app_key = sandbox.add_app("keyless").app_key
    merchant.key = merchant_key
    reply = await merchant.call(MERCHANTS)
    assert reply["errorCode"] == "CO_MSG_000006"
    assert "public key" in reply["errorMsg"]


@pytest.mark.parametrize(
    ("offset_ms", "code"),
    [(-300_001, "CO_MSG_000005"), (-300_000, ""), (300_000, ""), (300_001, "CO_MSG_000005")],
)
async def test_timestamp_at_most_5_minutes_away_is_accepted(
    merchant: Merchant, clock: MovedClock, offset_ms: int, code: str
) -> None:
    """A request is valid for 5 minutes before and after its timestamp, to the millisecond."""
    reply = await merchant.call(MERCHANTS, timestamp=str(int(clock.time() * 1000) + offset_ms))
    assert reply["errorCode"] == code


async def test_request_after_5_minutes_is_expired(merchant: Merchant, clock: MovedClock) -> None:
    """The same bytes that are valid now are CO_MSG_000005 after 5 minutes."""
    params = merchant.sign()
    clock.move(300.001)
    reply = await merchant.send(MERCHANTS, params)
    assert reply["errorCode"] == "CO_MSG_000005"


async def test_nonce_used_before_is_refused(merchant: Merchant) -> None:
    """A request that is sent again is refused, and so is a new one with the same nonce."""
    params = merchant.sign(nonce="once")
    first = await merchant.send(MERCHANTS, params)
    again = await merchant.send(MERCHANTS, params)
    other = await merchant.call(MERCHANTS, nonce="once", pageSize="3")
    assert first["success"] is True
    assert [again["errorCode"], other["errorCode"]] == ["CO_MSG_000001"] * 2
    assert "nonce" in again["errorMsg"]
    assert "replay" in again["errorMsg"]


async def test_nonce_of_a_future_timestamp_is_remembered_until_it_expires(
    merchant: Merchant, clock: MovedClock
) -> None:
    """A request with a timestamp in the future cannot be replayed while it is valid."""
    params = merchant.sign(timestamp=str(int(clock.time() * 1000) + 300_000))
    codes = [(await merchant.send(MERCHANTS, params))["errorCode"]]
    for seconds in (599.9, 0.1, 0.001):
        clock.move(seconds)
        codes.append((await merchant.send(MERCHANTS, params))["errorCode"])
    assert codes == ["", "CO_MSG_000001", "CO_MSG_000001", "CO_MSG_000005"]


async def test_future_timestamp_is_refused_unless_switched_off(
    merchant: Merchant, sandbox: Sandbox, clock: MovedClock
) -> None:
    """Only the refusal of old timestamps is documented: both behaviours can be tried."""
    ahead = str(int((clock.time() + 600) * 1000))
    replies = [await merchant.call(MERCHANTS, timestamp=ahead)]
    sandbox.platform.apps[sandbox.app_key].future_refused = False
    replies.append(await merchant.call(MERCHANTS, timestamp=ahead))
    clock.move(901)
    replies.append(await merchant.call(MERCHANTS, timestamp=ahead))
    assert [reply["errorCode"] for reply in replies] == ["CO_MSG_000005", "", "CO_MSG_000005"]


async def test_nonce_after_its_life_is_forgotten(
    merchant: Merchant, sandbox: Sandbox, clock: MovedClock
) -> None:
    """An expired nonce may be used again, and its memory is freed."""
    for _ in range(50):
        await merchant.call(MERCHANTS)
    clock.move(300.001)
    reply = await merchant.call(MERCHANTS, nonce="nonce1")
    app = sandbox.platform.apps[sandbox.app_key]
    assert reply["success"] is True
    assert len(app._nonces) == len(app._nonce_log) == 1


async def test_nonce_of_another_app_key_is_accepted(merchant: Merchant, sandbox: Sandbox) -> None:
    """Two appKeys may use the same nonce."""
    await merchant.call(MERCHANTS, nonce="shared")
    merchant.switch_to(sandbox.add_app("other"))
    reply = await merchant.call(MERCHANTS, nonce="shared")
    assert reply["success"] is True


@pytest.mark.parametrize(("length", "code"), [(32, ""), (33, "CO_MSG_000001")])
async def test_nonce_over_32_characters_is_malformed(
    merchant: Merchant, length: int, code: str
) -> None:
    """A nonce has at most 32 characters."""
    reply = await merchant.call(MERCHANTS, nonce="n" * length)
    assert reply["errorCode"] == code


async def test_quota_exceeded_refuses_until_the_window_ends(
    merchant: Merchant, sandbox: Sandbox, clock: MovedClock
) -> None:
    """Call 401 within 60 s is CO_MSG_000007; after the window calls are accepted again."""
    for _ in range(400):
        await merchant.call(MERCHANTS)
    clock.move(59.999)
    refused = [(await merchant.call(MERCHANTS))["errorCode"] for _ in range(3)]
    clock.move(0.001)
    accepted = await merchant.call(MERCHANTS)
    assert refused == ["CO_MSG_000007"] * 3
    assert accepted["success"] is True
    assert sandbox.platform.replies == {"": 401, "CO_MSG_000007": 3}


async def test_quota_window_slides(merchant: Merchant, sandbox: Sandbox, clock: MovedClock) -> None:
    """Calls leave the window one by one, not all at once."""
    app = sandbox.platform.apps[sandbox.app_key]
    app.quota = 2
    codes = []
    for seconds in (0, 30, 29, 1, 1):
        clock.move(seconds)
        codes.append((await merchant.call(MERCHANTS))["errorCode"])
    assert codes == ["", "", "CO_MSG_000007", "", "CO_MSG_000007"]


async def test_quota_of_another_app_key_is_separate(merchant: Merchant, sandbox: Sandbox) -> None:
    """One merchant's calls do not use up another's quota."""
    sandbox.platform.apps[sandbox.app_key].quota = 1
    await merchant.call(MERCHANTS)
    merchant.switch_to(sandbox.add_app("other"))
    reply = await merchant.call(MERCHANTS)
    assert reply["success"] is True


async def test_quota_none_counts_nothing(merchant: Merchant, sandbox: Sandbox) -> None:
    """Without a quota nothing is counted."""
    app = sandbox.platform.apps[sandbox.app_key]
    app.quota = None
    for _ in range(401):
        await merchant.call(MERCHANTS)
    assert sandbox.platform.replies == {"": 401}
    assert len(app._arrivals) == 0


async def test_quota_is_not_used_by_a_wrong_signature(merchant: Merchant, sandbox: Sandbox) -> None:
    """A caller without the key cannot use up the quota."""
    sandbox.platform.apps[sandbox.app_key].quota = 1
    await merchant.call(MERCHANTS, sign="00")
    reply = await merchant.call(MERCHANTS)
    assert reply["success"] is True


async def test_quota_is_used_by_refused_business(merchant: Merchant, sandbox: Sandbox) -> None:
    """A call counts when it arrives, also when the business refuses it."""
    sandbox.platform.apps[sandbox.app_key].quota = 1
    await merchant.query("nothing")
    reply = await merchant.call(MERCHANTS)
    assert reply["errorCode"] == "CO_MSG_000007"


async def test_checks_run_in_the_documented_order(
    merchant: Merchant, sandbox: Sandbox, clock: MovedClock
) -> None:
    """All is wrong at first; each repair shows the next check."""
    app = sandbox.platform.apps[sandbox.app_key]
    await merchant.call(MERCHANTS, nonce="used")
    app.valid, app.addresses, app.quota = False, (), 0
    stale = str(int(clock.time() * 1000) - 300_001)
    codes = []

    async def attempt(**params: str) -> None:
        codes.append((await merchant.call(QUERY, **params))["errorCode"])

    await attempt(appKey="nobody", sign="00", timestamp=stale, nonce="used")
    await attempt(sign="00", timestamp=stale, nonce="used")
    app.valid = True
    await attempt(sign="00", timestamp=stale, nonce="used")
    app.addresses = None
    await attempt(sign="00", timestamp=stale, nonce="used")
    await attempt(timestamp=stale, nonce="used")
    await attempt(nonce="used")
    await attempt()
    app.quota = 400
    await attempt()
    assert codes == [
        "CO_MSG_000004",
        "CO_MSG_000008",
        "CO_MSG_0000017",
        "CO_MSG_000006",
        "CO_MSG_000005",
        "CO_MSG_000001",
        "CO_MSG_000007",
        "CO_MSG_000001",
    ]


def test_md5_matches_the_published_example() -> None:
    """The sandbox accepts the platform's published MD5 example."""
    params = {
        "appKey": "gmd930ea5d5a258f4f",
        "nonce": "76e71d31590d44f2aaa55fed6b3e267c",
        "processNum": "wi123456789",
        "timestamp": "1490063145767",
        "sign": "93E1D6AF003B1061DF01CEB93523F142",
    }
    app = App(app_key=params["appKey"], app_secret="192006250b4c09247ec02edce69f6a2d")
    app.admit(params, address="127.0.0.1", now=1490063145.767)
    changed = {**params, "nonce": "0" * 32, "processNum": "wi123456780"}
    with pytest.raises(RefusalError) as refused:
        app.admit(changed, address="127.0.0.1", now=1490063145.767)
    assert refused.value.code == Code.BAD_SIGNATURE


async def test_notify_scheme_follows_the_key_unless_chosen(
    pay_key: RSA.RsaKey, merchant_key: RSA.RsaKey
) -> None:
    """A merchant that calls by RSA may take its callbacks by MD5."""
    public = merchant_key.public_key().export_key()
    sandbox = Sandbox(pay_key=pay_key, merchant_public_key=public, callback_scheme="md5")
    second = sandbox.add_app("second", merchant_public_key=public)
    third = sandbox.add_app("third", callback_scheme="rsa")
    first = sandbox.platform.apps[sandbox.app_key]
    assert ["md5", "rsa", "rsa"] == [app.notify_scheme for app in (first, second, third)]


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
def test_notify_url_elsewhere_is_refused(url: str) -> None:
    """A callback stays on this machine by default, however its address is set."""
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
def test_notify_url_on_loopback_is_accepted(url: str) -> None:
    """This machine is accepted under each of its names."""
    assert Sandbox(notify_url=url).notify_url == url


def test_notify_url_elsewhere_with_notify_remote_is_accepted() -> None:
    """A switch allows other machines, for every merchant."""
    sandbox = Sandbox(notify_remote=True)
    sandbox.notify_url = "https://shop.example/notify"
    sandbox.add_app("other", notify_url="https://shop.example/other")
    with pytest.raises(InvalidRequestError, match="notify_url"):
        sandbox.notify_url = "shop.example"
