// Elements from data. Text becomes text nodes only, so nothing a user or a server sends is read as markup.

const SVG = "http://www.w3.org/2000/svg";

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    // The policy of the page forbids style attributes; custom properties set by script are allowed.
    else if (name.startsWith("--")) node.style.setProperty(name, value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

/** An HTML element; attributes that are null, undefined or false are left out, `onclick` and the like are listeners. */
export const el = (name, attributes = {}, ...children) => fill(document.createElement(name), attributes, children);

/** An SVG element, otherwise as `el`. */
export const svg = (name, attributes = {}, ...children) => fill(document.createElementNS(SVG, name), attributes, children);

export const byId = (id) => document.getElementById(id);

/** The lines of a text field that have something on them, without the space around it. */
export const lines = (text) => text.split(/\r?\n/).map((line) => line.trim()).filter(Boolean);
