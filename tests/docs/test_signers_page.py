"""The signer of `docs/signers.md` signs what the platform accepts."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from Crypto.Hash import SHA256
from Crypto.PublicKey import RSA
from Crypto.Signature import pkcs1_15

from tests.support.pages import DOCS, find_files
from tests.support.vectors import PRIVATE_KEY
from wxpay_async import InvalidRequestError, PayGateway, SqlStore
from wxpay_async.sandbox import Sandbox


class Service:
    """A key service in this process."""

    async def sign_sha256(self, key_id: str, message: bytes) -> bytes:
        """Sign with the only key."""
        assert key_id == "alias/wxpay"
        return pkcs1_15.new(RSA.import_key(PRIVATE_KEY.read_bytes())).sign(SHA256.new(message))


@pytest.fixture
def signer(tmp_path: Path) -> object:
    """Make the signer of the page."""
    [(name, text)] = find_files(DOCS / "signers.md").items()
    file = tmp_path / name
    file.write_text(text, encoding="utf-8")
    spec = importlib.util.spec_from_file_location("kms_signer", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.KmsSigner(Service(), "alias/wxpay")


async def test_signature_of_the_page_is_accepted(signer: object) -> None:
    """A whole call, over HTTP."""
    public = RSA.import_key(PRIVATE_KEY.read_bytes()).public_key().export_key().decode()
    async with (
        Sandbox(merchant_public_key=public) as sandbox,
        PayGateway(sandbox.app_key, signer, base_url=sandbox.url) as gateway,
    ):
        merchants = [merchant async for merchant in gateway.merchants()]

    assert merchants


def test_durable_store_needs_seal_keys_with_it(signer: object, tmp_path: Path) -> None:
    """Since nothing can be derived from a key that is not here."""
    store = SqlStore(f"sqlite:///{tmp_path}/wxpay.db")

    with pytest.raises(InvalidRequestError, match="seal_keys"):
        PayGateway("k", signer, store=store)
    PayGateway("k", signer, store=store, seal_keys=[bytes(32)])
