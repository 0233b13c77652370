"""Files of an HTTP(S) server, through the session of fsspec's HTTP file system.

fsspec's own `info` calls a server's 500 "file not found", and its `get` neither resumes nor waits
as a server asks; so requests are made here, and the status of each answer is looked at.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp
from fsspec.asyn import sync
from fsspec.implementations.http import HTTPFileSystem

from storage.fetch.config import FetchConfig
from storage.fetch.errors import ContentChanged, FetchRefused, TransientFault
from storage.fetch.remote_files import Identity, Stream

BLOCK_BYTES = 1 << 20
ABSENT = frozenset({404, 410})
MOMENTARY = frozenset({408, 425, 429})  # and every 5xx
NO_HEAD = frozenset({403, 405, 501})  # some servers answer GET alone
LONGEST_RETRY_AFTER = 3600.0  # a server that names a date in another year is not waited for

# A gzipped file sent with Content-Encoding must arrive as it is on disk: it has a checksum.
_HEADERS = {"Accept-Encoding": "identity", "User-Agent": "brickyard"}


class HttpRemote:
    """A tree of files below a URL; see `storage.fetch.remote_files.Remote` for the methods."""

    def __init__(self, url: str, config: FetchConfig) -> None:
        self._url = url.rstrip("/")
        self._timeout = aiohttp.ClientTimeout(
            total=None,
            sock_connect=config.timeout_seconds,
            sock_read=config.timeout_seconds,
        )
        options = config.options()
        client = {"auto_decompress": False} | options.pop("client_kwargs", {})
        self._files = HTTPFileSystem(client_kwargs=client, **options)

    def look(self, path: str) -> Identity | None:
        """Return what a file is, or None where there is none."""
        with self._request("HEAD", path, {}) as response:
            if response.status not in NO_HEAD:
                return None if self._absent(response) else _identity(response)
        with self._request("GET", path, {"Range": "bytes=0-0"}) as response:
            return None if self._absent(response) else _identity(response)

    @contextmanager
    def open(
        self, path: str, offset: int = 0, known: Identity | None = None
    ) -> Iterator[Stream | None]:
        """Open a file; see `Remote.open`."""
        headers = {}
        if offset and known is not None and known.validator:
            headers = {"Range": f"bytes={offset}-", "If-Range": known.validator}
        with self._request("GET", path, headers) as response:
            if response.status == 416:
                raise ContentChanged(f"{response.url}: no bytes from {offset} on")
            if self._absent(response):
                yield None
                return
            identity = _identity(response)
            start = _start(response)
            # A server may ignore If-Range: then the tail of another file would be taken.
            if start and (start != offset or known is None or not identity.same_as(known)):
                raise ContentChanged(f"{response.url}: changed during its transfer")
            yield Stream(start, identity, self._blocks(response))

    @contextmanager
    def _request(
        self, method: str, path: str, headers: dict[str, str]
    ) -> Iterator[aiohttp.ClientResponse]:
        url = f"{self._url}/{path}"
        try:
            response = sync(self._files.loop, self._answer, method, url, headers)
        except (aiohttp.InvalidURL, aiohttp.ClientSSLError) as error:
            raise FetchRefused(f"{url}: {error}; check the address and its certificate") from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _momentary(url, error) from error
        try:
            yield response
        finally:
            self._files.loop.call_soon_threadsafe(response.close)

    async def _answer(
        self, method: str, url: str, headers: dict[str, str]
    ) -> aiohttp.ClientResponse:
        session = await self._files.set_session()
        options: dict[str, Any] = self._files.kwargs | {"allow_redirects": True}
        options["headers"] = options.get("headers", {}) | _HEADERS | headers
        response: aiohttp.ClientResponse = await session.request(
            method, self._files.encode_url(url), timeout=self._timeout, **options
        )
        return response

    def _absent(self, response: aiohttp.ClientResponse) -> bool:
        """Tell whether the file does not exist; raise for any other answer than the file."""
        status = response.status
        if status in ABSENT:
            return True
        if status in MOMENTARY or status >= 500:
            raise TransientFault(f"{response.url}: status {status}", _retry_after(response))
        if status not in (200, 206):
            advice = "check the credentials" if status in (401, 403) else "check the address"
            raise FetchRefused(f"{response.url}: status {status} ({response.reason}); {advice}")
        return False

    def _blocks(self, response: aiohttp.ClientResponse) -> Iterator[bytes]:
        while True:
            block, fault = sync(self._files.loop, _read_block, response.content)
            if block:
                yield block
            if fault is not None:
                raise _momentary(str(response.url), fault) from fault
            if not block:
                return


async def _read_block(content: aiohttp.StreamReader) -> tuple[bytes, Exception | None]:
    """Read a block; what came before a fault is kept, so that a resume need not fetch it again."""
    pieces, length = [], 0
    try:
        while length < BLOCK_BYTES and (piece := await content.read(BLOCK_BYTES - length)):
            pieces.append(piece)
            length += len(piece)
    except (aiohttp.ClientError, TimeoutError, asyncio.IncompleteReadError, OSError) as error:
        return b"".join(pieces), error
    return b"".join(pieces), None


def _momentary(url: str, error: Exception) -> TransientFault:
    return TransientFault(f"{url}: {type(error).__name__} {error}".rstrip())


def _identity(response: aiohttp.ClientResponse) -> Identity:
    size = -1
    total = response.headers.get("Content-Range", "").rpartition("/")[2]
    length = response.headers.get("Content-Length", "")
    if total.isdigit():
        size = int(total)
    elif response.status != 206 and length.isdigit():
        size = int(length)
    headers = response.headers
    return Identity(size, headers.get("ETag", ""), headers.get("Last-Modified", ""))


def _start(response: aiohttp.ClientResponse) -> int:
    """Return the first byte of the body: 0 unless the server sends a part."""
    if response.status != 206:
        return 0
    first = response.headers.get("Content-Range", "").removeprefix("bytes ").partition("-")[0]
    if not first.isdigit():
        raise TransientFault(f"{response.url}: status 206 without a Content-Range")
    return int(first)


def _retry_after(response: aiohttp.ClientResponse) -> float:
    """Return the seconds that the server asks to wait; it says them as a number or as a date."""
    text = response.headers.get("Retry-After", "").strip()
    if not text:
        return 0.0
    if text.isdigit():
        return min(float(text), LONGEST_RETRY_AFTER)
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return 0.0
    seconds = (moment.astimezone(UTC) - datetime.now(UTC)).total_seconds()
    return min(max(seconds, 0.0), LONGEST_RETRY_AFTER)
