"""Nights in object stores: servers of S3's and of Google Cloud Storage's protocol on loopback, and fsspec's memory."""

from __future__ import annotations

import json
from collections.abc import Iterator

import fsspec
import pytest
from night_files import DATE, PARTS, Crash, fail_at, job, tree

from batch.run.night import run
from batch.score import main
from batch.store.nights import rollback, verify
from batch.store.objects import ObjectTarget
from batch.store.places import open_target
from sdk.base.errors import OutputError, UsageError
from sdk.base.paths import as_location

NIGHT = f"run_date={DATE}"


@pytest.fixture(scope="module")
def local(bundle_path, tmp_path_factory):
    """The same night on a local disk."""
    out = tmp_path_factory.mktemp("local")
    run(job(bundle_path, out))
    return tree(out / NIGHT)


@pytest.fixture
def memory() -> Iterator[str]:
    store = fsspec.filesystem("memory")
    store.store.clear()
    store.pseudo_dirs[:] = [""]
    yield "memory://bucket/nights"
    store.store.clear()
    store.pseudo_dirs[:] = [""]


@pytest.fixture(scope="module")
def s3_server() -> Iterator[str]:
    moto = pytest.importorskip("moto.server")
    pytest.importorskip("s3fs")
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3(s3_server, monkeypatch) -> Iterator[str]:
    """An empty bucket; credentials and endpoint come from the environment, as they do at work."""
    for name, value in {
        "AWS_ENDPOINT_URL": s3_server, "AWS_ACCESS_KEY_ID": "made-up", "AWS_SECRET_ACCESS_KEY": "also-made-up",
        "AWS_DEFAULT_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    store = fsspec.filesystem("s3", skip_instance_cache=True)
    store.mkdir("nights-of-marquee")
    yield "s3://nights-of-marquee/deep/down"
    store.invalidate_cache()
    store.rm("nights-of-marquee", recursive=True)


@pytest.fixture(scope="module")
def gs_server() -> Iterator[str]:
    emulator = pytest.importorskip(
        "gcp_storage_emulator.server", reason="needs the packages gcp-storage-emulator and gcsfs"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")  # it asks Google for the kind of each bucket
        pytest.importorskip("gcsfs", reason="needs the packages gcp-storage-emulator and gcsfs")
    server = emulator.create_server("127.0.0.1", 0, in_memory=True, default_bucket="nights-of-marquee")
    server.start()
    yield "http://{}:{}".format(*server._api._httpd.server_address)
    server.stop()


@pytest.fixture
def gs(gs_server, monkeypatch) -> Iterator[str]:
    """An empty bucket, found through the environment."""
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", gs_server)
    yield "gs://nights-of-marquee/deep/down"
    store = fsspec.filesystem("gs")
    store.invalidate_cache()
    if store.exists("nights-of-marquee/deep"):
        store.rm("nights-of-marquee/deep", recursive=True)


STORES = ["s3", "gs"]


@pytest.fixture(params=STORES)
def store_url(request) -> str:
    """An empty place in each store that a server keeps."""
    return str(request.getfixturevalue(request.param))


def stored(url: str) -> dict[str, bytes]:
    """Every object below a URL and its bytes, by fsspec alone."""
    store, root = fsspec.core.url_to_fs(url)
    store.invalidate_cache()
    start = len(root.rstrip("/")) + 1
    return {path[start:]: store.cat_file(path) for path in store.find(root)}


def check_published(url: str, local: dict[str, bytes]) -> None:
    objects = stored(url)
    assert objects.pop("LATEST") == f"{DATE}\n".encode()
    record = json.loads(objects.pop(f"runs/{NIGHT}.json"))
    assert record["run_date"] == DATE
    assert objects == {f"{NIGHT}/{name}": data for name, data in local.items()}


@pytest.mark.parametrize("place", ["memory", *STORES])
def test_a_store_holds_the_same_bytes_as_a_disk(bundle_path, local, place, request):
    url = request.getfixturevalue(place)
    assert run(job(bundle_path, url)).status == "published"
    check_published(url, local)
    assert run(job(bundle_path, url)).status == "already published"
    assert run(job(bundle_path, url + "/", force=True)).status == "published"
    check_published(url, local)
    assert verify(url).parts == PARTS


def test_on_a_server_a_killed_night_goes_on_where_it_stopped(bundle_path, local, store_url, monkeypatch):
    with monkeypatch.context() as patch:
        fail_at(patch, ObjectTarget, "write", 13, Crash())
        with pytest.raises(Crash):
            run(job(bundle_path, store_url))
    assert not [name for name in stored(store_url) if name.startswith("run_date=")]
    assert run(job(bundle_path, store_url)).resumed_parts == 6
    check_published(store_url, local)


def test_on_a_server_nights_are_kept_rolled_back_refused_and_mended(bundle_path, store_url, capsys):
    few, command = {"users_per_part": 31}, ["--out", store_url]
    for date in ("2026-11-21", "2026-11-22", DATE):
        run(job(bundle_path, store_url, run_date=date, keep=2, **few))
    assert open_target(store_url).nights() == ["2026-11-22", DATE]
    assert main([*command, "--rollback"]) == 0
    assert stored(store_url)["LATEST"] == b"2026-11-22\n"
    open_target(store_url).remove("LATEST")
    options = ["--bundle", str(bundle_path), "--run-date", DATE, "--k", "5", "--users-per-part", "31"]
    assert main([*command, *options]) == 0
    assert stored(store_url)["LATEST"] == f"{DATE}\n".encode()
    with open_target(store_url).lock():
        assert main([*command, *options]) == 7
    target, part = open_target(store_url), f"{NIGHT}/item_items/part-00001.parquet"
    data = bytearray(target.read(part))
    data[40] ^= 1
    target.write(part, bytes(data))
    assert main([*command, "--verify"]) == 5
    assert "item_items/part-00001.parquet: altered" in capsys.readouterr().err
    assert not [name for name in stored(store_url) if name.startswith(".")]


def operations(bundle_path, url, monkeypatch, when, **options):
    """Run a night whose store dies before the ``when``-th thing that is asked of it; how many things were asked."""
    store = fsspec.filesystem("memory")
    with monkeypatch.context() as patch:
        calls = [0]
        for name in ("pipe_file", "cp_file", "rm", "rm_file"):
            real = getattr(type(store), name)

            def wrapped(self, *args, _real=real, **kwargs):
                calls[0] += 1
                if calls[0] == when:
                    raise Crash
                return _real(self, *args, **kwargs)

            patch.setattr(type(store), name, wrapped)
        if when:
            with pytest.raises(Crash):
                run(job(bundle_path, url, **options))
        else:
            run(job(bundle_path, url, **options))
    return calls[0]


@pytest.mark.slow
@pytest.mark.parametrize("force", [False, True])
def test_a_store_that_dies_at_any_write_copy_or_deletion_is_taken_up(bundle_path, memory, monkeypatch, force):
    few = {"users_per_part": 31}
    run(job(bundle_path, f"{memory}/expected", **few))
    expected = stored(f"{memory}/expected/{NIGHT}")
    if force:
        run(job(bundle_path, f"{memory}/0", k=6, **few))
    total = operations(bundle_path, f"{memory}/0", monkeypatch, 0, force=force, **few)
    assert total > 15
    for when in range(1, total + 1):
        url = f"{memory}/{when}"
        if force:
            run(job(bundle_path, url, k=6, users_per_part=17))
        operations(bundle_path, url, monkeypatch, when, force=force, **few)
        if f"{NIGHT}/_SUCCESS" in stored(url):
            verify(url, DATE)  # what has its marker is whole, old or new
        run(job(bundle_path, url, force=force, **few))
        objects = stored(url)
        night = {n.removeprefix(f"{NIGHT}/"): data for n, data in objects.items() if n.startswith("run_date=")}
        assert night == expected, f"operation {when}"
        assert {n for n in objects if not n.startswith("run_date=")} == {"LATEST", f"runs/{NIGHT}.json"}, when


def test_the_marker_comes_after_everything_else_and_the_pointer_after_the_marker(bundle_path, memory, monkeypatch):
    order = []
    store = fsspec.filesystem("memory")
    for name in ("pipe_file", "cp_file"):
        real = getattr(type(store), name)

        def wrapped(self, first, second, *args, _real=real, _name=name, **kwargs):
            path = second if _name == "cp_file" else first
            order.append(path.removeprefix("/bucket/nights/"))
            return _real(self, first, second, *args, **kwargs)

        monkeypatch.setattr(type(store), name, wrapped)
    run(job(bundle_path, memory))
    seen = [name for name in order if name.startswith((NIGHT, "LATEST"))]
    assert len(seen) == PARTS + 3
    assert seen[-3:] == [f"{NIGHT}/manifest.json", f"{NIGHT}/_SUCCESS", "LATEST"]


def test_rollback_and_retention_in_a_store(bundle_path, memory):
    dates = ["2026-11-20", "2026-11-21", "2026-11-22", DATE]
    for date in dates[:3]:
        run(job(bundle_path, memory, run_date=date))
    assert rollback(memory).latest == "2026-11-21"
    assert stored(memory)["LATEST"] == b"2026-11-21\n"
    run(job(bundle_path, memory, run_date=DATE, keep=2))
    assert open_target(memory).nights() == dates[2:]
    assert not [name for name in stored(memory) if "2026-11-20" in name and not name.startswith("runs/")]


def test_an_altered_object_is_found(bundle_path, memory):
    run(job(bundle_path, memory))
    store = fsspec.filesystem("memory")
    path = f"/bucket/nights/{NIGHT}/user_items/part-00002.parquet"
    data = bytearray(store.cat_file(path))
    data[40] ^= 1
    store.pipe_file(path, bytes(data))
    with pytest.raises(OutputError, match="part-00002"):
        verify(memory)


def test_a_second_run_on_this_machine_is_turned_away(bundle_path, memory, capsys):
    with open_target(memory).lock():
        arguments = ["--bundle", str(bundle_path), "--out", memory, "--run-date", DATE]
        assert main(arguments) == 7
    assert "another run" in capsys.readouterr().err


@pytest.mark.parametrize(("url", "extra"), [("s3://bucket/x", "s3"), ("gs://bucket/x", "gcs")])
def test_a_store_whose_package_is_not_installed_names_the_extra(url, extra, monkeypatch):
    def without_the_package(location: str) -> None:
        raise ImportError("Install what reads it")

    monkeypatch.setattr(fsspec.core, "url_to_fs", without_the_package)
    with pytest.raises(UsageError, match=rf"cannot be written here .*pip install '\.\[{extra}\]'"):
        ObjectTarget(url)


@pytest.mark.parametrize("url", ["s3://someone:secret@bucket/x", "s3://bucket/x?key=secret", "ftp://a:b@host/x"])
def test_a_url_with_a_secret_is_refused_without_repeating_it(url):
    with pytest.raises(UsageError) as caught:
        as_location(url)
    assert "secret" not in str(caught.value)
    assert "environment" in str(caught.value)


def test_an_unknown_protocol_is_refused(bundle_path, capsys):
    arguments = ["--bundle", str(bundle_path), "--out", "carrier-pigeon://loft", "--run-date", DATE]
    assert main(arguments) == 2
    assert "carrier-pigeon" in capsys.readouterr().err


def test_a_file_url_is_a_path(tmp_path):
    assert as_location(f"file://{tmp_path}") == str(tmp_path)


@pytest.mark.parametrize("place", STORES)
def test_a_store_without_such_a_bucket_or_without_access_is_exit_code_5(bundle_path, place, request, capsys):
    request.getfixturevalue(place)
    arguments = ["--bundle", str(bundle_path), "--run-date", DATE, "--out"]
    assert main([*arguments, f"{place}://no-such-bucket-here/x"]) == 5
    assert "no-such-bucket-here" in capsys.readouterr().err.splitlines()[-1]


def test_a_store_that_answers_with_an_error_of_its_own_is_exit_code_5(bundle_path, memory, capsys, monkeypatch):
    def broken(*args, **kwargs):
        raise RuntimeError("the store has a cold")

    monkeypatch.setattr(type(fsspec.filesystem("memory")), "pipe_file", broken)
    assert main(["--bundle", str(bundle_path), "--run-date", DATE, "--out", memory]) == 5
    assert "the store has a cold" in capsys.readouterr().err


def test_a_bucket_that_is_not_there_is_to_be_created(bundle_path, s3, capsys):
    """Before any work, and in other words than a fault that may pass."""
    words = ["--bundle", str(bundle_path), "--k", "5", "--run-date", DATE, "--out"]
    assert main([*words, "s3://no-such-bucket-of-marquee/nights"]) == 5
    err = capsys.readouterr().err
    assert "s3://no-such-bucket-of-marquee: there is no such bucket" in err
    assert "Create it" in err
    assert "again" not in err.splitlines()[-1]
    assert "scoring" not in err
    fsspec.filesystem("s3").mkdir("no-such-bucket-of-marquee")
    assert main([*words, "s3://no-such-bucket-of-marquee/nights"]) == 0  # the remedy helps
    fsspec.filesystem("s3").rm("no-such-bucket-of-marquee", recursive=True)
