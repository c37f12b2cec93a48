"""config: what the environment says, and what it must not say."""

import contextlib
import errno
import json
import os
import shutil
import socket
import tempfile
import threading
import time
import unittest
from unittest import mock

from alltoken_call import config
from alltoken_call.cli import main as cli
from alltoken_call.errors import ExitStatus, KeyProblem, UsageError

from .harness import MEMORY, PATIENCE
from .support import Stream, context

ALLTOKEN = config.gateway({})
HERE = {"ALLTOKEN_WORK_BASE_URL": "http://127.0.0.1:1/v1"}  # a gateway called work


def key(environ, name=None):
    """The key of a gateway."""
    return config.api_key(environ, config.gateway(environ, name))


def root_of(environ, name=None):
    """The root of a gateway."""
    return config.gateway(environ, name).root


class Key(unittest.TestCase):
    def test_the_key_is_stripped(self):
        for value in ("loopback-test-key", " \tloopback-test-key\r\n"):
            with self.subTest(value):
                self.assertEqual(key({"ALLTOKEN_API_KEY": value}), "loopback-test-key")

    def test_every_printable_ascii_character_may_stand_in_it(self):
        whole = "".join(map(chr, range(0x21, 0x7F)))
        self.assertEqual(key({"ALLTOKEN_API_KEY": whole}), whole)

    def test_a_missing_key_is_status_4(self):
        for environ in ({}, {"ALLTOKEN_API_KEY": ""}, {"ALLTOKEN_API_KEY": " \n"}):
            with self.subTest(environ):
                with self.assertRaisesRegex(KeyProblem, "is not set") as caught:
                    key(environ)
                self.assertIs(caught.exception.status, ExitStatus.KEY)

    def test_a_malformed_key_is_status_4_and_not_shown(self):
        for within in (" ", "\n", "\t", "\0", "\x1f", "\x7f", "\x80", "é", "\u2028", "\udc80"):
            with self.subTest(within):
                with self.assertRaises(KeyProblem) as caught:
                    key({"ALLTOKEN_API_KEY": f"loopback{within}key"})
                self.assertIs(caught.exception.status, ExitStatus.KEY)
                self.assertNotIn("loopback", f"{caught.exception.message} {caught.exception.hint}")


