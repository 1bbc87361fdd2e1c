// node echo.cjs LIBRARY '{"iceServer": ..., "messages": ..., "bytes": ..., "timeoutMs": ...}'
// Prints the result of relay_echo.js as one line of JSON.

require("../relay_echo.js");

const peerConnections = {
  libdatachannel: () => require("node-datachannel/polyfill").RTCPeerConnection,
  libwebrtc: () => require("@roamhq/wrtc").RTCPeerConnection,
};

const [library, request] = process.argv.slice(2);
globalThis
  .relayEcho({ ...JSON.parse(request), RTCPeerConnection: peerConnections[library]() })
  .then((result) => console.log(JSON.stringify(result)))
  .then(
    () => 0,
    (error) => (console.error(error), 1),
  )
  // Native threads of both libraries would keep the process alive.
  .then((code) => process.exit(code));
