"""Checked attributes: every parameter of a specification is also a property, checked whenever it is set."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Generic, Self, TypeVar, overload

Got = TypeVar("Got")
Given = TypeVar("Given")

_UNSET = object()

Convert = Callable[[str, Given], Got]


class Field(Generic[Got, Given]):
    """A property stored as ``_name``; ``convert(label, value)`` checks and converts what it is set to."""

    def __init__(self, convert: Callable[[str, Given], Got], doc: str) -> None:
        self._convert = convert
        self.__doc__ = doc

    def __set_name__(self, owner: type, name: str) -> None:
        self._key = "_" + name
        self._label = f"{owner.__name__}.{name}"

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...
    @overload
    def __get__(self, instance: object, owner: type) -> Got: ...
    def __get__(self, instance: object | None, owner: type) -> Self | Got:
        if instance is None:
            return self
        value: Got = getattr(instance, self._key)
        return value

    def __set__(self, instance: object, value: Given) -> None:
        found = self._convert(self._label, value)
        if getattr(instance, self._key, _UNSET) is not found:  # a default of the class is not stored again
            setattr(instance, self._key, found)

    def put(self, instance: object, value: object) -> None:
        """Set it to a value that is neither checked nor converted."""
        setattr(instance, self._key, value)


def wrong(label: str, wanted: str, value: object) -> TypeError:
    """The TypeError for a value of the wrong type."""
    return TypeError(f"{label} is {wanted}, not {type(value).__name__} {value!r}")


def holds(label: str, wanted: str, item: object, what: str = "") -> TypeError:
    """The TypeError for an item of the wrong type; ``what``: ``the key ``."""
    return TypeError(f"{label} is {wanted}; it holds {what}{type(item).__name__} {item!r}")


def optional_text(label: str, value: str | None) -> str | None:
    """A str, or None."""
    if value is not None and not isinstance(value, str):
        raise wrong(label, "a str or None", value)
    return value


def flag(label: str, value: bool) -> bool:
    """A bool and nothing that merely looks like one."""
    if type(value) is not bool:
        raise wrong(label, "True or False", value)
    return value


def optional_path(label: str, value: str | os.PathLike[str] | None) -> Path | None:
    """A Path of a str or a path, or None."""
    if value is None or isinstance(value, Path):
        return value
    if isinstance(value, str | os.PathLike):
        return Path(value)
    raise wrong(label, "a path, a str or None", value)


def optional_count(label: str, value: int | None) -> int | None:
    """An int, or None; whether the number makes sense is asked elsewhere."""
    if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
        raise wrong(label, "an int or None", value)
    return value


def text_list(label: str, value: list[str] | None) -> list[str] | None:
    """A list of str, every item checked; tuples are taken too."""
    if value is None:
        return None
    if not isinstance(value, list | tuple):
        raise wrong(label, "a list of str, or None", value)
    for item in value:
        if not isinstance(item, str):
            raise holds(label, "a list of str", item)
    return value if isinstance(value, list) else list(value)


def environment(label: str, value: Mapping[str, str | int] | None) -> dict[str, str] | None:
    """A dict of str to str; numbers become text."""
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise wrong(label, "a dict of str to str or int, or None", value)
    return {variable(label, key): text_or_number(label, item) for key, item in value.items()}


def variable(label: str, key: object) -> str:
    """The name of an environment variable."""
    if not isinstance(key, str):
        raise holds(label, "a dict with str keys", key, "the key ")
    return key


def text_or_number(label: str, item: object) -> str:
    """The value of an environment variable."""
    if isinstance(item, str):
        return item
    if isinstance(item, int):
        return str(item)
    raise holds(label, "a dict with str or int values", item)


def same(one: Any, other: Any, names: tuple[str, ...]) -> bool:
    """Whether two objects are equal in these attributes."""
    return all(getattr(one, name) == getattr(other, name) for name in names)
