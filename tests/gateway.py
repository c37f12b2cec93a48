"""A loopback AllToken gateway: faithful by default, scriptable down to raw bytes, and runnable.

    python3 -m tests.gateway chat gpt-5.4-mini "hi"     start it, run the command against it, stop it
    python3 -m tests.gateway                            serve, and print what to export

In tests: `gateway.on("POST /v1/chat/completions", step, …)` answers the next requests by the given steps, each a
function of the `Exchange`; `gateway.requests` holds what came.
"""

from __future__ import annotations

import _thread
import base64
import contextlib
import hashlib
import json
import os
import re
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

KEY = "loopback-test-key"
PRICES = {  # dollars per 1M tokens, as the public catalog gives them
    "gpt-5.4": ("1.2500000000", "10.0000000000"),
    "gpt-5.4-mini": ("0.2000000000", "1.2500000000"),
    "gpt-5.4-nano": ("0.0500000000", "0.4000000000"),
    "claude-haiku-4-5": ("0.8000000000", "4.0000000000"),
    "claude-sonnet-4-6": ("3.0000000000", "15.0000000000"),
    "deepseek-v4-pro": ("0.2700000000", "1.1000000000"),
    "deepseek-v3.2": ("0.1400000000", "0.2800000000"),
    "qwen3.6-flash": ("0.0500000000", "0.2000000000"),
    "glm-5.1": (None, None),
}
MODALITIES = {"gpt-image-2": "image", "wan2.7-image": "image", "seedance-1.5-pro": "video", "seedance-2.0": "video"}
CHAT = "POST /v1/chat/completions"
Step = Callable[["Exchange"], None]


class Headers:
    """The headers of a request, in any case; of two with one name the first counts, and both are shown."""

    def __init__(self, pairs: list[tuple[str, str]]) -> None:
        self._pairs = pairs
        self._first = {name.lower(): value for name, value in reversed(pairs)}

    def __getitem__(self, name: str) -> str | None:
        return self._first.get(name.lower())

    def get(self, name: str, default: Any = None) -> Any:
        return self._first.get(name.lower(), default)

    def __contains__(self, name: object) -> bool:
        return str(name).lower() in self._first

    def __iter__(self) -> Iterator[str]:
        return (name for name, _ in self._pairs)

    def __str__(self) -> str:
        return "".join(f"{name}: {value}\n" for name, value in self._pairs)


