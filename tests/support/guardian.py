"""A shell process that cleans up after the test process, however that one ends."""

from __future__ import annotations

import subprocess


class Guardian:
    """Runs the shell script `action` with `arguments` as soon as this process is gone.

    It notices by the end of its standard input, which comes at an ordinary exit as well as after
    SIGTERM and SIGKILL, against which no handler in this process could help. After `release` it
    does nothing.
    """

    def __init__(self, action: str, *arguments: str) -> None:
        script = f"read -r _ && exit 0\n{action}"
        self._process = subprocess.Popen(
            ["/bin/sh", "-c", script, "test-guardian", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            # An interrupt typed at the terminal must not end the one that cleans up after it.
            start_new_session=True,
        )

    def release(self) -> None:
        """End the guardian without letting it act; needs to be called once, more does no harm."""
        if self._process.returncode is None:
            self._process.communicate(b"\n")
