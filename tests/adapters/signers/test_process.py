"""RSA signatures in a separate process."""

from __future__ import annotations

import asyncio
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.support import asking
from tests.support.vectors import KEYS
from wxpay_async import InstantTrade, NotSentError, PayGateway, ProcessSigner, RsaSigner
from wxpay_async.protocol.signing import Backend
from wxpay_async.sandbox import Sandbox

KEY = (KEYS / "pkcs1.pem").read_bytes()
MESSAGES = [b"", b"two\nlines", *(f"appKey=app&nonce={i}".encode() for i in range(200))]


@pytest.fixture
def signer() -> RsaSigner:
    """Return a signer of this process."""
    return RsaSigner.from_pem(KEY)


@pytest.fixture
async def elsewhere(signer: RsaSigner) -> AsyncIterator[ProcessSigner]:
    """Yield a signer with the same key, whose process has started."""
    made = ProcessSigner(signer)
    await made.sign(b"first")
    yield made
    await made.aclose()


def children(parent: int) -> Iterator[int]:
    """Yield the ids of the signing processes of a parent."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            status, command = (process / "stat").read_text(), (process / "cmdline").read_bytes()
        except OSError:  # it ended meanwhile
            continue
        if int(status.rpartition(")")[2].split()[1]) == parent and b"signers.process" in command:
            yield int(process.name)


def own_children() -> list[int]:
    """Return the ids of this process's signing processes."""
    return list(children(os.getpid()))


@pytest.mark.parametrize("backend", ["openssl", "pycryptodome"])
async def test_process_makes_the_signatures_of_its_signer(backend: Backend) -> None:
    """Each of many concurrent callers gets the signature of its own message."""
    signer = RsaSigner.from_pem(KEY, backend=backend)
    elsewhere = ProcessSigner(signer)

    made = await asyncio.gather(*map(elsewhere.sign, MESSAGES))

    assert list(map(signer.sign, MESSAGES)) == made
    assert 1 == len(own_children())
    assert signer.derive_key(b"store") == elsewhere.derive_key(b"store")
    await elsewhere.aclose()
    assert [] == own_children()


async def test_gateway_pays_with_a_process_signer() -> None:
    """The platform accepts its signatures."""
    public = (KEYS / "public.pem").read_bytes()
    signer = ProcessSigner(RsaSigner.from_pem(KEY))
    await signer.sign(b"")  # its process starts, which may take seconds on a busy machine
    async with (
        Sandbox(merchant_public_key=public) as sandbox,
        PayGateway(sandbox.app_key, signer, base_url=sandbox.url) as gateway,
    ):
        made = await asyncio.gather(*(gateway.trade(order(number)) for number in range(20)))

    assert 20 == len({trade.pay_token for trade in made})
    await signer.aclose()


def order(number: int) -> InstantTrade:
    """Return an order of one yuan."""
    item = asking.item(f"order-{number}", subject="图像 & 文字")
    return asking.trade(f"order-{number}", trade_info=[item])


async def test_cancelled_caller_does_not_shift_the_signatures_of_others(
    signer: RsaSigner, elsewhere: ProcessSigner
) -> None:
    """The signature for a cancelled caller is made and dropped."""
    calls = [asyncio.create_task(elsewhere.sign(message)) for message in MESSAGES]
    await asyncio.sleep(0)
    for call in calls[::2]:
        call.cancel()
    made = await asyncio.gather(*calls[1::2])

    assert list(map(signer.sign, MESSAGES[1::2])) == made


async def test_process_that_dies_is_not_sent_and_replaced(
    signer: RsaSigner, elsewhere: ProcessSigner
) -> None:
    """Callers that wait get a retryable error, and a retry starts another process."""
    (child,) = own_children()
    os.kill(child, signal.SIGSTOP)
    waiting = [asyncio.create_task(elsewhere.sign(message)) for message in MESSAGES]
    await asyncio.sleep(0)
    os.kill(child, signal.SIGKILL)

    said = await asyncio.gather(*waiting, return_exceptions=True)
    made = await asyncio.gather(*map(elsewhere.sign, MESSAGES))

    assert all(isinstance(error, NotSentError) and error.retryable for error in said)
    assert list(map(signer.sign, MESSAGES)) == made
    assert 1 == len(own_children())


