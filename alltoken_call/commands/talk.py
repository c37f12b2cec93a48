"""A conversation in a terminal: turns, and what a line that begins with a slash does."""

from __future__ import annotations

import os

from ..agent.run import sum_of_costs
from ..calls.chat import drained
from ..errors import CallError, ExitStatus, Interrupted, OutputError
from ..store import thread as threads
from ..text import one_line
from ..values import Report
from ..wire import tokens
from .chat import attachment, content_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..agent.loop import Loop
    from ..cli.context import Context
    from ..cli.output import Output
    from ..values import Cost
    from .kept import Kept
    from .running import Shown

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
A line that begins with three quotes begins a message that goes on until a line that ends so. //x sends /x."""


class Talk:
    """One conversation."""

    def __init__(self, context: Context, output: Output, loop: Loop, kept: Kept, shown: Shown) -> None:
        self._context = context
        self._output = output
        self._loop = loop
        self._messages = loop.messages
        self._kept = kept
        self._shown = shown
        self._attached: list[dict[str, Any]] = []  # images for the next message
        self._last: Any = None  # the last message, for /retry
        self._turns = 0

    def run(self, text: str, attached: list[dict[str, Any]], *, resume: bool) -> Report:
        """Read and answer until the user leaves; `text` and the images that are `attached` begin, or an unfinished run
        goes on."""
        self._attached = attached
        first = text or resume
        while True:
            try:
                if first:
                    first = False
                    self._turn(self._message(text) if text else None)
                elif not self._answer(self._context.read_message()):
                    break
            except Interrupted as signal:
                if signal.status is not ExitStatus.INTERRUPTED:
                    raise
                self._output.say("")  # Ctrl-C drops the line
        self._output.say(self._summary())
        return Report(self._loop.body["model"])

    def _answer(self, line: str | None) -> bool:
        """Do what a line says; whether the conversation goes on."""
        word, *rest = (line or "").split(None, 1) or [""]
        if line is None or word == "/exit":
            return False
        if line.startswith("/") and not line.startswith("//"):
            self._command(word, rest[0].strip() if rest else "")
        elif word:
            self._turn(self._message(line.removeprefix("/") if line.startswith("//") else line))
        return True

    def _message(self, text: str) -> Any:
        attached, self._attached = self._attached, []
        return content_of(text, attached)

    def _turn(self, content: Any) -> None:
        """Send a message (None: the conversation as it is) and show what comes; an error ends the turn alone."""
        before = len(self._messages)
        if content is not None:
            self._last = content
        try:
            drained(self._loop.run(content), self._shown.take)
            self._count(content)
        except CallError as error:
            with self._loop.client.shield.held():
                self._end(error, before, content)
            if error.code == "interrupted" and error.status is not ExitStatus.INTERRUPTED:
                raise
        finally:
            with self._loop.client.shield.held():
                run = self._loop.value
                self._loop.earlier += run.answers
                if run.answers:
                    self._output.dim(f"[cost] {_shown(run.cost)}")

    def _end(self, error: CallError, before: int, content: Any) -> None:
        """Tell of a turn's end. A text that was stopped is kept as the turn."""
        messages, text = self._messages, self._loop.value.text
        added = len(messages) > before
        answered = added and threads.is_answered(messages)
        if error.code != "interrupted":
            self._output.tell(error)
            if (added or content is None) and not answered and error.code != "max_cost":
                self._output.say("/continue goes on from here")
        else:
            if text and not answered:
                if content is not None and not added:  # it was taken back
                    messages.append({"role": "user", "content": content})
                messages.append({"role": "assistant", "content": f"{text} {threads.STOPPED}"})
            self._output.say(threads.STOPPED)
        if len(messages) > before:
            self._count(content)
        try:
            if error.status is not ExitStatus.CANNOT_WRITE:
                self._kept.save()
        except CallError as failure:
            self._output.tell(failure)

    def _count(self, content: Any) -> None:
        """Count a turn; what goes on with one is none."""
        self._turns += content is not None or not self._turns

    def _summary(self) -> str:
        answers = self._loop.earlier
        known = [answer.cost for answer in answers if answer.cost.source]
        unknown = len(answers) - len(known)
        about = [_shown(sum_of_costs(known))] if known else []
        about += [f"{unknown} of unknown cost"] if unknown else []
        counts = sum(tokens(answer.usage or {}, "total_tokens") or 0 for answer in answers)
        return ", ".join([f"{self._turns} turn(s)", f"{counts:,} tokens", *(about or ["nothing spent"])])

    def _command(self, word: str, rest: str) -> None:
        act = getattr(self, f"_do_{word[1:]}", None) if word[1:].isalpha() else None
        if act is None:
            self._output.say(f"unknown command {one_line(word, 40)}; /help shows what there is, //x sends /x")
            return
        try:
            act(rest)
        except CallError as error:
            if error.code == "interrupted":
                raise
            self._output.tell(error)

    def _do_help(self, _rest: str) -> None:
        self._output.say(HELP)

    def _do_model(self, rest: str) -> None:
        if rest:
            self._loop.body["model"] = rest
        self._output.say(f"the model is {one_line(self._loop.body['model'], 80)}")

    def _do_system(self, rest: str) -> None:
        threads.set_system(self._messages, rest)
        self._kept.save()

    def _do_attach(self, rest: str) -> None:
        self._attached.append(attachment(os.path.expanduser(rest)))
        self._output.say(f"{len(self._attached)} image(s) go with the next message")

    def _do_tools(self, _rest: str) -> None:
        for tool in self._loop.tools.values():
            self._output.say(f"{tool.name}: {one_line(tool.description, 100)}")
        if not self._loop.tools:
            self._output.say("no tools; give some with --tool or --mcp")

    def _do_save(self, rest: str) -> None:
        path = os.path.expanduser(rest)
        if os.path.lexists(path):
            raise OutputError(f"{path} already exists")
        if rest:
            self._kept.thread.save(self._loop.body["model"], path)
        self._output.say(f"saved {path}" if rest else "/save FILE")

    def _do_cost(self, _rest: str) -> None:
        self._output.say(self._summary())

    def _do_clear(self, _rest: str) -> None:
        self._messages[:] = [message for message in self._messages if message["role"] == "system"]
        self._kept.save()

    def _do_undo(self, _rest: str) -> None:
        last = self._last_turn()
        if last is None:
            self._output.say("there is no turn to take back")
        else:
            del self._messages[last:]
            self._kept.save()

    def _do_retry(self, _rest: str) -> None:
        last = self._last_turn()
        if self._last is None:
            self._output.say("there is no message to send again")
            return
        if last is not None and self._messages[last].get("content") == self._last:
            del self._messages[last:]
            self._turns -= 1
        self._turn(self._last)

    def _last_turn(self) -> int | None:
        """Where the last turn begins in the conversation."""
        users = [at for at, message in enumerate(self._messages) if message["role"] == "user"]
        return users[-1] if users else None

    def _do_continue(self, _rest: str) -> None:
        if self._last_turn() is None or threads.is_answered(self._messages):
            self._output.say("there is nothing to go on with")
        else:
            self._turn(None)


def _shown(cost: Cost) -> str:
    return f"${cost.usd} ({cost.source})" if cost.usd is not None else cost.source or "unknown"
