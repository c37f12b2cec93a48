"""A loopback relay that is not AllToken: new-api as OpenClaw Token runs it, or a server with OpenAI's API; runnable.

    python3 -m tests.relay image -m wan2.6-t2i "a cat"              start it, run the command against it, stop it
    python3 -m tests.relay                                          serve, and print what to export
    python3 -m tests.relay --dialect openrouter chat openai/gpt-5.4-mini "hi"    another dialect, before the command

In tests: `Relay(dialect)` is scripted as `Gateway` is (`on`, and the steps of tests/gateway.py); what else it can do
wrong are the attributes that its constructor sets. `images` holds what image requests asked for, `jobs` the videos,
`keys` every credential that came. Facts: GATEWAYS.md.
"""

from __future__ import annotations

import email
import email.policy
import functools
import itertools
import json
import re
import sys
import time
from collections.abc import Callable
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from . import relay_media as media
from .gateway import DONE, Exchange, Gateway, Step, delta, serve

RELAY_KEY = "loopback-relay-key"
UNIT = 500_000  # quota that is one dollar
HTML = b"<!doctype html><html><head><title>Relay</title></head><body><div id=root></div></body></html>"


class Call(Exchange):
    """One request at a relay, answered with the relay's headers and in its envelopes."""

    gateway: Relay

    def __init__(self, exchange: Exchange, number: int) -> None:
        self.__dict__.update(exchange.__dict__)
        self.id = f"{time.strftime('%Y%m%d%H%M%S')}{number:09d}Loopback"

    def own_headers(self) -> dict[str, str]:
        """What every answer carries."""
        return {} if self.path.startswith("/cdn/") else self.gateway.headers(self)

    @functools.cached_property
    def form(self) -> list[tuple[str, str | None, str, bytes]]:
        """A multipart body's parts: name, file name, type, bytes."""
        head = f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode()
        message: Any = email.message_from_bytes(head + self.body, policy=email.policy.HTTP)
        return [
            (
                str(part.get_param("name", header="content-disposition")),
                part.get_filename(),
                part.get_content_type(),
                part.get_payload(decode=True),
            )
            for part in (message.iter_parts() if message.is_multipart() else ())
        ]

    @functools.cached_property
    def fields(self) -> dict[str, Any]:
        """The body's fields: JSON, or the text fields of a form."""
        if not (self.headers["Content-Type"] or "").startswith("multipart/"):
            return self.json
        return {name: data.decode() for name, file, _, data in self.form if file is None}

    def envelope(self, status: int, code: str, message: str, type_: str = "", *, early: bool = False) -> dict[str, Any]:
        """An error in this dialect; new-api has four kinds, and `early` is its middleware's."""
        if self.gateway.dialect == "openrouter":
            return {"error": {"message": message, "code": status}}
        if self.gateway.dialect != "new-api":
            known = str(status) if self.gateway.dialect == "litellm" else code or None
            type_ = type_ or ("server_error" if status >= 500 else "invalid_request_error")
            return {"error": {"message": message, "type": type_, "param": None, "code": known}}
        if self.path.startswith("/api/"):
            return {"success": False, "message": message}
        if self.path.startswith("/v1/video") and not early:
            return {"code": code, "message": message, "data": None}
        error = {"message": f"{message} (request id: {self.id})", "type": type_ or "new_api_error", "code": code}
        return {"error": error if early else error | {"param": ""}}

    def fail(self, status: int, code: str, message: str, type_: str = "", *, early: bool = False) -> None:
        """Send an error in this dialect's envelope."""
        self.reply(status, self.envelope(status, code, message, type_, early=early))

    def refuse(self, status: int, code: str, type_: str, message: str, **_: object) -> None:
        """As `fail`, in the order of the AllToken gateway."""
        self.fail(status, code, message, type_)

    def admits(self, *kinds: str) -> bool:
        """Whether the request may go on: a known model of these kinds, credit, and nothing that is refused."""
        relay, body = self.gateway, self.fields
        name = body.get("model")
        model = relay.models.get(name) if isinstance(name, str) else None
        new = relay.dialect == "new-api"
        text = body.get("prompt") or json.dumps(body.get("messages"), ensure_ascii=False)
        field = next((field for field in relay.refuses if field in body), None)
        if model is None and new:
            text = f"No available channel for model {name} under group {relay.group} (distributor)"
            self.fail(503, "model_not_found", text, early=True)
        elif model is None:
            self.fail(
                404 if relay.dialect == "openai" else 400, "model_not_found", f"The model `{name}` does not exist"
            )
        elif model.kind not in kinds or not (body.get("prompt") or body.get("messages")):
            self.fail(*((500, "convert_request_failed") if new else (400, "invalid_value")), "not a request for this")
        elif any(word in text for word in relay.sensitive):
            self.fail(500 if new else 400, "sensitive_words_detected", "user sensitive words detected")
        elif new and not model.prices:
            self.fail(400, "model_price_error", f"model {name} ratio or price not set")
        elif relay.balance <= 0:
            self.fail(403 if new else 402, "insufficient_user_quota", "user quota is not enough")
        elif field is not None:
            self.reply(relay.refuses[field], _unsupported(field, relay.refuses[field], body[field]))
        else:
            return True
        return False


