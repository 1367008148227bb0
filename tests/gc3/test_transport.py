"""gc3libs.backends.transport: the twelve cases of GC3Pie on both transports, and what else its users call."""

from __future__ import annotations

import getpass
import os
import shutil
import stat
from pathlib import Path
from typing import Any

import pytest

from gc3libs.backends.transport import SshTransport, Transport
from gc3libs.exceptions import InvalidValue, TransportError

ODD = "o'dd $name\n"


def test_remote_user(transport: Transport) -> None:
    assert transport.get_remote_username() == getpass.getuser()


def test_isdir(transport: Transport, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    found = [transport.isdir(str(tmp_path / name)) for name in ("", "file", "nothing", "file/below")]
    assert found == [True, False, False, False]
    assert transport.exists(str(tmp_path / "file"))
    assert not transport.exists(str(tmp_path / "nothing"))


def test_listdir(transport: Transport, tmp_path: Path) -> None:
    for name in ("b", "a", ODD):
        (tmp_path / name).touch()
    assert transport.listdir(str(tmp_path)) == ["a", "b", ODD]


def test_makedirs(transport: Transport, tmp_path: Path) -> None:
    for name in ("one", "two/deep", f"{ODD}/x", "one"):
        transport.makedirs(str(tmp_path / name))
        assert (tmp_path / name).is_dir()
    (tmp_path / "file").touch()
    with pytest.raises(TransportError):
        transport.makedirs(str(tmp_path / "file" / "below"))
    with pytest.raises(TransportError, match="absolute"):
        transport.makedirs("relative/path")


def test_open(transport: Transport, tmp_path: Path) -> None:
    path = str(tmp_path / ODD)
    with transport.open(path, "w") as file:
        file.write("one\n")
    assert (tmp_path / ODD).read_text() == "one\n"
    with transport.open(path, "ab") as file:
        file.write(b"\xff")
    with transport.open(path, "rb") as file:
        assert file.read() == b"one\n\xff"
    with transport.open(path) as file:
        assert file.read() == "one\n\udcff"
    with pytest.raises(InvalidValue, match="'r\\+'"):
        transport.open(path, "r+")


def test_open_what_is_not_there(transport: Transport, tmp_path: Path) -> None:
    with pytest.raises(TransportError) as caught:
        transport.open(str(tmp_path / "nothing"))
    assert caught.value.errno == 2


def test_open_what_cannot_be_read(transport: Transport, tmp_path: Path) -> None:
    with pytest.raises(TransportError):
        transport.open(str(tmp_path))  # a folder: even root cannot read one as a file
    if os.geteuid() != 0:
        (tmp_path / "secret").touch(0)
        with pytest.raises(TransportError) as caught:
            transport.open(str(tmp_path / "secret"))
        assert caught.value.errno == 13


def test_remove(transport: Transport, tmp_path: Path) -> None:
    (tmp_path / ODD).touch()
    transport.remove(str(tmp_path / ODD))
    assert not (tmp_path / ODD).exists()
    with pytest.raises(TransportError) as caught:
        transport.remove(str(tmp_path / ODD))
    assert caught.value.errno == 2


def test_remove_tree(transport: Transport, tmp_path: Path) -> None:
    (tmp_path / ODD / "deep").mkdir(parents=True)
    (tmp_path / "kept").touch()
    (tmp_path / ODD / "link").symlink_to(tmp_path)
    transport.remove_tree(str(tmp_path / ODD))
    assert os.listdir(tmp_path) == ["kept"]


def test_chmod(transport: Transport, tmp_path: Path) -> None:
    (tmp_path / ODD).touch()
    transport.chmod(str(tmp_path / ODD), 0o751)
    assert stat.S_IMODE(os.stat(tmp_path / ODD).st_mode) == 0o751
    assert transport.stat(str(tmp_path / ODD)).st_mode == stat.S_IFREG | 0o751
    with pytest.raises(TransportError):
        transport.chmod(str(tmp_path / "nothing"), 0o600)


def test_put_and_get(transport: Transport, tmp_path: Path) -> None:
    mine, there, back = (tmp_path / name for name in ("mine", "there", "back"))
    content = os.urandom(300_000)
    mine.write_bytes(content)
    mine.chmod(0o740)
    transport.put(str(mine), str(there))
    transport.get(str(there), str(back))
    assert back.read_bytes() == content
    assert stat.S_IMODE(os.stat(back).st_mode) == 0o740
    with pytest.raises(TransportError, match="not there"):
        transport.put(str(tmp_path / "nothing"), str(there))
    with pytest.raises(TransportError, match="not there"):
        transport.get(str(tmp_path / "nothing"), str(back))
    transport.put(str(tmp_path / "nothing"), str(there), ignore_nonexisting=True)
    transport.get(str(tmp_path / "nothing"), str(back), ignore_nonexisting=True)


@pytest.mark.parametrize("way", ["put", "get"])
def test_which_files_are_overwritten(transport: Transport, tmp_path: Path, way: str) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    copy: Any = getattr(transport, way)

    def copied(content: bytes, at: float, **options: bool) -> bool:
        source.write_bytes(content)
        os.utime(source, (at, at))
        before = os.stat(target).st_ino if target.exists() else 0
        copy(str(source), str(target), **options)
        return os.stat(target).st_ino != before

    assert copied(b"one", 1e9)
    os.utime(target, (2e9, 2e9))
    assert not copied(b"two!", 3e9)
    assert not copied(b"two", 1e9, overwrite=True)
    assert copied(b"two!", 1e9, overwrite=True)
    assert copied(b"xxx!", 3e9, overwrite=True)
    assert os.stat(target).st_mtime == 3e9  # whatever the host's clock says: what changes next is newer than the copy
    assert not copied(b"zzz!", 3e9, overwrite=True)
    assert copied(b"yyy!", 1e9, overwrite=True, changed_only=False)
    assert target.read_bytes() == b"yyy!"


def test_folders_go_and_come(transport: Transport, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "a" / ODD).mkdir(parents=True)
    (tree / "a" / ODD / "x").write_text("x")
    (tree / "empty").mkdir()
    transport.put(str(tree), str(tmp_path / "there"))
    transport.get(str(tmp_path / "there"), str(tmp_path / "back"))
    assert (tmp_path / "back" / "a" / ODD / "x").read_text() == "x"
    assert (tmp_path / "back" / "empty").is_dir()


@pytest.mark.parametrize("way", ["put", "get"])
def test_links_are_followed_but_not_in_a_circle(transport: Transport, tmp_path: Path, way: str) -> None:
    """Two of them would make more copies than any disk holds."""
    (tmp_path / "tree" / "a").mkdir(parents=True)
    (tmp_path / "tree" / "a" / "file").write_text("x")
    (tmp_path / "tree" / "same").symlink_to("a")
    getattr(transport, way)(str(tmp_path / "tree"), str(tmp_path / "there"))
    assert (tmp_path / "there" / "same" / "file").read_text() == "x"
    assert not (tmp_path / "there" / "same").is_symlink()
    (tmp_path / "tree" / "a" / "up").symlink_to("..")
    (tmp_path / "tree" / "a" / "self").symlink_to(".")
    with pytest.raises(TransportError, match="a link to a folder that it lies in"):
        getattr(transport, way)(str(tmp_path / "tree"), str(tmp_path / "other"))
    shutil.rmtree(tmp_path / "tree")
    for name, other in (("one", "two"), ("two", "one")):
        (tmp_path / "tree" / name).mkdir(parents=True)
        (tmp_path / "tree" / name / "link").symlink_to(f"../{other}")
    with pytest.raises(TransportError, match="a link to a folder that it lies in"):
        getattr(transport, way)(str(tmp_path / "tree"), str(tmp_path / "other"))


@pytest.mark.parametrize("way", ["put", "get"])
def test_what_goes_wrong_here_is_told_alike(transport: Transport, tmp_path: Path, way: str) -> None:
    (tmp_path / "tree" / "a").mkdir(parents=True)
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "a").touch()
    with pytest.raises(TransportError):
        getattr(transport, way)(str(tmp_path / "tree"), str(tmp_path / "there"))
    with pytest.raises(TransportError):
        getattr(transport, way)(str(tmp_path / "there" / "a" / "below"), str(tmp_path / "other"))
    (tmp_path / "tree" / "dangling").symlink_to("nothing")
    (tmp_path / "tree" / "file").touch()
    with pytest.raises(TransportError) as caught:
        getattr(transport, way)(str(tmp_path / "tree"), str(tmp_path / "new"))
    assert caught.value.errno == 2
    getattr(transport, way)(str(tmp_path / "tree"), str(tmp_path / "newer"), ignore_nonexisting=True)
    assert sorted(os.listdir(tmp_path / "newer")) == ["a", "file"]


