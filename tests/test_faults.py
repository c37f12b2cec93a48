"""The fault matrix: what goes wrong × the command it strikes → exit status, stdout, what is on disk, how many requests.

Each row is a test method of its own, made from the tables below: a `Fault` says what the gateway (or a bare socket)
does, its rows say how each command takes it. Time is virtual: a pause is over at once, `skip` moves the clock, and
only silence is waited for. After every row, whatever it is about, `World.verify` looks for what must never be.
"""

from __future__ import annotations

import base64
import contextlib
import email.utils
import functools
import glob
import gzip
import io
import itertools
import json
import os
import pathlib
import re
import select
import shlex
import shutil
import socket
import ssl
import struct
import subprocess
import tempfile
import threading
import time
import unittest
import zlib
from collections import Counter
from typing import Any, ClassVar, NamedTuple
from unittest import mock
from urllib.parse import quote

from alltoken_call.calls import tasks
from alltoken_call.cli import main as cli
from alltoken_call.cli.context import Context
from alltoken_call.commands import chat, cost, image, models, video
from alltoken_call.net import clock as net_clock
from alltoken_call.net import response, sse
from alltoken_call.net.chunked import Dechunker
from alltoken_call.store import database, files

from .gateway import CHAT, DONE, KEY, Gateway, Tasks, delta, event, frames, png, raw, refuse, reply, stream
from .harness import MEMORY, PATIENCE, ROOT, Case, Result

BOUND = 8.0  # real seconds that a row may take on a busy machine; each is done in a fraction of one
SUBMIT = "POST /v1/images/generations/async"
GET_IMAGE = "GET /v1/images/generations/igen_00000001"
GET_COPY = "GET /files/igen_00000001.png"
VIDEOS = "/v1/videos/generations"
LARGE = png(noise=200_000)
CLIP = b"\0\0\0\x18ftypmp42" + bytes(200_000)
GET_CLIP = "GET /files/vgen_00000001.mp4"
CATALOG = "GET /api-account/models"
PRICED = ("/gpt-image-2", "/seedance-1.5-pro")


class Command(NamedTuple):
    """A command line, the request of it that a fault strikes, and what it gives when all is well."""

    argv: str
    struck: str
    fields: tuple[str, ...]
    out: str
    disk: str
    requests: int


_IMAGE = "image cat -o OUT/out.png"
_TABLE = r"^model: +gpt-5\.4-mini\n(.+\n){5}$"
COMMANDS = {
    "chat": Command("chat -m gpt-5.4-mini hi", CHAT, chat.FIELDS, r"^This is .* hi\n$", "", 1),
    "search": Command("search hi", CHAT, chat.FIELDS, r"^This is .* hi\n$", "", 1),
    "image": Command(_IMAGE, SUBMIT, image.FIELDS, r"^OUT/out\.png\n$", "out.png", 2),
    "poll": Command(_IMAGE, GET_IMAGE, image.FIELDS, r"^OUT/out\.png\n$", "out.png", 2),
    "resume": Command(
        "image --resume igen_00000001 -o OUT/out.png", GET_IMAGE, image.FIELDS, r"^OUT/out\.png\n$", "out.png", 1
    ),
    "copy": Command(
        "image --resume igen_00000001 -o OUT/out.png", GET_COPY, image.FIELDS, r"^OUT/out\.png\n$", "out.png", 2
    ),
    "edit": Command(
        f"{_IMAGE} --edit SOURCE", "POST /v1/uploads/presign", image.FIELDS, r"^OUT/out\.png\n$", "out.png", 4
    ),
    "put": Command(f"{_IMAGE} --edit SOURCE", "PUT /upload/upl_00000001", image.FIELDS, r"out\.png\n$", "out.png", 4),
    "video": Command("video cat", f"POST {VIDEOS}", video.FIELDS, r"^http://\S+/vgen_00000001\.mp4\S+\n$", "", 2),
    "watch": Command("video cat", f"GET {VIDEOS}/vgen_00000001", video.FIELDS, r"^http://\S+\n$", "", 2),
    "clip": Command("video cat -o OUT/out.mp4", GET_CLIP, video.FIELDS, r"^OUT/out\.mp4\n$", "out.mp4", 3),
    "list": Command("video --list", f"GET {VIDEOS}", video.FIELDS, r"^vgen_00000001  queued .*\n$", "", 1),
    "cancel": Command(
        "video --cancel vgen_00000001", f"POST {VIDEOS}/vgen_00000001/cancel", video.FIELDS, r"^cancelled\n$", "", 1
    ),
    "models": Command("models", "GET /v1/models", models.FIELDS, r"^gpt-5\.4\n(\S+\n)+$", "", 1),
    "long": Command("models -l", CATALOG, models.FIELDS, r"^id +input .*\n(.+\n)+$", "", 1),
    "tell": Command("models gpt-5.4-mini", f"{CATALOG}/gpt-5.4-mini", models.FIELDS, r"^id: +gpt-5\.4-mini\n", "", 1),
    "cost": Command("cost gpt-5.4-mini 10 10", f"{CATALOG}/gpt-5.4-mini", cost.FIELDS, _TABLE, "", 1),
}
ASK = "chat search"
READS = "models long tell cost list cancel"
ALL = " ".join(COMMANDS)


class Row(NamedTuple):
    """What commands make of a fault. `out` is a pattern, of the text under --json; `requests` counts all that came,
    None where there is nobody to count: then the attempts are those that stderr tells of."""

    commands: str
    status: int
    requests: int
    out: str | None = None  # that of a sound run where the status is 0, nothing else
    disk: str | None = None  # likewise; names with * for random digits
    told: str = ""  # a pattern of stderr


class Fault(NamedTuple):
    """What goes wrong: steps of the gateway, or the name of a `Door`. `argv` is added to each command line."""

    name: str
    steps: Any
    rows: tuple[Row, ...]
    argv: str = ""
    patches: tuple[tuple[Any, str, Any], ...] = ()


# Steps.


def own(exchange):
    """What the gateway answers by itself."""
    exchange.gateway._route(exchange)(exchange)


def once(step):
    return (step, own)


def recoded(change, encoding=None, length=len):
    """A step: the gateway's own answer with its body changed, as `encoding`, and with a Content-Length."""

    def step(exchange):
        sent: list[bytes] = []
        exchange.raw = sent.append
        own(exchange)
        del exchange.raw
        head, _, body = b"".join(sent).partition(b"\r\n\r\n")
        if b"Transfer-Encoding" in head:
            body = Dechunker().feed(body)
        body = change(body)
        drop = (b"content-length", b"transfer-encoding")
        lines = [line for line in head.split(b"\r\n") if line.partition(b":")[0].lower() not in drop]
        lines.append(b"Content-Length: %d" % length(body))
        if encoding:
            lines.append(b"Content-Encoding: " + encoding.encode())
        exchange.raw(b"\r\n".join([*lines, b"", body]))

    return step


