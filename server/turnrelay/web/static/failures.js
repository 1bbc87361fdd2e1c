// What a failure means and what to do about it, by the kinds and reasons of the relay.

const WORDS = {
  "authentication:incomplete": ["Incomplete authentication", "A client sends half of what is needed; it may be broken."],
  "authentication:bid_down": ["Weaker security than offered", "Something between client and relay changes messages, or a client is broken."],
  "authentication:unknown_user": ["Unknown user or expired credential", "Check that the chat server uses this relay's shared secret, and that both clocks are right."],
  "authentication:wrong_password": ["Wrong password", "Check that the chat server uses this relay's shared secret; many at once may be somebody guessing."],
  "authentication:wrong_user": ["Request for another user's session", "A client changed its credential in the middle of a session."],
  "allocation:allocations_per_user": ["A user's sessions are used up", "Raise limits.allocations_per_user if that user needs more."],
  "allocation:allocations_per_prefix": ["A network's sessions are used up", "Raise limits.allocations_per_prefix if many clients share one address."],
  "allocation:allocations_total": ["The relay is full", "Raise limits.allocations_total or widen the port range."],
  "allocation:draining": ["A session asked for while the relay drains", "Usual before a stop: hand out the URIs of other relays."],
  "allocation:relay_ports": ["No port was free, or the system gave no socket", "Widen the range from min_port to max_port, or raise the limit of open files (LimitNOFILE)."],
  "allocation:allocation_exists": ["A second session on one connection", "A client is broken, or a NAT gave its port to another client."],
  "allocation:client_address": ["A client that may not allocate", "It comes from an address that no client can have."],
  "allocation:reservation_token": ["A reserved port that is gone", "The client came too late for it."],
  "allocation:address_family": ["An address family that is not relayed", "Add a relay address of that family if clients need it."],
  "allocation:relayed_transport": ["A transport that is not relayed", "The client asks for something other than UDP."],
  "allocation:unknown_attribute": ["A request that is not understood", "The client asks for an extension that this relay does not have."],
  "allocation:bad_request": ["A malformed request", "A client is broken."],
  "peer:special_purpose": ["Peer in a private or special range", "Usual: WebRTC offers local addresses too. Allow a range with allow_peer only if clients must reach it."],
  "peer:local_address": ["Peer is this machine", "Usual for clients behind the relay's own NAT; otherwise somebody is probing."],
  "peer:own_port": ["Peer is a port of the relay", "Somebody may be probing."],
  "peer:operator": ["Peer denied by deny_peer", "As you configured."],
  "rate:unauthenticated": ["Too many unauthenticated requests", "A flood, or very many clients behind one address: see limits.unauthenticated_per_prefix_per_second."],
  "rate:requests": ["Too many requests on one session", "A client is broken, or retries without pause."],
};

export function explain({ kind, reason }) {
  const [title, advice] = WORDS[`${kind}:${reason}`] ?? [`${kind} refused: ${reason}`, ""];
  return { title, advice };
}