def test_commands(transport: Transport, tmp_path: Path) -> None:
    assert transport.execute_command("echo out; echo err >&2; exit 3") == (3, "out\n", "err\n")
    assert transport.execute_command("printf '%s|' \"$0\" 'a  b'")[1].endswith("a  b|")
    code, out, err = transport.execute_command("head -c 6000000 /dev/zero >&2; head -c 6000000 /dev/zero")
    assert (code, len(out), len(err)) == (0, 6_000_000, 6_000_000)
    with pytest.raises(TransportError, match="did not end"):
        transport.execute_command("sleep 99", timeout=0.5)
    assert transport.execute_command("echo still here")[1] == "still here\n"


def test_a_detached_command_goes_on(transport: Transport, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "gate")
    assert transport.execute_command(f"cat '{tmp_path}/gate'; touch '{tmp_path}/done'; : > '{tmp_path}/gate'", detach=True)[0] == 0
    (tmp_path / "gate").write_text("")
    (tmp_path / "gate").read_text()  # opened by it once it is done
    assert (tmp_path / "done").exists()


def test_closed_and_used_again(transport: Transport) -> None:
    transport.connect()
    transport.close()
    transport.close()
    assert transport.execute_command("echo again")[1] == "again\n"


# SSH alone --------------------------------------------------------------------------------------------------------------------