def _unsupported(field: str, status: int, value: object) -> dict[str, Any]:
    """A refused field as Mistral (422) and OpenAI (400) say it."""
    if status == 422:
        entry = {"type": "extra_forbidden", "loc": ["body", field], "msg": "Extra inputs are not permitted"}
        message = {"detail": [entry | {"input": value}]}
        return {"object": "error", "message": message, "type": "invalid_request_error", "param": None, "code": None}
    text = f"Unsupported parameter: '{field}' is not supported with this model."
    text += " Use 'max_completion_tokens' instead." * (field == "max_tokens")
    error = {"message": text, "type": "invalid_request_error", "param": field, "code": "unsupported_parameter"}
    return {"error": error}


class Relay(Gateway):
    """The server. `key` None: it asks for none, as local servers do."""

    def __init__(self, dialect: str = "new-api", *, key: str | None = RELAY_KEY, **given: Any) -> None:
        super().__init__(**given)
        self.dialect = dialect
        self.key = key
        self.models = dict(media.MODELS[dialect])
        self.keys: list[str] = []  # every credential that came: Authorization, x-api-key, ?key=
        self.images: list[dict[str, Any]] = []  # what image requests asked for
        self.jobs: dict[str, dict[str, Any]] = {}
        self.files: dict[str, bytes] = {}  # on the CDN
        self.rows: list[dict[str, Any]] = []  # of the log, oldest first
        self.generations: dict[str, float] = {}  # OpenRouter's dollars by id
        self.balance = 10 * UNIT  # quota; OpenRouter's credit, too
        self.used = 0
        self.unit = UNIT
        self.group = "default"
        self.groups: dict[str, float] = {"default": 1, "vip": 0.5}
        self.version = "v1.0.0-loopback"  # "": before 2026, there is no X-New-Api-Version
        self.stock = False  # new-api as published: other image_config, dropped fields, data URLs for the CDN's
        self.pings = True
        self.ending = ""  # of chats: cut, error, bare, late, restart (GATEWAYS A, "Stream")
        self.sensitive = ("sensitive-word",)
        self.refuses: dict[str, int] = {}  # fields of chats, with 400 or 422
        self.stream_cost = False  # LiteLLM's include_cost_in_streaming_usage
        self.image: bytes | None = None  # instead of every image, whatever was asked for
        self.video = self.tasks.video
        self.log_lag = 0  # reads before a row is in the log
        self.log_off = ""  # "refused": success false; "unwritten": no rows; "missing": no such path
        self.limit = 20  # reads of log and balance, then 429
        self.reads = 0
        self.monotonic = time.monotonic  # the clock of the tasks
        self.task_lag = 0.0  # seconds in which a new task does not exist
        self.task_end = "completed"  # or failed
        self.task_shape: str | None = None  # A, B, vertex at both paths, or docs (A in the words of the documentation)
        self.task_result = "url"  # or proxy: the operator's idea of our address; or none
        self._numbers = itertools.count(1)

    def answer(self, exchange: Exchange) -> None:
        """As the gateway does, with the relay's headers."""
        found = [exchange.headers.get("Authorization"), exchange.headers.get("x-api-key")]
        found += re.findall(r"(?:^|&)key=([^&]*)", exchange.query)
        self.keys += [key for key in found if key is not None]
        super().answer(Call(exchange, next(self._numbers)))

    def strangers(self) -> list[str]:
        """The credentials that came and are not the relay's own."""
        return [key for key in self.keys if key != f"Bearer {self.key}"]

    def headers(self, call: Call) -> dict[str, str]:
        """What every answer carries; the cost of the operator's upstream among it."""
        chat = call.path == "/v1/chat/completions"
        if self.dialect == "new-api":
            version = {"X-New-Api-Version": self.version} if self.version else {}
            return {"X-Oneapi-Request-Id": call.id} | version | ({"x-litellm-response-cost": "99.5"} if chat else {})
        if self.dialect == "litellm":
            return {"x-litellm-call-id": call.id, "x-litellm-version": "1.80.0"}
        return {"X-Generation-Id": f"gen-{call.id}"} if self.dialect == "openrouter" and chat else {}

    def dollars(self, name: str, usage: dict[str, Any], times: Decimal | int = 1) -> Decimal:
        """The price of a call; cached tokens cost a tenth."""
        prices = [Decimal(price) for price in self.models[name].prices]
        if len(prices) < 2:
            return prices[0] * times if prices else Decimal(0)
        prompt, completion = _tokens(usage)
        cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens", 0)
        return ((prompt - cached * Decimal("0.9")) * prices[0] + completion * prices[1]) / 10**6

    def charge(self, call: Call, name: str, usage: dict[str, Any] | None = None, times: Decimal | int = 1) -> int:
        """Take the price of a call, and write it into the log."""
        usage = usage or {}
        dollars = self.dollars(name, usage, times)
        exact = dollars * self.unit * Decimal(str(self.groups[self.group]))
        quota = max(1, int(exact.to_integral_value(ROUND_HALF_UP)))
        self.record(call.id, name, quota, usage)
        self.generations[f"gen-{call.id}"] = float(dollars)
        return quota

    def record(self, request: str, name: str, quota: int, usage: dict[str, Any], kind: int = 2, **other: Any) -> None:
        """Write a row of the log: kind 2 is use, 5 an error, 6 a refund."""
        with self._lock:
            self.used += -quota if kind == 6 else quota
            self.balance -= -quota if kind == 6 else quota
        prompt, completion = _tokens(usage)
        row = {"id": 0, "created_at": int(time.time()), "type": kind, "content": "", "model_name": name}
        row |= {"quota": quota, "prompt_tokens": prompt, "completion_tokens": completion, "use_time": 1}
        row |= {"token_name": "loopback", "group": self.group, "request_id": request, "unseen": self.log_lag}
        row["other"] = json.dumps({"group_ratio": self.groups[self.group], **other})
        if self.log_off != "unwritten":
            self.rows.append(row)

    def publish(self, data: bytes, ending: str) -> str:
        """Put a file on the CDN; its address."""
        name = f"{next(self._numbers):06d}.{ending}"
        self.files[name] = data
        return f"{self.url}/cdn/{name}?Expires=1786500000&Signature=loopback%3D"

    def _route(self, exchange: Exchange) -> Step:
        request = f"{exchange.method} {exchange.path}"
        for pattern, keyed, step in (*ROUTES[self.dialect], *COMMON):
            if match := re.fullmatch(pattern, request):
                if keyed and self.key and exchange.headers.get("Authorization") != f"Bearer {self.key}":
                    return _unauthorized
                return lambda one: step(one, *match.groups())
        return _lost


