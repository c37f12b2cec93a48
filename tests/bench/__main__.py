"""One table: what alltoken-call takes, as a ratio to the floor or to the naive recipe, measured side by side.

    python3 -m tests.bench [ROW …]

A clean virtual environment's interpreter runs a copy of the package, so that neither shims nor missing bytecode
are measured. The two of a pair run one after the other; a row's ratio is the median of the pairs' ratios.
"""

from __future__ import annotations

import base64
import concurrent.futures
import contextlib
import json
import os
import shutil
import socket
import sqlite3
import ssl
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import venv
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.gateway import COST, DONE, Gateway, delta, frames, png, reply
from tests.store.test_sums import fill

ROOT = Path(__file__).resolve().parents[2]
ENDS = [frames(""), DONE, COST]
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
first = None
while os.read(process.stdout.fileno(), 1 << 20):
    first = first or time.perf_counter() - started
error = process.stderr.read()
if process.wait():
    sys.exit(f"{sys.argv}: status {process.returncode} {error}")
usage = resource.getrusage(resource.RUSAGE_CHILDREN)
print(time.perf_counter() - started, first or 0, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)
"""
NAIVE_IMAGE = """
import base64, json, os, sys, urllib.request
with urllib.request.urlopen(os.environ["ALLTOKEN_BASE_URL"] + "/naive") as response:
    document = json.loads(response.read())
with open(sys.argv[1], "wb") as file:
    file.write(base64.b64decode(document["data"][0]["b64_json"]))
"""

# What SQLite itself takes for the same days, from the same rows, with sums that a float rounds.
NAIVE_SUMS = """
import sqlite3, sys, time
query = "SELECT date(started, 'unixepoch', 'localtime'), count(*), sum(prompt_tokens), sum(completion_tokens), sum(cost)"
query += " FROM calls WHERE started >= ? GROUP BY 1"
for row in sqlite3.connect(sys.argv[1]).execute(query, (time.time() - 365 * 86400,)):
    print(*row)
"""


class Server:
    """Answers every POST with the same bytes, sent by `send`, from a thread of its own."""

    def __init__(self, send: Callable[[socket.socket], None], tls: ssl.SSLContext | None = None) -> None:
        self._send = send
        self._tls = tls
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _wrapped(self, connection: socket.socket) -> socket.socket:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return self._tls.wrap_socket(connection, server_side=True) if self._tls else connection

    def _serve(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            with contextlib.suppress(OSError), self._wrapped(connection) as connection:
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


def _whole(answer: bytes) -> Callable[[socket.socket], None]:
    return lambda connection: connection.sendall(answer)


class Run:
    """What one process took: seconds of wall clock, until its first byte, and of CPU, and MiB of peak memory."""

    def __init__(self, figures: str) -> None:
        self.wall, self.first, self.cpu, self.memory = map(float, figures.split())


class Bench:
    """A clean interpreter, a copy of the package, and the table."""

    def __init__(self, folder: Path) -> None:
        venv.create(folder / "venv", with_pip=False)
        self.folder = folder
        self.python = str(folder / "venv" / "bin" / "python")
        self.package = str(folder / "alltoken_call")
        shutil.copytree(ROOT / "alltoken_call", self.package, ignore=shutil.ignore_patterns("__pycache__"))
        self.environ = {
            "PATH": os.environ["PATH"],
            "ALLTOKEN_API_KEY": "bench",
            "XDG_STATE_HOME": str(folder / "state"),
        }
        self.script = str(folder / "alltoken-call")  # as an installation has it
        Path(self.script).write_text(
            "import sys\nfrom alltoken_call.__main__ import entry\nsys.exit(entry())\n", "utf-8"
        )
        self.ours = [self.python, self.package, "chat", "-q", "hi"]
        self.naive = [self.python, "-c", NAIVE]

    def run(self, *command: str, **environ: str) -> Run:
        """Run a command to its end; its stdout goes to a pipe."""
        process = subprocess.run(
            [self.python, "-c", MEASURE, *command],
            env=self.environ | environ,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        return Run(process.stdout)

    def growth(self, name: str, ours: list[str], units: float, unit: str, **environ: str) -> None:
        """One row: what each unit of the work takes of the CPU."""
        runs = [self.run(*ours, **environ) for _ in range(3)]
        cpu, memory = statistics.median(run.cpu for run in runs), max(run.memory for run in runs)
        print(f"{name:<30}{cpu / units * 1000:9.2f} ms CPU per {unit:<34}{memory:6.1f} MiB", flush=True)

    def compare(
        self,
        name: str,
        ours: list[str],
        theirs: list[str],
        baseline: str,
        what: str = "wall",
        rounds: int = 25,
        **environ: str,
    ) -> None:
        """One row: the medians of both, run in turns after a first run that writes the bytecode."""
        for command in (ours, theirs):
            self.run(*command, **environ)
        pairs = [(self.run(*ours, **environ), self.run(*theirs, **environ)) for _ in range(rounds)]
        memory = [max(pair[side].memory for pair in pairs) for side in (0, 1)]
        took = [(getattr(a, what), getattr(b, what)) for a, b in pairs]
        self.row(name, took, baseline, f"{memory[0]:6.1f} MiB ({memory[1]:.1f})")

    @staticmethod
    def row(name: str, pairs: list[tuple[float, float]], baseline: str, memory: str = "") -> None:
        """Print a row: the medians of ours and of theirs in milliseconds, and that of the pairs' ratios."""
        ours, theirs = (statistics.median(pair[side] for pair in pairs) * 1000 for side in (0, 1))
        ratio = statistics.median(a / b for a, b in pairs)
        print(f"{name:<30}{ours:9.2f} ms {ratio:6.2f} × {baseline:<20}{theirs:9.2f} ms  {memory}", flush=True)


