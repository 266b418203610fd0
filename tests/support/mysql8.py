"""A server that speaks MySQL 8's default login (`caching_sha2_password`), which MariaDB lacks."""

from __future__ import annotations

import asyncio

from attrs import define, field
from Crypto.Cipher import PKCS1_OAEP
from Crypto.PublicKey import RSA


@define(eq=False)
class MySql8:
    """Lets clients log in for the first time, without TLS, as far as their password; then declines.

    Attributes:
        passwords: what they were, each with a zero byte at its end.
    """

    key: RSA.RsaKey = field(factory=lambda: RSA.generate(2048))
    salt: bytes = b"12345678" + b"123456789012"
    passwords: list[bytes] = field(factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Log one client in, as far as its password."""
        capabilities = 0x00000001 | 0x00000008 | 0x00000200 | 0x00002000 | 0x00008000 | 0x00080000
        low, high = capabilities & 0xFFFF, capabilities >> 16
        greeting = (
            b"\x0a8.0.36\0" + (7).to_bytes(4, "little") + self.salt[:8] + b"\0"
            + low.to_bytes(2, "little") + b"\x2d\x02\x00" + high.to_bytes(2, "little")
            + bytes([21]) + bytes(10) + self.salt[8:] + b"\0" + b"caching_sha2_password\0"
        )  # fmt: skip
        _write_packet(writer, 0, greeting)
        number, _ = await _read_packet(reader)
        _write_packet(writer, number + 1, b"\x01\x04")
        number, asked = await _read_packet(reader)
        assert b"\x02" == asked  # for the public key
        _write_packet(writer, number + 1, b"\x01" + self.key.public_key().export_key())
        number, sealed = await _read_packet(reader)
        mixed = PKCS1_OAEP.new(self.key).decrypt(sealed)
        self.passwords.append(
            bytes(byte ^ self.salt[index % 20] for index, byte in enumerate(mixed))
        )
        _write_packet(writer, number + 1, b"\xff\x15\x04#28000Access denied")
        writer.close()


def _write_packet(writer: asyncio.StreamWriter, number: int, body: bytes) -> None:
    writer.write(len(body).to_bytes(3, "little") + bytes([number]) + body)


async def _read_packet(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    head = await reader.readexactly(4)
    return head[3], await reader.readexactly(int.from_bytes(head[:3], "little"))
