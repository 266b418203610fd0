"""Seal lines for a worker on another machine, and open what a message queue delivers.

A message is Base64 text of these bytes:

| bytes | what |
| --- | --- |
| 1 | the version of this layout |
| 12 | the nonce |
| the rest | AES-256-GCM, with its tag at the end, of zlib of JSON of the lines |

The layout and the appKey are bound to it as associated data: a worker of another merchant cannot
open it, even with the same key. A reader of the queue learns no credential and no payer, and a
writer without the key cannot make a worker send anything. An old message that is put into the queue
again does no harm, since the store already has the ends of its lines.
"""

from __future__ import annotations

import base64
import functools
import json
import secrets
import zlib
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

import attrs

from wxpay_async.adapters.stores.sealed import SEAL_KEY_BYTES, Cipher, make_cipher
from wxpay_async.batch.line import BatchRequest, Line
from wxpay_async.errors import InvalidRequestError
from wxpay_async.protocol.secrets import SecretBytes

if TYPE_CHECKING:
    from cattrs import Converter

T = TypeVar("T")

MAX_BYTES: Final = 8 * 1024 * 1024
"""The most bytes of a chunk's JSON, so that its message fits into the 16 MiB of RabbitMQ."""

_VERSION: Final = b"\x01"
_HKDF_INFO: Final = b"wxpay_async batch chunk, version 1"
_NONCE: Final = 12
_FIELD: Final = "message"
_ALLOWED: Final = (
    "a chunk that was sealed for this appKey, with one of the seal keys of this process"
)


def seal(lines: Sequence[Line], keys: Sequence[bytes], *, app_key: str) -> str:
    """Return lines as a message that only the holders of the key can read.

    Args:
        lines: what a worker is to settle.
        keys: the store's (`SealedStore.keys`), 32 bytes each: the first seals.
        app_key: the merchant's; a message opens for the same one only.

    Raises:
        InvalidRequestError: there is no key, or the lines are too large for one message.
    """
    text = SecretBytes(
        json.dumps([_converter().unstructure(line) for line in lines], separators=(",", ":")),
        "ascii",
    )
    if len(text) > MAX_BYTES:
        raise InvalidRequestError(
            f"{len(text)} bytes", field=_FIELD, allowed=f"at most {MAX_BYTES} bytes of JSON"
        )
    nonce = secrets.token_bytes(_NONCE)
    cipher = make_cipher(_derive_keys(keys)[0])
    sealed = cipher.encrypt(nonce, SecretBytes(zlib.compress(text)), _bind(app_key))
    return base64.b64encode(_VERSION + nonce + sealed).decode("ascii")


def unseal(message: str, keys: Sequence[bytes], *, app_key: str) -> list[Line]:
    """Return the lines of a message.

    Args:
        message: what `seal` made, by way of a message queue.
        keys: as for `seal`; any of them opens.
        app_key: as for `seal`.

    Raises:
        InvalidRequestError: it does not open (the error's field is `message`), or there is no key.
    """
    text = _decompress(_decrypt(_decode(message), keys, app_key))
    lines, problem = list[Line](), ""
    try:
        lines = _converter().structure(_check_type(json.loads(text), list), list[Line])
    except Exception as error:  # noqa: BLE001 - cattrs lets through what any attribute's check raises
        problem = type(error).__name__
    if problem:
        # Raised out here, since the frames below hold the lines. The key was the right one, so the
        # sender is another version of this package, with other fields.
        raise _refuse(f"its lines are not known to this version of wxpay_async ({problem})")
    return lines


def _refuse(reason: str) -> InvalidRequestError:
    return InvalidRequestError(reason, field=_FIELD, allowed=_ALLOWED)


def _bind(app_key: str) -> bytes:
    """Return the associated data of a chunk."""
    return b"\x00".join((_HKDF_INFO, app_key.encode()))


