"""What an import costs: the package imports what is asked for, and a client never the engine.

Guards which modules are loaded, by name and by number; how long it takes is nobody's promise.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import sse_fast
from sse_fast import _public
from support.process import run_program

#: Modules beyond those of an interpreter that has imported nothing: 85 in Python 3.11, and somewhat others elsewhere.
CLIENT = 100

LOADED = """
    import sys
    before = set(sys.modules)
    {program}
    new = set(sys.modules) - before
    ours = sorted(name for name in new if name.startswith("sse_fast"))
    print([name for name in ("sse_fast._core", "orjson", "asyncio", "ssl", "http", "email") if name in new])
    print(len(new))
    print(ours)
"""


#: What a client takes of the package besides its own modules.
LIGHT = {f"sse_fast.{name}" for name in ("_chance", "_event", "_exceptions", "_hints", "_public")} | {"sse_fast"}


def loaded(program: str) -> tuple[list[str], int, list[str]]:
    """Which of the heavy modules a program loads, how many it loads in all, and which of ours."""
    heavy, number, ours = run_program(LOADED.format(program=program)).lines
    return ast.literal_eval(heavy), int(number), ast.literal_eval(ours)


def test_the_package_itself_imports_nothing() -> None:
    assert loaded("import sse_fast")[2] == ["sse_fast"]


@pytest.mark.parametrize(
    "program",
    [
        "import sse_fast.client",
        "from sse_fast import connect",
        "from sse_fast import AsyncClient, Event, StreamEnded, Unreachable",
        "import sse_fast; sse_fast.connect('http://127.0.0.1:1').stream('s')",
        "import sse_fast; sse_fast.AsyncClient('http://127.0.0.1:1').stream('s')",
    ],
)
def test_a_client_costs_the_standard_library(program: str) -> None:
    heavy, number, ours = loaded(program)
    assert heavy == []
    assert number < CLIENT
    assert all(name in LIGHT or name.startswith(("sse_fast._client", "sse_fast.client")) for name in ours), ours


def test_an_exception_alone_loads_no_engine() -> None:
    assert loaded("from sse_fast import StreamEnded")[2] == ["sse_fast", "sse_fast._exceptions", "sse_fast._public"]


def test_a_client_works_where_neither_the_engine_nor_orjson_can_be_imported() -> None:
    """As a worker's machine that has another system than the wheel is made for."""
    program = run_program(
        """
        import sys
        sys.modules["sse_fast._core"] = sys.modules["orjson"] = None  # An import of either now fails.
        import sse_fast
        from sse_fast._client import encoding
        print(encoding.text_of({"a": [1, 2.5, None], "b": "\\u2028"}, "data"))
        try:
            sse_fast.connect("http://127.0.0.1:1", retry_for=0.0).stream("s").publish({"a": 1})
        except sse_fast.Unreachable as error:
            print(type(error).__module__, error.published)
        """
    )
    assert program.lines == ['{"a":[1,2.5,null],"b":"\\u2028"}', "sse_fast False"]


def test_whatever_has_servers_makes_the_package_whole() -> None:
    """`typing.get_type_hints` finds the names of a public class's annotations in the package's own."""
    program = run_program(
        """
        import sys, sse_fast.testing
        package = vars(sys.modules["sse_fast"])
        print([name for name in package["__all__"] if name not in package])
        """
    )
    clients = ["AsyncClient", "AsyncRemoteEvents", "AsyncRemoteStream", "Client", "RemoteEvents", "RemoteStream"]
    assert ast.literal_eval(program.lines[0]) == [*clients, "connect"]


def test_the_private_module_of_the_engine_is_there() -> None:
    assert run_program("import sse_fast; print(sse_fast._core.__name__)").lines == ["sse_fast._core"]


def test_a_name_that_there_is_not_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'sse_fast' has no attribute 'nothing'"):
        sse_fast.nothing  # type: ignore[attr-defined]  # noqa: B018
    with pytest.raises(ImportError):
        exec("from sse_fast import nothing")


def test_the_names_are_those_that_type_checkers_see() -> None:
    tree = ast.parse(Path(sse_fast.__file__).read_text(encoding="utf-8"))
    seen = {
        node.module: {alias.name for alias in node.names}
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.level and node.module
    }
    table = {module: set(names) for module, names in {**_public._LIGHT, **_public._HEAVY}.items()}
    assert seen == table
    assert set(sse_fast.__all__) == {name for names in table.values() for name in names}
    assert set(sse_fast.__all__) <= set(dir(sse_fast))
