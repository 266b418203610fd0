"""What a transport must not do: follow redirects, use other proxies, show secrets."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from attrs import define, field

from tests.contract.transports import QUICK, Certificates, Make, make_request, show_error
from tests.support.server import CALM, Listen, Listener, Peer, Seen
from wxpay_async.adapters.transports.aiohttp import AiohttpTransport
from wxpay_async.errors import InvalidRequestError, NotSentError
from wxpay_async.protocol.wire import Timeouts, Transport

SECRET = "pa55word"  # of the proxy


async def serve(peer: Peer, _: Seen) -> bool:
    """Answer any request."""
    return await peer.answer()


# A proxy


@define(eq=False)
class Proxy:
    """A forward proxy: absolute targets and CONNECT.

    Attributes:
        refusal: a status line to answer instead of forwarding; "hang" or "disconnect" to do that.
        heads: the heads of all requests to the proxy itself.
    """

    refusal: str = ""
    heads: list[Seen] = field(factory=list)
    listener: Listener | None = None

    @property
    def address(self) -> str:
        """host:port."""
        assert self.listener is not None
        return f"{self.listener.host}:{self.listener.port}"

    async def act(self, peer: Peer, seen: Seen) -> bool:
        """Forward one request, or open one tunnel."""
        self.heads.append(seen)
        if self.refusal == "hang":
            return await peer.wait_gone()
        if self.refusal == "disconnect":
            return False
        if self.refusal:
            return await peer.answer(b"", status=self.refusal)
        tunnel = seen.head.startswith(b"CONNECT ")
        host, _, port = seen.target.removeprefix("http://").partition("/")[0].rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        if tunnel:
            await peer.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
        else:
            writer.write(seen.head + seen.body)
        await asyncio.gather(_pump(reader, peer.writer), _pump(peer.reader, writer))
        return False


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


@pytest.fixture
async def proxy(listen: Listen) -> Proxy:
    """Run a forward proxy."""
    proxy = Proxy()
    proxy.listener = await listen(proxy.act)
    return proxy


# Redirects


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("target", ["same host", "other host", "other scheme", "userinfo"])
async def test_redirect_is_never_followed(
    transport: Transport, listen: Listen, certificates: Certificates, status: int, target: str
) -> None:
    """The redirect itself is the response; nothing arrives at its target."""
    plain = await listen(serve, host="127.0.0.2")
    secure = await listen(serve, tls=certificates.good)
    location = {
        "same host": "/target",
        "other host": f"{plain.url}/target",
        "other scheme": f"{secure.url}/target",
        "userinfo": f"http://user:pass@127.0.0.2:{plain.port}/target",
    }[target]

    async def act(peer: Peer, _: Seen) -> bool:
        headers = (f"Location: {location}", "Set-Cookie: a=1")
        return await peer.answer(b"", status=f"{status} Moved", headers=headers)

    server = await listen(act)

    response = await transport.send(make_request(f"{server.url}/start"), timeout=CALM)

    assert (status, location) == (response.status, response.headers.get("location"))
    assert ["/start"] == [seen.target for seen in server.requests]
    assert (0, 0) == (plain.connections, secure.connections)


@pytest.mark.parametrize("target", ["other host", "userinfo"])
async def test_client_that_follows_redirects_fails_this_check(
    listen: Listen, certificates: Certificates, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The test above fails for a client that follows redirects."""
    send = aiohttp.ClientSession._request

    async def obedient(session: aiohttp.ClientSession, *args: Any, **more: Any) -> Any:  # noqa: ANN401 - aiohttp's
        return await send(session, *args, **(more | {"allow_redirects": True}))

    monkeypatch.setattr(aiohttp.ClientSession, "_request", obedient)
    transport = AiohttpTransport()
    try:
        with pytest.raises(AssertionError, match="302"):
            await test_redirect_is_never_followed(transport, listen, certificates, 302, target)
    finally:
        await transport.aclose()


# Cookies, environment


async def test_no_cookie_is_kept(transport: Transport, server: Listener) -> None:
    """A cookie that a server sets is not sent back."""
    await transport.send(make_request(f"{server.url}/cookies"), timeout=CALM)
    await transport.send(make_request(f"{server.url}/cookies"), timeout=CALM)

    assert [[], []] == [seen.header("cookie") for seen in server.requests]


