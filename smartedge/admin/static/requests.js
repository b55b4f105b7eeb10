// The last requests whose decisions were written down, as a table; each leads to its explanation.

import { byId, Choice, el, named, setText } from "./dom.js";
import { ask } from "./edge_api.js";
import { Table } from "./table.js";
import { clock, duration, percent, t, word } from "./texts.js";
import { badge, kindOf } from "./words_of.js";

const EVERY_MS = 2000;
const OUTCOMES = ["all", "ok", "failed", "abandoned"];

const hashOf = (row) => `#/request/${encodeURIComponent(row.request_id)}`;
const where = (row) => row.backends.map((one) => one ?? "–").join(" → ") || "–";

const columns = [
  { key: "at", value: (row) => clock(row.at), draw: (row) => el("a", { href: hashOf(row) }, clock(row.at)) },
  { key: "request", value: (row) => `${row.method} ${row.path}`, draw: (row) => [el("b", {}, row.method), " ", named(row.path)] },
  { key: "status", number: true, value: (row) => String(row.status || "–"), draw: code },
  { key: "outcome", value: (row) => row.outcome, draw: (row) => badge(row.outcome) },
  { key: "went_to", value: (row) => `${row.service ?? ""} ${where(row)}`, draw: (row) => named(where(row)) },
  { key: "duration_s", number: true, value: (row) => duration(row.duration_s) },
  { key: "summary", value: (row) => row.summary, draw: (row) => named(row.summary) },
];

function code(row) {
  return el("span", { class: row.status >= 500 ? "bad" : "" }, String(row.status || "–"));
}

let outcome = "all", table, timer = 0, isOpen = false;

export function setUpRequests() {
  const how = { keyOf: (row) => row.request_id, link: hashOf, label: t("requests_title"), empty: t("no_requests") };
  table = new Table(byId("requests"), "requests", columns, how);
  const choices = OUTCOMES.map((one) => [one, one === "all" ? t("show_all") : word(one)]);
  new Choice(byId("outcomes"), choices, outcome, (chosen) => { outcome = chosen; look(); });
}

/** Keep the list up to date while it is open. */
export function showRequests(open) {
  isOpen = open;
  clearTimeout(timer);
  if (open) look();
}

async function look() {
  clearTimeout(timer);
  try {
    const told = await ask(`decisions?limit=100${outcome === "all" ? "" : `&outcome=${outcome}`}`);
    table.update(told.decisions.map((row) => ({ ...row, mood: row.outcome === "failed" ? "bad" : "" })), { now: true });
    setText(byId("requests-said"), t("sampled", { ratio: percent(told.sample_ratio) }));
  } catch { /* that there is no connection is said above */ }
  if (isOpen) timer = setTimeout(look, EVERY_MS);
}

/** The last requests that went to a backend, as a short list. */
export async function requestsOf(service, id) {
  const told = await ask(`decisions?limit=20&backend=${encodeURIComponent(`${service}/${id}`)}`);
  if (!told.decisions.length) return el("p", { class: "empty" }, t("no_requests"));
  return el("ol", { class: "requests-list" }, told.decisions.map((row) => el("li", { class: kindOf(row.outcome) },
    el("time", {}, clock(row.at)), el("a", { href: hashOf(row) }, el("b", {}, row.method), " ", named(row.path)),
    code(row), el("span", { class: "number" }, duration(row.duration_s)))));
}
