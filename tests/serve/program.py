"""`lowlat serve` as a program of its own, with the lines of its log."""

import json
import os
import subprocess
import sys
import threading
import urllib.request

from waiting import until


class Program:
    """A service that was started as a command; `events` are the lines of its log so far."""

    def __init__(self, *words, cwd=None):
        command = [sys.executable, "-m", "lowlat", "serve", "--port", "0", "--log", "json", *map(str, words)]
        # By one thread: two that share so little work wait for each other on a busy machine.
        one_core = {"preexec_fn": lambda: os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})}
        pipes = {"stderr": subprocess.PIPE, "stdout": subprocess.DEVNULL, "text": True, "cwd": cwd}
        self.process = subprocess.Popen(command, **pipes, **one_core)
        self.events = []
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.process.stderr:
            self.events.append(json.loads(line) if line.startswith("{") else {"event": line})

    def told(self, event, **fields):
        """Wait for the first event with this name, or a name that satisfies a function, and with these fields; return
        it."""
        fits = event if callable(event) else lambda name: name == event

        def found():
            assert self.process.poll() in (None, 0), self.events
            return next(
                (one for one in list(self.events) if fits(one["event"]) and fields.items() <= one.items()), None
            )

        return until(found, event, 120)

    def get(self, path):
        with urllib.request.urlopen(self.address + path, timeout=60) as answer:
            return json.loads(answer.read())

    def __enter__(self):
        self.address = self.told("serving")["address"]
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
