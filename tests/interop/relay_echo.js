// Two peers of one program that may use relays only, and a data channel that echoes between them.
//
// It keeps to what every WebRTC implementation shares, so that Chromium, libwebrtc and libdatachannel run the
// same test. Candidates travel inside the descriptions, where no order of events can go wrong.

globalThis.relayEcho = async function relayEcho({
  iceServer,
  messages,
  bytes,
  timeoutMs,
  RTCPeerConnection = globalThis.RTCPeerConnection,
}) {
  const configuration = { iceServers: [iceServer], iceTransportPolicy: "relay" };
  const caller = new RTCPeerConnection(configuration);
  const callee = new RTCPeerConnection(configuration);
  const candidateErrors = [];
  const progress = { echoed: 0 };
  for (const peer of [caller, callee]) {
    peer.onicecandidateerror = ({ errorCode, errorText, url }) =>
      candidateErrors.push(`${errorCode} ${errorText} ${url}`);
  }

  const state = () =>
    JSON.stringify({
      caller: [caller.iceGatheringState, caller.iceConnectionState, caller.connectionState],
      callee: [callee.iceGatheringState, callee.iceConnectionState, callee.connectionState],
      candidateErrors,
      ...progress,
    });
  const deadline = new Promise((_, reject) =>
    setTimeout(() => reject(new Error(`no echo in ${timeoutMs} ms`)), timeoutMs),
  );

  const conversation = async () => {
    callee.ondatachannel = ({ channel }) => {
      channel.binaryType = "arraybuffer";
      channel.onmessage = ({ data }) => channel.send(data);
    };
    const channel = caller.createDataChannel("echo");
    channel.binaryType = "arraybuffer";
    await describe(caller, await caller.createOffer(), callee);
    await describe(callee, await callee.createAnswer(), caller);
    await opened(channel);
    await answered(channel);
    await echoAll(channel, messages, bytes, progress);
    return { ...progress, pairs: [await selectedPair(caller), await selectedPair(callee)] };
  };

  try {
    return await Promise.race([conversation(), deadline]);
  } catch (error) {
    throw new Error(`${error.message}: ${state()}`);
  } finally {
    caller.close();
    callee.close();
  }
};

// Make a description the local one of `peer` and, once it has a candidate, the remote one of `other`.
async function describe(peer, description, other) {
  // The end of gathering is not waited for: libwebrtc also tries what cannot work, such as reaching an IPv4
  // relay from an IPv6 address of the host, and takes long to give up.
  const gathered = new Promise((resolve) => {
    peer.onicecandidate = resolve;
    peer.onicegatheringstatechange = () => peer.iceGatheringState === "complete" && resolve();
  });
  await peer.setLocalDescription(description);
  await gathered;
  if (!peer.localDescription.sdp.includes("a=candidate:")) throw new Error("the relay gave no candidate");
  await other.setRemoteDescription(peer.localDescription);
}

function opened(channel) {
  return channel.readyState === "open" || new Promise((resolve) => (channel.onopen = resolve));
}

// Knock until there is an answer. Chromium and libwebrtc in node lose messages of a channel that is open, while
// the script at the other end is being handed its side of it: seen with any relay when the machine is busy.
async function answered(channel) {
  let knocking;
  await new Promise((resolve) => {
    channel.onmessage = resolve;
    knocking = setInterval(() => channel.send("knock"), 50);
  });
  clearInterval(knocking);
}

// Send every message and count those that come back in order and unchanged.
function echoAll(channel, messages, bytes, progress) {
  return new Promise((resolve, reject) => {
    const sent = Array.from({ length: messages }, (_, number) => message(number, bytes));
    channel.onmessage = ({ data }) => {
      if (typeof data === "string") return; // the answer to a later knock
      const received = new Uint8Array(data);
      if (received.length !== bytes || received.some((byte, index) => byte !== sent[progress.echoed][index])) {
        reject(new Error(`an echo came back as ${received.length} bytes: ${received.slice(0, 8)}`));
      }
      progress.echoed += 1;
      if (progress.echoed === messages) resolve();
    };
    sent.forEach((content) => channel.send(content));
  });
}

function message(number, bytes) {
  const content = new Uint8Array(bytes).fill(number % 251);
  new DataView(content.buffer).setUint32(0, number);
  return content;
}

// The candidate types of the pair in use, and the relay's transport where the implementation tells.
async function selectedPair(peer) {
  const statistics = [...(await peer.getStats()).values()];
  const byId = (id) => statistics.find((entry) => entry.id === id);
  const transport = statistics.find((entry) => entry.type === "transport");
  const pair = byId(transport.selectedCandidatePairId);
  const local = byId(pair.localCandidateId);
  const remote = byId(pair.remoteCandidateId);
  return { local: local.candidateType, remote: remote.candidateType, relayProtocol: local.relayProtocol };
}