def _derive_key(key: bytes) -> SecretBytes:
    """Derive the key of chunks, which is unrelated to the key of the store's rows."""
    from Crypto.Hash import SHA256  # noqa: PLC0415 - only chunks need it
    from Crypto.Protocol.KDF import HKDF  # noqa: PLC0415

    return SecretBytes(HKDF(key, SEAL_KEY_BYTES, b"", SHA256, context=_HKDF_INFO))


def _derive_keys(keys: Sequence[bytes]) -> list[SecretBytes]:
    if not keys or any(len(key) != SEAL_KEY_BYTES for key in keys):
        raise InvalidRequestError(
            "missing, or not of the right kind",
            field="seal_keys",
            allowed=f"keys of {SEAL_KEY_BYTES} bytes each: the first seals, any opens",
        )
    return [_derive_key(key) for key in keys]


def _decode(message: str) -> bytes:
    """Return the bytes of a message without its version."""
    try:
        raw = base64.b64decode(message, validate=True)
    except (TypeError, ValueError):  # a queue may deliver whatever was put into it
        raw = b""
    if not raw:
        raise _refuse("no Base64")
    if not raw.startswith(_VERSION):
        raise _refuse(f"version {raw[0]} of the layout, which this version does not know")
    return raw[len(_VERSION) :]


def _decrypt(sealed: bytes, keys: Sequence[bytes], app_key: str) -> bytes:
    ciphers: list[Cipher] = [make_cipher(key) for key in _derive_keys(keys)]
    for cipher in ciphers:
        opened = cipher.decrypt(sealed[:_NONCE], sealed[_NONCE:], _bind(app_key))
        if opened is not None:
            return SecretBytes(opened)
    raise _refuse("sealed with another key or for another appKey, or changed")


def _decompress(packed: bytes) -> bytes:
    """Decompress at most as many bytes as a chunk may have."""
    inflating, text, problem = zlib.decompressobj(), b"", ""
    try:
        text = SecretBytes(inflating.decompress(packed, MAX_BYTES))
    except zlib.error:
        problem = "no zlib"
    if not problem and (not inflating.eof or inflating.unused_data):
        problem = f"more than {MAX_BYTES} bytes, or not whole"
    if problem:
        raise _refuse(problem)
    return text


@functools.cache
def _converter() -> Converter:
    from cattrs import Converter  # noqa: PLC0415 - cattrs can wait
    from cattrs.strategies import configure_tagged_union  # noqa: PLC0415

    # An unknown field is refused: a worker of an older version must not send less than was asked.
    made = Converter(omit_if_default=True, forbid_extra_keys=True, detailed_validation=False)
    made.register_structure_hook(str, _check_type)  # else None would be the text None
    made.register_structure_hook(int, _check_type)
    made.register_unstructure_hook(Decimal, str)
    made.register_structure_hook(Decimal, lambda text, _: Decimal(text))
    made.register_unstructure_hook_factory(_has_extra, functools.partial(_write_extra, made))
    made.register_structure_hook_factory(_has_extra, functools.partial(_read_extra, made))
    configure_tagged_union(BatchRequest, made, tag_name="class")
    return made


def _check_type(value: object, kind: type[T]) -> T:
    if type(value) is not kind:
        raise TypeError(f"no {kind.__name__}")
    return value


def _has_extra(cls: type) -> bool:
    return attrs.has(cls) and "extra" in attrs.fields_dict(cls)


def _write_extra(converter: Converter, cls: type) -> Callable[[Any], dict[str, Any]]:
    from cattrs.gen import make_dict_unstructure_fn, override  # noqa: PLC0415 - cattrs can wait

    return make_dict_unstructure_fn(
        cls,
        converter,
        _cattrs_omit_if_default=True,
        extra=override(omit_if_default=True, unstruct_hook=dict),
    )


def _read_extra(converter: Converter, cls: type) -> Callable[[Any, Any], Any]:
    from cattrs.gen import make_dict_structure_fn, override  # noqa: PLC0415 - cattrs can wait

    as_it_is = override(struct_hook=lambda extra, _: extra)
    return make_dict_structure_fn(cast("type[Any]", cls), converter, extra=as_it_is)
