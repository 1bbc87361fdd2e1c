"""make_plan: from both sides' NATs and the policy to strategies in order, with chances and reasons."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from peerpath.nat.behaviour import Dependence, NatBehaviour, PortAssignment
from peerpath.nat.compatibility import Method, predict
from peerpath.plan.policy import Policy
from peerpath.plan.strategy import ConnectionPlan, LeftOut, Side, Step, Strategy
from peerpath.predict.pattern import Pattern, PortPattern
from peerpath.punch.tactics import NoTactic, Tactic, choose_tactic
from peerpath.settings import Fallback

# Priors, for where nothing is known. Ford, Srisuresh and Kegel (2005) saw 82 % of the NATs of the day let UDP
# be punched and 64 % TCP; either takes both sides. About half of home routers forward ports when asked.
_UDP_WHERE_UNKNOWN = 0.82**2
_TCP_WHERE_UNKNOWN = 0.64**2
_MAPS_PORTS = 0.5

_CERTAIN = 0.98
_DOUBTFUL = 0.02
"""By the rules it can't be, but rules are measured."""
_RELAY, _TUNNEL, _PROXY, _ONION = 0.99, 0.97, 0.95, 0.9
_TCP_RELAY = 0.9
"""Where it is asked for, the operator is taken to offer it: what is left is that the peer takes part."""

_RELAY_OF_BOTH_FAMILIES = 0.9
"""Where each side has another version of IP: most relays have both."""

_Verdict = tuple[int, float, str] | str
"""Stage, chance and reason; or why it is left out."""

_FALLBACKS = {
    Strategy.RELAY: Fallback.TURN,
    Strategy.TCP_RELAY: Fallback.TCP_RELAY,
    Strategy.TUNNEL: Fallback.HTTP_TUNNEL,
    Strategy.PROXY: Fallback.PROXY,
    Strategy.ONION: Fallback.ONION,
}
_LACKS = {
    Strategy.RELAY: "no TURN server is configured",
    Strategy.TCP_RELAY: "no TURN server for TCP is configured: turns: or ?transport=tcp is wanted",
    Strategy.TUNNEL: "no relay is known that has an HTTP tunnel",
    Strategy.PROXY: "no proxy is configured for a server over TCP, and the system names none",
    Strategy.ONION: "no SOCKS port of Tor is configured, or no server over TCP",
}
_FALLBACK_CHANCES = {
    Strategy.RELAY: _RELAY,
    Strategy.TCP_RELAY: _TCP_RELAY,
    Strategy.TUNNEL: _TUNNEL,
    Strategy.PROXY: _PROXY,
    Strategy.ONION: _ONION,
}
_NOTHING_ELSE = "for networks that let nothing else out"
_FALLBACK_REASONS = {
    Strategy.TCP_RELAY: "for relays that carry no UDP, and peers that are reached over TCP alone"
}


def make_plan(ours: Side, theirs: Side, policy: Policy) -> ConnectionPlan:
    """The same for both sides where they have the same policy. Order: by stage, then by the better path."""
    steps: list[Step] = []
    left_out: list[LeftOut] = []
    for strategy in Strategy:
        verdict = _verdict(strategy, ours, theirs, policy)
        if isinstance(verdict, str):
            left_out.append(LeftOut(strategy, verdict))
        else:
            steps.append(Step(strategy, *verdict))
    return ConnectionPlan(tuple(sorted(steps, key=lambda step: step.stage)), tuple(left_out))


def _verdict(strategy: Strategy, ours: Side, theirs: Side, policy: Policy) -> _Verdict:
    if policy.onion_only and strategy is not Strategy.ONION:
        return "everything goes through Tor (onion_only)"
    if strategy.is_direct:
        if policy.relay_only:
            return "relay_only is set: the peer learns no address of this machine"
        if not policy.is_trusted:
            return "the peer is not trusted with an address of this machine"
        if strategy is not Strategy.ICE and not policy.automatic:
            return "automatic is off in the settings"
        if apart := _apart(ours, theirs):
            return apart
        return _DIRECT_WAYS[strategy](ours, theirs, policy)
    return _fallback(strategy, ours, theirs, policy)


