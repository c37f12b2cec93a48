"""One table: what alltoken-call takes, as a ratio to the floor or to the naive recipe, measured side by side.

    python3 -m tests.bench [ROW …]

A clean virtual environment's interpreter runs a copy of the package, so that neither shims nor missing bytecode
are measured. Each pair is run in turns, and the medians are compared.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import venv
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.gateway import COST, DONE, delta, frames

ROOT = Path(__file__).resolve().parents[2]
NAIVE = """
import json, os, sys, urllib.request
body = {"model": "gpt-5.4-mini", "messages": [{"role": "user", "content": "hi"}], "stream": True}
request = urllib.request.Request(
    os.environ["ALLTOKEN_BASE_URL"] + "/v1/chat/completions",
    json.dumps(body).encode(),
    {"Authorization": "Bearer " + os.environ["ALLTOKEN_API_KEY"], "Content-Type": "application/json"},
)
with urllib.request.urlopen(request) as response:
    while line := response.readline():
        if line.startswith(b"data: {"):
            for choice in json.loads(line[6:])["choices"]:
                sys.stdout.write(choice["delta"].get("content") or "")
                sys.stdout.flush()
"""

# A process's peak memory counts what it was forked from, so a small one does the measuring.
MEASURE = """
import os, resource, subprocess, sys, time
started = time.perf_counter()
process = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
while os.read(process.stdout.fileno(), 1 << 20):
    pass
error = process.stderr.read()
if process.wait():
    sys.exit(f"{sys.argv}: status {process.returncode} {error}")
usage = resource.getrusage(resource.RUSAGE_CHILDREN)
print(time.perf_counter() - started, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)
"""


class Server:
    """Answers every POST with the same bytes, sent by `send`, from a thread of its own."""

    def __init__(self, send: Callable[[socket.socket], None]) -> None:
        self._send = send
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            with connection, contextlib.suppress(OSError):
                data = b""
                while b"\r\n\r\n" not in data:
                    data += connection.recv(65536)
                head, _, body = data.partition(b"\r\n\r\n")
                length = next(
                    (int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0
                )
                while len(body) < length:
                    body += connection.recv(65536)
                self._send(connection)


def chunked(pieces: list[bytes]) -> bytes:
    """An event stream in the chunked transfer coding, a chunk for each piece."""
    head = (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    )
    return head + b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in [*pieces]) + b"0\r\n\r\n"


class Bench:
    """A clean interpreter, a copy of the package, and the rows of the table."""

    def __init__(self, folder: Path) -> None:
        venv.create(folder / "venv", with_pip=False)
        self.python = str(folder / "venv" / "bin" / "python")
        self.package = str(folder / "alltoken_call")
        shutil.copytree(ROOT / "alltoken_call", self.package, ignore=shutil.ignore_patterns("__pycache__"))
        self.environ = {
            "PATH": os.environ["PATH"],
            "ALLTOKEN_API_KEY": "bench",
            "XDG_STATE_HOME": str(folder / "state"),
        }

    def run(self, *words: str, url: str = "") -> tuple[float, float, float]:
        """Seconds of wall clock and of CPU, and MiB of peak memory, of one process; its stdout goes to a pipe."""
        process = subprocess.run(
            [self.python, "-c", MEASURE, self.python, *words],
            env=self.environ | {"ALLTOKEN_BASE_URL": url},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        wall, cpu, memory = map(float, process.stdout.split())
        return wall, cpu, memory

    def compare(
        self, name: str, ours: list[str], theirs: list[str], baseline: str, url: str = "", rounds: int = 15
    ) -> None:
        """One row: the medians of both, run in turns after a first run that writes the bytecode."""
        for words in (ours, theirs):
            self.run(*words, url=url)
        pairs = [(self.run(*ours, url=url), self.run(*theirs, url=url)) for _ in range(rounds)]
        wall = [statistics.median(pair[side][0] for pair in pairs) for side in (0, 1)]
        memory = [max(pair[side][2] for pair in pairs) for side in (0, 1)]
        ratio = f"{wall[0] / wall[1]:5.2f}"
        print(
            f"{name:<28}{wall[0] * 1000:9.1f} ms{ratio:>8} × {baseline:<18}{memory[0]:6.1f} MiB ({memory[1]:.1f})",
            flush=True,
        )

    def chat(self, name: str, send: Callable[[socket.socket], None], rounds: int = 15) -> None:
        """A row that compares our chat with the naive loop."""
        url = Server(send).url
        self.compare(name, [self.package, "chat", "-q", "hi"], ["-c", NAIVE], "naive urllib loop", url, rounds)


def startup(bench: Bench) -> None:
    """--version and --help against an interpreter that does nothing."""
    bench.compare("--version", [bench.package, "--version"], ["-c", "pass"], "python3 -c pass")
    bench.compare("chat --help", [bench.package, "chat", "--help"], ["-c", "pass"], "python3 -c pass")


def short(bench: Bench) -> None:
    """A chat of twelve tokens."""
    answer = chunked([frames(*["token "] * 12), DONE, COST])
    bench.chat("short chat", lambda connection: connection.sendall(answer), rounds=25)


def long(bench: Bench) -> None:
    """100,000 chunks, 24 MB, each in an HTTP chunk of its own, and 64 KiB at a time."""
    event = b"data: " + json.dumps(delta("word ") | {"system_fingerprint": "x" * 40}).encode() + b"\n\n"
    answer = chunked([event] * 100_000 + [frames("", usage=None), DONE, COST])
    bench.chat(f"100,000 chunks ({len(answer) >> 20} MiB)", lambda connection: connection.sendall(answer), rounds=5)
    body = event * 100_000
    answer = chunked([body[at : at + 65536] for at in range(0, len(body), 65536)] + [frames(""), DONE, COST])
    bench.chat("the same in 64 KiB pieces", lambda connection: connection.sendall(answer), rounds=5)


ROWS: dict[str, Callable[[Bench], None]] = {"startup": startup, "short": short, "long": long}


@contextlib.contextmanager
def clean_folder() -> Iterator[Path]:
    """A folder of our own under the temporary directory."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def main(names: list[str]) -> int:
    """Print the rows that are named, or all."""
    for name in names:
        if name not in ROWS:
            print(f"there is no row {name!r}: {', '.join(ROWS)}")
            return 2
    with clean_folder() as folder:
        bench = Bench(folder)
        print(f"{'':<28}{'ours':>12}{'ratio':>8}   {'to':<18}{'peak (theirs)':>10}")
        for name in names or ROWS:
            ROWS[name](bench)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
