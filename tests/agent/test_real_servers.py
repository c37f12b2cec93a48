"""MCP servers from the registries, of both eras and of an old SDK; where ALLTOKEN_TEST_SERVERS says they are installed.

The folder holds `new` (a venv with mcp-server-time), `old` (one with mcp==1.9.0 and pydantic<2.11), and
`node_modules` (@modelcontextprotocol/server-everything and server-filesystem).
"""

from __future__ import annotations

import os
import shutil
import tempfile
import unittest

from alltoken_call.agent import mcp

FOLDER = os.environ.get("ALLTOKEN_TEST_SERVERS", "")
NODE = "node_modules/@modelcontextprotocol"
OLD = """
import sys
from mcp.server.fastmcp import FastMCP
app = FastMCP("old")
@app.tool()
def add(a: int, b: int) -> int:
    '''Add two numbers.'''
    return a + b
app.run()
"""


@unittest.skipUnless(FOLDER, "ALLTOKEN_TEST_SERVERS names no folder with servers")
class RealServers(unittest.TestCase):
    def start(self, *words: str) -> mcp.Server:
        program = os.path.join(FOLDER, words[0])
        path = os.environ.get("PATH", os.defpath)
        if words[0] == "node":
            program = shutil.which("node", path=path) or ""
            words = (words[0], os.path.join(FOLDER, words[1]), *words[2:])
        if not os.path.exists(program) or (words[0] == "node" and not os.path.exists(words[1])):
            self.skipTest(f"{words[0]} is not installed in {FOLDER}")
        server = mcp.Server("real", [program, *words[1:]], {"PATH": path}, None, lambda: False)
        server.start()
        assert server._wire is not None
        child = server._wire
        self.addCleanup(lambda: self.assertFalse(child.alive()))
        self.addCleanup(server.close)
        return server

    def names(self, server: mcp.Server) -> list[str]:
        self.assertTrue(all("properties" in tool["parameters"] for tool in server.tools))
        return [tool["name"] for tool in server.tools]

    def test_time(self):
        server = self.start("new/bin/mcp-server-time", "--local-timezone=UTC")
        self.assertEqual(self.names(server), ["get_current_time", "convert_time"])
        text, ok = server.call("get_current_time", {"timezone": "Europe/Zurich"}, 20.0)
        self.assertTrue(ok, text)
        self.assertIn("Europe/Zurich", text)
        self.assertFalse(server.call("get_current_time", {"timezone": "Nowhere"}, 20.0)[1])
        self.assertFalse(server.call("missing", {}, 20.0)[1])

    def test_one_of_an_old_sdk(self):
        server = self.start("old/bin/python", "-c", OLD)
        self.assertEqual(self.names(server), ["add"])
        self.assertEqual(server.call("add", {"a": 1, "b": 2}, 20.0), ("3", True))
        self.assertFalse(server.call("add", {"a": "x"}, 20.0)[1])

    def test_the_new_era_without_a_handshake(self):
        """A server of both eras, seen as one that refuses `initialize`."""
        server = self.start("new/bin/mcp-server-time", "--local-timezone=UTC")
        other = mcp.Server("real", *server._command, lambda: False)
        self.addCleanup(other.close)
        request = other._request

        def refusing(method, params, until):
            if method == "initialize":
                return {"error": {"code": -32022, "message": "unsupported"}}
            return request(method, params, until)

        other._request = refusing
        other.start()
        self.assertEqual(self.names(other), self.names(server))
        text, ok = other.call("get_current_time", {"timezone": "Europe/Zurich"}, 20.0)
        self.assertTrue(ok, text)

    def test_everything(self):
        server = self.start("node", f"{NODE}/server-everything/dist/index.js", "stdio")
        self.assertIn("echo", self.names(server))
        text = "é" * 1_500_000
        self.assertEqual(server.call("echo", {"message": text}, 20.0), (f"Echo: {text}", True))
        self.assertIn("[image/png, not shown]", server.call("get-tiny-image", {}, 20.0)[0])
        slow = {"duration": 5, "steps": 2}
        self.assertIn("may have taken effect", server.call("trigger-long-running-operation", slow, 0.5)[0])
        self.assertEqual(server.call("echo", {"message": "after"}, 20.0), ("Echo: after", True))

    def test_filesystem(self):
        folder = os.path.realpath(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, folder)
        server = self.start("node", f"{NODE}/server-filesystem/dist/index.js", folder)
        path = os.path.join(folder, "a.txt")
        self.assertTrue(server.call("write_file", {"path": path, "content": "hello\n"}, 20.0)[1])
        self.assertEqual(server.call("read_text_file", {"path": path}, 20.0), ("hello\n", True))
        self.assertFalse(server.call("read_text_file", {"path": "/etc/passwd"}, 20.0)[1])


if __name__ == "__main__":
    unittest.main()