@pytest.mark.parametrize("upper", [True, False])
async def test_environment_sets_no_proxy_and_no_password(
    make: Make,
    listen: Listen,
    server: Listener,
    *,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    upper: bool,
) -> None:
    """Neither proxy variables nor a netrc file have any effect."""
    spy = await listen(serve, host="127.0.0.2")
    for name in ("http_proxy", "https_proxy", "all_proxy", "ws_proxy"):
        monkeypatch.setenv(name.upper() if upper else name, spy.url)
    netrc = tmp_path / "netrc"
    netrc.write_text(f"machine 127.0.0.1 login user password {SECRET}\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".netrc").write_bytes(netrc.read_bytes())
    transport = make()

    await transport.send(make_request(server.url), timeout=CALM)
    await transport.aclose()

    assert 0 == spy.connections
    assert [] == server.requests[0].header("authorization")


# A configured proxy


async def test_plain_http_goes_through_the_proxy(
    make: Make, server: Listener, proxy: Proxy
) -> None:
    """The proxy gets the whole address, and the response comes back through it."""
    transport = make(proxy=f"http://{proxy.address}")

    response = await transport.send(make_request(f"{server.url}/x?a=1"), timeout=CALM)
    await transport.aclose()

    assert 200 == response.status
    assert [f"{server.url}/x?a=1"] == [seen.target for seen in proxy.heads]


async def test_https_goes_through_a_tunnel(
    make: Make, listen: Listen, certificates: Certificates, proxy: Proxy
) -> None:
    """The proxy sees the host and the port, and nothing of the request."""
    server = await listen(serve, tls=certificates.good)
    transport = make(proxy=f"http://{proxy.address}", ca_file=certificates.ca_file)

    response = await transport.send(make_request(f"{server.url}/x"), timeout=CALM)
    await transport.aclose()

    assert 200 == response.status
    assert [f"127.0.0.1:{server.port}"] == [seen.target for seen in proxy.heads]
    assert ["/x"] == [seen.target for seen in server.requests]


@pytest.mark.parametrize("tls", [False, True])
async def test_password_reaches_the_proxy_and_nobody_else(
    make: Make, listen: Listen, certificates: Certificates, proxy: Proxy, *, tls: bool
) -> None:
    """Only the proxy gets it, as Proxy-Authorization: not the platform, and not the repr."""
    server = await listen(serve, tls=certificates.good if tls else None)
    address = f"http://user:{SECRET}@{proxy.address}"
    transport = make(proxy=address, ca_file=certificates.ca_file)

    await transport.send(make_request(server.url), timeout=CALM)
    await transport.aclose()

    assert proxy.heads[0].header("proxy-authorization")[0].startswith("Basic ")
    assert not tls or [] == server.requests[0].header("proxy-authorization")
    assert [] == server.requests[0].header("authorization")
    assert SECRET not in repr(transport)


@pytest.mark.parametrize("tls", [False, True])
async def test_unreachable_proxy_is_not_sent(make: Make, closed_port: int, *, tls: bool) -> None:
    """The call may be retried, and the error shows no password."""
    transport = make(proxy=f"http://user:{SECRET}@127.0.0.1:{closed_port}")

    with pytest.raises(NotSentError) as caught:
        await transport.send(
            make_request(f"http{'s' if tls else ''}://127.0.0.1:1/?sign=CANARY"), timeout=CALM
        )
    await transport.aclose()

    assert caught.value.retryable
    assert SECRET not in show_error(caught.value)
    assert "CANARY" not in show_error(caught.value)


@pytest.mark.parametrize("refusal", ["407 Who are you", "502 Bad Gateway", "disconnect", "hang"])
async def test_proxy_that_opens_no_tunnel_is_not_sent(
    make: Make, proxy: Proxy, *, refusal: str
) -> None:
    """The CONNECT was sent, but nothing of the request."""
    proxy.refusal = refusal
    transport = make(proxy=f"http://user:{SECRET}@{proxy.address}")

    with pytest.raises(NotSentError) as caught:
        await transport.send(make_request("https://127.0.0.1:1/?sign=CANARY"), timeout=QUICK)
    await transport.aclose()

    assert caught.value.retryable
    assert SECRET not in show_error(caught.value)
    assert "CANARY" not in show_error(caught.value)


async def test_bad_certificate_behind_a_tunnel_is_not_sent(
    make: Make, listen: Listen, certificates: Certificates, proxy: Proxy
) -> None:
    """A proxy cannot pose as the platform, and the failure uses up no connection."""
    server = await listen(serve, tls=certificates.unknown_authority)
    transport = make(proxy=f"http://{proxy.address}", max_connections=1)

    for _ in range(3):
        with pytest.raises(NotSentError, match=r"local issuer|UnknownIssuer") as caught:
            await transport.send(make_request(server.url), timeout=CALM)
        assert not caught.value.retryable
    await transport.aclose()

    assert 3 == len(proxy.heads)
    assert [] == server.requests


@pytest.mark.parametrize("tunnel", [False, True])
async def test_cancelling_a_handshake_leaves_nothing(
    make: Make, listen: Listen, proxy: Proxy, parting: Timeouts, *, tunnel: bool
) -> None:
    """The server accepts and says nothing: no socket stays open, and no connection is lost."""

    async def hello(peer: Peer, _: Seen) -> bool:
        return await peer.wait_gone()

    silent = await listen(hello)
    transport = make(max_connections=1, proxy=f"http://{proxy.address}" if tunnel else None)

    for count in (1, 2, 3):
        url = f"https://127.0.0.1:{silent.port}/"
        task = asyncio.create_task(transport.send(make_request(url), timeout=parting))
        await silent.wait_heard(count)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        await silent.wait_closed()
    await transport.aclose()


@pytest.mark.parametrize(
    "address",
    [
        f"socks5://user:{SECRET}@127.0.0.1:1",
        f"user:{SECRET}@127.0.0.1:1",
        f"http://user:{SECRET}/@127.0.0.1:1",
        f"http://user:{SECRET}@",
        f"http://user:{SECRET}@127.0.0.1:99999",
        "http://[::1",
        "",
    ],
)
def test_invalid_proxy_is_refused_when_the_transport_is_made(make: Make, address: str) -> None:
    """The error does not repeat the address."""
    with pytest.raises(InvalidRequestError) as caught:
        make(proxy=address)

    assert "proxy" == caught.value.field
    assert SECRET not in show_error(caught.value)
