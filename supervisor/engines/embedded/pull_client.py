"""HTTP to a registry. The only place that sees the HTTP client's exceptions on this side of a pull.

Every request begins at the host that the model's name says. Redirects are followed by hand, so that a token
goes to that host alone and https never becomes clear text. A blob's redirect is asked for anew with each
part, because the addresses of storages expire.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp

from supervisor.models.registry import (
    MANIFEST_TYPE,
    USER_AGENT,
    PassingRegistryError,
    RegistryError,
    Repository,
    UnreachableRegistryError,
    check_range,
    refusal,
    token_of,
)

_OK: Final = 200
_PARTIAL: Final = 206
_UNAUTHORIZED: Final = 401
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_MOST_REDIRECTS: Final = 10
_LARGEST_MANIFEST_BYTES: Final = 2**22
_LARGEST_REFUSAL_BYTES: Final = 2**12
_CONNECT_S: Final = 30.0
_STALL_S: Final = 30.0
"""A registry that sends nothing for so long is asked again."""


class RangeIgnoredError(Exception):
    """The registry answers a range with the whole blob, so that it can only be fetched from its start."""


@dataclass(slots=True)
class Token:
    """What a registry gave to be let in with, for all requests of one pull."""

    value: str = ""


class Registry:
    """Asks one repository of one registry."""

    def __init__(self, session: aiohttp.ClientSession, repository: Repository, token: Token) -> None:
        self._session = session
        self._repository = repository
        self._token = token

    async def manifest(self) -> bytes:
        """Return the manifest as it is told, byte by byte: its hash is the model's identity.

        Raises:
            RegistryError: there is none, or it cannot be got.
        """
        async with self._get(self._repository.manifest_url, {"Accept": MANIFEST_TYPE}) as response:
            data = await response.content.read(_LARGEST_MANIFEST_BYTES + 1)
            while len(data) <= _LARGEST_MANIFEST_BYTES and (more := await response.content.readany()):
                data += more
        if len(data) > _LARGEST_MANIFEST_BYTES:
            raise RegistryError(f"its manifest is larger than {_LARGEST_MANIFEST_BYTES} bytes")
        return data

    @asynccontextmanager
    async def blob(
        self, digest: str, first: int, last: int, size_bytes: int
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """Open a blob's bytes from `first` to `last`.

        Raises:
            RangeIgnoredError: the whole blob would come.
            RegistryError: it cannot be got, or is another one than the manifest says.
        """
        headers = {"Range": f"bytes={first}-{last}"}
        async with self._get(self._repository.blob_url(digest), headers) as response:
            if response.status == _PARTIAL:
                check_range(response.headers.get("Content-Range", ""), first, size_bytes)
            elif first or last + 1 < size_bytes:
                raise RangeIgnoredError
            yield _chunks(response)

    @asynccontextmanager
    async def _get(self, url: str, headers: dict[str, str]) -> AsyncIterator[aiohttp.ClientResponse]:
        """Follow redirects, and get a token where one is wanted."""
        let_in = False
        try:
            for _ in range(_MOST_REDIRECTS + 2):
                token = self._token.value
                async with self._ask(url, headers) as response:
                    if response.status in _REDIRECTS:
                        url = self._repository.redirected(url, response.headers.get("Location", ""))
                    elif response.status == _UNAUTHORIZED and not let_in:
                        let_in = True
                        if self._token.value == token:  # else another part of this pull got one meanwhile
                            await self._get_token(response.headers.get("WWW-Authenticate", ""))
                    elif response.status in (_OK, _PARTIAL):
                        yield response
                        return
                    else:
                        said = await response.content.read(_LARGEST_REFUSAL_BYTES)
                        raise refusal(response.status, said.decode("utf-8", "replace").strip())
        except (aiohttp.ClientSSLError, aiohttp.InvalidURL) as error:
            raise RegistryError(str(error)) from error
        except aiohttp.ClientConnectorError as error:
            raise UnreachableRegistryError(str(error)) from error
        except (aiohttp.ClientError, ssl.SSLError, TimeoutError, ConnectionError) as error:
            raise PassingRegistryError(str(error) or type(error).__name__) from error
        raise RegistryError(f"{self._repository.base} redirects more than {_MOST_REDIRECTS} times")

    def _ask(self, url: str, headers: dict[str, str]) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        own = {"Authorization": f"Bearer {self._token.value}"} if self._token.value else {}
        allowed = own if self._repository.may_see_token(url) else {}
        return self._session.get(url, headers=headers | allowed, allow_redirects=False, proxy=_proxy_for(url))

    async def _get_token(self, challenge: str) -> None:
        async with self._ask(self._repository.token_url(challenge), {}) as response:
            said = await response.content.read(_LARGEST_MANIFEST_BYTES)
            if response.status != _OK:
                raise refusal(response.status, said.decode("utf-8", "replace").strip())
        try:
            self._token.value = token_of(json.loads(said))
        except ValueError as error:
            raise RegistryError("unauthorized: the registry's token is no JSON") from error


@asynccontextmanager
async def open_registry(repository: Repository, token: Token) -> AsyncIterator[Registry]:
    """Connect to a registry, through the proxies that the environment names.

    aiohttp would find those itself, but then it would also send the passwords of ~/.netrc.
    """
    async with aiohttp.ClientSession(
        auto_decompress=False,
        headers={"User-Agent": USER_AGENT, "Accept-Encoding": "identity"},
        connector=aiohttp.TCPConnector(limit=0),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S, sock_read=_STALL_S),
        read_bufsize=2**20,
    ) as session:
        yield Registry(session, repository, token)


def _proxy_for(url: str) -> str | None:
    parts = urlsplit(url)
    if proxy_bypass(parts.hostname or ""):
        return None
    return getproxies().get(parts.scheme) or getproxies().get("all")


async def _chunks(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    async for chunk in response.content.iter_any():
        yield chunk
