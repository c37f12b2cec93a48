"""--new-agent: a small project to start from: the files of `project/`, and a README; nothing is overwritten."""

from __future__ import annotations

import contextlib
import os
import pkgutil
import shlex
import shutil
import sys

from ..errors import OutputError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .context import Context
    from .output import Output

FILES = ("agent.py", "tools.py", "chat.py", "serve.py", "media.py", "test_agent.py")
README = """\
# An agent

A model that calls tools, in a terminal and over HTTP, on [AllToken](https://alltoken.ai). Plain Python, 3.10 or later.

## Install

It needs `alltoken_call`, which needs nothing else. Install it from its checkout:

```sh
pip install path/to/alltoken-call
```

or name the folder, or the .pyz file, that holds it:

```sh
export PYTHONPATH={place}
```

## Run

```sh
python3 -m unittest                               # no key is needed
export ALLTOKEN_API_KEY=…                         # AllToken → Settings → API keys
python3 agent.py "What time is it in Tokyo?"      # one question
python3 chat.py                                   # a conversation
python3 serve.py                                  # over HTTP, on this machine
python3 media.py "a lighthouse in fog" fog.png    # an image
```

```sh
curl -d '{"sessionId": "a", "message": "What is 6 * 7?"}' http://127.0.0.1:8000/chat
```

## What is where

| file | what it does |
|---|---|
| `agent.py` | makes the agent: change its instructions and its options here |
| `tools.py` | what the model may call: add a function with a docstring and annotations, and put it into `TOOLS` |
| `chat.py` | a terminal, on the agent's events |
| `serve.py` | HTTP: one agent for each session |
| `media.py` | images and videos |
| `test_agent.py` | the tests |

`help(alltoken_call.Agent)` tells of every option, method and event. `alltoken-call cost --since 1d` tells what was
spent.
"""


def write(directory: str, context: Context, output: Output) -> None:
    """Write the project, all of it or nothing, and tell how to run it. Raises `OutputError`."""
    paths = [os.path.join(directory, name) for name in (*FILES, "README.md")]
    if there := [path for path in paths if os.path.lexists(path)]:
        raise OutputError(f"already there, so nothing was written: {', '.join(there)}", hint="choose another directory")
    place = _place()
    made: list[str] = []
    try:
        os.makedirs(directory, exist_ok=True)
        for path, data in zip(paths, (*map(_file, FILES), _readme(place))):
            with open(path, "xb") as file:
                made.append(path)
                file.write(data)
    except OSError as error:
        for path in made:
            with contextlib.suppress(OSError):
                os.unlink(path)
        raise OutputError(f"cannot write {error.filename or directory}: {error.strerror}") from None
    for path in paths:
        output.path(path)
    for line in ("to try it:", *_steps(directory, place, context)):
        output.remark(line)


def _file(name: str) -> bytes:
    return pkgutil.get_data(__package__ or "", f"project/{name}") or b""


def _readme(place: str) -> bytes:
    return README.encode().replace(b"{place}", os.fsencode(shlex.quote(place)))


def _place() -> str:
    """The folder, or the zip file, that this package is in."""
    return os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def _steps(directory: str, place: str, context: Context) -> list[str]:
    """The commands that run the project here."""
    python, steps = "python3", [f"cd {shlex.quote(directory)}"]
    if place.endswith("-packages"):  # it is installed for this interpreter
        found = shutil.which(python, path=context.environ.get("PATH", os.defpath))
        if found is None or os.path.dirname(found) != os.path.dirname(sys.executable):
            python = shlex.quote(sys.executable or python)
    else:
        steps.append(f"export PYTHONPATH={shlex.quote(place)}")
    return [*steps, f"{python} -m unittest    # needs no key", f"{python} chat.py        # needs ALLTOKEN_API_KEY"]
