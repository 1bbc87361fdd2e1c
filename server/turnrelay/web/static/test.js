// The test page: tries every URI of the relay in turn and tells what to mend.

import { advise, partsOf } from "./advice.js";
import { ask } from "./api.js";
import { byId, make, setText } from "./elements.js";
import { bitRate, percent } from "./format.js";
import { RelayTest } from "./relay_test.js";

const NAMES = { udp: "UDP", tcp: "TCP", tls: "TLS" };

byId("start").addEventListener("click", async () => {
  const button = byId("start");
  button.disabled = true;
  setText(byId("problem"), "");
  setText(byId("summary"), "");
  byId("tests").replaceChildren();
  try {
    await testAll(await ask("POST", "/v1/test"));
  } catch (error) {
    setText(byId("problem"), error.message);
  }
  button.disabled = false;
  setText(button, "Test again");
});

async function testAll(facts) {
  if (!facts.uris.length) throw new Error("The relay does not know by which address clients reach it; set --external-ip.");
  const cards = facts.uris.map(makeCard);
  const tests = facts.uris.map((uri) => new RelayTest(uri, facts));
  const results = [];
  // All connect at once, since one that fails takes long; one at a time is measured, since they share the line.
  const connecting = tests.map((test) => test.connect());
  for (const [index, test] of tests.entries()) {
    await connecting[index];
    results.push(await test.measure());
    cards[index].end(results[index]);
  }
  // Only now: what one failure means depends on what works.
  const around = { results, facts, pageHost: location.hostname.replace(/^\[|\]$/g, ""), now: facts.server_time };
  results.forEach((result, index) => cards[index].advise(advise(result, around)));
  const passed = results.filter(({ stage }) => stage === "passed").length;
  setText(byId("summary"), `${passed} of ${results.length} ways to the relay work.`);
}

function makeCard(uri) {
  const verdict = make("span", { class: "verdict" }, "testing …");
  const figures = {};
  const list = make("dl");
  for (const [key, label] of [["relayed", "Relayed address"], ["roundTrip", "Round trip"], ["loss", "Loss"], ["throughput", "Throughput"]]) {
    figures[key] = make("dd", {}, "–");
    list.append(make("div", {}, make("dt", {}, label), figures[key]));
  }
  const heading = make("h2", { class: "uri" }, uri);
  const card = make(
    "section",
    { class: "card result", "aria-label": `${NAMES[partsOf(uri).over]}: ${uri}`, "data-uri": uri },
    make("div", { class: "head" }, make("span", { class: "unit" }, NAMES[partsOf(uri).over]), heading, verdict),
    list,
  );
  byId("tests").append(card);
  let outcome = null;
  return {
    end(result) {
      outcome = result;
      const passed = result.stage === "passed";
      setText(verdict, passed ? "works" : "fails");
      verdict.classList.add(passed ? "passed" : "failed");
      if (result.relayed) setText(figures.relayed, result.relayed);
      if (result.roundTripMs !== null) setText(figures.roundTrip, `${result.roundTripMs.toFixed(1)} ms`);
      if (result.lossShare !== null) setText(figures.loss, percent(result.lossShare));
      if (result.bytesPerSecond !== null) setText(figures.throughput, bitRate(result.bytesPerSecond));
    },
    advise(words) {
      if (words === null) return;
      const box = make("div", { class: "advice-box" }, make("p", {}, words));
      const said = new Set(outcome.errors.map(({ errorCode, errorText }) => `${errorCode} ${errorText}`));
      if (said.size) box.append(make("p", {}, `The browser says: ${[...said].slice(0, 3).join("; ")}`));
      card.append(box);
    },
  };
}

const { allowed } = await ask("GET", "/v1/test");
byId("start").disabled = !allowed;
byId("refused").hidden = allowed;
