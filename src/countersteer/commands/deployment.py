"""`countersteer export` and `countersteer serve`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

from tyro.conf import arg

from countersteer.commands.flags import Json, Run, UserRecipe, Written, keep_numbers, modules
from countersteer.errors import reading
from countersteer.ranges import Range
from countersteer.storage.files import read_bytes

__all__ = ["export", "serve"]


def export(
    run: Run, *, out: Annotated[Path, Written.FILE], json: Json = None, recipe: UserRecipe = None
) -> None:
    """Write a run's policy as an ONNX file, checked against PyTorch.

    Args:
        out: File to write, for example policy.onnx.
    """
    from countersteer.policies.storage import load_policy
    from countersteer.serving.export import export_policy

    policy, written = load_policy(run, modules(recipe))
    exported = export_policy(policy, out, {name: written[name] for name in ("recipe", "seed", "environment")})
    print(f"{exported}\nwrote {out}")
    keep_numbers(json, exported.to_json())


def serve(
    run: Run,
    *,
    port: Annotated[int, Range("[0, 65535]")] = 50051,
    host: str = "127.0.0.1",
    set_speed: Annotated[float, Range("(0, 100)")] = 10.0,
    tls_certificate: Annotated[Path | None, arg(metavar="FILE")] = None,
    tls_key: Annotated[Path | None, arg(metavar="FILE")] = None,
    token_file: Annotated[Path | None, arg(metavar="FILE")] = None,
    recipe: UserRecipe = None,
) -> None:
    """Drive AlpaSim's car with a run's policy, over gRPC.

    Args:
        port: Where to listen; 0 for a free one.
        host: 0.0.0.0 for everybody; then give TLS and a token.
        set_speed: Asked for by the passenger [m/s].
        tls_certificate: The server's certificate, PEM; with its key.
        tls_key: The private key, PEM.
        token_file: File with one line that callers have to send: `authorization: Bearer LINE`.
    """
    import signal
    import threading

    import torch

    from countersteer.policies.storage import load_policy
    from countersteer.serving.alpasim import serving
    from countersteer.serving.listening import Listening

    where = Listening(host, port, tls_certificate, tls_key, _token(token_file))
    policy, written = load_policy(run, modules(recipe))
    torch.set_num_threads(1)  # sessions share the cores
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    name = f"{written['recipe']} seed {written['seed']}"
    with serving(policy, name, where, set_speed=set_speed) as (bound, _):
        at = dataclasses.replace(where, port=bound).address
        print(f"{name} drives at {at}; ctrl-c ends it", flush=True)
        stop.wait()


def _token(file: Path | None) -> str | None:
    if file is None:
        return None
    with reading(file, "cannot be read", expected="a file with one line of ASCII", fix=None):
        return read_bytes(file, 1 << 16).decode("ascii").strip()
