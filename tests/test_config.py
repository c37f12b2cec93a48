"""config: what the environment says, and what it must not say."""

import json
import os
import unittest
from unittest import mock

from alltoken_call import config
from alltoken_call.cli import main as cli
from alltoken_call.errors import ExitStatus, KeyProblem, UsageError
from alltoken_call.gateways.alltoken import AllToken

from .support import Stream, context


class Key(unittest.TestCase):
    def test_the_key_is_stripped(self):
        for value in ("loopback-test-key", " \tloopback-test-key\r\n"):
            with self.subTest(value):
                self.assertEqual(config.api_key({"ALLTOKEN_API_KEY": value}), "loopback-test-key")

    def test_every_printable_ascii_character_may_stand_in_it(self):
        key = "".join(map(chr, range(0x21, 0x7F)))
        self.assertEqual(config.api_key({"ALLTOKEN_API_KEY": key}), key)

    def test_a_missing_key_is_status_4(self):
        for environ in ({}, {"ALLTOKEN_API_KEY": ""}, {"ALLTOKEN_API_KEY": " \n"}):
            with self.subTest(environ):
                with self.assertRaisesRegex(KeyProblem, "is not set") as caught:
                    config.api_key(environ)
                self.assertIs(caught.exception.status, ExitStatus.KEY)

    def test_a_malformed_key_is_status_4_and_not_shown(self):
        for within in (" ", "\n", "\t", "\0", "\x1f", "\x7f", "\x80", "é", "\u2028", "\udc80"):
            with self.subTest(within):
                with self.assertRaises(KeyProblem) as caught:
                    config.api_key({"ALLTOKEN_API_KEY": f"loopback{within}key"})
                self.assertIs(caught.exception.status, ExitStatus.KEY)
                self.assertNotIn("loopback", f"{caught.exception.message} {caught.exception.hint}")


class BaseUrl(unittest.TestCase):
    def test_the_default_serves_where_none_is_set(self):
        for environ in ({}, {"ALLTOKEN_BASE_URL": ""}, {"ALLTOKEN_BASE_URL": " \n"}):
            with self.subTest(environ):
                self.assertEqual(config.base_url(environ), "https://api.alltoken.ai")

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
                self.assertEqual(config.base_url({"ALLTOKEN_BASE_URL": value}), root)

    def test_plain_http_is_for_loopback(self):
        for host in ("localhost", "LocalHost", "127.0.0.1", "127.255.255.255", "127.0.0.1:80", "[::1]", "[::1]:65535"):
            with self.subTest(host):
                self.assertEqual(config.base_url({"ALLTOKEN_BASE_URL": f"http://{host}/v1"}), f"http://{host}")

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
                    config.base_url({"ALLTOKEN_BASE_URL": value})
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


class Models(unittest.TestCase):
    def test_each_command_has_its_variable_and_a_default_of_the_gateway(self):
        for command, model in {
            "chat": "gpt-5.4-mini",
            "image": "gpt-image-2",
            "video": "seedance-1.5-pro",
            "search": "deepseek-v4-pro",
        }.items():
            with self.subTest(command):
                name = f"ALLTOKEN_{command.upper()}_MODEL"
                self.assertIsNone(config.default_model({}, command))
                self.assertIsNone(config.default_model({name: " "}, command))
                self.assertEqual(config.default_model({name: " other-1\n"}, command), "other-1")
                self.assertEqual(AllToken("https://x.test").defaults[command], model)

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