def half(data):
    return data[: len(data) // 2]


def after(step, start):
    """A step: an event stream that begins with `start`, then whatever `step` sends."""

    def both(exchange):
        exchange.head(chunked=True)
        exchange.chunk(start)
        step(exchange)

    return both


def megabytes(exchange):
    """Four of them, of a line that does not end."""
    for _ in range(4):
        exchange.chunk(b"x" * (1 << 20))


TWO_MEBIBYTES = ((sse.Parser, "__init__", functools.partialmethod(sse.Parser.__init__, limit=2 << 20)),)


def then(data, what):
    """A step: half of the gateway's own answer, then "close", "reset" or "hold"."""

    def step(exchange):
        recoded(half, length=lambda body: 2 * len(body) + 1)(exchange)
        if what != "close":
            getattr(exchange, what)()

    return step


def endless(start, drop):
    """A step: `start`, then `drop` again and again, while the clock runs past every --max-wait."""

    def step(exchange):
        clock = exchange.gateway.clock
        exchange.raw(start)
        while not exchange.gateway.stopping.wait(0.002):
            exchange.raw(drop)
            clock.skip(20.0)

    return step


def large(step):
    """A step: `step`, for an image of some size."""

    def enlarged(exchange):
        exchange.gateway.tasks.image = LARGE
        step(exchange)

    return enlarged


def chunk(data):
    return b"%x\r\n%s\r\n" % (len(data), data)


def redirect(status, location):
    return lambda exchange: exchange.reply(status, b"", {"Location": location.replace("HERE", exchange.gateway.url)})


def closed(exchange):
    """A step: the connection ends without a word."""


def head(*lines: bytes, body: bytes = b"") -> Any:
    return raw(b"\r\n".join([b"HTTP/1.1 200 OK", b"Connection: close", *lines, b"", body]))


def zipped(data):
    return gzip.compress(data, 1)


def broken(data):
    packed = bytearray(zipped(data))
    packed[10:14] = b"\xff\xff\xff\xff"
    return bytes(packed)


def packed_stream(exchange):
    """A step: an event stream that is compressed, whose first delta can be read and whose rest never comes."""
    packer = zlib.compressobj(wbits=31)
    data = packer.compress(event(delta("Hi"))) + packer.flush(zlib.Z_SYNC_FLUSH)
    exchange.head(200, {"Content-Encoding": "gzip", "Content-Length": str(len(data) + exchange.gateway.missing)})
    exchange.raw(data)


HI = event(delta("Hi"))
STREAM = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
BOMB = gzip.compress(b" " * (4 << 20), 9)
LONG_NUMBER = b"1" * 5000
DEEP = b"[" * 100_000
SMALL = ((response.Response.body, "__defaults__", (1 << 20,)),)
NOT_AN_ANSWER = (  # a 2xx that is none of this protocol
    Row(ASK, 3, 1, told="protocol"),
    Row("image", 12, 3, told="unknown_outcome"),
    Row("video", 12, 1, told="--list"),
    Row(READS + " edit", 3, 3, told="protocol"),
)
LOST = (  # a request that left, and no answer
    Row(ASK, 3, 1, told="connection_lost"),
    Row("image", 12, 3, told="unknown_outcome"),
    Row("video", 12, 1, told="--list"),
    Row(READS + " edit", 3, 3, told="connection_lost"),
)
BROKEN = tuple(row._replace(told=row.told.replace("connection_lost", "protocol")) for row in LOST)
UNREACHED = (  # a request that never left
    Row(f"{ASK} image video {READS} edit", 3, 3, told=r"\[error\] (unreachable|timeout)"),
)
SPOOL = "spool.*.json"  # as `World.names_of` writes it
ANSWER = SPOOL

FAULTS = [
    # The connection.
    Fault("refused", "refused", (*UNREACHED, Row("resume", 8, 10, told="--resume igen_00000001")), "--max-wait 40"),
    Fault("blackholed", "blackholed", (Row("chat image video models cost", 3, 3, told="no connection within"),), "--timeout 0.03"),
    Fault("reset before the request is read", "reset", LOST),
    Fault("reset after the request", lambda exchange: exchange.reset(), (*LOST, Row("put", 3, 4))),
    Fault("reset after the request once", once(lambda exchange: exchange.reset()), (
        Row("poll watch", 0, 3), Row("resume", 0, 2), Row("copy", 0, 3), Row("clip", 0, 4), Row("put", 0, 5),
    )),
    Fault("closed without an answer", closed, LOST),
    Fault("closed without an answer once", once(closed), (Row("image", 0, 3), Row("poll watch", 0, 3), Row("models", 0, 2))),
    Fault("silence", lambda exchange: exchange.hold(), (
        Row(ASK, 3, 1, told="timeout"), Row("image", 12, 3), Row("video", 12, 1), Row("models cost list cancel", 3, 3),
        Row("resume", 8, 6, told="--resume"),
    ), "--timeout 0.1 --max-wait 14"),
    Fault("silence once", once(lambda exchange: exchange.hold()), (Row("poll watch", 0, 3), Row("clip", 0, 4)), "--timeout 0.6"),
    Fault("silence inside the text", after(lambda exchange: exchange.hold(), HI), (
        Row(ASK, 9, 1, r"^Hi\n$", told=r"\[error\] timeout"),
    ), "--timeout 0.6"),
    Fault("an error whose body never comes", lambda exchange: [exchange.head(500, {"Content-Length": "99"}), exchange.hold()], (
        Row(ASK, 5, 1, told="http_500"),
    ), "--timeout 0.5"),
    # The clock.
    Fault("headers that drip without end", endless(b"HTTP/1.1 200 OK\r\n", b"X-A: b\r\n"), (
        Row(ASK, 3, 1, told="max_wait"), Row("image video", 12, 1), Row(READS + " edit", 3, 1, told="max_wait"),
        Row("resume", 8, 1, told="--resume igen_00000001"), Row("watch", 8, 2, told="--resume vgen_00000001"),
        Row("copy", 8, 2, disk=ANSWER, told="--resume igen_00000001"), Row("clip", 8, 3, told="--resume vgen_00000001"),
    ), "--max-wait 30"),
    Fault("keep-alives without end", endless(STREAM, chunk(b": keep-alive\n\n")), (Row(ASK, 3, 1, told="max_wait"),), "--max-wait 30"),
    Fault("keep-alives without end inside the text", endless(STREAM + chunk(HI), chunk(b": PING\n\n")), (
        Row(ASK, 9, 1, r"^Hi\n$", told=r"\[error\] max_wait"),
    ), "--max-wait 30"),
    Fault("keep-alives without end behind the finish reason", endless(STREAM + chunk(frames("Hi")), chunk(b": PING\n\n")), (
        Row(ASK, 0, 1, r"^Hi\n$", told=r"\[cost\] unknown"),
    ), "--max-wait 30"),
    Fault("white space without end", endless(STREAM, chunk(b" ")), (
        Row("image video", 12, 1), Row("models cost list", 3, 1, told="max_wait"), Row("watch", 8, 2),
    ), "--max-wait 30"),
    # Answers that are none.
    Fault("103 before the answer", lambda exchange: [exchange.raw(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"), own(exchange)], tuple(
        Row(name, 0, command.requests) for name, command in COMMANDS.items()
    )),
    Fault("204", raw(b"HTTP/1.1 204 No Content\r\n\r\n"), (*NOT_AN_ANSWER, Row("copy", 9, 2, disk=ANSWER))),
    Fault("204 once", once(raw(b"HTTP/1.1 204 No Content\r\n\r\n")), (Row("poll watch", 0, 3), Row("resume", 0, 2))),
    Fault("an empty 200", reply(200, b""), (*NOT_AN_ANSWER, Row("copy", 9, 2, disk=ANSWER))),
    Fault("an empty 200 once", once(reply(200, b"")), (Row("poll watch", 0, 3), Row("resume", 0, 2))),
    Fault("an HTML 200", reply(200, b"<html><h1>Welcome</h1></html>"), (*NOT_AN_ANSWER, Row("copy", 9, 2, disk=ANSWER))),
    Fault("an HTML 200 once", once(reply(200, b"<html><h1>Welcome</h1></html>")), (Row("poll watch", 0, 3),)),
    Fault("an HTML 200 again and again", reply(200, b"<html><h1>Welcome</h1></html>"), (
        Row("resume", 8, 6, told="--resume"), Row("watch", 8, 6, told="--resume"),
    ), "--max-wait 14"),
    Fault("an HTML stream", after(lambda exchange: exchange.end(), b"<html><h1>Welcome</h1></html>\n\n"), (Row(ASK, 3, 1),)),
    Fault("a list of nonsense", reply(200, b'[null, 1, "x", [], {}]'), (
        Row(ASK, 3, 1), Row("image", 12, 3), Row("video", 12, 1), Row("models", 1, 1, told="no_match"), Row("list", 0, 1, r"^$"),
    )),
    # Encodings that were not asked for.
    Fault("gzip unasked for", recoded(zipped, "gzip"), tuple(Row(name, 0, one.requests) for name, one in COMMANDS.items())),
    Fault("deflate unasked for", recoded(zlib.compress, "Deflate"), (Row("chat", 0, 1), Row("poll", 0, 2), Row("models", 0, 1))),
    Fault("gzip cut", recoded(lambda data: half(zipped(data)), "gzip"), (
        Row("image", 12, 2), Row("video", 12, 1), Row("models long tell cost list", 3, 3),
    )),
    Fault("gzip cut inside the image", large(recoded(lambda data: half(zipped(data)), "gzip")), (
        Row("poll", 11, 3, disk=SPOOL, told="kept in"),
    )),
    Fault("gzip cut once", once(recoded(lambda data: half(zipped(data)), "gzip")), (Row("copy", 0, 3), Row("clip", 0, 4))),
    Fault("gzip cut inside the text", packed_stream, (Row(ASK, 9, 1, r"^Hi\n$", told="cut short"),)),
    Fault("gzip broken", recoded(broken, "gzip"), (
        Row(ASK, 3, 1), Row("image", 12, 2), Row("video", 12, 1), Row("models cost list", 3, 3), Row("cancel", 1, 2), Row("copy", 3, 2, disk=ANSWER), Row("clip", 3, 3),
    )),
    Fault("a gzip bomb", reply(200, BOMB, {"Content-Encoding": "gzip"}), (
        Row("chat", 3, 1), Row("image", 12, 3), Row("video", 12, 1), Row("models cost list", 3, 3, told="larger|not a JSON"),
    ), "", SMALL),
    Fault("a gzip bomb as an error", reply(500, BOMB, {"Content-Encoding": "gzip"}), (Row(ASK, 5, 1), Row("models", 5, 3))),
    Fault("an unknown encoding", recoded(lambda data: data[::-1], "br"), (
        Row(ASK, 3, 1), Row("image", 12, 2), Row("video", 12, 1), Row("models long tell cost list", 3, 3),
        Row("copy", 3, 2, disk=ANSWER), Row("clip", 3, 3),
    )),
    Fault("an unknown encoding once", once(recoded(lambda data: data[::-1], "br")), (Row("poll", 11, 3), Row("watch", 0, 3))),
    Fault("402 in an unknown encoding", reply(402, b"?", {"Content-Encoding": "br"}), (Row(f"{ASK} image models list", 6, 1),)),
    Fault("503 in an unknown encoding once", once(reply(503, b"?", {"Content-Encoding": "br"})), (Row(ASK, 0, 2), Row("image", 0, 3))),
    # HTTP that is none.
    Fault("a header of 70 KB", head(b"X: " + b"x" * 70_000, body=b"{}"), NOT_AN_ANSWER),
    Fault("a header of 70 KB once", once(head(b"X: " + b"x" * 70_000, body=b"{}")), (Row("poll watch", 0, 3),)),
    Fault("150 headers", head(*[b"X-%d: x" % n for n in range(150)], body=b"{}"), NOT_AN_ANSWER),
    Fault("150 headers once", once(head(*[b"X-%d: x" % n for n in range(150)], body=b"{}")), (Row("poll watch", 0, 3),)),
    Fault("not HTTP", raw(b"SSH-2.0-OpenSSH_9.6\r\n"), NOT_AN_ANSWER),
    Fault("a status that is no number", raw(b"HTTP/1.1 OK 200\r\n\r\n"), NOT_AN_ANSWER),
    Fault("a Content-Length of 10^14", recoded(bytes, length=lambda _: 10**14), (
        Row(ASK, 0, 1, told=r"\[cost\] \$"), Row("image", 0, 3), Row("video", 12, 1), Row("models long tell cost list", 3, 3),
        Row("poll", 11, 3, disk=SPOOL, told="kept in"),
    )),
    Fault("a Content-Length of 10^14 once", once(recoded(bytes, length=lambda _: 10**14)), (
        Row("models cost list", 0, 2), Row("clip", 0, 4), Row("copy", 0, 3),
    )),
    Fault("a Content-Length of 10^14 before half of the text", head(b"Content-Length: %d" % 10**14, body=HI), (
        Row(ASK, 9, 1, r"^Hi\n$"),
    )),
    Fault("a Content-Length of -5", recoded(bytes, length=lambda _: -5), (Row(f"{ASK} poll watch models cost list", 0, 0),)),
    Fault("a negative chunk size", raw(STREAM + b"-5\r\nhello\r\n0\r\n\r\n"), BROKEN),
    Fault("a garbage chunk size", raw(STREAM + b"zz\r\nhello\r\n0\r\n\r\n"), BROKEN),
    Fault("a garbage chunk size once", once(raw(STREAM + b"zz\r\nhello\r\n0\r\n\r\n")), (
        Row("poll watch", 0, 3), Row("resume", 0, 2), Row("clip", 0, 4), Row("copy", 0, 3),
    )),
    Fault("a chunk size without end", raw(STREAM + b"0" * 99_999), BROKEN),
    Fault("a negative chunk size inside the text", raw(STREAM + chunk(HI) + b"-5\r\nhello\r\n"), (Row(ASK, 9, 1, r"^Hi\n$"),)),
    Fault("a garbage chunk size inside the text", raw(STREAM + chunk(HI) + b"zz\r\nhello\r\n"), (Row(ASK, 9, 1, r"^Hi\n$"),)),
    # Streams.
    Fault("a reset inside the text", stream(HI, "reset"), (Row(ASK, 9, 1, r"^Hi\n$", told="connection_lost"),)),
    Fault("a cut inside the text", stream(HI, "cut"), (Row(ASK, 9, 1, r"^Hi\n$", told="connection_lost"),)),
    Fault("an end without [DONE]", stream(HI), (Row(ASK, 9, 1, r"^Hi\n$", told="connection_lost"),)),
    Fault("a cut behind [DONE]", stream(frames("Hi") + DONE, "cut"), (Row(ASK, 0, 1, r"^Hi\n$", told=r"\[cost\] unknown"),)),
    Fault("an error inside the text", stream(HI, event({"error": {"code": "rate_limited", "message": "no"}})), (
        Row(ASK, 9, 1, r"^Hi\n$", told=r"\[error\] rate_limited"),
    )),
    Fault("an error before the text", stream(event({"error": {"code": "insufficient_balance", "message": "no"}})), (Row(ASK, 6, 1),)),
    Fault("an odd error inside the stream", stream(event({"error": [KEY, {"x": None}]})), (Row(ASK, 5, 1),)),
    Fault("a line over the limit", after(megabytes, b"data: "), (Row("chat", 3, 1, told="protocol"),), patches=TWO_MEBIBYTES),
    Fault("a line over the limit inside the text", after(megabytes, HI + b"data: "), (Row("chat", 9, 1, r"^Hi\n$", told="protocol"),), patches=TWO_MEBIBYTES),
    Fault("a cut line of 4 MB", after(megabytes, b"data: "), (Row("chat", 3, 1, told="connection_lost"),)),
    Fault("a cut line of 4 MB inside the text", after(megabytes, HI + b"data: "), (Row("chat", 9, 1, r"^Hi\n$", told="connection_lost"),)),
    Fault("a line of 9 MB", stream(frames("x" * (9 << 20)) + DONE), (Row("chat", 0, 1, r"^x+\n$"),)),
    Fault("a document of 20 MB", reply(200, b'{"data":[{"id":"one","x":"%s"}]}' % (b"x" * (20 << 20))), (Row("models", 0, 1, r"^one\n$"),)),
    # JSON.
    Fault("100,000 brackets", reply(200, DEEP), NOT_AN_ANSWER),
    Fault("100,000 brackets once", once(reply(200, DEEP)), (Row("poll watch", 0, 3),)),
    Fault("100,000 brackets in a frame", stream(b"data: " + DEEP + b"\n\n"), (Row(ASK, 3, 1),)),
    Fault("100,000 brackets between two deltas", stream(HI + b"data: " + DEEP + b"\n\n" + frames(" you") + DONE), (Row(ASK, 9, 1, r"^Hi you\n$", told="cut short"),)),
    Fault("a number of 5,000 digits", reply(200, b'{"id":%s}' % LONG_NUMBER), (
        Row(ASK, 3, 1), Row("image", 12, 3), Row("video", 12, 1), Row("models list cancel", 3, 3),
    )),
    Fault("a number of 5,000 digits as the usage", stream(HI + b'data: {"choices":[],"usage":{"total_tokens":%s}}\n\n' % LONG_NUMBER + DONE), (
        Row(ASK, 9, 1, r"^Hi\n$", told=r"\[cost\] unknown"),
    )),
    Fault("odd figures", stream(HI + event({"choices": [], "usage": {"prompt_tokens": -1, "completion_tokens": 1e308, "cost": "NaN"}}) + DONE), (
        Row(ASK, 0, 1, r"^Hi\n$", told=r"\[cost\] unknown"),
    )),
    # Images in transit.
    Fault("a cut inside the image", then(half, "close"), (Row("poll", 11, 3, disk=SPOOL, told="kept in"), Row("resume", 11, 2, disk=SPOOL))),
    Fault("a reset inside the image", then(half, "reset"), (Row("poll", 11, 3, disk=SPOOL, told="kept in"),)),
    Fault("silence inside the image", then(half, "hold"), (Row("poll", 11, 3, disk=SPOOL, told="kept in"),), "--timeout 0.6"),
    Fault("a broken chunk inside the image", raw(STREAM + chunk(b'{"status":"completed","data":[{"b64_json":"iVBORw0KGgo') + b"zz\r\n"), (
        Row("watch", 8, 6), Row("resume", 8, 6, disk=SPOOL, told="kept in"),
    ), "--max-wait 14"),
    Fault("a cut inside the image, then nonsense, then 410", (then(half, "close"), reply(200, b"<html>"), own), (
        Row("poll", 11, 4, disk=SPOOL, told="kept in"),
    )),
    Fault("a cut inside the image, then other faults, then 410", (then(half, "close"), closed, refuse(500, "x"), reply(200, {"status": "processing"}), own), (
        Row("poll", 11, 6, disk=SPOOL, told="kept in"),
    )),
    Fault("a cut inside the copy or the clip", once(then(half, "close")), (Row("copy", 0, 3), Row("clip", 0, 4))),
    Fault("a reset inside the copy or the clip", once(then(half, "reset")), (Row("copy", 0, 3), Row("clip", 0, 4))),
    Fault("base64 that is none", recoded(lambda body: body.replace(b'"b64_json": "iVBO', b'"b64_json": "iV!O')), (
        Row("poll", 9, 2, disk=SPOOL, told="not_an_image"),
    )),
    Fault("a duplicate without its task", refuse(409, "duplicate_request"), (Row("image", 12, 1, told="unknown_outcome"),)),
    Fault("a loss, then a duplicate without its task", (closed, refuse(409, "duplicate_request")), (Row("image", 12, 2),)),
    Fault("a loss, then a duplicate", (recoded(lambda _: b"", length=lambda _: 9), own), (Row("image", 0, 3),)),
    Fault("an image that is none", recoded(lambda body: body.replace(b'"b64_json": "iVBO', b'"b64_json": "AAAA')), (
        Row("poll", 9, 2, disk=SPOOL, told="not_an_image"),
    )),
    Fault("a completed task without data", reply(200, {"status": "completed"}), (Row("poll", 11, 2, disk=SPOOL), Row("watch", 3, 2, told="protocol"))),
    # Redirects.
    *(
        Fault(f"a {status}", redirect(status, "HERE/v2/elsewhere"), (Row(f"{ASK} {READS} image resume edit", 3, 1, told=r"\[error\] redirect"),))
        for status in (300, 301, 302, 303, 307, 308)
    ),
    *(
        Fault(f"a {status} to the file", redirect(status, "HERE/files/moved.png"), (Row("copy", 0, 3), Row("clip", 0, 4)))
        for status in (301, 302, 303, 307, 308)
    ),
    Fault("a redirect to itself", redirect(302, ""), (Row(ASK, 3, 1), Row("copy", 3, 2, disk=ANSWER), Row("clip", 3, 3))),
    Fault("a redirect in a circle", redirect(302, "HERE/files/igen_00000001.png?HERE"), (Row("copy", 3, 7, disk=ANSWER, told="redirect"),)),
    Fault("a redirect to file:", redirect(302, "file:///etc/hosts"), (
        Row(f"{ASK} models cost list cancel", 3, 1), Row("copy", 3, 2, disk=ANSWER, told="not https"), Row("clip", 3, 3, told="not https"),
    )),
    Fault("a redirect to a stranger over http", redirect(302, "http://192.0.2.1/x"), (Row("copy", 3, 2, disk=ANSWER, told="not https"), Row("clip", 3, 3))),
    Fault("a redirect to a name and a password", redirect(302, "https://a:b@192.0.2.1/x"), (Row("copy", 3, 2, disk=ANSWER), Row("clip", 3, 3))),
]  # fmt: skip

STATUSES = {400: 1, 401: 4, 402: 6, 403: 4, 404: 1, 409: 1, 410: 11, 422: 1, 429: 7, 500: 5, 502: 5, 503: 5, 504: 5}
BODIES = {
    "nothing": b"",
    "HTML": b"<html><h1>no</h1></html>",
    "truncated JSON": b'{"error":{"code":"x","mess',
    "an array": b'[{"error":{"code":"x"}}]',
    "a string": b'"no"',
    "a number": b"42",
    "null": b"null",
    "brackets": DEEP,
    "1 MB": b"x" * (1 << 20),
}
ODD = json.dumps(
    {"error": {"code": [KEY], "type": f"of {KEY}", "message": f"bad key {KEY}", "request_id": f"req {KEY}"}}
).encode()


def refusals():
    """Every status × every body for chat; for each other command every status with one body after the other."""

    def asked(status):  # 404 is the model's: one request more finds the nearest ones
        return 3 if status in (429, 503) else 2 if status == 404 else 1

    def root(status, name, row):  # HTML with 404: whoever answers there is not the API, and knows of no task
        if (status, name) != (404, "HTML"):
            return row
        if row.commands in ("poll", "watch", "resume"):
            return row._replace(status=8, requests=row.requests + 5, told="--resume")
        return row._replace(status=3, requests=1, told="BASE_URL")

    for (status, ended), (name, body) in itertools.product(STATUSES.items(), BODIES.items()):
        row = root(status, name, Row("chat", ended, asked(status), told=f"http_{status}"))
        yield Fault(f"{status} with {name}", reply(status, body), (row,))
    bodies = itertools.cycle(BODIES.items())
    for status, ended in STATUSES.items():
        passing = status == 429 or status >= 500
        rows = {"search": Row("search", ended, asked(status))}
        rows["image"] = Row("image", 12 if status >= 500 else ended, 3 if passing else asked(status))
        rows["video"] = Row("video", 12 if status >= 500 else ended, 1 if status >= 500 else asked(status))
        for command in (*READS.split(), "edit"):
            rows[command] = Row(command, ended, 3 if passing else 1, told=f"{status}|does not know")
        for command, struck in (("poll", 2), ("watch", 2), ("resume", 1)):
            again = passing or status == 409
            rows[command] = Row(command, 0 if again else ended, struck + again)
        for command, struck in (("copy", 2), ("clip", 3)):
            if passing:
                rows[command] = Row(command, 0, struck + 1)
        for sound in rows.values():
            name, body = next(bodies)
            row = root(status, name, sound)
            steps = once(reply(status, body)) if row.status == 0 else reply(status, body)
            yield Fault(f"{status} with {name}", steps, (row,), "--max-wait 14" if row.status == 8 else "")
        told = r"bad key \[key\]"
        yield Fault(
            f"{status} that quotes the key",
            reply(status, ODD),
            (Row("search", ended, asked(status), told=told),),
        )
        envelope = refuse(status, "some_slug", type="some_error")
        rows = (Row("image", ended, asked(status)), Row("video", ended, 1 if status >= 500 else asked(status)))
        yield Fault(
            f"{status} in an envelope",
            envelope,
            tuple(row._replace(told=f"some_slug .{status} some_error") for row in rows),
        )


def setUpModule():
    patcher = mock.patch.object(tempfile, "tempdir", MEMORY)
    patcher.start()
    unittest.addModuleCleanup(patcher.stop)


class Clock:
    """The real time, and on top of it what was slept and skipped."""

    def __init__(self) -> None:
        self.sleeps: list[float] = []
        self._ahead = 0.0

    def skip(self, seconds: float) -> None:
        self._ahead += seconds

    def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        self.skip(seconds)

    def monotonic(self) -> float:
        return time.monotonic() + self._ahead

    def now(self) -> float:
        return time.time() + self._ahead


class Door:
    """A port behind which there is no HTTP server: "refused", "blackholed" or "reset"."""

    def __init__(self, kind: str) -> None:
        self.came = 0
        self._open = True
        self._kind = kind
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))
        self.url = "http://127.0.0.1:%d" % self._socket.getsockname()[1]
        self._others: list[socket.socket] = []
        self._thread = None
        if kind == "blackholed":
            self._socket.listen(0)
            for _ in range(4):  # the queue is full after one or two; further SYNs get no answer
                other = socket.socket()
                other.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    other.connect(self._socket.getsockname())
                self._others.append(other)
        elif kind == "reset":
            self._socket.listen(8)
            self._thread = threading.Thread(target=self._slam)
            self._thread.start()

    def _slam(self) -> None:
        while self._open:
            if select.select([self._socket], [], [], 0.02)[0]:
                visitor, _ = self._socket.accept()
                select.select([visitor], [], [], PATIENCE)  # what has come is never read
                self.came += 1
                visitor.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                visitor.close()

    def close(self) -> None:
        self._open = False
        if self._thread is not None:
            self._thread.join()
        for one in (self._socket, *self._others):
            one.close()


