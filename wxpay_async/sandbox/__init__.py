"""Simulate the platform in one process, on loopback: `async with Sandbox() as sandbox: ...`."""

from wxpay_async.sandbox.fault_kinds import (
    FaultKind as FaultKind,
    Forgery as Forgery,
    RateLimit as RateLimit,
    Says as Says,
)
from wxpay_async.sandbox.faults import Fault as Fault
from wxpay_async.sandbox.server import Sandbox as Sandbox
