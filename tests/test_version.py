"""The one place of the version: what the build, the command line and the platform are told."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import wxpay_async
from tests.support.processes import run_python
from wxpay_async.protocol.builder import QUERY, RequestBuilder
from wxpay_async.protocol.wire import PRODUCTION
from wxpay_async.version import __version__

ROOT = Path(__file__).parents[1]


def test_version_is_read_by_the_build() -> None:
    """From the file that the project names."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    text = (ROOT / project["tool"]["hatch"]["version"]["path"]).read_text(encoding="utf-8")
    found = re.search(r"^__version__.* = \"(.+)\"$", text, re.MULTILINE)

    assert found is not None
    assert __version__ == found[1] == wxpay_async.__version__


def test_version_that_gets_security_fixes_is_the_newest() -> None:
    """SECURITY.md names its first two parts."""
    minor = __version__.rpartition(".")[0]

    assert f"Today this is {minor}.\n" in (ROOT / "SECURITY.md").read_text(encoding="utf-8")


def test_request_tells_the_version() -> None:
    """The platform's support asks for it."""
    builder = RequestBuilder("k", None, PRODUCTION)
    request = builder.draft(QUERY, {"outTradeNo": "1"}, now_ms=1, nonce="n").signed("s")

    assert f"wxpay-async/{__version__}" == request.headers["User-Agent"]


def test_package_runs_as_the_command() -> None:
    """`python -m wxpay_async`, where the command is not on the path."""
    found = run_python(
        "import runpy, sys; sys.argv[1:] = ['--version']\n"
        "runpy.run_module('wxpay_async', run_name='__main__')"
    )

    assert (0, f"wxpay-async {__version__}\n") == (found.returncode, found.stdout)
