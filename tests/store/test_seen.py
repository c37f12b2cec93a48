"""seen.py: what `models` leaves for completion."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from ..gateway import KEY, reply
from ..harness import Case


class Seen(Case):
    def setUp(self):
        super().setUp()
        self.models = Path(self.environ["XDG_STATE_HOME"], "alltoken-call", "models")

    def files(self) -> dict[str, list[str]]:
        return {path.name: path.read_text().split("\n")[:-1] for path in sorted(self.models.iterdir())}

    def test_each_kind_has_a_file_that_only_the_user_reads(self):
        self.assertQuietly(0, self.call("models", "--type", "all"))
        found = self.files()
        self.assertEqual(set(found), {f"alltoken.{kind}" for kind in ("chat", "image", "video", "search")})
        self.assertIn("gpt-image-2", found["alltoken.image"])
        self.assertNotIn("gpt-image-2", found["alltoken.chat"])
        self.assertTrue(all(name.startswith(("deepseek", "qwen")) for name in found["alltoken.search"]))
        for path in self.models.iterdir():
            self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o600)
        self.assertEqual(stat.S_IMODE(self.models.stat().st_mode), 0o700)

    def test_a_filter_does_not_shorten_it_and_prices_do_as_well(self):
        self.assertQuietly(0, self.call("models", "--filter", "claude"))
        whole = self.files()["alltoken.chat"]
        self.assertGreater(len(whole), 5)
        self.models.joinpath("alltoken.chat").unlink()
        self.assertQuietly(0, self.call("models", "-l"))
        self.assertEqual(sorted(self.files()["alltoken.chat"]), sorted(whole))

    def test_an_id_that_a_shell_could_act_on_is_left_out(self):
        names = ["ok-1", "$(touch x)", "a b", "`x`", "x\ny", "-m", "a;b", "vendor/m:3b", "é", ""]
        self.gateway.on("GET /v1/models", reply(200, {"data": [{"id": name} for name in names]}))
        self.assertQuietly(0, self.call("models"))
        self.assertEqual(self.files()["alltoken.chat"], ["ok-1", "vendor/m:3b"])

    def test_a_gateway_has_files_of_its_own(self):
        other = {"ALLTOKEN_MY_RELAY_BASE_URL": self.gateway.url, "ALLTOKEN_MY_RELAY_DIALECT": "openai"}
        other["ALLTOKEN_MY_RELAY_API_KEY"] = KEY
        self.assertQuietly(0, self.call("models", "--gateway", "my_relay", **other))
        self.assertEqual(set(self.files()), {"my-relay.chat"})

    def test_an_empty_list_or_a_place_that_cannot_be_written_changes_nothing(self):
        self.assertQuietly(0, self.call("models"))
        before = self.files()
        result = self.call("models", XDG_STATE_HOME=self.file("plain", ""))
        self.assertQuietly(0, result)
        self.assertEqual(result.err.count("\n"), 1)
        self.assertEqual(self.call("models", XDG_STATE_HOME=None, HOME=None).status, 0)
        self.gateway.on("GET /v1/models", reply(200, {"data": []}))
        self.assertQuietly(1, self.call("models"))
        self.assertEqual(self.files(), before)

    def test_the_same_list_is_not_written_again(self):
        self.assertQuietly(0, self.call("models"))
        path = self.models / "alltoken.chat"
        os.utime(path, (1, 1))
        self.assertQuietly(0, self.call("models"))
        self.assertEqual(path.stat().st_mtime, 1)