# -- direct -------------------------------------------------------------------------------------------------


def _ice(ours: Side, theirs: Side, policy: Policy) -> _Verdict:
    blocked = _blocked(ours, theirs)
    if blocked:
        return blocked
    if ours.has_ipv6 and theirs.has_ipv6:
        return 0, _CERTAIN, "both sides have global IPv6 addresses"
    if not policy.automatic:
        return 0, _DOUBTFUL, "only addresses of this host: automatic is off in the settings"
    method = predict(ours.behaviour, theirs.behaviour)
    if method is Method.DIRECT:
        return 0, _CERTAIN, "one side is reached at its public address as it is"
    if method is Method.HOLE_PUNCHING:
        return 0, _CERTAIN, "both sides open their NATs for each other"
    if _is_known(ours) and _is_known(theirs):
        return 0, _DOUBTFUL, "by what is known of the NATs no plain check gets through"
    return 0, _UDP_WHERE_UNKNOWN, "too little is known of the NATs: as often as NATs let it"


def _port_mapping(ours: Side, theirs: Side, policy: Policy) -> _Verdict:
    blocked = _blocked(ours, theirs)
    if blocked:
        return blocked
    if not policy.port_mapping:
        return "port_mapping is off in the settings"
    if ours.maps_ports or theirs.maps_ports:
        return 0, _CERTAIN, "a router has forwarded a port"
    if ours.maps_ports is False and theirs.maps_ports is False:
        return "neither router forwards ports"
    unasked = [side for side in (ours, theirs) if side.maps_ports is None]
    sides = [side for side in unasked if side.behaviour.translated is not False]
    if not sides:
        return "nothing is translated, so a forwarded port would lead nowhere new"
    return 0, 1 - (1 - _MAPS_PORTS) ** len(sides), "as often as home routers do it"


def _hard_nat(ours: Side, theirs: Side) -> Tactic | PortPattern | str:
    """What punching through a hard NAT would rest on: samples where there are some, else what is known."""
    blocked = _blocked(ours, theirs)
    if blocked:
        return blocked
    if ours.punch is not None and theirs.punch is not None:
        decision = choose_tactic(ours.punch, theirs.punch)
        return decision.reason if isinstance(decision, NoTactic) else decision
    method = predict(ours.behaviour, theirs.behaviour)
    if method in (Method.DIRECT, Method.HOLE_PUNCHING):
        return "plain checks connect the two"
    hard = [side for side in (ours, theirs) if side.behaviour.mapping is not Dependence.ENDPOINT_INDEPENDENT]
    if len(hard) == 2:
        if all(side.behaviour.port_assignment is PortAssignment.SEQUENTIAL for side in hard):
            return PortPattern(Pattern.INCREMENT)
        if all(_is_known(side) for side in hard):
            return "both NATs give each destination another port: each guess would change the other side's"
        return "samples of both NATs are wanted first"
    counts = hard[0].behaviour.port_assignment is PortAssignment.SEQUENTIAL
    return PortPattern(Pattern.INCREMENT if counts else Pattern.RANDOM)


def _prediction(ours: Side, theirs: Side, policy: Policy) -> _Verdict:
    found = _hard_nat(ours, theirs)
    if isinstance(found, str):
        return found
    pattern = found.pattern if isinstance(found, Tactic) else found
    if pattern.kind is not Pattern.INCREMENT:
        return f"the ports are {pattern.kind.value}: there is no next one to foretell"
    chance = found.chance if isinstance(found, Tactic) else pattern.chance(1, 1)
    return 1, chance, "the next port of the NAT is foretold from its last ones"


