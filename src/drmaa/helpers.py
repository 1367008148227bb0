"""Converters and descriptors behind the attributes of JobTemplate and Session, under drmaa-python's names."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from . import const
from ._values import limit_s, mapping, plain_text, words
from .errors import InvalidArgumentException, InvalidAttributeValueException, coded

__all__ = [
    "Attribute",
    "BoolConverter",
    "DictAttribute",
    "IntConverter",
    "SessionStringAttribute",
    "SessionVersionAttribute",
    "VectorAttribute",
    "Version",
    "adapt_rusage",
    "attribute_getter",
    "attribute_names_iterator",
    "attribute_setter",
    "attributes_iterator",
    "c",
    "run_bulk_job",
    "string_vector",
    "vector_attribute_iterator",
    "vector_attribute_names_iterator",
]

MANDATORY = (
    const.REMOTE_COMMAND,
    const.JS_STATE,
    const.WD,
    const.JOB_CATEGORY,
    const.NATIVE_SPECIFICATION,
    const.BLOCK_EMAIL,
    const.START_TIME,
    const.JOB_NAME,
    const.INPUT_PATH,
    const.OUTPUT_PATH,
    const.ERROR_PATH,
    const.JOIN_FILES,
)
OPTIONAL = (
    const.TRANSFER_FILES,
    const.DEADLINE_TIME,
    const.WCT_HLIMIT,
    const.WCT_SLIMIT,
    const.DURATION_HLIMIT,
    const.DURATION_SLIMIT,
)
VECTORS = (const.V_ARGV, const.V_EMAIL, const.V_ENV)


# Converters ---------------------------------------------------------------------------------------------------------


class BoolConverter:
    """Truth as the C binding writes it: two words. Text must be one of them; any other value is taken by its truth."""

    empty = False

    def __init__(self, true: str = "y", false: str = "n") -> None:
        self.true = true
        self.false = false

    def to_drmaa(self, value: Any, what: str = "the attribute") -> str:
        """The word of a value's truth. InvalidAttributeValue (14) for text that is neither word."""
        text = value.decode("ascii", "replace") if isinstance(value, bytes) else value
        if isinstance(text, str):
            if text not in (self.true, self.false):
                raise coded(InvalidAttributeValueException, f"{what} is True or False, not {value!r}")
            return text
        return self.true if value else self.false

    def from_drmaa(self, value: str) -> bool:
        """True for the true word only."""
        return value == self.true


class IntConverter:
    """Seconds of a limit; unset is None."""

    empty = None

    @staticmethod
    def to_drmaa(value: Any, what: str = "a limit") -> str:
        """Seconds as digits, from a number, a timedelta, or a duration's text; '' for None. Raises codes 13 and 14."""
        seconds = limit_s(value, what)
        return "" if seconds is None else str(seconds)

    @staticmethod
    def from_drmaa(value: str) -> int | None:
        """A whole number; None for ''."""
        return int(value) if value else None


class WordConverter:
    """One of a few words. Raises InvalidAttributeValue (14), with the words, for any other."""

    empty = ""

    def __init__(self, *allowed: str) -> None:
        self.allowed = allowed

    def to_drmaa(self, value: Any, what: str = "the attribute") -> str:
        """The word itself."""
        text = value.decode("ascii", "replace") if isinstance(value, bytes) else value
        if text not in self.allowed:
            raise coded(InvalidAttributeValueException, f"{what} is {' or '.join(map(repr, self.allowed))}, not {value!r}")
        return str(text)

    def from_drmaa(self, value: str) -> str:
        """The word itself."""
        return value


class FlagsConverter:
    """Any of the letters i, o and e, or an object with the three flags of GFD.143. Raises InvalidAttributeValue (14)."""

    empty = ""

    def to_drmaa(self, value: Any, what: str = "transferFiles") -> str:
        """The letters."""
        flags = [getattr(value, f"transfer{name}Stream", None) for name in ("Input", "Output", "Error")]
        if None not in flags:
            return "".join(letter for letter, wanted in zip("ioe", flags, strict=True) if wanted)
        text = value.decode("ascii", "replace") if isinstance(value, bytes) else value
        if not isinstance(text, str) or not set(text) <= set("ioe") or len(set(text)) != len(text):
            raise coded(
                InvalidAttributeValueException, f"{what} is any of the letters 'i', 'o' and 'e', such as 'oe'; not {value!r}"
            )
        return text

    def from_drmaa(self, value: str) -> str:
        """The letters."""
        return value


# Attributes of Session ----------------------------------------------------------------------------------------------


class Version:
    """A version: reads, unpacks and compares as the pair (major, minor), and formats as ``1.0``.

    Not a tuple, or ``"%s" % version`` would take it for two arguments, as it does with drmaa-python.
    """

    __slots__ = ("major", "minor")
    _fields = __slots__

    def __init__(self, major: int, minor: int) -> None:
        self.major = major
        self.minor = minor

    def _pair(self) -> tuple[int, int]:
        return (self.major, self.minor)

    def _asdict(self) -> dict[str, int]:
        return {"major": self.major, "minor": self.minor}

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}"

    def __repr__(self) -> str:
        return f"Version(major={self.major}, minor={self.minor})"

    def __iter__(self) -> Iterator[int]:
        return iter(self._pair())

    def __len__(self) -> int:
        return 2

    def __getitem__(self, at: Any) -> Any:
        return self._pair()[at]

    def __eq__(self, other: object) -> bool:
        return self._pair() == (other._pair() if isinstance(other, Version) else other)

    def __lt__(self, other: Any) -> bool:
        return self._pair() < tuple(other)

    def __gt__(self, other: Any) -> bool:
        return self._pair() > tuple(other)

    def __le__(self, other: Any) -> bool:
        return self._pair() <= tuple(other)

    def __ge__(self, other: Any) -> bool:
        return self._pair() >= tuple(other)

    def __hash__(self) -> int:
        return hash(self._pair())


