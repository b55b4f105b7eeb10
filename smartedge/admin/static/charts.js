// Drawing numbers: lines in rows, charts over time, bars. SVG by hand; what is drawn stretches with its place.

import { el, setText, svg } from "./dom.js";
import { clock, minute } from "./texts.js";

const WIDTH = 100, HEIGHT = 100;

/** The path of a line through values, null making a gap; top: the value at the upper edge. */
function line(values, top, close = false) {
  const step = WIDTH / Math.max(1, values.length - 1);
  let path = "", begun = null;
  const end = (index) => {
    if (close && begun !== null) path += `L${((index - 1) * step).toFixed(2)} ${HEIGHT}L${(begun * step).toFixed(2)} ${HEIGHT}Z`;
    begun = null;
  };
  values.forEach((value, index) => {
    if (value == null) return end(index);
    const y = HEIGHT - (HEIGHT - 4) * Math.min(1, top ? value / top : 0);
    path += `${begun === null ? "M" : "L"}${(index * step).toFixed(2)} ${y.toFixed(2)}`;
    begun ??= index;
  });
  end(values.length);
  return path;
}

const largest = (...lists) => lists.flat().reduce((most, value) => value > most ? value : most, 0);

const canvas = (attributes) => svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", ...attributes });

/** A small line without axes, for a row or a tile; it is made once and then given other values. */
export class Sparkline {
  constructor(kinds = ["main"], filled = false) {
    this.filled = filled;
    this.paths = kinds.map((kind) => svg("path", { class: `line ${kind}` }));
    this.area = filled ? svg("path", { class: `area ${kinds[0]}` }) : null;
    this.node = canvas({ class: "spark", "aria-hidden": "true" });
    this.node.append(...(this.area ? [this.area] : []), ...this.paths);
  }

  draw(...lists) {
    const top = largest(...lists);
    lists.forEach((values, index) => this.paths[index].setAttribute("d", line(values, top)));
    this.area?.setAttribute("d", line(lists[0], top, true));
  }
}

/** A chart over time with a scale, a caption and the values below the pointer. series: [{kind, name, filled?}]. */
export class TimeChart {
  constructor(title, series, show) {
    this.title = title;
    this.series = series;
    this.show = show;
    this.values = [];
    this.paths = series.map((one) => svg("path", { class: `${one.filled ? "area" : "line"} ${one.kind}` }));
    this.cross = svg("line", { class: "cross", y1: 0, y2: HEIGHT, visibility: "hidden" });
    this.canvas = canvas({ role: "img" });
    this.canvas.append(svg("path", { class: "guide", d: `M0 4H${WIDTH}M0 52H${WIDTH}M0 ${HEIGHT}H${WIDTH}` }), ...this.paths, this.cross);
    this.numbers = series.map((one) => el("span", { class: `key ${one.kind}` }, ""));
    this.top = el("span", { class: "top-value" });
    this.times = el("p", { class: "times", "aria-hidden": "true" }, el("span"), el("span"), el("span"));
    this.when = el("time");
    this.node = el("figure", { class: "chart" },
      el("figcaption", {}, el("strong", {}, title), this.numbers, this.when), el("div", { class: "plot" }, this.canvas, this.top), this.times);
    this.canvas.addEventListener("pointermove", (event) => this.point(event));
    this.canvas.addEventListener("pointerleave", () => this.point(null));
  }

  /** values: a list for each series, oldest first; from, every: seconds. */
  draw(values, from, every) {
    [this.values, this.from, this.every] = [values, from, every];
    const top = largest(...values);
    values.forEach((list, index) => this.paths[index].setAttribute("d", line(list, top, this.series[index].filled)));
    setText(this.top, top ? this.show(top) : "");
    const last = Math.max(0, (values[0]?.length ?? 0) - 1);
    [0, last / 2, last].forEach((index, place) => setText(this.times.children[place], minute(from + index * every)));
    this.say(last);
    this.canvas.setAttribute("aria-label", `${this.title}: ${this.numbers.map((one) => one.textContent).join(", ")}; max ${this.show(top)}`);
  }

  say(index) {
    this.series.forEach((one, place) => setText(this.numbers[place], `${one.name} ${this.show(this.values[place]?.[index])}`));
  }

  point(event) {
    const length = this.values[0]?.length ?? 0;
    this.cross.setAttribute("visibility", event && length ? "visible" : "hidden");
    if (!length) return;
    if (!event) {
      setText(this.when, "");
      return this.say(length - 1);
    }
    const box = this.canvas.getBoundingClientRect();
    const index = Math.max(0, Math.min(length - 1, Math.round((length - 1) * (event.clientX - box.left) / box.width)));
    const x = WIDTH * index / Math.max(1, length - 1);
    this.cross.setAttribute("x1", x);
    this.cross.setAttribute("x2", x);
    setText(this.when, clock(this.from + index * this.every));
    this.say(index);
  }
}

/** A horizontal bar: a part of 0 to 1. */
export function bar(part, kind = "main") {
  const fill = el("i", { class: kind });
  fill.style.width = `${Math.max(0, Math.min(1, part || 0)) * 100}%`;
  return el("span", { class: "barline", "aria-hidden": "true" }, fill);
}

/** One strip divided by counts: [[kind, count]...]. */
export function strip(counts) {
  const parts = counts.filter(([, number]) => number > 0).map(([kind, number]) => {
    const part = el("i", { class: kind });
    part.style.flexGrow = String(number);
    return part;
  });
  return el("span", { class: "strip", "aria-hidden": "true" }, parts);
}
