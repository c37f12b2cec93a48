"""The AllToken gateway: its paths, fields, status words, error slugs, catalog and cost comment.

What is known of it, and how surely, is said where a fact is used; where its documents differ, both readings work.
"""

from __future__ import annotations

from ..errors import ExitStatus, NetError
from ..values import POLLING, Repeat, Request
from ..wire import segment, text_of
from .openai import OpenAI, dollars

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from ..values import Cost
    from .prices import Pair

_IMAGES = "/v1/images/generations"
_VIDEOS = "/v1/videos/generations"
_LISTS = {"chat": "/v1/models", "image": "/v1/images/models", "video": "/v1/videos/models"}
_CATALOG = "/api-account/models"
_DONE = ("completed", "succeeded")
_ENDS = {"failed": "failed", "cancelled": "cancelled", "canceled": "cancelled", "expired": "expired"}
_IDS = ("id", "model_id", "model_path", "name")
_INPUT, _OUTPUT = ("input_price", "prompt_price"), ("output_price", "completion_price")
LIFETIME = 1800.0  # seconds from submit until a task expires
ONE_KEY = Repeat(429, 503, lost=True, bare=True, latest=50.0)  # all attempts fall into the gateway's 60 s of memory
NEVER_TWICE = Repeat(429, bare=True)


class Task:
    """What one GET says of a task. `status` is completed, failed, cancelled, expired, or a word for going on."""

    def __init__(self, status: str, document: Mapping[str, Any]) -> None:
        self.status = status
        self.done = status == "completed"
        self.ended = status in _ENDS.values()
        self.document = document
        asked = document.get("next_poll_after_ms")
        self.pause: float | None = None  # seconds until the next GET
        if isinstance(asked, (int, float)) and asked is not True and asked >= 0:
            self.pause = min(asked, 1e6) / 1000
        usage = document.get("usage")
        self.usage = usage if isinstance(usage, dict) else None
        self.model = text_of(document.get("model"))


