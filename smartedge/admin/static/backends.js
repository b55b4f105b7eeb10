// The tables of services and of backends, with the filter above them.

import { bar, Sparkline, strip } from "./charts.js";
import { byId, chip, Choice, el, named, setText } from "./dom.js";
import { history } from "./history.js";
import { live } from "./live.js";
import { Table } from "./table.js";
import { ago, count, duration, percent, rate, t, word } from "./texts.js";
import { badge, isTakenOut, isTrouble, shownWord, standing, standingBadge } from "./words_of.js";

export const hashOf = (backend) => `#/backend/${encodeURIComponent(backend.service)}/${encodeURIComponent(backend.id)}`;

const columns = [
  {
    key: "id", value: (row) => `${row.name} ${row.url}`, sort: (row) => row.name,
    draw: (row) => [
      el("a", { href: hashOf(row) }, named(row.service === "default" ? row.id : row.name)), el("small", { title: row.url }, named(row.url))],
  },
  { key: "standing", value: standing, sort: (row) => row.why_not ?? "", draw: standingBadge },
  wordColumn("state"), wordColumn("health"), wordColumn("breaker"),
  {
    key: "share_ratio", number: true, value: (row) => percent(row.share_ratio), sort: (row) => row.share_ratio,
    draw: (row) => [bar(row.share_ratio), percent(row.share_ratio)],
  },
  {
    key: "in_flight", number: true, sort: (row) => row.in_flight,
    value: (row) => row.max_in_flight == null ? count(row.in_flight) : `${count(row.in_flight)} / ${count(row.max_in_flight)}`,
  },
  { key: "requests_per_s", number: true, value: (row) => rate(row.requests_per_s), sort: (row) => row.requests_per_s },
  {
    key: "failed_per_s", number: true, value: (row) => rate(row.failed_per_s), sort: (row) => row.failed_per_s,
    draw: (row) => el("span", { class: row.failed_per_s > 0 ? "bad" : "" }, rate(row.failed_per_s)),
  },
  { key: "p50_s", number: true, value: (row) => duration(row.p50_s), sort: (row) => row.p50_s },
  { key: "p99_s", number: true, value: (row) => duration(row.p99_s), sort: (row) => row.p99_s },
  { key: "trend", value: (row) => history.version(row.name), draw: drawTrend },
  {
    key: "check_detail", value: (row) => `${row.check_ok} ${checkText(row)}`, sort: (row) => row.check_ok == null ? null : Number(row.check_ok),
    draw: (row) => el("span", { class: row.check_ok === false ? "bad" : "", title: row.check_detail }, named(checkText(row))),
  },
];

function wordColumn(key) {
  return { key, value: (row) => row[key], sort: (row) => word(row[key]), draw: (row) => shownWord(row[key]) };
}

function checkText(row) {
  if (row.check_ok == null) return "–";
  return row.check_ok ? `${row.check_status ?? "OK"} · ${duration(row.check_took_s)}` : row.check_detail;
}

function drawTrend(row, cell) {
  const values = history.of(row.name);
  if (!values) return;
  cell.spark ??= new Sparkline(["main", "second"]);
  if (!cell.firstChild) cell.append(cell.spark.node);
  cell.spark.draw(values.p99_s ?? [], values.p50_s ?? []);
}

const serviceColumns = [
  {
    key: "service", value: (row) => `${row.name} ${row.strategy}`, sort: (row) => row.name,
    draw: (row) => [
      el("button", { type: "button", class: "link", onclick: () => filterBy(row.name) }, named(row.name)), el("small", {}, row.strategy)],
  },
  {
    key: "available", sort: (row) => row.available / row.total, draw: drawAvailable,
    value: (row) => `${row.available}/${row.total}/${row.panic}/${row.out}`,
  },
  { key: "requests_per_s", number: true, value: (row) => rate(row.recent.requests_per_s), sort: (row) => row.recent.requests_per_s },
  { key: "failed_per_s", number: true, value: (row) => rate(row.recent.failed_per_s), sort: (row) => row.recent.failed_per_s },
  { key: "in_flight", number: true, value: (row) => count(row.in_flight), sort: (row) => row.in_flight },
  { key: "waiting", number: true, value: (row) => count(row.waiting), sort: (row) => row.waiting },
  { key: "p50_s", number: true, value: (row) => duration(row.recent.p50_s), sort: (row) => row.recent.p50_s },
  { key: "p99_s", number: true, value: (row) => duration(row.recent.p99_s), sort: (row) => row.recent.p99_s },
  { key: "sources", value: (row) => row.discovery.map((one) => one.state).join() || "–", draw: drawSources },
];

