"""Check single fields by the limits of the platform's tables, as converters and validators.

Every check raises `InvalidRequestError` with the platform's name of the field and what is allowed.
An error repeats no value but amounts and codes: other values may be personal data.
"""

from __future__ import annotations

import ipaddress
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any, Final, TypeVar, cast, final

import attrs

from wxpay_async.errors import InvalidRequestError

V = TypeVar("V")
Validator = Callable[[Any, "attrs.Attribute[Any]", Any], None]
Json = bool | int | str | Sequence["Json"] | Mapping[str, "Json"] | None

_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,32}", re.ASCII)
_QUANTITY: Final = re.compile(r"[1-9][0-9]{0,13}", re.ASCII)
_TIMEOUT: Final = re.compile(r"([1-9][0-9]{0,5})([mhd])", re.ASCII)
_SURROGATE: Final = re.compile(r"[\ud800-\udfff]")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
_UNITS: Final = {"m": "minutes", "h": "hours", "d": "days"}
_DASHED_UUID: Final = 36
_MAX_QUANTITY: Final = 10**14 - 1  # more pieces at 0.01 yuan exceed any amount
_MAX_ROYALTIES: Final = 10
_MAX_INTEGER: Final = 2**53 - 1  # beyond it some JSON readers round
_MAX_NESTING: Final = 16
_INVISIBLE: Final = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
"""What Python calls printable, and what cannot be seen: joiners, fillers, variation selectors."""
_IDENTIFIER: Final = "printable characters without white space"
_PLAIN: Final = f"{_IDENTIFIER}, & and ="
_REQUEST_IDS: Final = "1 to 32 characters of A-Z a-z 0-9 _ -"
_ADDRESSES: Final = "an IPv4 or IPv6 address"
_TIMEOUTS: Final = "0, or 10m to 7d with unit m, h or d"


@final
class ReadOnly(Mapping[str, V]):
    """A view that cannot be assigned to; unlike `MappingProxyType` it can be copied and pickled."""

    __slots__ = ("_content",)

    def __init__(self, content: Mapping[str, V]) -> None:
        self._content = content

    def __getitem__(self, name: str) -> V:
        return self._content[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._content)

    def __len__(self) -> int:
        return len(self._content)

    def __repr__(self) -> str:
        return f"ReadOnly({self._content!r})"


NOTHING: Final[Mapping[str, Json]] = ReadOnly({})


def wire_name(attribute: attrs.Attribute[Any]) -> str:
    """Return the platform's name: the `wire` metadata, else the attribute's name in camelCase."""
    return attribute.metadata.get("wire") or _camel(attribute.name)


def _camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(word.capitalize() for word in rest)


def as_quantity(value: object) -> int:
    """Convert a quantity: an integer above 0, or its text."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise TypeError(f"quantity: an int or its text, not {type(value).__name__}")
    fits = _QUANTITY.fullmatch(value) if isinstance(value, str) else 0 < value <= _MAX_QUANTITY
    if not fits:
        raise InvalidRequestError(
            "not a quantity",
            field="quantity",
            allowed="an integer above 0, at most 14 digits, none of them a leading 0",
        )
    return int(value)


def unmap_ip_address(value: str) -> str:
    """Write an IPv4 address that is mapped into IPv6 as IPv4 (`protocol.md`, decision 15).

    A server that listens on both families sees IPv4 payers as `::ffff:1.2.3.4`, a form that WeChat
    refuses. Everything else stays as it is; `ip_address` below says whether it is an address.
    """
    # A zone is refused, not dropped.
    if not isinstance(cast("object", value), str) or ":" not in value or "%" in value:
        return value
    try:
        mapped = ipaddress.IPv6Address(value).ipv4_mapped
    except ValueError:
        return value
    return value if mapped is None else str(mapped)


def as_tuple(value: Iterable[V], name: str, kind: type) -> tuple[V, ...]:
    """Convert a list of a model's values to a tuple."""
    if not isinstance(cast("object", value), Iterable):
        raise TypeError(f"{name}: a list of {kind.__name__}, not {type(value).__name__}")
    return tuple(value)


def freeze_json(extra: Mapping[str, Json]) -> Mapping[str, Json]:
    """Copy the fields that the page does not know, so that a later change does not get sent."""
    if extra is NOTHING:
        return NOTHING
    if not isinstance(cast("object", extra), Mapping):
        raise TypeError(f"extra: a mapping of names to JSON, not {type(extra).__name__}")
    return ReadOnly(
        {
            _check_key(name, "extra"): _copy_json(item, name, _MAX_NESTING)
            for name, item in extra.items()
        }
    )


