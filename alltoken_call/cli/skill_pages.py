"""What the six skills say, beside the options of their commands: when to use one, what to type, what to show."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


class Page:
    """What is particular to the skill of one command."""

    def __init__(
        self,
        about: str,
        *,
        triggers: Sequence[str],
        syntax: str,
        words: str = "",
        rows: Sequence[tuple[str, str]],
        options: str,
        models: str = "",
        show: str,
        statuses: str,
        tips: str,
    ) -> None:
        self.about = about
        self.triggers = triggers
        self.syntax = syntax
        self.words = words  # what stands in the here-document; "" for a command that takes no prompt
        self.rows = rows  # what a user asks for, and the options that it becomes
        self.options = options.split()  # those that are explained
        self.models = models
        self.show = show
        self.statuses = statuses.split()
        self.tips = tips


PAGE = """\
---
name: alltoken-@command@
description: @about@. Use it for /alltoken-@command@, @triggers@.
license: MIT
compatibility: Needs Python 3.10 or later, network access and the ALLTOKEN_API_KEY variable.
allowed-tools: Bash
metadata:
  homepage: https://alltoken.ai
  docs: https://alltoken.ai/docs/apis/overview
---

# /alltoken-@command@

@about@.

Use it when the user says /alltoken-@command@, @triggers@:
anywhere in the message, in upper or lower case, with or without the slash.

@key@

## Run

The user may write it as a command: @syntax@.

@how@

```sh
@line@
```

Put in place of OPTIONS what the request asks for, and nothing else:

| the user says | OPTIONS |
|---|---|
@rows@

@options@

`PROGRAM @command@ --help` shows every option.
@models@
## Show

@show@

## If the exit status is not 0

stderr says what happened, and what to do. Show the user the code and the message of the `[error]` line; quote the
`request_id` if they ask support. What can be repeated safely was repeated already: do not run it again by yourself,
but as the table says.

| status | what you do |
|---|---|
@statuses@

## Tips

@tips@
- The key opens the model API only. Balance, usage and billing need the web site: Settings → Billing.
- If the user wants to build something (an agent, a chat application, a server) and not one call:
  `PROGRAM --new-agent DIR`
  writes a small project to start from. The companion skill `alltoken` tells more.

