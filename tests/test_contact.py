"""Contact strings: what they say, what is refused, and that each prints as it parses."""

from __future__ import annotations

import subprocess
import sys

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobyard.contact import Contact, known_options, register_options
from jobyard.errors import InvalidContact


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("local", {"scheduler": "local"}),
        ("local/4f2a", {"scheduler": "local", "session": "4f2a"}),
        ("local?slots=4&memory=2GiB", {"scheduler": "local", "options": {"slots": "4", "memory": "2GiB"}}),
        ("slurm+ssh://login.example.org", {"scheduler": "slurm", "host": "login.example.org"}),
        (
            "slurm+ssh://me@login.example.org:2222/s1?poll=5s",
            {
                "scheduler": "slurm",
                "user": "me",
                "host": "login.example.org",
                "port": 2222,
                "session": "s1",
                "options": {"poll": "5s"},
            },
        ),
        ("slurm+ssh://me%40realm@host", {"scheduler": "slurm", "user": "me@realm", "host": "host"}),
        ("lsf+ssh://[2001:db8::1]:22", {"scheduler": "lsf", "host": "2001:db8::1", "port": 22}),
        ("lsf+ssh://[fe80::1%25eth0]", {"scheduler": "lsf", "host": "fe80::1%eth0"}),
        ("standin?cell=a%2Cb%20c", {"scheduler": "standin", "options": {"cell": "a,b c"}}),
        ("standin?cell=%FF", {"scheduler": "standin", "options": {"cell": "\udcff"}}),
        ("site:cluster", {"site": "cluster"}),
        ("site:cluster/s1?queue=long", {"site": "cluster", "session": "s1", "options": {"queue": "long"}}),
    ],
)
def test_a_contact_says_its_parts(text: str, parts: dict[str, object]) -> None:
    contact = Contact.parse(text)
    assert contact == Contact(**parts)  # type: ignore[arg-type]
    assert Contact.parse(str(contact)) == contact
    assert "," not in str(contact)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "names no scheduler"),
        ("Slurm", "did you mean 'slurm'"),
        ("slurm,local", "comma"),
        ("slurm local", "blank"),
        ("local\n", "blank"),
        ("local?", "ends with '?'"),
        ("local/", "ends with '/'"),
        ("local/a/b", "cannot be a session"),
        ("local/..", "cannot be a session"),
        ("local/-x", "cannot be a session"),
        ("local/%2e%2e%2fetc", "cannot be a session"),
        ("local?slots", "key=value"),
        ("local?slots=1&slots=2", "twice"),
        ("local?slots=%4", "hexadecimal"),
        ("local?slots=0", "at least one"),
        ("local?slots=many", "whole number"),
        ("local?memory=3flurb", "not a size"),
        ("local?nonzero_exit=maybe", "failed, done"),
        ("local?slot=3", "did you mean 'slots'? It has: gpus, grace, idle, memory"),
        ("local?zzzz=3", "It has: gpus"),
        ("local?grace=%00", "control character"),
        ("ssh://host", "write it first, as in 'slurm+ssh://host'"),
        ("slurm://host", "slurm+ssh://host"),
        ("slurm+telnet://host", "no transport"),
        ("slurm+ssh", "'://'"),
        ("slurm+ssh://", "names no host"),
        ("slurm+ssh://me@", "names no host"),
        ("slurm+ssh://@host", "user is empty"),
        ("slurm+ssh://host:", "port"),
        ("slurm+ssh://host:0", "port"),
        ("slurm+ssh://host:65536", "port"),
        ("slurm+ssh://host:ssh", "port"),
        ("slurm+ssh://2001:db8::1", "brackets"),
        ("slurm+ssh://[2001:db8::zz]", "IPv6"),
        ("slurm+ssh://[2001:db8::1", "brackets"),
        ("slurm+ssh://[host]", "brackets"),
        ("slurm+ssh://-oProxyCommand=x", "begins with '-'"),
        ("slurm+ssh://%2DoProxyCommand", "begins with '-'"),
        ("slurm+ssh://-l@host", "begins with '-'"),
        ("slurm+ssh://a%20b@host", "blank"),
        ("slurm+ssh://host%0Aname", "control"),
        ("slurm+ssh://host%C2%A0name", "blank"),
        ("slurm+ssh://host%FF", "no text"),
        ("slurm+ssh://$(id)", "no host can"),
        ("slurm+ssh://a;b@host", "no user can"),
        ("me@host", "slurm+ssh://"),
        ("site:", "site's name"),
        ("site:../x", "cannot be"),
        ("standin?cell=\ud800%20", "no encoding"),
        ("standin?cell=\ud800", "no encoding"),
    ],
)
def test_what_is_no_contact_is_refused_with_what_is_wrong(text: str, says: str) -> None:
    with pytest.raises(InvalidContact, match=r"(?s).+") as refused:
        Contact.parse(text)
    assert says in str(refused.value)