class Exchange:
    """One request, and the means to answer it well or badly."""

    def __init__(
        self, gateway: Gateway, connection: socket.socket, reader: Any, line: list[str], headers: Headers, body: bytes
    ) -> None:
        self.gateway = gateway
        self.method, target = line[:2]
        self.path, _, self.query = target.partition("?")
        self.headers = headers
        self.body = body
        self.at = time.monotonic()
        self._socket = connection
        self._reader = reader

    @property
    def json(self) -> Any:
        """The request's body as JSON."""
        return json.loads(self.body)

    def raw(self, data: bytes) -> None:
        """Send bytes as they are."""
        self._socket.sendall(data)

    def head(
        self, status: int = 200, headers: dict[str, str] | None = None, body: bytes = b"", *, chunked: bool = False
    ) -> None:
        """Send a status line and headers, and what there is of a body."""
        lines = [f"HTTP/1.1 {status} Status", "Connection: close"]
        if chunked:
            lines += ["Content-Type: text/event-stream", "Transfer-Encoding: chunked"]
        lines += [f"{name}: {value}" for name, value in (self.own_headers() | (headers or {})).items()]
        self.raw("\r\n".join([*lines, "", ""]).encode("latin-1") + body)

    def own_headers(self) -> dict[str, str]:
        """What every answer carries."""
        return {"x-request-id": "req_loopback_1"}

    def chunk(self, data: bytes) -> None:
        """Send one chunk of the chunked transfer coding."""
        self.raw(b"%x\r\n%s\r\n" % (len(data), data))

    def event(self, value: object) -> None:
        """Send one event with `value` as its JSON data, in a chunk of its own."""
        self.chunk(event(value))

    def end(self) -> None:
        """End a chunked body."""
        self.raw(b"0\r\n\r\n")

    def reply(self, status: int, value: object, headers: dict[str, str] | None = None) -> None:
        """Send a whole JSON answer."""
        data = value if isinstance(value, bytes) else json.dumps(value).encode()
        base = {"Content-Type": "application/json", "Content-Length": str(len(data))}
        self.head(status, base | (headers or {}), data)

    def refuse(self, status: int, code: str, type_: str, message: str, **extra: object) -> None:
        """Send an error in the gateway's envelope."""
        inner = {
            "code": code,
            "type": type_,
            "message": message,
            "param": None,
            "request_id": "req_loopback_1",
            **extra,
        }
        self.reply(status, {"error": inner})

    def reset(self) -> None:
        """End the connection with RST."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._reader.close()
        self._socket.close()

    def hold(self) -> None:
        """Say nothing until the client goes away or the gateway stops."""
        self._socket.settimeout(0.05)
        while not self.gateway.stopping.is_set():
            try:
                if not self._socket.recv(1):
                    return
            except TimeoutError:
                continue
            except OSError:
                return


def reply(status: int, value: object, headers: dict[str, str] | None = None) -> Step:
    """A step: a whole JSON answer, or bytes with a Content-Length."""
    return lambda exchange: exchange.reply(status, value, headers)


def refuse(status: int, code: str, message: str = "no", headers: dict[str, str] | None = None, **extra: object) -> Step:
    """A step: an error envelope."""
    inner = {"code": code, "type": "test_error", "message": message, "param": None, "request_id": "req_loopback_1"}
    return reply(status, {"error": inner | extra}, headers)


def raw(data: bytes, *, then: str = "close") -> Step:
    """A step: raw bytes, then close, reset, or hold the connection."""

    def step(exchange: Exchange) -> None:
        exchange.raw(data)
        if then != "close":
            getattr(exchange, then)()

    return step


def delta(text: str | None = None, finish: str | None = None, **fields: Any) -> dict[str, Any]:
    """A chat.completion.chunk."""
    inner = fields if text is None else {"content": text, **fields}
    choice = {"index": 0, "delta": inner, "finish_reason": finish}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "model": "served-1",
        "choices": [choice],
        "usage": None,
    }


USAGE = {"prompt_tokens": 19, "completion_tokens": 12, "total_tokens": 31}
COST = b': {"cost":"0.0000188000","input_price":"0.2000000000","output_price":"1.2500000000","prompt_tokens":19,"completion_tokens":12}\n\n'
DONE = b"data: [DONE]\n\n"


def event(value: object) -> bytes:
    """The bytes of one event with `value` as its JSON data."""
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def frames(*texts: str, finish: str = "stop", usage: dict[str, Any] | None = None) -> bytes:
    """The bytes of a whole answer before [DONE]."""
    chunks = [delta(text) for text in texts] + [delta(finish=finish), {"choices": [], "usage": usage or USAGE}]
    return b"".join(map(event, chunks))


def stream(*pieces: bytes | float | str) -> Step:
    """A step: an event stream with each bytes piece as a chunk, a float as a pause in seconds, and at the end a word:
    "hold", "reset", "cut" (close without the last chunk)."""

    def step(exchange: Exchange) -> None:
        exchange.head(chunked=True)
        for piece in pieces:
            if isinstance(piece, bytes):
                exchange.chunk(piece)
            elif isinstance(piece, str):
                if piece != "cut":
                    getattr(exchange, piece)()
                return
            elif exchange.gateway.stopping.wait(piece):
                return
        exchange.end()

    return step


class Gateway:
    """The server. `pace` is the time between two tokens, `work` the time that a task takes, in seconds."""

    def __init__(self, *, pace: float = 0.0, work: float = 0.0, tls: ssl.SSLContext | None = None) -> None:
        self.pace = pace
        self.work = work
        self.requests: list[Exchange] = []
        self.catalog = {name: _entry(name) for name in (*PRICES, *MODALITIES)}
        self.stopping = threading.Event()
        self.answered = threading.Semaphore(0)  # released once a request has been answered
        self.tasks = Tasks(self)
        self.hints: dict[str, Any] = {"next_poll_after_ms": 1}
        self._scripts: dict[str, deque[Step]] = {}
        self._lock = threading.Lock()
        self._accepting = 0  # threads
        self._none_accepts = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self._address = self._listener.getsockname()
        if tls is not None:
            self._listener = tls.wrap_socket(self._listener, server_side=True, do_handshake_on_connect=False)
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self._address[1]}"

    def __enter__(self):
        self._accepting = 1
        _thread.start_new_thread(self._serve, ())
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self.stopping.set()
            left = self._accepting
        try:
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes each `accept`, where the next line need not
        except OSError:
            for _ in range(left):
                with contextlib.suppress(OSError):
                    socket.create_connection(self._address, timeout=1).close()
        if left:
            self._none_accepts.wait()
        self._listener.close()

    def _serve(self) -> None:
        """Answer one connection after another. One thread accepts at any time: where this was the last, the next
        begins. A thread for each connection, as `socketserver` has it, takes twice as long."""
        while True:
            try:
                connection = self._listener.accept()[0]
            except OSError:
                connection = None
            with self._lock:
                stopping, alone = self.stopping.is_set(), self._accepting == 1
                if stopping or (connection is not None and not alone):
                    self._accepting -= 1
                if stopping and not self._accepting:
                    self._none_accepts.set()
            if connection is not None:
                if stopping:
                    connection.close()
                else:
                    if alone:
                        _thread.start_new_thread(self._serve, ())
                    self._take(connection)
            if stopping:
                return
            if connection is not None:
                with self._lock:
                    if self.stopping.is_set():
                        return
                    self._accepting += 1

    def _take(self, connection: socket.socket) -> None:
        """Read a request, have it answered, and close the connection."""
        reader = connection.makefile("rb")
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)  # or a body would wait for 40 ms
            line = reader.readline(65537).decode("latin-1").split()
            if len(line) == 3:
                pairs = []
                while b":" in (header := reader.readline(65537)):
                    name, _, value = header.decode("latin-1").partition(":")
                    pairs.append((name, value.strip()))
                headers = Headers(pairs)
                body = reader.read(int(headers.get("Content-Length") or 0))
                try:
                    self.answer(Exchange(self, connection, reader, line, headers, body))
                finally:
                    self.answered.release()
        except Exception:  # the client has gone, or the step closed the connection
            pass
        finally:
            reader.close()
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_WR)
            connection.close()

    def on(self, request: str, *steps: Step) -> None:
        """Answer the next requests, named like "POST /v1/chat/completions", by `steps`; the last one stays."""
        self._scripts[request] = deque(steps)

    def count(self, request: str) -> int:
        """How many such requests came."""
        return sum(f"{exchange.method} {exchange.path}" == request for exchange in self.requests)

    def answer(self, exchange: Exchange) -> None:
        """Record a request, and answer it by script or as the gateway does."""
        with self._lock:
            self.requests.append(exchange)
            steps = self._scripts.get(f"{exchange.method} {exchange.path}")
            step = (steps.popleft() if len(steps) > 1 else steps[0]) if steps else self._route(exchange)
        step(exchange)

    def _route(self, exchange: Exchange) -> Step:
        if exchange.path.startswith(("/v1/", "/api-account/user/")):
            scheme, _, key = exchange.headers.get("Authorization", "").partition(" ")
            if scheme != "Bearer" or not key or exchange.path.startswith("/api-account/user/") or key == "wrong":
                return lambda one: one.refuse(
                    401, "invalid_api_key", "authentication_error", "the API key is not valid"
                )
        for pattern, step in ROUTES:
            if match := re.fullmatch(pattern, f"{exchange.method} {exchange.path}"):
                return lambda one: step(one, *match.groups())
        return lambda one: one.refuse(404, "not_found", "not_found_error", "there is no such endpoint")


def _entry(name: str) -> dict[str, Any]:
    input_price, output_price = PRICES.get(name, (None, None))
    entry: dict[str, Any] = {"id": name, "object": "model", "owned_by": "loopback"}
    entry["modality"] = MODALITIES.get(name, "text")
    entry["context_length"] = 128000
    if input_price is not None:
        entry |= {"input_price": input_price, "output_price": output_price}
    return entry


def _chat(exchange: Exchange) -> None:
    body = exchange.json
    model, messages = body.get("model"), body.get("messages")
    if not isinstance(messages, list) or not messages:
        return exchange.refuse(400, "invalid_request", "invalid_request_error", "messages: at least one is needed")
    if model not in PRICES:
        return exchange.refuse(404, "upstream_model_not_found", "not_found_error", f"there is no model {model}")
    if body.get("enable_search") and not model.startswith(("deepseek", "qwen")) and model.startswith("gpt"):
        return exchange.refuse(503, "all_providers_failed", "server_error", "no provider could serve this request")
    said = messages[-1].get("content")
    said = said if isinstance(said, str) else "".join(part.get("text", "") for part in said)
    words = re.findall(r"\S+\s*", f"This is the loopback gateway, which echoes: {said}")
    usage = {
        "prompt_tokens": sum(len(str(message.get("content")).split()) + 4 for message in messages),
        "completion_tokens": len(words),
        "prompt_tokens_details": {"cached_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0},
    }
    usage["total_tokens"] = usage["prompt_tokens"] + usage["completion_tokens"]
    if not body.get("stream"):
        message = {"role": "assistant", "content": "".join(words)}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        document = {"id": "chatcmpl-1", "model": f"{model}-2026-03-17", "choices": [choice], "usage": usage}
        return exchange.reply(200, document | {"x-gateway-request-id": "req_loopback_1"})
    exchange.head(chunked=True)
    role = {"role": "assistant"}  # of the first chunk alone; the helpers of common SDKs need it
    if body.get("thinking"):
        exchange.event(delta(**role, reasoning_content="The user wrote something; an echo will do.\n"))
        role = {}
    for word in words:
        exchange.event(delta(word, **role) | {"model": f"{model}-2026-03-17"})
        role = {}
        exchange.gateway.stopping.wait(exchange.gateway.pace)
    exchange.event(delta(finish="stop"))
    if (body.get("stream_options") or {}).get("include_usage"):
        exchange.event({"choices": [], "usage": usage})
    exchange.chunk(DONE)
    exchange.gateway.stopping.wait(exchange.gateway.pace)
    prices = PRICES[model]
    if prices[0] is not None:
        counts = (usage["prompt_tokens"], usage["completion_tokens"])
        cost = sum(Decimal(n) * Decimal(p or 0) for n, p in zip(counts, prices)) / 10**6
        figures = {"cost": f"{cost:.10f}", "input_price": prices[0], "output_price": prices[1]}
        figures |= {"prompt_tokens": counts[0], "completion_tokens": counts[1]}
        exchange.chunk(b": " + json.dumps(figures, separators=(",", ":")).encode() + b"\n\n")
    exchange.end()


def _models(exchange: Exchange) -> None:
    kind = {"/v1/images/models": "image", "/v1/videos/models": "video"}.get(exchange.path)
    hidden = ("input_price", "output_price", "context_length")
    listed = [
        {name: value for name, value in entry.items() if name not in hidden}
        for entry in exchange.gateway.catalog.values()
        if kind is None or entry.get("modality") == kind
    ]
    exchange.reply(200, {"object": "list", "data": listed})


def _catalog(exchange: Exchange) -> None:
    exchange.reply(200, {"data": list(exchange.gateway.catalog.values())})


def _catalog_entry(exchange: Exchange, name: str) -> None:
    entry = exchange.gateway.catalog.get(name)
    if entry is None:
        return exchange.refuse(404, "not_found", "not_found_error", f"there is no model {name}")
    exchange.reply(200, {"data": entry})


HEALTH = {
    "status": "degraded",
    "routes": 3,
    "latency_ms": {"p50": 412, "p95": 1830},
    "incidents": [{"route": "gpt-5.4@one", "since": "2026-11-21T10:00:00Z", "error_rate": 0.42}],
}
PROVIDERS = [
    {"id": "one", "name": "Provider One", "models": 21, "availability": 0.998},
    {"id": "two", "name": "Provider Two", "models": 9, "region": "eu"},
]
RANKINGS = {"usage": [{"rank": 1, "model": "gpt-5.4-mini", "share": "31.2%"}], "updated": "2026-11-21"}


def _public(page: Any) -> Callable[[Exchange], None]:
    return lambda exchange: exchange.reply(200, {"data": page})


def png(width: int = 32, height: int = 32, noise: int = 0) -> bytes:
    """A PNG image: one colour, or with `noise` bytes of random data in a chunk that viewers pass over."""

    def part(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = (b"\0" + b"\x30\x60\x90" * width) * height
    padding = part(b"alLt", os.urandom(noise)) if noise else b""
    return (
        b"\x89PNG\r\n\x1a\n" + part(b"IHDR", header) + padding + part(b"IDAT", zlib.compress(rows)) + part(b"IEND", b"")
    )


PLAIN = png()


class Tasks:
    """The image and video tasks of one gateway, with one-shot images and an Idempotency-Key of 60 s."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.all: dict[str, dict[str, Any]] = {}
        self.keys: dict[str, tuple[float, str]] = {}
        self.uploads: dict[str, dict[str, Any]] = {}
        self.image = PLAIN
        self.video = b"\0\0\0\x18ftypmp42" + bytes(range(256)) * 64
        self.keeps_copies = False  # whether an image's second GET offers r2_url

    def create(self, exchange: Exchange, prefix: str) -> None:
        """Accept a task, or hand over the one that the same Idempotency-Key has made."""
        key = exchange.headers.get("Idempotency-Key")
        if key in self.keys and time.monotonic() - self.keys[key][0] < 60:
            return exchange.refuse(409, "duplicate_request", "conflict_error", "seen before", task_id=self.keys[key][1])
        body = exchange.json
        if not body.get("prompt") or not body.get("model"):
            return exchange.refuse(400, "invalid_request", "invalid_request_error", "model and prompt are needed")
        task = {
            "id": f"{prefix}_{len(self.all) + 1:08d}",
            "status": "queued",
            "model": body["model"],
            "created_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "request": body,
            "since": time.monotonic(),
            "read": False,
        }
        self.all[task["id"]] = task
        if key:
            self.keys[key] = (time.monotonic(), task["id"])
        exchange.reply(202, {name: task[name] for name in ("id", "status", "model", "created_at")})

    def find(self, exchange: Exchange, name: str, prefix: str) -> dict[str, Any] | None:
        """The task, moved on to where it should be by now; answers 404 where there is none."""
        task = self.all.get(name) if name.startswith(prefix) else None
        if task is None:
            exchange.refuse(404, "task_not_found", "not_found_error", "there is no such task")
            return None
        gone = time.monotonic() - task["since"]
        if task["status"] in ("queued", "processing"):
            task["status"] = (
                "completed" if gone >= self.gateway.work else "processing" if gone * 3 > self.gateway.work else "queued"
            )
        return task

    def shown(self, task: dict[str, Any]) -> dict[str, Any]:
        """What every GET shows of a task."""
        document = {name: task[name] for name in ("id", "status", "model", "created_at")}
        if task["status"] in ("queued", "processing"):
            document |= self.gateway.hints
        elif task["status"] in ("failed", "cancelled"):
            document["error"] = task.get("error") or {
                "code": task["status"],
                "message": f"the task was {task['status']}",
            }
        return document

    def get_image(self, exchange: Exchange, name: str) -> None:
        """One GET of an image task: the image itself goes out once."""
        task = self.find(exchange, name, "igen")
        if task is None:
            return
        document = self.shown(task)
        if task["status"] == "completed":
            copy = {"r2_url": f"{self.gateway.url}/files/{name}.png"}
            if task["read"] and not self.keeps_copies:
                return exchange.refuse(410, "image_already_retrieved", "gone_error", "the image was retrieved already")
            count = task["request"].get("n", 1)
            whole = {"b64_json": base64.b64encode(self.image).decode(), "mime_type": "image/png"}
            document["data"] = [copy if task["read"] else whole | (copy if self.keeps_copies else {})] * count
            document["usage"] = {"input_tokens": 10, "output_tokens": 272, "total_tokens": 282}
            task["read"] = True
        exchange.reply(200, document)

    def get_video(self, exchange: Exchange, name: str) -> None:
        """One GET of a video task."""
        task = self.find(exchange, name, "vgen")
        if task is None:
            return
        document = self.shown(task)
        if task["status"] == "completed":
            document |= {
                "video_url": f"{self.gateway.url}/files/{name}.mp4?signature=loopback",
                "video_url_ttl": 86400,
                "video_url_expires_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 86400)),
                "resolution": task["request"].get("resolution", "480p"),
                "ratio": task["request"].get("ratio", "16:9"),
                "duration": task["request"].get("duration", 5),
                "fps": 24,
                "usage": {"completion_tokens": 48000, "total_tokens": 48000},
            }
        exchange.reply(200, document)

    def list_videos(self, exchange: Exchange) -> None:
        """The video tasks, newest first."""
        items = [self.shown(task) for name, task in self.all.items() if name.startswith("vgen")]
        exchange.reply(200, {"items": items[::-1], "total": len(items)})

    def cancel(self, exchange: Exchange, name: str) -> None:
        """Cancel a video task that has not ended."""
        task = self.find(exchange, name, "vgen")
        if task is None:
            return
        if task["status"] not in ("queued", "processing"):
            return exchange.refuse(409, "cannot_cancel", "conflict_error", f"the task is {task['status']}")
        task["status"] = "cancelled"
        exchange.reply(200, self.shown(task))

    def presign(self, exchange: Exchange) -> None:
        """Hand out a secret upload URL."""
        body = exchange.json
        name = f"upl_{len(self.uploads) + 1:08d}"
        self.uploads[name] = body | {"stored": None}
        needed = {"Content-Type": body["content_type"], "Content-MD5": body["content_md5"]}
        document = {"upload_url": f"{self.gateway.url}/upload/{name}?signature=secret-signature", "method": "PUT"}
        document |= {"required_headers": needed, "upload_id": name, "expires_in": 300, "max_content_length": 50 << 20}
        exchange.reply(200, document)

    def put(self, exchange: Exchange, name: str) -> None:
        """Store an upload whose checksums and length hold, from a client that keeps its key to itself."""
        upload = self.uploads[name]
        data = exchange.body
        md5 = base64.b64encode(hashlib.md5(data).digest()).decode()
        honest = md5 == upload["content_md5"] == exchange.headers["Content-MD5"]
        honest = honest and hashlib.sha256(data).hexdigest() == upload["checksum_sha256"]
        if not honest or len(data) != upload["content_length"] or "Authorization" in exchange.headers:
            return exchange.reply(400, b"<Error>BadDigest</Error>")
        upload["stored"] = data
        exchange.reply(200, b"")

    def file(self, exchange: Exchange, ending: str) -> None:
        """A result's bytes, whole or from a Range on."""
        data = self.image if ending == "png" else self.video
        match = re.fullmatch(r"bytes=(\d+)-", exchange.headers.get("Range", ""))
        start = int(match[1]) if match else 0
        headers = {"Content-Length": str(len(data) - start), "ETag": '"loopback"', "Accept-Ranges": "bytes"}
        if match:
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        exchange.head(206 if match else 200, headers)
        exchange.raw(data[start:])