class World(Case):
    """A gateway, a folder for results, one for what is temporary, a state directory, and a clock."""

    commands = COMMANDS
    address = "ALLTOKEN_BASE_URL"  # the variable with the gateway's
    asides = rf"{CATALOG}({'|'.join(PRICED)})"  # what a run that makes something asks besides
    most_asides = 1

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.shared = Gateway().__enter__()  # one for all rows: to stop it takes as long as a row
        cls.addClassCleanup(cls.shared.__exit__)

    def setUp(self) -> None:
        self.folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.folder)
        self.gateway = self.shared
        self.gateway.requests = []
        self.gateway.tasks = Tasks(self.gateway)
        self.gateway._scripts.clear()
        self.environ = {
            "ALLTOKEN_API_KEY": KEY,
            "ALLTOKEN_BASE_URL": self.gateway.url,
            "XDG_STATE_HOME": os.path.join(self.folder, "state"),
            "HOME": self.folder,
        }
        self.out = os.path.join(self.folder, "out")
        self.state = os.path.join(self.folder, "state", "alltoken-call")
        temporary = os.path.join(self.folder, "tmp")
        for folder in (self.out, temporary):
            os.mkdir(folder)
        self.clock = self.gateway.clock = Clock()
        self.gateway.missing = 0
        self.environ["TMPDIR"] = temporary
        self.patch(tempfile, "tempdir", temporary)
        self.patch(tasks, "GRACE", 0.1)
        self.source = self.file("source.png", self.gateway.tasks.image)
        self.before = set(self.left())
        self.began = time.monotonic()

    def patch(self, place: Any, name: str, value: Any) -> None:
        patcher = mock.patch.object(place, name, value)
        patcher.start()
        self.addCleanup(patcher.stop)

    def task(self, name: str, **fields: Any) -> None:
        """Let the gateway know a task."""
        model = "gpt-image-2" if name.startswith("igen") else "seedance-1.5-pro"
        known = {"id": name, "status": "queued", "model": model, "created_at": "2026-11-01T00:00:00Z", "request": {}}
        self.gateway.tasks.all[name] = known | {"since": time.monotonic(), "read": False} | fields

    def words(self, command: str) -> list[str]:
        """The words of a command of the table, whose task is made where it takes up one."""
        if command == "resume":
            self.task("igen_00000001")
        elif command == "copy":
            self.gateway.tasks.keeps_copies = True
            self.task("igen_00000001", read=True)
        elif command in ("list", "cancel"):
            self.task("vgen_00000001", since=time.monotonic() + 1000)
        line = self.commands[command].argv
        return [word.replace("OUT", self.out).replace("SOURCE", self.source) for word in line.split()]

    def call(self, *argv: str, stdout: Any = "memory", **environ: str | None) -> Result:
        """Run the CLI here, under the virtual clock. `stdout` is a binary file, or None where it is closed."""
        out, err = io.BytesIO(), io.BytesIO()
        buffer = out if stdout == "memory" else stdout
        context = Context(
            stdin=io.TextIOWrapper(io.BytesIO(), "utf-8"),
            stdout=None if buffer is None else io.TextIOWrapper(buffer, "utf-8"),
            stderr=io.TextIOWrapper(err, "utf-8"),
            environ={name: value for name, value in {**self.environ, **environ}.items() if value is not None},
            program=["alltoken-call"],
            clock=net_clock.Clock(
                monotonic=self.clock.monotonic, now=self.clock.now, sleep=self.clock.sleep, chance=lambda: 0.0
            ),
        )
        self.began = time.monotonic()
        status = cli.main(list(argv), context)
        return Result(status, out.getvalue(), err.getvalue(), self.clock.sleeps)

    def left(self) -> list[str]:
        """Every file below the folder but the ledger, the locks, and the ids for completion."""
        found = [os.path.join(place, name) for place, _, names in os.walk(self.folder) for name in names]
        return sorted(
            path for path in found if not os.path.relpath(path, self.state).startswith(("ledger.db", "locks", "models"))
        )

    def new(self) -> list[str]:
        """Every such file that was not there before the run."""
        return [path for path in self.left() if path not in self.before]

    @staticmethod
    def names_of(paths: list[str]) -> list[str]:
        """The names of files, with * for random digits, and a spool called so."""
        names = [re.sub(r"\b[0-9a-f]{32}\b(?=\.[0-9a-f]{8}\.json)", "spool", os.path.basename(path)) for path in paths]
        return [re.sub(r"\b[0-9a-f]{8}\b(?=\.part|\.png|\.json)", "*", name) for name in names]

    def verify(self, result: Result, status: int, disk: str = "", *, known: str = "") -> None:
        """What holds after every run: the status, one error or none, nothing secret, and each file told of.
        `known` names the files that an earlier, killed run has left."""
        self.assertQuietly(status, result)
        self.assertLess(time.monotonic() - self.began, BOUND)
        self.assertNotRegex(result.err, r"\[error\] bug|Exception ignored|(?i:warning: )\w*Error")
        self.assertEqual(
            len(re.findall(r"^\[error\]", result.err, re.MULTILINE)), int(status not in (0, 141)), result.err
        )
        left = self.new()
        self.assertEqual(Counter(self.names_of(left)), Counter(disk.split()), result.err)
        told = result.err + result.out.decode("utf-8", "replace") + json.dumps(known)
        for path in left:
            self.assertTrue(
                os.path.basename(path) in told or re.sub(r"\b[0-9a-f]{8}\b", "*", path) in told or "*" in known,
                (path, told),
            )
        for path in [*left, *glob.glob(os.path.join(self.state, "ledger.db*"))]:
            with open(path, "rb") as file:
                self.assertFalse(KEY.encode() in file.read(), f"the key is in {path}")

    def came(self, count: int, *, runs: int = 1) -> None:
        """Exactly so many requests came, beside one of each run that asks what an image or a video costs; the last
        may still be on its way into the list."""
        until = time.monotonic() + 1.0
        while len(self.gateway.requests) < count and time.monotonic() < until:
            time.sleep(0.001)
        seen = [f"{one.method} {one.path}" for one in self.gateway.requests]
        besides = [one for one in seen if re.fullmatch(self.asides, one)]
        self.assertEqual(len(seen) - len(besides), count, seen)
        self.assertLessEqual(len(besides), runs * self.most_asides)


