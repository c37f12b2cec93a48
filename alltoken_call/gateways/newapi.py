"""new-api, the software of many relays (OpenClaw Token among them): its errors, videos, prices and log.

Facts: QuantumNous/new-api at 823e263 and older versions; where they differ, both readings work.
"""

from __future__ import annotations

import re

from ..errors import ExitStatus, NetError
from ..request import Repeat, Request
from ..values import NOTHING, Clip, Cost
from ..wire import inside, object_of, objects_in, segment, text_of
from .openai import ONE_ATTEMPT, OpenAI, address, refuse_options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from decimal import Decimal
    from typing import Any

    from ..values import Film, Picture
    from .prices import Prices
    from .task import Task

UNIT = 500_000  # quota that is one dollar, unless /api/status says otherwise
NOT_YET = 30.0  # seconds after a submit in which a task may be missing: its row is written after the answer
_CREDIT = ("insufficient_user_quota", "pre_consume_token_quota_failed")
_FINAL = (  # codes after which the same request fails again, whatever their HTTP status
    "sensitive_words_detected",
    "prompt_blocked",
    "invalid_request",
    "convert_request_failed",
    "model_not_found",
    "model_price_error",
    "read_request_body_failed",
)


class NewApi(OpenAI):
    """A new-api relay at `root`."""

    name = "new-api"
    request_ids = ("X-Oneapi-Request-Id", *OpenAI.request_ids)
    slugs = dict.fromkeys(_CREDIT, 402) | {"access_denied": 403}
    done_is_whole = False  # [DONE] is sent after a cut, too: a finish reason is the only sign

    # Errors

    def refusal(self, document: Mapping[str, Any], http: int, **about: Any) -> NetError:
        """As the general one, with new-api's own codes; the request id in the header goes before any in a message,
        which may be the upstream's."""
        error = super().refusal(document, http, **about)
        code = error.code
        changes: dict[str, Any] = {"request_id": about.get("request_id") or error.request_id}
        bare = text_of(document.get("code")) and "error" not in document  # a task's error has no envelope
        if bare or document.get("success") is False:
            changes["enveloped"] = True
        if http == 403 and code in _CREDIT:
            changes |= {"status": ExitStatus.CREDIT, "hint": self.hints[ExitStatus.CREDIT]}
        elif code in _FINAL or code.startswith("violation_fee"):
            changes |= {"status": ExitStatus.REFUSED, "passing": False, "hint": self.hints[ExitStatus.REFUSED]}
            if code == "model_not_found":
                changes["hint"] = "no channel serves this model: `alltoken-call models` lists what there is"
        return error.but(**changes)

    # Images and videos

    def image(self, picture: Picture, *, key: str = "", uploads: Mapping[str, str] | None = None) -> Request:  # noqa: ARG002
        """As the general one; a chat needs no `modalities` here."""
        from . import pictures

        if pictures.goes_through_chat(picture):
            return pictures.chat_request(self.root, picture, modalities=False)
        return pictures.images_request(self.root, picture)

    def video(self, film: Film, uploads: Mapping[str, str] | None = None) -> Request:  # noqa: ARG002  # as `image`
        """Submit a video; two frames go into `images`."""
        refuse_options(("--ratio", film.ratio), ("--reference", film.references or None))
        body: dict[str, Any] = {"model": film.model, "prompt": film.prompt, "duration": film.duration or 5}
        given = {"resolution": film.resolution, "seed": film.seed, "audio": film.audio}
        body |= {name: value for name, value in given.items() if value is not None}
        if film.last_frame is not None:
            frames = [film.first_frame, film.last_frame]
            body["images"] = [address(frame) for frame in frames if frame is not None]
        elif film.first_frame is not None:
            body["input_reference"] = address(film.first_frame)
        return Request("POST", f"{self.root}/v1/video/generations", body=body | film.params, repeat=ONE_ATTEMPT)

    def is_not_yet(self, error: NetError, age: float) -> bool:
        """A poll may be quicker than the relay's own record."""
        return error.code == "task_not_exist" and age < NOT_YET

    def is_gone(self, error: NetError) -> bool:
        """A task that is unknown is a 400 here."""
        return error.code == "task_not_exist" or super().is_gone(error)

    def bill(self, task_id: str) -> Request:
        """new-api's own form of the task has its quota."""
        return Request("GET", f"{self.root}/v1/video/generations/{segment(task_id)}", repeat=Repeat())

    def accepted(self, document: Mapping[str, Any]) -> str | None:
        """The id of a task, also inside `data`."""
        return super().accepted(document) or super().accepted(inside(document))

    def task(self, document: Mapping[str, Any]) -> Task:
        """A task in either shape: OpenAI's, or {"code": "success", "data": {…}} with new-api's own words."""
        task = self._read_task(document)
        if task.status == "failed":
            task.cost, task.quota = NOTHING, None  # it is refunded
        return task

    def _read_task(self, document: Mapping[str, Any]) -> Task:
        inner = document.get("data")
        if not isinstance(inner, dict) or "status" not in inner:
            return super().task(document)
        word = str(inner.get("status") or "unknown").lower()
        known = {"not_start": "queued", "submitted": "queued", "in_progress": "processing"}
        fields = {**inner, "status": known.get(word, word)}
        if word == "failure" and text_of(inner.get("fail_reason")):
            fields["error"] = {"message": inner["fail_reason"]}
        task = super().task(fields)
        quota = inner.get("quota")
        if type(quota) is int and quota >= 0 and (task.done or task.ended):
            task.quota = quota
        return task

    def _finish(self, task: Task) -> None:
        """The clip's address: in `metadata`, or in the task itself; without one, the relay has the bytes.

        An address of the relay's own is rebuilt on our root: it may name the operator's idea of the host.
        """
        document = task.document
        nested = [document, *(value for name in ("metadata", "data") if isinstance(value := document.get(name), dict))]
        urls = (text_of(place.get(name)) for place in nested for name in ("url", "result_url", "video_url"))
        task_id = text_of(document.get("task_id")) or text_of(document.get("id")) or ""
        task.url = next((url for url in urls if url), None)
        if task.url is None or re.search(r"/v1/videos/[^/?]+/content(\?|$)", task.url):
            task.url, task.keyed = self.content(task_id), True
        task.facts = {name: document.get(name) for name in Clip.FACTS}

    # Money

    def call_factor(self, header: Callable[[str], str | None]) -> Decimal | None:
        """Videos cost by the second and by resolution: the product of {"seconds":5,"resolution-720P":1}."""
        from decimal import Decimal

        from . import prices

        factors = [prices.amount(value) for value in object_of(header("X-New-Api-Other-Ratios") or "").values()]
        product = Decimal(1)
        for factor in factors:
            product = prices.EXACT.multiply(product, factor or 0)
        return product if factors and product else None

    def usage_cost(self, usage: Mapping[str, Any] | None) -> Cost | None:  # noqa: ARG002
        """None: figures in answers are the operator's own, from upstream."""
        return None

    def header_cost(self, header: Callable[[str], str | None], usage: Mapping[str, Any] | None) -> Cost | None:  # noqa: ARG002
        """None, as `usage_cost`."""
        return None

    def price_list(self) -> Request:
        """The public prices; the key is not needed, and not sent."""
        return Request("GET", f"{self.root}/api/pricing", keyed=False)

    def entries(self, document: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]] | None:
        """As the general one; each entry of the price list learns the default group's ratio."""
        found = super().entries(document)
        ratios = document.get("group_ratio")
        if found is not None and isinstance(ratios, dict):
            return [(name, entry | {"group_ratio": ratios.get("default", 1)}) for name, entry in found]
        return found

    def prices(self, entry: Mapping[str, Any]) -> Prices:
        """Dollars from ratios: 1 is 2 dollars per 1M tokens at 500,000 quota a dollar."""
        from . import prices

        note = "group=default"
        group = prices.amount(entry.get("group_ratio", 1))
        if group is None or entry.get("billing_mode") == "tiered_expr":
            return prices.Prices(note=note)
        multiply = prices.EXACT.multiply
        if entry.get("quota_type") == 1:
            price = prices.amount(entry.get("model_price"))
            return prices.Prices(call=None if price is None else multiply(price, group), note=note)
        ratio = prices.amount(entry.get("model_ratio"))
        if ratio is None:
            return prices.Prices(note=note)
        base = multiply(multiply(ratio, group), prices.EXACT.divide(1_000_000, UNIT))

        def times(name: str) -> Decimal | None:
            factor = prices.amount(entry.get(name))
            return None if factor is None else multiply(base, factor)

        return prices.Prices(
            base,
            times("completion_ratio"),
            cached=times("cache_ratio"),
            created=times("create_cache_ratio"),
            image=times("image_ratio"),
            note=note,
        )

    def balance(self) -> Request:
        """What the key has left; with the slash, or the answer is a redirect."""
        return Request("GET", f"{self.root}/api/usage/token/")

    def read_balance(self, document: Mapping[str, Any], unit: int) -> dict[str, str | None]:
        """Quota as dollars; a key without a limit has None left."""
        from . import prices

        found = inside(document)
        names = {"left": "total_available", "used": "total_used", "granted": "total_granted"}
        values = {label: found.get(name) for label, name in names.items()}
        known = {
            label: prices.dollars_of(value, unit) if type(value) is int else None for label, value in values.items()
        }
        return known | ({"left": None, "granted": None} if found.get("unlimited_quota") is True else {})

    def log(self) -> Request:
        """The newest rows of this key, 1,000 at most; 20 reads in 20 minutes are allowed."""
        return Request("GET", f"{self.root}/api/log/token", repeat=Repeat())

    def status(self) -> Request:
        """The relay's public settings."""
        return Request("GET", f"{self.root}/api/status", keyed=False)

    def unit(self, document: Mapping[str, Any]) -> int:
        """How much quota is one dollar, from `status`."""
        found = inside(document).get("quota_per_unit")
        return int(found) if isinstance(found, (int, float)) and found >= 1 else UNIT

    def read_log(self, document: Mapping[str, Any], unit: int) -> dict[str, str]:
        """Dollars by request id: what was used (type 2), less what was given back (type 6)."""
        from . import prices

        found: dict[str, int] = {}
        for row in objects_in(document.get("data")):
            other = row.get("other")
            inner = object_of(other) if isinstance(other, str) else {}
            key = text_of(row.get("request_id")) or text_of(inner.get("request_id"))
            quota = row.get("quota")
            if key and type(quota) is int and row.get("type") in (2, 6):
                found[key] = found.get(key, 0) + (quota if row["type"] == 2 else -abs(quota))
        return {key: prices.dollars_of(max(0, quota), unit) for key, quota in found.items()}
