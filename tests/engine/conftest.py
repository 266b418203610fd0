"""The fixtures of the engine's tests."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.callbacks import Merchant, OpenMerchant
from tests.support.merchant import OpenShop


@pytest.fixture
def open_merchant(open_shop: OpenShop) -> OpenMerchant:
    """Return a function that makes a merchant over the answers of a platform."""

    def open_(answers: Any = (), scheme: str = "rsa", **settings: Any) -> Merchant:  # noqa: ANN401
        shop = open_shop(answers, **settings)
        return Merchant(shop.gateway, shop.clock, scheme)

    return open_
