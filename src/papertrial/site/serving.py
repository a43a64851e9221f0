"""Starting the server: loopback unless told otherwise, and never open to others without a token."""

from __future__ import annotations

import secrets
import socket
from pathlib import Path

from papertrial.errors import BadInputError
from papertrial.site.app import make_app
from papertrial.site.library import Library
from papertrial.site.pages import Pages
from papertrial.site.runs import Runs
from papertrial.site.security import Access, is_loopback

_SHORTEST_TOKEN = 12


def make_access(host: str, token: str | None, public: bool, hosts: tuple[str, ...]) -> Access:
    """Return who may do what on an address.

    Args:
        host: the address to listen on.
        token: what readers must show; made where none is given and others can reach the address.
        public: whether readers without the token may read.
        hosts: further names by which the server is called.

    Raises:
        BadInputError: the token is too short to keep anybody out.
    """
    if token is not None and len(token) < _SHORTEST_TOKEN:
        raise BadInputError(f"a token needs at least {_SHORTEST_TOKEN} characters, got {len(token)}")
    if is_loopback(host):
        names = frozenset({"localhost", "127.0.0.1", "::1", host.strip("[]"), *hosts})
        return Access(token, public, names)
    return Access(token or secrets.token_urlsafe(24), public, frozenset(hosts) if hosts else None)


def bind(host: str, port: int) -> socket.socket:
    """Return a socket that listens on an address.

    Raises:
        BadInputError: it cannot be listened on.
    """
    if not 0 <= port <= 65535:
        raise BadInputError(f"a port lies between 0 and 65535, got {port}")
    listener = None
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        if listener is not None:
            listener.close()
        raise BadInputError(
            f"cannot listen on {host}:{port}: {error.strerror or error}; --port 0 takes a free one"
        ) from error
    return listener


def address_of(listener: socket.socket, host: str) -> str:
    """Return the address at which a reader on this machine opens the page."""
    port = listener.getsockname()[1]
    name = "127.0.0.1" if host in ("0.0.0.0", "") else "[::1]" if host == "::" else host
    return f"http://{f'[{name}]' if ':' in name and '[' not in name else name}:{port}/"


def serve(home: Path, listener: socket.socket, access: Access, base: str, at_once: int = 1) -> None:
    """Serve until interrupted. Runs that are under way then are asked to end, and can be resumed.

    Args:
        home: where evidence lies.
        listener: from `bind`.
        access: from `make_access`.
        base: the address that feeds name.
        at_once: how many runs at the same time.
    """
    import uvicorn

    library = Library(home)
    runs = Runs(library, at_once)
    app = make_app(Pages(library, base=base), runs, access)
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=3,
        lifespan="on",
    )
    uvicorn.Server(config).run(sockets=[listener])
