// What the edge has done by itself or was told: asked for every other second, kept as one list, newest first.

import { byId, Choice, chip, el, named, redraw } from "./dom.js";
import { ask } from "./edge_api.js";
import { hashOf } from "./backends.js";
import { live, lookNow } from "./live.js";
import { clock, date, t, word } from "./texts.js";
import { kindOf } from "./words_of.js";

const EVERY_MS = 2000;
const KEPT = 400;
const KEPT_RELOADS = 30;
const RELOADS = ["started", "reloaded", "reload_refused", "discovered", "certificate_renewed", "files_replaced", "apart", "together"];
const LEVELS = { all: () => true, warnings: (event) => event.level !== "info" };

let cursor = null, list = [], reloads = [], level = "all", version = 0;

export const newestReloads = () => ({ events: reloads, version });

/** Ask for what is new, again and again. shown: called when there is something. */
export async function followEvents(shown) {
  if (!document.hidden && !live.lost) {
    try {
      const told = await ask(cursor === null ? `events?limit=${KEPT}` : `events?after=${encodeURIComponent(cursor)}&limit=${KEPT}`);
      const known = cursor !== null;
      cursor = told.cursor;
      if (told.events.length || version === 0) {
        add(told.events);
        shown();
        if (known && !live.lost) lookNow(true);  // what has happened is seen at once
      }
    } catch (error) {
      if (error.status === 400) cursor = null;  // the edge has begun anew
    }
  }
  setTimeout(() => followEvents(shown), EVERY_MS);
}

/** Take new events into the lists, which stay as long as they may be. */
export function add(events) {
  const newest = [...events].reverse();
  list = [...newest, ...list].slice(0, KEPT);
  reloads = [...newest.filter((event) => RELOADS.includes(event.kind)), ...reloads].slice(0, KEPT_RELOADS);
  version++;
}

export function setUpEvents() {
  new Choice(byId("levels"), Object.keys(LEVELS).map((one) => [one, t(`level_${one}`)]), level, (chosen) => { level = chosen; drawEvents(); });
}

export function drawEvents() {
  redraw(byId("events"), `${level} ${version}`, () => eventList(list.filter(LEVELS[level])));
}

/** A list of events for people. leads: whether each leads to its backend. */
export function eventList(events, leads = true) {
  if (!events.length) return el("p", { class: "empty" }, t("no_events"));
  return el("ol", { class: "events" }, events.map((event) => el("li", { class: kindOf(event.level) },
    el("time", { title: date(event.at) }, clock(event.at)),
    chip(word(event.kind), kindOf(event.level)),
    el("span", {}, named(event.text)),
    leads && event.backend && event.service ? link(event) : null)));
}

function link({ service, backend }) {
  return el("a", { href: hashOf({ service, id: backend }) }, named(`${service}/${backend}`));
}
