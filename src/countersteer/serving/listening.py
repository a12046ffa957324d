"""Where a server listens, and who may talk to it: a port that is ours alone, TLS, a token."""

from __future__ import annotations

import errno
import hmac
import ipaddress
import logging
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from countersteer.errors import MissingExtraError, UserError
from countersteer.ranges import Range, Ranged
from countersteer.storage.files import read_bytes

try:
    import grpc
except ModuleNotFoundError as error:
    raise MissingExtraError("carla-driver-interface", "bridges") from error

__all__ = ["Listening", "TokenCheck", "listening"]

_log = logging.getLogger("countersteer")


@dataclass(frozen=True)
class Listening(Ranged):
    """Where a server listens.

    Attributes:
        host: Name or address, IPv4 or IPv6; 0.0.0.0 or :: for everybody.
        port: 0 takes a free one.
        certificate, key: Files in PEM form of the server's certificate and its private key; both or none.
        token: What every caller has to know: it sends `authorization: Bearer TOKEN`. None lets everybody talk.

    Raises:
        UserError: The port is out of range, one of certificate and key is missing or cannot be read, the token is empty.
    """

    host: str = "127.0.0.1"
    port: Annotated[int, Range("[0, 65535]")] = 0
    certificate: Path | None = None
    key: Path | None = None
    token: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.host.isprintable() or " " in self.host:
            raise UserError(
                "the server cannot listen on such a host",
                got=repr(self.host),
                expected="a name or an address",
            )
        if (self.certificate is None) is not (self.key is None):
            raise UserError(
                "TLS needs a certificate and its key",
                got="one of them",
                fix="give both --tls-certificate and --tls-key",
            )
        if self.token is not None and not (self.token.isascii() and self.token.isprintable() and self.token):
            raise UserError("the token is none", got="empty, or not printable ASCII", expected="one line")

    @property
    def address(self) -> str:
        """Host and port as gRPC wants them."""
        bare = self.host.strip("[]")
        return f"[{bare}]:{self.port}" if ":" in bare else f"{bare}:{self.port}"

    @property
    def is_local(self) -> bool:
        """Whether only this machine can call."""
        bare = self.host.strip("[]")
        try:
            return ipaddress.ip_address(bare).is_loopback
        except ValueError:
            return bare == "localhost"

    def credentials(self) -> grpc.ServerCredentials | None:
        """The certificate and key, or None for none."""
        if self.certificate is None or self.key is None:
            return None
        return grpc.ssl_server_credentials([(_read(self.key), _read(self.certificate))])


def _read(path: Path) -> bytes:
    content = read_bytes(path, 1 << 20)
    if b"-----BEGIN" not in content:
        raise UserError(f"{path} is no certificate or key", expected="a file in PEM form")
    return content


def _taken(where: Listening) -> bool:
    """Whether somebody listens at this port on any of the addresses that a caller of the host may reach."""
    bare = where.host.strip("[]")
    reached = {"::": ["::", "::1", "127.0.0.1"], "0.0.0.0": ["0.0.0.0", "127.0.0.1"]}.get(bare, [bare])
    for each in reached if where.port else []:
        try:
            found = socket.getaddrinfo(each, where.port, type=socket.SOCK_STREAM)
        except (OSError, ValueError):  # a name that gRPC refuses, or knows otherwise
            continue
        for family, kind, protocol, _, address in found:
            try:
                with socket.socket(family, kind, protocol) as probe:
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, int(os.name == "posix"))
                    if family == socket.AF_INET6:
                        probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                    probe.bind(address)
            except OSError as error:  # no IPv6 on this machine, for example
                if error.errno == errno.EADDRINUSE:
                    return True
    return False


@contextmanager
def listening(where: Listening, server: grpc.Server) -> Iterator[int]:
    """Serve while the block runs; gives the port.

    Raises:
        UserError: The port cannot be had, for example because another server has it, or the certificate is not one.
    """
    credentials = where.credentials()
    if not where.is_local and (credentials is None or where.token is None):
        missing = [
            *(["TLS (--tls-certificate, --tls-key)"] if credentials is None else []),
            *(["a token (--token-file)"] if where.token is None else []),
        ]
        _log.warning(
            "anybody who reaches %s can talk to the policy; missing: %s", where.host, ", ".join(missing)
        )
    try:
        if _taken(where):  # gRPC is content with one of several addresses, and others answer at the rest
            bound = 0
        elif credentials is None:
            bound = server.add_insecure_port(where.address)
        else:
            bound = server.add_secure_port(where.address, credentials)
    except RuntimeError:
        bound = 0
    if not bound:
        raise UserError(
            "the server cannot listen there",
            got=where.address,
            expected="a free port of this machine"
            + ("" if credentials is None else ", a certificate and its key"),
            fix="choose another --port, or 0 for a free one",
        )
    server.start()
    try:
        yield bound
    finally:
        server.stop(grace=1.0).wait()


class TokenCheck(grpc.ServerInterceptor):
    """Refuses calls that do not bring the token."""

    def __init__(self, token: str):
        self._expected = f"Bearer {token}".encode()

        def refuse(_: Any, context: grpc.ServicerContext) -> None:
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "send the token: authorization: Bearer TOKEN")

        self._refusal = grpc.unary_unary_rpc_method_handler(refuse)

    def intercept_service(self, continuation: Callable[[Any], Any], handler_call_details: Any) -> Any:
        """The call itself, or a refusal."""
        given = dict(handler_call_details.invocation_metadata).get("authorization", "")
        given = given if isinstance(given, bytes) else given.encode("utf-8", "replace")
        return (
            continuation(handler_call_details)
            if hmac.compare_digest(given, self._expected)
            else self._refusal
        )
