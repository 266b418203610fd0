"""Find a sandbox's settings that would be used against the real platform."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import PurePath
from typing import Final

from attrs import frozen

from wxpay_async.errors import InvalidRequestError
from wxpay_async.protocol.wire import PRODUCTION, TEST, is_loopback

PLATFORM_KEY: Final = "WXPAY_PLATFORM_KEY_FILE"

ADVICE: Final = (
    "set WXPAY_BASE_URL to the address that `wxpay-async sandbox` prints, or replace the sandbox's "
    "settings by those of the platform's console"
)

_SANDBOX_KEY: Final = "sandbox-app-key"
"""The appKey that a sandbox gives out. Its secret is 32 random digits, as real ones are."""

_SANDBOX_FILE: Final = "sandbox-platform.pem"


class MixUpWarning(UserWarning):
    """Settings of a sandbox are there, and `WXPAY_BASE_URL` is not."""


@frozen(kw_only=True)
class MixUp:
    """A sandbox's settings, and an address that is none.

    Attributes:
        traces: the variables that only a sandbox prints like this.
        is_forgotten: whether `WXPAY_BASE_URL` is not set, so that the address is the default.
        place: the address, in words.
    """

    traces: tuple[str, ...]
    is_forgotten: bool
    place: str

    @property
    def has_app_key(self) -> bool:
        """Whether the appKey is a sandbox's, which no merchant has."""
        return "WXPAY_APP_KEY" in self.traces

    def __str__(self) -> str:
        why = "WXPAY_BASE_URL is not set, so this" if self.is_forgotten else "this"
        listed = " and ".join(self.traces)
        return f"{why} would talk to {self.place}, with what a sandbox gives out: {listed}"


def find_mix_up(environ: Mapping[str, str], base_url: str) -> MixUp | None:
    """Return what of a sandbox would meet this address; None where there is nothing, or loopback.

    Args:
        environ: the variables.
        base_url: where requests would go, as it was checked.
    """
    traces = _find_traces(environ)
    if not traces or is_loopback(base_url):
        return None
    return MixUp(
        traces=traces,
        is_forgotten=not environ.get("WXPAY_BASE_URL", "").strip(),
        place={PRODUCTION: "production", TEST: "the platform's test host"}.get(base_url, base_url),
    )


def refuse_mix_up(environ: Mapping[str, str], base_url: str) -> None:
    """Refuse a sandbox's appKey for another address; warn of other traces of a sandbox.

    Raises:
        InvalidRequestError: no merchant has this appKey.
    """
    mix_up = find_mix_up(environ, base_url)
    if mix_up is None:
        return
    if mix_up.has_app_key:
        raise InvalidRequestError(
            str(mix_up), field="WXPAY_APP_KEY, WXPAY_BASE_URL", allowed=ADVICE
        )
    if mix_up.is_forgotten:
        warnings.warn(f"{mix_up}; {ADVICE}", MixUpWarning, stacklevel=3)


def _find_traces(environ: Mapping[str, str]) -> tuple[str, ...]:
    traces: list[str] = []
    if environ.get("WXPAY_APP_KEY", "").strip() == _SANDBOX_KEY:
        traces.append("WXPAY_APP_KEY")
    if environ.get("WXPAY_PAY_PUBLIC_KEY"):
        traces.append("WXPAY_PAY_PUBLIC_KEY")
    if PurePath(environ.get(PLATFORM_KEY, "")).name == _SANDBOX_FILE:
        traces.append(PLATFORM_KEY)
    return tuple(traces)
