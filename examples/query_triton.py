"""Ask a running Triton server, with nothing but tritonclient and numpy.

python -m export --bundle bundle --out repository && python -m export serve repository --http-port 8000 &
python examples/query_triton.py localhost:8000 600 1 2 3
"""

import argparse

import numpy as np
import tritonclient.http as triton
from tritonclient.utils import np_to_triton_dtype


def ask(client: triton.InferenceServerClient, model: str, outputs: list[str], **inputs: np.ndarray) -> list[np.ndarray]:
    """One request: named int64, int32 or text (object) arrays in, arrays out."""
    tensors = []
    for name, values in inputs.items():
        tensor = triton.InferInput(name, list(values.shape), np_to_triton_dtype(values.dtype))
        tensor.set_data_from_numpy(values)
        tensors.append(tensor)
    answer = client.infer(model, tensors, outputs=[triton.InferRequestedOutput(name) for name in outputs])
    return [answer.as_numpy(name) for name in outputs]


def ids_for(client: triton.InferenceServerClient, name: str, given: list[str]) -> np.ndarray:
    """Ids as the served models want ``user_id`` or ``item_id``: text where they say BYTES, else whole numbers."""
    types = {tensor["name"]: tensor["datatype"] for tensor in client.get_model_metadata("rank")["inputs"]}
    if types[name] == "BYTES":
        return np.array(given, dtype=object)
    if wrong := [text for text in given if not (text.isdecimal() and int(text) < 2**63)]:
        raise SystemExit(f"{name}: got {wrong[0]}, expected a whole number from 0 to 2**63 - 1")
    return np.array(given, dtype=np.int64)


def shown(ids: np.ndarray) -> list[int | str]:
    """Ids of an answer; text comes as the bytes of its UTF-8."""
    return [each.decode() if isinstance(each, bytes) else each for each in ids.tolist()]


def main(url: str, user_id: str, item_ids: list[str]) -> None:
    """Rank the given items for a user, and show the user's best ten and look-alikes of the first item."""
    client = triton.InferenceServerClient(url)
    user, items = ids_for(client, "user_id", [user_id]), ids_for(client, "item_id", item_ids)
    (scores,) = ask(client, "rank", ["score"], user_id=np.repeat(user, len(items)), item_id=items)
    print("rank:", dict(zip(items.tolist(), scores.ravel().round(3).tolist(), strict=True)))
    ten = np.array([10], dtype=np.int32)
    best, _ = ask(client, "recommend", ["item_id", "score"], user_id=user, k=ten)
    print("recommend:", shown(best[0]))
    alike, _ = ask(client, "similar_items", ["item_id", "score"], item_id=items[:1], k=ten)
    print(f"like {item_ids[0]}:", shown(alike[0]))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", help="host:port of the server's HTTP")
    parser.add_argument("user_id")
    parser.add_argument("item_ids", nargs="+")
    main(**vars(parser.parse_args()))
