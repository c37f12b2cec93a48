"""What a command is given instead of `sys`, `os.environ` and `time`: streams, environment, clock, signals.

Tests hand in their own. The process's own context is made once, in `Context.of_process`.
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import sys

from .. import config
from ..errors import Interrupted, UsageError
from ..net.clock import Clock
from ..values import Shield

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Mapping
    from types import FrameType
    from typing import Any, TextIO

    from ..calls.client import Client
    from ..config import Gateway
    from ..gateways.openai import OpenAI
    from ..store.ledger import Ledger
    from .output import Output


class Signals(Shield):
    """Turns SIGINT, SIGTERM and SIGHUP into `Interrupted`, and holds them back while a result is being saved."""

    def __init__(self) -> None:
        super().__init__()
        self._pending: int | None = None
        self.told: Callable[[], None] = lambda: None  # says that a signal has to wait

    def install(self) -> None:
        """Take over the signals. One that is ignored (nohup, a shell's background job) stays ignored."""
        self._set(self._arrived)

    def release(self) -> None:
        """Give the signals back their defaults: a second one ends the process while the first is being told of."""
        self._set(signal.SIG_DFL)

    @staticmethod
    def _set(handler: Any) -> None:
        for name in ("SIGINT", "SIGTERM", "SIGHUP"):
            signum = getattr(signal, name, None)
            if signum is not None and signal.getsignal(signum) is not signal.SIG_IGN:
                signal.signal(signum, handler)

    def firm(self) -> None:
        """What must not be interrupted has begun."""
        if self.grace and self._pending is not None:
            signal.setitimer(signal.ITIMER_REAL, 0)
        super().firm()

    def check(self) -> None:
        """Raise `Interrupted` if a signal was held back. Called where stopping is safe."""
        if self._pending is not None:
            self.depth = 0
            signum, self._pending = self._pending, None
            raise Interrupted(signum)

    def _arrived(self, signum: int, _frame: FrameType | None) -> None:
        if not self.depth or not hasattr(signal, "setitimer"):
            raise Interrupted(signum)
        self._pending = signum
        if self.grace:
            signal.signal(signal.SIGALRM, self._out_of_patience)
            signal.setitimer(signal.ITIMER_REAL, self.grace)
        elif self.arriving:
            self.told()

    def _out_of_patience(self, _signum: int, _frame: FrameType | None) -> None:
        if self.grace:
            self.check()


class Context:
    """The world as one command sees it. `program` is how we were started, as words for a shell. A closed stream is
    None."""

    def __init__(
        self,
        *,
        stdin: TextIO | None,
        stdout: TextIO | None,
        stderr: TextIO | None,
        environ: Mapping[str, str],
        program: list[str],
        signals: Signals | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.stdin = stdin
        self.stdout = stdout
        self.stderr = stderr
        self.environ = environ
        self.program = program
        self.signals = signals or Signals()
        self.clock = clock or Clock()
        self.made: Client | None = None  # the client of this command, once there is one
        self._ledger: Ledger | None = None

    def gateway(self, args: argparse.Namespace) -> Gateway:
        """The gateway that this command calls. Raises `UsageError`."""
        return config.gateway(self.environ, args.gateway)

    def dialect(self, args: argparse.Namespace, output: Output) -> OpenAI:
        """Its dialect, as far as that is known without asking. Raises `UsageError`."""
        from .. import gateways

        gateway = self.gateway(args)
        known = self.ledger(output).dialect(gateway.root) if gateway.dialect is None else None
        return gateways.dialect(gateway, known)

    def ledger(self, output: Output) -> Ledger:
        """The ledger of this command; its trouble is one warning."""
        if self._ledger is None:
            from ..store.ledger import Ledger

            path = config.ledger_path(self.environ)
            off = self.environ.get("ALLTOKEN_LEDGER") == "off"
            self._ledger = Ledger(path, output.ledger_fails, off=off, left=self.clock.left)
        return self._ledger

    def client(self, args: argparse.Namespace, output: Output, *, keyed: bool = True) -> Client:
        """The client of this command. Raises `UsageError`, `KeyProblem` if it is to have a key, and `OutputError` if
        nobody could read the answer."""
        from ..calls.client import Client

        gateway = self.gateway(args)
        key = config.api_key(self.environ, gateway) if keyed else ""
        output.hide(key)
        output.check_stdout()
        ledger = self.ledger(output)
        self.signals.told = lambda: output.note("status", "stopping as soon as what is arriving is saved")
        self.made = Client(
            gateway,
            key=key,
            clock=self.clock,
            on_event=output.on_event,
            ledger=ledger,
            budget=self.environ.get("ALLTOKEN_BUDGET", ""),
            shield=self.signals,
            state=config.state_dir(self.environ),
            timeout=args.timeout,
            tick=0.5 if output.lively else math.inf,
        )
        return self.made

    def gateway_name(self, chosen: str | None) -> str:
        """The name of the gateway that this command calls, as far as it is a name."""
        try:
            return self.made.gateway.name if self.made else config.gateway(self.environ, chosen).name
        except UsageError:
            return (chosen or self.environ.get("ALLTOKEN_GATEWAY", "")).strip().lower()

    def settled(self, args: argparse.Namespace, output: Output) -> Client:
        """The client of this command, whose dialect is known: it is found out if need be. Raises as `client`, and
        `NetError`."""
        client = self.client(args, output)
        client.settle()
        return client

    def prompt(self, words: list[str], output: Output, *, only_dash: bool = False) -> str:
        """The prompt, from words and stdin. Raises `UsageError` if there is none."""
        from .prompt import assemble

        return assemble(words, self, output, only_dash=only_dash)

    def offers_text(self, output: Output) -> bool:
        """Whether stdin was meant for us though no word asks for it, and holds something. Waits as `prompt` does."""
        from .prompt import holds_text

        return holds_text(self, output)

    def can_ask(self) -> bool:
        """Whether somebody can be asked: stderr is a terminal, and there is one to read from."""
        from .terminal import controlling

        with controlling() as terminal:
            return is_terminal(self.stderr) and terminal is not None

    def read_message(self) -> str | None:
        """A message that is typed at a prompt; None if the user leaves."""
        from .terminal import read_message

        return read_message(to_terminal=is_terminal(self.stdout))

    def can_talk(self) -> bool:
        """Whether a person types on stdin and sees stderr."""
        return is_terminal(self.stdin) and is_terminal(self.stderr)

    def is_conversation(self) -> bool:
        """Whether stdin, stdout and stderr are terminals."""
        return all(map(is_terminal, (self.stdin, self.stdout, self.stderr)))

    def ask(self, question: str) -> str:
        """What somebody answers to a question on the controlling terminal; "" if nothing is said."""
        from .terminal import ask

        return ask(question, self.clock.left)

    def open(self, target: str) -> str | None:
        """Have the desktop show a file, by its absolute path, or an address, and do not wait; the reason if that does
        not work."""
        from .desktop import show

        return show(target, self.environ)

    def command_line(self, *words: str) -> str:
        """A command line that runs this program here, as one would type it."""
        import shlex

        return shlex.join([*self.program, *words])

    @classmethod
    def of_process(cls) -> Context:
        """The real thing. A closed stdin, stdout or stderr gets /dev/null as its descriptor, so that no socket or
        database of ours takes its number and receives what something prints."""
        with contextlib.suppress(OSError):
            descriptor = os.open(os.devnull, os.O_RDWR)
            while descriptor <= 2:
                descriptor = os.dup(descriptor)
            os.close(descriptor)
        return cls(
            stdin=sys.stdin,
            stdout=sys.stdout,
            stderr=sys.stderr,
            environ=os.environ,
            program=_program(sys.argv[0]),
            signals=Signals(),
        )


def _program(script: str) -> list[str]:
    """The words that start us again: the console script by its name if PATH finds it, else by its path, and
    the directory or zip file form with the interpreter before it."""
    try:
        path = os.path.abspath(script)
    except OSError:  # the working directory was deleted
        path = script
    if os.path.basename(path) == "__main__.py":  # python3 -m alltoken_call
        path = os.path.dirname(path)
    if os.path.isdir(path) or path.endswith((".py", ".pyz")):
        return [sys.executable or "python3", path]
    for folder in os.environ.get("PATH", "").split(os.pathsep):
        candidate = os.path.join(folder, os.path.basename(path))
        if os.access(candidate, os.X_OK):
            return [os.path.basename(path)] if os.path.samefile(candidate, path) else [path]
    return [path]


def is_terminal(stream: TextIO | None) -> bool:
    """Whether `stream` is open on a terminal."""
    try:
        return stream is not None and stream.isatty()
    except ValueError:  # closed
        return False
