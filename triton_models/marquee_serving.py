"""What the served models share: files checked before they are read, and one error per wrong request.

``export`` puts a copy into every version folder, so a repository stands alone. It needs NumPy only.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

MANIFEST = "manifest.json"
ARRAYS = "arrays"
_STARTS = "_starts"  # of the UTF-8 in the array of the same name: where each text begins, and where the last one ends
_SHOWN = 60  # characters of an id in a message


class BadRequestError(Exception):
    """A request cannot be answered; the text goes back to the client."""


class DamagedVersionError(Exception):
    """A file of this version is absent or altered; the model refuses to load."""


class UnfitServerError(Exception):
    """The server's Python backend misreads its NumPy's arrays, or hands no text over; the model refuses to load."""


def checked_folder(pb_utils: Any, args: Mapping[str, str]) -> Path:
    """The folder of the version that Triton is loading, from the ``args`` of ``initialize``.

    Every file that its manifest names is compared with its sha256, before anything is loaded from it, and a small
    array goes through the server's tensors and back.

    Raises:
        DamagedVersionError: the manifest or a file is absent, or a file is altered.
        UnfitServerError: the array came back as another one, or ids are text, which only the backend's own NumPy code
            hands over.
    """
    folder = Path(args["model_repository"]) / args["model_version"]
    _check_files(folder)
    if not shares_arrays(pb_utils) and text_tensors(args):
        problem = f"ids are text, which the server's Python backend does not hand over beside NumPy {np.__version__}"
        message = f"{problem}. Put numpy<2 into the server's Python (3.12 at most), or serve with a current Triton."
        raise UnfitServerError(message)
    return folder


def text_tensors(args: Mapping[str, str]) -> set[str]:
    """The names of the model's inputs and outputs that are text."""
    config = json.loads(args["model_config"])
    tensors = [*config.get("input", []), *config.get("output", [])]
    return {tensor["name"] for tensor in tensors if tensor["data_type"] == "TYPE_STRING"}


@cache
def shares_arrays(pb_utils: Any) -> bool:
    """Whether tensors and arrays change into each other by the backend's own NumPy code; else it is by DLPack.

    A backend that was built before NumPy 2 (Triton of 2024) loads beside NumPy 2, and then gives inputs whose values
    are all the first one and outputs without bytes, with no error. DLPack is right there, but ends the process beside
    NumPy 1.26. So nothing is tried that may do harm: a tensor's own DLPack, which NumPy has no part in, makes the
    backend show memory as an array, what it does with every input; NumPy's DLPack is tried only where that was wrong.
    (The shorter ``Tensor(name, array).as_numpy()`` gives the very array back and proves nothing.)

    Raises:
        UnfitServerError: both ways are wrong.
    """
    tensors = pb_utils.Tensor
    sources = [tensors("probe", values) for values in _PROBES]
    shown = [tensors.from_dlpack("probe", source.to_dlpack()).as_numpy().copy() for source in sources]
    if _are_probes(shown):
        return True
    if int(np.__version__.split(".")[0]) >= 2:
        passed = [np.from_dlpack(tensors.from_dlpack("probe", values)).copy() for values in _PROBES]
        if _are_probes(passed):
            return False
    message = (
        f"the server's Python backend misreads arrays of NumPy {np.__version__}: got {shown[0].tolist()}, expected "
        f"{_PROBES[0].tolist()}. Put numpy<2 into the server's Python, or serve with a current Triton."
    )
    raise UnfitServerError(message)


_PROBES = [np.arange(1, 7, dtype=kind).reshape(3, 2) for kind in (np.int64, np.int32, np.float32)]


def _are_probes(found: Sequence[NDArray[Any]]) -> bool:
    return all(map(np.array_equal, found, _PROBES))


