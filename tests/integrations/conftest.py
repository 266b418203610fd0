"""What the integrations' tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.watch import Watch


@pytest.fixture
def watch() -> Iterator[Watch]:
    """Return a hook whose spans and metrics stay in memory."""
    watch = Watch()
    yield watch
    watch.meters.shutdown()
