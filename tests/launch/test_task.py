"""The task: whose mistake an error is."""

import json

from scaling.launch.task import is_ours
from scaling.registry import choose


def raised_by(call: object, *arguments: object) -> Exception:
    try:
        call(*arguments)  # type: ignore[operator]
    except ValueError as error:
        return error
    raise AssertionError("nothing was raised")


def test_our_own_errors_name_a_users_mistake_and_a_librarys_do_not() -> None:
    assert is_ours(raised_by(choose, "thing", {"a": 1}, "b"))
    assert not is_ours(raised_by(json.loads, "{"))
