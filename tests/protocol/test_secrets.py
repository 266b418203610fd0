"""What logs, errors and tracebacks show of a credential."""

from __future__ import annotations

import json
from typing import Any

import pytest

from wxpay_async.protocol.secrets import SecretBytes, hide, mask, without_credentials


@pytest.mark.parametrize(
    ("value", "expected"),
    [(None, "None"), ("", "'…'"), ("12345678", "'…'"), ("oUpF8uMuAJO", "'oUp…JO'")],
)
def test_mask_shows_five_characters_at_most(value: str | None, expected: str) -> None:
    """A short identifier is not shown at all."""
    assert expected == mask(value)


def test_hide_shows_only_whether_there_is_a_value() -> None:
    """A credential is not shown, not even its length."""
    assert ["None", "'***'", "'***'"] == [hide(value) for value in (None, "", "token")]


def test_secret_bytes_show_only_their_number() -> None:
    """In every way of showing them; otherwise they are bytes like others."""
    secret = SecretBytes(b"token")

    assert {"<5 bytes>"} == {repr(secret), str(secret), f"{secret}", "%s" % secret}  # noqa: UP031
    assert (b"token", "token") == (secret, secret.decode())


@pytest.mark.parametrize(
    ("content", "message", "shown"),
    [
        ({"payToken": "token1"}, "token1 and token10", "*** and ***0"),
        ({"payToken": "token1", "terminalPayerId": "token10"}, "token10 token1", "*** ***"),
        ({"payMethod": {"openId": "op+1/x"}}, "op+1/x op%2B1%2Fx op%2b1%2fx", "*** *** ***"),
        (
            {"payMethod": {"buyerId": 'qqq"\\1'}},
            'qqq"\\1 in {"buyerId":"qqq\\"\\\\1"}',
            '*** in {"buyerId":"***"}',
        ),
        ({"subject": '"payToken":"xxxxxx"', "payToken": ""}, "xxxxxx is said", "xxxxxx is said"),
        ({"payToken": "token1"}, None, None),
        ({"terminalPayerId": "o"}, "the payToken is unknown", "the payToken is unknown"),
        ({"terminalPayerId": "Token"}, "the payToken is unknown", "the payToken is unknown"),
        ({"terminalPayerId": "o", "payToken": "token1"}, "o, not token1", "o, not ***"),
        ({"openId": '"""'}, 'it says """', 'it says """'),
    ],
)
def test_message_is_shown_without_credentials_however_they_are_written(
    content: dict[str, Any], message: str | None, shown: str | None
) -> None:
    """As they are, as in a form or as in JSON; one that begins like another is blanked whole."""
    sent = json.dumps(content, separators=(",", ":")).encode()

    assert shown == without_credentials(message, sent)


def test_message_about_unknown_content_is_dropped() -> None:
    """Which credentials it may repeat is not known any more."""
    assert without_credentials("token1: expired", None) is None


def test_message_about_a_call_without_content_is_kept() -> None:
    """A query sends no credentials."""
    assert "O-1 不存在" == without_credentials("O-1 不存在", b"")