def _birthday(ours: Side, theirs: Side, policy: Policy) -> _Verdict:
    found = _hard_nat(ours, theirs)
    if isinstance(found, str):
        return found
    pattern = found.pattern if isinstance(found, Tactic) else found
    if pattern.kind is Pattern.INCREMENT:
        return "not needed: the ports are foretold"
    sockets, probes = policy.punching.sockets, policy.punching.probes
    if isinstance(found, Tactic):
        sockets, probes = found.sockets, found.probes
    chance = pattern.chance(sockets, probes)
    return 1, chance, f"{sockets} sockets against {probes} guesses at {pattern.kind.value} ports"


def _tcp(ours: Side, theirs: Side, policy: Policy) -> _Verdict:
    if not policy.tcp:
        return "tcp is off in the settings"
    if not _blocked(ours, theirs):
        if _udp_passes(ours) and _udp_passes(theirs):
            return "UDP passes on both sides"
        return "only where UDP turns out not to pass, which is not known yet"
    chance = _TCP_WHERE_UNKNOWN
    if predict(_as_if_udp_passed(ours), _as_if_udp_passed(theirs)) is Method.DIRECT:
        chance = _CERTAIN
    return 0, chance, "no UDP passes on a side: as often as NATs let TCP be opened from both sides"


_DIRECT_WAYS: dict[Strategy, Callable[[Side, Side, Policy], _Verdict]] = {
    Strategy.ICE: _ice,
    Strategy.PORT_MAPPING: _port_mapping,
    Strategy.PREDICTION: _prediction,
    Strategy.BIRTHDAY: _birthday,
    Strategy.TCP: _tcp,
}


# -- through somebody else ----------------------------------------------------------------------------------


def _fallback(strategy: Strategy, ours: Side, theirs: Side, policy: Policy) -> _Verdict:
    fallback = _FALLBACKS[strategy]
    if not policy.automatic:
        return "automatic is off in the settings"
    if fallback not in policy.fallbacks:
        return "fallbacks in the settings leave it out"
    if not policy.has(fallback):
        return _LACKS[strategy]
    if strategy is Strategy.RELAY:
        if _apart(ours, theirs):
            return 0, _RELAY_OF_BOTH_FAMILIES, "a relay with IPv4 and IPv6 addresses reaches both sides"
        # Data flows there from the beginning, and the direct ways are looked for underneath.
        return 0, _RELAY, "a relay carries the data until there is a direct path"
    usable = [each for each in policy.fallbacks if policy.has(each)]
    # Side by side with the relay only where it is likely to be needed.
    blocked = _blocked(ours, theirs) or _apart(ours, theirs)
    first = 1 if blocked or fallback is usable[0] else 2
    place = sum(each is not Fallback.TURN for each in usable[: usable.index(fallback)])
    return first + place, _FALLBACK_CHANCES[strategy], _FALLBACK_REASONS.get(strategy, _NOTHING_ELSE)


# -- what is known ------------------------------------------------------------------------------------------


def _blocked(ours: Side, theirs: Side) -> str:
    for side, whose in ((ours, "this side"), (theirs, "the peer's side")):
        if side.behaviour.udp_blocked:
            return f"no UDP passes on {whose}"
    return ""


def _apart(ours: Side, theirs: Side) -> str:
    """Why no address of the one side can be paired with one of the other's."""
    if not ours.families or not theirs.families or ours.families & theirs.families:
        return ""
    [here], [there] = ours.families, theirs.families
    return f"this side has IPv{here} alone, and the peer's side IPv{there} alone"


def _udp_passes(side: Side) -> bool:
    sampled = side.punch is not None and side.punch.host is not None
    return sampled or _is_known(side) or side.behaviour.translated is not None


def _is_known(side: Side) -> bool:
    return side.behaviour.mapping is not Dependence.UNKNOWN


def _as_if_udp_passed(side: Side) -> NatBehaviour:
    return replace(side.behaviour, udp_blocked=False)
