"""Every check that a call must pass before any business, seen over HTTP."""
# ruff: noqa: ANN001 - the fixtures' classes live in conftest.py, which is no module to import

import asyncio
import base64
import http.client
import json
import subprocess
from urllib.parse import urlencode

import pytest

from wxpay_async.sandbox.auth import App

QUERY = "/api/instant/query"
MERCHANTS = "/api/company/merchants"
TRADE = "/api/instant/trade"
AWKWARD = '茶 & 糖 = 100% + 🍵 "引号" a=b&c=d %26 \\ /'


async def test_both_schemes_open_the_door(either) -> None:
    """A call that is signed by either scheme is executed."""
    reply = await either.call(MERCHANTS)
    assert reply["success"] is True
    assert (reply["errorCode"], reply["errorMsg"]) == ("", "")


@pytest.mark.parametrize("query", [False, True], ids=["form", "query"])
async def test_awkward_text_survives(either, make_body, make_item, query) -> None:
    """Chinese text, & = + % and emoji arrive unharmed by form and by query string."""
    body = make_body("A1", tradeInfo=[make_item("A1", subject=AWKWARD)])
    params = either.signed(bizContent=json.dumps(body, ensure_ascii=False))
    reply = await either.send(TRADE, params, query=query)
    assert reply["success"] is True
    found = await either.query("A1")
    assert found["data"]["subject"] == AWKWARD


async def test_openssl_signature_is_accepted(merchant, merchant_key, tmp_path) -> None:
    """A signature made by the openssl program verifies."""
    pem = tmp_path / "merchant.pem"
    pem.write_bytes(merchant_key.export_key("PEM"))
    merchant.rsa = True
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


async def test_empty_values_are_not_signed(merchant) -> None:
    """A parameter whose value is empty is left out of the canonical string."""
    reply = await merchant.call(MERCHANTS, pageSize="", signType="")
    assert reply["success"] is True


async def test_value_zero_is_signed(merchant) -> None:
    """Only empty values are dropped: a "0" that is left out of the signature breaks it."""
    params = merchant.envelope({"note": "0"})
    unsigned = {name: value for name, value in params.items() if name != "note"}
    reply = await merchant.send(MERCHANTS, {**params, "sign": merchant.signature(unsigned)})
    assert reply["errorCode"] == "CO_MSG_000006"


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
async def test_other_methods_are_refused(merchant, session, method) -> None:
    """Anything but POST is CO_MSG_0000016, with HTTP 200."""
    url = f"{merchant.sandbox.url}{MERCHANTS}?{urlencode(merchant.signed())}"
    async with session.request(method, url) as answer:
        assert answer.status == 200
        reply = json.loads(await answer.read())
    assert reply["errorCode"] == "CO_MSG_0000016"


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "text/plain",
        "",
        "application/x-www-form-urlencoded; charset=gbk",
    ],
)
async def test_other_media_types_are_refused(merchant, session, content_type) -> None:
    """A body that is no UTF-8 form is CO_MSG_0000015, however well it is signed."""
    body = urlencode(merchant.signed()).encode()
    headers = {"Content-Type": content_type}
    async with session.post(merchant.sandbox.url + MERCHANTS, data=body, headers=headers) as answer:
        reply = json.loads(await answer.read())
    assert reply["errorCode"] == "CO_MSG_0000015"


@pytest.mark.parametrize("charset", ["", "; charset=utf-8", ';charset="UTF-8"'])
async def test_utf8_forms_are_read(merchant, session, charset) -> None:
    """A form may name its charset, in any of the usual spellings."""
    headers = {"Content-Type": f"application/x-www-form-urlencoded{charset}"}
    body = urlencode(merchant.signed()).encode()
    async with session.post(merchant.sandbox.url + MERCHANTS, data=body, headers=headers) as answer:
        reply = json.loads(await answer.read())
    assert reply["success"] is True


@pytest.mark.parametrize("name", ["appKey", "nonce", "timestamp", "sign"])
@pytest.mark.parametrize("empty", [False, True], ids=["absent", "empty"])
async def test_envelope_is_required(merchant, name, empty) -> None:
    """Each of the four parameters is required, and the refusal names it."""
    params = merchant.signed()
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
async def test_bodies_that_are_no_pairs(merchant, session, body) -> None:
    """What cannot be read as name=value pairs in UTF-8 is malformed."""
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    async with session.post(merchant.sandbox.url + MERCHANTS, data=body, headers=headers) as answer:
        reply = json.loads(await answer.read())
    assert reply["errorCode"] == "CO_MSG_000001"


