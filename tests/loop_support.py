"""What the tests of the tool loop share: executables that declare themselves, scripted answers with calls, and the CLI
at a real pseudo-terminal."""

import contextlib
import json
import os
import re
import select
import subprocess
import time

from .gateway import COST, DONE, USAGE, delta, event, stream
from .harness import CHAT, PACKAGE, PATIENCE, ROOT, Case

DECLARATION = {"description": "the weather of a city", "parameters": {"properties": {"city": {"type": "string"}}}}


def wanted(name, arguments='{"city":"Bern"}', id="call_1", index=0, **fields):
    """A call as it stands in a delta."""
    text = arguments if isinstance(arguments, str) else json.dumps(arguments)
    return {"index": index, "id": id, "type": "function", "function": {"name": name, "arguments": text}, **fields}


def calling(*calls, text=None, finish="tool_calls", cost=COST, usage=USAGE, **fields):
    """A step: an answer with calls; a plain name is a call of that tool."""
    made = [
        wanted(call, id=f"call_{number}", index=number) if isinstance(call, str) else call | {"index": number}
        for number, call in enumerate(calls, 1)
    ]
    first = [event(delta(text))] if text else []
    last = [event(delta(tool_calls=made, **fields)), event(delta(finish=finish))]
    return stream(*first, *last, event({"choices": [], "usage": usage}), DONE, *([cost] if cost else []))


def saying(*texts, cost=COST, usage=USAGE, finish="stop", **fields):
    """A step: an answer that is a text."""
    pieces = [event(delta(text, **fields)) for text in texts]
    return stream(
        *pieces, event(delta(finish=finish)), event({"choices": [], "usage": usage}), DONE, *([cost] if cost else [])
    )


class LoopCase(Case):
    """A test with tools: shell scripts in its folder, which note each call in the file `ran`."""

    @property
    def ran(self):
        """Which tools ran, in order, as they noted it."""
        path = os.path.join(self.folder, "ran")
        with contextlib.suppress(FileNotFoundError), open(path, encoding="utf-8") as file:
            return file.read().split()
        return []

    def script(self, name, body, mode=0o755):
        """The path of an executable shell script."""
        path = self.file(name, f"#!/bin/sh\n{body}\n")
        os.chmod(path, mode)
        return path

    def tool(self, name="weather", body="echo sunny", declaration=DECLARATION):
        """The path of a tool that notes its calls."""
        return self.script(name, f"# tool: {json.dumps(declaration)}\necho {name} >>'{self.folder}/ran'\n{body}")

    def server(self, name="clock", body="", tools=("now", "zone")):
        """The path of an MCP server, whose tools answer with the text `noon`; `body` runs at each call."""
        listed = json.dumps([{"name": tool, "inputSchema": {"type": "object"}} for tool in tools])
        hello = {"protocolVersion": "2025-11-25", "capabilities": {}, "serverInfo": {"name": "x", "version": "1"}}
        content = {"content": [{"type": "text", "text": "noon"}]}
        return self.script(
            name,
            f"""echo $$ >'{self.folder}/{name}.pid'
say() {{ printf '{{"jsonrpc":"2.0","id":%s,"result":%s}}\\n' "$1" "$2"; }}
while read -r line; do
    id=$(printf %s "$line" | sed -n 's/.*"id": *\\([0-9]*\\).*/\\1/p')
    case $line in
    *'"initialize"'*) say "$id" '{json.dumps(hello)}' ;;
    *'"tools/list"'*) say "$id" '{{"tools": {listed}}}' ;;
    *'"tools/call"'*)
        echo {name} >>'{self.folder}/ran'
        {body or ":"}
        say "$id" '{json.dumps(content)}' ;;
    esac
done""",
        )

    def bodies(self):
        """The bodies of the requests to the model."""
        return [one.json for one in self.gateway.requests if f"{one.method} {one.path}" == CHAT]

    def messages(self, request=-1):
        """The messages of a request to the model."""
        return self.bodies()[request]["messages"]

    def results(self, request=-1):
        """The results of calls in a request to the model."""
        return [message["content"] for message in self.messages(request) if message["role"] == "tool"]

    def answer(self, *steps):
        """Script the answers to come."""
        self.gateway.on(CHAT, *steps)

    def result_of(self, body, *argv, arguments='{"city":"Bern"}', **options):
        """What the model is told of one call of a tool with that body."""
        self.answer(calling(wanted("it", arguments)), saying("done"))
        result = self.chat("--tool", self.tool("it", body), *argv, "x", **options)
        self.assertQuietly(0, result)
        return self.results()[-1]

    def thread(self, path):
        """The messages of a conversation in a file, checked to be one that servers take."""
        with open(path, encoding="utf-8") as file:
            messages = json.load(file)["messages"]
        self.assertValid(messages)
        return messages

    def kept(self):
        """The paths of the conversations that the state directory keeps."""
        folder = os.path.join(self.folder, "state", "alltoken-call", "threads")
        with contextlib.suppress(FileNotFoundError):
            return [os.path.join(folder, name) for name in sorted(os.listdir(folder))]
        return []

    def assertValid(self, messages):
        """Each call has its result, behind it and before anything else; and no result is without a call."""
        waiting = []
        for message in messages:
            if message["role"] == "tool":
                self.assertIn(message["tool_call_id"], waiting, messages)
                waiting.remove(message["tool_call_id"])
                self.assertIsInstance(message["content"], str)
            else:
                self.assertEqual(waiting, [], messages)
                for call in message.get("tool_calls") or ():
                    self.assertEqual((call["type"], set(call["function"])), ("function", {"name", "arguments"}))
                    json.loads(call["function"]["arguments"])
                    waiting.append(call["id"])
        self.assertEqual(waiting, [], messages)

    def resume_words(self, result):
        """The words of the resume command, which has to be the last line of stderr."""
        import shlex

        words = shlex.split(result.err.rstrip("\n").split("\n")[-1])
        self.assertIn("--resume", words, result.err)
        return words[words.index("chat" if "chat" in words else "search") :]

    def until(self, fits, what="it"):
        """Wait until something is so."""
        end = time.monotonic() + PATIENCE
        while not fits():
            self.assertLess(time.monotonic(), end, f"{what} never came")
            time.sleep(0.01)

    def exists(self, name):
        """Wait for a file that a tool makes; its content."""
        path = os.path.join(self.folder, name)
        self.until(lambda: os.path.exists(path) and os.path.getsize(path), name)
        with open(path, encoding="utf-8") as file:
            return file.read().strip()

    def assertGone(self, pid):
        """A process is gone within a moment."""

        def gone():
            try:
                with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
                    return file.read().rpartition(")")[2].split()[0] in "ZX"
            except OSError:
                return True

        if os.path.isdir("/proc/self"):
            self.until(gone, f"the end of {pid}")


