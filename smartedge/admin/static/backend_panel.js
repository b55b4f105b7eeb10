// One backend in depth: how it is, what can be done to it, its last quarter of an hour, its events, its last requests.

import { BackendActions } from "./actions.js";
import { checkSaid } from "./backends.js";
import { TimeChart } from "./charts.js";
import { chip, el, named, redraw, setText } from "./dom.js";
import { eventList } from "./events.js";
import { ask } from "./edge_api.js";
import { historyOf } from "./history.js";
import { live } from "./live.js";
import { requestsOf } from "./requests.js";
import { count, duration, figure, percent, rate, t, word } from "./texts.js";
import { badge, kindOf, standing, standingBadge } from "./words_of.js";

const EVERY_MS = 5000;

const FACTS = [
  ["column_requests_per_s", (one) => rate(one.requests_per_s)],
  ["column_failed_per_s", (one) => rate(one.failed_per_s)],
  ["column_share_ratio", (one) => percent(one.share_ratio)],
  ["column_in_flight", (one) => one.max_in_flight == null ? count(one.in_flight) : `${count(one.in_flight)} / ${count(one.max_in_flight)}`],
  ["column_p50_s", (one) => duration(one.p50_s)],
  ["column_p99_s", (one) => duration(one.p99_s)],
  ["number_ewma_s", (one) => duration(one.ewma_s)],
  ["fact_weight", (one) => one.effective_weight === one.weight ? figure(one.weight) : `${figure(one.effective_weight)} / ${figure(one.weight)}`],
  ["column_requests", (one) => count(one.requests)],
  ["fact_failed", (one) => count(one.failed)],
  ["fact_zone", (one) => one.zone ?? "–"],
  ["fact_from", (one) => t(one.discovered ? "from_discovery" : "from_file")],
];

/** Made for the panel when a backend is opened, told to draw itself, and closed. */
export class BackendPanel {
  constructor(service, id) {
    [this.service, this.id, this.name] = [service, id, `${service}/${id}`];
    this.title = service === "default" ? id : this.name;
    this.actions = new BackendActions();
    this.head = el("div", { class: "standing" });
    this.check = el("p", { class: "check-said" });
    this.values = FACTS.map(() => el("dd"));
    this.states = el("div", { class: "state-strip", role: "img" });
    this.charts = [
      new TimeChart(t("chart_requests"), [
        { kind: "main", name: t("chart_all"), filled: true }, { kind: "bad", name: t("chart_failed"), filled: true }], rate),
      new TimeChart(t("chart_latency"), [{ kind: "main", name: "p99" }, { kind: "second", name: "p50" }], duration),
      new TimeChart(t("tile_in_flight"), [{ kind: "main", name: "", filled: true }], figure),
    ];
    this.past = el("section", { hidden: true }, el("h3", {}, t("last_minutes")), this.states, this.charts.map((chart) => chart.node));
    this.events = el("div");
    this.requests = el("div");
    this.node = el("div", {},
      this.head, this.actions.node,
      el("dl", { class: "facts" }, FACTS.map(([key], index) => el("div", {}, el("dt", {}, t(key)), this.values[index]))),
      this.check, this.past,
      el("section", {}, el("h3", {}, t("last_requests")), this.requests),
      el("section", {}, el("h3", {}, t("its_events")), this.events));
    this.draw();
    this.look();
  }

  /** Show what is known now. */
  draw() {
    const one = live.backends.find((other) => other.name === this.name);
    this.actions.update(one);
    if (!one) {
      if (live.document) redraw(this.head, "gone", () => chip(t("why_gone"), "warn"));
      return;
    }
    redraw(this.head, [one.url, standing(one), one.state, one.health, one.breaker].join(), () => [
      el("code", {}, named(one.url)), standingBadge(one),
      ...["state", "health", "breaker"].map((key) => el("span", { class: "pair" }, `${t(`column_${key}`)} `, badge(one[key])))]);
    FACTS.forEach(([, show], index) => setText(this.values[index], show(one)));
    redraw(this.check, checkSaid(one), () => [`${t("column_check_detail")}: `, named(checkSaid(one))]);
  }

  /** Ask again and again for what the live document does not have. */
  async look() {
    clearTimeout(this.timer);
    await Promise.allSettled([this.lookBack(), this.lookAtRequests(), this.lookAtEvents()]);
    if (!this.isClosed) this.timer = setTimeout(() => this.look(), EVERY_MS);
  }

  async lookBack() {
    const told = await historyOf(this.service, this.id);
    const series = told.series[this.name];
    if (!series) return;
    const { from, every_s: every } = told, perSecond = (list) => (list ?? []).map((value) => value == null ? null : value / every);
    this.past.hidden = false;
    this.charts[0].draw([perSecond(series.requests), perSecond(series.failed)], from, every);
    this.charts[1].draw([series.p99_s ?? [], series.p50_s ?? []], from, every);
    this.charts[2].draw([series.in_flight ?? []], from, every);
    this.drawStates(series.state ?? []);
  }

  drawStates(states) {
    const part = (state) => el("i", { class: state == null ? "none" : kindOf(state), title: state && word(state) });
    redraw(this.states, states.join(), () => states.map(part));
    this.states.setAttribute("aria-label", `${t("column_state")}: ${[...new Set(states.filter(Boolean))].map(word).join(", ")}`);
  }

  async lookAtRequests() {
    this.requests.replaceChildren(await requestsOf(this.service, this.id));
  }

  async lookAtEvents() {
    const { events } = await ask(`events?limit=50&service=${encodeURIComponent(this.service)}&backend=${encodeURIComponent(this.id)}`);
    redraw(this.events, JSON.stringify(events), () => eventList(events.reverse(), false));
  }

  close() {
    this.isClosed = true;
    clearTimeout(this.timer);
  }
}
