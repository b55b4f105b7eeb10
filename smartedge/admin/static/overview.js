// The figures at the top: how the whole edge is now, each with the line of the last minutes.

import { Sparkline, strip } from "./charts.js";
import { byId, el, redraw, setText } from "./dom.js";
import { live } from "./live.js";
import { count, duration, rate, t } from "./texts.js";
import { isTakenOut } from "./words_of.js";

const KEPT = 150;  // of the newest, one a STEP_S: five minutes
const STEP_S = 2;
const lines = { requests: [], failed: [], p50: [], p99: [], in_flight: [] };
const tiles = {};
let before = null, last = null;

/** Make the tiles. */
export function setUpOverview() {
  for (const [name, kinds] of [["requests", ["main"]], ["failed", ["bad"]], ["latency", ["main", "second"]], ["in_flight", ["main"]], ["serving", []], ["workers", []]]) {
    const value = el("strong", {}, "–"), more = el("span", { class: "more" }), spark = kinds.length ? new Sparkline(kinds, true) : null;
    const foot = el("div", { class: "foot" });
    tiles[name] = { value, more, spark, foot };
    byId("tiles").append(el("div", { class: `tile card ${name}` }, el("h3", {}, t(`tile_${name}`)), el("p", {}, value, " ", more), spark ? spark.node : foot));
  }
}

/** Bring them up to date. */
export function drawOverview() {
  const now = live.document;
  if (!now) return;
  const { totals, recent, workers } = now;
  count_up(now);
  const rates = last ?? { requests: recent.requests_per_s, failed: recent.failed_per_s };
  say("requests", rate(rates.requests), t("per_s"));
  say("failed", rate(rates.failed), t("per_s"));
  tiles.failed.value.classList.toggle("bad", rates.failed > 0);
  say("latency", duration(recent.p99_s), `p50 ${duration(recent.p50_s)}`);
  const waiting = Object.values(now.services).reduce((sum, one) => sum + one.waiting, 0);
  say("in_flight", count(totals.in_flight), waiting ? t("and_waiting", { waiting }) : "");
  const out = live.backends.filter((one) => isTakenOut(one)).length, down = totals.backends - totals.available - out;
  say("serving", count(totals.available), t("of", { all: count(totals.backends) }));
  redraw(tiles.serving.foot, `${totals.available} ${down} ${out}`, () => strip([["good", totals.available], ["bad", down], ["quiet", out]]));
  say("workers", count(workers.length), t("generation_is", { generation: now.generation }));
  redraw(tiles.workers.foot, JSON.stringify(workers.map((one) => [one.slot, one.generation === now.generation])), () =>
    el("span", { class: "slots", "aria-hidden": "true" }, workers.map((one) => el("i", { class: one.generation === now.generation ? "good" : "bad" }))));
}

function say(name, value, more) {
  setText(tiles[name].value, value);
  setText(tiles[name].more, more);
}

/** What has been counted since the look before: rates of now, where those of the edge are of the last minute. */
function count_up(now) {
  const { totals, recent } = now;
  const counted = { at: now.at, requests: totals.requests + totals.answered_by_edge, failed: totals.failed };
  if (before && counted.at - before.at < STEP_S) return;
  if (before && counted.requests >= before.requests && counted.failed >= before.failed) {
    const passed = counted.at - before.at;
    last = { requests: (counted.requests - before.requests) / passed, failed: (counted.failed - before.failed) / passed };
    const newest = { ...last, p50: recent.p50_s, p99: recent.p99_s, in_flight: totals.in_flight };
    for (const [name, list] of Object.entries(lines)) {
      list.push(newest[name]);
      if (list.length > KEPT) list.shift();
    }
    tiles.requests.spark.draw(lines.requests);
    tiles.failed.spark.draw(lines.failed);
    tiles.latency.spark.draw(lines.p99, lines.p50);
    tiles.in_flight.spark.draw(lines.in_flight);
  }
  before = counted;
}
