"""How logins go wrong, and what they may ask for: ssh's own words as errors, host keys, second factors, shells that misbehave."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobyard.errors import TransportError
from jobyard.transports import openssh_errors as errors
from jobyard.transports.base import Command
from jobyard.transports.openssh import OpenSSHTransport, Settings
from jobyard.transports.openssh_start import ssh_command
from transports.sshd import Sshd, running_sshd

CHANGED = """\
@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@
@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @
@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@
The fingerprint for the ED25519 key sent by the remote host is
SHA256:abc/def+123.
Offending ED25519 key in /home/me/.ssh/known_hosts:7
  remove with:
  ssh-keygen -f "/home/me/.ssh/known_hosts" -R "login"
Host key verification failed.
"""


@pytest.mark.parametrize(
    ("said", "code", "kind", "words"),
    [
        (CHANGED, 255, errors.HostKeyChanged, ["SHA256:abc/def+123", "known_hosts:7", 'ssh-keygen -f "/home/me'],),
        ("No ED25519 host key is known for login and you have asked for checks.", 255, errors.HostKeyUnknown, ["ssh me@h"]),
        ("Host key verification failed.", 255, errors.HostKeyUnknown, ["fingerprint"]),
        ("me@h: Permission denied (publickey).", 255, errors.AuthenticationFailed, ["publickey", "ssh-add -l"]),
        ("me@h: Permission denied (keyboard-interactive).", 255, errors.SecondFactorNeeded, ["SSH_ASKPASS", "terminal", "share="]),
        ("me@h: Permission denied (publickey,password).", 255, errors.SecondFactorNeeded, ["password"]),
        ("ssh: Could not resolve hostname h: Name or service not known", 255, errors.HostUnreachable, ["Could not resolve"]),
        ("ssh: connect to host h port 22: Connection refused", 255, errors.HostUnreachable, ["refused"]),
        ("Connection timed out during banner exchange", 255, errors.HostUnreachable, ["banner exchange"]),
        ("open failed: connect failed\nConnection closed by UNKNOWN port 65535", 255, errors.HostUnreachable, ["jump host"]),
        ("/home/me/.ssh/config: line 3: Bad configuration option: foo", 255, errors.SSHConfigError, ["line 3"]),
        ("unix_listener: cannot bind to path /x: No such file or directory", 255, errors.SSHConfigError, ["/x"]),
        ("NOPYTHON", 127, errors.NoRemotePython, ["python=/path"]),
        ("sh: /bin/sh: command not found", 127, errors.NoRemotePython, ["python=/path"]),
        ("", 1, errors.LoginShellFailed, ["ended with 1", "start-up files"]),
        ("", 255, errors.HostUnreachable, ["LogLevel"]),
    ],
)  # fmt: skip
def test_ssh_s_words_become_errors(said: str, code: int, kind: type[TransportError], words: list[str]) -> None:
    error = errors.explain("ssh://me@h", said, returncode=code)
    assert type(error) is kind, error
    for word in words:
        assert word in str(error)
    assert error.retryable is issubclass(kind, errors.HostUnreachable)
    assert str(error).isprintable()


def test_hostile_words_of_a_host_are_escaped() -> None:
    error = errors.explain("ssh://h", "\x1b[31mred\x07", returncode=3, noise=b"\x1b]0;title\x07\xff")
    assert str(error).isprintable()
    assert "\x1b" not in str(error)


def test_the_command_line_leaves_the_users_settings_alone() -> None:
    words = ssh_command(Settings(host="login", user="me", port=2222), "REMOTE", ask=False)
    assert words[-3:] == ["--", "login", "REMOTE"]
    assert words[words.index("-p") + 1] == "2222"
    assert words[words.index("-l") + 1] == "me"
    options = [words[n + 1] for n, word in enumerate(words) if word == "-o"]
    assert "BatchMode=yes" in options
    assert "ControlMaster=no" in options
    for left_alone in ("StrictHostKeyChecking", "Compression", "Ciphers", "LogLevel", "ProxyJump", "IdentityFile"):
        assert not any(option.startswith(left_alone) for option in options)


def config_with(sshd: Sshd, path: Path, *lines: str, drop: str = "\0") -> str:
    """The bed's settings with other lines before them."""
    rest = [line for line in sshd.config.read_text().splitlines()[1:] if drop not in line]
    path.write_text("\n".join(["Host *", *lines, *rest, ""]))
    return str(path)


