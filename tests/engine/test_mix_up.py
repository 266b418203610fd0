"""A sandbox's settings that would meet the real platform are told before anything is sent."""

from __future__ import annotations

import warnings

import pytest

from wxpay_async.adapters.transports.memory import MemoryTransport
from wxpay_async.engine.gateway import PayGateway
from wxpay_async.engine.mix_up import MixUpWarning, find_mix_up
from wxpay_async.errors import InvalidRequestError
from wxpay_async.protocol.wire import PRODUCTION, TEST

MERCHANT = {"WXPAY_APP_KEY": "k", "WXPAY_APP_SECRET": "s3cret"}
SANDBOX = {**MERCHANT, "WXPAY_APP_KEY": "sandbox-app-key"}
LOOPBACK = "http://127.0.0.1:8080"


@pytest.mark.parametrize("url", [{}, {"WXPAY_BASE_URL": "test"}, {"WXPAY_BASE_URL": PRODUCTION}])
def test_app_key_of_a_sandbox_is_refused_at_the_platform(url: dict[str, str]) -> None:
    """No merchant has it, so the request would be for another place."""
    with pytest.raises(InvalidRequestError) as caught:
        PayGateway.from_env(SANDBOX | url)

    assert "WXPAY_APP_KEY, WXPAY_BASE_URL" == caught.value.field
    assert "wxpay-async sandbox" in str(caught.value)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    "left",
    [{"WXPAY_PAY_PUBLIC_KEY": "pem"}, {"WXPAY_PLATFORM_KEY_FILE": "/x/sandbox-platform.pem"}],
)
def test_rest_of_a_sandbox_without_an_address_is_warned_of(left: dict[str, str]) -> None:
    """The appKey may be a merchant's, so nothing is refused."""
    with pytest.warns(MixUpWarning, match=f"WXPAY_BASE_URL is not set.*{next(iter(left))}"):
        PayGateway.from_env(MERCHANT | left)


@pytest.mark.parametrize(
    "variables",
    [
        MERCHANT,
        SANDBOX | {"WXPAY_BASE_URL": LOOPBACK},
        MERCHANT | {"WXPAY_PAY_PUBLIC_KEY": "pem", "WXPAY_BASE_URL": "test"},
    ],
)
def test_settings_that_belong_together_say_nothing(variables: dict[str, str]) -> None:
    """A merchant's at the platform, and a sandbox's on loopback; or an address that was chosen."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        PayGateway.from_env(variables)


def test_transport_of_the_caller_may_lead_anywhere() -> None:
    """A test that answers by itself is no platform."""
    PayGateway.from_env(SANDBOX, transport=MemoryTransport())


def test_mix_up_names_the_traces_and_the_place() -> None:
    """What `doctor` shows."""
    found = find_mix_up(SANDBOX | {"WXPAY_BASE_URL": TEST}, TEST)

    assert found is not None
    assert (("WXPAY_APP_KEY",), False) == (found.traces, found.is_forgotten)
    assert "this would talk to the platform's test host" in str(found)
    assert find_mix_up(SANDBOX, LOOPBACK) is None
