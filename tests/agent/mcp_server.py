"""A scripted MCP server, for stdio: how it behaves is the JSON object in its first argument.

It speaks either era, and each of its tools does one thing that a server should not do. `log` names a file that gets
every line which it reads.
"""

from __future__ import annotations

import json
import os
import sys
import time

MODERN = "2026-07-28"


class Server:
    """What the first argument may hold are the attributes."""

    era = "legacy"  # legacy, modern, none: refuses both
    version = "2025-11-25"  # what it answers to initialize
    versions = (MODERN,)  # what server/discover tells
    pages: int | str = 1  # of its tools; "loop": the cursor comes again; "endless": a new one each time
    tools: list | None = None  # instead of its own
    slow = 0.0  # seconds before the first answer
    junk = False  # lines on stdout that are no messages
    flood = 0  # bytes of stderr before anything else
    die = None  # the method at which it ends, with status 3
    once = None  # a file: it dies only if there is none, and makes it
    mute = None  # the method that it does not answer
    refuse = None  # the method that it answers with an error
    lacks = None  # the method that it does not know
    stubborn = False  # it ignores the end of stdin, and TERM
    log = None

    def __init__(self, **given) -> None:
        for name, value in given.items():
            assert hasattr(self, name), name
            setattr(self, name, value)

    def run(self) -> None:
        if self.stubborn:
            import signal

            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if self.flood:
            sys.stderr.write("x" * self.flood + "\nend of the flood\n")
            sys.stderr.flush()
        if self.junk:
            self.write("Welcome!\n\n{not json}\n[1, 2]\n17\nnull\n" + "[" * 100_000 + "\n")
        for line in sys.stdin.buffer:
            if self.log:
                with open(self.log, "ab") as file:
                    file.write(line)
            self.take(json.loads(line))
        while self.stubborn:
            time.sleep(1)

    def write(self, text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()

    def send(self, **message) -> None:
        self.write(json.dumps({"jsonrpc": "2.0", **message}, ensure_ascii=False) + "\n")

    def take(self, message: dict) -> None:
        method, number = message.get("method"), message.get("id")
        if method and self.die == method and not (self.once and os.path.exists(self.once)):
            if self.once:
                open(self.once, "w").close()
            sys.stderr.write("Traceback: no more\n")
            sys.exit(3)
        if number is None or method is None or method == self.mute:
            return
        if method == self.refuse:
            self.send(id=number, error={"code": -32603, "message": "cannot do that", "data": [1]})
            return
        time.sleep(self.slow)
        self.slow = 0.0
        params = message["params"]
        if self.era != "legacy" and method == "initialize":
            self.send(id=number, error={"code": -32022, "message": "unsupported", "data": {"supported": [MODERN]}})
        elif self.era == "modern" and params.get("_meta", {}).get("io.modelcontextprotocol/protocolVersion") != MODERN:
            self.send(id=number, error={"code": -32602, "message": "no _meta"})
        elif self.era == "legacy" and "_meta" in params:
            self.send(id=number, error={"code": -32602, "message": "there is _meta"})
        else:
            answer = getattr(self, "on_" + method.replace("/", "_"), None)
            if answer is None or self.era == "none" or method == self.lacks:
                self.send(id=number, error={"code": -32601, "message": "Method not found"})
            else:
                answer(number, params)

    def result(self, number: int, **result) -> None:
        self.send(id=number, result=result | ({"resultType": "complete"} if self.era == "modern" else {}))

    def text(self, number: int, text: str, **more) -> None:
        self.result(number, content=[{"type": "text", "text": text}], **more)

    def on_initialize(self, number: int, params: dict) -> None:
        assert params["protocolVersion"] == "2025-11-25" and params["clientInfo"]["name"] == "alltoken-call", params
        about = {"name": "scripted", "version": "1"}
        self.result(number, protocolVersion=self.version, capabilities={"tools": {}}, serverInfo=about)

    def on_server_discover(self, number: int, params: dict) -> None:
        assert set(params["_meta"]) == {
            f"io.modelcontextprotocol/{name}" for name in ("protocolVersion", "clientInfo", "clientCapabilities")
        }
        if self.era == "modern":
            self.result(number, supportedVersions=list(self.versions), capabilities={"tools": {}})

    def on_tools_list(self, number: int, params: dict) -> None:
        names = [name[5:] for name in dir(self) if name.startswith("tool_")]
        schema = {"type": "object", "properties": {"text": {"type": "string"}}}
        tools = self.tools or [{"name": n, "description": f"does {n}", "inputSchema": schema} for n in names]
        if self.pages == 1:
            self.result(number, tools=tools)
            return
        page = int(params.get("cursor", "0"))
        more = {"nextCursor": str(page + 1)}
        if self.pages == "loop":
            more = {"nextCursor": str(1 - page)}
        elif self.pages != "endless" and page + 1 == self.pages:
            more = {}
        found = tools[page :: self.pages] if isinstance(self.pages, int) else tools[:1]
        self.result(number, tools=found, **more)

    def on_tools_call(self, number: int, params: dict) -> None:
        tool = getattr(self, "tool_" + params["name"], None)
        if tool is None:
            self.send(id=number, error={"code": -32602, "message": f"Unknown tool: {params['name']}"})
        else:
            tool(number, **params["arguments"])

    def tool_echo(self, number: int, text: str) -> None:
        self.text(number, text)

    def tool_length(self, number: int, text: str) -> None:
        self.text(number, str(len(text)))

    def tool_gives(self, number: int, result: dict) -> None:
        self.send(id=number, result=result)

    def tool_fails(self, number: int) -> None:
        self.send(id=number, error={"code": -32000, "message": "it broke"})

    def tool_null_fails(self, number: int) -> None:
        self.send(id=None, error={"code": -32700, "message": "cannot read that"})

    def tool_sleep(self, number: int, seconds: float) -> None:
        time.sleep(seconds)
        self.text(number, "late")

    def tool_silent(self, number: int) -> None:
        pass

    def tool_twice(self, number: int) -> None:
        self.text(number, "first")
        self.text(number, "second")

    def tool_die(self, number: int, status: int = 3) -> None:
        sys.stderr.write("Traceback: died\n")
        sys.stderr.flush()
        os._exit(status)

    def tool_answer_and_die(self, number: int) -> None:
        self.text(number, "my last words")
        os._exit(0)

    def tool_close(self, number: int) -> None:
        os.close(1)
        time.sleep(60)

    def tool_mutes(self, number: int) -> None:
        self.text(number, "not a word more")
        os.close(1)

    def tool_deaf(self, number: int) -> None:
        self.text(number, "I do not listen any more")
        os.close(0)
        time.sleep(60)

    def tool_long(self, number: int, size: int, text: str = "x", end: str = "") -> None:
        self.text(number, text * (size // len(text)) + end)

    def tool_escaped(self, number: int, size: int, escape: str) -> None:
        text = json.dumps({"jsonrpc": "2.0", "id": number, "result": {"content": [{"type": "text", "text": "@"}]}})
        self.write(text.replace("@", "x" * size + escape) + "\n")

    def tool_raw(self, number: int, text: str, again: str = "", times: int = 0) -> None:
        self.write(text.replace("@", str(number)) + again * times + ('"}]}}\n' if times else ""))

    def tool_noise(self, number: int, size: int) -> None:
        """A line that never ends, then an answer."""
        for _ in range(size >> 20):
            self.write("x" * (1 << 20))
        self.write("\n")
        self.text(number, "after the noise")

    def tool_junk(self, number: int) -> None:
        self.write('debug: 1\n{"a": \n"text"\n')
        self.send(method="notifications/progress", params={"progress": 1})
        self.text(number, "between junk")

    def tool_batch(self, number: int) -> None:
        note = {"jsonrpc": "2.0", "method": "notifications/message", "params": {}}
        answer = {"jsonrpc": "2.0", "id": number, "result": {"content": [{"type": "text", "text": "in a batch"}]}}
        self.write(json.dumps([note, answer]) + "\r\n")

    def tool_asks(self, number: int) -> None:
        """Requests of its own; what they were answered is the result."""
        for own, method in ((1, "ping"), ("s", "sampling/createMessage"), (number, "roots/list")):
            self.send(id=own, method=method, params={})
        answers = [json.loads(sys.stdin.buffer.readline()) for _ in range(3)]
        self.text(number, json.dumps([[a["id"], a.get("result"), a.get("error", {}).get("code")] for a in answers]))

    def tool_floods_with_pings(self, number: int, count: int, read: bool = True) -> None:
        for own in range(count):
            self.send(id=own if read else "x" * 100, method="ping")
        self.text(number, "done")

    def tool_fork(self, number: int) -> None:
        code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
        import subprocess

        child = subprocess.Popen([sys.executable, "-S", "-c", code, *sys.argv[2:]], stdout=subprocess.PIPE)
        child.stdout.readline()
        self.text(number, "forked")

    def tool_environment(self, number: int) -> None:
        self.text(number, json.dumps([dict(os.environ), os.getcwd()]))


if __name__ == "__main__":
    Server(**json.loads(sys.argv[1])).run()
