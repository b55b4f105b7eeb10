// What must be seen wherever one looks: no connection, panic, nobody left, stale discovery, workers apart, and the like.

import { byId, el, redraw } from "./dom.js";
import { live } from "./live.js";
import { ago, date, duration, t } from "./texts.js";

const APART_LOOKS = 3;  // a reload is applied by one worker after the other: apart for a moment is no news
const SOON_S = 14 * 86400;
let apart = 0;

/** Show what holds now, and nothing else. */
export function drawBanners() {
  const found = troubles();
  redraw(byId("banners"), JSON.stringify(found), () => found.map(([kind, text]) => el("p", { class: `banner ${kind}` }, text)));
}

function troubles() {
  const found = [], now = live.document;
  if (live.lost) found.push(["bad", t("banner_lost", { why: live.lost.message })]);
  if (!now) return found;
  if (now.draining) found.push(["warn", t("banner_draining")]);
  for (const [name, service] of Object.entries(now.services)) {
    if (service.status !== "ok") found.push(["bad", t("banner_no_backend", { service: name })]);
    if (service.panic) found.push(["bad", t("banner_panic", { service: name, available: service.available, total: service.total })]);
    if (service.drowning) {
      found.push(["warn", t("banner_drowning", { service: name, now: duration(service.drowning.now_s), usual: duration(service.drowning.usual_s) })]);
    }
    for (const { state, source, age_s: age, problem } of service.discovery.filter((one) => one.state !== "fresh")) {
      found.push(["warn", t(`banner_${state}`, { service: name, source, age: duration(Math.round(age ?? 0)), problem })]);
    }
  }
  apart = new Set(now.workers.map((one) => one.generation)).size > 1 ? apart + 1 : 0;
  if (apart >= APART_LOOKS) {
    found.push(["warn", t("banner_apart", { who: now.workers.map((one) => `${one.slot}: ${one.generation}`).join(", ") })]);
  }
  if (now.cluster && now.cluster.state !== "live") found.push(["warn", t("banner_cluster", now.cluster)]);
  if (now.cluster?.refused) found.push(["bad", t("banner_refused", { why: now.cluster.refused })]);
  for (const one of now.certificates.filter((one) => one.expires_at - now.at < SOON_S)) {
    const names = one.names.join(", ");
    if (one.expires_at < now.at) found.push(["bad", t("banner_expired", { names, when: ago(one.expires_at, now.at) })]);
    else found.push(["warn", t("banner_expires", { names, when: date(one.expires_at) })]);
  }
  return found;
}
