"""Certificates for servers, and settings as a test needs them."""

from __future__ import annotations

import os

import pytest

from tests.contract.transports import Certificates, make_certificates


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the settings and proxies of this machine away."""
    for name in list(os.environ):
        if name.startswith("WXPAY_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("WXPAY_LANG", "en")


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Make an authority and what it and others signed."""
    return make_certificates(tmp_path_factory.mktemp("certificates"))
