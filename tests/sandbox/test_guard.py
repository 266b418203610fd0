"""What a foreign web page makes a browser send is refused."""

import pytest

from wxpay_async.sandbox.guard import find_refusal


@pytest.mark.parametrize(
    ("host", "remote", "served"),
    [
        ("127.0.0.1:8080", False, True),
        ("localhost:8080", False, True),
        ("[::1]:8080", False, True),
        ("127.8.9.10", False, True),
        ("", False, True),
        ("evil.example:8080", False, False),
        ("localhost.evil.example", False, False),
        ("127.0.0.1.nip.example", False, False),
        ("192.168.1.5:8080", False, False),
        ("sandbox:8080", False, False),
        ("[::1", False, False),
        ("192.168.1.5:8080", True, True),
        ("sandbox:8080", True, True),
        ("evil.example:8080", True, False),
        ("localhost:8080", True, True),
        (":8080", True, False),
    ],
)
def test_only_names_of_this_machine_are_served(host: str, *, remote: bool, served: bool) -> None:
    """A name that someone can make point here is refused, for reading, too."""
    headers = {"Host": host} if host else {}
    assert served is not bool(find_refusal("GET", headers, remote=remote))


@pytest.mark.parametrize(
    ("origin", "served"),
    [
        (None, True),
        ("http://127.0.0.1:8080", True),
        ("http://127.0.0.1:8081", False),
        ("https://127.0.0.1:8080", False),
        ("http://localhost:8080", False),
        ("http://evil.example", False),
        ("null", False),
        ("", False),
    ],
)
def test_actions_of_foreign_pages_are_refused(origin: str | None, *, served: bool) -> None:
    """A program sends no Origin; a page sends its own, which must be the sandbox's."""
    headers = {"Host": "127.0.0.1:8080"} | ({} if origin is None else {"Origin": origin})
    assert served is not bool(find_refusal("POST", headers, remote=False))
    assert not find_refusal("GET", headers, remote=False)
