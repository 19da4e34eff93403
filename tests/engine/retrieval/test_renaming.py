"""Places that are like the cursor's but for their names."""

from __future__ import annotations

import pytest

from engine.retrieval.renaming import renamed

USER = """def create_user(user, count):
    user.check()
    save(user.name, "user", UserForm, count)
    return UserForm(user)
"""
ORDER = "\n\ndef create_order(order, number):\n    order.check()"
SAVED = 'save(order.name, "order", OrderForm, number)'


@pytest.mark.parametrize("written", ["", "sa", "save(or", "save(order", "save(order.", SAVED])
def test_names_are_changed_alike(written: str) -> None:
    [found] = renamed(USER + ORDER, "    " + written, USER)
    assert written + found.after == SAVED + "\n    return UserForm(user)"
    assert (found.line, found.length) > (1, 20)


@pytest.mark.parametrize(
    ("above", "head"),
    [
        (USER.rstrip(), "    "),  # nothing is below
        (USER + USER.rpartition("    save")[0].rstrip(), "    "),  # nothing has another name
        (USER + ORDER, "    load"),
        (USER + ORDER, "    save(order.name)("),
        (USER + ORDER.replace("check()", "check(1)"), "    "),  # another shape
        ("", ""),
    ],
)
def test_what_differs_otherwise_is_another_place(above: str, head: str) -> None:
    assert not list(renamed(above, head, USER))


def test_a_name_does_not_become_two() -> None:
    [found] = renamed(USER + ORDER.replace("order.check", "other.check"), "    ", USER)
    assert found.after.startswith('save(other.name, "other", OtherForm, number)')
    assert found.length < len("\n    other.check()\n    ") + len("def create_order(order, number):")
