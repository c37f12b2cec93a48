"""Processes of the CLI that are forked from one that has everything loaded: a start costs 5 ms instead of 100.

A `Forked` is a `subprocess.Popen` in all but its birth. `server` is started before the workers of the tests, which
share it, or by the first of them where there are no workers; it gets the standard streams of each over a socket, forks, and tells how each has ended over a pipe of its own.
How a fresh interpreter starts is for test_door and test_process, which use none.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import importlib
import io
import json
import multiprocessing
import multiprocessing.util
import os
import pkgutil
import select
import signal
import socket
import struct
import subprocess
import sys
import time
import traceback
from typing import Any

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PACKAGE = os.path.join(ROOT, "alltoken_call")
POSSIBLE = sys.platform.startswith("linux")
_lock = multiprocessing.Lock()  # held from a task to the pid that answers it
_servers: dict[int, tuple[socket.socket, subprocess.Popen]] = {}  # by user


class Forked(subprocess.Popen):
    """A process that runs `code`, or else the CLI, with `args` as its words; the descriptors `closed` are closed."""

    code: str | None

    def __init__(
        self, args: list[str], *, code: str | None = None, closed: tuple[int, ...] = (), **options: Any
    ) -> None:
        self.code = code
        self.closed = closed
        super().__init__(args, **options)

    def _execute_child(self, args: Any, _executable: Any, *rest: Any) -> None:  # type: ignore[override]
        cwd, environ = rest[3:5]
        pipes = rest[8:14]
        umask = os.umask(0)
        os.umask(umask)
        task = {"argv": args, "code": self.code, "cwd": cwd or os.getcwd(), "environ": environ, "umask": umask}
        task["closed"] = self.closed
        data = json.dumps(task).encode()
        reader, writer = os.pipe()
        streams = [given if given >= 0 else own for own, given in enumerate((pipes[0], pipes[3], pipes[5]))]
        try:
            with _lock:
                door = _server()
                socket.send_fds(door, [struct.pack("i", len(data))], [*streams, writer])
                door.sendall(data)
                self.pid = struct.unpack("i", door.recv(4))[0]  # it fails if the server has died
        finally:
            os.close(writer)
            self._close_pipe_fds(*pipes)
        self._child_created = True
        self._ending: int | None = reader

    def _try_wait(self, wait_flags: int) -> tuple[int, int]:
        patience = 0 if wait_flags & os.WNOHANG else None
        if self._ending is None or not select.select([self._ending], [], [], patience)[0]:
            return 0, 0
        data = os.read(self._ending, 4)
        os.close(self._ending)
        self._ending = None
        return self.pid, struct.unpack("i", data)[0] if data else 1 << 8

    def _internal_poll(self, *_: Any, **__: Any) -> int | None:
        if self.returncode is None:
            pid, status = self._try_wait(os.WNOHANG)
            if pid:
                self._handle_exitstatus(status)
        return self.returncode


def begin() -> None:
    """Start the server that this process and its forks share."""
    if POSSIBLE:
        with _lock:
            _server()


def _server() -> socket.socket:
    """The socket of this user's server."""
    key = os.geteuid()
    if key not in _servers:
        ours, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, "-S", os.path.abspath(__file__), str(theirs.fileno())]
            process = subprocess.Popen(command, env={}, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)
        _servers[key] = ours, process  # a fork must not drop what it is no parent of
        multiprocessing.util.Finalize(None, _end, (ours, process), exitpriority=1)  # a worker of a pool runs it, too
    return _servers[key][0]


def _end(door: socket.socket, process: subprocess.Popen) -> None:
    door.shutdown(socket.SHUT_RDWR)  # others may have it, too
    door.close()
    process.wait()