AT_TERMINAL = f"""
import fcntl, os, sys, termios
os.setsid()
fcntl.ioctl(2, termios.TIOCSCTTY, 0)
sys.argv[0] = {PACKAGE!r}
sys.path.insert(0, {str(ROOT)!r})
"""
ENTER = "\nfrom alltoken_call.__main__ import entry\nentry()\n"


class Pty:
    """The CLI at a pseudo-terminal of its own, which is its controlling one. `piped` names the streams that are pipes
    instead; `before` is code that runs first."""

    def __init__(self, case, *argv, piped=(), before="", **environ):
        self.case = case
        self.master, slave = os.openpty()
        case.addCleanup(self.close)
        options = dict.fromkeys(("stdin", "stdout", "stderr"), slave) | dict.fromkeys(piped, subprocess.PIPE)
        environ = {"TERM": "xterm", "NO_COLOR": "1", **environ}
        self.process = case.spawn(*argv, code=AT_TERMINAL + before + ENTER, environ=environ, **options)
        os.close(slave)
        self.seen = ""  # all that it wrote
        self._at = 0  # how far of it has been looked at

    def _more(self, patience):
        if not select.select([self.master], [], [], patience)[0]:
            return False
        try:
            data = os.read(self.master, 1 << 16)
        except OSError:  # nobody has the other side open any more
            return False
        self.seen += data.decode("utf-8", "replace")
        return bool(data)

    def until(self, *texts):
        """Wait until all of `texts` were written, in this order; what was written up to there."""
        begun = self._at
        end = time.monotonic() + PATIENCE
        for text in texts:
            while (found := self.seen.find(text, self._at)) < 0:
                more = self._more(0.1)
                self.case.assertLess(time.monotonic(), end, f"no {text!r} in {self.seen[begun:]!r}")
                if not more and self.process.poll() is not None and self.seen.find(text, self._at) < 0:
                    while self._more(0.1):
                        pass
                    self.case.assertIn(text, self.seen[self._at :])
            self._at = found + len(text)
        return self.seen[begun : self._at]

    def type(self, text):
        """Type something."""
        os.write(self.master, text.encode())

    def line(self, text):
        """Wait for the prompt, and type a line."""
        self.until("> ")
        self.type(text + "\r")

    def wait(self):
        """Wait for the end; the exit status."""
        end = time.monotonic() + PATIENCE
        while self.process.poll() is None:
            self._more(0.02)
            self.case.assertLess(time.monotonic(), end, f"it does not end: {self.seen!r}")
        while self._more(0.05):
            pass
        return self.process.returncode

    def leave(self):
        """Leave the conversation with Ctrl-D; its last line."""
        self.until("> ")
        self.type("\x04")
        status = self.wait()
        self.case.assertEqual(status, 0, self.seen)
        return self.plain().rstrip().split("\n")[-1]

    def plain(self):
        """All that was written, without what drives the terminal."""
        return re.sub(r"\x1b\[[?0-9;]*[a-zA-Z]", "", self.seen).replace("\r\n", "\n").replace("\r", "\n")

    def close(self):
        """Hang up."""
        with contextlib.suppress(OSError):
            os.close(self.master)
