"""The commands about signatures, as an integrator meets them whose signature is refused."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import stat
import sys
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, quote_plus, urlencode

import pytest

from tests.cli.harness import KEY, Run
from tests.support.vectors import KEYS, PUBLIC_KEY
from wxpay_async.protocol.canonical import canonical_string
from wxpay_async.protocol.signing import RsaSigner

SECRET: Final = "canary-secret-0123456789"
TOKEN: Final = "canary-token-0123456789"
OPENID: Final = "canary-openid-0123456789"
CONTENT: Final = {
    "requestId": "r-1",
    "payToken": TOKEN,
    "terminalPayerId": OPENID,
    "subject": "春茶 a/b",
}
COMPACT: Final = json.dumps(CONTENT, ensure_ascii=False, separators=(",", ":"))
PARAMS: Final[dict[str, Any]] = {
    "appKey": "gm1",
    "bizContent": COMPACT,
    "memo": "",
    "nonce": "76e71d31590d44f2",
    "timestamp": "1490063145767",
}
ARGUMENT: Final = json.dumps(PARAMS)
SIGNER: Final = RsaSigner(KEY)


def join(**changes: str) -> str:
    """Join what is signed, with changes."""
    kept = {name: value for name, value in {**PARAMS, **changes}.items() if value}
    return "&".join(f"{name}={value}" for name, value in sorted(kept.items()))


def sign_md5(text: str) -> str:
    """Sign by hashlib."""
    return hashlib.md5(f"{text}&appSecret={SECRET}".encode()).hexdigest().upper()


@pytest.fixture
def run(run: Run, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Set up the MD5 scheme, in English."""
    monkeypatch.setenv("WXPAY_APP_KEY", "gm1")
    monkeypatch.setenv("WXPAY_APP_SECRET", SECRET)
    monkeypatch.setenv("WXPAY_LANG", "en")
    return run


@pytest.fixture
def key_option(tmp_path: Path) -> tuple[str, str]:
    """Return the option that chooses RSA."""
    path = tmp_path / "merchant.pem"
    path.write_bytes(KEY.export_key())
    path.chmod(0o600)
    return "--private-key-file", str(path)


