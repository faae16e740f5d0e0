// Numbers as people read them. A real minus sign, no "-0.00", and a dash where there is no number.

const NONE = "–";
const none = (value) => value === null || value === undefined || !Number.isFinite(value);

/** With exactly `digits` decimals. */
export function fixed(value, digits) {
  if (none(value)) return NONE;
  const text = Math.abs(value).toFixed(digits);
  return value < 0 && Number(text) !== 0 ? `−${text}` : text;
}

/** Whole, with thousands separated. */
export const count = (value) => (none(value) ? NONE : Math.round(value).toLocaleString("en"));

/** Three significant digits or so, for rates. */
export const rate = (value) => (none(value) ? NONE : value >= 100 || value === 0 ? count(value) : fixed(value, value >= 10 ? 1 : 2));

/** Milliseconds. */
export function ms(value) {
  if (none(value)) return NONE;
  if (value >= 10_000) return `${fixed(value / 1000, 1)} s`;
  return `${fixed(value, value >= 100 ? 0 : value >= 10 ? 1 : 2)} ms`;
}

/** Seconds, as milliseconds where they are few. */
export const seconds = (value) => (none(value) ? NONE : ms(value * 1000));

export function bytes(value) {
  if (none(value)) return NONE;
  let unit = 0;
  while (value >= 1024 && unit < 4) {
    value /= 1024;
    unit += 1;
  }
  return `${fixed(value, unit === 0 || value >= 100 ? 0 : 1)} ${["B", "KiB", "MiB", "GiB", "TiB"][unit]}`;
}

/** How long ago or how long running: the two largest units. */
export function duration(value) {
  if (none(value)) return NONE;
  const s = Math.floor(value);
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60} s`;
  if (s < 86_400) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return `${Math.floor(s / 86_400)} d ${Math.floor((s % 86_400) / 3600)} h`;
}

export const plural = (n, one, many = `${one}s`) => `${count(n)} ${n === 1 ? one : many}`;

/** The start of a text that fits `length` characters; a cut never splits a character in two. */
export function short(text, length) {
  const characters = [...text];
  return characters.length <= length ? text : `${characters.slice(0, length - 1).join("").trimEnd()}…`;
}