class AllToken(OpenAI):
    """The AllToken gateway at `root`."""

    name = "alltoken"
    defaults = {  # noqa: RUF012  # the models to use if the command line names none
        "chat": "gpt-5.4-mini",
        "image": "gpt-image-2",
        "video": "seedance-1.5-pro",
        "search": "deepseek-v4-pro",
    }
    hints = OpenAI.hints | {  # type: ignore[operator]  # both are dicts
        ExitStatus.KEY: "check ALLTOKEN_API_KEY: the gateway does not accept this key",
        ExitStatus.CREDIT: "top up in Settings → Billing, then run the command again",
    }
    slugs = {  # noqa: RUF012
        "insufficient_balance": 402,
        "invalid_api_key": 401,
        "invalid_token": 401,
        "invalid_request": 400,
        "upstream_invalid_parameter": 400,
        "upstream_content_violation": 400,
        "upstream_model_not_found": 404,
        "upstream_error": 502,
        "all_providers_failed": 503,
    }
    types = {  # noqa: RUF012
        "billing_error": 402,
        "authentication_error": 401,
        "permission_error": 403,
        "invalid_request_error": 400,
        "not_found_error": 404,
    }
    # Families that honour enable_search, and the models of which that was seen; other families ignore it in silence.
    searching = ("deepseek", "qwen")
    verified = (
        "deepseek-v4-pro",
        "deepseek-v3.2",
        "qwen3.6-flash",
        "qwen3.6-max-preview",
        "qwen3.6-plus",
        "qwen3.6-27b",
    )

    def refusal(self, document: Mapping[str, Any], http: int, **about: Any) -> NetError:
        """As the general one; if all providers have failed, the same request is not repeated."""
        error = super().refusal(document, http, **about)
        return error.but(passing=False) if self.fails_everywhere(error.code) else error

    def comment_cost(self, figures: Mapping[str, Any]) -> Cost | None:
        """The comment after [DONE]: `cost` is in dollars, and authoritative; its prices are per 1M tokens."""
        return dollars(figures["cost"]) if "cost" in figures else None

    # Models and prices

    def model_lists(self, kind: str) -> list[Request]:
        """The lists to ask for models of a kind: chat, image, video or all."""
        kinds = _LISTS if kind == "all" else [kind]
        return [Request("GET", self.root + _LISTS[one]) for one in kinds]

    def catalog(self, model: str | None = None) -> Request:
        """The public catalog, or its entry of one model; the key is never sent there."""
        path = _CATALOG if model is None else f"{_CATALOG}/{segment(model)}"
        return Request("GET", self.root + path, keyed=False)

    def entries(self, document: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]] | None:
        """The models of a list in any of its shapes, each with its id; None if it is not a list."""
        found: Any = document
        while isinstance(found, dict):
            found = found.get("data")
        if not isinstance(found, list):
            return None
        entries = [entry for entry in found if isinstance(entry, dict)]
        return [(name, entry) for entry in entries if (name := model_id(entry))]

    def is_of(self, entry: Mapping[str, Any], kind: str, request: Request) -> bool:
        """Whether an entry of the list that `request` asked for is of a kind; one that does not say what it is counts
        as what its list is for."""
        modality = (text_of(entry.get("modality")) or "").lower()
        if not modality:  # the catalog, like the first list, is for chat
            modality = next((name for name, path in _LISTS.items() if request.url.endswith(path)), "chat")
        return kind in ("all", modality) or (kind == "chat" and modality in ("text", "vision"))

    def prices(self, entry: Mapping[str, Any]) -> Pair:
        """Input and output price in dollars per 1M tokens; None if unknown. The field names have changed over time."""
        from . import prices

        inner = [value for name in ("pricing", "data") if isinstance(value := entry.get(name), dict)]
        spots = [entry, *inner, *(value for place in inner if isinstance(value := place.get("pricing"), dict))]
        return prices.first(spots, _INPUT), prices.first(spots, _OUTPUT)

    # Tasks

    def image(self, fields: Mapping[str, Any], *, key: str, edit: bool) -> Request:
        """Submit an image. With one Idempotency-Key (`key`), repeats within 60 s are answered with the first task."""
        path = "/v1/images/edits" if edit else f"{_IMAGES}/async"
        return Request(
            "POST", self.root + path, body=fields, headers={"Idempotency-Key": key}, repeat=ONE_KEY, silence=20.0
        )

    def video(self, fields: Mapping[str, Any]) -> Request:
        """Submit a video. There is no idempotency: it is never repeated if its outcome is unknown."""
        return Request("POST", self.root + _VIDEOS, body=fields, repeat=NEVER_TWICE)

    def poll(self, command: str, task_id: str, *, grace: float = 0.0) -> Request:
        """Ask for the state of a task of image or video; a completed image comes with it, once."""
        path = _IMAGES if command == "image" else _VIDEOS
        return Request("GET", f"{self.root}{path}/{segment(task_id)}", repeat=POLLING, grace=grace)

    def videos(self) -> Request:
        """The list of video tasks."""
        return Request("GET", f"{self.root}{_VIDEOS}?limit=50")

    def cancel(self, task_id: str) -> Request:
        """Cancel a video task."""
        return Request("POST", f"{self.root}{_VIDEOS}/{segment(task_id)}/cancel", body={})

    def accepted(self, document: Mapping[str, Any]) -> str | None:
        """The id of the task that a submit's answer tells of."""
        task_id = text_of(document.get("id")) or text_of(document.get("task_id"))
        return task_id if is_task_id(task_id) else None

    def duplicate(self, error: NetError) -> str | None:
        """The task that an identical submit has made before, which this refusal hands over."""
        return error.task_id if error.code == "duplicate_request" and is_task_id(error.task_id) else None

    def task(self, document: Mapping[str, Any]) -> Task:
        """What a GET says of a task."""
        word = document.get("status")
        word = word if isinstance(word, str) and word else "unknown"
        return Task("completed" if word in _DONE else _ENDS.get(word, word), document)

    def images(self, document: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The images of a completed task: each has its bytes in `b64_json`, or an address in `r2_url`."""
        data = document.get("data")
        return [entry for entry in data if isinstance(entry, dict)] if isinstance(data, list) else []

    def may_hold_images(self, document: Mapping[str, Any]) -> bool:
        """Whether an answer may be the one that brings the images, whatever it calls its status."""
        return document.get("status") in _DONE or "data" in document

    # Uploads

    def presign(self, body: Mapping[str, Any]) -> Request:
        """Ask for an address to upload to."""
        return Request("POST", f"{self.root}/v1/uploads/presign", body=body)


def is_task_id(text: str | None) -> bool:
    """Whether a text can be a task's id: not blank, and not another place in a URL."""
    return text is not None and text.strip() not in ("", ".", "..")


def model_id(entry: Mapping[str, Any]) -> str | None:
    """The id of a model's entry, under whichever name it has."""
    return next((value for name in _IDS if (value := text_of(entry.get(name)))), None)