def _copy_json(value: object, name: str, left: int) -> Json:
    """Copy a JSON value, and refuse one that two readers could understand differently."""
    if isinstance(value, str):
        return _check_encodable(value, name)
    if isinstance(value, int) and abs(value) > _MAX_INTEGER:
        raise InvalidRequestError(
            "an integer that JSON readers may round",
            field=name,
            allowed="integers below 2**53; longer ones as text",
        )
    if value is None or isinstance(value, int):
        return value
    if not left:
        raise InvalidRequestError("nested too deep", field=name, allowed=f"{_MAX_NESTING} levels")
    if isinstance(value, Mapping):
        members = cast("Mapping[object, object]", value).items()
        return {_check_key(key, name): _copy_json(item, name, left - 1) for key, item in members}
    if isinstance(value, list | tuple):
        return [_copy_json(item, name, left - 1) for item in cast("Sequence[object]", value)]
    raise TypeError(f"{name}: {type(value).__name__} is not exact JSON; write amounts as str")


def _check_key(key: object, name: str) -> str:
    # json.dumps would write the keys 1 and "1" as the same name twice.
    if not isinstance(key, str):
        raise TypeError(f"{name}: the keys of a JSON object are str, not {type(key).__name__}")
    return _check_encodable(key, name)


def _check_encodable(value: str, name: str) -> str:
    if _SURROGATE.search(value):
        raise InvalidRequestError("holds a lone surrogate", field=name, allowed="Unicode text")
    return value


