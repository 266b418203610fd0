"""A library that is optional lives in the module that needs it, which says what to install."""

from __future__ import annotations

import pytest

from tests.support.processes import run_python
from wxpay_async.extras import how_to_install


@pytest.mark.parametrize(
    ("module", "libraries", "extra"),
    [
        ("adapters.limiters.redis", ["redis"], "redis"),
        ("adapters.stores.redis", ["redis.asyncio"], "redis"),
        ("adapters.stores.sql", ["sqlalchemy"], "sql"),
        ("adapters.transports.httpx", ["httpx", "httpx2"], "httpx"),
        ("adapters.transports.reqwest", ["pyreqwest"], "reqwest"),
        ("integrations.fastapi", ["fastapi"], "fastapi"),
        ("integrations.opentelemetry", ["opentelemetry"], "otel"),
    ],
)
def test_import_without_its_library_names_the_extra(
    module: str, libraries: list[str], extra: str
) -> None:
    """The import is the one place that fails; nothing else of the package needs the library."""
    found = run_python(
        f"import sys; sys.modules.update(dict.fromkeys({libraries}))\n"
        "import wxpay_async, wxpay_async.engine.gateway\n"
        f"print('no library is needed so far', flush=True); import wxpay_async.{module}"
    )

    last = found.stderr.splitlines()[-1]
    assert (1, "no library is needed so far\n") == (found.returncode, found.stdout)
    assert last.startswith("ImportError: ")
    assert how_to_install(extra) in last
