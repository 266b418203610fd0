"""Simulate the platform in one process, on loopback: `async with Sandbox() as sandbox: ...`."""

from wxpay_async.sandbox.server import Sandbox as Sandbox