def _check_files(folder: Path) -> None:
    try:
        files: dict[str, str] = json.loads((folder / MANIFEST).read_text("utf-8"))["files"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        message = f"{folder / MANIFEST}: not readable ({error}). Export the repository again."
        raise DamagedVersionError(message) from error
    for name, expected in sorted(files.items()):
        path = folder / name
        if not path.is_file():
            message = f"{path}: missing. Copy the repository again, whole, or export it again."
            raise DamagedVersionError(message)
        got = _sha256(path)
        if got != expected:
            message = f"{path}: altered (sha256 {got[:12]}, expected {expected[:12]}). Export the repository again."
            raise DamagedVersionError(message)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def read_arrays(folder: Path) -> dict[str, NDArray[Any]]:
    """Every array of a version, mapped into memory, which the instances of a model share. No pickle.

    Text is Python's own, object, which each instance holds for itself.
    """
    files = sorted((folder / ARRAYS).glob("*.npy"))
    arrays = {path.stem: np.load(path, mmap_mode="r", allow_pickle=False) for path in files}
    for name in [name.removesuffix(_STARTS) for name in arrays if name.endswith(_STARTS)]:
        arrays[name] = _texts(arrays[name].tobytes(), arrays.pop(name + _STARTS).tolist())
    return arrays


def _texts(utf8: bytes, starts: Sequence[int]) -> NDArray[Any]:
    texts = (utf8[start:end].decode() for start, end in pairwise(starts))
    return np.fromiter(texts, dtype=object, count=len(starts) - 1)


def gpu_of(args: Mapping[str, str]) -> int | None:
    """The number of the GPU that Triton gives this instance; None for an instance on the CPU."""
    return int(args["model_instance_device_id"]) if args.get("model_instance_kind") == "GPU" else None


def read_limits(args: Mapping[str, str]) -> dict[str, int]:
    """The model's numeric parameters, as its config.pbtxt has them."""
    parameters = json.loads(args["model_config"]).get("parameters", {})
    return {name: int(value["string_value"]) for name, value in parameters.items()}


def require_rows(name: str, values: NDArray[Any], most: int) -> None:
    """Refuse an input with no or too many ids.

    Raises:
        BadRequestError: names the input, and the limit.
    """
    if not 1 <= len(values) <= most:
        message = f"input {name!r}: got {len(values)} ids, expected 1 to {most} in one request"
        raise BadRequestError(message)


def require_k(k: int, rows: int, limits: Mapping[str, int]) -> None:
    """Refuse a list length that is out of range, or an answer that would be too large.

    Raises:
        BadRequestError: names the limit.
    """
    if not 1 <= k <= limits["max_k"]:
        message = f"input 'k': got {k}, expected 1 to {limits['max_k']}"
        raise BadRequestError(message)
    if rows * k > limits["max_results"]:
        message = f"{rows} ids x k {k} are {rows * k} results, expected at most {limits['max_results']} in one request"
        raise BadRequestError(message)


def lookup(known: NDArray[Any], ids: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Where each id stands among ascending known ones of its kind, and whether it is there at all."""
    if not len(known):
        return np.zeros(len(ids), dtype=np.int64), np.zeros(len(ids), dtype=np.bool_)
    at = np.minimum(np.searchsorted(known, ids), len(known) - 1)
    return at, known[at] == ids


def require_known_titles(ids: NDArray[Any], known: NDArray[np.bool_], num_items: int) -> None:
    """Refuse a request with a title that the catalogue does not have.

    Raises:
        BadRequestError: names the first such id.
    """
    if not known.all():
        unknown = _short(ids[int(np.argmin(known))])
        message = f"item_id {unknown}: not among the {num_items} titles of this version ({int((~known).sum())} unknown)"
        raise BadRequestError(message)


def flat(pb_utils: Any, request: Any, name: str) -> NDArray[Any]:
    """One input of a request as a flat array; text is still bytes. DLPack carries numbers only."""
    tensor = pb_utils.get_input_tensor_by_name(request, name)
    values: NDArray[Any] = tensor.as_numpy() if shares_arrays(pb_utils) else np.from_dlpack(tensor).copy()
    return values.reshape(-1)


def flat_ids(pb_utils: Any, request: Any, name: str) -> NDArray[Any]:
    """One input of ids as a flat array: int64, or object where they are text.

    Raises:
        BadRequestError: the bytes of one are not UTF-8; names the input and the first such id.
    """
    values = flat(pb_utils, request, name)
    if values.dtype != object:
        return values
    return np.fromiter((_decoded(name, at, value) for at, value in enumerate(values)), object, len(values))


def _decoded(name: str, at: int, value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        message = f"input {name!r}: number {at + 1} is {_short(value)}, which is not UTF-8"
        raise BadRequestError(message) from error


def _short(value: Any) -> str:
    text = repr(value) if isinstance(value, (str, bytes)) else str(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def answer_each(
    pb_utils: Any, requests: Sequence[Any], answer: Callable[[Any], Mapping[str, NDArray[Any]]]
) -> list[Any]:
    """One response per request: its outputs, or the reason why it is refused. One bad request spoils no other."""
    return [_answer(pb_utils, request, answer) for request in requests]


def _answer(pb_utils: Any, request: Any, answer: Callable[[Any], Mapping[str, NDArray[Any]]]) -> Any:
    try:
        outputs = answer(request)
    except BadRequestError as error:
        return refusal(pb_utils, str(error))
    return response(pb_utils, outputs)


def response(pb_utils: Any, outputs: Mapping[str, NDArray[Any]]) -> Any:
    """An answer with the given outputs."""
    return pb_utils.InferenceResponse([_tensor(pb_utils, name, values) for name, values in outputs.items()])


def _tensor(pb_utils: Any, name: str, values: NDArray[Any]) -> Any:
    if shares_arrays(pb_utils) or not values.size:  # an array without elements has no strides that DLPack may have
        return pb_utils.Tensor(name, values)
    return pb_utils.Tensor.from_dlpack(name, np.array(values, order="C"))  # a copy: writable, with plain strides


def refusal(pb_utils: Any, reason: str) -> Any:
    """An answer that says why there is none."""
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(reason, pb_utils.TritonError.INVALID_ARG))