async def test_a_parameter_twice_is_malformed(merchant) -> None:
    """One name with two values, in body and query string, means two things and so none."""
    params = merchant.signed()
    reply = await merchant.send(f"{MERCHANTS}?pageSize=3", {**params, "pageSize": "4"})
    assert reply["errorCode"] == "CO_MSG_000001"
    assert "twice" in reply["errorMsg"]


@pytest.mark.parametrize("timestamp", ["soon", "-1763870400000", "1763870400000.5", "9" * 16, "١"])
async def test_timestamps_are_milliseconds(merchant, timestamp) -> None:
    """A timestamp that is no plain number is malformed."""
    reply = await merchant.call(MERCHANTS, timestamp=timestamp)
    assert reply["errorCode"] == "CO_MSG_000001"
    assert "timestamp" in reply["errorMsg"]


async def test_unknown_app_key(merchant) -> None:
    """An appKey that nobody registered is CO_MSG_000004, before its signature is looked at."""
    reply = await merchant.call(MERCHANTS, appKey="nobody", sign="00")
    assert reply["errorCode"] == "CO_MSG_000004"


async def test_app_that_is_no_longer_valid(merchant, sandbox) -> None:
    """An appKey that was switched off is CO_MSG_000008 until it is switched on."""
    app = sandbox.platform.apps[sandbox.app_key]
    app.valid = False
    refused = await merchant.call(MERCHANTS)
    app.valid = True
    accepted = await merchant.call(MERCHANTS)
    assert refused["errorCode"] == "CO_MSG_000008"
    assert accepted["success"] is True


async def test_address_that_is_not_allowed(merchant, sandbox) -> None:
    """A caller outside the allow-list is CO_MSG_0000017, one inside is let in."""
    app = sandbox.platform.apps[sandbox.app_key]
    app.addresses = {"192.0.2.1"}
    refused = await merchant.call(MERCHANTS)
    app.addresses = {"127.0.0.1"}
    accepted = await merchant.call(MERCHANTS)
    assert refused["errorCode"] == "CO_MSG_0000017"
    assert accepted["success"] is True


@pytest.mark.parametrize("name", ["nonce", "timestamp", "pageSize", "signType"])
async def test_changed_parameters_break_the_signature(either, clock, name) -> None:
    """Whatever is changed or added after signing is CO_MSG_000006."""
    params = either.signed(pageSize="3")
    changed = {"timestamp": str(int(clock() * 1000) + 1), "signType": "MD5"}.get(name, "4")
    reply = await either.send(MERCHANTS, {**params, name: changed})
    assert reply["errorCode"] == "CO_MSG_000006"


async def test_lower_case_md5_is_refused(merchant) -> None:
    """The MD5 scheme is upper-case hexadecimal."""
    params = merchant.signed()
    reply = await merchant.send(MERCHANTS, {**params, "sign": params["sign"].lower()})
    assert reply["errorCode"] == "CO_MSG_000006"


async def test_unsigned_sign_type_is_refused(either) -> None:
    """The parameter signType is itself signed: taking it away breaks an RSA signature."""
    params = either.signed()
    params.pop("signType", None)
    reply = await either.send(MERCHANTS, params)
    assert reply["success"] is not either.rsa


@pytest.mark.parametrize("sign", ["not base64 !", "QUJD"])
async def test_garbage_is_no_rsa_signature(either, sign) -> None:
    """A signature that is no Base64, or too short, is refused like a wrong one."""
    reply = await either.call(MERCHANTS, sign=sign)
    assert reply["errorCode"] == "CO_MSG_000006"


async def test_rsa_needs_a_registered_key(merchant, sandbox, merchant_key) -> None:
    """An appKey without a public key cannot sign by RSA, and the refusal says why."""
    merchant.app_key = sandbox.add_app("keyless").app_key
    merchant.rsa, merchant.key = True, merchant_key
    reply = await merchant.call(MERCHANTS)
    assert reply["errorCode"] == "CO_MSG_000006"
    assert "public key" in reply["errorMsg"]


