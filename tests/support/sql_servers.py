"""PostgreSQL, MariaDB and PgBouncer that tests start for themselves, as `servers.py` says."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import struct
import subprocess
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from tests.support.servers import (
    Server,
    find_free_port,
    find_program,
    give_to,
    open_folder,
    running,
)
from tests.support.services import absent

_POSTGRES_USER: Final = "postgres"
_MYSQL_USER: Final = "mysql"


@contextlib.contextmanager
def open_postgres(*options: str, disk: int | None = None) -> Generator[Server]:
    """Run a PostgreSQL whose superuser `postgres` needs no password.

    Args:
        *options: settings, such as `max_connections=20`.
        disk: megabytes of a disk of its own for what it keeps (`find_disk`).
    """
    programs = [find_program(name, "postgresql") for name in ("initdb", "postgres")]
    with open_folder(_POSTGRES_USER) as folder, _open_disk(folder, disk, _POSTGRES_USER):
        initialize, serve = ((program, "-D", str(folder / "data")) for program in programs)
        quick = ("-U", "postgres", "-A", "trust", "-N", "-E", "UTF8", "--locale", "C")
        _run_as(_POSTGRES_USER, [*initialize, *quick])
        port = find_free_port()
        settings = (
            f"port={port}",
            "listen_addresses=127.0.0.1",
            f"unix_socket_directories={folder}",
        )
        flags = [part for each in (*settings, *options) for part in ("-c", each)]
        server = Server(
            command=[*serve, *flags],
            port=port,
            answers=_is_postgres,
            log=folder / "postgres.log",
            user=_POSTGRES_USER,
            farewell=signal.SIGINT,  # SIGTERM waits until every client has left
        )
        with running(server):
            yield server


@contextlib.contextmanager
def open_mariadb(*options: str, disk: int | None = None) -> Generator[Server]:
    """Run a MariaDB whose superuser `root` needs no password.

    Args:
        *options: of its command line.
        disk: megabytes of a disk of its own for what it keeps (`find_disk`).
    """
    programs = [find_program(name, "mariadb-server") for name in ("mariadb-install-db", "mariadbd")]
    with open_folder(_MYSQL_USER) as folder, _open_disk(folder, disk, _MYSQL_USER):
        data = f"--datadir={folder / 'data'}"
        initialize, serve = ((program, "--no-defaults", data) for program in programs)
        quick = ("--auth-root-authentication-method=normal", "--skip-test-db")
        _run_as(_MYSQL_USER, [*initialize, *quick])
        port = find_free_port()
        small = () if disk is None else ("--innodb-log-file-size=8M",)
        where = ("--bind-address=127.0.0.1", f"--port={port}", f"--socket={folder / 'socket'}")
        server = Server(
            command=[*serve, *where, *small, *options],
            port=port,
            answers=_is_mysql,
            log=folder / "mariadb.log",
            user=_MYSQL_USER,
        )
        with running(server):
            yield server


@contextlib.contextmanager
def open_pgbouncer(postgres: str, *settings: str) -> Generator[Server]:
    """Run a PgBouncer in transaction mode before a PostgreSQL.

    Everybody may log in at it. It has few connections, so that clients meet each other's.

    Args:
        postgres: the address of the PostgreSQL, with a login.
        *settings: further lines, such as `server_idle_timeout = 1`.
    """
    parts = urlsplit(postgres)
    target = {
        "host": parts.hostname or "127.0.0.1",
        "port": parts.port or 5432,
        "user": unquote(parts.username or _POSTGRES_USER),
        "password": unquote(parts.password or ""),
    }
    line = " ".join(f"{name}={value}" for name, value in target.items() if value)
    program, port = find_program("pgbouncer", "pgbouncer"), find_free_port()
    with open_folder(_POSTGRES_USER) as folder:
        file = folder / "pgbouncer.ini"
        lines = (
            *("[databases]", f"* = {line}", "[pgbouncer]"),
            *("listen_addr = 127.0.0.1", f"listen_port = {port}", "unix_socket_dir ="),
            *(
                "auth_type = any",
                "pool_mode = transaction",
                "default_pool_size = 5",
                "server_login_retry = 1",
            ),
            *("max_client_conn = 500", *settings),
        )
        file.write_text("".join(f"{each}\n" for each in lines))
        server = Server(
            command=[program, str(file)],
            port=port,
            answers=_is_postgres,
            log=folder / "pgbouncer.log",
            user=_POSTGRES_USER,
            # Later versions wait for their clients after SIGTERM, and earlier ones have no handler
            # for SIGQUIT, which the shell makes every program in the background ignore.
            farewell=signal.SIGKILL,
        )
        with running(server):
            yield server


def find_disk(server: Server) -> Path:
    """Return where the disk of a PostgreSQL's or a MariaDB's own is."""
    return server.log.parent / "data"


@contextlib.contextmanager
def _open_disk(folder: Path, megabytes: int | None, user: str) -> Generator[None]:
    """Mount a small disk where the server keeps its data; skip or fail the test if we may not."""
    if megabytes is None:
        yield
        return
    place = folder / "data"
    place.mkdir()
    size = ("-t", "tmpfs", "-o", f"size={megabytes}m,mode=0700", "tmpfs")
    mounted = subprocess.run(["mount", *size, str(place)], check=False, capture_output=True)
    if mounted.returncode != 0:
        absent(f"no right to mount a small disk: {mounted.stderr.decode().strip()}")
    try:
        give_to(user, place)
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def _run_as(user: str, command: Sequence[str]) -> None:
    as_user = {"user": user, "group": user, "extra_groups": ()} if os.geteuid() == 0 else {}
    subprocess.run(command, check=True, capture_output=True, cwd="/", **as_user)


def _is_postgres(port: int) -> bool:
    """Log in: before it is ready it accepts connections, and refuses logins."""
    said = b"user\0postgres\0database\0postgres\0\0"
    hello = struct.pack("!ii", len(said) + 8, 3 << 16) + said
    with socket.create_connection(("127.0.0.1", port), timeout=1.0) as there:
        there.sendall(hello)
        return there.recv(1) == b"R"


def _is_mysql(port: int) -> bool:
    with socket.create_connection(("127.0.0.1", port), timeout=1.0) as there:
        return len(there.recv(64)) > 0  # it greets
