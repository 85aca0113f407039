"""The server as a process: one ready line, a clean end, nothing left behind, closed doors, clear failures."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as grpc_client
from tritonclient.utils import InferenceServerException

import export
from export.__main__ import main
from export.client import Client, ClientOptions
from export.errors import ServerStartError
from export.server import ServerOptions, TritonServer
from export.server_files import lay_out_backend, tritonserver_folder
from sdk.base.errors import ConfigError
from sdk.bundles.bundle import Bundle

pytestmark = pytest.mark.server

ROOT = Path(export.__file__).resolve().parents[1]


def made_up_wheel(folder: Path, *versions: str) -> Path:
    """A pytriton with a server of these Pythons, which cannot be imported: its own packages are not there."""
    files = ["bin/tritonserver", "backends/python/libtriton_python.so"]
    files += [f"python_backend_stubs/{version}/triton_python_backend_stub" for version in versions]
    for path in (folder / "pytriton" / "tritonserver" / name for name in files):
        path.parent.mkdir(parents=True)
        path.touch()
    (folder / "pytriton" / "__init__.py").write_text("raise ImportError('numpy<2 is not here')\n")
    return folder / "pytriton" / "tritonserver"


def test_of_pytriton_only_the_files_are_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    home = made_up_wheel(tmp_path, "3.9", f"3.{sys.version_info.minor}")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "pytriton", raising=False)
    assert tritonserver_folder() == home
    assert (lay_out_backend(home, tmp_path / "laid") / "python" / "triton_python_backend_stub").exists()
    assert "pytriton" not in sys.modules


def test_a_python_that_the_server_lacks_is_named_with_those_that_it_has(tmp_path: Path):
    with pytest.raises(
        ServerStartError, match=r"no Python backend for Python 3\.\d+, only for 3\.8, 3\.9\. Serve with"
    ):
        lay_out_backend(made_up_wheel(tmp_path, "3.9", "3.8"), tmp_path / "laid")


@contextmanager
def serve(repository: Path, folder: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    """``python -m export serve`` with its own temporary folder; killed at the end if it has not ended."""
    folder.mkdir(exist_ok=True)
    process = subprocess.Popen(
        [sys.executable, "-m", "export", "serve", str(repository), *options],
        cwd=ROOT, env={**os.environ, "TMPDIR": str(folder)}, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def shared_memory_of(pid: int) -> list[Path]:
    return list(Path("/dev/shm").glob(f"marquee_{pid}_*"))


@pytest.mark.parametrize(
    ("number", "code", "option"), [(signal.SIGTERM, 143, "--quiet"), (signal.SIGINT, 130, "--verbose")]
)
def test_serve_prints_one_ready_line_and_ends_cleanly(
    exported: Callable[..., Path], tmp_path: Path, number: signal.Signals, code: int, option: str
):
    with serve(exported(), tmp_path / "tmp", "--json", option) as process:
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
        assert all(re.match(r"127\.0\.0\.1:\d+", ready[name]) for name in ("http", "grpc", "metrics"))
        with Client(ready["http"]) as client:
            assert client.rank([7], [9]).shape == (1,)
        host, _, path = ready["metrics"].partition("/")
        connection = http.client.HTTPConnection(host, timeout=10)
        connection.request("GET", f"/{path}")
        assert 'nv_inference_request_success{model="rank"' in connection.getresponse().read().decode()
        connection.close()
        process.send_signal(number)
        rest, errors = process.communicate(timeout=60)
    assert (process.returncode, rest) == (code, "")
    assert "Traceback" not in errors or option == "--verbose"  # which shows one with every error
    assert ("successfully loaded 'recommend'" in errors) == (option == "--verbose")
    assert list((tmp_path / "tmp").iterdir()) == []
    assert shared_memory_of(process.pid) == []
    with Client(ready["http"], ClientOptions(retries=0)) as client:
        assert not client.is_ready()


def test_no_process_is_left_after_stop_or_kill(exported: Callable[..., Path]):
    for end in ("stop", "kill"):
        server = TritonServer(exported(), ServerOptions(stop_timeout_s=1, poll_s=0)).start()
        pid = server.pid
        assert members(pid)
        getattr(server, end)()
        assert members(pid) == []
        assert list(server.repository.rglob("*.pyc")) == []
        assert list(Path("/dev/shm").glob(f"{server._prefix}*")) == []


def test_the_server_ends_with_a_serve_that_was_killed(exported: Callable[..., Path], tmp_path: Path):
    with serve(exported(), tmp_path / "tmp", "--json") as process:
        assert process.stdout is not None
        process.stdout.readline()
        (server,) = (int(p) for p in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split())
        assert members(server)
        process.kill()
        deadline = time.monotonic() + 30
        while members(server):
            assert time.monotonic() < deadline, members(server)
            time.sleep(0.05)
    for region in shared_memory_of(process.pid):
        region.unlink()  # what a kill leaves behind, this test removes


def members(session: int) -> list[int]:
    """Live processes of a session."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            found.append(int(folder.name))
    return found


