"""config.toml: what it may say, where each fault stands, and which contact follows from it."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobyard import config as config_module
from jobyard.config import Config, config_path, load, parse, resolve, state_dir, work_root
from jobyard.contact import Contact
from jobyard.errors import ConfigurationError, InvalidContact

FULL = """\
# everything that can be said
[defaults]
contact = "site:cluster"
retention = "30d"
nonzero_exit = "done"
poll = 10

[local]
slots = 4
memory = "8GiB"
gpus = "0+1"
grace = "5s"
idle = "10m"

[sites.cluster]
contact = "slurm+ssh://me@login.example.org?poll=20s"
queue = "long"
account = "p123"
options = { usage = "accounting" }

[sites."other.place"]
contact = "lsf"
"""


def test_every_key_is_read() -> None:
    config = parse(FULL)
    assert config.contact == Contact(site="cluster")
    assert config.defaults == {"retention": "30d", "nonzero_exit": "done", "poll": "10"}
    assert config.local == {"slots": "4", "memory": "8GiB", "gpus": "0+1", "grace": "5s", "idle": "10m"}
    assert config.sites["cluster"].contact.host == "login.example.org"
    assert config.sites["cluster"].options == {"queue": "long", "account": "p123", "usage": "accounting"}
    assert config.sites["other.place"].contact.scheduler == "lsf"


@pytest.mark.parametrize(
    ("text", "place", "says"),
    [
        ("[default]\n", "line 1, column 2", "the file has no 'default'; did you mean 'defaults'?"),
        ("x = 1\n", "line 1, column 1", "It has: defaults, local, sites"),
        ("defaults = 3\n", "line 1, column 1", "is a table"),
        ("\n[local]\n\n  slot = 3\n", "line 4, column 3", "[local] has no 'slot'; did you mean 'slots'? It has: gpus, grace"),
        ("[local]\nslots = 0\n", "line 2, column 1", "slots: there must be at least one slot"),
        ("[local]\nslots = true\n", "line 2, column 1", "slots: expected"),
        ("[local]\nmemory = '3 flurb'\n", "line 2, column 1", "memory: '3 flurb' is not a size"),
        ('[local]\n"slots" = [1]\n', "line 2, column 1", "slots: expected"),
        ("[local]\nqueue = 'x'\n", "line 2, column 1", "has no 'queue'"),
        ("local.slots = 'a'\n", "line 1, column 1", "slots: 'a' is not a whole number"),
        ("local = { grace = '1s', slots = 'a' }\n", "line 1, column 25", "slots: 'a'"),
        ("[defaults]\npoll = '''\n[local]\nslots = 1'''\n", "line 2, column 1", "poll: "),
        ("[defaults]\nqueue = 'x'\n", "line 2, column 1", "[defaults] has no 'queue'"),
        ("[defaults]\ncontact = 3\n", "line 2, column 1", "contact: expected"),
        ("[defaults]\ncontact = 'a b'\n", "line 2, column 1", "blank"),
        ("[defaults]\ncontact = 'site:x'\n", "line 2, column 1", "there is no site 'x'"),
        ("[sites.x]\nqueue = 'long'\n", "line 1, column 2", "the site has no contact"),
        ("[sites.x]\ncontact = 'slurm'\nqeue = 'long'\n", "line 3, column 1", "did you mean 'queue'?"),
        ("[sites.x]\ncontact = 'slurm'\nqueue = 3.5e1\naccount = \"\"\n", "line 4, column 1", "account: it is empty"),
        ("[sites.x]\ncontact = 'slurm+ssh://-oProxyCommand=id'\n", "line 2, column 1", "begins with '-'"),
        ("[sites.x]\ncontact = 'site:y'\n", "line 2, column 1", "not another site"),
        ("[sites.'a b']\ncontact = 'slurm'\n", "line 1, column 2", "cannot be a site's name"),
        ("[sites]\nx = 3\n", "line 2, column 1", "sites.x is a table"),
        ("[sites.x]\ncontact = 'slurm'\n[sites.x.options]\npoll = 'soon'\n", "line 4, column 1", "poll: 'soon' is not a duration"),
        ("[sites.x]\ncontact = 'slurm'\noptions = {poll = 1, 'B' = 2}\n", "line 3, column 22", "cannot be the name of an option"),
        ("[sites.x]\ncontact = 'slurm'\noptions = {cell = \"a\\nb\"}\n", "line 3, column 12", "control character"),
        ("[sites.x]\ncontact = 'local'\noptions = {cell = 1}\n", "line 3, column 12", "has no 'cell'"),
        ("[local]\nslots = \n", "line 2, column 9", "invalid value"),
        ("[local\n", "line 1, column 7", "expected ']'"),
        ("[local]\nslots = 1\nslots = 2\n", "line 3, column 10", "overwrite"),
        ("a = '''", "at its end", "expected"),
    ],
)
def test_a_fault_is_told_with_its_place(text: str, place: str, says: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        parse(text, Path("/etc/jobyard.toml"))
    assert str(refused.value).startswith(f"/etc/jobyard.toml, {place}: "), refused.value
    assert says in str(refused.value)


def test_the_path_is_part_of_the_error(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text("[local]\nslots = 'x'\n", encoding="utf-8")
    with pytest.raises(ConfigurationError, match=r"config\.toml, line 2, column 1: slots"):
        load(path)
    path.write_bytes(b"[local]\nslots = '\xff'\n")
    with pytest.raises(ConfigurationError, match="line 2, column 10: is not UTF-8"):
        load(path)
    path.write_bytes(b"#" * (1 << 21))
    with pytest.raises(ConfigurationError, match="larger than 1 MiB"):
        load(path)
    path.unlink()
    assert load(path) == Config()
    path.mkdir()
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load(path)


_KEYS = st.from_regex(r"[A-Za-z0-9_-]{1,4}", fullmatch=True)
_VALUES = st.recursive(
    st.integers(0, 99).map(str) | st.sampled_from(["true", "'a#]}'", '"x\\"]"', "'''a\n[b]\nc = 1'''", '"""\\"x\n"""', "1.5"]),
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda items: "[" + ",\n # ]\n".join(items) + "\n]")
        | st.dictionaries(_KEYS, inner, max_size=3).map(lambda d: "{" + ", ".join(f"'{k}' = {v}" for k, v in d.items()) + "}")
    ),
    max_leaves=5,
)


