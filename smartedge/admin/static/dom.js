// Making and changing elements. Text is always text: nothing here, or anywhere on the page, makes markup of a string.

const SVG = "http://www.w3.org/2000/svg";

/** Make an element: el("p", {class: "note", onclick: f}, "text", child). Attributes that are null or false are left out. */
export function el(name, attributes = {}, ...children) {
  return filled(document.createElement(name), attributes, children);
}

/** The same for SVG. */
export function svg(name, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, name), attributes, children);
}

function filled(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value == null || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child != null && child !== false));
  return node;
}

/** Somebody's name: it keeps to itself whichever direction it is written in. */
export function named(text) {
  return el("bdi", {}, text);
}

/** Replace an element's text, if it is another: an unchanged one costs no layout. */
export function setText(node, text) {
  const first = node.firstChild;
  if (first === null || first.nodeType !== Node.TEXT_NODE || first !== node.lastChild) node.textContent = text;
  else if (first.data !== text) first.data = text;
}

/** Show these children, but only when `key`, which says what they show, is another than last time. */
export function redraw(node, key, draw) {
  if (node.drawnKey === key) return;
  node.drawnKey = key;
  node.replaceChildren(...[draw()].flat().filter((child) => child != null && child !== false));
}

export const byId = (id) => document.getElementById(id);

/** A word in a coloured frame. kind: good, warn, bad or quiet. */
export function chip(text, kind = "quiet") {
  return el("span", { class: `chip ${kind}` }, text);
}

/** Buttons of which one is pressed. choices: [value, text]; what is chosen is handed to onChoice. */
export class Choice {
  constructor(place, choices, chosen, onChoice) {
    this.chosen = chosen;
    this.buttons = new Map();
    for (const [value, text] of choices) {
      const press = () => { this.press(value); onChoice(value); };
      this.buttons.set(value, el("button", { type: "button", "aria-pressed": String(value === chosen), onclick: press }, text));
    }
    place.replaceChildren(...this.buttons.values());
  }

  press(value) {
    this.chosen = value;
    for (const [other, button] of this.buttons) button.setAttribute("aria-pressed", String(other === value));
  }

  setText(value, text) {
    setText(this.buttons.get(value), text);
  }
}
