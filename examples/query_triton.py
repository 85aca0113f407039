"""Ask a running Triton server, with nothing but tritonclient and numpy.

python -m export --bundle bundle --out repository && python -m export serve repository --http-port 8000 &
python examples/query_triton.py localhost:8000 USER_ID ITEM_ID [ITEM_ID ...]
"""

from __future__ import annotations

import sys

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
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    try:
        user, *titles = np.array([int(value) for value in sys.argv[2:]], dtype=np.int64).tolist()
    except (ValueError, OverflowError) as error:
        sys.exit(f"ids are whole numbers of 64 bits ({error})")
    main(sys.argv[1], user, titles)
