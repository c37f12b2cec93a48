"""The house: packages that import as HOUSE says, the standard library alone, errors that nobody changes, everything
public explained."""

import ast
import functools
import subprocess
import sys
import unittest
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent / "alltoken_call"
TOP = {"", "errors", "config", "text", "request", "values", "wire"}  # for all; they import each other alone
DEEP = {"net", "gateways", "store"}  # they do not know each other
MAY = {  # what the modules of a package may import beside their own package and the top modules
    "net": set(),
    "gateways": set(),
    "store": set(),
    "calls": DEEP,
    "agent": {"calls", *DEEP},
    "commands": {"agent", "calls", "gateways", "store"},
    "cli": {"commands", "agent", "calls", *DEEP},
    "__main__": {"cli"},
}
SILENT = ("calls", "gateways", "net", "store")  # packages that know no process, no terminal and no command line
FOREIGN = {"argparse", "sys", "signal"}  # modules for cli/ (and in part commands/)
LONGEST = 60  # lines of a function: it fits on a screen

Function = (ast.FunctionDef, ast.AsyncFunctionDef)


def name_of(path: Path) -> str:
    """A module's name inside the package: `sse`, `commands.chat`, and "" for the package itself."""
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix("__init__").removesuffix(".")


PATHS = [path for path in sorted(PACKAGE.rglob("*.py")) if path.parent.name != "project"]  # that is a user's own
MODULES: dict[str, ast.Module] = {}


def setUpModule() -> None:
    MODULES.update((name_of(path), ast.parse(path.read_text("utf-8"))) for path in PATHS)


