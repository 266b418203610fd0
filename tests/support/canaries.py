"""Search for secrets: every form that one can hide in, every way in which an error is shown."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import re
import traceback
from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from urllib.parse import quote, quote_plus

from Crypto.PublicKey import RSA

from wxpay_async.errors import WxPayError

Canaries = dict[str, str]
"""What must not be found, by what it is called."""
Call = Callable[[], Awaitable[object]]

SECRET = "canarySecret0f6b1d2e3c4a59687a"
WRONG_SECRET = "canaryWrongSecret7b8c9d0e1f2a3b"
OPENID = "oCanary-77_openid+31/xyz="
PLANTED_TOKEN = "canary+payToken/91f3=a7"
PLANTED_PREPAY = "wxCanary0616441626856"
PLANTED_SIGN = "canaryPaySign+tEwMVv5w/rcgv=="
PLANTED: Canaries = {
    "the openid": OPENID,
    "the payToken": PLANTED_TOKEN,
    "the prepay": PLANTED_PREPAY,
    "the paySign": PLANTED_SIGN,
}


def _list_forms(value: str) -> set[bytes]:
    """Write a value in every encoding in which it could be shown."""
    raw = value.encode()
    found = {
        raw,
        raw.hex().encode(),
        raw.hex().upper().encode(),
        quote(value, safe="").encode(),
        quote_plus(value).encode(),
        json.dumps(value)[1:-1].encode(),
        value[::-1].encode(),
        value.encode("utf-16-le"),
    }
    for shift in range(3):  # Base64 of a longer text that holds the value at any offset
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            cut = encode(bytes(shift) + raw)[(0, 2, 3)[shift] :]
            found.add(cut[: len(cut) // 4 * 4 - 4])
    return found


def find_leaks(places: Mapping[str, str | bytes], canaries: Canaries) -> list[tuple[str, str]]:
    """Return each (place, canary) where something secret was found, in whatever form."""
    forms = {name: _list_forms(value) for name, value in canaries.items()}
    found: list[tuple[str, str]] = []
    for place, content in places.items():
        raw = content if isinstance(content, bytes) else content.encode("utf-8", "replace")
        found.extend((place, name) for name, all_ in forms.items() if any(f in raw for f in all_))
    return found


def _list_chain(error: BaseException) -> list[BaseException]:
    """Return the error and all below it, also those that `from None` keeps out of tracebacks."""
    chain: list[BaseException] = []
    todo: list[BaseException | None] = [error]
    while todo:
        link = todo.pop()
        if link is not None and link not in chain:
            chain.append(link)
            todo += [link.__cause__, link.__context__]
    return chain


def _list_visible(error: BaseException) -> list[BaseException]:
    """Return the error and what a traceback shows below it."""
    below = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return [error, *(_list_visible(below) if below else [])]


def _show_locals(links: Iterable[BaseException], package: str = "") -> str:
    """Show the locals of every frame, or of a package's."""
    walks = (traceback.walk_tb(link.__traceback__) for link in links)
    return "\n".join(
        f"{frame.f_code.co_qualname}:{line} {name}={_show(value)}"
        for walk in walks
        for frame, line in walk
        if frame.f_globals.get("__name__", "").startswith(package)
        for name, value in frame.f_locals.items()
    )


def _show(value: object) -> str:
    try:
        return repr(value)
    except (AttributeError, ValueError) as error:  # of an object that is only half made
        return f"<{error!r} in a repr>"


def render_error(error: BaseException) -> dict[str, str]:
    """Show an error in every way that a log, a debugger or an error tracker would."""
    name = type(error).__name__
    return {
        f"str of {name}": str(error),
        f"repr of {name}": "\n".join(repr(link) for link in _list_chain(error)),
        f"attributes of {name}": "\n".join(repr(vars(link)) for link in _list_chain(error)),
        f"traceback of {name}": "".join(traceback.format_exception(error)),
        f"traceback with locals of {name}": _show_locals(_list_visible(error)),
        f"frames of {name}": _show_locals(_list_chain(error), "wxpay_async"),
    }


def render_records(records: Iterable[logging.LogRecord]) -> str:
    """Show log records with their arguments and their `extra`."""
    return "\n".join(f"{record.getMessage()} {vars(record)!r}" for record in records)


def list_key_secrets(name: str, pem: bytes) -> Canaries:
    """Name the secret numbers of a private key, and a piece of its text."""
    key = RSA.import_key(pem)
    numbers = {f"the {name}'s {part}": str(getattr(key, part)) for part in "dpq"}
    hexadecimal = {f"the {name}'s {part} in hex": f"{getattr(key, part):x}" for part in "dpq"}
    return {**numbers, **hexadecimal, **list_pem_secrets(name, pem)}


def list_pem_secrets(name: str, pem: bytes) -> Canaries:
    """Name a line from the middle of a PEM, as it is and as the `repr` of its bytes."""
    lines = pem.decode("ascii").splitlines()
    line = lines[len(lines) // 2]
    # Which quotes are escaped depends on what stands elsewhere in the bytes.
    octets = max(re.split(rb"['\"]", base64.b64decode(line)), key=len)
    return {f"the {name}'s text": line, f"the {name}'s bytes": repr(octets)[2:-1]}


async def catch_failure(call: Call) -> BaseException:
    """Return what a call raises; the frame of this function holds nothing but the call."""
    try:
        await call()
    except (WxPayError, asyncio.CancelledError) as error:
        return error
    raise AssertionError("it did not fail")


def read_store(folder: Path) -> dict[str, bytes]:
    """Return what a store's files hold, those beside the database too."""
    return {file.name: file.read_bytes() for file in folder.glob("store.db*")}
