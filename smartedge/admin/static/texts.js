// The page's words in the browser's language, and how numbers and times are written there.

const wanted = navigator.languages ?? [navigator.language];
const language = wanted.map((one) => one.slice(0, 2).toLowerCase()).find((one) => one === "en" || one === "pt") ?? "en";
const texts = await (await fetch(new URL(`texts.${language}.json`, import.meta.url))).json();
const locale = wanted.find((one) => one.toLowerCase().startsWith(language)) ?? language;

/** The text of a key, with {name} replaced by values. */
export function t(key, values = {}) {
  return (texts[key] ?? key).replace(/\{(\w+)\}/g, (_, name) => values[name] ?? "");
}

/** A word of the edge (a state, a reason) in the reader's language. */
export function word(value) {
  return texts[`word_${value}`] ?? String(value ?? "–").replaceAll("_", " ");
}

/** Put the words into the page as it was sent, where its data attributes ask for them. */
export function translate(root) {
  document.documentElement.lang = language;
  for (const node of root.querySelectorAll("[data-text]")) node.textContent = t(node.dataset.text);
  for (const node of root.querySelectorAll("[data-label]")) node.setAttribute("aria-label", t(node.dataset.label));
  for (const node of root.querySelectorAll("[data-hint]")) node.placeholder = t(node.dataset.hint);
}

const formats = new Map();

function format(value, options) {
  const key = JSON.stringify(options);
  if (!formats.has(key)) formats.set(key, new Intl.NumberFormat(locale, options));
  return formats.get(key).format(value);
}

export const count = (value) => value == null ? "–" : format(value, { maximumFractionDigits: 0 });

export function rate(value) {
  if (value == null) return "–";
  if (value >= 10000) return format(value, { notation: "compact", maximumFractionDigits: 1 });
  const digits = value === 0 || value >= 100 ? 0 : 1;
  return format(value > 0 && value < 0.05 ? 0.1 : value, { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

export function figure(value) {
  return value == null ? "–" : format(value, { maximumSignificantDigits: 3 });
}

export function percent(value) {
  return value == null ? "–" : format(value, { style: "percent", maximumFractionDigits: value && value < 0.1 ? 1 : 0 });
}

/** A span of time in seconds, in the unit that suits it. */
export function duration(seconds) {
  if (seconds == null) return "–";
  if (seconds < 1) return `${format(seconds * 1000, { maximumSignificantDigits: seconds < 0.1 ? 2 : 3 })} ms`;
  if (seconds < 60) return `${format(seconds, { maximumSignificantDigits: 3 })} s`;
  if (seconds < 3600) return `${format(seconds / 60, { maximumFractionDigits: 0 })} min`;
  if (seconds < 86400) return `${format(seconds / 3600, { maximumFractionDigits: 1 })} h`;
  return `${format(seconds / 86400, { maximumFractionDigits: 1 })} d`;
}

export function bytes(value) {
  return value == null ? "–" : `${format(value / 2 ** 20, { maximumFractionDigits: 0 })} MiB`;
}

const clockFormat = new Intl.DateTimeFormat(locale, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const minuteFormat = new Intl.DateTimeFormat(locale, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
const dateFormat = new Intl.DateTimeFormat(locale, { dateStyle: "medium" });

export const clock = (unix) => clockFormat.format(unix * 1000);
export const minute = (unix) => minuteFormat.format(unix * 1000);
export const date = (unix) => dateFormat.format(unix * 1000);

/** How long ago something was; now: Unix time by the edge's clock, not the browser's. */
export function ago(unix, now) {
  return unix == null ? "–" : t("ago", { time: duration(Math.max(0, Math.round(now - unix))).replace(/^0 ms$/, "0 s") });
}
