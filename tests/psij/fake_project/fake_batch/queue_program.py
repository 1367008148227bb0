"""A queue of jobs in a folder: submit, status, delete, list. It knows nothing of PSI/J.

    queue_program.py FOLDER submit SCRIPT | status ID,ID | delete ID | list

A job's state is a letter in ``ID.state``: Q, R, C, F, X. Files in FOLDER make it misbehave:

    hold      new jobs stay in the queue until the file is gone
    down      every question fails
    refuse    every submission fails
    quota     a number: submissions fail once there are so many jobs
    hidden    ids, one a line, that no answer mentions for the time being
    odd       ids whose state is told as a word that nobody knows
    purge     jobs that end are forgotten at once
    vanish    ids that are killed with all their processes, and forgotten
"""

import os
import signal
import subprocess
import sys
import time


def say(*words: str) -> None:
    sys.stdout.write(" ".join(words) + "\n")


def read(path: str) -> str:
    try:
        with open(path) as file:
            return file.read()
    except FileNotFoundError:
        return ""


def write(path: str, text: str) -> None:
    with open(path + ".new", "w") as file:
        file.write(text)
    os.rename(path + ".new", path)


class Queue:
    def __init__(self, folder: str) -> None:
        self.folder = folder

    def path(self, name: str) -> str:
        return os.path.join(self.folder, name)

    def there(self, name: str) -> bool:
        return os.path.exists(self.path(name))

    def ids(self, name: str) -> list[str]:
        return read(self.path(name)).split()

    def state(self, job: str) -> str:
        return read(self.path(job + ".state")).strip()

    def numbers(self) -> list[str]:
        return [name[:-3] for name in os.listdir(self.folder) if name.endswith(".id")]

    def submit(self, script: str) -> int:
        if self.there("refuse") or len(self.numbers()) >= int(read(self.path("quota")) or 1 << 30):
            sys.stderr.write("queue: no jobs are taken today" + "\n")
            return 3
        number = 100
        while True:
            try:
                os.close(os.open(self.path(f"{number}.id"), os.O_CREAT | os.O_EXCL))
                break
            except FileExistsError:
                number += 1
        job = str(number)
        write(self.path(job + ".state"), "Q")
        with open(script) as source:
            write(self.path(job + ".script"), source.read())  # as batch systems do, it keeps a copy
        subprocess.Popen(
            [sys.executable, "-I", "-S", __file__, self.folder, "run", job],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        say(f"job number {job}")
        return 0

    def run(self, job: str) -> int:
        """The life of one job, in a process of its own."""
        while self.there("hold") and self.state(job) == "Q":
            time.sleep(0.02)
        if self.state(job) != "Q":
            return 0
        process = subprocess.Popen(
            ["/bin/bash", self.path(job + ".script")],
            env={**os.environ, "FAKE_JOB_ID": job},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        write(self.path(job + ".pid"), str(process.pid))
        write(self.path(job + ".state"), "R")
        while True:
            if job in self.ids("vanish"):
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                os.unlink(self.path(job + ".state"))
                return 0
            try:
                code = process.wait(0.02)
                break
            except subprocess.TimeoutExpired:
                pass
        write(self.path(job + ".code"), str(code))
        if self.there("purge"):
            os.unlink(self.path(job + ".state"))
        elif self.state(job) != "X":
            # Like some batch systems it takes the script's exit code for success or failure.
            write(self.path(job + ".state"), "C" if code == 0 else "F")
        return 0

    def known(self) -> list[str]:
        jobs = sorted(name[:-6] for name in os.listdir(self.folder) if name.endswith(".state"))
        hidden = self.ids("hidden")
        return [job for job in jobs if job not in hidden]

    def status(self, wanted: list[str]) -> int:
        with open(self.path("asked"), "a") as log:
            log.write(" ".join(wanted) + "\n")
        if self.there("down"):
            say("queue: cannot be reached")
            return 1
        odd = self.ids("odd")
        for job in self.known():
            if job in wanted:
                say(job, "ZZ" if job in odd else self.state(job), "as the queue says")
        return 0

    def delete(self, job: str) -> int:
        state = self.state(job)
        if not state:
            say(f"queue: {job} is unknown")
            return 1
        if state in "CFX":
            say(f"queue: {job} has ended")
            return 16
        write(self.path(job + ".state"), "X")
        if state == "R":
            os.killpg(int(read(self.path(job + ".pid"))), signal.SIGTERM)
        return 0


def main() -> int:
    queue = Queue(sys.argv[1])
    verb, *rest = sys.argv[2:]
    if verb == "submit":
        return queue.submit(rest[0])
    if verb == "run":
        return queue.run(rest[0])
    if verb == "status":
        return queue.status(rest[0].split(","))
    if verb == "delete":
        return queue.delete(rest[0])
    for job in queue.known():
        say(job)
    return 0


if __name__ == "__main__":
    sys.exit(main())
