"""Proxies as people run them: tinyproxy for HTTP CONNECT, microsocks for SOCKS5."""

from pathlib import Path

from support.netns import Namespace
from support.ports import is_listening
from support.processes import Process
from support.requirements import require_program

USER, PASSWORD = "bob", "builder"


def tinyproxy(
    folder: Path,
    address: str,
    port: int,
    *,
    password: bool = False,
    namespace: Namespace | None = None,
) -> Process:
    """HTTP CONNECT to any port. Ready when it returns on loopback; in a namespace wait for yourself."""
    lines = [f"Port {port}", f"Listen {address}", "Timeout 600", "MaxClients 50"]
    if password:
        lines.append(f"BasicAuth {USER} {PASSWORD}")
    config = folder / f"tinyproxy-{port}.conf"
    config.write_text("\n".join([*lines, ""]))
    process = Process([require_program("tinyproxy"), "-d", "-c", config], namespace=namespace)
    return process if namespace else process.wait_until(lambda: is_listening(address, port))


def microsocks(
    address: str, port: int, *, password: bool = False, namespace: Namespace | None = None
) -> Process:
    """SOCKS5 to any port, names too."""
    who = ["-u", USER, "-P", PASSWORD] if password else []
    argv = [require_program("microsocks"), "-i", address, "-p", str(port), *who]
    process = Process(argv, namespace=namespace)
    return process if namespace else process.wait_until(lambda: is_listening(address, port))