def startup(bench: Bench) -> None:
    """--version and --help against an interpreter that does nothing, installed and from the folder.

    From a folder Python itself does more (runpy): the row of an empty program in a folder shows how much.
    """
    nothing = [bench.python, "-c", "pass"]
    empty = bench.folder / "empty"
    empty.mkdir()
    (empty / "__main__.py").touch()
    for command in (["--version"], ["chat", "--help"]):
        name = " ".join(command)
        bench.compare(f"{name}, installed", [bench.python, bench.script, *command], nothing, "python3 -c pass")
        bench.compare(f"{name}, a folder", [bench.python, bench.package, *command], nothing, "python3 -c pass")
    bench.compare("nothing, a folder", [bench.python, str(empty)], nothing, "python3 -c pass")


def short(bench: Bench) -> None:
    """A chat of twelve tokens: whole, until its first byte, and the ledger's share of it."""
    url = Server(_whole(chunked([frames(*["token "] * 12), DONE, COST]))).url
    installed = [bench.python, bench.script, "chat", "-q", "hi"]
    bench.compare("short chat, installed", installed, bench.naive, "naive urllib loop", ALLTOKEN_BASE_URL=url)
    bench.compare("short chat, a folder", bench.ours, bench.naive, "naive urllib loop", ALLTOKEN_BASE_URL=url)
    bench.compare("its first byte", bench.ours, bench.naive, "naive urllib loop", "first", ALLTOKEN_BASE_URL=url)
    without = ["env", "ALLTOKEN_LEDGER=off", *bench.ours]
    bench.compare("with the ledger", ["env", *bench.ours], without, "without", ALLTOKEN_BASE_URL=url)
    if curl := shutil.which("curl"):
        command = [curl, "-sN", "-d", "{}", f"{url}/v1/chat/completions"]
        bench.compare("short chat", bench.ours, command, "curl", ALLTOKEN_BASE_URL=url)


def tls(bench: Bench) -> None:
    """The same over TLS, with the platform's certificates and one more to trust."""
    if not shutil.which("openssl"):
        return print("short chat over TLS: openssl is not installed")
    key, certificate = (str(bench.folder / name) for name in ("key.pem", "cert.pem"))
    request = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    request += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate]
    subprocess.run(request, check=True, capture_output=True)
    hashed = subprocess.run(["openssl", "x509", "-hash", "-noout", "-in", certificate], check=True, capture_output=True)
    trusted = bench.folder / "certs"
    trusted.mkdir()
    shutil.copy(certificate, trusted / f"{hashed.stdout.decode().strip()}.0")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    url = Server(_whole(chunked([frames(*["token "] * 12), DONE, COST])), context).url
    environ = {"ALLTOKEN_BASE_URL": url, "SSL_CERT_DIR": str(trusted)}
    bench.compare("short chat over TLS", bench.ours, bench.naive, "naive urllib loop", **environ)


def token(bench: Bench) -> None:
    """From a token's leaving the server to its arrival behind our stdout, one at a time."""
    ours, naive = (list(_round_trips(bench, command)) for command in (bench.ours, bench.naive))
    bench.row("a token's way through", list(zip(ours, naive)), "naive urllib loop")