@functools.cache
def empty_ledger() -> bytes:
    """The file of a ledger without rows."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "ledger.db")
        with database.opened(path, write=True):
            pass
        with open(path, "rb") as file:
            return file.read()


class Rows(World):
    """What runs one row, where a ledger is: to make one takes as long as many a fault."""

    def setUp(self) -> None:
        super().setUp()
        os.makedirs(self.state, 0o700)
        with open(os.path.join(self.state, "ledger.db"), "wb") as file:
            file.write(empty_ledger())

    def check(self, fault: Fault, row: Row, command: str, *, as_json: bool) -> None:
        known = self.commands[command]
        door = None
        words = [*self.words(command), *fault.argv.split(), *(["--json"] if as_json else [])]
        if isinstance(fault.steps, str):
            door = Door(fault.steps)
            self.addCleanup(door.close)
            self.environ[self.address] = door.url
        else:
            self.gateway.on(known.struck, *(fault.steps if isinstance(fault.steps, tuple) else (fault.steps,)))
        for patch in fault.patches:
            self.patch(*patch)
        result = self.call(*words)
        sound = row.status == 0
        disk = (known.disk if sound else "") if row.disk is None else row.disk
        self.verify(result, row.status, disk)
        out = (known.out.replace("OUT", re.escape(self.out)) if sound else "^$") if row.out is None else row.out
        if as_json:
            document = self.document_of(result, *known.fields)
            if "text" in document and out != "^$":
                self.assertRegex(f"{document['text']}\n", out)
            if disk == known.disk and disk:
                self.assertEqual([os.path.basename(path) for path in document["files"]], disk.split())
        else:
            self.assertRegex(result.out.decode(), out)
        if row.told:
            self.assertRegex(result.err, row.told)
        if fault.steps == "reset":
            self.assertEqual(door.came, row.requests)
        elif door is not None:
            self.assertEqual(result.err.count("[retry]") + (row.status != 8), row.requests, result.err)
        else:
            self.came(row.requests or known.requests)


def slug(text: str) -> str:
    return re.sub(r"\W+", "_", text.replace("-5", "minus 5")).strip("_")


def spread(case: type[Rows], faults: Any) -> None:
    """Give a case a test method for each row, by turns as text and as JSON."""

    def add(fault: Fault, row: Row, command: str, as_json: bool) -> None:
        name = f"test_{slug(fault.name)}__{command}_is_{row.status}{'_in_json' * as_json}"
        assert not hasattr(case, name), name
        setattr(case, name, lambda self: self.check(fault, row, command, as_json=as_json))

    turns = itertools.cycle((False, True))
    for fault in faults:
        for row in fault.rows:
            for command in row.commands.split():
                add(fault, row, command, next(turns))


class Wire(Rows):
    """Faults of the connection and of what comes over it."""


class Refusals(Rows):
    """Every error status of the protocol with odd bodies."""


spread(Wire, FAULTS)
spread(Refusals, refusals())


class Values(World):
    """Odd values in an answer that is otherwise sound."""

    AFTER = (  # Retry-After → requests, and the pause before the second
        ("0", 3, 0.0),
        ("7", 3, 7.0),
        (" 7 ", 3, 7.0),
        ("60", 3, 60.0),
        ("61", 1, None),
        ("9" * 4999, 1, None),
        ("-1", 3, 0.375),
        ("+5", 3, 0.375),
        ("1.5", 3, 0.375),
        ("1_0", 3, 0.375),
        ("0x10", 3, 0.375),
        ("\xb2", 3, 0.375),
        ("soon", 3, 0.375),
        ("", 3, 0.375),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 3, 0.0),
        ("Thu, 99 Foo 2026 99:99:99 GMT", 3, 0.375),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 1, None),
        ("in 30 s", 3, 30.0),
    )

    def test_retry_after(self):
        commands = itertools.cycle(("chat", "search", "image", "video", "models", "cost", "list", "cancel"))
        for (given, requests, pause), command in zip(self.AFTER, commands):
            with self.subTest(given[:40], command=command):
                self.gateway.requests.clear()
                self.clock = Clock()
                value = email.utils.formatdate(time.time() + 30, usegmt=True) if given == "in 30 s" else given
                self.gateway.on(COMMANDS[command].struck, refuse(429, "rate_limited", headers={"Retry-After": value}))
                result = self.call(*self.words(command))
                self.verify(result, 7)
                self.came(requests)
                self.assertEqual(result.out, b"")
                if pause is None:
                    self.assertRegex(result.err, r"asks to wait [0-9]+ s")
                else:
                    self.assertEqual(len(self.clock.sleeps), 2)
                    self.assertLessEqual(abs(self.clock.sleeps[0] - pause), 5.0 if "GMT" in value else 0.0)

    def test_an_answer_without_a_tasks_id_is_status_12(self):
        for value in (None, "", " \n", 5, True, [], {}, ["igen_1"], ".", ".."):
            for command, requests in (("image", 3), ("video", 1)):
                with self.subTest(value=value, command=command):
                    self.gateway.requests.clear()
                    self.gateway.on(COMMANDS[command].struck, reply(202, {"id": value, "status": "queued"}))
                    self.verify(self.call(*self.words(command)), 12)
                    self.came(requests)

    IDS = (
        "../../../escaped",
        "/nowhere/escaped",
        "a/b?c=d#e",
        "%2e%2e",
        "two words",
        "igen_1\n[error] forged",
        "\x1b]0;owned\x07\x9b2J\u202e",
        "$(touch owned); `id` 'x' \"y\"",
        "grün",
        "\ud800",
        ".hidden",
        "igen_1.json",
        "~",
        "*",
        "-o",
        "--force",
        "x" * 5000,
    )

    def one_id(self, value: str) -> None:
        """An id that is no plain word: polled, told on one line, and resumed by the line that was told."""
        whole = {"status": "completed", "data": [{"b64_json": base64.b64encode(self.gateway.tasks.image).decode()}]}
        self.gateway.on(SUBMIT, reply(202, {"id": value, "status": "queued"}))
        got = f"GET /v1/images/generations/{quote(value, safe='', errors='replace')}"
        self.gateway.on(got, reply(200, {"id": value, "status": "queued"}))
        result = self.call("image", "cat", "-o", f"{self.out}/out.png", "--max-wait", "1")
        self.verify(result, 8)
        self.came(2)
        self.assertNotRegex(result.err, "[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]")
        self.gateway.on(got, reply(200, whole))
        if "\ud800" in value:
            return  # no UTF-8, so that it is on no record and on no command line
        words = ["image", "--resume"]
        if not re.search("[\x00-\x1f\x7f-\x9f\u202e]", value):  # else it is shown escaped
            words = shlex.split(result.err.splitlines()[-1].rpartition("  # ")[0])[1:]
        self.verify(self.call(*words), 0, "out.png")
        self.came(3, runs=2)

    def test_the_spool_of_an_odd_id_lies_where_spools_lie(self):
        for value in self.IDS:
            with self.subTest(value[:40]):
                shutil.rmtree(os.path.dirname(self.state), ignore_errors=True)
                self.gateway.on(SUBMIT, reply(202, {"id": value, "status": "queued"}))
                got = f"GET /v1/images/generations/{quote(value, safe='', errors='replace')}"
                self.gateway.on(got, reply(200, {"status": "completed", "data": [{"b64_json": "AAAA"}]}))
                result = self.call("image", "cat", "-o", f"{self.out}/out.png")
                self.assertEqual(result.status, 9, result.err)
                (kept,) = self.new()
                self.assertRegex(os.path.relpath(kept, self.state), r"^spool/[0-9a-f]{32}\.[0-9a-f]{8}\.json$")
                self.assertIn(kept, result.err)
                self.assertEqual(os.stat(kept).st_mode & 0o777, 0o600)

    def test_a_key_that_the_gateway_quotes_is_shown_and_kept_nowhere(self):
        for field in ("status", "model", "error", "next_poll_after_ms"):
            for command in ("resume", "watch"):
                with self.subTest(field, command=command):
                    shutil.rmtree(os.path.dirname(self.state), ignore_errors=True)
                    self.gateway.tasks.all.clear()
                    task = {"id": "x", "status": "failed" if field == "error" else "queued"}
                    value = {"code": KEY, "type": KEY, "message": f"no {KEY}"} if field == "error" else KEY
                    self.gateway.on(COMMANDS[command].struck, reply(200, task | {field: value}, {"x-request-id": KEY}))
                    result = self.call(*self.words(command), "-v", "--max-wait", "5")
                    self.verify(result, 10 if field == "error" else 8)

    def test_the_server_of_a_file_knows_no_key_that_it_could_refuse(self):
        for status in (401, 403):
            for command in ("copy", "clip"):
                with self.subTest(status, command=command):
                    shutil.rmtree(os.path.dirname(self.state), ignore_errors=True)
                    self.gateway.tasks.all.clear()
                    self.gateway.on(COMMANDS[command].struck, reply(status, b"<Error>Request has expired</Error>"))
                    result = self.call(*self.words(command))
                    self.assertNotIn(result.status, (0, 4), result.err)
                    self.assertNotIn("ALLTOKEN_API_KEY", result.err)

    def test_values_of_every_type_in_every_place_are_no_bug(self):
        odd = (None, True, -1, 1e308, "", KEY, "\x1b[2J", [], [[]], {}, {"error": {}}, [None, {"id": []}])
        ends = {0, 1, 3, 4, 5, 9, 10, 11, 12, 13}
        for command in ("chat", "models", "long", "tell", "cost", "list", "cancel", "watch", "resume"):
            for value in odd:
                names = ("id", "status", "data", "items", "choices", "usage", "model", "video_url", "pricing", "error")
                document = dict.fromkeys(names, value) | (
                    {"status": "completed"} if command in ("watch", "resume") else {}
                )
                with self.subTest(command, value=value):
                    self.gateway.tasks.all.clear()
                    self.gateway.on(COMMANDS[command].struck, reply(200, document))
                    result = self.call(*self.words(command), "--max-wait", "5", "--json", "-q")
                    self.assertIn(result.status, ends | {8}, result.err)
                    self.assertNotRegex(result.err, r"Traceback|\[error\] bug")
                    self.document_of(result, *COMMANDS[command].fields)
                    for path in self.new():
                        os.unlink(path)


for position, value in enumerate(Values.IDS):
    name = f"test_an_odd_id_is_polled_saved_and_resumed_like_any_other__{position}_{slug(value[:20])}"
    setattr(Values, name, lambda self, value=value: self.one_id(value))


class Streams(World):
    """stdout full, closed or broken: each command, by turns as text and as JSON."""

    def rows(self):
        turns = itertools.cycle(((), ("--json",)))
        for command in (
            "chat",
            "search",
            "image",
            "resume",
            "copy",
            "video",
            "clip",
            "list",
            "cancel",
            "models",
            "long",
            "tell",
            "cost",
        ):
            more = next(turns)
            with self.subTest(command, more=more):
                self.gateway.requests.clear()
                self.gateway.tasks.all.clear()
                self.gateway.tasks.keys.clear()
                shutil.rmtree(os.path.dirname(self.state), ignore_errors=True)
                yield command, [*self.words(command), *more]
                for name in os.listdir(self.out):
                    os.unlink(os.path.join(self.out, name))

    def test_full_is_status_13_and_keeps_what_was_saved(self):
        for command, words in self.rows():
            with open("/dev/full", "wb", buffering=0) as full:
                result = self.call(*words, stdout=full)
                self.verify(result, 13, COMMANDS[command].disk)
                self.came(COMMANDS[command].requests)
                self.assertIn("No space left", result.err)

    def test_closed_is_status_13_before_anything_is_sent(self):
        for _, words in self.rows():
            self.verify(self.call(*words, stdout=None), 13)
            self.came(0)

    def test_broken_is_status_141_and_keeps_what_was_saved(self):
        for command, words in self.rows():
            reader, writer = os.pipe()
            os.close(reader)
            with open(writer, "wb", buffering=0) as pipe:
                result = self.call(*words, stdout=pipe)
                self.verify(result, 141, COMMANDS[command].disk)
                self.came(COMMANDS[command].requests)

    def test_an_image_for_a_full_or_broken_stdout_is_kept_elsewhere(self):
        for path, status in (("/dev/full", 13), ("pipe", 141)):
            with self.subTest(path):
                self.gateway.requests.clear()
                reader, writer = os.pipe()
                os.close(reader)
                with open(writer if path == "pipe" else path, "wb", buffering=0) as file:
                    result = self.call("image", "cat", "-o", "-", stdout=file)
                    if path != "pipe":
                        os.close(writer)
                self.assertEqual(result.status, status, result.err)
                kept = self.new()
                self.assertEqual(len(kept), 1, result.err)
                self.assertEqual(pathlib.Path(kept[0]).read_bytes(), self.gateway.tasks.image)
                if status != 141:
                    self.assertIn(kept[0], result.err)
                os.unlink(kept[0])
                shutil.rmtree(os.path.dirname(self.state), ignore_errors=True)
                self.gateway.tasks.all.clear()


class Surroundings(World):
    """What a process inherits."""

    HOMELESS: ClassVar = {"HOME": None, "XDG_STATE_HOME": None}
    ALONE: ClassVar = HOMELESS | {"TMPDIR": None, "ALLTOKEN_API_KEY": None}
    EMPTY: ClassVar = {"environ": ALONE | {"ALLTOKEN_BASE_URL": None}}
    ASCII: ClassVar = {"environ": {"LC_ALL": "C", "PYTHONIOENCODING": "ascii"}}
    ROWS = (  # name, how it is started, command, status, stdout, disk, requests
        ("stderr closed", {"closed": (2,)}, "image", 0, None, "out.png", 2),
        ("stderr closed", {"closed": (2,)}, "video", 0, None, "", 2),
        ("stderr full", {"full": "stderr"}, "image", 0, None, "out.png", 2),
        ("stderr full", {"full": "stderr"}, "list", 0, None, "", 1),
        ("stdout and stderr closed", {"closed": (1, 2)}, "image", 13, "^$", "", 0),
        ("stdout full", {"full": "stdout"}, "image", 13, "^$", "out.png", 2),
        ("stdout closed", {"closed": (1,)}, "clip", 13, "^$", "", 0),
        ("no environment", EMPTY, "chat", 4, "^$", "", 0),
        ("no environment", EMPTY, "image", 4, "^$", "", 0),
        ("an address alone", {"environ": ALONE}, "cost", 0, None, "", 1),
        ("no home", {"environ": HOMELESS}, "image", 0, None, "out.png", 2),
        ("no home", {"environ": HOMELESS}, "clip", 0, None, "out.mp4", 3),
        ("an ASCII locale", ASCII, "image", 0, None, "out.png", 2),
        ("an ASCII locale", ASCII, "long", 0, None, "", 1),
        ("umask 000", {"umask": 0o000}, "image", 0, None, "out.png", 2),
        ("umask 077", {"umask": 0o077}, "image", 0, None, "out.png", 2),
    )

    def one(self, row):
        name, how, command, status, out, disk, requests = row
        words = self.words(command)
        options = {key: value for key, value in how.items() if key in ("closed", "environ")}
        if "full" in how:
            options[how["full"]] = full = open("/dev/full", "wb")
            self.addCleanup(full.close)
        umask = os.umask(how.get("umask", 0o022))
        self.began = time.monotonic()
        try:
            result = self.execute(*words, **options)
        finally:
            os.umask(umask)
        if "stderr" in name:
            self.assertEqual((result.status, result.err), (status, ""))
            self.assertEqual([os.path.basename(path) for path in self.new()], disk.split())
        else:
            self.verify(result, status, disk)
        self.came(requests)
        out = COMMANDS[command].out.replace("OUT", re.escape(self.out)) if out is None else out
        self.assertRegex(result.out.decode("ascii"), out)
        told = "[warning] the ledger" if name == "no home" else ""
        self.assertEqual(result.err.count("[warning]"), bool(told), result.err)
        self.assertIn(told, result.err)
        if name.startswith("umask"):
            self.assertEqual(os.stat(self.state).st_mode & 0o777, 0o700)
            self.assertEqual(os.stat(os.path.join(self.state, "ledger.db")).st_mode & 0o777, 0o600)
            for path in self.new():
                self.assertEqual(os.stat(path).st_mode & 0o777, 0o666 if name.endswith("000") else 0o600)


for row in Surroundings.ROWS:
    setattr(Surroundings, f"test_{slug(row[0])}__{row[2]}_is_{row[3]}", lambda self, row=row: self.one(row))


class Small(io.FileIO):
    """A file on a disk that has room for so many bytes of it."""

    room = 0

    def write(self, data: Any) -> int:
        if self.tell() + len(data) > self.room:
            raise OSError(28, "No space left on device")
        return super().write(data)


class Disks(World):
    """A full disk at each write."""

    LEDGERS = ("a folder", "/dev/full", "rubbish", "below a file")

    def setUp(self):
        super().setUp()
        self.gateway.tasks.image = LARGE
        self.places = {"state": self.state, "out": self.out, "tmp": os.path.join(self.folder, "tmp")}

    def fill(self, *places: str, room: int = 0) -> None:
        real = files.part_of

        def part_of(path, mode=0o666):
            file, part = real(path, mode)
            if any(os.path.abspath(part).startswith(self.places[place]) for place in places):
                file.close()
                raw_file = Small(part, "r+b")
                raw_file.room = room
                return io.BufferedRandom(raw_file), part
            return file, part

        def write(descriptor, data):
            path = os.readlink(f"/proc/self/fd/{descriptor}")
            if path.startswith(tuple(self.places[place] for place in places)):
                if os.fstat(descriptor).st_size + len(data) > room:
                    raise OSError(28, "No space left on device")
            return real_write(descriptor, data)

        real_write = os.write
        self.patch(files, "part_of", part_of)
        if os.path.exists("/proc/self/fd"):
            self.patch(os, "write", write)

    def breaks(self, name: str, *, below: str, argument: int = 1) -> None:
        """Let an operation of os on a path below a folder fail."""
        real = getattr(os, name)

        def operation(*words, **options):
            if os.path.abspath(words[argument]).startswith(self.places[below]):
                raise OSError(28, "No space left on device")
            return real(*words, **options)

        self.patch(os, name, operation)

    def run_image(self, status: int, disk: str, *more: str, requests: int = 2) -> Result:
        result = self.call("image", "cat", "-o", f"{self.out}/out.png", *more)
        self.verify(result, status, disk)
        self.came(requests)
        images = [path for path in self.new() if path.endswith((".png", ".mp4"))]
        for path in images:
            with open(path, "rb") as file:
                self.assertEqual(file.read(), LARGE)
        return result

    def test_no_room_for_the_spool(self):
        for room in (0, 100_000):
            with self.subTest(room):
                self.gateway.requests.clear()
                self.fill("state", room=room)
                self.run_image(0, "out.png", "--force")

    def test_no_room_for_the_spool_anywhere(self):
        self.fill("state", "out", "tmp", room=len(LARGE) + 1000)
        self.run_image(0, "out.png")

    def test_no_room_for_the_image_beside_its_place(self):
        self.fill("out", room=100_000)
        self.run_image(0, "out.png")

    def test_no_room_for_the_image_anywhere(self):
        self.fill("state", "out", "tmp", room=100_000)
        self.assertIn("cannot_write", self.run_image(13, "").err)

    def test_no_room_beside_the_image_is_found_before_anything_is_sent(self):
        for room in (0, 60_000):
            with self.subTest(room):
                self.fill("out", room=room)
                self.assertIn("cannot_write", self.run_image(13, "", requests=0).err)

    def test_the_spool_cannot_be_synced_or_named(self):
        self.breaks("replace", below="state")
        self.run_image(0, "out.png")

    def test_the_spool_cannot_be_synced(self):
        real = os.fsync

        def fsync(descriptor):
            if ".json." in os.readlink(f"/proc/self/fd/{descriptor}"):
                raise OSError(28, "No space left on device")
            real(descriptor)

        if not os.path.exists("/proc/self/fd"):
            self.skipTest("/proc tells which file it is")
        self.patch(os, "fsync", fsync)
        self.run_image(0, "out.png")

    def test_the_image_cannot_be_put_in_place(self):
        self.breaks("link", below="out")
        result = self.run_image(13, "out-*.png")
        self.assertRegex(result.err, rf"kept in {self.state}/out-[0-9a-f]{{8}}\.png")

    def test_the_image_cannot_be_put_in_place_by_force(self):
        self.breaks("replace", below="out")
        self.run_image(13, "out-*.png", "--force")

    def test_the_image_can_be_put_nowhere_but_stays_where_it_is(self):
        self.breaks("link", below="out")
        self.patch(shutil, "move", mock.Mock(side_effect=OSError(28, "No space left on device")))
        result = self.call("image", "cat", "-o", f"{self.out}/out.png")
        self.verify(result, 13, ".alltoken-*.part")

    def test_the_state_directory_cannot_be_made(self):
        self.environ["XDG_STATE_HOME"] = self.source
        result = self.run_image(0, "out.png")
        self.assertEqual(result.err.count("[warning]"), 1, result.err)

    def test_no_room_for_the_clip(self):
        self.gateway.tasks.video = CLIP
        for room, requests in ((0, 0), (60_000, 0), (100_000, 3)):
            with self.subTest(room):
                self.gateway.requests.clear()
                self.gateway.tasks.all.clear()
                self.fill("out", room=room)
                result = self.call("video", "cat", "-o", f"{self.out}/out.mp4")
                self.verify(result, 13)
                self.came(requests)
                if requests:
                    self.assertRegex(result.err, r"the clip is at http://.*\n(.*\n)*.*--resume vgen_00000001")

    def test_the_clip_cannot_be_put_in_place(self):
        self.breaks("link", below="out")
        result = self.call("video", "cat", "-o", f"{self.out}/out.mp4")
        self.verify(result, 13)
        self.assertIn("the clip is at http://", result.err)

    def test_no_room_for_the_thread(self):
        thread = self.file("thread.json", [{"role": "user", "content": "before"}])
        self.before.add(thread)
        with open(thread, "rb") as file:
            content = file.read()
        full = OSError(28, "No space left on device")
        # The disk is full from the beginning, after the check, and when the new file is put in place.
        for name, effects, asked in (("fsync", (full,), 0), ("fsync", (None, full), 1), ("replace", (full,), 1)):
            with self.subTest(name, asked=asked), mock.patch.object(os, name, side_effect=effects):
                self.gateway.requests.clear()
                result = self.call("chat", "hi", "--thread", thread)
                self.verify(result, 13)
                self.came(asked)
                self.assertEqual(b"echoes: hi\n" in result.out, bool(asked))
                with open(thread, "rb") as file:
                    self.assertEqual(file.read(), content)

    def test_a_ledger_that_cannot_be_used_is_one_warning(self):
        for kind, command in itertools.product(self.LEDGERS, ("chat", "image", "clip")):
            with self.subTest(kind, command=command):
                path = {"a folder": self.out, "below a file": f"{self.source}/ledger.db"}.get(kind, kind)
                if kind == "rubbish":
                    path = self.file("ledger.db", b"rubbish" * 999)
                    self.before.add(path)
                self.gateway.requests.clear()
                self.gateway.tasks.all.clear()
                self.gateway.tasks.keys.clear()
                result = self.call(*self.words(command), "--json", ALLTOKEN_LEDGER=path)
                self.verify(result, 0, COMMANDS[command].disk)
                self.came(COMMANDS[command].requests)
                self.assertEqual(result.err.count("[warning]"), 1, result.err)
                self.assertIn(path, result.err)
                for name in os.listdir(self.out):
                    os.unlink(os.path.join(self.out, name))

    LIMITED = (  # bytes that one file may have (RLIMIT_FSIZE), command, status, disk, requests
        (250_000, "image", 0, "out.png", 2),
        (150_000, "image", 13, "", 2),
        (0, "image", 13, "", 0),
        (100_000, "clip", 13, "", 3),
        (10_000, "clip", 13, "", 0),
        (0, "chat", 0, "", 1),
        (0, "models", 0, "", 1),
    )

    def test_a_limit_of_the_kernel(self):
        script = (
            "import resource, sys\n"
            "sys.dont_write_bytecode = True\n"  # what it would write would be cut
            "room = int(sys.argv.pop(1))\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))\n"
            "from alltoken_call.__main__ import entry\n"
            "entry()\n"
        )
        self.gateway.tasks.video = CLIP
        for room, command, status, disk, requests in self.LIMITED:
            with self.subTest(command, room=room):
                self.gateway.requests.clear()
                self.gateway.tasks.all.clear()
                self.gateway.tasks.keys.clear()
                shutil.rmtree(os.path.dirname(self.state), ignore_errors=True)
                self.began = time.monotonic()
                result = self.execute(str(room), *self.words(command), code=script, cwd=str(ROOT))
                self.verify(result, status, disk)
                self.came(requests)
                for name in os.listdir(self.out):
                    os.unlink(os.path.join(self.out, name))


AUTHORITY = """
[ca]
default_ca = own
[own]
database = {0}/index
serial = {0}/serial
new_certs_dir = {0}
default_md = sha256
policy = any
x509_extensions = extensions
[any]
commonName = supplied
[extensions]
subjectAltName = {1}
basicConstraints = critical, CA:true
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
"""


@unittest.skipUnless(shutil.which("openssl"), "openssl makes the certificates")
class Tls(World):
    """Certificates that are to be trusted, and others."""

    ROWS = (  # certificate, told to trust it, commands, status, what is told
        ("sound", True, "chat image models clip", 0, ""),
        ("sound", False, "chat image video models cost cancel", 3, "not trusted: self.signed"),
        ("other name", True, "chat image video list", 3, "not trusted: .*(mismatch|not valid for)"),
        ("expired", True, "chat image video tell", 3, "not trusted: .*expired"),
    )

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        folder = tempfile.mkdtemp()
        cls.addClassCleanup(shutil.rmtree, folder)
        cls.certificates = {}
        key, request = f"{folder}/key.pem", f"{folder}/request.pem"
        make = "req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=loopback"
        cls.openssl(*make.split(), "-keyout", key, "-out", request)
        for name, host, dates in (
            ("sound", "IP:127.0.0.1", ("20200101000000Z", "20491231000000Z")),
            ("other name", "DNS:other.example", ("20200101000000Z", "20491231000000Z")),
            ("expired", "IP:127.0.0.1", ("20200101000000Z", "20210101000000Z")),
        ):
            place = tempfile.mkdtemp(dir=folder)
            for file, content in (("index", ""), ("serial", "01\n"), ("conf", AUTHORITY.format(place, host))):
                with open(f"{place}/{file}", "w") as stream_:
                    stream_.write(content)
            certificate = f"{place}/certificate.pem"
            sign = f"ca -batch -selfsign -notext -config {place}/conf -keyfile {key} -in {request} -out {certificate}"
            cls.openssl(*sign.split(), "-startdate", dates[0], "-enddate", dates[1])
            cls.certificates[name] = certificate, key

    @staticmethod
    def openssl(*words):
        subprocess.run(["openssl", *words], check=True, capture_output=True, timeout=30)

    def one(self, row, command):
        name, trusted, _, status, told = row
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self.certificates[name])
        secure = Gateway(tls=context).__enter__()
        self.addCleanup(secure.__exit__)
        plain, self.gateway = self.gateway, secure
        secure.clock, secure.missing = plain.clock, 0
        environ = {"ALLTOKEN_BASE_URL": secure.url} | ({"SSL_CERT_FILE": self.certificates[name][0]} if trusted else {})
        self.environ["ALLTOKEN_BASE_URL"] = secure.url
        words = self.words(command)
        self.began = time.monotonic()
        result = self.execute(*words, environ=environ)
        self.verify(result, status, COMMANDS[command].disk if status == 0 else "")
        if told:
            self.assertRegex(result.err, told)
        self.assertNotIn("[retry]", result.err)
        self.came(COMMANDS[command].requests if status == 0 else 0)


for row in Tls.ROWS:
    for command in row[2].split():
        name = f"test_{slug(row[0])}_{'trusted' if row[1] else 'unknown'}__{command}_is_{row[3]}"
        setattr(Tls, name, lambda self, row=row, command=command: self.one(row, command))
