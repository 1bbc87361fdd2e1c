"""Proxies as people run them: tinyproxy and Squid for HTTP CONNECT, microsocks and Dante for SOCKS5."""

from pathlib import Path

from support.certificates import Certificates
from support.netns import Namespace
from support.ports import is_listening
from support.processes import Process
from support.requirements import require_program

USER, PASSWORD = "bob", "builder"
# The same password as Unix keeps it: openssl passwd -6 -salt peerpath builder
_HASH = "$6$peerpath$FeGbdVZQdEWo/XWgvcOO9rwpu92EW6M9AUs5XFYlCPgxR2btljAKirXp3jNhjTYZLdnyUapOiRkxnBB6IYWiC1"
_SQUID = """
{listen}
acl CONNECT method CONNECT
acl denied port {denied_port}
{authentication}
http_access deny !CONNECT
http_access deny denied
http_access allow {who}
cache deny all
access_log none
cache_log /dev/stderr
pid_filename none
netdb_filename none
pinger_enable off
shutdown_lifetime 0 seconds
visible_hostname squid.test
"""
_DANTE = """
logoutput: stderr
internal: {address} port = {port}
external: {address}
clientmethod: none
socksmethod: {method}
user.privileged: root
user.unprivileged: nobody
client pass {{ from: 0.0.0.0/0 to: 0.0.0.0/0 }}
socks block {{ from: 0.0.0.0/0 to: 0.0.0.0/0 port = {denied_port} }}
socks pass {{ from: 0.0.0.0/0 to: 0.0.0.0/0 }}
"""
DENIED_PORT = 25
"""Squid and Dante connect to any port but this one."""


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


def squid(
    folder: Path,
    address: str,
    port: int,
    *,
    authentication: str = "",
    certificates: Certificates | None = None,
) -> Process:
    """HTTP CONNECT; `authentication` is "basic", "digest" or nothing. With `certificates` inside TLS."""
    listen = f"http_port {address}:{port}"
    if certificates is not None:
        files = f"tls-cert={_for_squid(certificates.chain)} tls-key={_for_squid(certificates.key)}"
        listen = f"https_port {address}:{port} {files}"
    lines = []
    if authentication:
        secrets = folder / f"squid-{port}.secrets"
        secrets.write_text(f"{USER}:{_HASH if authentication == 'basic' else PASSWORD}\n")
        helper = {"basic": "basic_ncsa_auth", "digest": "digest_file_auth"}[authentication]
        lines = [
            f"auth_param {authentication} program /usr/lib/squid/{helper} {_for_squid(secrets)}",
            f"auth_param {authentication} children 1 startup=1",
            f"auth_param {authentication} realm the office",
            "acl known proxy_auth REQUIRED",
        ]
    config = folder / f"squid-{port}.conf"
    config.write_text(
        _SQUID.format(
            listen=listen,
            denied_port=DENIED_PORT,
            authentication="\n".join(lines),
            who="known" if authentication else "all",
        )
    )
    process = Process([require_program("squid"), "-N", "-f", config])
    return process.wait_until(lambda: is_listening(address, port))


def _for_squid(path: Path) -> Path:
    """Squid reads its files as a user of its own, who has to be let in."""
    path.chmod(0o644)
    for folder in path.parents[:-2]:
        folder.chmod(folder.stat().st_mode | 0o011)
    return path


def dante(folder: Path, address: str, port: int, *, password: bool = False) -> Process:
    """SOCKS5. Dante asks the system for passwords, so it gets files of its own in their place; as root."""
    config = folder / f"danted-{port}.conf"
    method = "username" if password else "none"
    config.write_text(_DANTE.format(address=address, port=port, method=method, denied_port=DENIED_PORT))
    mounts = ""
    for name, line in (
        ("passwd", f"{USER}:x:60001:60001::/nonexistent:/usr/sbin/nologin"),
        ("shadow", f"{USER}:{_HASH}:20000:0:99999:7:::"),
    ):
        replaced = folder / f"{name}-{port}"
        replaced.write_text(Path("/etc", name).read_text() + line + "\n")
        mounts += f"mount --bind {replaced} /etc/{name} && "
    argv = ["unshare", "--mount", "sh", "-c", f"{mounts}exec {require_program('danted')} -f {config}"]
    return Process(argv).wait_until(lambda: is_listening(address, port))
