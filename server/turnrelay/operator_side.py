"""What the HTTP side has for the operator: API, console, test page; put together from their parts."""

import time
from collections.abc import Iterator

import structlog

from turnrelay import __version__
from turnrelay.policy.errors import OperatorError
from turnrelay.policy.operator_access import OperatorAccess
from turnrelay.policy.secret_file import OPERATOR_TOKEN, load_or_create_secret
from turnrelay.relay_parts import RelayParts
from turnrelay.settings import Settings
from turnrelay.settings.tls import Certificate
from turnrelay.web.application import RouteGroup
from turnrelay.web.client_addresses import ClientAddresses
from turnrelay.web.connection_test import CertificateFacts, ConnectionTest
from turnrelay.web.credentials import CredentialMint, Credentials
from turnrelay.web.desk import Desk
from turnrelay.web.events import Events
from turnrelay.web.failures import RecentFailures
from turnrelay.web.live import LiveFigures, Node
from turnrelay.web.operator import OperatorGate
from turnrelay.web.pages import Pages
from turnrelay.web.sessions import Sessions
from turnrelay.web.whole_relay import WholeRelay


def operator_features(parts: RelayParts) -> Iterator[RouteGroup]:
    """The features, which share one gate; sampling for the console begins."""
    settings, driver = parts.settings, parts.driver
    clients = ClientAddresses(settings.trusted_proxy)
    gate = OperatorGate(OperatorAccess(_operator_token(settings)), clients, time.monotonic)
    mint = CredentialMint(
        parts.shared_secrets, settings.realm, parts.uris, settings.limits.credential_ttl_seconds, time.time
    )
    relay = WholeRelay(make_desk(parts), parts.ask_others)
    ports = sum(size for _, size in driver.plane.ports())
    node = Node(__version__, parts.plane_name, time.time(), ports)
    figures = LiveFigures(node, relay, parts.readiness, parts.metrics.traversal.by_outcome, time.time)
    figures.start()
    yield gate
    yield Credentials(mint, parts.outcome_tokens, gate)
    yield Sessions(relay, gate)
    yield Events(figures, gate)
    yield Pages(with_test_page=settings.test_page != "off")
    if settings.test_page != "off":
        yield ConnectionTest(
            is_open=settings.test_page == "open",
            mint=mint,
            gate=gate,
            clients=clients,
            clock=time.monotonic,
            certificate=lambda: _certificate_facts(parts.certificate()),
            relay_hosts=[host.advertised for host in parts.hosts],
        )


def make_desk(parts: RelayParts) -> Desk:
    """What this process tells of itself; it counts failures from now on."""
    driver, failures = parts.driver, RecentFailures(time.time)
    driver.observe(failures.observe)
    with_identities = parts.settings.session_details == "full"
    return Desk(driver.server.state, driver.plane, failures, driver.end, driver.clock, with_identities)


def operator_token_place(settings: Settings) -> str:
    """Where the operator finds the token, in words."""
    if settings.operator_token is not None:
        return "as configured"
    return f"{settings.data_dir / OPERATOR_TOKEN} (turnrelay token prints it)"


def _operator_token(settings: Settings) -> str | None:
    """The token, made now if there is none; None, and nobody is the operator, where it cannot be kept."""
    if settings.operator_token is not None:
        return settings.operator_token.get_secret_value()
    try:
        return load_or_create_secret(settings.data_dir, OPERATOR_TOKEN)
    except OperatorError as error:
        # A relay with configured credentials needs no directory of its own, and relays all the same.
        structlog.get_logger().warning("nobody can use the operator's API and console", reason=str(error))
        return None


def _certificate_facts(certificate: Certificate | None) -> CertificateFacts | None:
    if certificate is None:
        return None
    return CertificateFacts((*certificate.names, *certificate.addresses), certificate.not_after.timestamp())
