"""The registry's protocol, as far as public models need it: addresses, tokens, redirects. Pure.

Decides which host is asked for what, and which host may see a credential: the one that the model's name
says, and no other. Must not know sockets.

Source: Ollama 0.24 `server/images.go`, `server/auth.go`; the Docker registry's token protocol.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlencode, urljoin, urlsplit

from supervisor.contract.names import ModelName
from supervisor.contract.wire import OLLAMA_API_VERSION

MANIFEST_TYPE: Final = "application/vnd.docker.distribution.manifest.v2+json"
USER_AGENT: Final = f"ollama/{OLLAMA_API_VERSION} (Corral)"
"""Registries tell by this version whether their answer will be understood."""

_PARAMETER: Final = re.compile(r'(\w+)="([^"]*)"')
_CONTENT_RANGE: Final = re.compile(r"bytes (\d+)-\d+/(\d+)\Z")


class RegistryError(Exception):
    """A registry that gives no model, and why. Asking again would not help."""


class PassingRegistryError(RegistryError):
    """The same for what may be over in a moment: a broken connection, a 503."""


class UnreachableRegistryError(PassingRegistryError):
    """Nobody answers there. In the middle of a pull this may pass; at its start the name is wrong."""


@dataclass(frozen=True, slots=True)
class Repository:
    """Where a registry keeps one model."""

    base: str
    """`https://HOST`"""
    path: str
    """`NAMESPACE/MODEL`"""
    tag: str

    @classmethod
    def of(cls, name: ModelName, *, insecure: bool) -> Repository:
        """Return it for a model; `insecure` asks in clear text, as Ollama does then."""
        scheme = "http" if insecure else "https"
        return cls(f"{scheme}://{name.host}", f"{name.namespace}/{name.model}", name.tag)

    @property
    def manifest_url(self) -> str:
        """The address of the manifest."""
        return f"{self.base}/v2/{self.path}/manifests/{self.tag}"

    def blob_url(self, digest: str) -> str:
        """The address of a blob."""
        return f"{self.base}/v2/{self.path}/blobs/{digest}"

    def may_see_token(self, url: str) -> bool:
        """Whether the token may be sent there: to the registry itself alone."""
        return _origin(url) == _origin(self.base)

    def redirected(self, url: str, location: str) -> str:
        """Return where a redirect leads.

        Raises:
            RegistryError: it leads from https to clear text, or out of HTTP.
        """
        target = urljoin(url, location)
        scheme = urlsplit(target).scheme
        if scheme != "https" and (scheme != "http" or urlsplit(url).scheme == "https"):
            raise RegistryError(f"{urlsplit(url).netloc} redirects to {scheme}://, which is not safe")
        return target

    def token_url(self, challenge: str) -> str:
        """Return where a token for this model is got, from a WWW-Authenticate header.

        Raises:
            RegistryError: no such challenge, or its realm is another host (as Ollama refuses it).
        """
        said = dict(_PARAMETER.findall(challenge)) if challenge.startswith("Bearer ") else {}
        realm = said.get("realm", "")
        if not realm:
            raise RegistryError("unauthorized: access denied")
        if not self.may_see_token(realm):
            host, own = urlsplit(realm).netloc, urlsplit(self.base).netloc
            raise RegistryError(f'realm host "{host}" does not match original host "{own}"')
        wanted = [("service", said.get("service", ""))]
        wanted += [("scope", scope) for scope in said.get("scope", "").split(" ")]
        return f"{realm}{'&' if '?' in realm else '?'}{urlencode(wanted)}"


def token_of(answer: object) -> str:
    """Return the token in the answer of a realm.

    Raises:
        RegistryError: there is none.
    """
    fields = answer if isinstance(answer, Mapping) else {}
    token = fields.get("token") or fields.get("access_token")
    if not isinstance(token, str):
        raise RegistryError("unauthorized: the registry gave no token")
    return token


def refusal(status: int, text: str) -> RegistryError:
    """Return the error that a status means; the text is Ollama's."""
    said = f"{status}: {text[:500]}"
    if status in _PASSING:
        return PassingRegistryError(said)
    return RegistryError(_PLAIN_TEXTS.get(status, said))


def check_range(content_range: str, first: int, size_bytes: int) -> None:
    """Hold the answer to a range request against what was asked.

    Raises:
        RegistryError: other bytes are told, or the blob has another size than its manifest says.
    """
    told = _CONTENT_RANGE.match(content_range)
    if told is None or int(told[1]) != first:
        raise RegistryError(f"byte {first} was asked for and {content_range!r} came")
    if int(told[2]) != size_bytes:
        raise RegistryError(f"the registry holds {told[2]} bytes and its manifest says {size_bytes}")


_PASSING: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
_PLAIN_TEXTS: Final = {401: "unauthorized: access denied", 404: "file does not exist"}


def _origin(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme, parts.netloc.lower()
