// What the tests of the page have it do from inside: it is handed documents that no edge has sent. Read by tests/live/test_page.py,
// which runs one of these functions; `take` is what the page itself calls with each document that it is sent.

const { take } = await import("./static/live.js");
const ask = (window.trueFetch ??= window.fetch.bind(window));
const real = await (await ask("live")).json();
const place = Object.fromEntries(real.columns.map((name, index) => [name, index]));
const frame = () => new Promise(requestAnimationFrame);
const rest = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

/** Show everything at once that a banner may be about; give back what the banners and the view of the edge say. */
function trouble() {
  const service = real.services.default;
  const stale = { source: "dns x", state: "stale", age_s: 90, problem: "no answer" };
  Object.assign(service, { panic: true, available: 1, status: "ok", discovery: [stale] });
  real.services.empty = { ...service, panic: false, status: "no_backend", total: 0, discovery: [] };
  real.draining = true;
  real.cluster = { state: "stale", problem: "no answer of etcd", generation: 4, refused: null, cards: [{ node: "two", generation: 3 }] };
  real.may_not_operate = "etcd";
  real.certificates = [{ names: ["shop.example"], key: "ec", begins_at: 0, expires_at: real.at + 86400 }];
  real.workers[1].generation = real.generation - 1;
  for (let looks = 0; looks < 3; looks++) take(structuredClone(real));
  location.hash = "#/backend/default/b1";
  dispatchEvent(new Event("hashchange"));
  const buttons = [...document.querySelectorAll("#panel .actions button")].map((one) => one.disabled);
  return [...["#banners", "#edge", "#panel .why"].map((one) => document.querySelector(one).textContent), buttons];
}

/** Call a backend, its service and all that is said of it by this name; give back what became of it. */
function call(name) {
  const row = real.backends[0];
  for (const key of ["service", "id", "url", "zone", "check_detail", "state", "health", "breaker"]) row[place[key]] = name;
  row[place.check_ok] = false;
  real.services[name] = { ...real.services.default };
  take(real);
  const cell = document.querySelector("#backends tbody tr .id bdi");
  const services = [...document.querySelectorAll("#services bdi")].map((one) => one.textContent);
  const elements = document.querySelectorAll("#app img[onerror], #app script").length;
  return [cell.textContent, elements, getComputedStyle(cell).unicodeBidi, services];
}

/** Hand it so many backends; change: makes what it sees of one, by its number and row. From then on no edge is asked. */
async function fill(count) {
  const first = real.backends[0], all = [];
  for (let number = 0; number < count; number++) all.push(first.with(place.id, `backend-${number}`));
  window.fetch = () => new Promise(() => {});
  await rest(600);
  const give = (change) => take({ ...structuredClone({ ...real, backends: [] }), backends: all.map((row, number) => change([...row], number)) });
  give((row) => row);
  await frame();
  return give;
}

/** Update some of 500 backends, then scroll while all change; give back which rows were written, and how smooth it was. */
async function scroll() {
  const give = await fill(500), table = document.querySelector("#backends tbody"), written = new Set();
  const watch = new MutationObserver((changes) => {
    for (const { target } of changes) written.add((target.closest ? target : target.parentElement).closest("tr")?.dataset.key);
  });
  watch.observe(table, { subtree: true, childList: true, characterData: true, attributes: true });
  give((row, number) => (number % 200 === 7 ? row.with(place.requests_per_s, 1234) : row));
  await frame();
  watch.disconnect();

  const long = [];
  new PerformanceObserver((list) => long.push(...list.getEntries().map((one) => one.duration))).observe({ type: "longtask" });
  let frames = 0;
  for (const began = performance.now(); performance.now() - began < 1500; frames++) {
    if (frames % 30 === 0) give((row, number) => row.with(place.requests_per_s, frames + number).with(place.in_flight, frames % 9));
    scrollBy(0, 97);
    if (scrollY + innerHeight >= document.documentElement.scrollHeight - 2) scrollTo(0, 0);
    await frame();
  }
  return { rows: table.rows.length, written: [...written].filter(Boolean), frames, worst: Math.max(0, ...long) };
}

/** Update the page so many times. */
async function update(times) {
  window.give ??= await fill(5);
  for (let step = 0; step < times; step++) {
    window.give((row, number) => row.with(place.requests, step).with(place.requests_per_s, (step * number) % 977).with(place.state, step % 50 ? "enabled" : "draining"));
    if (step % 100 === 0) await frame();
  }
}
