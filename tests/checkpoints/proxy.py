"""A proxy on the loopback interface that stands before a server and spoils answers.

Owns the faults as data: each says which requests it takes and what they get.
"""

from __future__ import annotations

import http.client
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

_HOP_HEADERS = {"transfer-encoding", "connection", "content-length"}


@dataclass(kw_only=True, slots=True)
class Fault:
    """What the next requests get that it takes."""

    takes: Callable[[str, str], bool]  # method, path with query
    times: int  # how often; then requests pass again
    status: int = 503
    code: str = "ServiceUnavailable"
    message: str = "planted"
    is_forwarded: bool = False  # whether the server sees the request: a lost answer
    is_cut: bool = False  # whether the connection is closed without an answer

    def body(self) -> bytes:
        return (
            f"<?xml version='1.0'?><Error><Code>{self.code}</Code>"
            f"<Message>{self.message}</Message></Error>"
        ).encode()


class FaultyProxy:
    """Forwards to `target_url`; `requests` lists what came, `faults` is consumed."""

    def __init__(self, target_url: str) -> None:
        self.target = urlsplit(target_url).netloc
        self.faults: list[Fault] = []
        self.requests: list[tuple[str, str]] = []
        self._lock = threading.Lock()
        handler = type("Handler", (_Handler,), {"proxy": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def take_fault(self, method: str, path: str) -> Fault | None:
        with self._lock:
            self.requests.append((method, path))
            for fault in self.faults:
                if fault.times > 0 and fault.takes(method, path):
                    fault.times -= 1
                    return fault
        return None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    proxy: FaultyProxy
    protocol_version = "HTTP/1.1"  # otherwise Expect: 100-continue stays unanswered

    def answer(self) -> None:
        self.close_connection = True  # no thread stays behind
        body = self._read_body()
        fault = self.proxy.take_fault(self.command, self.path)
        if fault is None or fault.is_forwarded:
            status, headers, content = self._forward(body)
        if fault is not None:
            status, headers, content = fault.status, {}, fault.body()
            if fault.is_cut:
                return
        self.send_response(status)
        self.send_header("Connection", "close")
        for name, value in headers.items():
            self.send_header(name, value)
        if self.command != "HEAD":
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = answer

    def log_message(self, format: str, *args: object) -> None:
        pass

    def _read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _forward(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection(self.proxy.target, timeout=30)
        try:
            headers = {
                name: value
                for name, value in self.headers.items()
                if name.lower() not in _HOP_HEADERS | {"expect"}
            }
            headers["Content-Length"] = str(len(body))
            connection.request(self.command, self.path, body, headers)
            answer = connection.getresponse()
            kept = {k: v for k, v in answer.getheaders() if self._is_kept(k)}
            return answer.status, kept, answer.read()
        finally:
            connection.close()

    def _is_kept(self, header: str) -> bool:
        # A HEAD's length is that of the object, not of an answer's body.
        if header.lower() == "content-length":
            return self.command == "HEAD"
        return header.lower() not in _HOP_HEADERS
