"""The error tree: one class for each code, and exit codes for what stops a start."""

import pytest

from omi_runtime import errors
from omi_runtime.errors import ErrorCode, LoadError, OMIError, SettingsError, StartupError


def subclasses(base: type) -> set[type]:
    return {base} | {leaf for child in base.__subclasses__() for leaf in subclasses(child)}


def test_every_code_has_one_class_of_its_own() -> None:
    ours = [c for c in subclasses(OMIError) if c.__module__ == errors.__name__]
    codes = [c.code for c in ours if c is not OMIError]
    assert sorted(codes) == sorted(ErrorCode)
    assert OMIError.code is ErrorCode.INTERNAL


def test_a_code_is_its_own_name() -> None:
    assert all(code.value == code.name for code in ErrorCode)


def test_the_tree_is_drawn_in_the_modules_docstring() -> None:
    assert errors.__doc__ is not None
    for leaf in subclasses(OMIError) | subclasses(StartupError):
        if leaf.__module__ == errors.__name__:
            assert leaf.__name__ in errors.__doc__


@pytest.mark.parametrize("kind", [c for c in errors.__dict__.values() if isinstance(c, type)
                                  and issubclass(c, OMIError)])  # fmt: skip
def test_an_error_says_its_message(kind: type[OMIError]) -> None:
    error = kind("what happened")
    assert error.message == str(error) == "what happened"
    named = error.with_rows([3])
    assert type(named) is kind
    assert named.message == "row 3: what happened"
    assert error.with_rows([0, 2, 5]).message == "rows 0, 2, 5: what happened"
    assert error.message == "what happened"


def test_a_bug_of_ours_says_no_more_than_that() -> None:
    assert errors.InternalError().message == "internal error; the server's log has the details"


def test_exit_codes() -> None:
    codes = (StartupError.exit_code, SettingsError.exit_code, LoadError.exit_code)
    assert codes == (1, 2, 3)
    assert not issubclass(StartupError, OMIError)