function drawAvailable(row) {
  const down = row.total - row.available - row.out, said = `${row.available} / ${row.total}`;
  const parts = [strip([["good", row.available], ["bad", down], ["quiet", row.out]]), el("span", { class: down > 0 ? "bad" : "" }, said)];
  return row.panic ? [...parts, chip(t("panic"), "bad")] : parts;
}

function drawSources(row) {
  return row.discovery.length ? row.discovery.map((one) => badge(one.state)) : "–";
}

const filter = { text: "", show: "all" };
let table, services, shownChoice;

function filterBy(text) {
  byId("filter").value = filter.text = text === filter.text ? "" : text;
  draw(true);
}

const SHOWN = { all: () => true, trouble: isTrouble, out: isTakenOut };

/** Make both tables, and have the filter do what it says. */
export function setUpBackends() {
  services = new Table(byId("services"), "services", serviceColumns, { keyOf: (row) => row.name, label: t("services") });
  const how = { keyOf: (row) => row.name, link: hashOf, label: t("backends"), empty: t("none_shown") };
  table = new Table(byId("backends"), "backends", columns, how);
  const input = byId("filter");
  input.addEventListener("input", () => { filter.text = input.value; draw(true); });
  input.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !input.value) return;
    event.stopPropagation();
    filterBy(filter.text);
  });
  const choices = Object.keys(SHOWN).map((one) => [one, t(`show_${one}`)]);
  shownChoice = new Choice(byId("chips"), choices, "all", (chosen) => { filter.show = chosen; draw(true); });
  const sort = byId("sort");
  const sorted = columns.filter((one) => one.sort).map((one) => el("option", { value: one.key }, t(`column_${one.key}`)));
  sort.append(el("option", { value: "" }, t("as_written")), ...sorted);
  sort.addEventListener("change", () => table.sortBy(sort.value));
  table.onSort = (key) => { sort.value = key ?? ""; };
}

/** Bring both tables up to date. now: also their order. */
export function draw(now = false) {
  if (!live.document) return;
  const all = live.backends, out = new Map(), words = filter.text.toLowerCase().split(/\s+/).filter(Boolean);
  for (const one of all) {
    one.mood = isTakenOut(one) ? "out" : isTrouble(one) ? "bad" : "";
    if (isTakenOut(one)) out.set(one.service, (out.get(one.service) ?? 0) + 1);
  }
  const shown = all.filter((one) => SHOWN[filter.show](one) && words.every((text) => searched(one).includes(text)));
  table.update(shown, { now });
  const mood = (one) => one.status === "ok" ? "" : "bad";
  services.update(Object.entries(live.document.services).map(([name, one]) => ({ ...one, name, out: out.get(name) ?? 0, mood: mood(one) })), { now });
  for (const [name, test] of Object.entries(SHOWN)) shownChoice.setText(name, `${t(`show_${name}`)} ${all.filter(test).length}`);
  setText(byId("shown"), shown.length === all.length ? "" : t("shown", { shown: shown.length, all: all.length }));
}

const searched = (one) => [one.name, one.url, one.zone, one.state, one.health, one.why_not ?? "serving", standing(one)].join(" ").toLowerCase();

/** What the page says of the last check, for the panel too. */
export function checkSaid(backend) {
  if (backend.check_ok == null) return t("never_checked");
  return `${backend.check_detail} · ${duration(backend.check_took_s)} · ${ago(backend.check_at, live.now)}`;
}
