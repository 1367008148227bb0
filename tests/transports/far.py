"""A ProxyCommand over a long way: ``far.py PORT SECONDS``. It copies both ways, each byte so much later; any rate passes."""

import collections
import os
import selectors
import signal
import socket
import sys
import time


def main() -> None:
    port, late_s = int(sys.argv[1]), float(sys.argv[2])
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # ssh sends it as it ends; the end of its pipe says the same
    there = socket.create_connection(("127.0.0.1", port))
    selector = selectors.DefaultSelector()
    selector.register(0, selectors.EVENT_READ, there.fileno())
    selector.register(there, selectors.EVENT_READ, 1)
    due: collections.deque[tuple[float, int, bytes]] = collections.deque()
    while True:
        timeout_s = max(0.0, due[0][0] - time.monotonic()) if due else None
        for key, _ in selector.select(timeout_s):
            data = os.read(key.fd, 1 << 18)
            if not data:
                return
            due.append((time.monotonic() + late_s, key.data, data))
        while due and due[0][0] <= time.monotonic():
            _, to, data = due.popleft()
            while data:
                data = data[os.write(to, data) :]


if __name__ == "__main__":
    main()
