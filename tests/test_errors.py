"""The tree of errors: what its drawing says is what the classes do."""

import ast
import copy
import inspect
import pickle
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from wxpay_async import errors
from wxpay_async.errors import (
    ClockSkewError,
    DuplicateRequestError,
    Fate,
    IdempotencyConflictError,
    InDoubtError,
    InvalidRequestError,
    NotSentError,
    QuotaExhaustedError,
    RefusedError,
    WxPayError,
)

LINE = re.compile(
    r"^    (?P<stem>[│ ]*)[├└]── (?P<name>\w+)(?: +(?P<fate>not_sent|in_doubt|refused)\b)?"
)


def read_drawing() -> dict[str, tuple[str, str]]:
    """Read the drawing: name -> (parent, fate); a fate that is not drawn is the parent's."""
    tree: dict[str, tuple[str, str]] = {}
    branch = ["WxPayError"]
    for line in inspect.cleandoc(errors.__doc__).splitlines():
        if match := LINE.match(line if line.startswith("    ") else "    " + line):
            depth = len(match["stem"]) // 4
            parent = branch[depth]
            branch[depth + 1 :] = [match["name"]]
            tree[match["name"]] = (parent, match["fate"] or tree[parent][1])
    return tree


def list_classes() -> dict[str, type[WxPayError]]:
    """Collect the classes that the module defines."""
    return {
        name: kind
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, WxPayError) and kind is not WxPayError
    }


KINDS = [pytest.param(kind, id=name) for name, kind in list_classes().items()]


def test_drawing_shows_every_class() -> None:
    """Exactly the classes that exist are drawn."""
    assert read_drawing().keys() == list_classes().keys()
    assert len(read_drawing()) > 15


@pytest.mark.parametrize("kind", KINDS)
def test_drawing_shows_parent_and_fate_of_each_class(kind: type[WxPayError]) -> None:
    """Parent and fate are those of the class, and of an error that is raised."""
    parent, fate = read_drawing()[kind.__name__]

    assert parent == kind.__bases__[0].__name__
    assert fate == kind.fate == kind("reason").fate


@pytest.mark.parametrize("kind", KINDS)
def test_every_class_says_what_it_means(kind: type[WxPayError]) -> None:
    """Its own docstring, not its parent's."""
    assert kind.__doc__
    assert kind.__doc__ != kind.__bases__[0].__doc__


@pytest.mark.parametrize("kind", KINDS)
def test_only_what_cannot_charge_twice_is_retryable(kind: type[WxPayError]) -> None:
    """A refusal is final unless the request was turned away unread."""
    retryable = {
        *("NotSentError", "QuotaExhaustedError", "InDoubtError", "MalformedResponseError"),
        *("ClockSkewError", "RateLimitedError", "NotSentTimeoutError", "InDoubtTimeoutError"),
    }

    assert (kind.__name__ in retryable) == kind("reason").retryable


# What a merchant believes who catches a class: a subclass must not say anything else


@pytest.mark.parametrize("kind", KINDS)
def test_fate_is_that_of_every_parent(kind: type[WxPayError]) -> None:
    """`except RefusedError` meets nothing in doubt, `except NotSentError` nothing that was sent."""
    parents = [k for k in kind.__mro__ if issubclass(k, WxPayError) and k is not WxPayError]

    assert {kind.fate} == {parent.fate for parent in parents}


@pytest.mark.parametrize("kind", KINDS)
def test_whatever_is_in_doubt_is_an_in_doubt_error(kind: type[WxPayError]) -> None:
    """A caller that handles `InDoubtError` and `RefusedError` handles every such fate."""
    assert (kind.fate is Fate.IN_DOUBT) == issubclass(kind, InDoubtError)
    assert (kind.fate is Fate.REFUSED) == issubclass(kind, RefusedError)


def test_error_that_says_nothing_of_its_fate_is_in_doubt() -> None:
    """Such as one of a transport that a merchant wrote: "not sent" needs a proof."""

    class PluginError(WxPayError):
        pass

    assert Fate.IN_DOUBT is WxPayError.fate is PluginError("because").fate


def syntax_of_the_package() -> Iterator[tuple[str, ast.AST]]:
    """Yield every node of the package's code, and the module that it stands in."""
    package = Path(errors.__file__).parent
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            yield path.relative_to(package).as_posix(), node


def test_no_part_of_the_package_changes_the_fate_of_an_error() -> None:
    """The class says it: what was caught by its class would say something else all at once."""
    changed = [
        f"{module}:{node.lineno}"
        for module, node in syntax_of_the_package()
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)
        if node.attr == "fate"
    ]

    assert [] == changed


def test_errors_of_the_package_are_all_in_one_module() -> None:
    """So that the tests of this file see every one of them."""
    names = {"WxPayError", *list_classes()}
    elsewhere = [
        f"{module}: {node.name}"
        for module, node in syntax_of_the_package()
        if isinstance(node, ast.ClassDef) and module != "errors.py"
        if names & {base.id for base in node.bases if isinstance(base, ast.Name)}
    ]

    assert [] == elsewhere


@pytest.mark.parametrize("name", ["InvalidRequestError", "InvalidKeyError"])
def test_bad_input_is_a_value_error(name: str) -> None:
    """As callers of any Python library expect; no other error is one."""
    assert issubclass(list_classes()[name], ValueError)
    assert 2 == sum(issubclass(kind, ValueError) for kind in list_classes().values())