@functools.cache
def walk(tree: ast.AST) -> tuple[ast.AST, ...]:
    """All nodes of a tree, of which four rules look at each."""
    return tuple(ast.walk(tree))


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def import_nodes(tree: ast.AST, *, lazy: bool):
    """The import statements that run; `lazy` takes in those inside functions."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            yield node
        elif is_type_checking(node):
            yield from (found for branch in node.orelse for found in import_nodes(ast.Module([branch], []), lazy=lazy))
        elif not isinstance(node, ast.expr) and (lazy or not isinstance(node, Function)):  # none is in an expression
            yield from import_nodes(node, lazy=lazy)


def targets(node: ast.AST, importer: str, modules) -> set[str]:
    """Absolute names of what a statement in `importer` imports: modules where there are such, else their package."""
    if isinstance(node, ast.Import):
        return {alias.name for alias in node.names}
    base = node.module or ""
    if node.level:
        inside = [part for part in importer.split(".") if part]
        if any(name.startswith(f"{importer}." if importer else "") for name in modules if name != importer):
            inside.append("__init__")  # a package's own module
        package = ["alltoken_call", *inside][: -node.level]
        base = ".".join([*package, *filter(None, [node.module])])
    inner = {f"{base}.{alias.name}" for alias in node.names}
    known = {f"alltoken_call.{name}" for name in modules}
    return {name if name in known else base for name in inner}


def imports(importer: str, tree: ast.AST, modules=MODULES, *, lazy: bool = True) -> set[str]:
    """The names of our own modules that `importer` imports."""
    found = set().union(*(targets(node, importer, modules) for node in import_nodes(tree, lazy=lazy)))
    return {name.removeprefix("alltoken_call").removeprefix(".") for name in found if name.startswith("alltoken_call")}


def cycle(graph: dict[str, set[str]]) -> list[str]:
    """What is left when all that imports nothing left has been taken away: circles, and what leads to them."""
    left = dict(graph)
    while free := [name for name, uses in left.items() if not uses & left.keys()]:
        for name in free:
            del left[name]
    return sorted(left)


def unexplained(tree: ast.AST, prefix: str = ""):
    """The public functions and classes without a docstring."""
    for node in tree.body:
        if isinstance(node, (*Function, ast.ClassDef)) and not node.name.startswith("_"):
            if not ast.get_docstring(node):
                yield prefix + node.name
            if isinstance(node, ast.ClassDef):
                yield from unexplained(node, f"{prefix}{node.name}.")


def too_long(tree: ast.AST) -> list[str]:
    """The functions of more than `LONGEST` lines."""
    found = (node for node in walk(tree) if isinstance(node, Function))
    return [node.name for node in found if node.end_lineno - node.lineno + 1 > LONGEST]


def package_of(name: str) -> str:
    """The room that a module is in: `net`, or the module itself if it is a top one."""
    return "" if name in TOP else name.partition(".")[0]


def trespasses(modules) -> set[tuple[str, str]]:
    """The imports (importer, imported) that HOUSE forbids, wherever in a module they stand."""
    found = set()
    for name, tree in modules.items():
        room = package_of(name)
        for used in imports(name, tree, modules):
            other = package_of(used)
            if other not in ("", room) and other not in MAY.get(room, set()):
                found.add((name, used))
    return found


def names_of_the_process(tree: ast.AST) -> set[str]:
    """Which of the names that only the command line knows a module has: imported, for the type checker too, or used."""
    found = set()
    for node in walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names} & FOREIGN
        elif isinstance(node, ast.ImportFrom):
            names = {alias.name for alias in node.names}
            found |= {(node.module or "").partition(".")[0]} & FOREIGN if not node.level else set()
            found |= names & {"Output", "Context"}
            found |= {"os.environ"} if node.module == "os" and names & {"environ", "getenv"} else set()
        elif isinstance(node, ast.Name):
            found |= {node.id} & {"Output"}
        elif isinstance(node, ast.Attribute):
            found |= {node.attr} & {"Output"}
            if isinstance(node.value, ast.Name) and node.value.id == "os" and node.attr in ("environ", "getenv"):
                found.add("os.environ")
    return found


def changed_errors(tree: ast.AST) -> list[int]:
    """The lines on which an attribute of a caught error is assigned."""
    found = []
    for handler in walk(tree):
        if isinstance(handler, ast.ExceptHandler) and handler.name:
            for node in ast.walk(handler):
                targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
                if isinstance(node, (ast.Assign, ast.AugAssign, ast.AnnAssign)):
                    parts = [part for target in targets for part in ast.walk(target)]
                    found += [
                        node.lineno
                        for part in parts
                        if isinstance(part, ast.Attribute)
                        and isinstance(part.value, ast.Name)
                        and part.value.id == handler.name
                    ]
    return found


def read_reports(tree: ast.AST) -> list[int]:
    """The lines on which something called `report` is subscripted: a document in the making that steers a run."""
    return [
        node.lineno
        for node in walk(tree)
        if isinstance(node, ast.Subscript)
        and "report" in (getattr(node.value, "id", None), getattr(node.value, "attr", None))
    ]


class Rooms(unittest.TestCase):
    def test_every_module_is_in_a_room(self):
        rooms = {package_of(name) for name in MODULES}
        self.assertEqual(rooms, {"", *MAY})

    def test_packages_import_only_what_they_may(self):
        self.assertEqual(trespasses(MODULES), set())

    def test_the_top_modules_import_no_package_and_among_them_config_knows_errors_alone(self):
        for name in TOP:
            with self.subTest(name):
                used = imports(name, MODULES[name])
                self.assertLessEqual(used, {"errors"} if name == "config" else TOP)

    def test_no_packages_go_in_a_circle(self):
        graph: dict[str, set[str]] = {}
        for name, tree in MODULES.items():
            room = package_of(name)
            graph.setdefault(room, set()).update({package_of(used) for used in imports(name, tree)} - {room})
        self.assertEqual(cycle(graph), [])

    def test_calls_and_what_is_below_know_no_process_no_terminal_and_no_command_line(self):
        found = {name: names_of_the_process(tree) for name, tree in MODULES.items() if package_of(name) in SILENT}
        self.assertEqual({name: names for name, names in found.items() if names}, {})

    def test_nothing_reads_its_own_output_back(self):
        self.assertEqual({name: lines for name, tree in MODULES.items() if (lines := read_reports(tree))}, {})

    def test_nobody_changes_a_caught_error(self):
        self.assertEqual({name: lines for name, tree in MODULES.items() if (lines := changed_errors(tree))}, {})

    def test_to_import_the_package_loads_nothing_else_of_it(self):
        code = "import sys, alltoken_call; print([name for name in sys.modules if name.startswith('alltoken_call')])"
        done = subprocess.run(
            [sys.executable, "-S", "-c", code],
            cwd=PACKAGE.parent,
            capture_output=True,
            text=True,
            check=True,
            timeout=30,
        )
        self.assertEqual(done.stdout, "['alltoken_call']\n")

    def test_no_modules_go_in_a_circle(self):
        self.assertEqual(cycle({name: imports(name, tree, lazy=False) for name, tree in MODULES.items()}), [])

    def test_nothing_but_the_standard_library_is_imported(self):
        used = {
            target.partition(".")[0]
            for name, tree in MODULES.items()
            for node in import_nodes(tree, lazy=True)
            for target in targets(node, name, MODULES)
        }
        self.assertEqual(used - sys.stdlib_module_names, {"alltoken_call"})


class Explained(unittest.TestCase):
    def test_every_module_says_what_it_is(self):
        self.assertEqual([name for name, tree in MODULES.items() if not ast.get_docstring(tree)], [])

    def test_every_public_function_and_class_has_a_docstring(self):
        self.assertEqual({name: found for name, tree in MODULES.items() if (found := list(unexplained(tree)))}, {})

    def test_every_function_fits_on_a_screen(self):
        self.assertEqual({name: found for name, tree in MODULES.items() if (found := too_long(tree))}, {})


class Readers(unittest.TestCase):
    """The rules above see what they are meant to see."""

    def test_every_form_of_import_is_seen(self):
        modules = ("", "sse", "wire", "commands", "commands.chat")
        for importer, source, found in (
            ("cli", "from . import sse, __version__", {"sse", ""}),
            ("cli", "from .sse import Parser", {"sse"}),
            ("cli", "from .commands import chat", {"commands.chat"}),
            ("commands.chat", "from .. import sse", {"sse"}),
            ("commands.chat", "from ..sse import Parser", {"sse"}),
            ("commands.chat", "from . import chat", {"commands.chat"}),
            ("commands", "from .chat import run", {"commands.chat"}),
            ("", "from . import sse", {"sse"}),
            ("__main__", "from alltoken_call.sse import Parser", {"sse"}),
            ("__main__", "import alltoken_call.wire, json", {"wire"}),
            ("cli", "try:\n import json\nexcept ImportError:\n from . import sse", {"sse"}),
            ("cli", "if TYPE_CHECKING:\n from . import sse\nelse:\n from . import wire", {"wire"}),
            ("cli", "class A:\n from . import sse", {"sse"}),
        ):
            with self.subTest(source):
                self.assertEqual(imports(importer, ast.parse(source), modules, lazy=False), found)

    def test_an_import_inside_a_function_is_lazy(self):
        tree = ast.parse("def f():\n from .net import sse")
        self.assertEqual(imports("config", tree, lazy=False), set())
        self.assertEqual(imports("config", tree, lazy=True), {"net.sse"})

    def test_what_a_package_must_not_import_is_seen(self):
        for importer, source, forbidden in (
            ("net.sse", "from ..store import files", True),
            ("net.sse", "def f():\n from ..store import files", True),
            ("net.sse", "if TYPE_CHECKING:\n from ..store import files", False),
            ("net.sse", "from . import retry", False),
            ("net.sse", "from ..errors import NetError", False),
            ("store.files", "from ..calls.chat import ask", True),
            ("calls.chat", "from ..net import sse", False),
            ("calls.chat", "from ..commands import chat", True),
            ("commands.chat", "from ..cli.output import Output", True),
            ("commands.chat", "from ..net import sse", True),
            ("commands.chat", "from ..calls.chat import ask", False),
            ("cli.main", "from ..net import sse", False),
            ("errors", "from .net import sse", True),
        ):
            with self.subTest(importer, source=source):
                names = ("errors", "net.sse", "net.retry", "store.files", "calls.chat", "commands.chat", "cli.output")
                modules = dict.fromkeys(names, ast.parse("")) | {importer: ast.parse(source)}
                self.assertEqual(bool(trespasses(modules)), forbidden)

    def test_the_names_of_the_process_are_seen_and_prose_is_not(self):
        for source, found in (
            ("import sys", {"sys"}),
            ("import os, argparse", {"argparse"}),
            ("from signal import SIGINT", {"signal"}),
            ("if TYPE_CHECKING:\n from ..cli.output import Output", {"Output"}),
            ("def f(output: Output): ...", {"Output"}),
            ("os.environ['A']", {"os.environ"}),
            ("from os import environ", {"os.environ"}),
            ("# sys\n'Output, os.environ'\nsystem = signals = 1\nfrom .signal import x", set()),
        ):
            with self.subTest(source):
                self.assertEqual(names_of_the_process(ast.parse(source)), found)

    def test_a_change_of_a_caught_error_is_seen(self):
        def caught(body):
            return changed_errors(ast.parse(f"try: f()\nexcept E as e:\n {body}\n"))

        for body in ("e.hint = 1", "e.sent |= True", "a, e.b = 1, 2", "if x: e.y = 1", "e.a: int = 1"):
            self.assertEqual(caught(body), [3], body)
        for body in ("a.hint = 1", "e = 1", "raise F(e.hint) from None", "x = e.hint"):
            self.assertEqual(caught(body), [], body)

    def test_a_report_that_is_read_back_is_seen(self):
        for source, lines in (
            ("report['a']", [1]),
            ("output.report['a'] = 1", [1]),
            ("Report['a']", []),
            ("report", []),
        ):
            self.assertEqual(read_reports(ast.parse(source)), lines, source)

    def test_a_circle_is_found(self):
        self.assertEqual(cycle({"a": {"b"}, "b": {"c"}, "c": set()}), [])
        self.assertEqual(cycle({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": set()}), ["a", "b", "c"])

    def test_a_missing_docstring_and_a_long_function_are_found(self):
        source = 'class A:\n "x"\n def b(self): pass\n def _c(self): pass\ndef d(): pass\nclass _E:\n def f(self): pass'
        self.assertEqual(list(unexplained(ast.parse(source))), ["A.b", "d"])
        body = "\n x" * (LONGEST - 1)
        self.assertEqual(too_long(ast.parse(f"def f():{body}")), [])
        self.assertEqual(too_long(ast.parse(f"def f():{body}\n x")), ["f"])
