"""Servers that tests start for themselves: on free ports of loopback, each in a folder of its own.

A test may stop them, kill them and set them up as no shared one may be. Where a program is absent
the test is skipped, or fails where every service is required (`tests/support/services.py`).
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Final

import redis
from attrs import define, field

from tests.support.services import absent

PATIENCE: Final = 30.0
"""Seconds until a server that does not come up fails the test; nothing ever asserts on it."""

_PORTS: Final = range(20_000, 30_000)
"""Below those that systems give to outgoing connections: one that is free for a moment stays so."""

_BUS: Final = 10_000
"""How far above the port of a Redis Cluster's node its bus is."""

_DEBIAN_POSTGRES: Final = "/usr/lib/postgresql"


def find_free_port() -> int:
    """Return a port of loopback where nobody listens, nor at that of a node's bus."""
    for port in random.SystemRandom().sample(_PORTS, 200):
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            for candidate in (port, port + _BUS):
                stack.enter_context(socket.create_server(("127.0.0.1", candidate)))
            return port
    raise AssertionError("no free port")


def find_program(name: str, package: str) -> str:
    """Return where a program is; skip or fail the test if it is absent."""
    versions = sorted(Path(_DEBIAN_POSTGRES).glob("*/bin"), reverse=True)
    folders = [os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"]
    found = shutil.which(name, path=os.pathsep.join([*folders, *map(str, versions)]))
    if found is None:
        absent(f"no {name} to start; install {package}")
        raise AssertionError  # `absent` does not return
    return found


@contextlib.contextmanager
def open_folder(user: str | None = None) -> Generator[Path]:
    """Make a folder with a short path, which belongs to the user if there is one and we are root.

    Raises nothing if something is left in it: a server may still write while it ends.
    """
    folder = Path(tempfile.mkdtemp(prefix="wxpay-"))
    try:
        if user is not None:
            give_to(user, folder)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def give_to(user: str, path: Path) -> None:
    """Make the user the owner if we are root; skip or fail the test if there is no such user."""
    if os.geteuid() != 0:
        return
    try:
        shutil.chown(path, user)
    except LookupError:
        absent(f"no user {user} to run a server as, which refuses to be root")


@define(eq=False, kw_only=True)
class Server:
    """A process that listens on loopback.

    Attributes:
        command: what starts it.
        port: where it listens.
        answers: whether it serves at that port by now; it may raise an OSError instead.
        log: what it prints.
        user: whom it runs as if we are root, which some servers refuse to be.
        farewell: the signal that ends it without waiting for its clients.
    """

    command: Sequence[str]
    port: int
    answers: Callable[[int], bool]
    log: Path
    user: str | None = None
    farewell: signal.Signals = signal.SIGTERM
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self.launch()
        self.wait_until_ready()

    def launch(self) -> None:
        """Start it."""
        root = self.user is not None and os.geteuid() == 0
        as_user = {"user": self.user, "group": self.user, "extra_groups": ()} if root else {}
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.log.parent,
                **as_user,
            )

    def wait_until_ready(self) -> None:
        """Wait until it answers."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end and self.is_running():
            with contextlib.suppress(OSError):
                if self.answers(self.port):
                    return
            time.sleep(0.02)
        raise AssertionError(f"{self.command[0]} does not answer: {self.log.read_text()[-2000:]}")

    def is_running(self) -> bool:
        """Tell whether it runs."""
        return self._process is not None and self._process.poll() is None

    def stop(self) -> None:
        """End it as an operator does, if it runs."""
        self._end(self.farewell)

    def kill(self) -> None:
        """End it as a loss of power does."""
        self._end(signal.SIGKILL)

    def hold(self) -> None:
        """Let it do nothing: the kernel still accepts connections, and nobody serves them."""
        for process in self._processes():
            os.kill(process, signal.SIGSTOP)

    def go_on(self) -> None:
        """Let it go on."""
        for process in self._processes():
            os.kill(process, signal.SIGCONT)

    def _processes(self) -> list[int]:
        """Return its processes: PostgreSQL has one for each connection."""
        assert self._process is not None
        number = self._process.pid
        children = Path(f"/proc/{number}/task/{number}/children")  # on Linux
        return [number, *map(int, children.read_text().split() if children.exists() else ())]

    def _end(self, number: signal.Signals) -> None:
        if self._process is None:
            return
        for each in (signal.SIGCONT, number):  # what is held does not see the second
            self._process.send_signal(each)
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None


@contextlib.contextmanager
def running(server: Server) -> Generator[Server]:
    """Run it."""
    try:
        server.start()
        yield server
    finally:
        server.stop()


def _exchange(port: int, said: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=1.0) as there:
        there.sendall(said)
        return there.recv(64)


# Redis

_QUICK_SENTINEL: Final = (
    *("info-period", 200, "ping-period", 100, "publish-period", 200),
    *("tilt-period", 1000),
)
"""Milliseconds. It looks at its servers every 10 s otherwise, and after a pause of 2 s, as a busy
machine makes them, it decides nothing for 30 s."""


@contextlib.contextmanager
def open_redis(*options: str) -> Generator[Server]:
    """Run a Redis that keeps nothing on disk unless the options say so."""
    with open_folder() as folder, running(make_redis(folder, *options)) as server:
        yield server


def make_redis(folder: Path, *options: str) -> Server:
    """Make a Redis that is not started; of options that are given twice the last one counts."""
    port = find_free_port()
    log = folder / f"redis-{port}.log"
    command = [
        find_program("redis-server", "redis-server"),
        *("--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder)),
        *("--save", "", "--dbfilename", f"{port}.rdb", *options),
    ]
    return Server(command=command, port=port, answers=_is_redis, log=log)


def _is_redis(port: int) -> bool:
    return _exchange(port, b"PING\r\n").startswith(b"+PONG")


@define(eq=False)
class Sentinel:
    """Two Redis servers, one of them a replica of the other, and a Sentinel that changes them.

    Attributes:
        nodes: the two; `master` says which is the one to write to.
        sentinel: where clients ask for it.
    """

    NAME = "wxpay"

    nodes: Sequence[Server]
    sentinel: Server

    @property
    def url(self) -> str:
        """The address of the master, whichever it is."""
        return f"redis+sentinel://127.0.0.1:{self.sentinel.port}/{self.NAME}/0"

    @property
    def master(self) -> Server:
        """The one that Sentinel names."""
        with redis.Redis(port=self.sentinel.port) as client:
            _, port = client.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.NAME)
        return next(node for node in self.nodes if node.port == int(port))

    def flush(self) -> None:
        """Forget everything."""
        with redis.Redis(port=self.master.port) as client:
            client.flushall()

    def fail_over(self) -> None:
        """Make the replica the master, as an operator does, and wait until both know."""
        former = self.master
        with redis.Redis(port=self.sentinel.port) as client:
            client.execute_command("SENTINEL", "FAILOVER", self.NAME)
        wait_until(lambda: self.master is not former and self.is_settled())

    def is_settled(self) -> bool:
        """Tell whether the replica follows the master, and Sentinel knows that."""
        with redis.Redis(port=self.master.port) as client:
            replication = client.info("replication")
        with redis.Redis(port=self.sentinel.port) as client:
            master = client.sentinel_master(self.NAME)
            replicas = client.sentinel_slaves(self.NAME)
        return (
            replication["role"] == "master"
            and replication.get("slave0", {}).get("state") == "online"
            and master["flags"] == "master"
            and [("slave", "ok")] == [(of["flags"], of["master-link-status"]) for of in replicas]
        )


@contextlib.contextmanager
def open_sentinel() -> Generator[Sentinel]:
    """Run a master, its replica, and a Sentinel that notices within a second that one is gone."""
    quick = ("--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1")
    with open_folder() as folder, contextlib.ExitStack() as stack:
        master = stack.enter_context(running(make_redis(folder, *quick)))
        follow = ("--replicaof", f"127.0.0.1 {master.port}")
        replica = stack.enter_context(running(make_redis(folder, *quick, *follow)))
        watch = stack.enter_context(running(_make_sentinel(folder, master.port)))
        opened = Sentinel((master, replica), watch)
        with redis.Redis(port=watch.port) as client:
            client.execute_command("SENTINEL", "DEBUG", *_QUICK_SENTINEL)
        wait_until(opened.is_settled)
        yield opened


def _make_sentinel(folder: Path, master: int) -> Server:
    port, name = find_free_port(), Sentinel.NAME
    settings = folder / "sentinel.conf"  # Sentinel writes into it
    settings.write_text(
        f"port {port}\nbind 127.0.0.1\ndir {folder}\n"
        f"sentinel monitor {name} 127.0.0.1 {master} 1\n"
        f"sentinel down-after-milliseconds {name} 500\n"
        f"sentinel failover-timeout {name} 2000\n"
    )
    command = [find_program("redis-sentinel", "redis-sentinel"), str(settings)]
    return Server(command=command, port=port, answers=_is_redis, log=folder / "sentinel.log")


@define(eq=False)
class Cluster:
    """Three nodes of a Redis Cluster, each with a third of the slots."""

    nodes: Sequence[Server]

    @property
    def url(self) -> str:
        """The address of the first node, which tells of the others."""
        return f"redis+cluster://127.0.0.1:{self.nodes[0].port}"

    def flush(self) -> None:
        """Forget everything."""
        for node in self.nodes:
            with redis.Redis(port=node.port) as client:
                client.flushall()

    def is_settled(self) -> bool:
        """Tell whether every node knows of all the others, and who has which slot."""
        for node in self.nodes:
            with redis.Redis(port=node.port) as client:
                facts = client.cluster("info")
            found = (facts["cluster_state"], facts["cluster_known_nodes"], facts["cluster_size"])
            if found != ("ok", "3", "3"):
                return False
        return True


@contextlib.contextmanager
def open_cluster(*options: str) -> Generator[Cluster]:
    """Run the nodes, with options for each, and let them meet."""
    slots = 16_384
    with open_folder() as folder, contextlib.ExitStack() as stack:
        nodes = []
        for index in range(3):
            home = folder / str(index)
            home.mkdir()
            settings = ("--cluster-enabled", "yes", "--cluster-node-timeout", "2000")
            nodes.append(stack.enter_context(running(make_redis(home, *settings, *options))))
        for index, node in enumerate(nodes):
            with redis.Redis(port=node.port) as client:
                share = range(index * slots // 3, (index + 1) * slots // 3)
                client.execute_command("CLUSTER", "ADDSLOTS", *share)
                client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", index + 1)
                client.execute_command("CLUSTER", "MEET", "127.0.0.1", nodes[0].port)
        opened = Cluster(nodes)
        wait_until(opened.is_settled)
        yield opened


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait until it holds; errors of a server that is not there yet count as "no"."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        with contextlib.suppress(OSError, redis.RedisError):
            if condition():
                return
        time.sleep(0.05)
    raise AssertionError("it does not come about")
