"""The short form of the Celery example with a worker that is killed."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.support.services import RABBITMQ, require
from tests.support.vectors import ROOT


@pytest.mark.slow
def test_batch_over_celery_survives_a_killed_worker() -> None:
    """Every refund is executed once, and every outcome is the ledger's."""
    require(RABBITMQ)
    command = [sys.executable, "-m", "tests.chaos.celery_batch", "--lines", "300"]

    ran = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=280, check=False
    )

    assert 0 == ran.returncode, ran.stdout + ran.stderr
    assert "verdict: green" in ran.stdout
