"""Close a server that runs in this process to everybody else.

The package's LocalCluster listens on TCP, on all addresses, and asks nobody for a key (measured on 0.27.0: ``secret_key: null`` in
access.json): whoever reaches the port could run commands as us. Its only clients, the worker and the connection in this process,
are connected once it has started. From then on nobody listens: another, useless socket is put in the place of each listening one,
which closes its port, and resets whoever waits there; connections that stand are not touched. Then it is looked whether anybody
else was let in before.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import struct

__all__ = ["Stranger", "seal"]

End = tuple[str, int]
_OPEN = ("01", "03")  # ESTABLISHED, SYN_RECV, as /proc/net/tcp shows states


class Stranger(Exception):
    """Somebody else is connected, or it cannot be ruled out."""


def seal() -> list[int]:
    """Close all listening TCP sockets of this process; their ports. Raises Stranger, and OSError."""
    ports: list[int] = []
    ours: set[tuple[End, End]] = set()  # connections that this process holds, as (its end, the other)
    for fd, sock in _sockets():
        with sock:
            if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                ports.append(sock.getsockname()[1])
                with socket.socket(socket.AF_UNIX) as useless:
                    if _is(fd, sock):  # the server closes some itself; another file, the new one too, may have the number
                        os.dup2(useless.fileno(), fd, inheritable=False)
            else:
                try:
                    ours.add((_end(*sock.getsockname()[:2]), _end(*sock.getpeername()[:2])))
                except OSError:
                    continue  # no longer connected
    if not ports:
        raise Stranger("no listening socket was found; what cannot be closed is not used")
    for here, there in _connections():
        if here[1] in ports and (there, here) not in ours:
            raise Stranger(f"somebody connected from {there[0]}, port {there[1]}, while HyperQueue's server started; it was ended")
    return ports


def _is(fd: int, sock: socket.socket) -> bool:
    """The descriptor is still that socket's."""
    try:
        return os.path.sameopenfile(fd, sock.fileno())
    except OSError:
        return False


def _sockets() -> list[tuple[int, socket.socket]]:
    """This process's TCP sockets: the descriptor, and a copy."""
    numbers = []
    for name in os.listdir("/proc/self/fd"):
        try:
            if os.readlink(f"/proc/self/fd/{name}").startswith("socket:"):
                numbers.append(int(name))
        except OSError:
            continue  # the listing's own
    found: list[tuple[int, socket.socket]] = []
    for fd in numbers:  # copies take numbers that the listing has had, so that they come after it
        try:
            sock = socket.socket(fileno=os.dup(fd))
        except OSError:
            continue  # closed meanwhile
        if sock.family in (socket.AF_INET, socket.AF_INET6) and sock.type == socket.SOCK_STREAM:
            found.append((fd, sock))
        else:
            sock.close()
    return found


def _connections() -> list[tuple[End, End]]:
    """Both ends of all TCP connections of this network namespace."""
    found = []
    for table in ("/proc/self/net/tcp", "/proc/self/net/tcp6"):
        try:
            with open(table, encoding="ascii") as file:
                lines = file.readlines()[1:]
        except FileNotFoundError:
            continue  # no IPv6 here
        found += [(_shown(words[1]), _shown(words[2])) for words in map(str.split, lines) if words[3] in _OPEN]
    return found


def _shown(text: str) -> End:
    """``0100007F:1F90``: words of 32 bits in the machine's order, and the port."""
    address, _, port = text.partition(":")
    words = [int(address[at : at + 8], 16) for at in range(0, len(address), 8)]
    data = struct.pack(f"={len(words)}I", *words)
    return _end(socket.inet_ntop(socket.AF_INET if len(words) == 1 else socket.AF_INET6, data), int(port, 16))


def _end(address: str, port: int) -> End:
    """One form for an address, whichever family its socket is of."""
    parsed = ipaddress.ip_address(address.partition("%")[0])
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return str(mapped or parsed), port
