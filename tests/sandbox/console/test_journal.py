"""What the console remembers, and that it forgets in time."""

import pytest

from wxpay_async.sandbox.auth import IncomingRequest
from wxpay_async.sandbox.console import journal as journal_module
from wxpay_async.sandbox.console.journal import MAX_CALLS, MAX_KEPT, MAX_REFUSED, Journal
from wxpay_async.sandbox.error_codes import Code, RefusalError
from wxpay_async.sandbox.platform import Platform


@pytest.fixture
def journal() -> Journal:
    """A journal of a platform that was never called."""
    return Journal(platform=Platform(clock=lambda: 0.0, token=lambda: "t", sign_pay=lambda _: "s"))


def _note(journal: Journal, request_id: str, *, refused: bool = False, **more: str) -> None:
    params = {"appKey": "app", "bizContent": f'{{"requestId":"{request_id}"}}', **more}
    error = RefusalError(Code.BAD_SIGNATURE) if refused else None
    journal.note_call(IncomingRequest(path="/api"), params, error)


def test_calls_are_bounded_and_refusals_outlive_them(journal: Journal) -> None:
    """A flood of good calls does not push a refusal out, and both are bounded."""
    _note(journal, "bad", refused=True)
    for number in range(2 * MAX_CALLS):
        _note(journal, f"r{number}")
    assert len(journal.calls) == MAX_CALLS
    assert [call.request_id for call in journal.refused] == ["bad"]
    assert journal.find_call(1) is journal.refused[0]
    for number in range(2 * MAX_REFUSED):
        _note(journal, f"x{number}", refused=True)
    assert len(journal.refused) == MAX_REFUSED
    assert journal.find_call(1) is None


def test_request_ids_are_bounded(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of requestIds the one that was not seen for longest is forgotten first."""
    monkeypatch.setattr(journal_module, "MAX_REQUEST_IDS", 3)
    for request_id in ("a", "b", "a", "c", "d"):
        _note(journal, request_id)
    assert [journal.count_attempts("app", each) for each in "abcd"] == [2, 0, 1, 1]


def test_large_parameters_are_not_kept(journal: Journal) -> None:
    """Of a refused request that is too large, the names stay."""
    _note(journal, "r1", refused=True, remark="x" * MAX_KEPT)
    _note(journal, "r2", refused=True, remark="x")
    large, small = journal.refused
    assert set(large.params.values()) == {"…"}
    assert set(large.params) == {"appKey", "bizContent", "remark"}
    assert small.params["remark"] == "x"


def test_texts_of_a_call_are_cut(journal: Journal) -> None:
    """What a caller writes cannot make a row endless."""
    _note(journal, "r" * 5_000, outTradeNo="n" * 5_000)
    (call,) = journal.calls
    assert (len(call.request_id), len(call.order)) == (64, 64)


def test_good_calls_keep_no_parameters(journal: Journal) -> None:
    """The parameters of a call that went well are not needed."""
    _note(journal, "r1")
    assert journal.calls[0].params == {}
