"""A real tritonserver on this machine: the one in the nvidia-pytriton wheel, on loopback, ended cleanly.

with TritonServer(repository) as server:
    server.http_url  # "127.0.0.1:41231"
"""

from __future__ import annotations

import contextlib
import http.client
import logging
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, NamedTuple

from export.errors import ServerStartError
from export.server_files import environment, lay_out_backend, lay_out_python, own_python_path, tritonserver_folder
from sdk.base.config import Checked, Limit, Size

log = logging.getLogger(__name__)

LOOPBACK = "127.0.0.1"
_PR_SET_PDEATHSIG = "import ctypes, os, sys; ctypes.CDLL(None).prctl(1, 15); os.execv(sys.argv[1], sys.argv[1:])"
_ENDING_WITH_PARENT = (sys.executable, "-I", "-S", "-c", _PR_SET_PDEATHSIG)
"""Runs a command to which the kernel sends SIGTERM when its parent dies. A program of its own: code that runs between
fork and exec would be in a copy of a process with threads, whose locks nobody opens."""
_POLL_S = 0.05
_ATTEMPTS = 3  # a port that was free may be taken before the server binds it
_SERVICES = {"Started HTTPService at", "Started GRPCInferenceService at"}
Port = Annotated[int, Limit(lambda value: 1 <= value <= 65535, "a port from 1 to 65535")]
_REASONS = re.compile(r"failed to load '(?P<model>[^']+)' version \d+: (?P<reason>.+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerOptions(Checked):
    """How the server runs.

    Attributes:
        host: address to bind; anything but loopback is open to others.
        http_port: port of HTTP; a free one unless given.
        grpc_port: port of gRPC; a free one unless given.
        metrics_port: port of the metrics; a free one unless given.
        poll_s: seconds between two looks for new versions; 0 never looks.
        start_timeout_s: how long all models may take to load, seconds.
        stop_timeout_s: seconds that requests in flight, and clients that keep a connection open, may hold up a stop.
        model_control: whether clients may use the model-repository extension.
        shared_memory: whether clients may use the shared-memory extensions.
        python_path: folders on the models' ``sys.path``; None: those of this interpreter.
        end_with_parent: whether the server also ends when the thread that started it is gone, however that came.
        verbose: whether the server's log goes to stderr as it comes.
    """

    host: str = LOOPBACK
    http_port: Port | None = None
    grpc_port: Port | None = None
    metrics_port: Port | None = None
    poll_s: Size = 2
    start_timeout_s: float = 180.0
    stop_timeout_s: float = 5.0
    model_control: bool = False
    shared_memory: bool = False
    python_path: tuple[str, ...] | None = None
    end_with_parent: bool = False
    verbose: bool = False


class Ports(NamedTuple):
    """Where one server listens."""

    http: int
    grpc: int
    metrics: int


class TritonServer:
    """One running server over one model repository.

    Args:
        repository: the folder.
        options: how it runs.
    """

    def __init__(self, repository: str | Path, options: ServerOptions | None = None) -> None:
        self.repository = Path(repository).absolute()
        self.options = options or ServerOptions()
        self.ports: Ports | None = None
        self._process: subprocess.Popen[str] | None = None
        self._lines: deque[str] = deque(maxlen=2000)
        self._reader: threading.Thread | None = None
        self._leavings = contextlib.ExitStack()
        self._prefix = f"marquee_{os.getpid()}_{secrets.token_hex(4)}"

    def __enter__(self) -> TritonServer:
        return self.start()

    def __exit__(self, *error: object) -> None:
        self.stop()

    @property
    def http_url(self) -> str:
        """host:port of the HTTP interface."""
        return f"{self.options.host}:{self._bound().http}"

    @property
    def grpc_url(self) -> str:
        """host:port of the gRPC interface."""
        return f"{self.options.host}:{self._bound().grpc}"

    @property
    def metrics_url(self) -> str:
        """host:port of the Prometheus metrics."""
        return f"{self.options.host}:{self._bound().metrics}"

    @property
    def pid(self) -> int:
        """The server's process id."""
        return self._running().pid

    @property
    def log(self) -> str:
        """The last two thousand lines of the server's log."""
        return "\n".join(self._lines)

    def start(self) -> TritonServer:
        """Start the server and wait until every model is ready.

        Raises:
            ServerStartError: the server cannot run here, a model did not load, or the time-out passed.
        """
        may_find_others = None in (self.options.http_port, self.options.grpc_port, self.options.metrics_port)
        for attempts_left in reversed(range(_ATTEMPTS)):
            try:
                self._launch()
                self._wait_until_ready()
                break
            except BaseException as error:
                self.stop()
                is_taken = isinstance(error, ServerStartError) and "already in use" in str(error).lower()
                if not (attempts_left and may_find_others and is_taken):
                    raise
        return self

    def stop(self) -> None:
        """End the server, letting requests in flight finish; nothing is left behind. Safe to call twice."""
        if self._process is not None:
            self._process.terminate()
            self._await_end(self._process)
        self._clean_up()

    def kill(self) -> None:
        """End the server at once, as a crash would."""
        process = self._running()
        process.kill()
        process.wait()
        self._clean_up()

    def is_running(self) -> bool:
        """Whether the process is alive."""
        return self._process is not None and self._process.poll() is None

    def wait_until_stopped(self) -> None:
        """Wait until this process is interrupted, or the server ends by itself.

        Raises:
            ServerStartError: the server ended by itself.
        """
        code = self._running().wait()
        problem = f"the server ended by itself (exit code {code})"
        raise ServerStartError(f"{self.repository}: {problem}; {self._last_words()}")

    def _launch(self) -> None:
        home, options = tritonserver_folder(), self.options
        self._leavings.callback(self._clear_shared_memory)
        folder = Path(self._leavings.enter_context(tempfile.TemporaryDirectory(prefix="marquee-server-")))
        backends = lay_out_backend(home, folder)
        programs = lay_out_python(folder, options.python_path or own_python_path())
        self.ports = _ports(options)
        self._lines.clear()
        self._process = subprocess.Popen(
            [*(_ENDING_WITH_PARENT if options.end_with_parent else ()), str(home / "bin" / "tritonserver"),
             *self._arguments(self.ports, backends)],
            env=environment(home, programs), cwd=folder, text=True, errors="replace",
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        self._reader = threading.Thread(target=self._read_log, args=(self._process,), daemon=True)
        self._reader.start()
        self._leavings.callback(self._reader.join, timeout=10)
        self._leavings.callback(_end_group, self._process.pid)

    def _arguments(self, ports: Ports, backends: Path) -> list[str]:
        options = self.options
        poll = ["--model-control-mode=poll", f"--repository-poll-secs={options.poll_s}"] if options.poll_s else []
        return [
            f"--model-repository={self.repository}", f"--backend-directory={backends}", *poll,
            *(f"--{kind}-address={options.host}" for kind in Ports._fields),
            *(f"--{kind}-port={port}" for kind, port in ports._asdict().items()),
            f"--exit-timeout-secs={int(options.stop_timeout_s)}", "--disable-auto-complete-config",
            f"--backend-config=python,shm-region-prefix-name={self._prefix}", *_restrictions(options),
        ]  # fmt: skip

    def _read_log(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            self._lines.append(line.rstrip("\n"))
            if self.options.verbose:
                sys.stderr.write(line)
        process.stdout.close()

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + self.options.start_timeout_s
        while not self._is_ready():
            if not self.is_running():
                raise ServerStartError(self._why_it_ended())
            if time.monotonic() > deadline:
                waited = f"not ready after {self.options.start_timeout_s:g} s"
                raise ServerStartError(f"{self.repository}: {waited}; {self._last_words()}")
            time.sleep(_POLL_S)

    def _is_ready(self) -> bool:
        if not {name for line in list(self._lines) for name in _SERVICES if name in line} >= _SERVICES:
            return False  # whoever answers at the address may not be this server
        connection = http.client.HTTPConnection(self.options.host, self._bound().http, timeout=2)
        try:
            connection.request("GET", "/v2/health/ready")
            return connection.getresponse().status == 200 and self.is_running()
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def _why_it_ended(self) -> str:
        if self._reader is not None:
            self._reader.join(timeout=5)
        models: dict[str, dict[str, None]] = {}
        for failed in filter(None, map(_REASONS.search, self._lines)):
            models.setdefault(_one_reason(failed["reason"]), {})[repr(failed["model"])] = None
        found = [f"model {', '.join(names)}: {reason.rstrip('.')}" for reason, names in models.items()]
        why = "; ".join(found) or self._last_words()
        remedy = "Export the repository again, or mend what it names."
        return f"{self.repository}: the server did not start. {why}. {remedy}"

    def _last_words(self) -> str:
        errors = [line for line in self._lines if re.match(r"E\d{4} |error:", line)] or list(self._lines)
        return f"its log ends with: {' | '.join(errors[-3:]) or 'nothing'}"

    def _await_end(self, process: subprocess.Popen[str]) -> None:
        try:
            process.wait(self.options.stop_timeout_s + 10)
        except subprocess.TimeoutExpired:
            log.warning("the server did not stop in %g s; ending it now", self.options.stop_timeout_s)
            process.kill()
            process.wait()

    def _clean_up(self) -> None:
        """Forget the process, and remove its folder and what a killed server leaves in shared memory."""
        self._leavings.close()
        self._process = None

    def _clear_shared_memory(self) -> None:
        for region in Path("/dev/shm").glob(f"{self._prefix}*"):
            region.unlink(missing_ok=True)

    def _bound(self) -> Ports:
        if self.ports is None:
            message = "the server has not been started; call start(), or use it in a with statement"
            raise ServerStartError(message)
        return self.ports

    def _running(self) -> subprocess.Popen[str]:
        if self._process is None:
            message = "the server is not running; call start(), or use it in a with statement"
            raise ServerStartError(message)
        return self._process


def _one_reason(logged: str) -> str:
    """A model's own words, without the places in its code, which the log has."""
    return logged.strip('"').partition(r"\n\nAt:")[0]


def _restrictions(options: ServerOptions) -> list[str]:
    """Extensions that are off: behind a key that nobody is told."""
    closed = ["trace", "logging"]
    closed += [] if options.model_control else ["model-repository"]
    closed += [] if options.shared_memory else ["shared-memory"]
    setting = f"{','.join(closed)}:marquee-key={secrets.token_hex(32)}"
    return [f"--http-restricted-api={setting}", f"--grpc-restricted-protocol={setting}"]


def _ports(options: ServerOptions) -> Ports:
    """The ports that are asked for, if they are free, and others that are free at this moment; all different."""
    found = []
    with contextlib.ExitStack() as stack:
        for port in (options.http_port, options.grpc_port, options.metrics_port):
            each = stack.enter_context(socket.socket())
            if port is not None:
                each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # one that just ended is no hindrance
            try:
                each.bind((options.host, port or 0))
            except OSError as error:
                problem = f"{options.host}:{port or 0}: cannot be listened on ({error.strerror})"
                raise ServerStartError(f"{problem}. Choose another port, or none to find one.") from error
            found.append(each.getsockname()[1])
    return Ports(*found)


def _end_group(group: int) -> None:
    """End the models' processes of a server that is gone: the server's own session, nobody else's."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)
