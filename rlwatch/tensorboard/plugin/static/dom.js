// Elements and numbers in words. All text goes through textContent: names of runs are data, never markup.

export function el(tag, properties = {}, ...children) {
  const { dataset, style, ...rest } = properties;
  const made = Object.assign(document.createElement(tag), rest);
  Object.assign(made.dataset, dataset ?? {});
  Object.entries(style ?? {}).forEach(([name, value]) => made.style.setProperty(name, value));
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

const FOCUSABLE = "a, button, input, select, [tabindex]";

// What has the focus of the keyboard gives it to what stands in its place.
export function fill(parent, ...children) {
  const at = parent.contains(document.activeElement)
    ? [...parent.querySelectorAll(FOCUSABLE)].indexOf(document.activeElement)
    : -1;
  parent.replaceChildren(...children.filter((child) => child !== null && child !== undefined));
  if (at >= 0) parent.querySelectorAll(FOCUSABLE)[at]?.focus({ preventScroll: true });
}

export function button(text, onclick, properties = {}) {
  return el("button", { type: "button", textContent: text, onclick, ...properties });
}

// Buttons of which one is pressed. `choices`: [value, text, title]…
export function segmented(label, choices, onchoose) {
  const buttons = choices.map(([value, text, title = ""]) =>
    button(text, () => onchoose(value), { title, dataset: { value: String(value) } }),
  );
  const group = el("div", { className: "segmented", role: "group", ariaLabel: label }, ...buttons);
  const press = (chosen) =>
    buttons.forEach((one) => one.setAttribute("aria-pressed", String(one.dataset.value === String(chosen))));
  return { element: group, press };
}

export function toggle(text, onclick, properties = {}) {
  const made = button(text, onclick, { className: "toggle", ...properties });
  return { element: made, press: (on) => made.setAttribute("aria-pressed", String(Boolean(on))) };
}

// A toggle of one thing that the store knows to be on or off.
export function flag(store, key, text, properties) {
  const made = toggle(text, () => store.set({ [key]: !store.get()[key] }), properties);
  store.on(["data", key], (state) => made.press(state[key]));
  return made.element;
}

// Keeps the elements of a select that stay the same, so that an open list is not torn away.
export function offer(select, values, chosen, text = String) {
  const same =
    select.options.length === values.length && values.every((one, i) => select.options[i].value === String(one));
  if (!same) fill(select, ...values.map((one) => el("option", { value: String(one), textContent: text(one) })));
  select.value = String(chosen);
}

export function swatch(colour) {
  return el("i", { className: "swatch", style: { "--colour": colour } });
}

const grouped = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

export function whole(number) {
  return grouped.format(number);
}

export function brief(number) {
  if (!isNumber(number)) return "–";
  const size = Math.abs(number);
  const words = size !== 0 && size < 0.001 ? size.toExponential(0) : fixed(size, digits(size));
  return number < 0 ? `−${words}` : words;
}

// As Python rounds, so that a number here is the one in clips and texts: a tie, as in 3.25, goes to the even digit.
function fixed(size, places) {
  const words = size.toFixed(places);
  const isTie = (size * 2 ** (places + 1)) % 2 === 1;
  return isTie && +words.at(-1) % 2 ? (size - 0.5 / 10 ** places).toFixed(places) : words;
}

// With so many decimals, and no sign before a zero.
export function decimals(number, places) {
  const words = Math.abs(number).toFixed(places);
  return number < 0 && +words !== 0 ? `−${words}` : words;
}

function digits(size) {
  if (size !== 0 && size < 0.1) return 3;
  return size >= 100 ? 0 : size >= 1 ? 1 : 2;
}

export function percent(part) {
  if (!isNumber(part)) return "–";
  return `${(100 * part).toFixed(part !== 0 && Math.abs(part) < 0.0995 ? 1 : 0)} %`;
}

export function short(number) {
  const [size, letter] = [
    [1e9, "G"],
    [1e6, "M"],
    [1e3, "k"],
  ].find(([least]) => Math.abs(number) >= least) ?? [1, ""];
  return `${parseFloat((number / size).toPrecision(3))}${letter}`.replace("-", "−");
}

export function isNumber(value) {
  return typeof value === "number" && Number.isFinite(value);
}

// The room that canvases have on the page, kept up to date: to ask for it at each drawing costs a layout of the page.
const rooms = new WeakMap();
const watcher = new ResizeObserver((entries) => entries.forEach(({ target }) => rooms.set(target, roomNow(target))));

function roomNow({ clientWidth: width, clientHeight: height }) {
  return { width, height };
}

// As many pixels as the canvas covers on the screen; {width, height} of its room on the page, 0 while it is hidden.
export function fitted(canvas) {
  if (!rooms.has(canvas)) {
    rooms.set(canvas, roomNow(canvas));
    watcher.observe(canvas);
  }
  const room = rooms.get(canvas);
  const ratio = window.devicePixelRatio || 1;
  const [width, height] = [Math.round(room.width * ratio), Math.round(room.height * ratio)];
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  return room;
}

// The same with a context to draw in pixels of the page.
export function sized(canvas) {
  const { width, height } = fitted(canvas);
  const ratio = window.devicePixelRatio || 1;
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  return { context, width, height };
}
