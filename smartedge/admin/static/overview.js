// The figures at the top: how the whole edge is now, each with the line of the last minutes.

import { Sparkline, strip } from "./charts.js";
import { byId, el, redraw, setText } from "./dom.js";
import { history } from "./history.js";
import { live } from "./live.js";
import { count, duration, rate, t } from "./texts.js";
import { isTakenOut } from "./words_of.js";

const KEPT = 60;  // of the newest, one a LINE_S: five minutes
const LINE_S = 5, RATE_S = 2;
const lines = { requests: [], failed: [], p50: [], p99: [], in_flight: [] };
const TILES = { requests: ["main"], failed: ["bad"], latency: ["main", "second"], in_flight: ["main"], serving: [], workers: [] };
const tiles = {};
let before = null, last = null, linedAt = 0;

/** Make the tiles. */
export function setUpOverview() {
  for (const [name, kinds] of Object.entries(TILES)) {
    const value = el("strong", {}, "–"), more = el("span", { class: "more" }), spark = kinds.length ? new Sparkline(kinds, true) : null;
    const foot = el("div", { class: "foot" });
    tiles[name] = { value, more, spark, foot };
    const title = el("h3", {}, t(`tile_${name}`));
    byId("tiles").append(el("div", { class: "tile card" }, title, el("p", {}, value, " ", more), spark?.node ?? foot));
  }
}

/** Bring them up to date. */
export function drawOverview() {
  const now = live.document;
  if (!now) return;
  const { totals, recent, workers } = now;
  keep(now);
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
  const kinds = workers.map((one) => one.generation === now.generation ? "good" : "bad");
  redraw(tiles.workers.foot, kinds.join(), () => el("span", { class: "slots", "aria-hidden": "true" }, kinds.map((kind) => el("i", { class: kind }))));
}

function say(name, value, more) {
  setText(tiles[name].value, value);
  setText(tiles[name].more, more);
}

/** What has been counted since the look before: rates of now, where those of the edge are of the last minute. */
function keep(now) {
  const { totals, recent } = now;
  const counted = { at: now.at, requests: totals.requests + totals.answered_by_edge, failed: totals.failed };
  if (before && counted.at - before.at < RATE_S) return;
  if (before && counted.requests >= before.requests && counted.failed >= before.failed) {
    const passed = counted.at - before.at;
    last = { requests: (counted.requests - before.requests) / passed, failed: (counted.failed - before.failed) / passed };
    before = counted;
    if (now.at - linedAt < LINE_S) return;
    linedAt = now.at;
    const newest = { ...last, p50: recent.p50_s, p99: recent.p99_s, in_flight: totals.in_flight };
    for (const [name, list] of Object.entries(lines)) {
      list.push(newest[name]);
      if (list.length > KEPT) list.shift();
    }
    drawLines();
  }
  before = counted;
}

function drawLines() {
  tiles.requests.spark.draw(lines.requests);
  tiles.failed.spark.draw(lines.failed);
  tiles.latency.spark.draw(lines.p99, lines.p50);
  tiles.in_flight.spark.draw(lines.in_flight);
}

/** Begin the lines with what the edge remembers, so that a page just opened has them: sums, and the worst of the quantiles. */
export function beginLines() {
  const services = Object.values(history.services), every = history.every;
  const over = (key, make) => (services[0]?.[key] ?? []).map((_, index) => {
    const values = services.map((one) => one[key]?.[index]).filter((value) => value != null);
    return values.length ? make(values) : null;
  });
  const sum = (values) => values.reduce((all, value) => all + value), worst = (values) => Math.max(...values);
  const known = {
    requests: over("requests", (values) => sum(values) / every), failed: over("failed", (values) => sum(values) / every),
    p50: over("p50_s", worst), p99: over("p99_s", worst), in_flight: over("in_flight", sum),
  };
  for (const [name, list] of Object.entries(lines)) lines[name] = [...known[name].slice(0, KEPT - list.length), ...list];
  drawLines();
}
