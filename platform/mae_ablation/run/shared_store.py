"""A file in the store by which a lane on another machine knows that it is the same store."""

import json
import time
import uuid

from mae_ablation.store.files import MARKER, files_at

MARKER_SETTLE_S = 1.0  # another run may write it in the same moment


def store_id(store: str) -> str:
    """Return the store's own name, which is written once. Raises OSError."""
    files = files_at(store)
    if files.read(MARKER) is None:
        files.write(MARKER, json.dumps({"id": uuid.uuid4().hex}).encode() + b"\n")
        time.sleep(MARKER_SETTLE_S)
    return json.loads(files.read(MARKER))["id"]


def sharing_error(store: str, wanted: str) -> str | None:
    """Say why the store at this place, seen from here, is not the one wanted; None: it is.

    Args:
        wanted: the `store_id` that the driver sees.
    """
    import ray

    files = files_at(store)
    files.refresh()
    found = files.read(MARKER)
    if found is not None and json.loads(found)["id"] == wanted:
        return None
    node = ray.util.get_node_ip_address()
    return f"the store {store} is not shared with node {node}: use a shared folder or s3://"