@mark@
"""
KEY = """\
If neither ALLTOKEN_API_KEY nor ALLTOKEN_API_KEY_FILE is set, do not run it: tell the user to export the key where you
run (AllToken → Settings → API keys). Never ask for the key in the chat, never put it on a command line, never print
it."""
NO_KEY = """\
If neither ALLTOKEN_API_KEY nor ALLTOKEN_API_KEY_FILE is set, only price lists can be had (`models -l`, `cost`): for all
else tell the user to export the key where you run (AllToken → Settings → API keys). Never ask for the key in the chat,
never put it on a command line, never print it."""
WORDS = """\
Run it once, like this, with the user's words in the quoted here-document and never on the command line, where `$(…)`,
quotes or a leading hyphen would act. If a line of the words is EOF itself, use another word for it."""
NO_WORDS = "Run it once, like this:"
AGE = """\
These lists age. This tells what there is today, and finds the id for a family's name (claude, sonnet):
`PROGRAM models --filter NAME`"""
STATUSES = {
    "1": "refused, or nothing to show: change the request, do not repeat it as it is",
    "2": "wrong usage, nothing was sent: correct the command line as the message says",
    "3": "the network: once more is fine if nothing was sent; after silence it may be billed twice: ask first",
    "4": "the key (`invalid_api_key`): tell the user that it is missing or bad; do not retry",
    "5": "`all_providers_failed`: another model of the same family, then of another one (the message names some); else"
    " later",
    "6": "`insufficient_balance`: the user tops up in Settings → Billing; `budget`: their own ALLTOKEN_BUDGET is spent",
    "7": "rate-limited: wait as many seconds as the message says (`Retry-After`), then run it once more",
    "8": "not finished: run the command on the last line of stderr, which goes on with it",
    "9": "cut short: show what arrived and say that it is incomplete; a new run costs again: ask first",
    "10": "the task failed, was cancelled or expired: show the reason; a new run is the user's decision",
    "11": "the result is gone (`image_already_retrieved`): say so; only a new run helps, and costs again: ask first",
    "12": "nobody knows whether it was accepted, and it may be billed: never run it again at once; look first"
    " (the usage page of the web site; for a video also `video --list`), then ask",
    "13": "it cannot be written there: choose another `-o`; the message names where a finished result was kept",
    "130": "interrupted: the last line of stderr is the command that goes on, if there is something to go on with",
}
_SHARED = "--gateway --json"
_CHATTING = "1 2 3 4 5 6 7 8 9 13 130"
_MAKING = "1 2 3 4 5 6 7 8 9 10 11 12 13 130"

PAGES = {
    "chat": Page(
        "Ask a language model through AllToken",
        triggers=("alltoken chat", "ask alltoken with model X"),
        syntax="`/alltoken-chat MODEL PROMPT` or `/alltoken-chat PROMPT`",
        words="the user's words",
        rows=(
            ("why is the sky blue?", ""),
            ("with model claude-sonnet-4-6; `/alltoken-chat claude-sonnet-4-6 …`", "-m claude-sonnet-4-6"),
            ("answer in one sentence", "-s 'answer in one sentence'"),
            ("as repeatable as you can", "-t 0"),
            ("in at most 200 tokens", "--max-tokens 200"),
            ("think hard about it", "--thinking"),
            ("what is in cat.png?", "-a cat.png"),
            ("answer as JSON", '-p \'response_format={"type":"json_object"}\''),
            ("go on with our conversation in talk.json", "--thread talk.json"),
            ("this model and no other", "-m gpt-5.4 --fallback none"),
        ),
        options=f"-m -s -a --thread -t --max-tokens --thinking -p --fallback --tool --mcp --allow {_SHARED}",
        models="""\
- cheap and fast: gpt-5.4-mini (default), gpt-5.4-nano, claude-haiku-4-5, gemini-3-flash-preview, glm-4.7-flash,
  qwen3.6-flash, deepseek-v4-flash, minimax-m2.5-highspeed
- flagship: gpt-5.4, gpt-5.4-pro, gpt-5.5, claude-opus-4-7, claude-sonnet-4-6, gemini-3.1-pro-preview, glm-5.1,
  deepseek-v4-pro, qwen3.6-max-preview, kimi-k2.6, minimax-m2.7
- code: gpt-5.3-codex, qwen3-coder-next
""",
        show="""\
The answer (stdout) as it is, then one line of its own with the tokens (prompt + completion = total), the model and the
cost from `[usage]` and `[cost]` on stderr. An unknown cost is unknown, never nothing.""",
        statuses=_CHATTING,
        tips="""\
- A long answer streams: give it up to two minutes. Files go in as `-a` (images) or into the here-document (text).
- `[warning]` with `length` or `content_filter`: say that the answer is not whole.""",
    ),
    "image": Page(
        "Make or edit an image through AllToken",
        triggers=("alltoken image", "draw with alltoken", "generate an image via alltoken"),
        syntax="`/alltoken-image PROMPT [--size=1024x1024] [--quality=low|medium|high] [--out=PATH]`",
        words="what to draw",
        rows=(
            ("a lighthouse in fog", ""),
            ("wide, landscape", "--size 1536x1024"),
            ("tall, portrait", "--size 1024x1536"),
            ("in the best quality", "--quality high"),
            ("`… --size=auto --quality=medium --out=fox.png`", "--size auto --quality medium -o fox.png"),
            ("a logo on a transparent background", "--background transparent -o logo.png"),
            ("as a JPEG", "-o fox.jpg"),
            ("three of them", "-n 3"),
            ("make cat.png look like winter", "--edit cat.png"),
            ("change cat.png only where mask.png marks it", "--edit cat.png --mask mask.png"),
            ("do not wait for it", "--detach"),
        ),
        options="-m --size --quality -o --format --background -n --edit --mask -p --force --once --open --detach"
        f" --resume {_SHARED}",
        models="- gpt-image-2 (default)\n",
        show="""\
