"""What a gateway is made of: a wrong part is told with its name and what it may be."""

from __future__ import annotations

from typing import Any

import pytest

from wxpay_async import (
    AiohttpTransport,
    Clock,
    InvalidRequestError,
    LocalLimiter,
    Md5Signer,
    MemoryStore,
    MemoryTransport,
    PayGateway,
    Quota,
    RetryPolicy,
    Timeouts,
    Unlimited,
    logging_hook,
)
from wxpay_async.engine.part_checks import check_parts, check_settings

PASSWORD = "canary-password"


@pytest.mark.parametrize(
    ("name", "part", "got"),
    [
        ("signer", f"{PASSWORD}", "got str"),
        ("signer", Md5Signer, "got the class Md5Signer"),
        ("transport", "aiohttp", "got str"),
        ("transport", AiohttpTransport, "got the class AiohttpTransport"),
        ("store", f"postgresql://u:{PASSWORD}@h/db", "got str"),
        ("limiter", f"redis://u:{PASSWORD}@h", "got str"),
        ("limiter", Quota(), "got Quota"),
        ("clock", 5, "got int"),
        ("retry", 3, "got int"),
        ("timeouts", 30, "got int"),
        ("hooks", print, "got builtin_function_or_method"),
        ("hooks", logging_hook(), "got "),
        ("max_in_flight", "64", "'64' does not fit"),
        ("max_in_flight", 0, "0 does not fit"),
        ("max_in_flight", None, "None does not fit"),
    ],
)
def test_part_of_a_wrong_kind_is_told_by_the_gateway(name: str, part: Any, got: str) -> None:  # noqa: ANN401 - on purpose
    """Its kind alone, since a text may hold a password."""
    given: dict[str, Any] = {"signer": Md5Signer("s"), name: part}
    with pytest.raises(InvalidRequestError) as caught:
        PayGateway("k", **given)

    assert str(caught.value).startswith(f"{name}: {got}")
    assert caught.value.field == name
    assert caught.value.allowed
    assert PASSWORD not in str(caught.value)


def test_class_in_place_of_a_part_is_told_as_one() -> None:
    """Parentheses were forgotten."""
    with pytest.raises(InvalidRequestError, match="store: got the class MemoryStore; allowed"):
        check_parts({"store": MemoryStore})


def test_right_parts_and_settings_are_accepted() -> None:
    """Those of the package, and none."""
    check_parts({"signer": Md5Signer("s"), "transport": MemoryTransport([]), "clock": Clock()})
    check_parts({"store": MemoryStore(), "limiter": LocalLimiter()})
    check_parts({"store": None, "limiter": Unlimited(), "transport": None, "clock": None})
    check_settings(retry=RetryPolicy(), timeouts=Timeouts(), hooks=[print], max_in_flight=1)
    check_settings(retry=None, timeouts=None, hooks=(), max_in_flight=64)
