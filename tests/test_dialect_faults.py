"""The fault matrix at gateways other than AllToken: its rows for chat, image and video, once for each dialect.

The faults are those of `test_faults`, and so is what must come of them; `elsewhere` says what differs. Most of it is
that an image comes in the answer to its request, which is therefore never sent twice.
"""

from __future__ import annotations

import re
from typing import Any

from .gateway import KEY
from .relay import Relay
from .test_faults import (
    BODIES,
    COMMANDS,
    FAULTS,
    SPOOL,
    STATUSES,
    Command,
    Fault,
    Row,
    Rows,
    refusals,
    setUpModule,
    spread,
)

__all__ = ["setUpModule"]  # which unittest calls

KEPT = ("100,000 brackets", "a gzip bomb", "a list of nonsense", "a number of 5,000 digits", "white space without end")
ONCE_MORE = ("429", "refused", "blackholed")  # an image, too, is asked for again: the request was not taken
# What comes of one fault for one command: the exit status and the number of requests.
OWN: dict[tuple[str, str], tuple[int, int]] = {
    ("a duplicate without its task", "image"): (1, 1),  # no more than another refusal
    ("an HTML 200", "image"): (3, 1),  # not the API's root, as a loss at AllToken it may be one
    ("an HTML 200", "video"): (3, 1),
    ("an HTML 200 again and again", "watch"): (8, 4),  # asked every 5 s
    ("a broken chunk inside the image", "watch"): (8, 4),
    ("a completed task without data", "watch"): (0, 2),  # its clip lies at the task's own address
    ("an error before the text", "chat"): (5, 1),  # one of AllToken's codes
}


class Patterns(dict):
    """Scripts whose requests are patterns: nobody knows a task's id beforehand."""

    def get(self, request: str, default: Any = None) -> Any:
        return next((steps for pattern, steps in self.items() if re.fullmatch(pattern, request)), default)


class Elsewhere(Rows):
    """A world whose gateway is a relay."""

    dialect = ""
    address = "ALLTOKEN_RELAY_BASE_URL"
    most_asides = 9

    def setUp(self) -> None:
        super().setUp()
        self.gateway = relay = Relay(self.dialect, key=KEY)
        relay.__enter__()
        self.addCleanup(relay.__exit__)
        relay.clock, relay.monotonic, relay.missing = self.clock, self.clock.monotonic, 0
        relay._scripts = Patterns()
        relay.on("GET /files/moved.png", lambda exchange: exchange.reply(200, relay.video))
        self.environ |= {"ALLTOKEN_GATEWAY": "relay", self.address: relay.url, "ALLTOKEN_RELAY_API_KEY": KEY}
        self.environ["ALLTOKEN_RELAY_DIALECT"] = self.dialect


def commands(chat: str, image: str, video: str, submit: str, clip: str) -> dict[str, Command]:
    """The command lines of a dialect with these models, and the requests that a fault strikes."""
    make, film = COMMANDS["image"], COMMANDS["video"]._replace(argv=f"video cat -m {video}", struck=f"POST {submit}")
    return {
        "chat": COMMANDS["chat"]._replace(argv=f"chat -m {chat} hi", out=r"^.+\n$"),
        "image": make._replace(argv=f"{make.argv} -m {image}", struck="POST /v1/images/generations", requests=1),
        "video": film._replace(out=r"^http://\S+\n$"),
        "watch": film._replace(out=r"^http://\S+\n$", struck=r"GET /v1/videos/\w+"),
        "clip": COMMANDS["clip"]._replace(argv=f"{film.argv} -o OUT/out.mp4", struck=f"GET {clip}"),
    }


class NewApi(Elsewhere):
    """As the OpenClaw Token relay."""

    dialect = "new-api"
    asides = r"GET (/api/(pricing|status|log/token)|/v1/video/generations/\w+|/v1/models|/cdn/\w+\.png)"
    commands = commands(
        "claude-sonnet-4-6", "gpt-image-1-vvip", "wan2.6-t2v", "/v1/video/generations", r"/cdn/\w+\.mp4"
    )


class OpenAI(Elsewhere):
    """As a server with OpenAI's API."""

    dialect = "openai"
    asides = r"GET /v1/models"
    commands = commands("gpt-5.4-mini", "gpt-image-1", "sora-2 --duration 4", "/v1/videos", r"/v1/videos/\w+/content")


def elsewhere(dialect: str, fault: Fault, row: Row, command: str) -> Row:
    """What has to come of a fault."""
    name, status, requests = fault.name, row.status, row.requests
    if (name, command) in OWN:
        status, requests = OWN[name, command]
    elif name == "odd figures" and dialect == "new-api":
        status = 9  # a relay sends [DONE] after a cut, too
    elif command == "image" and not name.startswith(ONCE_MORE):
        if name.startswith(("500", "503")):
            status = 5  # the relay says itself that it failed
        elif status == 0 and requests != COMMANDS["image"].requests:
            status = 12  # at AllToken it was made whole by asking again
        requests = 1
    elif name.startswith("404 ") and command != "watch":
        requests = 1
    if command == "image" and status == 12:
        spooled = name in KEPT or name == "gzip cut" or name.startswith("a Content-Length of 10^14")
        return Row(command, status, requests, disk=SPOOL if spooled else None, told="unknown_outcome")
    told = row.told.replace("vgen_00000001", r"\w+").replace(r"[cost\] \$", r"[cost\] ")
    if status != row.status or status == 12:
        told = "unknown_outcome" * (status == 12)
    return row._replace(commands=command, status=status, requests=requests, told=told)


for case in (NewApi, OpenAI):
    faults = []
    # The bodies of a chat's refusals are read in one place for all dialects: each takes every second one.
    chats = len(STATUSES) * len(BODIES)
    refused = [fault for at, fault in enumerate(refusals()) if at >= chats or at % 2 == (case is OpenAI)]
    for fault in (*FAULTS, *refused):
        mine = [(row, command) for row in fault.rows for command in row.commands.split() if command in case.commands]
        if mine:
            faults.append(fault._replace(rows=tuple(elsewhere(case.dialect, fault, *one) for one in mine)))
    spread(case, faults)
del case
