// node webrtc_peer.cjs LIBRARY '{"offer": true, "iceServers": [], "relayOnly": false}'
// One end of a data channel. Prints its description once it has gathered, reads the peer's from standard input,
// and prints what becomes of it, one JSON object a line. The offering end sends, the other one echoes.

const readline = require("node:readline");

const peerConnections = {
  libdatachannel: () => require("node-datachannel/polyfill").RTCPeerConnection,
  libwebrtc: () => require("@roamhq/wrtc").RTCPeerConnection,
};

const MESSAGES = 100;
const [library, request] = process.argv.slice(2);
const { offer, iceServers, relayOnly } = JSON.parse(request);
const RTCPeerConnection = peerConnections[library]();
const peer = new RTCPeerConnection({ iceServers, iceTransportPolicy: relayOnly ? "relay" : "all" });
const say = (document) => console.log(JSON.stringify(document));

peer.oniceconnectionstatechange = () => say({ ice: peer.iceConnectionState });
peer.ondatachannel = ({ channel }) => {
  channel.onmessage = ({ data }) => channel.send(data);
};

// Knocking until there is an answer: a channel may be open before the other end listens.
function converse(channel) {
  let knocking;
  let echoed = 0;
  channel.onopen = () => {
    say({ open: true });
    knocking = setInterval(() => channel.send("knock"), 50);
  };
  channel.onmessage = ({ data }) => {
    if (data === "knock") {
      if (knocking === undefined) return;
      clearInterval(knocking);
      knocking = undefined;
      for (let number = 0; number < MESSAGES; number += 1) channel.send(`message ${number}`);
    } else if (data === `message ${echoed}`) {
      echoed += 1;
      if (echoed === MESSAGES) say({ echoed });
    }
  };
}

async function describe(description) {
  const gathered = new Promise((resolve) => {
    peer.onicegatheringstatechange = () => peer.iceGatheringState === "complete" && resolve();
    setTimeout(resolve, 2000);
  });
  await peer.setLocalDescription(description);
  await gathered;
  say({ type: peer.localDescription.type, sdp: peer.localDescription.sdp });
}

async function hear(line) {
  await peer.setRemoteDescription(JSON.parse(line));
  if (!offer) await describe(await peer.createAnswer());
}

async function main() {
  if (offer) {
    converse(peer.createDataChannel("echo"));
    await describe(await peer.createOffer());
  }
  readline.createInterface({ input: process.stdin }).on("line", (line) => {
    hear(line).catch((error) => say({ error: String(error) }));
  });
}

main().catch((error) => say({ error: String(error) }));
