"""gc3pie.conf: backends for the GC3 front, and sites for every front."""

from __future__ import annotations

import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest

import jobyard
from gc3.standin_backend import StandinSystem
from gc3libs.backends.sge import SgeLrms
from gc3libs.backends.slurm import SlurmLrms
from gc3libs.config import Configuration
from gc3libs.exceptions import ConfigurationError
from gc3libs.quantity import GB, hours
from jobyard import Contact
from jobyard.config import resolve

TEXT = """\
[DEFAULT]
cores = 16

[auth/cluster]
type = ssh
username = me
port = 2222
keyfile = ~/.ssh/a key
timeout = 7

[resource/big]
type = slurm
auth = cluster
transport = ssh
frontend = login.example.org
architecture = x86_64
max_cores = %(cores)s
max_cores_per_job = %(cores)s
max_memory_per_core = 4 GB
max_walltime = 8 hours
spooldir = /scratch/me
ignore_ssh_host_keys = no
queue = long
mine_prologue = /etc/hostname
sbatch = /opt/slurm/bin/sbatch -A project

[resource/here]
type = sge
transport = local
frontend = localhost
auth = none
architecture = x86_64, i686
max_cores = 4
max_cores_per_job = 2
max_memory_per_core = 2 GiB
max_walltime = 1 day
default_pe = smp

[resource/cloud]
type = ec2+shellcmd
"""