@pytest.mark.parametrize(
    "parts",
    [
        {"scheduler": "slurm", "host": "-x"},
        {"scheduler": "slurm", "host": "a b"},
        {"scheduler": "slurm", "host": ""},
        {"scheduler": "slurm", "user": "me"},
        {"scheduler": "slurm", "port": 22},
        {"scheduler": "slurm", "host": "h", "user": "me\\"},
        {"scheduler": "slurm", "host": "h", "port": True},
        {"scheduler": "slurm", "site": "x"},
        {"scheduler": "slurm", "session": "a b"},
        {"scheduler": "elsewhere", "options": {"Bad Key": "1"}},
        {"scheduler": "local", "options": {"slots": 3}},
    ],
)
def test_parts_are_checked_like_text(parts: dict[str, object]) -> None:
    with pytest.raises(InvalidContact):
        Contact(**parts)  # type: ignore[arg-type]


def test_a_change_is_checked_too() -> None:
    with pytest.raises(InvalidContact):
        msgspec.structs.replace(Contact(scheduler="slurm", host="h"), host="-h")
    assert Contact.parse("local").with_session("a").session == "a"
    with pytest.raises(InvalidContact):
        Contact.parse("local").with_session("../a")


def test_only_text_is_a_contact() -> None:
    with pytest.raises(InvalidContact, match="text, not int"):
        Contact.parse(3)  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["", "slurm", "ssh://me@h", "slurm+ssh://me@h", "+ssh://me@h", "?poll=1s", "/s1"])
def test_the_scheduler_may_be_left_out_where_it_is_known(text: str) -> None:
    contact = Contact.parse(text, scheduler="slurm")
    assert contact.scheduler == "slurm"
    assert (contact.user == "me") == ("me@" in text)


@pytest.mark.parametrize("text", ["lsf", "lsf+ssh://h", "site:x"])
def test_another_scheduler_is_refused_where_one_is_known(text: str) -> None:
    with pytest.raises(InvalidContact, match="slurm"):
        Contact.parse(text, scheduler="slurm")


def test_options_come_in_their_own_types() -> None:
    contact = Contact.parse("local?slots=4&memory=1KiB&idle=2m&poll=500ms")
    assert (contact.option("slots"), contact.option("memory"), contact.option("idle"), contact.option("poll")) == (
        4,
        1024,
        120.0,
        0.5,
    )
    assert contact.option("grace") is None
    assert contact.option("grace", 5.0) == 5.0
    assert Contact.parse("local?slots=queue").option("slots") == "queue"


def test_an_adapter_registers_its_options() -> None:
    deferred = Contact.parse("elsewhere?ring=3")
    with pytest.raises(InvalidContact, match="ring"):
        deferred.option("ring")
    with pytest.raises(InvalidContact, match="no option 'ring'"):
        deferred.check_options()
    register_options("elsewhere-registered", {"ring": int})
    contact = Contact.parse("elsewhere-registered?ring=3")
    assert contact.option("ring") == 3
    assert "ring" in known_options("elsewhere-registered")
    with pytest.raises(InvalidContact, match="ring of elsewhere-registered"):
        Contact.parse("elsewhere-registered?ring=x")
    for name, options in (("Bad", {}), ("good", {"Bad": int})):
        with pytest.raises(InvalidContact):
            register_options(name, options)


def test_equal_contacts_hash_alike() -> None:
    first, second = Contact.parse("local?slots=1&gpus=2"), Contact.parse("local?gpus=2&slots=1")
    assert first == second
    assert hash(first) == hash(second)


_NAMES = st.from_regex(r"[a-z][a-z0-9_]{0,8}(-[a-z0-9_]{1,4})?", fullmatch=True)
_SESSIONS = st.none() | st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,20}", fullmatch=True)
_BYTES = st.binary(max_size=12).map(lambda raw: raw.decode("utf-8", "surrogateescape"))


@st.composite
def contacts(draw: st.DrawFn) -> Contact:
    parts: dict[str, object] = {"session": draw(_SESSIONS)}
    parts["options"] = draw(st.dictionaries(st.from_regex(r"[a-z][a-z0-9_.-]{0,8}", fullmatch=True), _BYTES, max_size=4))
    if draw(st.booleans()):
        parts["site"] = draw(st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,9}", fullmatch=True))
    else:
        parts["scheduler"] = draw(_NAMES)
        if draw(st.booleans()):
            parts["host"] = draw(st.text(min_size=1, max_size=12) | st.ip_addresses(v=6).map(str))
            parts["user"] = draw(st.none() | st.text(max_size=8))
            parts["port"] = draw(st.none() | st.integers(-1, 70000))
    try:
        return Contact(**parts)  # type: ignore[arg-type]
    except InvalidContact:
        return Contact(scheduler="local")


@given(contacts())
def test_every_contact_parses_as_it_prints(contact: Contact) -> None:
    text = str(contact)
    assert Contact.parse(text) == contact
    assert "," not in text
    assert text.isascii()


@given(st.text(max_size=40) | st.text(alphabet="slurm+sh:/@?=&%[]-2.5 ", max_size=30))
def test_any_text_is_a_contact_or_refused(text: str) -> None:
    try:
        contact = Contact.parse(text)
    except InvalidContact:
        return
    assert Contact.parse(str(contact)) == contact
    assert contact.host is None or not contact.host.startswith("-")
    assert contact.user is None or not contact.user.startswith("-")


def test_parsing_an_ordinary_contact_loads_no_heavy_module() -> None:
    code = (
        "import sys; from jobyard.contact import Contact; Contact.parse('slurm+ssh://me@h:1/s?poll=1s');"
        "print([m for m in ('dataclasses', 'platformdirs', 'difflib') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
