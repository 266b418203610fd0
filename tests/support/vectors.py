"""The files of `tests/vectors/`: keys, signatures, and the replies that the platform printed."""

from __future__ import annotations

from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
"""The checkout."""
VECTORS: Final = ROOT / "tests" / "vectors"
KEYS: Final = VECTORS / "keys"
SEED_REPLY: Final = VECTORS / "seed_reply.json"
PRIVATE_KEY: Final = KEYS / "pkcs8.pem"
"""An RSA key of 2048 bits; `PUBLIC_KEY` belongs to it."""
PUBLIC_KEY: Final = KEYS / "public.pem"


def read_signed(name: str, kind: str) -> tuple[bytes, str]:
    """Return a message and the signature that the openssl tool made of it."""
    folder = VECTORS / "signatures"
    return (folder / f"{name}.txt").read_bytes(), (folder / f"{name}.{kind}").read_text("ascii")
