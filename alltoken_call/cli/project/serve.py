"""The agent over HTTP, for programs on this machine: `python3 serve.py [PORT]`, 8000 unless given.

POST /chat {"sessionId": "…", "message": "…"}  →  {"response": "…", "history": […]}

Each session has an agent of its own. An error is {"error": {"code": "…", "message": "…"}}.
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from alltoken_call import Agent, CallError

from agent import make_agent

MOST_SESSIONS = 100  # beyond that, the one that was not used for the longest time is forgotten
LARGEST_BODY = 1 << 20  # bytes
HERE = ("127.0.0.1", "localhost")


class Problem(Exception):
    """A request that is answered with an error."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class Sessions:
    """One agent for each session; `make` makes a new one."""

    def __init__(self, make: Callable[[], Agent]) -> None:
        self._make = make
        self._agents: dict[str, Agent] = {}  # the latest used last
        self._lock = threading.Lock()

    def agent(self, session: str) -> Agent:
        """The agent of a session, a new one if there is none."""
        with self._lock:
            agent = self._agents.pop(session, None) or self._make()
            self._agents[session] = agent
            forgotten = self._agents.pop(next(iter(self._agents))) if len(self._agents) > MOST_SESSIONS else None
        if forgotten is not None:
            forgotten.close()
        return agent

    def close(self) -> None:
        """End all conversations."""
        with self._lock:
            agents, self._agents = self._agents, {}
        for agent in agents.values():
            agent.close()


class Handler(BaseHTTPRequestHandler):
    """Answers one request."""

    server: Server
    timeout = 60  # seconds that a client may be silent

    def do_POST(self) -> None:  # http.server's name
        """Answer with what the agent says, or with an error."""
        try:
            session, message = self._read()
            agent = self.server.sessions.agent(session)
            response = agent.send(message)
            self._answer(200, {"response": response, "history": agent.get_messages()})
        except Problem as problem:
            self._answer(problem.status, {"error": {"code": problem.code, "message": str(problem)}})
        except CallError as error:
            status = 409 if error.code == "busy" else 502
            self._answer(status, {"error": {"code": error.code, "message": error.message}})

    def _read(self) -> tuple[str, str]:
        """The session and the message of a request. Raises `Problem`."""
        if self.path != "/chat":
            raise Problem(404, "not_found", "there is POST /chat, and nothing else")
        host = self.headers.get("Host", "").rpartition(":")[0] or self.headers.get("Host", "")
        if host not in HERE or self.headers.get("Origin"):
            raise Problem(403, "forbidden", "this is for programs on this machine, not for web pages")
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > LARGEST_BODY:
            raise Problem(413, "bad_length", f"a body of at most {LARGEST_BODY} bytes is needed")
        try:
            body = json.loads(self.rfile.read(int(length)))
        except (ValueError, RecursionError):
            body = None
        found = body if isinstance(body, dict) else {}
        session, message = found.get("sessionId"), found.get("message")
        if not isinstance(session, str) or not isinstance(message, str) or not message.strip():
            raise Problem(400, "bad_request", 'the body is {"sessionId": "…", "message": "…"}')
        return session, message

    def _answer(self, status: int, document: dict[str, Any]) -> None:
        data = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


class Server(ThreadingHTTPServer):
    """Listens on this machine alone; each request has a thread. Port 0 is any that is free."""

    def __init__(self, port: int, make: Callable[[], Agent]) -> None:
        super().__init__((HERE[0], port), Handler)
        self.sessions = Sessions(make)

    def server_close(self) -> None:
        """Stop listening, and end all conversations."""
        super().server_close()
        self.sessions.close()


def main() -> None:
    """Serve until Ctrl-C."""
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8000
    with Server(port, make_agent) as server:
        print(f"serving on http://{HERE[0]}:{server.server_port}/chat", file=sys.stderr)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            pass


if __name__ == "__main__":
    main()