def _tokens(usage: dict[str, Any]) -> tuple[int, int]:
    return (
        usage.get("prompt_tokens") or usage.get("input_tokens", 0),
        usage.get("completion_tokens") or usage.get("output_tokens", 0),
    )


def _unauthorized(call: Call) -> None:
    if call.gateway.dialect == "new-api":
        return call.fail(401, "", "Invalid token", early=True)
    call.fail(401, "invalid_api_key", "Incorrect API key provided", "invalid_request_error")


def _lost(call: Call) -> None:
    if call.gateway.dialect == "new-api" and not call.path.startswith(("/v1", "/api", "/assets", "/cdn/")):
        return call.reply(200, HTML, {"Content-Type": "text/html; charset=utf-8"})
    error = {"message": f"Invalid URL ({call.method} {call.path})", "type": "invalid_request_error"}
    call.reply(404, {"error": error | {"param": "", "code": ""}})


def _chat(call: Call) -> None:
    body = call.json
    if not call.admits("text", "chat"):
        return
    if call.gateway.models[body["model"]].kind == "chat":
        made = media.paint(call)
        if made is not None:
            _complete(call, made[0], _usage(body, made[1]), **made[2])
        return
    said = "".join(part.get("text", "") for part in media.parts(body["messages"][-1]))
    words = re.findall(r"\S+\s*", f"This is the loopback relay, which echoes: {said}")
    thinks = body.get("reasoning_effort") or body.get("reasoning")
    _complete(call, words, _usage(body, len(words)), thought="An echo will do.\n" if thinks else "")


