"""The dashboard Relay: is it well, what does it carry, and how full is it."""

from typing import Any

from panels import (
    GOOD_WHEN_LOW,
    NEUTRAL,
    SELECT,
    YES_OR_NO,
    dashboard,
    lines,
    quantile,
    rate,
    stat,
)

REQUESTS = "turnrelay_request_duration_seconds"
BYTES = "turnrelay_relayed_bytes_total"
LAG = "turnrelay_event_loop_lag_seconds"


def _gauge(metric: str, by: str = "") -> str:
    return f"sum{f' by ({by})' if by else ''} ({metric}{{{SELECT}}})"


def relay() -> dict[str, Any]:
    return dashboard(
        "turnrelay-relay",
        "turnrelay / Relay",
        "Health, load and latency of the relays.",
        [
            stat(
                "Ready",
                "Whether every relay takes new clients.",
                f"min(turnrelay_ready{{{SELECT}}})",
                "bool_yes_no",
                YES_OR_NO,
            ),
            stat(
                "Self-test",
                "Whether every relay gets the right answers from itself: Binding and Allocate over UDP.",
                f"min(turnrelay_self_test_success{{{SELECT}}})",
                "bool_yes_no",
                YES_OR_NO,
            ),
            stat(
                "Draining",
                "Relays that take no new clients and stop when those that they have are gone.",
                _gauge("turnrelay_draining"),
                "short",
                [("green", None), ("yellow", 1)],
            ),
            stat("Allocations", "Live allocations.", _gauge("turnrelay_allocations"), "short", NEUTRAL),
            stat(
                "Ports in use",
                "The fullest relay: ports in use, of those it has. Without a free port clients get 508.",
                f"max(turnrelay_relay_ports_in_use{{{SELECT}}} / turnrelay_relay_ports{{{SELECT}}})",
                "percentunit",
                GOOD_WHEN_LOW,
            ),
            stat(
                "Certificate ends in",
                "Of the certificate in use that ends first; empty where TLS is not served.",
                f"min(turnrelay_certificate_expiry_timestamp_seconds{{{SELECT}}}) - time()",
                "s",
                [("red", None), ("yellow", 14 * 86400), ("green", 30 * 86400)],
            ),
            stat(
                "Up since",
                "How long ago the relay that was started last was started.",
                f"time() - max(process_start_time_seconds{{{SELECT}}})",
                "s",
                NEUTRAL,
            ),
            lines(
                "Allocations by transport",
                "Live allocations, by how the client talks to the relay.",
                [(_gauge("turnrelay_allocations", "transport"), "{{transport}}")],
                "short",
                stacked=True,
            ),
            lines(
                "Allocations made and ended",
                "Each second, and why they ended.",
                [
                    (rate("turnrelay_allocations_created_total"), "created"),
                    (rate("turnrelay_allocations_ended_total", "reason"), "{{reason}}"),
                ],
                "cps",
            ),
            lines(
                "Throughput by plane",
                "Application data each way, by what moved it: userspace, or the kernel (xdp).",
                [
                    (
                        f"8 * {rate(BYTES, 'plane, direction')}",
                        "{{plane}} {{direction}}",
                    )
                ],
                "bps",
            ),
            lines(
                "Packets by plane",
                "Application packets each way.",
                [(rate("turnrelay_relayed_packets_total", "plane, direction"), "{{plane}} {{direction}}")],
                "pps",
            ),
            lines(
                "Throughput by transport",
                "Application data, both ways, by how the client talks to the relay.",
                [(f"8 * {rate(BYTES, 'transport')}", "{{transport}}")],
                "bps",
                stacked=True,
            ),
            lines(
                "Dropped packets",
                "Not relayed, by reason, and dropped by the kernel since a receive buffer was full.",
                [
                    (rate("turnrelay_dropped_packets_total", "reason"), "{{reason}}"),
                    (rate("turnrelay_kernel_dropped_packets_total", "socket"), "kernel, {{socket}}"),
                ],
                "pps",
            ),
            lines(
                "Requests by method",
                "Answered each second.",
                [(rate("turnrelay_requests_total", "method"), "{{method}}")],
                "reqps",
                stacked=True,
            ),
            lines(
                "Request latency",
                "From reading a request to forming its response.",
                [
                    (quantile(0.5, REQUESTS), "50 %"),
                    (quantile(0.95, REQUESTS), "95 %"),
                    (quantile(0.99, REQUESTS), "99 %"),
                ],
                "s",
            ),
            lines(
                "Request latency by method, 95 %",
                "An Allocate looks its user up and opens a port.",
                [
                    (quantile(0.95, REQUESTS, "method"), "{{method}}"),
                    (quantile(0.95, "turnrelay_allocation_setup_seconds"), "allocate that succeeded"),
                ],
                "s",
            ),
            lines(
                "Event-loop lag",
                "What a packet waits for its turn.",
                [(quantile(0.5, LAG), "50 %"), (quantile(0.99, LAG), "99 %")],
                "s",
            ),
            lines(
                "Relay ports",
                "In use or reserved, and in all.",
                [
                    (_gauge("turnrelay_relay_ports_in_use"), "in use"),
                    (_gauge("turnrelay_relay_ports"), "in all"),
                ],
                "short",
            ),
            lines(
                "Permissions and channels",
                "What the data path looks up.",
                [
                    (_gauge("turnrelay_permissions"), "permissions"),
                    (_gauge("turnrelay_channels"), "channels"),
                ],
                "short",
            ),
            lines(
                "Life of allocations",
                "Of those that ended: half and nine tenths of them lived no longer.",
                [
                    (quantile(0.5, "turnrelay_allocation_duration_seconds"), "50 %"),
                    (quantile(0.9, "turnrelay_allocation_duration_seconds"), "90 %"),
                ],
                "s",
            ),
            lines(
                "Self-test",
                "How long each check took.",
                [(f"max by (check) (turnrelay_self_test_duration_seconds{{{SELECT}}})", "{{check}}")],
                "s",
            ),
            lines(
                "Rendezvous",
                "Clients that are there, and messages between keys each second.",
                [
                    (_gauge("turnrelay_rendezvous_connections"), "clients"),
                    (rate("turnrelay_rendezvous_messages_total", more='result="delivered"'), "messages"),
                ],
                "short",
            ),
            lines(
                "Processor",
                "Cores in use, by relay.",
                [(rate("process_cpu_seconds_total", "instance"), "{{instance}}")],
                "short",
            ),
            lines(
                "Memory",
                "Resident, by relay.",
                [(_gauge("process_resident_memory_bytes", "instance"), "{{instance}}")],
                "bytes",
            ),
        ],
    )