def test_a_host_that_does_not_answer(sshd: Any, tmp_path: Path) -> None:
    (tmp_path / "config").write_text("Host gone\n HostName 127.0.0.1\n Port 1\n")
    with SshTransport("gone", ssh_config=str(tmp_path / "config"), timeout=5) as transport, pytest.raises(TransportError) as caught:
        transport.connect()
    assert caught.value.transient
    assert "gone" in str(caught.value)


def test_an_unknown_host_key_is_refused_and_ignoring_it_warns(sshd: Any, tmp_path: Path) -> None:
    text = sshd.config.read_text()
    (tmp_path / "config").write_text(f"Host bed\n UserKnownHostsFile {tmp_path}/none\n GlobalKnownHostsFile /dev/null\n\n{text}")
    with SshTransport("bed", ssh_config=str(tmp_path / "config")) as transport, pytest.raises(TransportError, match=r"[Hh]ost key"):
        transport.connect()
    with SshTransport("bed", ssh_config=str(tmp_path / "config"), ignore_ssh_host_keys=True) as careless:
        with pytest.warns(UserWarning, match="ignore_ssh_host_keys"):
            careless.connect()
        assert careless.execute_command("echo in")[1] == "in\n"


def test_what_it_logs_in_with_is_asked_late() -> None:
    asked: list[int] = []

    class Auth:
        username = "me"
        port = "2222"

    def auth() -> Auth:
        asked.append(1)
        return Auth()

    transport = SshTransport("host", login=auth)
    assert asked == []
    assert transport.login == ("host", "me", 2222)
    transport.set_connection_params("other", username="you", port=1, keyfile="k", ssh_config="c", timeout=1)
    assert transport.login == ("other", "you", 1)
    with pytest.raises(InvalidValue, match="'colour'"):
        transport.set_connection_params("other", colour="red")
