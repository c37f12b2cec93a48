"""scaffold.py: the project that --new-agent writes, run as its user would."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import urllib.error
import urllib.request
import zipapp
from pathlib import Path
from unittest import mock

from alltoken_call.cli import scaffold

from ..gateway import CHAT
from ..harness import PATIENCE, PYTHON, ROOT, Case
from ..loop_support import calling, saying, wanted


class ProjectCase(Case):
    def setUp(self) -> None:
        super().setUp()
        self.place = os.path.join(self.folder, "my agent")

    def written(self) -> Path:
        result = self.call("--new-agent", self.place)
        self.assertEqual(result.status, 0, result.err)
        return Path(self.place)

    def python(self, *words: str, **options):
        """Start a file of the project, as a process."""
        environ = {"PYTHONPATH": str(ROOT), **options.pop("environ", {})}
        return self.spawn(*words, command=[*PYTHON], cwd=self.place, environ=environ, **options)


class Project(ProjectCase):
    def test_it_writes_seven_files_and_says_which_and_how_to_run_them(self):
        result = self.call("--new-agent", self.place)
        names = ("agent.py", "tools.py", "chat.py", "serve.py", "media.py", "test_agent.py", "README.md")
        paths = [os.path.join(self.place, name) for name in names]
        self.assertEqual((result.status, result.out.decode().splitlines()), (0, paths))
        self.assertEqual(sorted(os.listdir(self.place)), sorted(names))
        for part in ("cd '", "PYTHONPATH", "-m unittest", "chat.py", "ALLTOKEN_API_KEY"):
            self.assertIn(part, result.err)

    def test_what_it_says_runs_as_it_stands_without_a_key(self):
        steps = self.call("--new-agent", self.place).err.splitlines()[1:-1]
        self.assertIn("-m unittest", steps[-1])
        bin = Path(self.folder, "bin")
        bin.mkdir()
        (bin / "python3").symlink_to(sys.executable)
        environ = {"PATH": f"{bin}:{os.defpath}"}
        done = subprocess.run(["sh", "-ec", "\n".join(steps)], env=environ, capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertRegex(done.stderr, r"Ran [5-9] tests")

    def test_its_tests_pass_on_a_bare_interpreter_and_notice_a_fault(self):
        folder = self.written()
        environ = {"PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-S", "-B", "-W", "error", "-m", "unittest"]
        self.assertEqual(
            subprocess.run(command, cwd=folder, env=environ, capture_output=True, check=False).returncode, 0
        )
        tools = (folder / "tools.py").read_text()
        (folder / "tools.py").write_text(tools.replace("operator.sub", "operator.add"))
        self.assertEqual(
            subprocess.run(command, cwd=folder, env=environ, capture_output=True, check=False).returncode, 1
        )

    def test_it_overwrites_nothing(self):
        os.mkdir(self.place)
        mine = Path(self.place, "tools.py")
        mine.write_text("mine")
        Path(self.place, "other.py").touch()
        result = self.call("--new-agent", self.place)
        self.assertQuietly(13, result)
        self.assertIn(str(mine), result.err)
        self.assertEqual((sorted(os.listdir(self.place)), mine.read_text()), (["other.py", "tools.py"], "mine"))
        mine.unlink()
        mine.symlink_to(os.path.join(self.folder, "nowhere"))
        self.assertEqual(self.call("--new-agent", self.place).status, 13)
        mine.unlink()
        self.written()
        self.assertEqual(self.call("--new-agent", self.place).status, 13)

    def test_a_place_that_cannot_be_written_is_status_13_and_nothing_is_left(self):
        plain = self.file("plain", "")
        self.assertQuietly(13, self.call("--new-agent", os.path.join(plain, "project")))
        real = open

        def full(path, mode="r", *rest, **options):
            if str(path).endswith("serve.py") and "x" in mode:
                raise OSError(28, "No space left on device", str(path))
            return real(path, mode, *rest, **options)

        with mock.patch.object(scaffold, "open", full, create=True):
            result = self.call("--new-agent", self.place)
        self.assertQuietly(13, result)
        self.assertIn("No space left", result.err)
        self.assertEqual(os.listdir(self.place), [])

    def test_without_one_directory_it_is_status_2(self):
        for words in ([], [""], ["a", "b"]):
            self.assertEqual(self.call("--new-agent", *words).status, 2)
        self.assertIn("--new-agent", self.call("--new-agnet", "a").err)
        self.assertIn("--new-agent DIR", self.call("--help").out.decode())
        for shell in ("bash", "zsh", "fish"):
            self.assertIn("--new-agent", self.call("--completion", shell).out.decode())

    def test_from_a_zip_file_it_writes_the_same(self):
        self.written()
        archive = os.path.join(self.folder, "alltoken-call.pyz")
        bundle = os.path.join(self.folder, "bundle")
        others = shutil.ignore_patterns("__pycache__", "*.typed", "*.md")  # an archive may hold the modules alone
        shutil.copytree(ROOT / "alltoken_call", os.path.join(bundle, "alltoken_call"), ignore=others)
        zipapp.create_archive(bundle, archive, main="alltoken_call.__main__:entry")
        other = os.path.join(self.folder, "other")
        result = self.execute("--new-agent", other, command=[*PYTHON, archive])
        self.assertQuietly(0, result)
        for name in os.listdir(self.place):
            one, two = Path(self.place, name).read_text(), Path(other, name).read_text()
            self.assertEqual(one.replace(str(ROOT), archive), two)
        environ = {"PYTHONPATH": archive}
        done = self.execute("agent.py", "hi", command=[*PYTHON], cwd=other, environ=environ)
        self.assertEqual((done.status, done.out[-3:]), (0, b"hi\n"), done.err)

    def test_its_files_are_plain_explained_and_small(self):
        for path in sorted(self.written().glob("*.py")):
            tree = ast.parse(path.read_text("utf-8"))
            with self.subTest(path.name):
                self.assertTrue(ast.get_docstring(tree))
                nodes = [node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.ClassDef))]
                public = [node for node in nodes if not node.name.startswith(("_", "test_", "setUp"))]
                undocumented = [node.name for node in public if not ast.get_docstring(node)]
                self.assertEqual(undocumented, [])
                self.assertLess(len(path.read_text("utf-8").splitlines()), 180)
                calls = {
                    node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and hasattr(node.func, "id")
                }
                self.assertFalse(calls & {"eval", "exec", "compile"})

    def test_the_readme_names_every_file_and_its_python_lines_run(self):
        folder = self.written()
        text = (folder / "README.md").read_text("utf-8")
        for path in folder.glob("*.py"):
            self.assertIn(f"`{path.name}`", text)
        self.assertIn(f"export PYTHONPATH={ROOT}", text)
        for command in re.findall(r"^python3 (\S+\.py)", text, re.MULTILINE):
            self.assertTrue((folder / command).exists())

    def test_one_question(self):
        self.written()
        self.gateway.on(CHAT, calling(wanted("calculate", '{"expression": "6*7"}')), saying("It is 42."))
        out, err = self.python("agent.py", "six", "times", "seven?").communicate(timeout=PATIENCE)
        self.assertEqual((out, err), (b"It is 42.\n", b""))
        self.assertEqual(self.gateway.requests[0].json["messages"][-1]["content"], "six times seven?")
        self.assertEqual(self.gateway.requests[1].json["messages"][-1]["content"], "42")

    def test_without_a_key_it_is_said_in_a_line(self):
        self.written()
        for name in ("agent.py", "chat.py"):
            process = self.python(name, environ={"ALLTOKEN_API_KEY": ""})
            out, err = process.communicate(timeout=PATIENCE)
            self.assertEqual(
                (process.returncode, out, b"ALLTOKEN_API_KEY" in err, b"Traceback" in err), (1, b"", True, False)
            )

    def test_a_conversation_in_the_terminal(self):
        self.written()
        self.gateway.on(CHAT, calling(wanted("current_time", "{}")), saying("No\x1bon."), saying("Bye."))
        process = self.python("chat.py", stdin=subprocess.PIPE)
        out, err = process.communicate(b"what time?\n\nbye\n", timeout=PATIENCE)
        text = out.decode()
        self.assertEqual((process.returncode, err), (0, b""))
        for part in ("[current_time {}]", "No\ufffdon.", "Bye.", "$0.0000564"):
            self.assertIn(part, text)

    def test_an_image_and_a_video(self):
        self.written()
        for name, data in (("fox.png", self.gateway.tasks.image), ("fox.mp4", self.gateway.tasks.video)):
            process = self.python("media.py", "a fox", name)
            out, err = process.communicate(timeout=PATIENCE)
            self.assertEqual((process.returncode, out.decode(), err), (0, f"{name}\n", b""))
            self.assertEqual(Path(self.place, name).read_bytes(), data)
        process = self.python("media.py", "a fox", "fox.png")
        self.assertIn(b"already exists", process.communicate(timeout=PATIENCE)[1])
        self.assertEqual(process.returncode, 1)


class Serve(ProjectCase):
    def setUp(self) -> None:
        super().setUp()
        self.written()
        self.process = self.python("serve.py", "0")
        first = self.process.stderr.readline().decode()
        self.url = re.search(r"http://127\.0\.0\.1:\d+/chat", first)[0]

    def post(self, document, **headers) -> tuple[int, dict]:
        data = document if isinstance(document, bytes) else json.dumps(document).encode()
        request = urllib.request.Request(self.url, data, headers)
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)

    def test_two_sessions_at_once_have_conversations_of_their_own(self):
        both = threading.Barrier(2, timeout=PATIENCE)

        def meet(exchange) -> None:
            both.wait()  # neither is answered before the other has asked
            saying(f"for {exchange.json['messages'][-1]['content']}")(exchange)

        self.gateway.on(CHAT, meet)
        found: dict[str, list] = {"a": [], "b": []}

        def talk(session: str) -> None:
            for turn in range(2):
                found[session].append(self.post({"sessionId": session, "message": f"{session}{turn}"}))

        threads = [threading.Thread(target=talk, args=(session,)) for session in found]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for session, answers in found.items():
            self.assertEqual([status for status, _ in answers], [200, 200])
            self.assertEqual([answer["response"] for _, answer in answers], [f"for {session}0", f"for {session}1"])
            said = [one["content"] for one in answers[1][1]["history"] if one["role"] == "user"]
            self.assertEqual(said, [f"{session}0", f"{session}1"])

    def test_curl_is_answered(self):
        curl = shutil.which("curl")
        if curl is None:
            self.skipTest("curl is not installed")
        done = subprocess.run(
            [curl, "-s", "-d", '{"sessionId": "a", "message": "hi"}', self.url], capture_output=True, check=True
        )
        self.assertTrue(json.loads(done.stdout)["response"].endswith("hi"))

    def test_a_second_message_at_once_is_409_and_what_is_wrong_is_told(self):
        gate = threading.Event()

        def slow(exchange) -> None:
            gate.wait(PATIENCE)
            saying("one")(exchange)

        self.gateway.on(CHAT, slow)
        message = {"sessionId": "a", "message": "hi"}
        first = []
        thread = threading.Thread(target=lambda: first.append(self.post(message)[0]))
        thread.start()
        while not self.asked():
            pass
        self.assertEqual(self.post(message)[0], 409)
        gate.set()
        thread.join()
        self.assertEqual(first, [200])
        for status, body, headers in (
            (400, b"{not json", {}),
            (400, {"sessionId": "a"}, {}),
            (413, b"", {"Content-Length": str((1 << 20) + 1)}),
            (403, message, {"Origin": "https://example.com"}),
            (403, message, {"Host": "evil.example"}),
        ):
            found, document = self.post(body, **headers)
            self.assertEqual((found, set(document["error"])), (status, {"code", "message"}))

    def test_the_gateways_error_is_502_with_its_code_and_ctrl_c_ends_the_server(self):
        self.gateway.on(
            CHAT, lambda exchange: exchange.refuse(402, "insufficient_balance", "billing_error", "no credit")
        )
        status, document = self.post({"sessionId": "a", "message": "hi"})
        self.assertEqual((status, document["error"]["code"]), (502, "insufficient_balance"))
        self.process.send_signal(2)
        _, err = self.process.communicate(timeout=PATIENCE)
        self.assertEqual((self.process.returncode, b"Traceback" in err), (0, False))