class SessionStringAttribute:
    """A text that is asked for anew at each reading, on the class as on its instances."""

    def __init__(self, drmaa_function: Callable[[], str]) -> None:
        self._function = drmaa_function

    def __get__(self, instance: object, owner: type | None = None) -> str:
        return self._function()


class SessionVersionAttribute:
    """The version of DRMAA, on the class as on its instances."""

    def __get__(self, instance: object, owner: type | None = None) -> Version:
        return Version(1, 0)


# Attributes of JobTemplate ------------------------------------------------------------------------------------------


class Attribute:
    """A scalar attribute. Unset, it reads as '' (False, None for limits)."""

    def __init__(self, name: bytes, type_converter: Any = None) -> None:
        self.name = name
        self.converter = type_converter
        self.attribute = name.decode()

    def __set_name__(self, owner: type, name: str) -> None:
        self.attribute = name

    def __set__(self, instance: Any, value: Any) -> None:
        if self.converter is not None:
            text = self.converter.to_drmaa(value, self.attribute)
        else:
            text = plain_text(value, self.attribute)
        instance._store(self.name, text, self.attribute)

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        if instance is None:
            return self
        text = instance._fetch(self.name)
        if self.converter is None:
            return text or ""
        return self.converter.empty if text is None else self.converter.from_drmaa(text)


class VectorAttribute:
    """A list of text. Unset, it reads as []."""

    def __init__(self, name: bytes) -> None:
        self.name = name
        self.attribute = name.decode()

    def __set_name__(self, owner: type, name: str) -> None:
        self.attribute = name

    def __set__(self, instance: Any, value: Any) -> None:
        instance._store(self.name, words(value, self.attribute), self.attribute)

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        return self if instance is None else list(instance._fetch(self.name) or ())


class DictAttribute:
    """A dict of text. Unset, it reads as {}."""

    def __init__(self, name: bytes) -> None:
        self.name = name
        self.attribute = name.decode()

    def __set_name__(self, owner: type, name: str) -> None:
        self.attribute = name

    def __set__(self, instance: Any, value: Any) -> None:
        instance._store(self.name, mapping(value, self.attribute), self.attribute)

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        return self if instance is None else dict(instance._fetch(self.name) or ())


# Functions ----------------------------------------------------------------------------------------------------------


def attributes_iterator(attributes: Iterable[str | bytes]) -> Iterator[str]:
    """The texts of a list of attributes."""
    for value in attributes:
        yield value.decode(const.ENCODING) if isinstance(value, bytes) else value


def adapt_rusage(rusage: Iterable[str | bytes]) -> dict[str, str]:
    """A dict of ``name=value`` texts; a value may hold '='."""
    return {name: value for name, _, value in (text.partition("=") for text in attributes_iterator(rusage))}


def vector_attribute_iterator(jt: Any, attr_name: str | bytes) -> Iterator[str]:
    """The texts of a template's vector attribute, by its C name; those of the environment as ``name=value``."""
    values = jt._fetch(_known(attr_name, VECTORS)) or ()
    return iter([f"{k}={v}" for k, v in values.items()] if isinstance(values, Mapping) else list(values))


def attribute_names_iterator() -> Iterator[str]:
    """C names of the scalar attributes that the shared session's scheduler supports. NoActiveSession (5) without one."""
    from .session import _SHARED

    return iter(_SHARED.attribute_names())


def vector_attribute_names_iterator() -> Iterator[str]:
    """C names of the vector attributes."""
    return iter([name.decode() for name in VECTORS])


def run_bulk_job(jt: Any, start: int, end: int, incr: int = 1) -> Iterator[str]:
    """The ids of a bulk job, submitted in the shared session."""
    from .session import Session

    return iter(Session.runBulkJobs(jt, start, end, incr))


def c(f: Callable[..., Any], *args: Any) -> Any:
    """Call a function of ``drmaa.wrappers``."""
    return f(*args)


def string_vector(v: Iterable[Any]) -> list[str]:
    """A list of text of any iterable."""
    return words(v, "a vector")


def attribute_setter(obj: Any, attribute_name: str | bytes) -> Callable[[Any], None]:
    """A function that sets a template's scalar attribute by its C name. InvalidArgument (4) for a name that is none."""

    def setter(value: Any) -> None:
        obj.set_attribute(attribute_name, value)

    setter.__name__ = f"set_{_text(attribute_name)}"
    return setter


def attribute_getter(obj: Any, attribute_name: str | bytes) -> Callable[[], Any]:
    """A function that reads a template's scalar attribute by its C name. InvalidArgument (4) for a name that is none."""

    def getter() -> Any:
        return obj.get_attribute(attribute_name)

    getter.__name__ = f"get_{_text(attribute_name)}"
    return getter


def _text(name: str | bytes) -> str:
    return name.decode() if isinstance(name, bytes) else name


def _known(name: str | bytes, names: Iterable[bytes]) -> bytes:
    raw = name if isinstance(name, bytes) else str(name).encode()
    if raw not in names:
        raise coded(InvalidArgumentException, f"there is no attribute {_text(raw)!r}")
    return raw
