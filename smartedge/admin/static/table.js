// A table that stays the same while its numbers change: a row is found again by its key, a cell is drawn when its value is
// another, and rows change places only when nobody is pointing at them. Elements have their roles written out, for the rows
// are laid out as grids, which lets the browser leave out those that are not on the screen.

import { el, setText } from "./dom.js";
import { t } from "./texts.js";

const ORDER_MS = 2000;

/** columns: {key, value(row), draw(row, cell)?, sort(row)?, number?}; value says what is shown, as text, or stands for what
    `draw` makes of it. keyOf(row): names a row. link(row): where a row leads. */
export class Table {
  constructor(place, name, columns, { keyOf, link = null, label = "", sort = null, empty = "" }) {
    this.columns = columns;
    this.keyOf = keyOf;
    this.link = link;
    this.sortKey = sort;
    this.descending = false;
    this.rows = new Map();
    this.order = [];
    this.orderedAt = 0;
    this.heads = new Map();
    const cells = columns.map((column) => this.head(column));
    this.body = el("tbody", { role: "rowgroup" });
    this.empty = el("p", { class: "empty", hidden: true }, empty);
    const head = el("thead", { role: "rowgroup" }, el("tr", { role: "row" }, cells));
    this.table = el("table", { role: "table", class: `grid ${name}`, "aria-label": label }, head, this.body);
    place.append(el("div", { class: "card scroll" }, this.table, this.empty));
    this.body.addEventListener("click", (event) => this.follow(event));
    this.body.addEventListener("keydown", (event) => this.walk(event));
  }

  head(column) {
    const attributes = { role: "columnheader", scope: "col", class: classOf(column) };
    if (!column.sort) return el("th", attributes, t(`column_${column.key}`));
    const cell = el("th", { ...attributes, "aria-sort": "none" },
      el("button", { type: "button", onclick: () => this.sortBy(column.key) }, t(`column_${column.key}`)));
    this.heads.set(column.key, cell);
    return cell;
  }

  /** Sort by a column; by the same once more: the other way round; then as the rows came. */
  sortBy(key) {
    const first = Boolean(this.columns.find((column) => column.key === key)?.number);
    if (this.sortKey !== key) [this.sortKey, this.descending] = [key, first];
    else if (this.descending === first) this.descending = !first;
    else this.sortKey = null;
    for (const [other, cell] of this.heads) {
      cell.setAttribute("aria-sort", other !== this.sortKey ? "none" : this.descending ? "descending" : "ascending");
    }
    this.onSort?.(this.sortKey);
    this.arrange(true);
  }

  /** Show these rows, in this order unless a column says another. now: also where somebody is pointing at one. */
  update(rows, { now = false } = {}) {
    const gone = new Set(this.rows.keys());
    let fresh = rows.length !== this.order.length;
    for (const row of rows) {
      const key = this.keyOf(row);
      gone.delete(key);
      let shown = this.rows.get(key);
      if (!shown) {
        this.rows.set(key, shown = this.newRow(key));
        fresh = true;
      }
      shown.row = row;
      this.drawRow(shown, row);
    }
    for (const key of gone) {
      this.rows.get(key).node.remove();
      this.rows.delete(key);
    }
    this.order = rows;
    this.empty.hidden = rows.length > 0;
    this.arrange(now || fresh);
  }

  newRow(key) {
    const cells = this.columns.map((column, index) => el(index ? "td" : "th", {
      role: index ? "cell" : "rowheader", scope: index ? null : "row", class: classOf(column), "data-label": t(`column_${column.key}`),
    }));
    const node = el("tr", { role: "row", "data-key": key, class: this.link ? "leads" : null }, cells);
    return { node, cells, values: new Array(cells.length), row: null };
  }

  drawRow(shown, row) {
    const { cells, values } = shown;
    for (let index = 0; index < cells.length; index++) {
      const column = this.columns[index], value = column.value(row);
      if (values[index] === value) continue;
      values[index] = value;
      const drawn = column.draw ? column.draw(row, cells[index]) : value;
      if (typeof drawn === "string") setText(cells[index], drawn);
      else if (drawn) cells[index].replaceChildren(...[drawn].flat());
    }
    const mood = row.mood ?? "";
    if (shown.mood !== mood) shown.node.dataset.mood = shown.mood = mood;
  }

  /** Put the rows into their order. Numbers change all the time: for their sake nothing moves below a pointer or the focus. */
  arrange(now) {
    const time = performance.now();
    if (!now && (!this.sortKey || time - this.orderedAt < ORDER_MS || this.body.matches(":hover, :focus-within"))) return;
    this.orderedAt = time;
    let rows = this.order;
    const column = this.columns.find((one) => one.key === this.sortKey);
    if (column) {
      const sign = this.descending ? -1 : 1;
      rows = [...rows].sort((one, other) => sign * compare(column.sort(one), column.sort(other)));
    }
    const focused = this.body.contains(document.activeElement) ? document.activeElement : null;
    let next = this.body.firstChild;
    for (const row of rows) {
      const { node } = this.rows.get(this.keyOf(row));
      if (node === next) next = next.nextSibling;
      else this.body.insertBefore(node, next);
    }
    if (focused && document.activeElement !== focused) focused.focus({ preventScroll: true });
  }

  follow(event) {
    const node = event.target.closest("tr");
    if (!this.link || !node || event.target.closest("a, button, input") || String(getSelection())) return;
    location.hash = this.link(this.rows.get(node.dataset.key).row);
  }

  walk(event) {
    const way = { ArrowDown: "nextElementSibling", ArrowUp: "previousElementSibling" }[event.key];
    const other = way && event.target.closest("tr")?.[way]?.querySelector("a");
    if (!other) return;
    event.preventDefault();
    other.focus();
  }
}

const classOf = (column) => [column.key, column.number ? "number" : ""].join(" ").trim();

function compare(one, other) {
  if (one == null || other == null) return (one == null) - (other == null);
  return typeof one === "string" ? one.localeCompare(other, undefined, { numeric: true }) : one - other;
}