@pytest.mark.parametrize(
    ("offset_ms", "code"),
    [
        (-300_001, "CO_MSG_000005"),
        (-300_000, ""),
        (300_000, ""),
        (300_001, "CO_MSG_000005"),
    ],
)
async def test_life_of_a_request(merchant, clock, offset_ms, code) -> None:
    """A request lives 5 minutes either way of its timestamp, to the millisecond."""
    reply = await merchant.call(MERCHANTS, timestamp=str(int(clock() * 1000) + offset_ms))
    assert reply["errorCode"] == code


async def test_request_expires_by_the_moved_clock(merchant, clock) -> None:
    """The same bytes that are valid now are CO_MSG_000005 later than 5 minutes."""
    params = merchant.signed()
    clock.move(300.001)
    reply = await merchant.send(MERCHANTS, params)
    assert reply["errorCode"] == "CO_MSG_000005"


async def test_replay_is_refused(merchant) -> None:
    """The same request, sent again, is refused by its nonce, and so is a new one with it."""
    params = merchant.signed(nonce="once")
    first = await merchant.send(MERCHANTS, params)
    again = await merchant.send(MERCHANTS, params)
    other = await merchant.call(MERCHANTS, nonce="once", pageSize="3")
    assert first["success"] is True
    assert [again["errorCode"], other["errorCode"]] == ["CO_MSG_000001"] * 2
    assert "nonce" in again["errorMsg"]
    assert "replay" in again["errorMsg"]


async def test_a_copy_of_what_was_executed_is_a_repetition(merchant, make_body) -> None:
    """It is not called malformed: that means "not executed", which is not true of it."""
    params = merchant.signed(bizContent=json.dumps(make_body("A1")))
    first = await merchant.send(TRADE, params)
    copy = await merchant.send(TRADE, params)

    assert first["success"] is True
    assert "GM_API_BUS_0000015" == copy["errorCode"]


@pytest.mark.parametrize(
    "content", ["", "no JSON", "[]", '{"requestId": []}', '{"requestId": "B"}']
)
async def test_a_copy_of_what_was_not_executed_is_malformed(merchant, content) -> None:
    """Whatever the copy holds, a used nonce is told by its name."""
    params = merchant.signed(bizContent=content)
    await merchant.send(TRADE, params)
    copy = await merchant.send(TRADE, params)

    assert "CO_MSG_000001" == copy["errorCode"]
    assert "nonce" in copy["errorMsg"]


async def test_nonce_is_remembered_as_long_as_it_could_be_replayed(merchant, clock) -> None:
    """A request with a timestamp from the future cannot be replayed in all of its life."""
    params = merchant.signed(timestamp=str(int(clock() * 1000) + 300_000))
    codes = [(await merchant.send(MERCHANTS, params))["errorCode"]]
    for seconds in (599.9, 0.1, 0.001):
        clock.move(seconds)
        codes.append((await merchant.send(MERCHANTS, params))["errorCode"])
    assert codes == ["", "CO_MSG_000001", "CO_MSG_000001", "CO_MSG_000005"]


async def test_the_future_is_refused_unless_told_otherwise(merchant, sandbox, clock) -> None:
    """The documentation only says that what is old is refused: both platforms can be tried."""
    ahead = str(int((clock() + 600) * 1000))
    first = await merchant.call(MERCHANTS, timestamp=ahead)
    sandbox.platform.apps[sandbox.app_key].future_refused = False
    second = await merchant.call(MERCHANTS, timestamp=ahead)
    clock.move(901)
    third = await merchant.call(MERCHANTS, timestamp=ahead)

    assert ["CO_MSG_000005", "", "CO_MSG_000005"] == [
        reply["errorCode"] for reply in (first, second, third)
    ]


async def test_nonces_are_forgotten(merchant, sandbox, clock) -> None:
    """A nonce may be used again after its life, and the memory of it is freed."""
    for _ in range(50):
        await merchant.call(MERCHANTS)
    clock.move(300.001)
    reply = await merchant.call(MERCHANTS, nonce="nonce1")
    app = sandbox.platform.apps[sandbox.app_key]
    assert reply["success"] is True
    assert len(app._nonces) == len(app._nonce_log) == 1


async def test_nonces_are_of_one_app_key(merchant, sandbox) -> None:
    """Two appKeys may use the same nonce."""
    await merchant.call(MERCHANTS, nonce="shared")
    other = sandbox.add_app("other", app_secret="other-secret")
    merchant.app_key, merchant.app_secret = other.app_key, other.app_secret
    reply = await merchant.call(MERCHANTS, nonce="shared")
    assert reply["success"] is True


