"""A conversation in a terminal: turns, and what a line that begins with a slash does."""

from __future__ import annotations

import json
import os

from ..errors import CallError, ExitStatus, Interrupted, OutputError
from ..text import one_line
from ..values import Report

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ..agent.loop import Loop
    from ..cli.context import Context
    from ..cli.output import Output
    from ..store.thread import Thread
    from .loop import Shown

HELP = """\
/model ID         ask another model from here on
/system TEXT      set the system message
/attach FILE|URL  add an image to the next message
/tools            list the tools
/save FILE        write the conversation into a file
/cost             turns, tokens and cost so far
/clear            forget the conversation
/undo             take back the last turn
/retry            send the last message again
/continue         go on after a limit or an interruption
/exit             leave, as Ctrl-D does
A line of three quotes begins a message of several lines, and another one ends it. //x sends /x."""
STOPPED = "[interrupted]"


class Talk:
    """One conversation. `attach` makes a content part of a file or URL."""

    def __init__(
        self,
        context: Context,
        output: Output,
        loop: Loop,
        thread: Thread | None,
        shown: Shown,
        attach: Callable[[str], dict[str, Any]],
    ) -> None:
        self._context = context
        self._output = output
        self._loop = loop
        self._thread = thread
        self._shown = shown
        self._attach = attach
        self._attached: list[dict[str, Any]] = []
        self._last: Any = None  # the last message, for /retry
        self._turns = 0
        self._tokens = 0
        self._spent: list[str | None] = []

    def run(self) -> Report:
        """Read and answer until the user leaves."""
        while True:
            try:
                line = self._context.read_message()
            except Interrupted as signal:
                if signal.status is not ExitStatus.INTERRUPTED:
                    raise
                self._output.say("")  # Ctrl-C drops the line
                continue
            if line is None or line.strip() == "/exit":
                self._output.say(self._summary())
                return Report(self._loop.body["model"])
            if not line.strip():
                continue
            if line.startswith("/") and not line.startswith("//"):
                self._command(line)
            else:
                text = line[1:] if line.startswith("//") else line
                self._turn([{"type": "text", "text": text}, *self._attached] if self._attached else text)

    def _turn(self, content: Any) -> None:
        """Send a message (None: the conversation as it is) and show what comes; an error ends the turn alone."""
        messages = self._loop.messages
        before = len(messages)
        if content is not None:
            self._last = content
        self._attached = []
        try:
            for event in self._loop.run(content):
                self._shown.take(event)
            self._turns += 1
        except CallError as error:
            self._shown.finish()
            self._end_of(error, before, content)
            if error.code == "interrupted" and error.status is not ExitStatus.INTERRUPTED:
                raise
        self._account()
        self._save()

    def _end_of(self, error: CallError, before: int, content: Any) -> None:
        """Tell of a turn's end. A text that was stopped is kept as the turn; a message that failed is taken out."""
        messages = self._loop.messages
        text = getattr(error.partial, "text", None)
        if error.code == "interrupted":
            if text and messages[-1]["role"] == "user":
                messages.append({"role": "assistant", "content": f"{text} {STOPPED}"})
            elif content is not None and len(messages) == before + 1:
                messages.pop()
            self._output.say(STOPPED)
            return
        self._output.tell(error)
        if content is not None and len(messages) == before + 1:
            messages.pop()

    def _account(self) -> None:
        run = self._loop.value
        if not run.steps:
            return
        total = (run.usage or {}).get("total_tokens")
        self._tokens += total if type(total) is int else 0
        self._spent.append(
            None if run.cost.usd is None and run.cost.source not in ("none", "local") else run.cost.usd or "0"
        )
        self._output.dim(f"[cost] {f'${run.cost.usd}' if run.cost.usd else run.cost.source or 'unknown'}")

    def _save(self) -> None:
        if self._thread is None or not self._thread.path:
            return
        try:
            self._thread.save(self._loop.body["model"])
        except OutputError as error:
            self._output.tell(error)

    def _summary(self) -> str:
        from ..gateways.prices import EXACT, amount, plain

        known = [value for text in self._spent if text is not None and (value := amount(text)) is not None]
        usd = amount("0")
        for value in known:
            usd = EXACT.add(usd, value)  # type: ignore[arg-type]
        unknown = len(self._spent) - len(known)
        cost = f"${plain(usd) if usd is not None else 0}" + (f" and {unknown} of unknown cost" if unknown else "")
        return f"{self._turns} turn(s), {self._tokens:,} tokens, {cost}"

    def _command(self, line: str) -> None:
        word, _, rest = line.partition(" ")
        act = getattr(self, f"_do_{word[1:]}", None) if word[1:].isalpha() else None
        if act is None:
            self._output.say(f"unknown command {one_line(word, 40)}; /help shows what there is, //x sends /x")
            return
        try:
            act(rest.strip())
        except CallError as error:
            self._output.tell(error)

    def _do_help(self, _rest: str) -> None:
        self._output.say(HELP)

    def _do_model(self, rest: str) -> None:
        if rest:
            self._loop.body["model"] = rest
        self._output.say(f"the model is {one_line(self._loop.body['model'], 80)}")

    def _do_system(self, rest: str) -> None:
        messages = self._loop.messages
        if messages and messages[0]["role"] == "system":
            messages.pop(0)
        if rest:
            messages.insert(0, {"role": "system", "content": rest})
        self._save()

    def _do_attach(self, rest: str) -> None:
        self._attached.append(self._attach(rest))
        self._output.say(f"{len(self._attached)} image(s) go with the next message")

    def _do_tools(self, _rest: str) -> None:
        for tool in self._loop.tools.values():
            self._output.say(f"{tool.name}: {one_line(tool.description, 100)}")
        if not self._loop.tools:
            self._output.say("there are no tools; --tool and --mcp bring some")

    def _do_save(self, rest: str) -> None:
        from ..store import files

        if not rest:
            self._output.say("/save FILE")
            return
        if os.path.lexists(rest):
            raise OutputError(f"{rest} already exists")
        document = {"model": self._loop.body["model"], "messages": self._loop.messages}
        files.replace(rest, (json.dumps(document, indent=1) + "\n").encode("ascii"))
        self._output.say(f"saved {rest}")

    def _do_cost(self, _rest: str) -> None:
        self._output.say(self._summary())

    def _do_clear(self, _rest: str) -> None:
        messages = self._loop.messages
        messages[:] = [message for message in messages if message["role"] == "system"]
        self._save()

    def _do_undo(self, _rest: str) -> None:
        messages = self._loop.messages
        last = next((at for at in range(len(messages) - 1, -1, -1) if messages[at]["role"] == "user"), None)
        if last is None:
            self._output.say("there is no turn to take back")
            return
        del messages[last:]
        self._save()

    def _do_retry(self, _rest: str) -> None:
        if self._last is None:
            self._output.say("there is no message to send again")
            return
        messages = self._loop.messages
        last = next((at for at in range(len(messages) - 1, -1, -1) if messages[at]["role"] == "user"), None)
        if last is not None and messages[last].get("content") == self._last:
            del messages[last:]
        self._turn(self._last)

    def _do_continue(self, _rest: str) -> None:
        self._turn(None)
