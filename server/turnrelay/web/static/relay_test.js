// One TURN URI tried out: two peers of this page that may use the relay only, and data between them.

const GATHERING_MS = 12000;
const CONNECTING_MS = 10000;
const PROBES = 50;
const PROBE_BYTES = 172; // a packet of speech
const PROBE_INTERVAL_MS = 20;
const ECHO_PATIENCE_MS = 1500;
const STREAM_MS = 1000;
const CHUNK_BYTES = 16384;
const BUFFERED_BYTES = 1 << 18;

const sleep = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

const within = (milliseconds, promise, what) =>
  Promise.race([promise, sleep(milliseconds).then(() => Promise.reject(new Error(what)))]);

const once = (target, event) => new Promise((resolve) => target.addEventListener(event, resolve, { once: true }));

// `stage` of the result tells how far it came: "gathering" (no relayed candidate), "connecting" (no data
// passes), "measuring", "passed".
export class RelayTest {
  constructor(uri, { username, credential }) {
    this.result = { uri, stage: "gathering", relayed: null, errors: [], roundTripMs: null, lossShare: null, bytesPerSecond: null };
    const configuration = { iceServers: [{ urls: uri, username, credential }], iceTransportPolicy: "relay" };
    this.peers = [new RTCPeerConnection(configuration), new RTCPeerConnection(configuration)];
    for (const peer of this.peers) {
      peer.addEventListener("icecandidateerror", ({ errorCode, errorText }) => this.result.errors.push({ errorCode, errorText }));
    }
  }

  // Lets the two peers find each other through the relay; never throws, `result.failure` tells.
  connect() {
    return this.#attempt(async () => {
      const [caller, callee] = this.peers;
      this.probe = caller.createDataChannel("probe", { ordered: false, maxRetransmits: 0 });
      this.stream = caller.createDataChannel("stream");
      this.received = answerWith(callee);
      this.result.relayed = await describe(caller, await caller.createOffer(), callee);
      await describe(callee, await callee.createAnswer(), caller);
      this.result.stage = "connecting";
      await within(CONNECTING_MS, Promise.all([opened(this.probe), opened(this.stream)]), "no data passed");
      await within(CONNECTING_MS, answered(this.probe), "no data came back");
      this.result.stage = "measuring";
    });
  }

  // Round trip, loss and throughput of a connected test, which is over then.
  async measure() {
    if (this.result.stage === "measuring") {
      await this.#attempt(async () => {
        Object.assign(this.result, await measureEchoes(this.probe));
        this.result.bytesPerSecond = await measureStream(this.stream, this.received);
        this.result.stage = "passed";
      });
    }
    this.peers.forEach((peer) => peer.close());
    return this.result;
  }

  async #attempt(step) {
    try {
      await step();
    } catch (error) {
      this.result.failure = error.message;
    }
  }
}

// The other side: it sends probes back and counts what is streamed.
function answerWith(callee) {
  const received = { bytes: 0 };
  callee.addEventListener("datachannel", ({ channel }) => {
    channel.binaryType = "arraybuffer";
    channel.addEventListener("message", ({ data }) => {
      if (channel.label === "probe") channel.send(data);
      else received.bytes += data.byteLength;
    });
  });
  return received;
}

// Makes a description the local one of `peer` and, once there is a candidate, the remote one of `other`.
// The end of gathering is not waited for: a browser also tries what cannot work, and takes long to give up.
async function describe(peer, description, other) {
  let relayed = null;
  const gathered = new Promise((resolve) => {
    peer.addEventListener("icecandidate", ({ candidate }) => {
      if (candidate?.type === "relay") relayed ??= `${candidate.address} port ${candidate.port}`;
      if (!candidate || relayed) resolve();
    });
  });
  await peer.setLocalDescription(description);
  await within(GATHERING_MS, gathered, "the relay did not answer");
  if (!relayed) throw new Error("the relay gave no address");
  await other.setRemoteDescription(peer.localDescription);
  return relayed;
}

async function opened(channel) {
  channel.binaryType = "arraybuffer";
  if (channel.readyState !== "open") await once(channel, "open");
}

// A browser may lose messages while the other side is being handed its channel, so it is knocked until one returns.
async function answered(channel) {
  const answer = once(channel, "message");
  const knocking = setInterval(() => channel.send(new Uint8Array(1)), 50);
  try {
    await answer;
  } finally {
    clearInterval(knocking);
  }
}

async function measureEchoes(channel) {
  const sentAt = [];
  const roundTrips = new Map();
  const listen = ({ data }) => {
    if (data.byteLength !== PROBE_BYTES) return; // the answer to a late knock
    const number = new DataView(data).getUint32(0);
    roundTrips.set(number, performance.now() - sentAt[number]);
  };
  channel.addEventListener("message", listen);
  for (let number = 0; number < PROBES; number += 1) {
    const content = new DataView(new ArrayBuffer(PROBE_BYTES));
    content.setUint32(0, number);
    sentAt.push(performance.now());
    channel.send(content);
    await sleep(PROBE_INTERVAL_MS);
  }
  const deadline = performance.now() + ECHO_PATIENCE_MS;
  while (roundTrips.size < PROBES && performance.now() < deadline) await sleep(20);
  channel.removeEventListener("message", listen);
  const sorted = [...roundTrips.values()].sort((one, other) => one - other);
  return {
    roundTripMs: sorted.length ? sorted[Math.floor(sorted.length / 2)] : null,
    lossShare: 1 - roundTrips.size / PROBES,
  };
}

async function measureStream(channel, received) {
  const chunk = new Uint8Array(CHUNK_BYTES);
  channel.bufferedAmountLowThreshold = BUFFERED_BYTES / 2;
  const startedAt = performance.now();
  let elapsed = 0;
  while (elapsed < STREAM_MS) {
    while (channel.bufferedAmount < BUFFERED_BYTES) channel.send(chunk);
    await Promise.race([once(channel, "bufferedamountlow"), sleep(50)]);
    elapsed = performance.now() - startedAt;
  }
  return (received.bytes * 1000) / elapsed;
}