async def test_stopped_process_does_not_delay_closing(elsewhere: ProcessSigner) -> None:
    """Closing ends the process in any state."""
    os.kill(own_children()[0], signal.SIGSTOP)

    async with asyncio.timeout(30):
        await elsewhere.aclose()

    assert [] == own_children()


async def test_process_that_cannot_start_is_not_sent(
    signer: RsaSigner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next signature starts the process again, if it can."""
    elsewhere = ProcessSigner(signer)
    for program, said in {"/nonexistent": "FileNotFoundError", "/bin/false": "has died"}.items():
        with monkeypatch.context() as patch:
            patch.setattr(sys, "executable", program)
            with pytest.raises(NotSentError, match=said):
                await elsewhere.sign(b"message")

    assert signer.sign(b"message") == await elsewhere.sign(b"message")
    await elsewhere.aclose()


async def test_process_ignores_sigint_and_sigterm(
    signer: RsaSigner, elsewhere: ProcessSigner
) -> None:
    """Ctrl-C reaches every process of a terminal, but payments under way need signatures."""
    (child,) = own_children()

    os.kill(child, signal.SIGINT)
    os.kill(child, signal.SIGTERM)

    assert signer.sign(b"second") == await elsewhere.sign(b"second")
    assert [child] == own_children()


def test_process_ends_with_its_loop_and_starts_with_the_next(signer: RsaSigner) -> None:
    """It needs no closing, not even if the loop ends before the process has started."""
    elsewhere = ProcessSigner(signer)

    async def hurry() -> None:
        signing = asyncio.create_task(elsewhere.sign(b"unheard"))
        await asyncio.sleep(0)
        assert not signing.done()

    for _ in range(2):
        assert signer.sign(b"message") == asyncio.run(elsewhere.sign(b"message"))
        assert [] == own_children()
        asyncio.run(hurry())
        assert [] == own_children()


def test_process_ends_with_its_parent(signer: RsaSigner, tmp_path: Path) -> None:
    """However the parent ends, no process keeps its key."""
    script = tmp_path / "script.py"
    script.write_text("""
import asyncio, sys
from wxpay_async import ProcessSigner, RsaSigner

async def main():
    signer = ProcessSigner(RsaSigner.from_file(sys.argv[1]))
    print(await signer.sign(b"m"), flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
""")
    command = [sys.executable, script, KEYS / "pkcs1.pem"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as parent:
        try:
            assert signer.sign(b"m") == parent.stdout.readline().decode().strip()
            (child,) = children(parent.pid)
        finally:
            parent.kill()

    while Path(f"/proc/{child}").exists():
        time.sleep(0.01)


async def test_process_imports_nothing_from_the_working_directory(
    signer: RsaSigner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Code in the working directory must not get the key."""
    (tmp_path / "struct.py").write_text("raise SystemExit('imported')")
    (tmp_path / "wxpay_async").mkdir()
    (tmp_path / "wxpay_async" / "__init__.py").touch()
    monkeypatch.chdir(tmp_path)
    elsewhere = ProcessSigner(signer)

    assert signer.sign(b"message") == await elsewhere.sign(b"message")
    await elsewhere.aclose()


async def test_key_is_not_in_arguments_environment_or_repr(
    signer: RsaSigner, elsewhere: ProcessSigner
) -> None:
    """All users of the machine can see the arguments of a process."""
    (child,) = own_children()
    shown = [(Path("/proc") / str(child) / part).read_bytes() for part in ("cmdline", "environ")]

    for encoding in (KEY, (KEYS / "pkcs1.der").read_bytes(), (KEYS / "pkcs1.b64").read_bytes()):
        assert not any(encoding[100:130] in text for text in shown)
    assert f"ProcessSigner(RsaSigner(bits=2048, backend={signer.backend!r}))" == repr(elsewhere)
    with pytest.raises(TypeError):
        pickle.dumps(elsewhere)
