"""A guard that Python installs at start-up where this folder is on PYTHONPATH: no way off this machine.

Whoever connects to, or looks up, another host gets an ``OSError``, and a line in the file named by
the environment variable NETWORK_ATTEMPTS; for a library may well swallow the error. What an unpickler
looks up is written to the file named by UNPICKLED.
"""

import ipaddress
import os
import socket
import sys
import traceback
from typing import Any


def is_local(host: Any) -> bool:
    """Whether a host's name or address means this machine."""
    if isinstance(host, bytes):
        host = host.decode()
    if host in (None, "", "localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def refuse(what: str, host: Any) -> None:
    """Write the attempt down, with where it was made, and fail."""
    with open(os.environ["NETWORK_ATTEMPTS"], "a", encoding="utf-8") as file:
        file.write(f"{what} {host!r}\n{''.join(traceback.format_stack(limit=12))}\n")
    raise OSError(f"the network guard refuses {what} {host!r}")


def checked(name: str) -> Any:
    """The socket method ``name``, for local addresses only."""
    original = getattr(socket.socket, name)

    def method(self: socket.socket, *arguments: Any) -> Any:
        address = arguments[-1]
        if self.family != socket.AF_UNIX and isinstance(address, tuple) and not is_local(address[0]):
            refuse(name, address)
        return original(self, *arguments)

    return method


def looked_up(name: str) -> Any:
    """The look-up ``name``, for local hosts only."""
    original = getattr(socket, name)

    def function(host: Any, *arguments: Any, **options: Any) -> Any:
        if not is_local(host):
            refuse(name, host)
        return original(host, *arguments, **options)

    return function


def witness(event: str, arguments: tuple[Any, ...]) -> None:
    """Write down every class or function that an unpickler looks up, with where."""
    if event == "pickle.find_class":
        with open(os.environ["UNPICKLED"], "a", encoding="utf-8") as file:
            file.write(f"{arguments[0]}.{arguments[1]}\n{''.join(traceback.format_stack(limit=12))}\n")


sys.addaudithook(witness)
for method_name in ("connect", "connect_ex", "sendto"):
    setattr(socket.socket, method_name, checked(method_name))
for function_name in ("getaddrinfo", "gethostbyname", "gethostbyname_ex"):
    setattr(socket, function_name, looked_up(function_name))