@pytest.fixture
def conf(yard: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration where programs look for it."""
    path = yard / "gc3pie.conf"
    path.write_text(TEXT)
    monkeypatch.setenv("GC3PIE_CONF", str(path))
    monkeypatch.setenv("HOME", str(yard))
    monkeypatch.delenv("VIRTUAL_ENV", raising=False)
    return path


def test_backends(conf: Path, caplog: pytest.LogCaptureFixture) -> None:
    made = Configuration().make_resources()
    assert {name: type(one) for name, one in made.items()} == {"big": SlurmLrms, "here": SgeLrms}
    assert "[resource/cloud] lacks" in caplog.text
    big = made["big"]
    assert (big.name, big.max_cores, big.max_memory_per_core, big.max_walltime) == ("big", 16, 4 * GB, 8 * hours)
    assert (big.frontend, big.spooldir, big.queue, big.ignore_ssh_host_keys) == ("login.example.org", "/scratch/me", "long", False)
    assert big.transport.login == ("login.example.org", "me", 2222)
    assert (big._native, big._path) == (("-A", "project"), "/opt/slurm/bin")
    assert made["here"].architecture == {"x86_64", "i686"}


def test_later_files_go_first(conf: Path, yard: Path) -> None:
    (yard / "more.conf").write_text("[resource/big]\nmax_cores = 2\n[resource/here]\nenabled = no\n")
    made = Configuration(conf, yard / "more.conf").make_resources()
    assert set(made) == {"big"}
    assert (made["big"].max_cores, made["big"].max_cores_per_job) == (2, 16)


def test_other_types(conf: Path) -> None:
    conf.write_text(TEXT.replace("type = slurm", "type = own"))
    made = Configuration(types={"own": StandinSystem}).make_resource("big")
    assert isinstance(made, StandinSystem)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("max_cores = 4\n", "", "lacks max_cores"),
        ("max_cores = 4\n", "max_cores = many\n", "max_cores is a whole number"),
        ("2 GiB", "2", "write a number and a unit"),
        ("1 day", "10:00", "HH:MM:SS"),
        ("type = sge", "type = lfs", "'lfs' is none of"),
        ("transport = local", "transport = rsh", "'local' or 'ssh'"),
        ("auth = none", "auth = nobody", r"no \[auth/nobody\]"),
        ("default_pe = smp", "ignore_ssh_host_keys = nope", "is yes or no"),
    ],
)
def test_what_makes_no_sense_names_the_section(conf: Path, old: str, new: str, said: str) -> None:
    conf.write_text(TEXT.replace(old, new))
    with pytest.raises(ConfigurationError, match=said):
        Configuration().make_resource("here")
    with pytest.raises(ConfigurationError):
        Configuration().make_resources(ignore_errors=False)


def test_damaged_files(conf: Path, yard: Path) -> None:
    for text in ("[resource/x\n", "no section = 1\n", "[resource/x]\na = 1\na = 2\n", "[resource/x]\na = %(nothing)s\n"):
        conf.write_text(text)
        with pytest.raises(ConfigurationError, match=r"gc3pie\.conf"):
            Configuration()
    conf.write_bytes(b"[resource/x]\na = \xff\n")
    with pytest.raises(ConfigurationError, match="UTF-8"):
        Configuration()
    with pytest.raises(ConfigurationError, match="no such file"):
        Configuration(yard / "nothing")


# Sites ------------------------------------------------------------------------------------------------------------------------


def test_sites_for_every_front(conf: Path, yard: Path) -> None:
    found = resolve("site:big")
    assert (found.scheduler, found.host, found.user, found.port) == ("slurm", "login.example.org", "me", 2222)
    assert found.options == {
        "queue": "long",
        "keyfile": f"{yard}/.ssh/a key",
        "connect_timeout": "7s",
        "ignore_ssh_host_keys": "no",
        "work_dir": "/scratch/me",
    }
    assert resolve("site:here") == Contact(scheduler="gridengine")
    assert resolve("site:big/s1?queue=short").options["queue"] == "short"


@pytest.mark.parametrize("spool", ["$HOME/.gc3pie_jobs", "${HOME}/.gc3pie_jobs", "~/.gc3pie_jobs"])
def test_a_spool_folder_at_home_is_at_home_there(conf: Path, spool: str) -> None:
    conf.write_text(TEXT.replace("/scratch/me", spool))
    assert resolve("site:big").options["work_dir"] == "~/.gc3pie_jobs"


def test_config_toml_goes_first(conf: Path, yard: Path) -> None:
    (yard / "config.toml").write_text('[defaults]\ncontact = "site:here"\n\n[sites.big]\ncontact = "local"\n')
    assert resolve("site:big").scheduler == "local"
    assert resolve(None).scheduler == "gridengine"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("type = slurm", "type = ec2", "no batch system"),
        ("frontend = login.example.org\n", "", "frontend is missing"),
        ("port = 2222", "port = many", "many"),
        ("spooldir = /scratch/me", "spooldir = $SCRATCH/x", "absolute"),
        ("ignore_ssh_host_keys = no", "ignore_ssh_host_keys = nope", "neither yes nor no"),
        ("auth = cluster", "auth = other", r"no \[auth/other\]"),
        ("type = ssh", "type = openstack", "neither ssh nor none"),
    ],
)
def test_sites_that_make_no_sense(conf: Path, old: str, new: str, said: str) -> None:
    conf.write_text(TEXT.replace(old, new))
    with pytest.raises(jobyard.ConfigurationError, match=said):
        resolve("site:big")


def test_unknown_sites_are_as_before(conf: Path) -> None:
    with pytest.raises(jobyard.InvalidContact, match="no site 'other'"):
        resolve("site:other")


def test_a_key_file_is_the_only_one_that_is_tried(sshd: Any, tmp_path: Path) -> None:
    """Its name is no word of ssh's configuration language, whatever it holds."""
    from gc3libs.backends.transport import SshTransport
    from gc3libs.exceptions import TransportError

    key = sshd.folder / "key"
    odd = tmp_path / 'a %d "key\\'
    odd.write_bytes(key.read_bytes())
    odd.chmod(stat.S_IRUSR)
    config = tmp_path / "config"
    config.write_text("\n".join(line for line in sshd.config.read_text().splitlines() if "IdentityFile" not in line) + "\n")
    with SshTransport("bed", ssh_config=str(config), keyfile=str(odd)) as transport:
        assert transport.execute_command("echo in")[1] == "in\n"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "wrong")], check=True)
    with SshTransport("bed", ssh_config=str(config), keyfile=str(tmp_path / "wrong")) as wrong, pytest.raises(TransportError):
        wrong.connect()
