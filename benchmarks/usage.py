"""What processes and servers use: time of a core, memory, connections. Only Linux has /proc."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Final

_PROC: Final = Path("/proc")
_TICK: Final = 1 / os.sysconf("SC_CLK_TCK")
_OWN, _REAPED, _PARENT = slice(11, 13), slice(13, 15), 1  # of what follows the name
_ESTABLISHED: Final = "01"


def parent_of(pid: int) -> int:
    """Return the process that started this one.

    Raises:
        OSError: there is no such process here.
    """
    return int(_stat(pid)[_PARENT])


def cpu_of_family(pid: int) -> float:
    """Return the seconds that a process and its children took, those that have ended included.

    Raises:
        OSError: there is no such process here.
    """
    stat = _stat(pid)
    ticks = sum(map(int, stat[_OWN] + stat[_REAPED]))
    for path in _PROC.glob("[0-9]*"):
        try:
            other = _stat(int(path.name))
        except OSError:  # it has ended meanwhile
            continue
        if int(other[_PARENT]) == pid:
            ticks += sum(map(int, other[_OWN]))
    return ticks * _TICK


def resident() -> float:
    """Return the memory of this process that is resident, in MB."""
    pages = int((_PROC / "self" / "statm").read_text("ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def connections(ports: Mapping[str, int]) -> dict[str, int]:
    """Return how many TCP connections this process has to each of the ports, by their names."""
    mine = set[str]()
    for path in (_PROC / "self" / "fd").iterdir():
        try:
            found = re.fullmatch(r"socket:\[(\d+)\]", str(path.readlink()))
        except OSError:  # the one that lists them
            continue
        mine |= {found[1]} if found else set()
    remote: Counter[int] = Counter()
    for table in ("tcp", "tcp6"):
        for line in (_PROC / "self" / "net" / table).read_text("ascii").splitlines()[1:]:
            fields = line.split()
            if fields[3] == _ESTABLISHED and fields[9] in mine:
                remote[int(fields[2].rpartition(":")[2], 16)] += 1
    return {name: remote[port] for name, port in ports.items()}


def _stat(pid: int) -> list[str]:
    """Return the numbers of a process; its name before them may have spaces and brackets."""
    return (_PROC / str(pid) / "stat").read_text("utf-8").rpartition(") ")[2].split()