def server(descriptor: int) -> None:
    """Fork what is asked for, until the other end is closed."""
    sys.path[0] = ROOT
    import alltoken_call

    for found in pkgutil.walk_packages(alltoken_call.__path__, "alltoken_call."):
        with contextlib.suppress(Exception):  # who uses it will see what is wrong with it
            importlib.import_module(found.name)
    for name in ("sqlite3", "http.client", "ssl", "decimal", "difflib", "datetime", "email.utils", "shlex", "hashlib"):
        importlib.import_module(name)
    with contextlib.suppress(Exception):
        _warm_up()
    gc.collect()
    gc.freeze()
    door = socket.socket(fileno=descriptor)
    running: dict[int, int] = {}  # the pipes by pid
    wake, waker = os.pipe()
    os.set_blocking(waker, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
    while True:
        ready = select.select([door, wake], [], [])[0]
        if wake in ready:
            os.read(wake, 4096)
            _reap(running)
        if door in ready:
            head, descriptors, _, _ = socket.recv_fds(door, 4, 4)
            if not head:
                return
            left = struct.unpack("i", head)[0]
            data = b""
            while len(data) < left:
                data += door.recv(left - len(data))
            pid = os.fork()
            if not pid:
                _become(json.loads(data), descriptors)
            running[pid] = descriptors.pop()
            for one in descriptors:
                os.close(one)
            door.sendall(struct.pack("i", pid))


def _warm_up() -> None:
    """Run what each child would run for its first time: expressions are compiled then, and code is specialized.
    Nobody listens at the address."""
    from alltoken_call.cli import main as cli
    from alltoken_call.cli.context import Context
    from alltoken_call.net.clock import Clock

    cli.command_parser = functools.cache(cli.command_parser)
    environ = {"ALLTOKEN_API_KEY": "key", "ALLTOKEN_BASE_URL": "http://127.0.0.1:9", "ALLTOKEN_LEDGER": "off"}
    for line in ("chat x", "chat x --json --dry-run", "image x", "video x", "models", "search x", "cost"):
        out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8") for _ in range(2))
        clock = Clock(sleep=lambda _: None)
        context = Context(stdin=None, stdout=out, stderr=err, environ=environ, program=["x"], clock=clock)
        cli.main(line.split(), context)


def _reap(running: dict[int, int]) -> None:
    while running:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if not pid:
            return
        pipe = running.pop(pid)
        with contextlib.suppress(OSError):  # nobody waits any more
            os.write(pipe, struct.pack("i", status))
        os.close(pipe)


def _become(task: dict[str, Any], descriptors: list[int]) -> None:
    """Be a process that has just been started."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in range(3):
        os.dup2(descriptors[number], number)
    os.closerange(3, max(descriptors) + 64)
    os.chdir(task["cwd"])
    os.umask(task["umask"])
    os.environ.clear()
    os.environ.update(task["environ"])
    time.tzset()
    sys.argv[:] = task["argv"]
    for name in ("stdin", "stdout", "stderr"):
        setattr(sys, name, _stream(name, getattr(sys, name)))
    for number in task["closed"]:  # an interpreter that finds it closed has no such stream
        os.close(number)
        setattr(sys, ("stdin", "stdout", "stderr")[number], None)
    status = 1
    try:
        if task["code"] is None:
            from alltoken_call.__main__ import entry

            entry()
        else:
            exec(compile(task["code"], "<string>", "exec"), {"__name__": "__main__", "__builtins__": __builtins__})
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        except (OSError, ValueError):
            status = 120
        os._exit(status & 255)


def _stream(name: str, like: Any) -> io.TextIOWrapper:
    """A standard stream as an interpreter makes it at its start; `like` is that of the server."""
    number = ("stdin", "stdout", "stderr").index(name)
    raw = io.FileIO(number, "r" if number == 0 else "w", closefd=False)
    buffer: Any = io.BufferedReader(raw) if number == 0 else io.BufferedWriter(raw)
    lines = number == 2 or (number == 1 and raw.isatty())
    return io.TextIOWrapper(buffer, like.encoding, like.errors, None if number == 0 else "\n", line_buffering=lines)


if __name__ == "__main__":
    server(int(sys.argv[1]))