@given(st.dictionaries(_KEYS, st.dictionaries(_KEYS, _VALUES, min_size=1, max_size=4), max_size=4))
def test_every_key_of_a_file_is_found_where_it_stands(tables: dict[str, dict[str, str]]) -> None:
    lines: list[str] = []
    places: dict[tuple[str, ...], int] = {}
    for name, table in tables.items():
        lines.append(f'[ "{name}" ] # [not] = this')
        for key, value in table.items():
            places[name, key] = len("\n".join(lines).split("\n")) + 1
            lines.append(f" {key} = {value} # x = 1")
    text = "\n".join(lines) + "\n"
    try:
        tomllib.loads(text)
    except tomllib.TOMLDecodeError:  # a line break within an inline table, which older versions of TOML refuse
        return
    for path, line in places.items():
        assert config_module._place(text, path) == (line, 2)


# Which contact --------------------------------------------------------------------------------------------------------


@pytest.fixture
def nothing_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("JOBYARD_CONTACT", raising=False)
    monkeypatch.setenv("JOBYARD_CONFIG", str(tmp_path / "none.toml"))
    monkeypatch.setenv("PATH", str(tmp_path))


@pytest.mark.usefixtures("nothing_said")
def test_without_a_contact_the_order_is_environment_configuration_found_local(monkeypatch: pytest.MonkeyPatch) -> None:
    assert str(resolve()) == "local"
    monkeypatch.setattr("jobyard.schedulers.found", lambda: ["slurm"])
    assert str(resolve()) == "slurm"
    monkeypatch.setattr("jobyard.schedulers.found", lambda: ["lsf", "slurm"])
    with pytest.raises(InvalidContact, match="several schedulers are here: lsf, slurm; choose one"):
        resolve()
    assert str(resolve(config=parse('[defaults]\ncontact = "local"\n'))) == "local"
    monkeypatch.setenv("JOBYARD_CONTACT", "standin?cell=a")
    assert str(resolve(config=parse('[defaults]\ncontact = "local"\n'))) == "standin?cell=a"
    monkeypatch.setenv("JOBYARD_CONTACT", "a b")
    with pytest.raises(InvalidContact, match="JOBYARD_CONTACT: 'a b'"):
        resolve()


def test_an_option_of_the_contact_beats_the_site_beats_the_defaults() -> None:
    config = parse(FULL)
    contact = resolve("site:cluster", config)
    assert (contact.scheduler, contact.host, contact.site) == ("slurm", "login.example.org", None)
    assert contact.options == {
        "retention": "30d",
        "nonzero_exit": "done",
        "poll": "20s",
        "queue": "long",
        "account": "p123",
        "usage": "accounting",
    }
    chosen = resolve("site:cluster/s1?poll=30s&queue=short", config)
    assert (chosen.session, chosen.options["poll"], chosen.options["queue"]) == ("s1", "30s", "short")
    assert resolve("local?slots=2", config).options["slots"] == "2"
    assert resolve("local", config).options["slots"] == "4"
    assert "slots" not in resolve("slurm", config).options
    assert resolve(Contact.parse("slurm"), config).options["poll"] == "10"