def give(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    """Put bytes into stdin."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))


def test_explanation_shows_what_is_signed_and_what_is_left_out(run: Run) -> None:
    """Section by section, in 80 columns."""
    shown = run("sign", "explain", "--request", json.dumps({**PARAMS, "sign": ""}))

    assert (0, "") == (shown.code, shown.err)
    size = len(join().encode())
    lines = [line.rstrip() for line in shown.out.splitlines()]
    assert max(map(len, shown.out.splitlines())) <= 80
    titles = [line for line in lines if line and not line.startswith(" ")]
    assert [
        "Signed, in this order",
        "Left out",
        f"Canonical string, {size} bytes of UTF-8",
        "Hashed by MD5: the string above, then &appSecret=***",
        "Signature",
    ] == titles
    assert "  memo  an empty value is not signed" in lines
    assert "  sign  the signature does not sign itself" in lines
    assert f"  {sign_md5(join())}" in lines
    names = [line.split()[0] for line in lines[2:7]]
    assert ["appKey", "bizContent", "nonce", "timestamp"] == [n for n in names if n in PARAMS]


def test_canonical_string_is_broken_at_the_end_of_the_line(run: Run) -> None:
    """Not at its blanks: joined again it is the string, but for what is masked."""
    out = run("sign", "explain", "--request", ARGUMENT).out
    block = out.partition("bytes of UTF-8\n")[2].partition("\n\n")[0]
    joined = "".join(line.removeprefix("  ") for line in block.splitlines())

    assert join().replace(TOKEN, "***").replace(OPENID, "***") == joined


def test_cause_and_place_are_shown(run: Run) -> None:
    """Both lines of the difference stand below each other, and fit."""
    wrong = sign_md5(join(bizContent=json.dumps(CONTENT, ensure_ascii=False)))
    shown = run("sign", "explain", "--request", ARGUMENT, "--against", wrong)

    assert (1, "error: the signature differs\n") == (shown.code, shown.err)
    *_, title, right, mark, theirs = shown.out.rstrip().splitlines()
    assert "Byte 36 is the first that differs, in bizContent" == title
    place = mark.index("^")
    assert right[:place].replace("right ", "theirs") == theirs[:place]
    assert ('"', " ") == (right[place], theirs[place])
    assert "  -  The JSON of bizContent was written again with other white space" in shown.out
    assert max(map(len, shown.out.splitlines())) <= 80


def test_text_that_ends_first_is_said_so(run: Run) -> None:
    """An empty line would be overlooked."""
    shown = run("sign", "explain", "--request", ARGUMENT, "--against", join()[:-4])

    assert 1 == shown.code
    assert "<ends here>" in shown.out
    longer = run("sign", "explain", "--request", ARGUMENT, "--against", join() + "&zone=1")
    assert "is the first that differs, at the end" in longer.out


@pytest.mark.parametrize("against", [join(), sign_md5(join()), f"{join()}&appSecret={SECRET}"])
def test_right_text_is_confirmed(run: Run, against: str) -> None:
    """With exit code 0."""
    shown = run("sign", "explain", "--request", ARGUMENT, "--against", against)

    assert (0, "") == (shown.code, shown.err)
    assert "It matches." in shown.out


def test_random_signature_is_unknown(run: Run) -> None:
    """And said so."""
    shown = run("sign", "explain", "--request", ARGUMENT, "--against", "0" * 32)

    assert 1 == shown.code
    assert "the cause is unknown" in shown.out


def test_rsa_is_explained_by_its_digest(run: Run, key_option: tuple[str, str]) -> None:
    """The parameter signType is added."""
    shown = run("sign", "explain", "--request", ARGUMENT, *key_option)
    message = join(signType="RSA").encode()

    assert 0 == shown.code
    assert "Signed by RSA (PKCS#1 v1.5): its SHA-256" in shown.out
    assert f"  {hashlib.sha256(message).hexdigest()}\n" in shown.out
    block = shown.out.partition("Signature\n")[2]
    assert SIGNER.sign(message) == "".join(block.split())


def test_timestamp_in_seconds_is_noted(run: Run) -> None:
    """Such a signature is right, and the platform refuses the request."""
    seconds = json.dumps({**PARAMS, "timestamp": "1490063145"})
    shown = run("sign", "explain", "--request", seconds)

    assert 0 == shown.code
    assert "Mind\n  -  The timestamp is in seconds" in shown.out


@pytest.mark.parametrize(
    ("name", "value", "chinese"),
    [
        ("WXPAY_LANG", "zh", True),
        ("WXPAY_LANG", "zh_CN.UTF-8", True),
        ("WXPAY_LANG", "en", False),
        ("LC_ALL", "zh_CN.UTF-8", True),
        ("LANG", "zh_TW", True),
        ("LANG", "de_DE.UTF-8", False),
        ("LANG", "", False),
    ],
)
def test_language_is_that_of_the_environment(
    run: Run, monkeypatch: pytest.MonkeyPatch, name: str, value: str, *, chinese: bool
) -> None:
    """WXPAY_LANG wins over the locale."""
    for each in ("WXPAY_LANG", "LC_ALL", "LC_MESSAGES", "LANG"):
        monkeypatch.delenv(each, raising=False)
    if name == "WXPAY_LANG":
        monkeypatch.setenv("LC_ALL", "zh_CN.UTF-8")
    monkeypatch.setenv(name, value)
    wrong = join().replace("春", "夏")
    shown = run("sign", "explain", "--request", ARGUMENT, "--against", wrong)

    assert chinese == ("待签名字符串" in shown.out)
    assert chinese == ("参数的值不同。" in shown.out)
    assert chinese != ("A value is another one." in shown.out)


def test_json_names_causes_for_programs(run: Run) -> None:
    """One line; the exit code says the same."""
    wrong = sign_md5(join()).lower()
    shown = run("sign", "explain", "--request", ARGUMENT, "--against", wrong, "--json")
    found = json.loads(shown.out)

    assert (1, 1) == (shown.code, shown.out.count("\n"))
    assert ("MD5", sign_md5(join()), []) == (found["scheme"], found["signature"], found["notes"])
    comparison = found["comparison"]
    assert ("signature", "explained") == (comparison["kind"], comparison["verdict"])
    assert ["lower_case_hex"] == [each["cause"] for each in comparison["causes"]]
    assert all(each["text"] for each in comparison["causes"])
    assert {"name": "memo", "value": "", "dropped": "empty"} in found["parameters"]
    assert "path" not in found


FORM: Final = urlencode({**PARAMS, "sign": sign_md5(join())})


@pytest.mark.parametrize(
    "text",
    [ARGUMENT, FORM, join(), json.dumps({**PARAMS, "bizContent": CONTENT})],
    ids=["json", "form", "canonical", "nested"],
)
def test_request_is_read_from_stdin_file_and_option(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str
) -> None:
    """In every form in which an integrator has it."""
    path = tmp_path / "request"
    path.write_text(f"\ufeff{text}\n", encoding="utf-8")
    give(monkeypatch, text.encode())
    for given in (["-"], [str(path)], ["--request", text]):
        shown = run("sign", "explain", *given, "--json")
        assert sign_md5(join()) == json.loads(shown.out)["signature"]
        assert (0, "") == (shown.code, shown.err)


def test_other_string_is_read_in_whatever_charset(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """From a file or stdin; the line break at its end counts as none."""
    path = tmp_path / "theirs"
    path.write_bytes(join().encode("gbk") + b"\r\n")
    give(monkeypatch, join().encode("gbk"))
    for file in (str(path), "-"):
        shown = run("sign", "explain", "--request", ARGUMENT, "--against-file", file, "--json")
        assert ["charset"] == [
            each["cause"] for each in json.loads(shown.out)["comparison"]["causes"]
        ]


def test_nonce_and_timestamp_are_those_of_the_other_string(run: Run) -> None:
    """So bizContent is enough to compare canonical strings."""
    shown = run("sign", "explain", "--request", COMPACT, "--against", join())
    assert 0 == shown.code

    own = ("--nonce", PARAMS["nonce"], "--timestamp", PARAMS["timestamp"])
    assert (
        0 == run("sign", "explain", "--request", COMPACT, *own, "--against", sign_md5(join())).code
    )


@pytest.mark.parametrize("name", ["option", "environment"])
def test_other_secret_is_named(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    """Of a file, or a former one."""
    path = tmp_path / "other"
    path.write_text("other-secret\n")
    path.chmod(0o600)
    option = ("--other-file", str(path)) if name == "option" else ()
    if not option:
        monkeypatch.setenv("WXPAY_FORMER_SECRETS", "older-secret,other-secret")
    wrong = hashlib.md5(f"{join()}&appSecret=other-secret".encode()).hexdigest().upper()
    shown = run("sign", "explain", "--request", ARGUMENT, "--against", wrong, *option)

    assert 1 == shown.code
    assert "Another appSecret was used" in shown.out


def test_signature_of_unknown_cause_tells_how_to_try_another_secret(run: Run) -> None:
    """Where a cause is known, there is no hint."""
    wrong = hashlib.md5(f"{join()}&appSecret=other-secret".encode()).hexdigest().upper()
    shown = run("sign", "explain", "--request", ARGUMENT, "--against", wrong)

    assert 1 == shown.code
    assert shown.err.splitlines()[-1].startswith("hint:")
    assert "--other-file" in shown.err

    explained = run("sign", "explain", "--request", ARGUMENT, "--against", join(nonce="other"))

    assert (1, False) == (explained.code, "hint:" in explained.err)


@pytest.mark.parametrize("file", ["rsa3072.pem", "rsa3072-public.pem"])
def test_other_key_is_named(
    run: Run, key_option: tuple[str, str], tmp_path: Path, file: str
) -> None:
    """Private or public."""
    other = RsaSigner.from_pem((KEYS / "rsa3072.pem").read_bytes())
    path = tmp_path / file
    path.write_bytes((KEYS / file).read_bytes())
    path.chmod(0o600)
    wrong = other.sign(join(signType="RSA").encode())
    shown = run(
        *("sign", "explain", "--request", ARGUMENT, "--against", wrong),
        *(*key_option, "--other-file", str(path)),
    )

    assert 1 == shown.code
    assert "Another RSA key made the signature" in shown.out


@pytest.mark.parametrize("rsa", [False, True], ids=["md5", "rsa"])
def test_signed_request_is_verified(
    run: Run, key_option: tuple[str, str], tmp_path: Path, *, rsa: bool
) -> None:
    """What is printed is what is missing; the form is a file for curl."""
    path = tmp_path / "form"
    scheme = key_option if rsa else ()
    added = run(
        *("sign", "request", "--request", json.dumps(CONTENT), *scheme, "--json"),
        *("--form-file", str(path)),
    ).fields()
    names = {"appKey", "nonce", "timestamp", "sign"} | ({"signType"} if rsa else set())
    assert names == set(added)
    form = dict(parse_qsl(path.read_text()))
    assert {**added, "bizContent": COMPACT} == form
    assert 0o600 == stat.S_IMODE(path.stat().st_mode)

    assert 0 == run("sign", "verify", str(path), *scheme).code
    path.write_text(path.read_text().replace("r-1", "r-2"))
    changed = run("sign", "verify", str(path), *scheme)
    assert (1, "error: the signature differs") == (changed.code, changed.err.splitlines()[0])


def test_request_is_signed_anew_each_time(run: Run) -> None:
    """A sign in it is replaced, and nonces do not come again; given ones stay."""
    command = ("sign", "request", "--request", json.dumps({**CONTENT}), "--json")
    first, second = (run(*command).fields() for _ in range(2))
    assert first["nonce"] != second["nonce"]

    own = json.dumps({**PARAMS, "sign": "old"})
    kept = run("sign", "request", "--request", own, "--json").fields()
    assert (PARAMS["nonce"], sign_md5(join())) == (kept["nonce"], kept["sign"])
    shown = run("sign", "request", "--request", own)
    assert sign_md5(join()) in shown.out


def test_callback_is_verified_by_a_public_key(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It needs no settings; what cannot be told without a private key is said so."""
    monkeypatch.delenv("WXPAY_APP_SECRET")
    monkeypatch.delenv("WXPAY_APP_KEY")
    path = tmp_path / "platform.pem"
    path.write_bytes(PUBLIC_KEY.read_bytes())
    path.chmod(0o644)
    fields = {"out_trade_no": "O-1", "appKey": "gm1", "signType": "RSA", "empty": ""}
    right = SIGNER.sign(canonical_string(fields).encode())
    body = urlencode({**fields, "sign": right})
    command = ("sign", "verify", "--public-key-file", str(path), "--request")

    shown = run(*command, body)
    assert (0, "") == (shown.code, shown.err)
    assert "only a public key is here" in shown.out
    assert 1 == run(*command, body.replace("O-1", "O-2")).code
    assert 0 == run(*command, json.dumps(fields), "--signature", right).code


BROKEN: Final = base64.b64encode(b"\1" * 256).decode()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["explain"], "FILE: both or neither given"),
        (["explain", "-", "--request", "{}"], "FILE: both or neither given"),
        (["explain", "nowhere.json"], "nowhere.json: cannot be read (No such file"),
        (["explain", "-", "--against-file", "-"], "both from stdin"),
        (["explain", "--request", ARGUMENT, "--against", ""], "--against: empty"),
        (
            ["explain", "--request", ARGUMENT, "--against", "a", "--against-file", "b"],
            "--against, --against-file: both given",
        ),
        (["explain", "--request", COMPACT, "--against", BROKEN], "nonce, timestamp: not known"),
        (["explain", "--request", f"{{{TOKEN}"], "request: cannot be read"),
        (["explain", "--request", TOKEN], "request: cannot be read"),
        (["explain", "--request", ""], "request: cannot be read"),
        (["explain", "--request", "a=1&a=2"], "request: cannot be read"),
        (["explain", "--request", '{"requestId":"1","n":1.5}'], 'allowed: "1.5", as text'),
        (["explain", "--request", '{"a":"1&b=2"}'], "a: holds & or ="),
        (["verify", "--request", ARGUMENT], "sign: missing"),
        (["verify", "--request", ARGUMENT, "--signature", "a", "--public-key-file", "x"], "x: "),
        (["request", "--request", ARGUMENT, "--form-file", "."], "--form-file: cannot be written"),
        (["request", "--request", ARGUMENT, "--app-key", "a&b"], "appKey: "),
        (["explain", "--request", ARGUMENT, "--other-file", "nowhere"], "nowhere: cannot be read"),
    ],
)
def test_input_that_cannot_be_used_is_named(run: Run, arguments: list[str], named: str) -> None:
    """In one line, with exit code 2, without what was given."""
    shown = run("sign", *arguments)

    assert 2 == shown.code
    assert named in shown.error()
    assert "canary" not in shown.err