@pytest.mark.parametrize(("length", "code"), [(32, ""), (33, "CO_MSG_000001")])
async def test_length_of_a_nonce(merchant, length, code) -> None:
    """A nonce has at most 32 characters."""
    reply = await merchant.call(MERCHANTS, nonce="n" * length)
    assert reply["errorCode"] == code


async def test_quota(merchant, sandbox, clock) -> None:
    """Call 401 within 60 s is CO_MSG_000007; a second after the window all is well again."""
    for _ in range(400):
        await merchant.call(MERCHANTS)
    clock.move(59.999)
    refused = [(await merchant.call(MERCHANTS))["errorCode"] for _ in range(3)]
    clock.move(0.001)
    accepted = await merchant.call(MERCHANTS)
    assert refused == ["CO_MSG_000007"] * 3
    assert accepted["success"] is True
    assert sandbox.platform.replies == {"": 401, "CO_MSG_000007": 3}


async def test_quota_slides(merchant, sandbox, clock) -> None:
    """Calls leave the window one by one, not all at once."""
    app = sandbox.platform.apps[sandbox.app_key]
    app.quota = 2
    codes = []
    for seconds in (0, 30, 29, 1, 1):
        clock.move(seconds)
        codes.append((await merchant.call(MERCHANTS))["errorCode"])
    assert codes == ["", "", "CO_MSG_000007", "", "CO_MSG_000007"]


async def test_quota_is_of_one_app_key(merchant, sandbox) -> None:
    """One merchant's calls do not use up another's quota."""
    sandbox.platform.apps[sandbox.app_key].quota = 1
    await merchant.call(MERCHANTS)
    other = sandbox.add_app("other", app_secret="other-secret")
    merchant.app_key, merchant.app_secret = other.app_key, other.app_secret
    reply = await merchant.call(MERCHANTS)
    assert reply["success"] is True


async def test_quota_can_be_off(merchant, sandbox) -> None:
    """Without a quota nothing is counted."""
    app = sandbox.platform.apps[sandbox.app_key]
    app.quota = None
    for _ in range(401):
        await merchant.call(MERCHANTS)
    assert sandbox.platform.replies == {"": 401}
    assert len(app._arrivals) == 0


async def test_unsigned_calls_use_no_quota(merchant, sandbox) -> None:
    """Whoever does not hold the key cannot use up the quota."""
    sandbox.platform.apps[sandbox.app_key].quota = 1
    await merchant.call(MERCHANTS, sign="00")
    reply = await merchant.call(MERCHANTS)
    assert reply["success"] is True


async def test_refused_business_uses_quota(merchant, sandbox) -> None:
    """A call counts when it arrives, also when the business refuses it."""
    sandbox.platform.apps[sandbox.app_key].quota = 1
    await merchant.query("nothing")
    reply = await merchant.call(MERCHANTS)
    assert reply["errorCode"] == "CO_MSG_000007"


async def test_order_of_the_checks(merchant, sandbox, clock) -> None:
    """With everything wrong at once, repairing one thing after another shows the order."""
    app = sandbox.platform.apps[sandbox.app_key]
    await merchant.call(MERCHANTS, nonce="used")
    app.valid, app.addresses, app.quota = False, (), 0
    stale = str(int(clock() * 1000) - 300_001)
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


def test_published_vector() -> None:
    """The sandbox computes the platform's published MD5 example."""
    params = {
        "appKey": "gmd930ea5d5a258f4f",
        "nonce": "76e71d31590d44f2aaa55fed6b3e267c",
        "processNum": "wi123456789",
        "timestamp": "1490063145767",
        "sign": "93E1D6AF003B1061DF01CEB93523F142",
    }
    app = App(app_key=params["appKey"], app_secret="192006250b4c09247ec02edce69f6a2d")
    app.admit(params, address="127.0.0.1", now=1490063145.767)


async def test_another_client(merchant) -> None:
    """A client of another make, the standard library's, gets the same answer."""
    host, port = merchant.sandbox.url.removeprefix("http://").split(":")
    body = urlencode(merchant.signed())

    def post() -> bytes:
        connection = http.client.HTTPConnection(host, int(port), timeout=10)
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        connection.request("POST", MERCHANTS, body, headers)
        answer = connection.getresponse().read()
        connection.close()
        return answer

    reply = json.loads(await asyncio.to_thread(post))
    assert reply["success"] is True
