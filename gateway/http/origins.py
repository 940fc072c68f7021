"""Which browser pages may call, and under which names this server may be addressed. Pure.

A browser sends the page's origin with what a page asks of another server, and the page's script may read the
answer only if the answer's CORS headers say so. As Ollama does, a request of a foreign origin is refused
before it is looked at, because a page that somebody merely visits must not use their models. Let through
are requests without an origin (programs), those of a page from the same host, and those of local
applications; only origins that the file names (`gateway.cors_origins`) also get the headers to read answers.

While only this machine can reach the port, requests for a foreign host's name are refused too: a page can
have its own name resolved to 127.0.0.1, and is then of the same origin.

Source: Ollama 0.24 `envconfig.AllowedOrigins`, `server.allowedHostsMiddleware`; the Fetch standard.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final

_LOCAL_HOSTS: Final = ("localhost", "127.0.0.1", "0.0.0.0")  # noqa: S104 -- compared with, not bound to
LOCAL_ORIGINS: Final = (
    *(f"{scheme}://{host}" for scheme in ("http", "https") for host in _LOCAL_HOSTS),
    *(f"{scheme}://{host}:*" for scheme in ("http", "https") for host in _LOCAL_HOSTS),
    *("app://*", "file://*", "tauri://*", "vscode-webview://*", "vscode-file://*"),
)
"""Those of applications on the user's own machine."""
_LOCAL_DOMAINS: Final = (".localhost", ".local", ".internal")

EXPOSED_HEADERS: Final = (
    "X-Request-Id, X-Corral-Worker, X-Corral-Queued-Ms, X-Corral-Context, X-Corral-Ignored-Options, "
    "X-Corral-Warning, Retry-After"
)
ALLOWED_METHODS: Final = "GET, HEAD, POST, DELETE, OPTIONS"
_ALLOWED_HEADERS: Final = (
    *("accept", "authorization", "content-type", "user-agent", "x-api-key", "x-request-id"),
    *("x-requested-with", "x-session-id", "session-id", "idempotency-key", "content-encoding"),
)
_ALLOWED_PREFIXES: Final = ("x-stainless-", "anthropic-", "openai-", "x-openwebui-", "x-claude-code-")
"""Of the headers that the SDKs send from browsers; their number grows with each version."""
_PREFLIGHT_AGE_S: Final = 12 * 3600


@dataclass(frozen=True, slots=True)
class Origins:
    """The rule of one server."""

    configured: tuple[str, ...] = ()
    """Origins with at most one `*` each, or `*` alone for all."""
    loopback: bool = True
    """Whether only this machine can reach the port."""
    hostname: str = ""
    """This machine's name."""

    def admits(self, origin: str, host: str) -> bool:
        """Whether a request with these headers may be looked at; an empty `origin` is none."""
        if origin and not (same_host(origin, host) or matches(origin, LOCAL_ORIGINS) or self.shares(origin)):
            return False
        return not self.loopback or is_local_host(host, self.hostname)

    def shares(self, origin: str) -> bool:
        """Whether a page of this origin may read answers."""
        return bool(origin) and matches(origin, self.configured)

    def headers(self, origin: str) -> dict[str, str]:
        """Return what lets a page of this origin read an answer; nothing unless it may."""
        if not self.shares(origin):
            return {}
        shown = {"Access-Control-Expose-Headers": EXPOSED_HEADERS}
        if "*" in self.configured:
            return {"Access-Control-Allow-Origin": "*", **shown}
        return {"Access-Control-Allow-Origin": origin, "Vary": "Origin", **shown}


def preflight(requested_headers: str) -> Mapping[str, str]:
    """Return what a browser must know before it sends a page's request with these headers."""
    requested = (name.strip().lower() for name in requested_headers.split(","))
    known = dict.fromkeys([*_ALLOWED_HEADERS, *(n for n in requested if n.startswith(_ALLOWED_PREFIXES))])
    return {
        "Access-Control-Allow-Methods": ALLOWED_METHODS,
        "Access-Control-Allow-Headers": ", ".join(known),
        "Access-Control-Max-Age": str(_PREFLIGHT_AGE_S),
    }


def matches(origin: str, patterns: Iterable[str]) -> bool:
    """Whether an origin is one of these; a `*` stands for anything, behind a colon for a port."""
    return any(_matches(origin, pattern) for pattern in patterns)


def _matches(origin: str, pattern: str) -> bool:
    start, star, end = pattern.partition("*")
    if not star:
        return origin == pattern
    if len(origin) < len(start) + len(end) or not (origin.startswith(start) and origin.endswith(end)):
        return False
    return not start.endswith(":") or origin[len(start) :].isdigit()


def same_host(origin: str, host: str) -> bool:
    """Whether a page comes from the very host and port that it asks."""
    return origin in (f"http://{host}", f"https://{host}")


def is_local_host(host: str, hostname: str) -> bool:
    """Whether a Host header names this machine or one on a private network, which no public page can."""
    name = _without_port(host).lower()
    try:
        address = ip_address(name)
    except ValueError:
        local = name in ("", "localhost", hostname.lower())
        return local or name.endswith(_LOCAL_DOMAINS)
    return address.is_loopback or address.is_private or address.is_unspecified


def _without_port(host: str) -> str:
    name, colon, port = host.rpartition(":")
    bare = name if colon and (port.isdigit() or not port) and not name.endswith(":") else host
    if bare.startswith("[") and bare.endswith("]"):
        return bare[1:-1]
    return host if ":" in bare else bare