def _task(method: str, *arguments: str) -> Callable[..., None]:
    return lambda exchange, *groups: getattr(exchange.gateway.tasks, method)(exchange, *arguments, *groups)


ROUTES: Iterable[tuple[str, Callable[..., None]]] = (
    (r"POST /v1/chat/completions", _chat),
    (r"GET /v1/(?:images/|videos/)?models", _models),
    (r"GET /api-account/models", _catalog),
    (r"GET /api-account/models/([^/]+)", _catalog_entry),
    (r"GET /api-account/health/summary", _public(HEALTH)),
    (r"GET /api-account/providers", _public(PROVIDERS)),
    (r"GET /api-account/rankings/all", _public(RANKINGS)),
    (r"POST /v1/images/(?:generations/async|edits|variations)", _task("create", "igen")),
    (r"GET /v1/images/generations/([^/]+)", _task("get_image")),
    (r"POST /v1/videos/generations", _task("create", "vgen")),
    (r"GET /v1/videos/generations", _task("list_videos")),
    (r"GET /v1/videos/generations/([^/]+)", _task("get_video")),
    (r"POST /v1/videos/generations/([^/]+)/cancel", _task("cancel")),
    (r"POST /v1/uploads/presign", _task("presign")),
    (r"PUT /upload/([^/]+)", _task("put")),
    (r"GET /files/[^/]+\.(png|mp4)", _task("file")),
)


def serve(gateway: Gateway, settings: dict[str, str], words: list[str]) -> int:
    """Run one command with `settings`, or, without one, print them and serve. Costs land in a directory of their own."""
    with tempfile.TemporaryDirectory() as state:
        settings = settings | {"XDG_STATE_HOME": state}
        if words:
            environ = {name: value for name, value in os.environ.items() if name != "ALLTOKEN_LEDGER"}
            package = Path(__file__).resolve().parent.parent / "alltoken_call"
            try:
                return subprocess.call([sys.executable, str(package), *words], env=environ | settings)
            except KeyboardInterrupt:
                return 130
        for name, value in settings.items():
            print(f"export {name}={value}", flush=True)
        print("running; Ctrl-C stops it", file=sys.stderr, flush=True)
        try:
            gateway.stopping.wait()
        except KeyboardInterrupt:
            pass
    return 0


def main(words: list[str]) -> int:
    """Serve, or run one command against a gateway of its own."""
    with Gateway(pace=0.03, work=3.0) as gateway:
        gateway.hints = {"next_poll_after_ms": 1000}
        return serve(gateway, {"ALLTOKEN_BASE_URL": gateway.url, "ALLTOKEN_API_KEY": KEY}, words)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
