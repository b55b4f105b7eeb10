// The edge itself: its workers and nodes, which configuration each has, where backends come from, certificates, draining.

import { drainEdge } from "./actions.js";
import { byId, chip, el, named, redraw, setText } from "./dom.js";
import { eventList, newestReloads } from "./events.js";
import { live } from "./live.js";
import { Table } from "./table.js";
import { bytes, count, date, duration, t, word } from "./texts.js";
import { badge } from "./words_of.js";

const workerColumns = [
  { key: "slot", number: true, value: (row) => String(row.slot), sort: (row) => row.slot },
  { key: "pid", number: true, value: (row) => String(row.pid) },
  { key: "role", value: (row) => row.leader ? t("leads") : "–", draw: (row) => row.leader ? chip(t("leads"), "good") : "–" },
  generationColumn(),
  { key: "uptime_s", number: true, value: (row) => duration(Math.floor(row.uptime_s)), sort: (row) => row.uptime_s },
  { key: "requests", number: true, value: (row) => count(row.requests), sort: (row) => row.requests },
  { key: "in_flight", number: true, value: (row) => count(row.in_flight), sort: (row) => row.in_flight },
  { key: "loop_lag_s", number: true, value: (row) => duration(row.loop_lag_s), sort: (row) => row.loop_lag_s },
  { key: "memory_bytes", number: true, value: (row) => bytes(row.memory_bytes), sort: (row) => row.memory_bytes },
];

const nodeColumns = [
  { key: "node", value: (row) => row.node },
  generationColumn(),
  { key: "version", value: (row) => row.version ?? "–" },
  { key: "role", value: (row) => row.draining ? word("draining") : "–" },
  { key: "applied", number: true, value: (row) => row.workers ? `${row.workers.applied} / ${row.workers.live}` : "–" },
  { key: "available", number: true, value: (row) => row.backends ? `${row.backends.up} / ${row.backends.total}` : "–" },
];

function generationColumn() {
  return { key: "generation", value: (row) => `${row.generation} ${row.differs}`, number: true,
    draw: (row) => row.differs ? chip(`${row.generation} · ${t("differs")}`, "bad") : String(row.generation) };
}

let workers, nodes, cards;

/** Make the view. */
export function setUpEdge() {
  const place = byId("edge");
  const part = (key, ...more) => {
    const section = el("section", {}, el("div", { class: "bar" }, el("h2", {}, t(key)), more));
    place.append(section);
    return section;
  };
  const drain = el("button", { type: "button", onclick: () => drainEdge(!live.document.draining) });
  const edge = part("workers", drain);
  workers = new Table(edge, "workers", workerColumns, { keyOf: (row) => row.slot, label: t("workers") });
  const cluster = part("nodes");
  nodes = new Table(cluster, "nodes", nodeColumns, { keyOf: (row) => row.node, label: t("nodes") });
  const reloads = part("reloads"), sources = part("sources"), certificates = part("certificates");
  cards = { drain, cluster, reloads: card(reloads), sources: card(sources), certificates: card(certificates), sections: { sources, certificates } };
}

function card(section) {
  const node = el("div", { class: "card" });
  section.append(node);
  return node;
}

/** Bring it up to date. */
export function drawEdge() {
  const now = live.document;
  if (!now) return;
  setText(cards.drain, t(now.draining ? "edge_enable" : "edge_drain"));
  cards.drain.disabled = Boolean(live.lost);
  cards.drain.title = live.lost ? t("why_lost") : "";
  const compared = (one, generation) => ({ ...one, differs: one.generation !== generation, mood: one.generation === generation ? "" : "bad" });
  workers.update(now.workers.map((one) => compared(one, now.generation)), { now: true });
  cards.cluster.hidden = !now.cluster;
  if (now.cluster) nodes.update(now.cluster.cards.map((one) => compared(one, now.cluster.generation)), { now: true });
  const { events, version } = newestReloads(), standing = now.workers.map((one) => one.generation).join();
  redraw(cards.reloads, `${version} ${standing}`, () => [whoHas(now), eventList(events)]);
  const sources = Object.entries(now.services).flatMap(([service, one]) => one.discovery.map((source) => ({ service, ...source })));
  cards.sections.sources.hidden = !sources.length;
  redraw(cards.sources, JSON.stringify(sources.map((one) => ({ ...one, age_s: 0 }))), () => list(sources.map((one) => [
    badge(one.state), el("b", {}, named(one.service)), named(one.source), t("source_has", { count: one.backends }),
    one.problem ? el("span", { class: "bad" }, named(one.problem)) : ""])));
  cards.sections.certificates.hidden = !now.certificates.length;
  redraw(cards.certificates, JSON.stringify(now.certificates), () => list(now.certificates.map((one) => [
    el("b", {}, named(one.names.join(", "))), one.key, t("valid_until", { when: date(one.expires_at) })])));
}

/** Which worker has which configuration: one line for each that is in use. */
function whoHas(now) {
  const users = new Map();
  for (const one of now.workers) users.set(one.generation, [...(users.get(one.generation) ?? []), one.slot]);
  return list([...users].sort(([one], [other]) => other - one).map(([generation, slots]) => [
    chip(t("generation_is", { generation }), generation === now.generation ? "good" : "bad"),
    users.size === 1 ? t("all_have", { count: slots.length }) : t("some_have", { slots: slots.join(", ") })]));
}

const list = (lines) => el("ul", { class: "list" }, lines.map((line) => el("li", {}, line)));
