"""What has to be right about several settings together, and what is allowed but should be said."""

import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address, ip_network
from pathlib import Path

from turnrelay.core.addresses import family_of
from turnrelay.settings import Settings
from turnrelay.settings.errors import Problem
from turnrelay.settings.tls import Certificate, read_certificate, read_public_key

_EXPIRY_WARNING = timedelta(days=14)
_GUESSABLE_SECRET = 16  # characters
_HARMFUL_PEERS = ("127.0.0.1", "::1", "169.254.169.254", "fd00:ec2::254")

Origins = Mapping[str, str]


def check_together(settings: Settings, origins: Origins, check_files: bool) -> Iterator[Problem]:
    """The problems between settings that are each right in themselves."""
    yield from _check_ports(settings, origins)
    yield from _check_lifetimes(settings, origins)
    yield from _check_external(settings, origins)
    yield from _check_users(settings, origins)
    yield from _check_tls_pair(settings, origins)
    yield from _check_workers(settings, origins)
    if check_files and settings.tls is not None:
        yield from _check_tls_files(*settings.tls, origins)


def warn_about(settings: Settings, origins: Origins, check_files: bool) -> Iterator[str]:
    """Sentences for the operator; nothing here keeps the relay from starting."""
    if check_files and settings.tls is not None:
        left = read_certificate(settings.tls[0]).not_after - datetime.now(UTC)
        if left < _EXPIRY_WARNING:
            yield f"{origins['tls_cert']}: the certificate expires in {left.days} days; renew it"
    if any(len(secret.get_secret_value()) < _GUESSABLE_SECRET for secret in settings.shared_secrets):
        yield (
            f"{origins['shared_secrets']}: a secret of fewer than {_GUESSABLE_SECRET} characters can be "
            "guessed by anyone who was ever given a credential; make one with: openssl rand -base64 32"
        )
    if settings.shared and settings.tls is None:
        yield (
            f"{origins['shared']}: without tls_cert there is no TLS on the shared port; "
            "that is right only behind a proxy that ends TLS itself"
        )
    for cidr in settings.allow_peer:
        network = ip_network(cidr)
        opened = [host for host in _HARMFUL_PEERS if ip_address(host) in network]
        if opened:
            yield (
                f"{origins['allow_peer']}: {cidr} lets clients reach {' and '.join(opened)}, "
                "so services of this machine or the cloud's metadata; allow a smaller range"
            )


def _check_ports(settings: Settings, origins: Origins) -> Iterator[Problem]:
    if settings.min_port > settings.max_port:
        yield Problem(
            "min_port",
            origins["min_port"],
            f"is above max_port ({settings.max_port}, {origins['max_port']}); "
            "expected the lower end of the range, for example 49152",
            str(settings.min_port),
        )
    served = [("port", settings.port)]
    if settings.tls is not None:
        served.append(("tls_port", settings.tls_port))
    if settings.http is not None:
        served.append(("http", settings.http.port))
    first_user: dict[int, str] = {}
    for key, port in served:
        if port and port in first_user:
            yield Problem(
                key,
                origins[key],
                f"port {port} is taken by {first_user[port]} ({origins[first_user[port]]}); "
                "expected a port of its own",
                str(port),
            )
        first_user.setdefault(port, key)
    # Several shared addresses may have one port, as those of both families do.
    for address in settings.shared:
        if address.port in first_user:
            key = first_user[address.port]
            message = f"port {address.port} is taken by {key} ({origins[key]}); expected a port of its own"
            yield Problem("shared", origins["shared"], message, str(address))


def _check_lifetimes(settings: Settings, origins: Origins) -> Iterator[Problem]:
    limits = settings.limits
    if limits.default_lifetime_seconds > limits.max_lifetime_seconds:
        key = "limits.default_lifetime_seconds"
        yield Problem(
            key,
            origins[key],
            f"is above max_lifetime_seconds ({limits.max_lifetime_seconds}); expected at most that",
            str(limits.default_lifetime_seconds),
        )


def _check_external(settings: Settings, origins: Origins) -> Iterator[Problem]:
    key = "external_ip"
    mapped = Counter(
        external.private or f"every {family_of(external.public).name} address"
        for external in settings.external_ip
    )
    for private, count in mapped.items():
        if count > 1:
            message = f"{count} public addresses for {private}; expected one for each"
            yield Problem(key, origins[key], message)
    for external in settings.external_ip:
        if settings.relay_ip and external.private and external.private not in settings.relay_ip:
            yield Problem(
                key,
                origins[key],
                f"{external.private} is no relay address; expected one of {', '.join(settings.relay_ip)} "
                f"({origins['relay_ip']}) after the slash",
                str(external),
            )


def _check_users(settings: Settings, origins: Origins) -> Iterator[Problem]:
    names = Counter(user.name for user in settings.users)
    for name, count in names.items():
        if count > 1:
            message = f"user {name!r} is given {count} times; expected one password for each"
            yield Problem("users", origins["users"], message)


def _check_workers(settings: Settings, origins: Origins) -> Iterator[Problem]:
    spreads_clients = sys.platform == "linux"
    if settings.worker_processes > 1 and not spreads_clients:
        message = "only Linux spreads clients over processes; expected 1 on this system"
        yield Problem("workers", origins["workers"], message, str(settings.workers))


def _check_tls_pair(settings: Settings, origins: Origins) -> Iterator[Problem]:
    for given, missing in (("tls_cert", "tls_key"), ("tls_key", "tls_cert")):
        if getattr(settings, given) is not None and getattr(settings, missing) is None:
            flag = missing.replace("_", "-")
            message = f"{missing} is missing; expected both or none (--{flag} FILE)"
            yield Problem(given, origins[given], message)


def _check_tls_files(cert: Path, key: Path, origins: Origins) -> Iterator[Problem]:
    certificate: Certificate | None = None
    public_key: bytes | None = None
    try:
        certificate = read_certificate(cert)
    except (OSError, ValueError) as error:
        yield Problem("tls_cert", origins["tls_cert"], _file_fault(error), str(cert))
    try:
        public_key = read_public_key(key)
    except (OSError, ValueError) as error:
        yield Problem("tls_key", origins["tls_key"], _file_fault(error), str(key))
    if certificate is None:
        return
    if public_key is not None and public_key != certificate.public_key:
        yield Problem(
            "tls_key",
            origins["tls_key"],
            f"is not the key of the certificate {cert}; "
            "expected the pair, the server's own certificate first in its file",
            str(key),
        )
    now = datetime.now(UTC)
    if certificate.not_after <= now:
        message = f"expired on {certificate.not_after:%Y-%m-%d}; expected a valid certificate: renew it"
        yield Problem("tls_cert", origins["tls_cert"], message, str(cert))
    elif certificate.not_before > now:
        message = f"is valid from {certificate.not_before:%Y-%m-%d %H:%M} UTC on; check this machine's clock"
        yield Problem("tls_cert", origins["tls_cert"], message, str(cert))


def _file_fault(error: OSError | ValueError) -> str:
    return f"cannot be read: {error.strerror}" if isinstance(error, OSError) else str(error)