def _usage(body: dict[str, Any], completion: int) -> dict[str, Any]:
    prompt = sum(len(str(message.get("content"))[:4000].split()) + 4 for message in body["messages"])
    details = {"prompt_tokens_details": {"cached_tokens": 0}, "completion_tokens_details": {"reasoning_tokens": 0}}
    counts = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
    return counts | details


def _complete(call: Call, pieces: list[str], usage: dict[str, Any], thought: str = "", **fields: Any) -> None:
    """Answer a chat by pieces of text, and by fields that a message has besides."""
    relay, body = call.gateway, call.json
    stream, name, dialect = body.get("stream"), body["model"], relay.dialect
    cost = float(relay.dollars(name, usage))
    if dialect == "new-api":
        usage |= {"cost": 99.5}  # of the operator's upstream
    elif dialect == "openrouter":
        usage |= {"cost": cost, "is_byok": False}
    elif dialect == "litellm" and stream and relay.stream_cost:
        usage |= {"cost": cost}
    thoughts: dict[str, Any] = {}
    if thought and dialect == "openrouter":
        thoughts = {"reasoning": thought, "reasoning_details": [{"type": "reasoning.text", "text": thought}]}
    elif thought:
        thoughts = {"reasoning_content": thought}
    if stream:
        first = delta(role="assistant", content="")
        deltas = [first, *([delta(**thoughts)] if thoughts else []), *map(delta, pieces)]
        return _stream(call, deltas + ([delta(**fields)] if fields else []), usage)
    if relay.ending:
        return call.reply(200, call.envelope(500, "bad_response_body", "the upstream failed", "upstream_error"))
    relay.charge(call, name, usage)
    message = {"role": "assistant", "content": "".join(pieces), **thoughts, **fields}
    document = {"id": f"gen-{call.id}", "object": "chat.completion", "created": int(time.time()), "model": name}
    document |= {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": usage}
    call.reply(200, document, {"x-litellm-response-cost": repr(cost)} if dialect == "litellm" else None)


def _stream(call: Call, deltas: list[dict[str, Any]], usage: dict[str, Any]) -> None:
    """Stream an answer to its end, or to what `ending` makes of it."""
    relay, body, ending = call.gateway, call.json, call.gateway.ending
    new, about = relay.dialect == "new-api", {"id": f"gen-{call.id}", "model": body["model"]}
    error = call.envelope(500, "bad_response", "the upstream failed", "upstream_error")
    bare = json.dumps(error).encode() + b"\n"

    def send(chunks: list[dict[str, Any]], **other: str) -> None:
        for chunk in chunks:
            call.event(chunk | about | other)
            relay.stopping.wait(relay.pace)

    call.head(chunked=True)
    if relay.dialect == "openrouter" or (new and relay.pings):
        call.chunk(b": OPENROUTER PROCESSING\n\n" if not new else b": PING\n\n")
    if ending != "late":
        send(deltas[: max(2, len(deltas) // 2)] if ending else deltas)
    if ending in ("bare", "late"):
        call.chunk(bare)
        return call.end()
    if ending == "error":
        broken = {"choices": [{"index": 0, "delta": {"content": ""}, "finish_reason": "error"}]}
        call.event(error | broken | about if relay.dialect == "openrouter" else error)
    elif ending == "restart":
        send(deltas, id=f"gen-{call.id}-again")
    if ending in ("", "restart"):
        send([delta(finish="stop")])
    relay.charge(call, body["model"], usage)
    if (ending == "cut" and not new) or (ending == "error" and relay.dialect == "litellm"):
        return call.end()
    asked = (body.get("stream_options") or {}).get("include_usage")
    if asked or relay.dialect == "openrouter" or (new and asked is not False):
        call.event({"object": "chat.completion.chunk", "choices": [], "usage": usage} | about)
    call.chunk(DONE)
    call.end()


def _models(call: Call) -> None:
    relay, made = call.gateway, {"object": "model", "created": 1626777600}
    names = [(name, model) for name, model in relay.models.items() if model.prices or relay.dialect != "new-api"]
    if relay.dialect == "new-api":
        listed = [
            {"id": name, **made, "owned_by": "custom", "supported_endpoint_types": _endpoints(name)}
            for name, _ in names
        ]
        return call.reply(200, {"success": True, "data": listed})
    if relay.dialect != "openrouter":
        return call.reply(200, {"object": "list", "data": [{"id": name, **made, "owned_by": "x"} for name, _ in names]})
    entries = []
    for name, model in names:
        given = {"input_modalities": ["text", "image"], "output_modalities": ["text"]}
        if model.kind == "chat":
            given["output_modalities"] = ["image", "text"]
        prices = {key: f"{Decimal(price) / 10**6:f}" for key, price in zip(("prompt", "completion"), model.prices)}
        entry = {"id": name, "name": name, "created": 1626777600, "context_length": 128000, "architecture": given}
        entries.append(entry | {"pricing": prices | {"request": "0", "image": "0"}})
    call.reply(200, {"data": entries})


def _endpoints(name: str) -> list[str]:
    own = {"claude": "anthropic", "gemini": "gemini", "gpt-image-1": "image-generation"}
    return [kind for start, kind in own.items() if name.startswith(start)] + ["openai"]


def _pricing(call: Call) -> None:
    relay, listed = call.gateway, []
    for name, model in relay.models.items():
        if not model.prices:
            continue
        dollars = [Decimal(price) for price in model.prices]
        entry = {"model_name": name, "quota_type": 1, "model_ratio": 0, "model_price": 0, "completion_ratio": 0}
        if len(dollars) > 1:
            ratio, completion = dollars[0] * relay.unit / 10**6, dollars[1] / dollars[0]
            entry |= {"quota_type": 0, "model_ratio": float(ratio), "completion_ratio": float(completion)}
            entry |= {"cache_ratio": 0.1} | ({"create_cache_ratio": 1.25} if name.startswith("claude") else {})
        else:
            entry["model_price"] = float(dollars[0])
        listed.append(entry | {"enable_groups": [*relay.groups], "supported_endpoint_types": _endpoints(name)})
    document = {
        "success": True,
        "data": listed,
        "group_ratio": relay.groups,
        "usable_group": dict.fromkeys(relay.groups),
    }
    call.reply(200, document)


def _limited(call: Call) -> bool:
    """Whether log and balance have been read too often; then the answer is an empty 429."""
    call.gateway.reads += 1
    if call.gateway.reads <= call.gateway.limit:
        return False
    call.head(429, {"Content-Length": "0"})
    return True


def _log(call: Call) -> None:
    relay, seen = call.gateway, []
    if relay.log_off == "missing":
        return _lost(call)
    if _limited(call):
        return
    if relay.log_off == "refused":
        return call.reply(200, {"success": False, "message": "the log is switched off"})
    for row in relay.rows[::-1][:1000]:
        row["unseen"] -= 1
        if row["unseen"] < 0:
            seen.append({field: value for field, value in row.items() if field != "unseen"})
    call.reply(200, {"success": True, "message": "", "data": seen})


def _balance(call: Call) -> None:
    relay = call.gateway
    if not _limited(call):
        figures = {"total_granted": relay.balance + relay.used, "total_used": relay.used}
        figures |= {"total_available": relay.balance, "unlimited_quota": False, "expires_at": 0}
        call.reply(
            200, {"code": True, "message": "ok", "data": {"object": "token_usage", "name": "loopback"} | figures}
        )


def _status(call: Call) -> None:
    data = {"version": call.gateway.version, "quota_per_unit": call.gateway.unit, "quota_display_type": "USD"}
    call.reply(
        200, {"success": True, "message": "", "data": data | {"server_address": media.SERVER, "system_name": "Relay"}}
    )


def _openrouter_key(call: Call) -> None:
    relay = call.gateway
    figures = {"usage": relay.used / relay.unit, "limit_remaining": relay.balance / relay.unit}
    call.reply(200, {"data": {"label": "loopback", "limit": (relay.balance + relay.used) / relay.unit} | figures})


def _generation(call: Call) -> None:
    name = call.query.removeprefix("id=")
    if name not in call.gateway.generations:
        return call.fail(404, "not_found", f"Generation {name} not found")
    call.reply(200, {"data": {"id": name, "total_cost": call.gateway.generations[name]}})


def _model_info(call: Call) -> None:
    listed = []
    for name, model in call.gateway.models.items():
        prices = [float(Decimal(price) / 10**6) for price in model.prices]
        keys = ("input_cost_per_token", "output_cost_per_token") if len(prices) > 1 else ("output_cost_per_image",)
        listed.append({"model_name": name, "model_info": dict(zip(keys, prices))})
    call.reply(200, {"data": listed})


Route = tuple[str, bool, Callable[..., None]]  # the request, whether it needs the key, the answer
COMMON: tuple[Route, ...] = (
    (r"POST /v1/chat/completions", True, _chat),
    (r"GET /v1/models", True, _models),
    (r"GET /cdn/([^/]+)", False, media.cdn),
)
OPENAI: tuple[Route, ...] = (
    (r"POST /v1/images/generations", True, media.generate),
    (r"POST /v1/images/edits", True, media.edit),
    (r"POST /v1/videos", True, media.submit),
    (r"GET /v1/videos/([^/]+)", True, media.poll),
    (r"GET /v1/videos/([^/]+)/content", True, media.content),
)
ROUTES: dict[str, tuple[Route, ...]] = {
    "new-api": (
        *OPENAI,
        (r"POST /v1/video/generations", True, media.submit),
        (r"GET /v1/video/generations/([^/]+)", True, media.poll),
        (r"GET /api/status", False, _status),
        (r"GET /api/pricing", False, _pricing),
        (r"GET /api/log/token", True, _log),
        (r"GET /api/usage/token/", True, _balance),
        (r"GET /api/usage/token", False, lambda call: call.reply(301, b"", {"Location": "/api/usage/token/"})),
    ),
    "openai": OPENAI,
    "litellm": (*OPENAI, (r"GET /model/info", True, _model_info)),
    "openrouter": (
        (r"GET /v1/models", False, _models),
        (r"GET /v1/key", True, _openrouter_key),
        (r"GET /v1/generation", True, _generation),
    ),
}


def main(words: list[str]) -> int:
    """Serve, or run one command against a relay of its own."""
    dialect, words = (words[1], words[2:]) if words[:1] == ["--dialect"] else ("new-api", words)
    with Relay(dialect, pace=0.03, work=3.0) as relay:
        settings = {"ALLTOKEN_GATEWAY": "relay", "ALLTOKEN_RELAY_BASE_URL": relay.url}
        settings["ALLTOKEN_RELAY_API_KEY"] = RELAY_KEY
        settings["ALLTOKEN_RELAY_DIALECT"] = "new-api" if dialect == "new-api" else "openai"
        return serve(relay, settings, words)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
