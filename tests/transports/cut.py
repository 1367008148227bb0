"""A ProxyCommand that breaks the connection at an exact byte: ``cut.py PORT up|down N ARMED LOG``.

It copies both ways. When N bytes went the given way, and the file ARMED is there, it removes the file and ends at once. LOG gets
how many bytes went up and down.
"""

import os
import selectors
import signal
import socket
import sys


def main() -> None:
    port, way, at, armed, log = int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4], sys.argv[5]
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # ssh sends it as it ends; the end of its pipe says the same
    there = socket.create_connection(("127.0.0.1", port))
    counts = {"up": 0, "down": 0}
    cutting = os.path.exists(armed)
    selector = selectors.DefaultSelector()
    selector.register(0, selectors.EVENT_READ, "up")
    selector.register(there, selectors.EVENT_READ, "down")
    try:
        while True:
            for key, _ in selector.select():
                data = os.read(key.fd, 65536)
                if not data:
                    return
                direction = key.data
                if cutting and direction == way and counts[direction] + len(data) >= at:
                    data = data[: at - counts[direction]]
                    counts[direction] += len(data)
                    _send(direction, there, data)
                    os.unlink(armed)
                    os._exit(1)
                counts[direction] += len(data)
                _send(direction, there, data)
    finally:
        with open(log, "a") as file:
            file.write(f"{counts['up']} {counts['down']}\n")


def _send(direction: str, there: socket.socket, data: bytes) -> None:
    if direction == "up":
        there.sendall(data)
        return
    while data:
        data = data[os.write(1, data) :]


if __name__ == "__main__":
    main()