class KeyFile(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(dir=MEMORY)
        self.addCleanup(shutil.rmtree, self.folder)
        self.path = os.path.join(self.folder, "key")

    def key(self, content=None, **environ):
        if content is not None:
            with open(self.path, "wb") as file:
                file.write(content)
        return key({"ALLTOKEN_API_KEY_FILE": self.path, **environ})

    def refused(self, content=None, **environ):
        """The message of a refusal, which shows nothing of the file's content."""
        with self.assertRaises(KeyProblem) as caught:
            self.key(content, **environ)
        told = f"{caught.exception.message} {caught.exception.hint}"
        self.assertIs(caught.exception.status, ExitStatus.KEY)
        self.assertNotIn("loopback", told)
        return told

    def pipe(self):
        """The path of a pipe that has a writer, and the writer's descriptor."""
        reader, writer = os.pipe()
        self.addCleanup(os.close, reader)
        self.path = f"/dev/fd/{reader}"
        return writer

    def test_the_key_in_a_file_is_stripped_as_any(self):
        for content in (b"loopback-test-key", b"\n loopback-test-key\r\n"):
            self.assertEqual(self.key(content), "loopback-test-key")

    def test_the_variable_goes_before_the_file_unless_it_is_empty(self):
        self.assertEqual(self.key(b"of-the-file", ALLTOKEN_API_KEY="of-the-variable"), "of-the-variable")
        self.assertEqual(key({"ALLTOKEN_API_KEY_FILE": "/no/such/file", "ALLTOKEN_API_KEY": "one-key"}), "one-key")
        for empty in ("", " \n"):
            self.assertEqual(self.key(b"of-the-file", ALLTOKEN_API_KEY=empty), "of-the-file")

    def test_an_empty_path_is_no_file(self):
        self.assertIn("ALLTOKEN_API_KEY is not set", self.refused(ALLTOKEN_API_KEY_FILE=""))

    def test_each_gateway_has_a_file_of_its_own(self):
        environ = {"ALLTOKEN_OPENROUTER_API_KEY_FILE": self.path}
        self.assertEqual(self.key(b"loopback-test-key"), "loopback-test-key")
        self.assertEqual(key(environ, "openrouter"), "loopback-test-key")
        with self.assertRaises(KeyProblem):
            key(environ)
        with self.assertRaises(KeyProblem):
            key({"ALLTOKEN_API_KEY_FILE": self.path}, "openrouter")

    def test_a_file_that_holds_no_key_is_status_4(self):
        for content in (b"", b" \n\n"):
            self.assertIn("empty", self.refused(content))
        for content in (b"loopback key", b"loopback\nkey", b"loopback\xffkey", b"loopback\0key", "loopbäck".encode()):
            with self.subTest(content):
                self.refused(content)

    def test_a_file_of_64_kib_is_read_and_a_larger_one_is_not_a_key(self):
        self.assertEqual(self.key(b"k" * (1 << 16)), "k" * (1 << 16))
        self.assertIn("65,536 bytes", self.refused(b"k" * (1 << 16) + b"k"))
        self.assertIn("65,536 bytes", self.refused(b"\n" * (1 << 20) + b"loopback"))

    def test_a_file_that_cannot_be_read_is_status_4(self):
        for path in ("/no/such/loopback-file", self.folder, "a\0b", f"{__file__}/x"):
            with self.subTest(path):
                self.refused(ALLTOKEN_API_KEY_FILE=path)
        with mock.patch.object(config.os, "open", side_effect=PermissionError(errno.EACCES, os.strerror(errno.EACCES))):
            self.assertIn(os.strerror(errno.EACCES), self.refused())

    @unittest.skipUnless(os.path.exists("/dev/zero"), "devices")
    def test_a_device_is_not_read(self):
        for path in ("/dev/zero", "/dev/null", "/dev/tty"):
            with self.subTest(path):
                self.refused(ALLTOKEN_API_KEY_FILE=path)

    def test_a_socket_is_not_read(self):
        with contextlib.closing(socket.socket(socket.AF_UNIX)) as listening:
            listening.bind(self.path)
            self.refused()

    @unittest.skipUnless(os.path.isdir("/dev/fd"), "/dev/fd")
    def test_a_pipe_may_bring_the_key_in_pieces(self):
        writer = self.pipe()
        os.write(writer, b"loopback-")

        def later():
            os.write(writer, b"test-key\n")
            os.close(writer)

        timer = threading.Timer(0.05, later)
        timer.start()
        self.addCleanup(timer.join)
        self.assertEqual(self.key(), "loopback-test-key")

    @unittest.skipUnless(os.path.isdir("/dev/fd"), "/dev/fd")
    def test_a_pipe_that_stays_silent_or_never_ends_is_given_up(self):
        for piece in (b"", b"loopback"):
            writer = self.pipe()
            os.write(writer, piece)
            begin = time.monotonic()
            with mock.patch.object(config, "KEY_PATIENCE", 0.1):
                self.refused()
            self.assertLess(time.monotonic() - begin, 2.0)
            os.close(writer)
        self.assertEqual(config.KEY_PATIENCE, 5.0)

    def test_a_fifo_that_somebody_writes_to_is_read(self):
        os.mkfifo(self.path)

        def write():
            with open(self.path, "wb") as file:
                file.write(b"loopback-test-key\n")

        thread = threading.Thread(target=write, daemon=True)
        thread.start()
        self.assertEqual(self.key(), "loopback-test-key")
        thread.join(PATIENCE)

    def test_a_fifo_without_a_writer_holds_nobody_up(self):
        os.mkfifo(self.path)
        with mock.patch.object(config, "KEY_PATIENCE", 0.1):
            self.refused()


class BaseUrl(unittest.TestCase):
    def test_the_default_serves_where_none_is_set(self):
        for environ in ({}, {"ALLTOKEN_BASE_URL": ""}, {"ALLTOKEN_BASE_URL": " \n"}):
            with self.subTest(environ):
                self.assertEqual(root_of(environ), "https://api.alltoken.ai")

    def test_a_trailing_slash_and_one_v1_are_dropped(self):
        for value, root in {
            "https://example.test": "https://example.test",
            " https://example.test/ ": "https://example.test",
            "https://example.test/v1": "https://example.test",
            "https://example.test//v1//": "https://example.test",
            "https://example.test/v1/v1": "https://example.test/v1",
            "https://example.test/gate/v1/": "https://example.test/gate",
            "https://example.test/rev1": "https://example.test/rev1",
            "https://example.test/!~X": "https://example.test/!~X",
            "https://example.test/v1/gate": "https://example.test/v1/gate",
            "https://example.test:8443/v1": "https://example.test:8443",
            "HTTPS://example.test": "https://example.test",
        }.items():
            with self.subTest(value):
                self.assertEqual(root_of({"ALLTOKEN_BASE_URL": value}), root)

    def test_plain_http_is_for_loopback(self):
        for host in ("localhost", "LocalHost", "127.0.0.1", "127.255.255.255", "127.0.0.1:80", "[::1]", "[::1]:65535"):
            with self.subTest(host):
                self.assertEqual(root_of({"ALLTOKEN_BASE_URL": f"http://{host}/v1"}), f"http://{host}")

    def test_any_other_url_is_status_2_and_not_shown(self):
        for value in (
            "http://hunter2.test",
            "http://128.0.0.1/hunter2",
            "ftp://hunter2.test",
            "hunter2.test",
            "//hunter2.test",
            "https://",
            "https:///hunter2",
            "https://:80/hunter2",
            "https://me@hunter2.test",
            "https://me:hunter2@example.test",
            "https://me:hunter2/@example.test",
            "https://me:hunter2#@example.test",
            "https://example.test/?key=hunter2",
            "https://example.test/#hunter2",
            "https://example.test:hunter2",
            "https://example.test:0/hunter2",
            "https://example.test:65536/hunter2",
            "https://[::1/hunter2",
            "https://example.test/hunter 2",
            "https://example.test/hunter\t2",
            "https://example.test/hunter\x7f2",
            "https://éxample.test/hunter2",
        ):
            with self.subTest(value):
                with self.assertRaises(UsageError) as caught:
                    root_of({"ALLTOKEN_BASE_URL": value})
                self.assertIs(caught.exception.status, ExitStatus.USAGE)
                self.assertNotIn("hunter", f"{caught.exception.message} {caught.exception.hint}")


class Loopback(unittest.TestCase):
    def test_loopback_is_localhost_127_and_one_in_ipv6(self):
        for host in (
            "localhost",
            "::1",
            "127.0.0.0",
            "127.0.0.1",
            "127.1.20.199",
            "127.200.249.250",
            "127.255.255.255",
        ):
            with self.subTest(host):
                self.assertTrue(config.is_loopback(host))

    def test_nothing_else_is(self):
        for host in (
            None,
            "",
            "127.0.0.256",
            "127.0.0.260",
            "127.300.0.1",
            "127.0.0",
            "127.0.0.1.1",
            "127.0.0.",
            "127.0.0.1.example.test",
            "127-0-0-1",
            "1127.0.0.1",
            "126.0.0.1",
            "128.0.0.1",
            "10.0.0.1",
            "0.0.0.0",
            "::",
            "::2",
            "localhost.example.test",
            "127.0.0.1\n",
            "127.0.0.٣",
        ):
            with self.subTest(host):
                self.assertIs(config.is_loopback(host), False)


class Gateways(unittest.TestCase):
    def test_the_gateway_is_alltoken_at_the_address_that_the_environment_names(self):
        for environ, root in (
            ({}, "https://api.alltoken.ai"),
            ({"ALLTOKEN_BASE_URL": "https://x.test/v1"}, "https://x.test"),
        ):
            with self.subTest(environ):
                gateway = config.gateway(environ)
                self.assertEqual((gateway.name, gateway.root, gateway.dialect), ("alltoken", root, "alltoken"))
        with self.assertRaises(UsageError):
            config.gateway({"ALLTOKEN_BASE_URL": "http://x.test"})

    def test_proxies_are_looked_for_where_the_environment_or_the_system_may_name_them(self):
        for platform, environ, proxied in (
            ("linux", {}, False),
            ("linux", {"PROXY": "x"}, False),
            ("linux", {"https_proxy": "x"}, True),
            ("linux", {"HTTPS_PROXY": "x"}, True),
            ("darwin", {}, True),
            ("win32", {}, True),
        ):
            with self.subTest(platform, environ=environ), mock.patch.object(config.sys, "platform", platform):
                self.assertIs(config.gateway(environ).proxied, proxied)


class NamedGateways(unittest.TestCase):
    def test_a_name_begins_with_a_letter_and_holds_letters_digits_hyphens_and_underscores(self):
        for name in ("a", "A1", "my-gate_2", "x-", "Z__"):
            with self.subTest(name):
                variable = f"ALLTOKEN_{name.upper().replace('-', '_')}_BASE_URL"
                self.assertEqual(root_of({variable: "https://x.test"}, name), "https://x.test")
        for name in ("1a", "-a", "_a", "a b", "a.b", "a/b", "ä", "aé", "a\n", " a", "٣", "a\0"):
            with self.subTest(name), self.assertRaises(UsageError) as caught:
                config.gateway({}, name)
            self.assertIs(caught.exception.status, ExitStatus.USAGE)

    def test_names_that_differ_in_case_hyphen_and_underscore_alone_are_one_gateway(self):
        environ = {"ALLTOKEN_MY_GATE_BASE_URL": "https://x.test", "ALLTOKEN_MY_GATE_API_KEY": "one-key"}
        names = ("my-gate", "MY_GATE", "My-Gate", "my_gate")
        found = [config.gateway(environ, name) for name in names]
        self.assertEqual({(one.name, one.prefix) for one in found}, {("my-gate", "ALLTOKEN_MY_GATE_")})
        self.assertEqual({config.api_key(environ, one) for one in found}, {"one-key"})
        self.assertEqual(config.gateway({}, "OpenRouter").root, "https://openrouter.ai/api")
        self.assertEqual(config.gateway({}, "ALLTOKEN").prefix, "ALLTOKEN_")

    def test_the_name_on_the_command_line_goes_before_the_environments_and_alltoken_is_the_default(self):
        for chosen, named, name in (
            (None, None, "alltoken"),
            (None, "", "alltoken"),
            (None, " \n", "alltoken"),
            (None, "openai", "openai"),
            (None, " OpenAI\n", "openai"),
            ("ollama", "openai", "ollama"),
            ("alltoken", "openai", "alltoken"),
        ):
            with self.subTest(chosen, named=named):
                environ = {} if named is None else {"ALLTOKEN_GATEWAY": named}
                self.assertEqual(config.gateway(environ, chosen).name, name)
        with self.assertRaises(UsageError):
            config.gateway({"ALLTOKEN_GATEWAY": "9"})

    def test_the_known_names_have_a_root_and_a_dialect(self):
        for name, root, dialect, local in (
            ("alltoken", "https://api.alltoken.ai", "alltoken", False),
            ("openclaw", "https://token.openclaw-token.shop", "new-api", False),
            ("openrouter", "https://openrouter.ai/api", "openai", False),
            ("openai", "https://api.openai.com", "openai", False),
            ("ollama", "http://localhost:11434", "openai", True),
            ("llamacpp", "http://localhost:8080", "openai", True),
            ("lmstudio", "http://localhost:1234", "openai", True),
        ):
            with self.subTest(name):
                found = config.gateway({}, name)
                self.assertEqual((found.root, found.dialect, found.local), (root, dialect, local))

    def test_a_base_url_replaces_the_known_one_and_a_local_server_is_local_on_loopback_only(self):
        for name, root, local in (
            ("ollama", "http://127.0.0.1:9", True),
            ("ollama", "https://gpu.example.test", False),
            ("lmstudio", "https://localhost", True),
            ("openai", "http://127.0.0.1:9", False),
            ("work", "http://127.0.0.1:9", False),
        ):
            with self.subTest(name, root=root):
                found = config.gateway({f"ALLTOKEN_{name.upper()}_BASE_URL": f"{root}/v1/"}, name)
                self.assertEqual((found.root, found.local), (root, local))

    def test_a_base_url_of_a_named_gateway_is_under_the_same_rules(self):
        for value in ("http://hunter2.test", "https://me:hunter2@x.test", "https://x.test/?hunter2", "hunter2"):
            with self.subTest(value), self.assertRaises(UsageError) as caught:
                config.gateway({"ALLTOKEN_WORK_BASE_URL": value}, "work")
            told = f"{caught.exception.message} {caught.exception.hint}"
            self.assertIn("ALLTOKEN_WORK_BASE_URL", told)
            self.assertNotIn("hunter", told)

    def test_an_unknown_name_needs_a_base_url(self):
        for environ in ({}, {"ALLTOKEN_BASE_URL": "https://x.test"}, {"ALLTOKEN_WORK_BASE_URL": " "}):
            with self.subTest(environ), self.assertRaisesRegex(UsageError, "ALLTOKEN_WORK_BASE_URL is not set"):
                config.gateway(environ, "work")

    def test_the_dialect_is_the_variables_or_the_known_one_or_unknown(self):
        for name, variable, value, dialect in (
            ("work", "ALLTOKEN_WORK_DIALECT", None, None),
            ("work", "ALLTOKEN_WORK_DIALECT", " ", None),
            ("work", "ALLTOKEN_WORK_DIALECT", " new-api\n", "new-api"),
            ("work", "ALLTOKEN_WORK_DIALECT", "openai", "openai"),
            ("work", "ALLTOKEN_WORK_DIALECT", "alltoken", "alltoken"),
            ("work", "ALLTOKEN_DIALECT", "openai", None),
            ("openai", "ALLTOKEN_OPENAI_DIALECT", "new-api", "new-api"),
            ("alltoken", "ALLTOKEN_DIALECT", "openai", "openai"),
            ("alltoken", "ALLTOKEN_DIALECT", "", "alltoken"),
            ("openai", "ALLTOKEN_DIALECT", "alltoken", "openai"),
        ):
            with self.subTest(name, **{variable: value}):
                environ = HERE | ({} if value is None else {variable: value})
                self.assertEqual(config.gateway(environ, name).dialect, dialect)
        for value in ("newapi", "OpenAI", "new_api", "none"):
            with self.subTest(value), self.assertRaisesRegex(UsageError, "ALLTOKEN_WORK_DIALECT"):
                config.gateway(HERE | {"ALLTOKEN_WORK_DIALECT": value}, "work")

    def test_a_gateway_never_gets_another_ones_key(self):
        environ = {
            "ALLTOKEN_API_KEY": "of-alltoken",
            "ALLTOKEN_OPENAI_API_KEY": "of-openai",
            "ALLTOKEN_WORK_BASE_URL": "https://x.test",
            "OPENAI_API_KEY": "of-somebody",
            "OPENROUTER_API_KEY": "of-somebody",
        }
        self.assertEqual(key(environ), "of-alltoken")
        self.assertEqual(key(environ, "openai"), "of-openai")
        for name in ("openrouter", "openclaw", "work"):
            with self.subTest(name), self.assertRaises(KeyProblem) as caught:
                key(environ, name)
            self.assertIn(f"ALLTOKEN_{name.upper()}_API_KEY", caught.exception.message)
            self.assertNotIn("of-", f"{caught.exception.message}{caught.exception.hint}")
        with self.assertRaises(KeyProblem):
            key({"ALLTOKEN_OPENAI_API_KEY": "of-openai"})
        elsewhere = environ | {"ALLTOKEN_BASE_URL": "https://openrouter.ai/api"}  # the same address is no reason
        with self.assertRaises(KeyProblem):
            key(elsewhere, "openrouter")

    def test_on_loopback_a_named_gateway_needs_no_key_and_alltoken_does(self):
        for name, environ in (
            ("ollama", {}),
            ("work", HERE),
            ("work", {"ALLTOKEN_WORK_BASE_URL": "http://[::1]"}),
        ):
            with self.subTest(name, environ=environ):
                self.assertEqual(key(environ | {"ALLTOKEN_API_KEY": "of-alltoken"}, name), "")
                self.assertEqual(key(environ | {f"ALLTOKEN_{name.upper()}_API_KEY": " a-key\n"}, name), "a-key")
        for environ, name in (
            ({"ALLTOKEN_BASE_URL": "http://127.0.0.1:1"}, None),
            ({"ALLTOKEN_OLLAMA_BASE_URL": "https://gpu.example.test"}, "ollama"),
        ):
            with self.subTest(name, environ=environ), self.assertRaises(KeyProblem):
                key(environ, name)
        with self.assertRaises(KeyProblem):  # a key that is named and cannot be had is not the same as none
            key({"ALLTOKEN_OLLAMA_API_KEY_FILE": "/no/such/file"}, "ollama")

    def test_the_keys_of_all_gateways_are_secrets(self):
        environ = {
            "ALLTOKEN_API_KEY": " a\n",
            "ALLTOKEN_WORK_API_KEY": "b",
            "OTHER_API_KEY": "c",
            "ALLTOKEN_LEDGER": "d",
        }
        self.assertEqual(sorted(config.secrets(environ)), ["a", "b"])

    def test_variables_that_hold_a_key_are_left_out(self):
        environ = {
            "ALLTOKEN_WORK_API_KEY": "the-secret",
            "A": "the-secret",
            "B": "Bearer the-secret, x",
            "C": "fine",
            "D": "",
            "ALLTOKEN_SHORT_API_KEY": "abcde",
            "SHORT": "abcde",
            "E": "other-key",
            "F": "123456",
        }
        left = config.without_keys(environ, "other-key", "", None, "123456")
        self.assertEqual(left, {"C": "fine", "D": "", "SHORT": "abcde"})
        self.assertEqual(config.without_keys({"C": "fine"}), {"C": "fine"})


class Models(unittest.TestCase):
    def test_a_named_gateway_has_variables_of_its_own_and_no_default(self):
        gateway = config.gateway({}, "ollama")
        for command in ("chat", "image", "video"):
            with self.subTest(command):
                environ = {f"ALLTOKEN_{command.upper()}_MODEL": "other-1"}
                self.assertIsNone(config.default_model(environ, gateway, command))
                environ[f"ALLTOKEN_OLLAMA_{command.upper()}_MODEL"] = " llama3.2\n"
                self.assertEqual(config.default_model(environ, gateway, command), "llama3.2")
                self.assertEqual(config.default_model(environ, ALLTOKEN, command), "other-1")

    def test_without_any_model_it_is_status_2_with_the_variable_and_the_command_that_lists_them(self):
        with open(os.devnull) as null:
            for command in ("chat", "image", "video"):
                for more in (["--dry-run"], []):
                    with self.subTest(command, more=more):
                        out, err = Stream(), Stream()
                        argv = [command, "--gateway", "ollama", "--json", "a", "fox", *more]
                        environ = {"ALLTOKEN_IMAGE_MODEL": "x", "ALLTOKEN_CHAT_MODEL": "x", "ALLTOKEN_VIDEO_MODEL": "x"}
                        world = context(stdin=null, stdout=out, stderr=err, environ=environ)
                        self.assertEqual(cli.main(argv, world), 2)
                        error = json.loads(out.written)["error"]
                        self.assertEqual(error["code"], "no_model")
                        self.assertIn(f"ALLTOKEN_OLLAMA_{command.upper()}_MODEL", error["hint"])
                        self.assertIn("models --gateway ollama", error["hint"])

    def test_each_command_has_its_variable_and_a_default_of_the_gateway(self):
        for command, model in {
            "chat": "gpt-5.4-mini",
            "image": "gpt-image-2",
            "video": "seedance-1.5-pro",
            "search": "deepseek-v4-pro",
        }.items():
            with self.subTest(command):
                name = f"ALLTOKEN_{command.upper()}_MODEL"
                self.assertEqual(config.default_model({}, ALLTOKEN, command), model)
                self.assertEqual(config.default_model({name: " "}, ALLTOKEN, command), model)
                self.assertEqual(config.default_model({name: " other-1\n"}, ALLTOKEN, command), "other-1")
                relay = config.gateway({"ALLTOKEN_RELAY_BASE_URL": "https://x.test"}, "relay")
                self.assertIsNone(config.default_model({}, relay, command))

    def test_the_default_models_are_the_gateways_whatever_its_dialect(self):
        for command, model in (("chat", "gpt-5.4-mini"), ("image", "gpt-image-2"), ("video", "seedance-1.5-pro")):
            for dialect in config.DIALECTS:
                with self.subTest(command, dialect=dialect):
                    out, environ = Stream(), {"ALLTOKEN_DIALECT": dialect}
                    with open(os.devnull) as null:
                        status = cli.main(
                            [command, "--dry-run", "hi"], context(stdin=null, stdout=out, environ=environ)
                        )
                    self.assertEqual((status, json.loads(out.written)["body"]["model"]), (0, model))

    def test_the_model_that_is_sent_is_the_one_named_or_else_the_variables_or_else_the_default(self):
        with open(os.devnull) as null:
            for argv, environ, model in (
                (["hi"], {}, "gpt-5.4-mini"),
                (["hi"], {"ALLTOKEN_CHAT_MODEL": " "}, "gpt-5.4-mini"),
                (["hi"], {"ALLTOKEN_CHAT_MODEL": " other-1\n"}, "other-1"),
                (["hi", "-m", "third-1"], {"ALLTOKEN_CHAT_MODEL": "other-1"}, "third-1"),
            ):
                with self.subTest(argv, environ=environ):
                    out = Stream()
                    status = cli.main(["chat", "--dry-run", *argv], context(stdin=null, stdout=out, environ=environ))
                    self.assertEqual((status, json.loads(out.written)["body"]["model"]), (0, model))


class Places(unittest.TestCase):
    def test_the_state_directory_follows_xdg_then_home(self):
        for environ, path in (
            ({"XDG_STATE_HOME": "/state", "HOME": "/home/me"}, "/state/alltoken-call"),
            ({"XDG_STATE_HOME": "state", "HOME": "/home/me"}, "/home/me/.local/state/alltoken-call"),
            ({"XDG_STATE_HOME": "", "HOME": "/home/me"}, "/home/me/.local/state/alltoken-call"),
            ({"HOME": "/home/me", "LOCALAPPDATA": "/local"}, "/home/me/.local/state/alltoken-call"),
            ({"XDG_STATE_HOME": "state", "HOME": "me"}, None),
            ({"HOME": ""}, None),
            ({}, None),
        ):
            with self.subTest(environ):
                self.assertEqual(config.state_dir(environ), path)

    def test_on_windows_it_follows_localappdata_alone(self):
        for environ, path in (
            ({"LOCALAPPDATA": "/local", "XDG_STATE_HOME": "/state", "HOME": "/home/me"}, "/local/alltoken-call"),
            ({"XDG_STATE_HOME": "/state", "HOME": "/home/me"}, None),
        ):
            with self.subTest(environ), mock.patch.object(config.os, "name", "nt"):
                self.assertEqual(config.state_dir(environ), path)

    def test_the_ledger_may_be_elsewhere_or_off(self):
        for environ, path in (
            ({"HOME": "/home/me"}, "/home/me/.local/state/alltoken-call/ledger.db"),
            ({"HOME": "/home/me", "ALLTOKEN_LEDGER": ""}, "/home/me/.local/state/alltoken-call/ledger.db"),
            ({"HOME": "/home/me", "ALLTOKEN_LEDGER": "my.db"}, "my.db"),
            ({"HOME": "/home/me", "ALLTOKEN_LEDGER": "off"}, None),
            ({"ALLTOKEN_LEDGER": "my.db"}, "my.db"),
            ({}, None),
        ):
            with self.subTest(environ):
                self.assertEqual(config.ledger_path(environ), path)