def _round_trips(bench: Bench, command: list[str]) -> Iterator[float]:
    sent: list[float] = []
    arrived = threading.Semaphore(0)

    def send(connection: socket.socket) -> None:
        connection.sendall(chunked([])[: -len(b"0\r\n\r\n")])
        piece = b"data: " + json.dumps(delta("token ")).encode() + b"\n\n"
        for _ in range(300):
            sent.append(time.perf_counter())
            connection.sendall(b"%x\r\n%s\r\n" % (len(piece), piece))
            if not arrived.acquire(timeout=10):
                return
        connection.sendall(chunked(ENDS).partition(b"\r\n\r\n")[2])

    environ = bench.environ | {"ALLTOKEN_BASE_URL": Server(send).url}
    with subprocess.Popen(command, env=environ, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        for _ in range(300):
            os.read(process.stdout.fileno(), 64)
            yield time.perf_counter() - sent[-1]
            arrived.release()


def long(bench: Bench) -> None:
    """100,000 chunks, 24 MB, each in an HTTP chunk of its own, and 64 KiB at a time; then what a chunk takes in
    answers of 1,000 to 1,000,000."""
    event = b"data: " + json.dumps(delta("word ") | {"system_fingerprint": "x" * 40}).encode() + b"\n\n"
    body = event * 100_000
    in_blocks = [body[at : at + 65536] for at in range(0, len(body), 65536)]
    for name, pieces in (("100,000 chunks", [event] * 100_000), ("the same in 64 KiB pieces", in_blocks)):
        url = Server(_whole(chunked([*pieces, *ENDS]))).url
        bench.compare(name, bench.ours, bench.naive, "naive urllib loop", rounds=9, ALLTOKEN_BASE_URL=url)
    for count in (1_000, 10_000, 100_000, 1_000_000):
        url = Server(_whole(chunked([event] * count + ENDS))).url
        bench.growth(f"{count:,} chunks", bench.ours, count / 1000, "1,000 chunks", ALLTOKEN_BASE_URL=url)


def image(bench: Bench) -> None:
    """A 30 MB image: CPU and memory against read, json.loads and b64decode; then what a MB takes in larger ones."""
    with Gateway() as gateway:
        target = str(bench.folder / "image.png")
        ours = [bench.python, bench.package, "image", "-q", "--force", "-o", target, "x"]
        theirs = [bench.python, "-c", NAIVE_IMAGE, target]
        url = gateway.url
        for megabytes in (30, 1, 10, 100):
            gateway.tasks.image = png(noise=megabytes << 20)
            if megabytes == 30:
                encoded = base64.b64encode(gateway.tasks.image).decode()
                gateway.on("GET /naive", reply(200, {"status": "completed", "data": [{"b64_json": encoded}]}))
                name, baseline = "a 30 MB image (CPU)", "json.loads, b64decode"
                bench.compare(name, ours, theirs, baseline, "cpu", ALLTOKEN_BASE_URL=url)
            bench.growth(f"an image of {megabytes} MB", ours, megabytes, "MB", ALLTOKEN_BASE_URL=url)


def parallel(bench: Bench) -> None:
    """256 runs, some at once, that write one ledger: a new one, and one of 1,000,000 rows."""
    url = Server(_whole(chunked([frames(*["token "] * 12), DONE, COST]))).url
    large = str(bench.folder / "large.db")
    fill(large, 1_000_000)
    for count, path in ((1, "new.db"), (8, "new.db"), (32, "new.db"), (64, "new.db"), (64, large)):
        environ = bench.environ | {"ALLTOKEN_BASE_URL": url, "ALLTOKEN_LEDGER": str(bench.folder / path)}
        before = _rows(environ["ALLTOKEN_LEDGER"])
        pairs = [tuple(_at_once(command, count, environ) for command in (bench.ours, bench.naive)) for _ in range(3)]
        lost = 3 * 256 - (_rows(environ["ALLTOKEN_LEDGER"]) - before)
        name = f"256 runs, {count} at once" + (", 1M rows" if path is large else "")
        bench.row(name, pairs, "naive urllib loop", f"{lost} rows lost")  # type: ignore[arg-type]  # two of two


def _at_once(command: list[str], count: int, environ: dict[str, str]) -> float:
    """Seconds that 256 runs take, so many at once. None may say a word on stderr."""

    def run(_number: int) -> None:
        ended = subprocess.run(command, env=environ, stdin=subprocess.DEVNULL, capture_output=True, check=True)
        if ended.stderr:
            sys.exit(f"{command}: {ended.stderr!r}")

    begun = time.perf_counter()
    with concurrent.futures.ThreadPoolExecutor(count) as pool:
        list(pool.map(run, range(256)))
    return time.perf_counter() - begun


def _rows(path: str) -> int:
    with contextlib.closing(sqlite3.connect(path)) as database, contextlib.suppress(sqlite3.OperationalError):
        count: int = database.execute("SELECT count(*) FROM calls").fetchone()[0]
        return count
    return 0


def ledger(bench: Bench) -> None:
    """What 1,000,000 calls of a year cost: the last one, those of a day, and day by day against the bare query."""
    path = str(bench.folder / "ledger.db")
    fill(path, 999_999, step=365 * 86400 / 1e6)
    cost = [bench.python, bench.package, "cost"]
    day = [*cost, "--since", "24h"]
    bench.compare("cost --since 24h", day, cost, "cost of the last call", ALLTOKEN_LEDGER=path)
    ours = [*cost, "--since", "365d", "--by", "day"]
    theirs = [bench.python, "-c", NAIVE_SUMS, path]
    bench.compare("cost --since 365d --by day", ours, theirs, "the bare query", rounds=5, ALLTOKEN_LEDGER=path)


ROWS: dict[str, Callable[[Bench], None]] = {
    "startup": startup,
    "short": short,
    "tls": tls,
    "token": token,
    "long": long,
    "image": image,
    "parallel": parallel,
    "ledger": ledger,
}


def main(names: list[str]) -> int:
    """Print the rows that are named, or all."""
    for name in names:
        if name not in ROWS:
            print(f"there is no row {name!r}: {', '.join(ROWS)}")
            return 2
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder))
        print(f"{'':<30}{'ours':>12} {'ratio':>6}   {'to':<20}{'theirs':>12}  peak memory (theirs)")
        for name in names or ROWS:
            ROWS[name](bench)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
