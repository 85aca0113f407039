"""Ask a running Triton server, with nothing but tritonclient and numpy.

python -m export --bundle bundle --out repository && python -m export serve repository --http-port 8000 &
python examples/query_triton.py localhost:8000 600 1 2 3
"""

from __future__ import annotations

import argparse

import numpy as np
import tritonclient.http as triton


def ask(client: triton.InferenceServerClient, model: str, outputs: list[str], **inputs: np.ndarray) -> list[np.ndarray]:
    """One request: named int64 or int32 arrays in, arrays out."""
    tensors = []
    for name, values in inputs.items():
        tensor = triton.InferInput(name, list(values.shape), "INT32" if values.dtype == np.int32 else "INT64")
        tensor.set_data_from_numpy(values)
        tensors.append(tensor)
    answer = client.infer(model, tensors, outputs=[triton.InferRequestedOutput(name) for name in outputs])
    return [answer.as_numpy(name) for name in outputs]


def an_id(text: str) -> int:
    """What an option gives as an id."""
    if not 0 <= int(text) < 2**63:
        message = f"got {text}, expected a whole number from 0 to 2**63 - 1"
        raise argparse.ArgumentTypeError(message)
    return int(text)


def main(url: str, user_id: int, item_ids: list[int]) -> None:
    """Rank the given titles for a user, and show the user's best ten and look-alikes of the first title."""
    client = triton.InferenceServerClient(url)
    items = np.array(item_ids, dtype=np.int64)
    (scores,) = ask(client, "rank", ["score"], user_id=np.full_like(items, user_id), item_id=items)
    print("rank:", dict(zip(item_ids, scores.ravel().round(3).tolist(), strict=True)))
    ten = np.array([10], dtype=np.int32)
    best, _ = ask(client, "recommend", ["item_id", "score"], user_id=np.array([user_id], dtype=np.int64), k=ten)
    print("recommend:", best[0].tolist())
    alike, _ = ask(client, "similar_items", ["item_id", "score"], item_id=items[:1], k=ten)
    print(f"like {item_ids[0]}:", alike[0].tolist())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", help="host:port of the server's HTTP")
    parser.add_argument("user_id", type=an_id)
    parser.add_argument("item_ids", type=an_id, nargs="+")
    main(**vars(parser.parse_args()))
