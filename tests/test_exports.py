"""The public face: names, documentation, types.

Guards that everything public is listed, sorted and documented, that the package
is typed and can be imported without side effects.
"""

from __future__ import annotations

import inspect
import pickle
from pathlib import Path

import sse_fast
from support.process import run_program

PACKAGE = Path(sse_fast.__file__).parent


def test_all_is_sorted_and_everything_in_it_exists() -> None:
    assert sse_fast.__all__ == sorted(sse_fast.__all__)
    assert len(set(sse_fast.__all__)) == len(sse_fast.__all__)
    for name in sse_fast.__all__:
        assert hasattr(sse_fast, name)


def test_nothing_public_is_left_out_of_all() -> None:
    assert sse_fast.Server  # All names are there now, whichever were used before.
    assert sse_fast.Client
    there = {name: value for name, value in vars(sse_fast).items() if name != "TYPE_CHECKING"}
    public = {name for name, value in there.items() if not name.startswith("_") and not inspect.ismodule(value)}
    assert public == set(sse_fast.__all__) - {"__version__"}


def public_members() -> list[tuple[str, object]]:
    members: list[tuple[str, object]] = []
    for name in sse_fast.__all__:
        value = getattr(sse_fast, name)
        if isinstance(value, str) or not (issubclass(type(value), type) or inspect.isroutine(value)):
            continue  # The type of a callable has no text of its own.
        members.append((name, value))
        if inspect.isclass(value) and not issubclass(value, BaseException):
            members += [
                (f"{name}.{attribute}", member)
                for attribute, member in vars(value).items()
                if not attribute.startswith("_") and (callable(member) or isinstance(member, property))
            ]
    return members


def test_everything_public_is_documented() -> None:
    bare = [name for name, value in public_members() if not (inspect.getdoc(value) or "").strip()]
    assert not bare


def test_every_exception_has_the_one_root_and_a_builtin() -> None:
    for name in sse_fast.__all__:
        value = getattr(sse_fast, name)
        if inspect.isclass(value) and issubclass(value, BaseException):
            assert issubclass(value, sse_fast.SseFastError), name
            builtins = (ValueError, TypeError, RuntimeError, OSError, TimeoutError)
            assert issubclass(value, builtins) or name == "SseFastError", name
    assert issubclass(sse_fast.EventError, ValueError)
    assert issubclass(sse_fast.StreamEnded, RuntimeError)
    assert issubclass(sse_fast.ServerClosed, RuntimeError)
    assert issubclass(sse_fast.AddressInUse, OSError)
    assert issubclass(sse_fast.WaitTimeout, TimeoutError)


GROUPS = {
    "StartError": {"AddressInUse": OSError, "PermissionDenied": PermissionError},
    "RunError": {"RunArgumentError": ValueError},
    "RequestError": {"Unreachable": ConnectionError, "AccessDenied": PermissionError, "UnknownStream": LookupError},
    "StreamError": dict.fromkeys(
        ("StreamEnded", "KeyReused", "PublishInProgress", "PublishWouldWait", "TooManyStreams"), RuntimeError
    ),
}


def test_a_group_catches_its_leaves_and_each_leaf_is_a_builtin() -> None:
    for group, leaves in GROUPS.items():
        below = {cls.__name__: cls for cls in getattr(sse_fast, group).__subclasses__()}
        assert set(below) == set(leaves)
        assert all(issubclass(below[name], builtin) for name, builtin in leaves.items())


def test_exceptions_survive_pickling() -> None:
    """As between the processes of a pool."""
    for name in sse_fast.__all__:
        value = getattr(sse_fast, name)
        if inspect.isclass(value) and issubclass(value, BaseException) and value is not sse_fast.HttpError:
            for arguments in (("the text",), (2, "the text")) if issubclass(value, OSError) else (("the text",),):
                error = value(*arguments)
                again = pickle.loads(pickle.dumps(error))
                assert (type(again), again.args, str(again)) == (value, error.args, str(error))


def test_public_names_are_shown_as_public() -> None:
    for name in sse_fast.__all__:
        value = getattr(sse_fast, name)
        if issubclass(type(value), type) or inspect.isfunction(value):  # No alias of a callable's type.
            assert value.__module__ == "sse_fast", f"{name} says it lives in {value.__module__}"


def test_the_package_is_typed_and_whole() -> None:
    for file in ("py.typed", "_core.pyi", "runner.py", "static/sse-fast.js", "static/sse-fast.d.ts"):
        assert (PACKAGE / file).is_file(), file
    assert not list(PACKAGE.rglob("*.rs"))


def test_importing_starts_nothing_and_configures_no_logging() -> None:
    program = run_program(
        """
        import sys, threading, logging
        import sse_fast
        heavy = [name for name in ("asyncio", "orjson", "pytest", "typing_extensions") if name in sys.modules]
        print(threading.active_count(), heavy, logging.getLogger().handlers,
              logging.getLogger("sse_fast").handlers, logging.getLogger("sse_fast").level)
        """
    )
    assert program.lines == ["1 [] [] [] 0"]


def test_the_child_s_side_imports_no_engine() -> None:
    program = run_program(
        """
        import importlib.util, sys
        spec = importlib.util.spec_from_file_location("runner", sys.argv[1])
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        print([name for name in sys.modules if name.startswith("sse_fast")])
        """,
        PACKAGE / "runner.py",
    )
    assert program.lines == ["[]"]


def test_the_version_is_the_distribution_s() -> None:
    from importlib.metadata import version

    assert sse_fast.__version__ == version("sse-fast")