def test_a_damaged_repository_is_not_served(
    exported: Callable[..., Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    copy = shutil.copytree(exported(), tmp_path / "repository")
    (copy / "recommend" / "1" / "arrays" / "user_bias.npy").write_bytes(b"nothing")
    assert main(["serve", str(copy)]) == 4
    assert re.search(r"user_bias\.npy: altered .*Export|user_bias\.npy: altered .*export", capfd.readouterr().err)


def test_a_model_that_does_not_load_is_one_error_with_the_servers_reason(exported: Callable[..., Path], tmp_path: Path):
    copy = shutil.copytree(exported(), tmp_path / "repository")
    (copy / "ranker" / "1" / "arrays" / "cross.npy").write_bytes(b"nothing")
    with pytest.raises(ServerStartError) as error, TritonServer(copy):
        pass
    assert re.search(r"the server did not start\. model 'ranker': .*cross\.npy: altered \(sha256", str(error.value))
    assert "recommend" not in str(error.value)


def test_a_backend_that_the_server_lacks_is_named(exported: Callable[..., Path]):
    with pytest.raises(ServerStartError, match=r"pytorch"), TritonServer(exported(backend="pytorch")):
        pass


def test_a_taken_port_is_named(server: TritonServer, exported: Callable[..., Path]):
    assert server.ports is not None
    with pytest.raises(ServerStartError, match=rf"{server.ports.http}: cannot be listened on"):
        TritonServer(exported(), ServerOptions(http_port=server.ports.http, poll_s=0)).start()


@pytest.mark.parametrize("wrong", [{"http_port": 0}, {"grpc_port": 70000}, {"poll_s": -1}])
def test_options_out_of_range_are_refused(wrong: dict[str, int]):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        ServerOptions(**wrong)


def get(server: TritonServer, method: str, path: str) -> int:
    connection = http.client.HTTPConnection(server.http_url, timeout=10)
    try:
        connection.request(method, path, b"{}" if method == "POST" else None)
        return connection.getresponse().status
    finally:
        connection.close()


CLOSED = (
    ("POST", "/v2/repository/models/rank/unload"),
    ("POST", "/v2/repository/models/rank/load"),
    ("POST", "/v2/repository/index"),
    ("GET", "/v2/systemsharedmemory/status"),
    ("GET", "/v2/cudasharedmemory/status"),
    ("GET", "/v2/trace/setting"),
    ("POST", "/v2/logging"),
)


@pytest.mark.parametrize(("method", "path"), CLOSED)
def test_extensions_that_change_the_server_are_closed_over_http(server: TritonServer, method: str, path: str):
    assert get(server, method, path) == 403
    assert get(server, "GET", "/v2/models/rank/ready") == 200


def test_extensions_that_change_the_server_are_closed_over_grpc(server: TritonServer):
    client = grpc_client.InferenceServerClient(server.grpc_url)
    for call in (
        lambda: client.unload_model("rank"),
        client.get_model_repository_index,
        client.get_system_shared_memory_status,
        client.get_trace_settings,
        lambda: client.update_log_settings({"log_verbose_level": 1}),
    ):
        with pytest.raises(InferenceServerException, match="restricted"):
            call()
    assert client.is_model_ready("rank")
    client.close()


def test_they_open_when_asked_for(exported: Callable[..., Path]):
    options = ServerOptions(model_control=True, shared_memory=True, poll_s=0)
    with TritonServer(exported(), options) as running:
        assert get(running, "POST", "/v2/repository/index") == 200
        assert get(running, "GET", "/v2/systemsharedmemory/status") == 200
        assert get(running, "GET", "/v2/trace/setting") == 403


def test_it_listens_on_loopback_only(server: TritonServer):
    assert server.ports is not None
    listening = {
        line.split()[1]
        for table in ("tcp", "tcp6")
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]
        if line.split()[3] == "0A"
    }
    for port in (server.ports.http, server.ports.grpc, server.ports.metrics):
        addresses = {entry.partition(":")[0] for entry in listening if entry.endswith(f":{port:04X}")}
        assert addresses
        assert addresses <= {"0100007F", "0000000000000000FFFF00000100007F"}  # 127.0.0.1, and the same within IPv6


def test_rank_in_the_compiled_form_needs_numpy_alone(exported: Callable[..., Path], bundle: Bundle, tmp_path: Path):
    packages = tmp_path / "packages"
    packages.mkdir()
    numpy_folder = Path(np.__file__).parent
    for folder in (numpy_folder, numpy_folder.with_name("numpy.libs")):
        if folder.is_dir():
            (packages / folder.name).symlink_to(folder)
    copy = shutil.copytree(exported(), tmp_path / "repository")
    for model in ("recommend", "similar_items"):  # these two say that they need sdk
        shutil.rmtree(copy / model)
    items = bundle.encoded_items.known_ids
    with TritonServer(copy, ServerOptions(python_path=(str(packages),), poll_s=0)) as bare:
        with Client(bare.http_url) as client:
            scores = client.rank(7, items)
    assert np.argsort(-scores, kind="stable")[0] == np.argmax(scores)
    from export.selfcheck import sdk_scores

    rows = bundle.encoded_users.index_of([7] * len(items)), bundle.encoded_items.index_of(items)
    np.testing.assert_allclose(scores, sdk_scores(bundle.model("best"), *rows), rtol=0, atol=1e-5)
