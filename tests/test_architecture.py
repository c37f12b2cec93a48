"""The house: flat floors, imports only downward, the standard library alone, everything public explained."""

import ast
import sys
import unittest
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent / "alltoken_call"
FLOORS = {
    0: ("", "errors", "config", "context", "sse", "chunked", "retry", "options", "wire", "exchange", "text"),
    1: ("output", "response", "connection", "transport", "files", "download", "spool", "pricing", "ledger"),
    2: ("completion", "fallback", "prompt", "tasks", "resume", "uploads", "results"),
    3: (
        "commands",
        "skills",
        "shell",
        *(f"commands.{name}" for name in ("chat", "image", "video", "search", "models", "cost")),
    ),
    4: ("cli", "__main__"),
}
FLOOR = {name: floor for floor, names in FLOORS.items() for name in names}
LONGEST = 60  # lines of a function: it fits on a screen

Function = (ast.FunctionDef, ast.AsyncFunctionDef)


def name_of(path: Path) -> str:
    """A module's name inside the package: `sse`, `commands.chat`, and "" for the package itself."""
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix("__init__").removesuffix(".")


MODULES = {name_of(path): ast.parse(path.read_text("utf-8")) for path in sorted(PACKAGE.rglob("*.py"))}


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def import_nodes(tree: ast.AST, *, lazy: bool):
    """The import statements that run; `lazy` takes in those inside functions."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            yield node
        elif is_type_checking(node):
            yield from (found for branch in node.orelse for found in import_nodes(ast.Module([branch], []), lazy=lazy))
        elif lazy or not isinstance(node, (*Function, ast.Lambda)):
            yield from import_nodes(node, lazy=lazy)


def targets(node: ast.AST, importer: str, modules) -> set[str]:
    """Absolute names of what a statement in `importer` imports: modules where there are such, else their package."""
    if isinstance(node, ast.Import):
        return {alias.name for alias in node.names}
    base = node.module or ""
    if node.level:
        package = ["alltoken_call", *importer.split(".")][: -node.level] if importer else ["alltoken_call"]
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
    found = (node for node in ast.walk(tree) if isinstance(node, Function))
    return [node.name for node in found if node.end_lineno - node.lineno + 1 > LONGEST]


class Floors(unittest.TestCase):
    def test_every_module_has_a_floor(self):
        self.assertEqual(MODULES.keys() - FLOOR.keys(), set())

    def test_no_module_imports_from_a_floor_above(self):
        upward = {
            (name, used)
            for name, tree in MODULES.items()
            for used in imports(name, tree)
            if FLOOR.get(used, 0) > FLOOR.get(name, 0)
        }
        self.assertEqual(upward, set())

    def test_no_imports_go_in_a_circle(self):
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
            ("", "from . import sse", {"sse"}),
            ("__main__", "from alltoken_call.net.sse import Parser", {"sse"}),
            ("__main__", "import alltoken_call.wire, json", {"wire"}),
            ("cli", "try:\n import json\nexcept ImportError:\n from . import sse", {"sse"}),
            ("cli", "if TYPE_CHECKING:\n from . import sse\nelse:\n from . import wire", {"wire"}),
            ("cli", "class A:\n from . import sse", {"sse"}),
        ):
            with self.subTest(source):
                self.assertEqual(imports(importer, ast.parse(source), modules, lazy=False), found)

    def test_an_import_inside_a_function_is_lazy(self):
        tree = ast.parse("def f():\n from . import sse")
        self.assertEqual(imports("cli", tree, lazy=False), set())
        self.assertEqual(imports("cli", tree, lazy=True), {"sse"})

    def test_a_circle_is_found(self):
        self.assertEqual(cycle({"a": {"b"}, "b": {"c"}, "c": set()}), [])
        self.assertEqual(cycle({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": set()}), ["a", "b", "c"])

    def test_a_missing_docstring_and_a_long_function_are_found(self):
        source = 'class A:\n "x"\n def b(self): pass\n def _c(self): pass\ndef d(): pass\nclass _E:\n def f(self): pass'
        self.assertEqual(list(unexplained(ast.parse(source))), ["A.b", "d"])
        body = "\n x" * (LONGEST - 1)
        self.assertEqual(too_long(ast.parse(f"def f():{body}")), [])
        self.assertEqual(too_long(ast.parse(f"def f():{body}\n x")), ["f"])