def test_app_key_is_that_of_the_request_where_none_is_set(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has to be in one of the two."""
    monkeypatch.delenv("WXPAY_APP_KEY")
    assert 0 == run("sign", "explain", "--request", ARGUMENT).code
    assert "WXPAY_APP_KEY" in run("sign", "explain", "--request", COMPACT).error()


def test_settings_that_signing_does_not_need_are_not_read(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store that is out of reach, or whose extra is missing, is no obstacle here."""
    monkeypatch.setenv("WXPAY_STORE_URL", "zzz")
    monkeypatch.setenv("WXPAY_QUOTA_URL", "zzz")
    assert 0 == run("sign", "explain", "--request", ARGUMENT).code


def test_group_without_a_command_shows_its_help(run: Run) -> None:
    """As the program does."""
    shown = run("sign")

    assert 0 == shown.code
    assert all(name in shown.out for name in ("explain", "request", "verify"))


def test_control_characters_cannot_reach_the_terminal(run: Run) -> None:
    """Neither from the request nor from the other side."""
    params = json.dumps({**PARAMS, "zone": "a\u202e\u009b31mb\nc"})
    wrong = join(nonce="\u202e\u009b32m")
    for more in ([], ["--against", wrong], ["--against", wrong, "--json"]):
        shown = run("sign", "explain", "--request", params, *more).out
        assert shown
        assert not {"\u202e", "\u009b"} & set(shown)


@pytest.mark.parametrize("as_json", [False, True], ids=["text", "json"])
@pytest.mark.parametrize("rsa", [False, True], ids=["md5", "rsa"])
def test_no_output_holds_a_secret(
    run: Run, key_option: tuple[str, str], tmp_path: Path, *, rsa: bool, as_json: bool
) -> None:
    """Not ours, not that of the other side, and no credential of the payer."""
    path = tmp_path / "canary-other-file"
    path.write_text("canary-other-secret")
    path.chmod(0o600)
    scheme = (*(key_option if rsa else ("--other-file", str(path))), *(["--json"] * as_json))
    text = join(signType="RSA") if rsa else join()
    others = [
        *(f"{text}&appSecret=canary-other-secret", f"{text}canary-other-secret"),
        *(f"canary-other-secret{text}", text.replace(TOKEN, "canary-other-token")),
        *(text.replace(":", ": "), quote_plus(text), f"{text}&token=canary-other-secret"),
        hashlib.md5(f"{text}&appSecret=canary-other-secret".encode()).hexdigest(),
        base64.b64encode(b"\1" * 256).decode(),
    ]
    for other in others:
        shown = run("sign", "explain", "--request", ARGUMENT, "--against", other, *scheme)
        assert 1 == shown.code, shown
        assert "canary" not in shown.out + shown.err
    plain = scheme[:2] * rsa + tuple(["--json"] * as_json)
    for command in (["request"], ["verify", "--signature", "x"]):
        shown = run("sign", *command, "--request", ARGUMENT, *plain)
        assert "canary" not in shown.out + shown.err
        assert shown.out