def refused(settings: Settings) -> TransportError:
    transport = OpenSSHTransport(settings)
    try:
        with pytest.raises(TransportError) as caught:
            transport.stat("/")
    finally:
        transport.close()
    return caught.value


def test_a_wrong_host_key_is_refused(sshd: Sshd, tmp_path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "other")], check=True)
    key = " ".join((tmp_path / "other.pub").read_text().split()[:2])
    (tmp_path / "known").write_text(f"[127.0.0.1]:{sshd.port} {key}\n")
    config = config_with(sshd, tmp_path / "config", f"UserKnownHostsFile {tmp_path / 'known'}")
    error = refused(Settings(host="bed", config=config, connect_s=60.0))
    assert isinstance(error, errors.HostKeyChanged)
    assert f"{tmp_path / 'known'}:1" in str(error)
    assert "SHA256:" in str(error)
    assert "ssh-keygen -f" in str(error)


def test_an_unknown_host_key_is_refused_and_may_be_ignored(sshd: Sshd, tmp_path: Path) -> None:
    config = config_with(sshd, tmp_path / "config", "UserKnownHostsFile /dev/null")
    assert isinstance(refused(Settings(host="bed", config=config, connect_s=60.0)), errors.HostKeyUnknown)
    trusting = OpenSSHTransport(Settings(host="bed", config=config, ignore_host_keys=True, connect_s=60.0))
    try:
        with pytest.warns(UserWarning, match="ignore_ssh_host_keys"):
            assert trusting.stat("/").size_bytes > 0
    finally:
        trusting.close()


def test_a_key_that_is_not_known_there(sshd: Sshd, tmp_path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "other")], check=True)
    config = config_with(sshd, tmp_path / "config", f"IdentityFile {tmp_path / 'other'}", drop="IdentityFile")
    error = refused(Settings(host="bed", config=config, connect_s=60.0))
    assert type(error) is errors.AuthenticationFailed
    assert "publickey" in str(error)


def test_settings_that_ssh_refuses(sshd: Sshd, tmp_path: Path) -> None:
    config = config_with(sshd, tmp_path / "config", "NoSuchOption yes")
    error = refused(Settings(host="bed", config=config, connect_s=60.0))
    assert isinstance(error, errors.SSHConfigError)
    assert str(tmp_path / "config") in str(error)


def test_a_server_that_never_speaks(sshd: Sshd, tmp_path: Path) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent:
        config = config_with(sshd, tmp_path / "config", f"Port {silent.getsockname()[1]}")
        began = time.monotonic()
        error = refused(Settings(host="bed", config=config, connect_s=1.0))
        assert isinstance(error, errors.HostUnreachable)
        assert time.monotonic() - began < 60


def test_there_is_no_python(sshd: Sshd) -> None:
    error = refused(sshd.settings(python="/no/such/python"))
    assert isinstance(error, errors.NoRemotePython)
    assert "python=" in str(error)


def test_through_a_jump_host(sshd: Sshd, tmp_path: Path) -> None:
    """ProxyJump of the user's own settings; the second server is reached through the first alone."""
    with running_sshd() as beyond:
        config = tmp_path / "config"
        config.write_text(
            f"Host jump\n    Port {sshd.port}\n    UserKnownHostsFile {sshd.folder / 'known_hosts'}\n"
            f"    IdentityFile {sshd.folder / 'key'}\n"
            f"Host bed\n    Port {beyond.port}\n    UserKnownHostsFile {beyond.folder / 'known_hosts'}\n"
            f"    IdentityFile {beyond.folder / 'key'}\n    ProxyJump jump\n"
            "Host *\n    HostName 127.0.0.1\n    IdentitiesOnly yes\n    GlobalKnownHostsFile /dev/null\n"
            "    StrictHostKeyChecking yes\n"
        )
        before = sshd.log.count("Accepted publickey")
        transport = OpenSSHTransport(Settings(host="bed", config=str(config), connect_s=60.0))
        try:
            assert transport.run(Command(argv=("/bin/echo", "beyond"))).stdout == b"beyond\n"
        finally:
            transport.close()
        assert sshd.log.count("Accepted publickey") == before + 1
        assert beyond.log.count("Accepted publickey") == 1
        config.write_text(config.read_text().replace(f"Host jump\n    Port {sshd.port}", "Host jump\n    Port 1"))
        error = refused(Settings(host="bed", config=str(config), connect_s=60.0))
        assert isinstance(error, errors.HostUnreachable)
        assert "jump host" in str(error)