The path of each file (stdout), and the image itself if you can show one; then tokens and cost from stderr in one line.
Say that the gateway keeps no second copy: the file is the only one.""",
        statuses=_MAKING,
        tips="""\
- It takes up to a minute: give it time. An image can be fetched once, so do not kill a running `image`. One that was
  interrupted is fetched by `PROGRAM image --resume`, until 30 minutes after the submit.
- A variation is a new run, which costs again; the old task is never read again. For several at once use `-n`, or runs
  side by side.""",
    ),
    "video": Page(
        "Make a video clip through AllToken",
        triggers=("alltoken video", "make a video on alltoken"),
        syntax="`/alltoken-video PROMPT [--model=ID] [--duration=5] [--ratio=16:9] [--resolution=480p|720p|1080p]`",
        words="what to show",
        rows=(
            ("waves at dusk", "-o waves.mp4"),
            ("1080p, 10 s", "--resolution 1080p --duration 10 -o clip.mp4"),
            ("for a phone, in 720p", "--ratio 9:16 --resolution 720p -o clip.mp4"),
            ("`… --model=seedance-2.0 --ratio=21:9`", "-m seedance-2.0 --ratio 21:9 -o clip.mp4"),
            ("beginning with a.png", "--first-frame a.png -o clip.mp4"),
            ("beginning with a.png, ending with b.png", "--first-frame a.png --last-frame b.png -o clip.mp4"),
            ("in the manner of a.png", "-m happyhorse-1.0-r2v --reference a.png -o clip.mp4"),
            ("with sound", "--audio -o clip.mp4"),
            ("without sound", "--no-audio -o clip.mp4"),
            ("with seed 7", "--seed 7 -o clip.mp4"),
            ("only the link", ""),
            ("do not wait for it", "--detach"),
        ),
        options="-m --duration --ratio --resolution -o --audio --no-audio --seed --first-frame --last-frame --reference"
        f" -p --force --once --open --detach --resume --cancel --list {_SHARED}",
        models="""\
- from a text or an image: seedance-1.5-pro (default), seedance-2.0; happyhorse-1.0-t2v from a text,
  happyhorse-1.0-i2v from an image
- from a video or a reference: happyhorse-1.0-video-edit, happyhorse-1.0-r2v
- all of them: `PROGRAM models --type video`
""",
        show="""\
The file (stdout), or without `-o` the URL, and when it expires (stderr): remind the user to fetch it before. Then
resolution, ratio, frames per second, tokens and cost from stderr in one line.""",
        statuses=_MAKING,
        tips="""\
- A clip costs far more than an image, and more with duration and resolution: name both before you run it.
- It takes up to 5 minutes. `--detach` prints the task's id and leaves. These see to a task, and take no prompt:
  `PROGRAM video --resume ID -o clip.mp4` fetches its clip,
  `PROGRAM video --list` lists the tasks,
  `PROGRAM video --cancel ID` cancels one.""",
    ),
    "search": Page(
        "Search the web with a model through AllToken",
        triggers=("alltoken search", "use alltoken web search", "find with alltoken"),
        syntax="`/alltoken-search QUERY` or `/alltoken-search --model=qwen3.6-flash QUERY`",
        words="the question",
        rows=(
            ("what does a bitcoin cost now?", ""),
            ("`--model=qwen3.6-flash …`", "-m qwen3.6-flash"),
            ("in detail", "--max-tokens 2000"),
            ("with the best model for it", "-m deepseek-v4-pro"),
        ),
        options=f"-m --max-tokens -p --fallback {_SHARED}",
        models="""\
