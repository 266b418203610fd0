"""The methods of requests and results that make them values for JSON."""

from __future__ import annotations

import json
from typing import Any, cast

import pytest

from tests.protocol.samples import OPENID, TOKEN, pay, refund
from wxpay_async.errors import InvalidRequestError
from wxpay_async.protocol.requests import MiniProgramPay, Refund
from wxpay_async.protocol.results import RefundResult


def test_value_is_a_dictionary_and_back() -> None:
    """Only with its secrets can it be made again."""
    assert pay() == MiniProgramPay.from_dict(pay().to_dict(secrets=True))
    with pytest.raises(InvalidRequestError):
        MiniProgramPay.from_dict(pay().to_dict())


def test_further_names_become_extra_when_that_is_asked_for() -> None:
    """Otherwise they are refused."""
    plain = {**refund().to_dict(), "memo": "x"}
    with pytest.raises(InvalidRequestError):
        Refund.from_dict(plain)

    assert plain == Refund.from_dict(plain, extra=True).to_dict(secrets=True)


def test_class_is_that_of_the_caller() -> None:
    """A class of the merchant's own keeps being one."""

    class Mine(Refund):
        pass

    assert type(Mine.from_dict(refund().to_dict())) is Mine


def test_dict_of_a_value_is_its_dictionary() -> None:
    """Frameworks call `dict` on what they do not know; no credential gets out by that."""
    value: Any = pay()

    assert value.to_dict() == dict(value) == {**value}
    assert [] == [secret for secret in (TOKEN, OPENID) if secret in json.dumps(dict(value))]


@pytest.mark.parametrize("value", [pay(), RefundResult(out_trade_no="R-1", status="S")])
def test_value_is_no_sequence(value: object) -> None:
    """One request where many belong is an error of its own, not a list of names."""
    with pytest.raises(TypeError, match="not iterable"):
        iter(cast("Any", value))