@pytest.fixture
def wrapped_shell(tmp_path: Path) -> Iterator[tuple[Sshd, Path]]:
    """A server whose logins run a script around each command: what start-up files of a shell can do."""
    script = tmp_path / "shell"
    script.touch(0o700)
    tmp_path.chmod(0o755)
    with running_sshd(settings=f"ForceCommand {script}") as server:
        yield server, script


def shell(path: Path, text: str) -> None:
    path.write_text(f'#!/bin/sh\n{text}\nexec /bin/sh -c "$SSH_ORIGINAL_COMMAND"\n')
    path.chmod(0o755)


def test_a_login_that_talks_and_reads(wrapped_shell: tuple[Sshd, Path]) -> None:
    """A banner, bytes that are no text, a read: neither disturbs the helper nor reaches any output."""
    server, script = wrapped_shell
    shell(script, "echo Welcome, you have mail; printf '\\0\\377\\n1\\n'; head -c 100000 /dev/zero; echo on stderr >&2")
    transport = server.transport()
    try:
        assert transport.run(Command(argv=("/bin/echo", "x"))).stdout == b"x\n"
    finally:
        transport.close()


def test_a_login_that_hangs_and_one_that_ends(wrapped_shell: tuple[Sshd, Path]) -> None:
    server, script = wrapped_shell
    shell(script, "echo press any key; read answer; exec sleep 600")
    for connect_s in (2.0, 10.0, 40.0):  # the login itself may be slow here
        error = refused(server.settings(connect_s=connect_s))
        if isinstance(error, errors.LoginShellFailed):
            break
    assert isinstance(error, errors.LoginShellFailed)
    assert "press any key" in str(error)
    shell(script, "echo no jobs from here; exit 3")
    error = refused(server.settings())
    assert isinstance(error, errors.LoginShellFailed)
    assert "no jobs from here" in str(error)
    assert "ended with 3" in str(error)


# A second factor ------------------------------------------------------------------------------------------------------

WRAPPER = next((str(path) for path in Path("/usr/lib").glob("*/libpam_wrapper.so")), None)
ASKS = """
import sys
from jobyard.transports.base import Command
from jobyard.transports.openssh import OpenSSHTransport, Settings
transport = OpenSSHTransport(Settings(host="bed", config=sys.argv[1], connect_s=60.0))
for number in range(3):
    sys.stdout.write(transport.run(Command(argv=("/bin/echo", "answer %d" % number))).stdout.decode())
transport.close()
"""


@pytest.fixture
def second_factor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sshd]:
    """A server that asks for a code after the key: PAM, without root's files."""
    if WRAPPER is None:
        pytest.skip("no libpam_wrapper.so here (Debian: libpam-wrapper)")
    tmp_path.chmod(0o755)
    check = tmp_path / "check.sh"
    check.write_text('#!/bin/sh\n[ "$(head -c 4)" = 4711 ]\n')  # what pam_exec sends ends with a NUL, not a line's end
    check.chmod(0o755)
    services = tmp_path / "pam"
    services.mkdir()
    rules = (
        f"auth requisite pam_exec.so quiet expose_authtok {check}\nauth required pam_permit.so\n"
        "account required pam_permit.so\nsession required pam_permit.so\npassword required pam_deny.so\n"
    )
    for name in ("sshd", "other"):
        (services / name).write_text(rules)
    words = f"LD_PRELOAD={WRAPPER} PAM_WRAPPER=1 PAM_WRAPPER_SERVICE_DIR={services} TMPDIR={tmp_path}"
    monkeypatch.setenv("SSHD_ENV", words)
    # root's answers are spoilt by sshd itself unless it may log in with them
    settings = (
        "PermitRootLogin yes\nUsePAM yes\nKbdInteractiveAuthentication yes\nAuthenticationMethods publickey,keyboard-interactive"
    )
    with running_sshd(settings=settings) as server:
        monkeypatch.delenv("SSHD_ENV")
        yield server
    for left in Path("/tmp").glob("pam.?"):  # the wrapper's copies, where the server was killed
        if left.is_dir() and left.stat().st_uid == os.getuid() and time.time() - left.stat().st_mtime < 600:
            shutil.rmtree(left, ignore_errors=True)