- DeepSeek: deepseek-v4-pro (default), deepseek-v3.2
- Qwen: qwen3.6-flash, qwen3.6-max-preview, qwen3.6-plus, qwen3.6-27b
- no others, which ignore the request in silence or fail: for one of another family the status is 2 and the message
  names models that search; offer one of them
""",
        show="""\
The answer (stdout), then one line with the tokens, the model and the cost from stderr. There are no citations. Do not
pass a plain chat answer off as a search.""",
        statuses=_CHATTING,
        tips="""\
- An answer that was searched for has current dates and definite numbers. If the model says that it cannot search, its
  provider failed: ask again with another model of the list.""",
    ),
    "models": Page(
        "List the models behind AllToken, with prices",
        triggers=("alltoken models", "what alltoken models are available"),
        syntax="`/alltoken-models [--type=chat|image|video] [--filter=TEXT]`",
        rows=(
            ("what models are available?", ""),
            ("models for video", "--type video"),
            ("models for images", "--type image"),
            ("all of every kind", "--type all"),
            ("which claude models are there?", "--filter claude"),
            ("which is the cheapest?", "-l"),
            ("tell me about gpt-5.4", "gpt-5.4"),
            ("which is the best, or the fastest?", "--rankings"),
            ("does it work now?", "--health"),
        ),
        options=f"--type --filter -l --rankings --health --providers {_SHARED}",
        models="""\
- chat, cheap and fast: gpt-5.4-nano, gpt-5.4-mini, claude-haiku-4-5, gemini-3-flash-preview, glm-4.7-flash,
  qwen3.6-flash, deepseek-v4-flash, minimax-m2.5-highspeed
- chat, flagship: gpt-5.4, gpt-5.4-pro, gpt-5.5, claude-opus-4-7, claude-sonnet-4-6, gemini-3.1-pro-preview, glm-5.1,
  deepseek-v4-pro, qwen3.6-max-preview, kimi-k2.6, minimax-m2.7
- code: gpt-5.3-codex, qwen3-coder-next
- searching the web: deepseek-v4-pro, deepseek-v3.2, qwen3.6-flash, qwen3.6-max-preview
- image: gpt-image-2
- video: seedance-1.5-pro, seedance-2.0, happyhorse-1.0-t2v, happyhorse-1.0-i2v; from a video or a reference:
  happyhorse-1.0-video-edit, happyhorse-1.0-r2v
""",
        show="""\
The ids in a code block. For prices and "which is cheapest" the table of `-l`, which has the cheapest first. For
"fastest" or "best for code" what `--rankings` says, or of the lists above what the live list has.""",
        statuses="1 2 3 4 5 7",
        tips="- The kind is `--type`, not `--filter`, which looks into the ids only. Status 1: no id holds the text.",
    ),
    "cost": Page(
        "Tell what AllToken calls cost or would cost",
        triggers=("alltoken cost", "how much did that cost"),
        syntax="`/alltoken-cost MODEL PROMPT_TOKENS COMPLETION_TOKENS`",
        rows=(
            ("how much did that cost? (after an AllToken call)", ""),
            ("`gpt-5.4-mini 1019 12`", "gpt-5.4-mini 1019 12"),
            ("what did I spend this week?", "--since 7d --by model"),
            ("day by day since November", "--since 2026-11-01 --by day"),
            ("what were my last calls?", "--calls 20"),
        ),
        options=f"--since --by --calls --reconcile --balance {_SHARED}",
        show="""\
The total in dollars, to at least 6 places as it is printed, and its source: `(gateway)` is the gateway's own figure for
that call, `(estimate)` is computed from the public prices per million tokens. Unknown is unknown: never say that it was
free.""",
        statuses="1 2 3 5",
        tips="""\
- The gateway's own figure goes first; the three words (model and tokens from a `[usage]` line) are for a call that was
  not made here.
- Status 1: nothing is recorded yet, or no price is published; the message names what the price list has instead.""",
    ),
}
