// What a failed test means, in words for whoever runs the relay.

const LOSS_WORTH_A_WORD = 0.05;

export function partsOf(uri) {
  const found = /^(turns?):(\[[^\]]+\]|[^:?]+):(\d+)(?:\?transport=(udp|tcp))?$/.exec(uri);
  const [, scheme, host, port, transport = "udp"] = found;
  return { host: host.replace(/^\[|\]$/g, ""), port, over: scheme === "turns" ? "tls" : transport };
}

const isAddress = (host) => /^[\d.]+$|:/.test(host);
const isLoopback = (host) => host === "localhost" || host === "::1" || host.startsWith("127.");

const CODES = {
  401: "The relay refused the credential that was just made for this test. Either another relay answers at this address (check DNS and --external-ip), or the nodes behind it do not have the same shared_secrets.",
  403: "The relay refuses clients that come from this network's address.",
  437: "The relay takes the request for a repetition; try again in a minute.",
  441: "Another relay answers at this address: it does not know the credential. Check DNS and --external-ip.",
  486: "The limit of sessions for one user or network is reached: see limits.allocations_per_user and limits.allocations_per_prefix.",
  508: "The relay has no room for another session: widen min_port to max_port, raise limits.allocations_total or the limit of open files (LimitNOFILE).",
};

// One sentence or two for a result that did not pass, or that passed with something to mend; else null.
export function advise(result, { results, facts, pageHost, now }) {
  if (result.stage === "passed") return adviseOnSuccess(result, { facts, pageHost });
  if (result.stage === "gathering") return adviseOnNoCandidate(result, { results, facts, pageHost, now });
  if (result.stage === "connecting") {
    return "The relay gave an address, but no data passes through it. Open UDP ports min_port to max_port (49152 to 65535) to the relay, and check that --external-ip is its public address.";
  }
  return "Data passed and then stopped. The way to the relay is bad, or a limit of bandwidth is very low.";
}

function adviseOnSuccess({ lossShare }, { facts, pageHost }) {
  if (lossShare > LOSS_WORTH_A_WORD) {
    return "It works, yet many packets are lost. Look for an overloaded line or relay; calls will sound broken.";
  }
  if (facts.relay_addresses_private && isAddress(pageHost) && !isPrivate(pageHost)) {
    return "It works between clients of this relay, but its relayed addresses are private, so nobody else reaches them. Set --external-ip to the public address.";
  }
  return null;
}

function adviseOnNoCandidate(result, { results, facts, pageHost, now }) {
  const { host, port, over } = partsOf(result.uri);
  const code = result.errors.map(({ errorCode }) => errorCode).find((number) => number in CODES);
  if (code !== undefined) return CODES[code];
  const siblings = results.filter(({ uri }) => uri !== result.uri && partsOf(uri).host === host);
  const reached = siblings.some(({ stage }) => stage !== "gathering");
  if (over === "tls") return adviseOnTls({ host, port, reached, certificate: facts.certificate, now });
  if (!reached && isAddress(host) && isAddress(pageHost) && !isLoopback(pageHost) && host !== pageHost) {
    return `Nothing answers at ${host}, yet this page came from ${pageHost}. If that is the relay's public address, start it with --external-ip ${pageHost}.`;
  }
  if (!reached) {
    return `Nothing answers at ${host}. Check that this is the address of the relay (--external-ip, DNS), and that a firewall lets UDP and TCP port ${port} in.`;
  }
  if (over === "udp") {
    return `No UDP gets to the relay, other ways do. Open UDP port ${port} in the relay's firewall (or the cloud's security group). If only your own network blocks UDP, clients in it will use the other ways.`;
  }
  return `TCP port ${port} of the relay cannot be reached, other ways can. Open it in the relay's firewall, or clients that have no UDP are left out.`;
}

function adviseOnTls({ host, port, reached, certificate, now }) {
  if (certificate && certificate.expires_at < now) {
    return `The certificate expired on ${new Date(certificate.expires_at * 1000).toISOString().slice(0, 10)}. Renew it; the relay reads it again on SIGHUP.`;
  }
  if (certificate && !certificate.names.includes(host)) {
    const names = certificate.names.join(", ") || "no name that clients could compare";
    return `The certificate is for ${names} and not for ${host}, so clients refuse it. Get one for the name that clients use.`;
  }
  if (reached) {
    return `Wrong certificate, or TCP port ${port} is closed. This browser does not trust a certificate that no public authority signed; use one of a public authority, with its whole chain in tls_cert.`;
  }
  return `Nothing answers at ${host} port ${port}. Check DNS, --external-ip and the firewall first; then the certificate.`;
}

function isPrivate(host) {
  return isLoopback(host) || /^(10\.|192\.168\.|172\.(1[6-9]|2\d|3[01])\.|169\.254\.|100\.(6[4-9]|[7-9]\d|1[01]\d|12[0-7])\.|f[cd]|fe80:)/.test(host);
}