def text(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    """Accept a text that is not blank and has no control characters."""
    del instance
    _check_text(attribute, value, "a text that is not blank")


def _check_text(attribute: attrs.Attribute[Any], value: object, allowed: str) -> None:
    if isinstance(value, str) and value.isprintable() and value.strip():
        return  # nearly always; the search below takes ten times as long
    if not isinstance(value, str):
        raise TypeError(f"{wire_name(attribute)}: a str, not {type(value).__name__}")
    if not value or value.isspace() or _CONTROL.search(value):
        raise InvalidRequestError(
            "empty, blank, or holds control characters or lone surrogates",
            field=wire_name(attribute),
            allowed=allowed,
        )


def text_or_empty(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    """Accept the empty text too, for fields that the platform then reads as absent."""
    if value != "":
        text(instance, attribute, value)


def identifier(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    """Accept a number that identifies (`money-safety.md` §2): all of its characters show."""
    del instance
    if not _is_shown(value):  # only an error needs the name
        check_identifier(value, wire_name(attribute))


def optional_identifier(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    """Accept None, or a number that identifies; attrs' own `optional` takes twice the time."""
    if value is not None:
        identifier(instance, attribute, value)


def optional_plain(instance: object, attribute: attrs.Attribute[Any], value: str | None) -> None:
    """Accept None, or a number that can be a signed parameter by itself."""
    if value is not None:
        plain(instance, attribute, value)


def check_identifier(value: object, name: str, *, allowed: str = _IDENTIFIER) -> None:
    """Refuse a number that could be read as another one, which has no blank or hidden character.

    Args:
        value: what identifies something.
        name: the field, for the error.
        allowed: what the field may hold, in words.

    Raises:
        InvalidRequestError: it is empty, or some character of it does not show.
        TypeError: it is no text.
    """
    if not isinstance(value, str):
        raise TypeError(f"{name}: a str, not {type(value).__name__}")
    if not _is_shown(value):
        raise InvalidRequestError(
            "empty, or holds white space or characters that do not show",
            field=name,
            allowed=allowed,
        )


def _is_shown(value: object) -> bool:
    if not isinstance(value, str) or not value.isprintable() or " " in value:
        return False
    # Nearly every number is ASCII, for which looking at the whole is enough.
    return bool(value) if value.isascii() else not _INVISIBLE.search(value)


def drop_hidden(text: str) -> str:
    """Return a text without white space and without characters that do not show."""
    return _INVISIBLE.sub("", "".join(c for c in text if c.isprintable() and c != " "))


def plain(instance: object, attribute: attrs.Attribute[Any], value: str) -> None:
    """Accept a number that can be a signed parameter by itself: no `&` and no `=`."""
    del instance
    if not _is_shown(value):
        check_identifier(value, wire_name(attribute), allowed=_PLAIN)
    if "&" in value or "=" in value:
        raise InvalidRequestError(
            "holds & or =, which makes the signed string ambiguous",
            field=wire_name(attribute),
            allowed=_PLAIN,
        )


def request_id(instance: object, attribute: attrs.Attribute[Any], value: Any) -> None:  # noqa: ANN401 - checked here
    """Accept a requestId: at most 32 characters that are safe anywhere."""
    del instance
    if isinstance(value, str) and _REQUEST_ID.fullmatch(value):
        return
    _check_text(attribute, value, _REQUEST_IDS)
    hint = "; a dashed UUID does not fit, uuid4().hex does" if len(value) == _DASHED_UUID else ""
    raise InvalidRequestError(
        f"{len(value)} characters do not fit{hint}",
        field=wire_name(attribute),
        allowed=_REQUEST_IDS,
    )


def one_of(*allowed: str) -> Validator:
    """Accept only the listed values."""

    def check(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
        del instance
        if value not in allowed:
            raise InvalidRequestError(
                f"{value!r:.40} is unknown",
                field=wire_name(attribute),
                allowed=", ".join(allowed),
            )

    return check


def number(
    allowed: str,
    *,
    least: float = 0.0,
    above: bool = False,
    whole: bool = False,
    finite: bool = False,
) -> Validator:
    """Accept a number of a setting.

    Args:
        allowed: what it may be, in words, for the error.
        least: the smallest one.
        above: the number must be above `least`.
        whole: it must be an int.
        finite: infinity is none.
    """

    def check(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
        del instance
        check_number(
            value, attribute.name, allowed, least=least, above=above, whole=whole, finite=finite
        )

    return check


def check_number(
    value: object,
    name: str,
    allowed: str,
    *,
    least: float = 0.0,
    above: bool = False,
    whole: bool = False,
    finite: bool = False,
) -> None:
    """Refuse what is no such number; see `number`.

    Raises:
        InvalidRequestError: a text, a bool, NaN, or a number that is too small or too large.
    """
    if isinstance(value, int if whole else int | float) and not isinstance(value, bool):
        fits = value > least if above else value >= least
        if fits and not (finite and value == math.inf):
            return
    raise InvalidRequestError(f"{value!r:.40} does not fit", field=name, allowed=allowed)


def code(digits: int, known: str) -> Validator:
    """Accept a numeric code by its shape, since the platform may add codes that no page lists."""
    shape = re.compile(rf"[0-9]{{{digits}}}", re.ASCII)

    def check(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
        del instance
        if not isinstance(value, str) or not shape.fullmatch(value):
            raise InvalidRequestError(
                f"{value!r:.40} is no code",
                field=wire_name(attribute),
                allowed=f"{digits} digits; documented: {known}",
            )

    return check


def ip_address(instance: object, attribute: attrs.Attribute[Any], value: str) -> None:
    """Accept an IPv4 or IPv6 address."""
    del instance
    _check_text(attribute, value, _ADDRESSES)
    try:
        # A zone (`%eth0`) may be any text, and has no meaning on another machine.
        fits = "%" not in value and bool(ipaddress.ip_address(value))
    except ValueError:
        fits = False  # a cause would repeat a person's address
    if not fits:
        raise InvalidRequestError(
            "not an IP address", field=wire_name(attribute), allowed=_ADDRESSES
        )


def timeout_express(instance: object, attribute: attrs.Attribute[Any], value: str) -> None:
    """Accept `0`, or 10m to 7d with unit m, h or d."""
    del instance
    _check_text(attribute, value, _TIMEOUTS)
    span = read_timeout(value)
    if value != "0" and not timedelta(minutes=10) <= span <= timedelta(days=7):
        raise InvalidRequestError(
            f"{value[:16]!r} does not fit",
            field=wire_name(attribute),
            allowed=_TIMEOUTS,
        )


def read_timeout(value: str) -> timedelta:
    """Return the time that `timeoutExpress` says; none for `0`."""
    match = _TIMEOUT.fullmatch(value)
    return timedelta(**{_UNITS[match[2]]: int(match[1])}) if match else timedelta()


def at_most_ten(instance: object, attribute: attrs.Attribute[Any], value: Sequence[object]) -> None:
    """Accept up to 10 royalties."""
    del instance
    if len(value) > _MAX_ROYALTIES:
        raise InvalidRequestError(
            f"{len(value)} royalties", field=wire_name(attribute), allowed="at most 10"
        )


def model(kind: type) -> Validator:
    """Accept a value of a model; unlike attrs' validator, the error does not show its content."""

    def check(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
        del instance
        if not isinstance(value, kind):
            wrong = type(value).__name__
            raise TypeError(f"{wire_name(attribute)}: a {kind.__name__}, not {wrong}")

    return check


def models(kind: type) -> Validator:
    """Accept a tuple of a model's values."""
    check_one = model(kind)

    def check(instance: object, attribute: attrs.Attribute[Any], value: Sequence[object]) -> None:
        for item in value:
            check_one(instance, attribute, item)

    return check


def extra(instance: object, attribute: attrs.Attribute[Any], value: Mapping[str, Json]) -> None:
    """Accept names that the model itself does not use."""
    del attribute
    if value is NOTHING:
        return
    others = attrs.fields(cast("type[attrs.AttrsInstance]", type(instance)))
    known = {wire_name(other) for other in others if other.name != "extra"}
    for name in value:
        if name in known:
            raise InvalidRequestError(
                "is a known field", field=name, allowed="names that the model does not have"
            )


def show_names(value: Mapping[str, Json]) -> str:
    """Show the names of unknown fields only; their values may be secrets."""
    return f"{{{', '.join(map(repr, value))}}}"