def test_without_a_terminal_the_error_says_how(second_factor: Sshd) -> None:
    error = subprocess.run(
        [sys.executable, "-c", ASKS, str(second_factor.config)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        start_new_session=True,
        timeout=60,
        env={**os.environ, "DISPLAY": ""},
    ).stderr
    assert "SecondFactorNeeded" in error
    assert "SSH_ASKPASS" in error


def test_on_a_terminal_it_is_asked_once(second_factor: Sshd) -> None:
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [sys.executable, "-c", ASKS, str(second_factor.config)])
    seen, answered = b"", 0
    deadline = time.monotonic() + 60
    try:
        while time.monotonic() < deadline and b"answer 2" not in seen:
            if not select.select([terminal], [], [], 1)[0]:
                continue
            try:
                seen += os.read(terminal, 4096)
            except OSError:  # the other side ended
                break
            if seen.count(b"assword:") > answered:
                answered += 1
                os.write(terminal, b"4711\n")
    finally:
        os.waitpid(pid, 0)
        os.close(terminal)
    assert b"answer 2" in seen, seen
    assert answered == 1


def test_askpass_answers_without_a_terminal(second_factor: Sshd, tmp_path: Path) -> None:
    asked = tmp_path / "asked"
    program = tmp_path / "askpass"
    program.write_text(f"#!/bin/sh\necho x >> {asked}\necho 4711\n")
    program.chmod(0o755)
    done = subprocess.run(
        [sys.executable, "-c", ASKS, str(second_factor.config)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        start_new_session=True,
        timeout=60,
        env={**os.environ, "SSH_ASKPASS": str(program), "SSH_ASKPASS_REQUIRE": "force"},
    )
    assert done.stdout == "answer 0\nanswer 1\nanswer 2\n", done.stderr
    assert asked.read_text() == "x\n"


def test_ctrl_c_ends_the_call_and_not_the_connection(sshd: Sshd) -> None:
    """At a terminal Ctrl-C goes to ssh, too."""
    program = (
        "import sys\n"
        "from jobyard.transports.base import Command\n"
        "from jobyard.transports.openssh import OpenSSHTransport, Settings\n"
        "transport = OpenSSHTransport(Settings(host='bed', config=sys.argv[1], connect_s=60.0))\n"
        "try:\n"
        "    transport.link(); print('ready', flush=True)\n"
        "    transport.run(Command(argv=('/bin/sleep', '600'), timeout_s=600))\n"
        "except KeyboardInterrupt:\n"
        "    said = transport.run(Command(argv=('/bin/echo', 'on'))).text\n"
        "    print('interrupted', said, transport.connection.links_made, flush=True)\n"
        "transport.close()\n"
    )
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [sys.executable, "-c", program, str(sshd.config)])
    seen, sent = b"", False
    deadline = time.monotonic() + 60
    try:
        while time.monotonic() < deadline and b"interrupted" not in seen:
            if select.select([terminal], [], [], 1)[0]:
                try:
                    seen += os.read(terminal, 4096)
                except OSError:
                    break
            if b"ready" in seen and not sent:
                sent = True
                time.sleep(0.3)  # the command begins; earlier, it is the same
                os.write(terminal, b"\x03")
        while select.select([terminal], [], [], 1)[0]:
            try:
                part = os.read(terminal, 4096)
            except OSError:
                break
            if not part:
                break
            seen += part
    finally:
        os.waitpid(pid, 0)
        os.close(terminal)
    assert b"interrupted on" in seen, seen
    assert b" 1\r\n" in seen, seen
