"""One origin: a socket, and a thread for each of its connections."""

import contextlib
import socket
import sys
import threading
from collections.abc import Iterator
from http.client import HTTPMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, BinaryIO

from hub.answer import Answer, Call, Part
from hub.faults import Fault
from hub.log import Origin, Request

if TYPE_CHECKING:
    from hub.server import LocalHub

CHUNK = 1 << 18
PATIENCE_SECONDS = 5.0
"""How long `Listener.stop` waits for those who still answer."""


class Listener(ThreadingHTTPServer):
    """Answers on a port of 127.0.0.1.

    Attributes:
        hub: who knows the answers.
        origin: which of the hub's two this is.
        address: without a slash at the end.
    """

    daemon_threads = True
    block_on_close = False
    request_queue_size = 256

    def __init__(self, hub: "LocalHub", origin: Origin, port: int):
        super().__init__(("127.0.0.1", port), _Handler)
        self.hub = hub
        self.origin = origin
        self.address = f"http://127.0.0.1:{self.server_address[1]}"
        self._open: set[socket.socket] = set()
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True)

    def start(self) -> None:
        """Answer from now on."""
        self._thread.start()

    def stop(self) -> None:
        """End all connections and wait for their threads."""
        if self._thread.is_alive():
            self.shutdown()
            self._thread.join()
        self.server_close()
        with self._changed:
            for connection in self._open:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
            self._changed.wait_for(lambda: not self._open, PATIENCE_SECONDS)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Note the connection, and give it a thread."""
        with self._changed:
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Close the connection, and forget it."""
        super().shutdown_request(request)
        with self._changed:
            self._open.discard(request)
            self._changed.notify_all()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that hang up; all else is a mistake of ours and shows its traceback."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    """One connection, kept open for as many requests as the client likes."""

    protocol_version = "HTTP/1.1"
    server_version = "LocalHub"
    sys_version = ""
    disable_nagle_algorithm = True
    wbufsize = 1 << 16
    server: Listener

    def log_message(self, *_: object) -> None:
        """Nothing: the hub has a log of its own."""

    def _serve(self) -> None:
        hub, origin = self.server.hub, self.server.origin
        given = {name: self.headers.get(name) for name in ("Range", "Authorization")}
        request = Request(self.command, self.path, origin, given["Range"], given["Authorization"])
        hub.log.append(request)
        fault = hub.strike(request) or Fault(pattern="")
        lost = fault.hang_up or fault.status is not None
        body = self._body(request, keep=origin == "cdn" and not lost)
        if (fault.slow and hub.closed.wait(fault.slow)) or fault.hang_up:
            self.close_connection = True
        elif fault.status is not None:
            self._send(Answer(fault.status, fault.body), request, fault)
        else:
            call = Call.of(self.command, self.path, self.headers, body)
            self._send(hub.answer(origin, call), request, fault)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _serve  # noqa: N815

    def _body(self, request: Request, *, keep: bool) -> bytes:
        """The request's body; one that is kept as a file is not returned."""

        def counted() -> Iterator[bytes]:
            for piece in _received(self.rfile, self.headers):
                request.bytes_received += len(piece)
                yield piece

        if keep and self.command == "PUT":
            self.server.hub.store.objects.receive(counted())
            return b""
        return b"".join(counted())

    def _send(self, answer: Answer, request: Request, fault: Fault) -> None:
        request.status = answer.status
        headers = {"Content-Length": str(answer.size), **answer.headers}
        self.send_response(answer.status)
        for name, value in (headers | dict(fault.headers)).items():
            self.send_header(name, _header(value))
        self.end_headers()
        size = 0 if self.command == "HEAD" else answer.size
        if fault.drop_after is not None:
            size = min(size, fault.drop_after)
            self.close_connection = True
        flipped = answer.size // 2 if fault.corrupt else -1
        for start, chunk in _pieces(answer, size):
            if start <= flipped < start + len(chunk):
                chunk = bytearray(chunk)  # noqa: PLW2901
                chunk[flipped - start] ^= 0xFF
            request.bytes_sent += len(chunk)
            self.wfile.write(chunk)
        self.wfile.flush()


def _received(stream: BinaryIO, headers: HTTPMessage) -> Iterator[bytes]:
    """A request's body in pieces, whether its size was told before or not."""
    if "chunked" not in headers.get("Transfer-Encoding", ""):
        size = int(headers.get("Content-Length") or 0)
        while size and (piece := stream.read(min(size, CHUNK))):
            size -= len(piece)
            yield piece
        return
    while size := int(stream.readline().split(b";")[0] or b"0", 16):
        yield stream.read(size)
        stream.readline()
    while stream.readline().strip():
        pass


def _pieces(answer: Answer, size: int) -> Iterator[tuple[int, bytes]]:
    """The first ``size`` bytes of a body: (where a piece begins, the piece)."""
    if not isinstance(answer.body, Part):
        if size:
            yield 0, answer.body[:size]
        return
    with answer.body.path.open("rb") as file:
        file.seek(answer.body.start)
        at = 0
        while at < size and (piece := file.read(min(CHUNK, size - at))):
            yield at, piece
            at += len(piece)


def _header(value: str) -> str:
    """``value`` as a header can carry it."""
    return value.encode("ascii", "backslashreplace").decode().replace("\r", " ").replace("\n", " ")
