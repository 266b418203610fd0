"""How a signature is read, whoever wrote it."""

from __future__ import annotations

import base64

import pytest

from tests.support.platform import SECRET
from wxpay_async.protocol.explain_causes import Cause
from wxpay_async.protocol.explain_schemes import (
    Md5Probe,
    Scheme,
    is_plausible,
    judge_length,
    make_probe,
    read_signature,
)
from wxpay_async.protocol.signing import Md5Signer

RAW = bytes.fromhex("fbefbeff" * 4)
HEX = RAW.hex().upper()
BASE64 = base64.b64encode(RAW).decode()


@pytest.mark.parametrize(
    ("text", "scheme", "causes"),
    [
        (HEX, "MD5", ()),
        (f"sign={HEX}", "MD5", ()),
        (HEX.lower(), "MD5", (Cause.LOWER_CASE_HEX,)),
        (f"{HEX[:20]}\r\n{HEX[20:]}", "MD5", (Cause.LINE_BREAKS,)),
        (f" {HEX}   ", "MD5", (Cause.LINE_BREAKS,)),
        (BASE64, "MD5", (Cause.OTHER_ENCODING,)),
        (BASE64, "RSA", ()),
        (HEX, "RSA", (Cause.OTHER_ENCODING,)),
        (BASE64.rstrip("="), "RSA", (Cause.BASE64_SPELLING,)),
        (BASE64.replace("+", "-").replace("/", "_"), "RSA", (Cause.BASE64_SPELLING,)),
        (BASE64.replace("=", "%3D"), "RSA", (Cause.SIGNATURE_URL_ENCODED,)),
        (BASE64.replace("+", " "), "RSA", (Cause.PLUS_AS_BLANK,)),
        (f" {BASE64}", "RSA", (Cause.LINE_BREAKS,)),
        (BASE64.replace("+", " ") + "\n", "RSA", (Cause.LINE_BREAKS, Cause.PLUS_AS_BLANK)),
    ],
)
def test_signature_is_read_however_it_is_written(
    text: str, scheme: Scheme, causes: tuple[Cause, ...]
) -> None:
    """The bytes are the same, and what is wrong is named."""
    assert "+" in BASE64
    assert "/" in BASE64
    found = read_signature(text, scheme)

    assert (RAW, causes) == (found.raw, found.causes)


@pytest.mark.parametrize("text", ["", "x", "AAAAA", "A" * 33, "签名", "a.b", "=", "AB=C"])
@pytest.mark.parametrize("scheme", ["MD5", "RSA"])
def test_text_that_is_no_signature_has_no_bytes(text: str, scheme: Scheme) -> None:
    """It is neither hexadecimal nor Base64."""
    raw = read_signature(text, scheme).raw

    assert not is_plausible(raw, scheme)


@pytest.mark.parametrize(
    ("size", "scheme", "cause"),
    [
        (16, "MD5", None),
        (16, "RSA", Cause.WRONG_SCHEME),
        (20, "MD5", Cause.WRONG_HASH),
        (32, "MD5", Cause.WRONG_HASH),
        (32, "RSA", None),
        (17, "MD5", None),
        (256, "MD5", Cause.WRONG_SCHEME),
        (256, "RSA", None),
    ],
)
def test_length_proves_another_scheme_or_hash(
    size: int, scheme: Scheme, cause: Cause | None
) -> None:
    """Whatever was signed."""
    assert cause is judge_length(bytes(size), scheme)


def test_probe_shows_no_secret() -> None:
    """As the signer that it is made from."""
    probe = make_probe(Md5Signer(SECRET), [Md5Signer("another-secret")])

    assert isinstance(probe, Md5Probe)
    assert SECRET not in f"{probe!r} {vars(probe)!r}"
    assert "another-secret" not in f"{probe!r} {vars(probe)!r}"


def test_secret_that_has_one_case_is_not_tried_in_it_again() -> None:
    """A digest by the right secret is right."""
    signer = Md5Signer("lower-case")
    probe = make_probe(signer, [])
    assert probe is not None

    assert probe.find(bytes.fromhex(signer.sign(b"x")), lambda: iter([])) is None