def test_a_site_that_is_not_configured_is_refused_with_those_that_are() -> None:
    with pytest.raises(InvalidContact, match=r"no site 'clutser'; did you mean 'cluster'\? Configured are: cluster, other.place"):
        resolve("site:clutser", parse(FULL))
    with pytest.raises(InvalidContact, match=r"Add \[sites.x\]"):
        resolve("site:x", Config())


def test_a_site_s_options_are_checked_by_its_scheduler() -> None:
    with pytest.raises(InvalidContact, match="cell"):
        resolve("site:here?cell=1", parse("[sites.here]\ncontact = 'local'\n"))


def test_queue_and_account_of_the_site_are_those_of_jobs_that_say_none(yard: Path) -> None:
    from jobyard import Session
    from jobyard.testing.standin import install

    cell = install(yard / "cell")
    (yard / "config.toml").write_text(
        f"[sites.here]\ncontact = '{cell.contact}'\nqueue = 'long'\naccount = 'p1'\n", encoding="utf-8"
    )
    with Session("site:here") as session:
        own = session._described(["true"], {"queue": "short"})
        usual = session._described(["true"], {})
        again = session._described(own, {})
    assert [(job.queue, job.account) for job in (own, usual, again)] == [("short", "p1"), ("long", "p1"), ("short", "p1")]
    cell.stop()


def test_an_adapter_from_elsewhere_has_options_once_it_is_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from jobyard import schedulers
    from jobyard.schedulers import Known, open_scheduler

    (tmp_path / "ring_adapter.py").write_text(
        "from jobyard.contact import register_options\n"
        "register_options('ringed', {'ring': int})\n"
        "def make(state_dir, options): return dict(options)\n",
        encoding="utf-8",
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(schedulers, "find_known", lambda name: Known(name=name, title="", target="ring_adapter:make"))
    assert open_scheduler(Contact.parse("ringed?ring=3")) == {"ring": "3"}  # type: ignore[comparison-overlap]
    with pytest.raises(InvalidContact, match="ringed has no option 'wing'; did you mean 'ring'"):
        open_scheduler(Contact.parse("ringed?wing=3"))


# Folders --------------------------------------------------------------------------------------------------------------


def test_folders_follow_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("JOBYARD_STATE_DIR", str(tmp_path / "a" / ".." / "state"))
    monkeypatch.delenv("JOBYARD_WORK_DIR", raising=False)
    assert state_dir() == tmp_path / "state"
    assert work_root() == tmp_path / "state" / "work" / f"jobyard-{os.getuid()}"
    monkeypatch.setenv("JOBYARD_WORK_DIR", str(tmp_path / "work"))
    assert work_root() == tmp_path / "work" / f"jobyard-{os.getuid()}"
    monkeypatch.setenv("JOBYARD_CONFIG", str(tmp_path / "c.toml"))
    assert config_path() == tmp_path / "c.toml"
    assert not list(tmp_path.iterdir())


def test_folders_have_the_platform_s_defaults(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("JOBYARD_STATE_DIR", "JOBYARD_WORK_DIR", "JOBYARD_CONFIG", "XDG_STATE_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert state_dir().is_relative_to(tmp_path)
    assert config_path().is_relative_to(tmp_path)
    assert config_path().name == "config.toml"


@pytest.mark.parametrize("variable", ["JOBYARD_STATE_DIR", "JOBYARD_WORK_DIR", "JOBYARD_CONFIG"])
def test_a_relative_folder_is_refused(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, "here")
    ask = {"JOBYARD_STATE_DIR": state_dir, "JOBYARD_WORK_DIR": work_root, "JOBYARD_CONFIG": config_path}[variable]
    with pytest.raises(ConfigurationError, match=f"{variable} is 'here'; write an absolute path"):
        ask()


def test_importing_reads_nothing_and_loads_no_heavy_module(tmp_path: Path) -> None:
    code = (
        "import sys, jobyard.config as c; c.state_dir(); c.resolve('local');"
        "print([m for m in ('platformdirs', 'tomllib', 'difflib') if m in sys.modules])"
    )
    environment = {"JOBYARD_STATE_DIR": str(tmp_path), "JOBYARD_CONFIG": str(tmp_path / "none"), "PATH": "/nonexistent"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == "[]"