def test_fates_are_their_words() -> None:
    """They stand in stores and logs."""
    assert {"not_sent", "in_doubt", "refused"} == {str(fate) for fate in Fate}


@pytest.mark.parametrize(
    ("code", "message", "expected"),
    [
        (None, None, "refused"),
        (None, "said", "refused"),
        ("", "said", "refused"),
        ("E1", None, "refused [E1]"),
        ("E1", "", "refused [E1]"),
        ("E1", "said", "refused [E1: said]"),
    ],
)
def test_platform_message_is_shown_with_its_code_only(
    code: str | None, message: str | None, expected: str
) -> None:
    """Without a code the speaker is unknown."""
    assert expected == str(RefusedError("refused", code=code, message=message))


def test_error_with_a_request_shows_it_with_its_fate() -> None:
    """What a person on call needs first."""
    error = InDoubtError("timed out", code="E1", message="说")
    error.request_id = "r-1"

    assert "timed out [E1: 说] (requestId r-1, in_doubt)" == str(error)


@pytest.mark.parametrize("noise", ["\n", "\r", "\x1b[2J", "\x00", "\u2028", "\u202e", "\ud800"])
def test_error_with_noise_from_the_other_side_is_one_line(noise: str) -> None:
    """What the other side wrote cannot forge a log line or steer a terminal."""
    shown = str(RefusedError("refused", code=f"E{noise}1", message=f"a{noise}b"))

    assert shown.isprintable()
    assert 1 == len(shown.splitlines())
    assert shown.encode()


def test_message_that_is_too_long_is_cut() -> None:
    """Code and message are kept whole, and shown in part."""
    error = RefusedError("refused", code="C" * 10_000, message="m" * 1_000_000)

    assert len(str(error)) < 300
    assert (10_000, 1_000_000) == (len(error.code), len(error.message))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({}, "bad"),
        ({"field": "price"}, "price: bad"),
        ({"allowed": "1"}, "bad; allowed: 1"),
        ({"field": "price", "allowed": "1"}, "price: bad; allowed: 1"),
    ],
)
def test_bad_input_is_told_with_field_and_allowed_values(
    arguments: dict[str, str], expected: str
) -> None:
    """As far as they are known."""
    assert expected == str(InvalidRequestError("bad", **arguments))


def _fill(kind: type[WxPayError]) -> WxPayError:
    error = kind("reason")
    error.code, error.message, error.request_id = "E1", "said", "r-1"
    error.attempts, error.replayed, error.retryable = 3, True, not error.retryable
    return error


@pytest.mark.parametrize(
    "clone", [copy.copy, copy.deepcopy, lambda e: pickle.loads(pickle.dumps(e))]
)
@pytest.mark.parametrize("kind", KINDS)
def test_errors_survive_copies_and_processes(kind: type[WxPayError], clone: object) -> None:
    """Class, text and every attribute: a worker's error reaches its parent whole."""
    error = _fill(kind)
    other = clone(error)

    assert kind is type(other)
    assert vars(error) == vars(other)
    assert (str(error), error.args, error.fate) == (str(other), other.args, other.fate)


async def test_in_doubt_error_is_resolved_by_the_gateway_that_raised_it() -> None:
    """With a gateway behind it the outcome, without one the doubt itself."""

    async def resolver() -> str:
        return "outcome"

    error = InDoubtError("timed out")
    with pytest.raises(InDoubtError) as caught:
        await error.resolve()
    error.resolver = resolver

    assert error is caught.value
    assert "outcome" == await error.resolve()


@pytest.mark.parametrize("kind", [InDoubtError, DuplicateRequestError])
def test_in_doubt_error_that_is_pickled_has_no_gateway(kind: type[InDoubtError]) -> None:
    """A gateway holds connections and keys; neither belongs into another process."""
    error = kind("timed out", code="E1")
    error.resolver = lambda: None
    error.outcome = "answer"
    other = pickle.loads(pickle.dumps(error))

    assert (None, "answer", "E1") == (other.resolver, other.outcome, other.code)
    assert error.resolver is not None


@pytest.mark.parametrize(
    ("error", "name", "expected"),
    [
        (InvalidRequestError("bad", field="price", allowed="1"), "field", "price"),
        (InvalidRequestError("bad", field="price", allowed="1"), "allowed", "1"),
        (IdempotencyConflictError("other", fields=["a", "b"]), "fields", ("a", "b")),
        (NotSentError("certificate", retryable=False), "retryable", False),
        (QuotaExhaustedError("full", retry_after=7.5), "retry_after", 7.5),
        (InDoubtError("redirect", retryable=False, code="E1"), "retryable", False),
    ],
)
def test_own_attributes_survive_too(error: WxPayError, name: str, expected: object) -> None:
    """Including those that the constructor takes by keyword."""
    other = pickle.loads(pickle.dumps(error))

    assert expected == getattr(other, name)
    assert str(error) == str(other)


def test_server_time_survives_pickling() -> None:
    """It is set after the error was made."""
    error = ClockSkewError("expired", code="CO_MSG_000005")
    assert error.server_time is None
    error.server_time = datetime(2026, 11, 22, tzinfo=UTC)

    assert error.server_time == pickle.loads(pickle.dumps(error)).server_time
