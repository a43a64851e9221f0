"""The served site: pages from the library, runs that readers start, and the events that tell how far they are."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from urllib.parse import parse_qsl

from anyio.to_thread import run_sync
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from papertrial.errors import BadInputError, PapertrialError
from papertrial.site.answers import PageCache, keep
from papertrial.site.assets import byte_range, open_artifact, site_files
from papertrial.site.pages import HTML, Pages
from papertrial.site.rendering import Address
from papertrial.site.run_records import Run
from papertrial.site.runs import Runs
from papertrial.site.security import Access, Guard, session_cookie
from papertrial.site.starting import Starting
from papertrial.site.words import LANGUAGES, translate

MOST_BODY = 64 * 1024
_CHUNK = 256 * 1024


class RefusalError(Exception):
    """A request that cannot be granted, with the status and one line for the reader."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message


class Site:
    """Answers requests.

    Args:
        pages: what can be read.
        runs: what readers have started.
        access: who may do what.
    """

    def __init__(self, pages: Pages, runs: Runs, access: Access) -> None:
        self.pages, self.runs, self.access = pages, runs, access
        self.cache = PageCache()
        self.starting = Starting(pages, runs)
        self._files = {
            name: keep(lambda content=content: content, kind)  # type: ignore[misc]
            for name, (kind, content) in site_files().items()
        }

    async def read(self, request: Request) -> Response:
        """Answer with a page, an artifact, or one of the site's own files."""
        path, headers = request.url.path[1:], request.headers
        accepts, known = headers.get("accept-encoding", ""), headers.get("if-none-match", "")
        if path == "" and "token" in request.query_params:
            return self._enter(request, request.query_params["token"])
        if path in self._files:
            return self._files[path].answer(accepts, known)
        query = request.url.query
        if (kept := self.cache.fresh(f"{path}?{query}")) is not None:
            return kept.answer(accepts, known)
        if "/artifacts/" in path:
            return await run_sync(self._artifact, path, headers.get("range", ""))
        language, rest = _language_of(path)
        page = await run_sync(self.pages.find, rest, language, dict(request.query_params))
        if page is None:
            if not path.endswith("/") and self.pages.find(f"{rest}/", language) is not None:
                return RedirectResponse(f"/{path}/", 308)
            raise RefusalError(404, "There is no such page.")
        return (await run_sync(self.cache.get, f"{path}?{query}", page)).answer(accepts, known)

    async def login(self, request: Request) -> Response:
        """Show the form that asks for the token, and take it."""
        if request.method == "POST":
            token = (await _form(request)).get("token", "")
            if self.access.is_token(token):
                return self._enter(request, token)
            await asyncio.sleep(1)  # so that guessing is slow
        message = "The token is wrong." if request.method == "POST" else ""
        html = self.pages.render("login.html.jinja", Address("login"), message=message, live=True)
        return Response(html, 401 if message else 200, media_type=HTML)

    async def try_form(self, request: Request) -> Response:
        """Show the settings of a paper's trials, and start one."""
        session, fresh = self._starter(request)
        name = request.path_params["name"]
        address = Address(f"papers/{name}/try/", _language_of(request.url.path[1:])[0])
        token = self.access.form_token(session)
        if request.method == "POST":
            form = await self._checked_form(request, session)
            started, html = await run_sync(self.starting.start, address, name, form, token)
            if started is not None:
                return RedirectResponse(f"/{_prefix(address.language)}runs/{started.id}/", 303)
            return self._private(html, request, fresh, 422)
        return self._private(await run_sync(self.starting.forms_page, address, name, token), request, fresh)

    async def all_runs(self, request: Request) -> Response:
        """List what was started from the page."""
        address = Address("runs/", _language_of(request.url.path[1:])[0])
        return self._private(await run_sync(self.starting.list_page, address), request, None)

    async def one_run(self, request: Request) -> Response:
        """Show one run."""
        may = self.access.may_start(request.headers)
        session, fresh = self._starter(request) if may else ("", None)
        run = self._run(request)
        address = Address(f"runs/{run.id}/", _language_of(request.url.path[1:])[0])
        token = self.access.form_token(session)
        return self._private(await run_sync(self.starting.run_page, address, run.id, token), request, fresh)

    async def change(self, request: Request) -> Response:
        """Cancel or resume a run."""
        if request.path_params["act"] not in ("cancel", "resume"):
            raise RefusalError(404, "")
        session, _ = self._starter(request)
        await self._checked_form(request, session)
        run = self._run(request)
        act = self.runs.cancel if request.path_params["act"] == "cancel" else self.runs.resume
        await run_sync(act, run.id)
        language = _language_of(request.url.path[1:])[0]
        return RedirectResponse(f"/{_prefix(language)}runs/{run.id}/", 303)

    async def events(self, request: Request) -> Response:
        """Tell how far a run is, until it ends or the reader goes."""
        run = self._run(request)
        address = Address(f"runs/{run.id}/", _language_of(request.url.path[1:])[0])
        return StreamingResponse(
            self.starting.events(address, run.id),
            media_type="text/event-stream",
            headers={"cache-control": "no-store", "x-accel-buffering": "no"},
        )

    def refused(self, request: Request, error: Exception) -> Response:
        """Say in one line why a request was not granted."""
        status, message = (
            (error.status, error.message)
            if isinstance(error, RefusalError)
            else (400, str(error).split("\n")[0])
        )
        language, path = _language_of(request.url.path[1:])
        heading = translate("There is no such page." if status == 404 else "That cannot be done", language)
        if status == 404:
            message = ""
        depth = Address(path, language)
        html = self.pages.render("error.html.jinja", depth, heading=heading, message=message, live=True)
        return Response(html, status, media_type=HTML, headers={"cache-control": "no-store"})

    def _run(self, request: Request) -> Run:
        try:
            return self.runs.get(request.path_params["id"])
        except BadInputError as error:
            raise RefusalError(404, str(error)) from error

    def _starter(self, request: Request) -> tuple[str, str | None]:
        """Return the session of a reader who may start trials, and its cookie where it is new."""
        if not self.access.may_start(request.headers):
            raise RefusalError(403, "Starting and cancelling trials needs the token: open /login.")
        session = self.access.session(request.headers)
        if session is not None:
            return session, None
        cookie = self.access.new_session()
        return cookie.partition(".")[0], cookie

    async def _checked_form(self, request: Request, session: str) -> Mapping[str, str]:
        form = await _form(request)
        if not self.access.is_form_token(session, form.get("form", "")):
            raise RefusalError(403, "This form is too old, or comes from another site: open it again.")
        return form

    def _private(self, html: str, request: Request, cookie: str | None, status: int = 200) -> Response:
        response = Response(html, status, media_type=HTML, headers={"cache-control": "no-store"})
        if cookie is not None:
            response.headers["set-cookie"] = session_cookie(cookie, request.url.scheme == "https")
        return response

    def _enter(self, request: Request, token: str) -> Response:
        """Begin the session of a reader who has the token, and take it out of the address."""
        if not self.access.is_token(token):
            return RedirectResponse("/login" if self.access.token else "/", 303)
        response = RedirectResponse("/", 303)
        cookie = session_cookie(self.access.new_session(), request.url.scheme == "https")
        response.headers["set-cookie"] = cookie
        return response

    def _artifact(self, path: str, asked: str) -> Response:
        parts = path.split("/", 4)
        if len(parts) != 5 or parts[0] != "papers" or parts[2] != "runs":
            raise RefusalError(404, path)
        group = (
            self.pages.library.index.find(parts[1], parts[3])
            if parts[1] in self.pages.library.rooms
            else None
        )
        opened = open_artifact(group.folder, parts[4]) if group else None
        if opened is None:
            raise RefusalError(404, path)
        handle, kind = opened
        size = os.fstat(handle).st_size
        headers = {
            "content-type": kind,
            "accept-ranges": "bytes",
            "cache-control": "no-cache",
            "content-security-policy": "sandbox; default-src 'none'",
        }
        try:
            part = byte_range(asked, size)
        except ValueError:
            os.close(handle)
            return Response(status_code=416, headers={"content-range": f"bytes */{size}"})
        start, end = part or (0, size - 1)
        headers["content-length"] = str(end - start + 1)
        if part is not None:
            headers["content-range"] = f"bytes {start}-{end}/{size}"
        return StreamingResponse(_content(handle, start, end), 200 if part is None else 206, headers)


