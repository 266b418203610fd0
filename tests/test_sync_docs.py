"""The recipe of `docs/sync-code.md` runs as it is printed: threads, forks, WSGI and Celery."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.pages import find_files
from wxpay_async.integrations.testing import ThreadedSandbox
from wxpay_async.sandbox import Fault

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "sync-code.md"

Run = Callable[[str], str]

COMMON = """
import io, json, os, threading, time
from concurrent.futures import ThreadPoolExecutor
import wxpay_async as wx
from payments import call

def ask(path, body, content_type="application/json"):
    from shop import application
    said = []
    environ = {
        "PATH_INFO": path,
        "CONTENT_TYPE": content_type,
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.input": io.BytesIO(body),
    }
    parts = application(environ, lambda status, headers: said.extend([status, dict(headers)]))
    return said[0], said[1], b"".join(parts)

def order(number):
    return ask("/pay", json.dumps({"number": number, "openid": "openid-1"}).encode())
"""


@pytest.fixture
def sandbox() -> Iterator[ThreadedSandbox]:
    """Start a platform."""
    with ThreadedSandbox(quota=None) as started:
        yield started


@pytest.fixture
def run(tmp_path: Path, sandbox: ThreadedSandbox) -> Run:
    """Return a function that runs lines beside the modules of the page, in a process."""
    for name, text in find_files(PAGE).items():
        (tmp_path / name).write_text(text, encoding="utf-8")

    def run_lines(lines: str) -> str:
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", COMMON + lines],
            env={**os.environ, **sandbox.settings(), "PYTHONPATH": str(ROOT)},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert (0, "") == (done.returncode, done.stderr), done.stderr
        return done.stdout

    return run_lines


def test_page_has_a_name_for_each_block() -> None:
    """So that each is written beside the others."""
    text = PAGE.read_text(encoding="utf-8")

    assert ["payments.py", "shop.py", "tasks.py"] == list(find_files(PAGE))
    assert 3 == text.count("```python\n")


def test_threads_share_one_gateway(run: Run, sandbox: ThreadedSandbox) -> None:
    """Sixteen at once, the first call among them; the process ends by itself."""
    printed = run("""
with ThreadPoolExecutor(16) as pool:
    answers = list(pool.map(order, [f"N{number}" for number in range(16)]))
print({status for status, _, _ in answers}, threading.active_count() < 5)
print({"prepay_id=" in json.loads(body)["package"] for _, _, body in answers})
""")

    assert "{'200 OK'} True\n{True}\n" == printed
    assert 32 == len(sandbox.platform.ledger)  # a trade and a pay each


def test_second_tap_in_another_thread_gets_the_same(run: Run, sandbox: ThreadedSandbox) -> None:
    """One requestId, one call, whichever thread asks."""
    printed = run("""
with ThreadPoolExecutor(8) as pool:
    print(len(set(body for _, _, body in pool.map(order, ["N1"] * 8))))
""")

    assert ("1\n", 2) == (printed, len(sandbox.platform.ledger))


def test_process_that_forks_after_a_call_works_in_both(run: Run, sandbox: ThreadedSandbox) -> None:
    """The child opens a portal and a gateway of its own."""
    printed = run("""
import warnings
warnings.simplefilter("ignore", DeprecationWarning)  # of fork beside threads, as servers do
print(order("N1")[0], flush=True)
child = os.fork()
if not child:
    print(order("N2")[0], flush=True)
    os._exit(0)
os.waitpid(child, 0)
print(order("N3")[0])
""")

    assert "200 OK\n" * 3 == printed
    assert {"N1", "N2", "N3"} == set(sandbox.platform.trades)


def test_callback_reaches_its_handler_in_a_thread(run: Run, sandbox: ThreadedSandbox) -> None:
    """Signed by the secret of the environment, confirmed by a query; a forged one does not."""
    assert "200 OK\n" == run('print(order("N1")[0])')
    sandbox.confirm("N1")
    printed = run("""
from urllib.parse import urlencode
import shop

fields = {
    "out_trade_no": "N1",
    "inner_trade_no": "T-1",
    "trade_status": "TRADE_SUCCESS",
    "trade_amount": "12.50",
    "appKey": os.environ["WXPAY_APP_KEY"],
    "nonce": "n",
    "timestamp": str(round(time.time() * 1000)),
}
secret = os.environ["WXPAY_APP_SECRET"]
sign = wx.Md5Signer(secret).sign(wx.canonical_string(fields).encode())
for sent in (fields, fields | {"sign": sign}):
    print(ask("/notify", urlencode(sent).encode(), "application/x-www-form-urlencoded")[2])
print(shop.paid)
""")

    assert ["b'{\"status\": 0}'", "b'{\"status\": 1}'", "{'N1'}"] == printed.splitlines()


def test_error_is_a_problem(run: Run, sandbox: ThreadedSandbox) -> None:
    """With the headers that say when to try again."""
    sandbox.faults.inject(Fault.reset(operation="trade"))
    printed = run("""
status, headers, body = order("N1")
print(status, headers["Content-Type"], "Retry-After" in headers, json.loads(body)["error"])
""")

    assert "409 Problem application/problem+json True unusable\n" == printed


def test_task_that_is_delivered_twice_makes_one_refund(run: Run, sandbox: ThreadedSandbox) -> None:
    """Celery runs the task of the page; a refusal is not tried again."""
    run('order("N1")')
    sandbox.confirm("N1")
    printed = run("""
from tasks import refund
for number in ("R1", "R1", "R2"):
    done = refund.apply(args=[number, "N1", "12.50"])
    print(done.state, type(done.result).__name__, done.result if done.successful() else "")
""")

    assert ["SUCCESS str S", "SUCCESS str S", "FAILURE RefusedError "] == printed.splitlines()
    assert ["R1"] == [
        entry.out_trade_nos[0] for entry in sandbox.platform.ledger if entry.kind == "refund"
    ]
