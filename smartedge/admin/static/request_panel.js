// Why a request went where it went, drawn: its tries in time, and for each the candidates with the numbers that were compared,
// who was picked, and who was left out and why.

import { bar } from "./charts.js";
import { chip, el, named } from "./dom.js";
import { ask } from "./edge_api.js";
import { clock, date, duration, figure, t, word } from "./texts.js";
import { badge, kindOf } from "./words_of.js";

const NUMBERS = [
  ["cost", figure], ["in_flight", figure], ["ewma_s", duration], ["pace_s", duration], ["waiting_s", duration], ["latency_s", duration],
  ["turns_ratio", figure], ["effective_weight", figure],
];

/** Made for the panel when a request is opened. */
export class RequestPanel {
  constructor(id) {
    this.id = id;
    this.title = t("request");
    this.node = el("div", {}, el("p", { class: "empty" }, "…"));
    this.look();
  }

  async look() {
    try {
      this.node.replaceChildren(...explanation(await ask(`decisions/${encodeURIComponent(this.id)}`)));
    } catch (error) {
      this.node.replaceChildren(el("p", { class: "empty" }, error.message));
    }
  }

  draw() { /* it has ended, and changes no more */ }

  close() { /* nor is anything asked for */ }
}

function explanation(told) {
  const facts = [
    ["column_at", `${date(told.at)} ${clock(told.at)}`], ["column_duration_s", duration(told.duration_s)], ["fact_client", told.client],
    ["fact_why", told.why.map(word).join(", ")], ["fact_id", told.request_id],
    ["fact_route", told.route], ["column_service", told.service], ["fact_trace", told.trace_id],
  ].filter(([, value]) => value);
  return [
    el("p", { class: "asked" }, el("b", {}, told.method), " ", named(told.path)),
    el("div", { class: "standing" }, codeChip(told.status), badge(told.outcome), told.error ? el("span", { class: "bad" }, named(told.error)) : null),
    el("p", { class: "summary" }, named(told.summary)),
    el("section", {}, el("h3", {}, t("in_time")), timeline(told)),
    ...told.tries.map(oneTry),
    told.tries_left_out ? el("p", { class: "empty" }, t("tries_left_out", { count: told.tries_left_out })) : null,
    el("dl", { class: "facts wide" }, facts.map(([key, value]) => el("div", {}, el("dt", {}, t(key)), el("dd", {}, named(value))))),
  ].filter(Boolean);
}

const codeChip = (code) => chip(String(code || "–"), code >= 500 ? "bad" : code >= 400 ? "warn" : "good");

/** The tries as bars on one line of time: dark until the answer began, light until it ended. */
function timeline(told) {
  const whole = Math.max(told.duration_s, ...told.tries.map((one) => one.after_s + (one.duration_s ?? 0)), 1e-6);
  return el("ol", { class: "timeline" }, told.tries.map((one) => {
    const took = one.duration_s ?? 0, first = Math.min(one.latency_s ?? took, took);
    const answering = el("i", { class: "first" }), body = el("i", { class: `took ${kindOf(one.outcome)}` }, answering);
    body.style.marginInlineStart = `${100 * one.after_s / whole}%`;
    body.style.width = `${Math.max(0.5, 100 * took / whole)}%`;
    answering.style.width = `${took ? 100 * first / took : 100}%`;
    const name = el("span", {}, named(one.backend ?? t("nobody")));
    return el("li", {}, name, el("span", { class: "track" }, body), el("span", { class: "number" }, duration(took)));
  }));
}

function oneTry(one) {
  const heading = el("h3", {}, `${one.number}. ${t(`try_${one.kind}`)} → `, named(one.backend ?? t("nobody")), " ",
    badge(one.outcome), one.status ? codeChip(one.status) : null);
  const said = [one.reason, one.where, one.panic ? t("in_panic") : "", one.error].filter(Boolean);
  return el("section", { class: "try" }, heading,
    el("p", {}, one.strategy ? el("b", {}, `${one.strategy}: `) : null, named(said.join("; ") || (one.recorded ? "" : t("not_recorded")))),
    one.candidates.length ? candidates(one) : null,
    one.left_out.length ? leftOut(one) : null);
}

/** Each candidate with a bar for each number that was known; the bars of a column have one scale. */
function candidates(one) {
  const says = (key) => one.candidates.some((other) => (key === "cost" || key === "in_flight" ? other[key] != null : other[key])
    && (key !== "latency_s" || other.latency_s !== other.ewma_s));
  const used = NUMBERS.filter(([key]) => says(key));
  const most = Object.fromEntries(used.map(([key]) => [key, Math.max(...one.candidates.map((other) => other[key] ?? 0))]));
  const cell = (other, key, show) => el("td", { class: "number" }, show(other[key]),
    bar(most[key] ? (other[key] ?? 0) / most[key] : 0, other.picked ? "good" : "main"));
  const hidden = one.candidate_count - one.candidates.length;
  const sorted = [...one.candidates].sort((first, second) => (first.cost ?? Infinity) - (second.cost ?? Infinity) || second.picked - first.picked);
  return el("div", { class: "scroll" }, el("table", { class: "candidates" },
    el("caption", {}, t("candidates", { count: one.candidate_count }) + (one.cost == null ? "" : ` · ${t("least_wins")}`)),
    el("thead", {}, el("tr", {}, el("th", { scope: "col" }, t("column_id")),
      used.map(([key]) => el("th", { scope: "col", class: "number" }, t(`number_${key}`))))),
    el("tbody", {}, sorted.map((other) => el("tr", { class: other.picked ? "picked" : null },
      el("th", { scope: "row" }, named(other.id), other.picked ? chip(t("picked"), "good") : null),
      used.map(([key, show]) => cell(other, key, show)))))),
  hidden > 0 ? el("p", { class: "empty" }, t("and_more", { count: hidden })) : null);
}

function leftOut(one) {
  return el("div", { class: "left-out" }, el("h4", {}, t("left_out")),
    el("ul", {}, one.left_out.map((other) => el("li", {}, named(other.id), " ",
      badge(other.reason, other.for_s == null ? "" : ` · ${duration(other.for_s)}`)))),
    one.unseen ? el("p", { class: "empty" }, t("and_more", { count: one.unseen })) : null);
}