def make_app(pages: Pages, runs: Runs, access: Access) -> ASGIApp:
    """Return the application, with the guard before it."""
    site = Site(pages, runs, access)

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        await run_sync(runs.open)
        warming = threading.Thread(target=_warm, args=(pages,), daemon=True)
        warming.start()
        yield
        await run_sync(runs.close)

    async def refused(request: Request, error: Exception) -> Response:
        return await run_sync(site.refused, request, error)

    routes = [
        *(
            Route(f"/{_prefix(language)}{path}", answer, methods=methods)
            for language in LANGUAGES
            for path, answer, methods in (
                ("runs/", site.all_runs, ["GET"]),
                ("runs/{id}/", site.one_run, ["GET"]),
                ("runs/{id}/events", site.events, ["GET"]),
                ("runs/{id}/{act:str}", site.change, ["POST"]),
                ("papers/{name}/try/", site.try_form, ["GET", "POST"]),
            )
        ),
        Route("/login", site.login, methods=["GET", "POST"]),
        Route("/{path:path}", site.read, methods=["GET"]),
    ]
    app = Starlette(
        routes=routes,
        lifespan=lifespan,
        exception_handlers={RefusalError: refused, PapertrialError: refused},
    )
    return Guard(app, access, ["/login", "/static/style.css", "/static/app.js", "/static/icon.svg"], "/login")


async def _form(request: Request) -> Mapping[str, str]:
    """Read a form, which may be no larger than any form of this site."""
    if request.headers.get("content-type", "").partition(";")[0] != "application/x-www-form-urlencoded":
        raise RefusalError(415, "A form is sent as application/x-www-form-urlencoded.")
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MOST_BODY:
            raise RefusalError(413, f"A form has at most {MOST_BODY} bytes.")
    try:
        pairs = parse_qsl(body.decode("utf-8"), keep_blank_values=True, max_num_fields=300)
    except (UnicodeDecodeError, ValueError) as error:
        raise RefusalError(400, "This is no form.") from error
    return dict(pairs)


def _content(handle: int, start: int, end: int) -> Iterator[bytes]:
    with os.fdopen(handle, "rb") as file:
        file.seek(start)
        left = end - start + 1
        while left > 0 and (chunk := file.read(min(_CHUNK, left))):
            left -= len(chunk)
            yield chunk


def _warm(pages: Pages) -> None:
    """Read what the first reader would wait for: the trials, and the libraries that judge and draw."""
    pages.lists.days.look()
    for name in pages.library.rooms:
        with contextlib.suppress(PapertrialError):
            pages.library.show(name)


def _prefix(language: str) -> str:
    return "" if language == "en" else f"{language}/"


def _language_of(path: str) -> tuple[str, str]:
    """Split the language off a path."""
    first, slash, rest = path.partition("/")
    if first in LANGUAGES and first != "en" and slash:
        return first, rest
    return "en", path
