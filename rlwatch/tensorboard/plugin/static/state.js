// What the person has chosen, in one place and in the page's address.

const INITIAL = Object.freeze({
  run: "",
  others: [],
  mean: false,
  target: "greedy",
  step: null, // null: the newest checkpoint
  frame: null, // null: not chosen yet; the one with most relevance is then taken
  measure: "lift",
  scale: "log",
  shown: null, // null: the objects that stand out
  object: "", // the one that a click on the table singled out
  sign: "all",
  map: "", // "action=k" where the map of an action was asked for
  compare: false,
  run2: "",
  target2: "",
  step2: null,
  ownScales: false, // of two sides: each on its own colour scale, or both on the larger one
  published: false,
  sort: "-lift",
  returns: "",
});

const PRIVATE = { data: 0, playing: false };

export function createStore(state) {
  const listeners = [];
  let current = { ...INITIAL, ...PRIVATE, ...state };
  const set = (patch) => {
    const changed = Object.keys(patch).filter((key) => !same(patch[key], current[key]));
    if (!changed.length) return;
    current = { ...current, ...patch };
    listeners
      .filter(([keys]) => changed.some((key) => keys.includes(key)))
      .forEach(([, listener]) => listener(current));
  };
  const on = (keys, listener) => listeners.push([keys, listener]);
  return { get: () => current, set, on };
}

function same(one, other) {
  return one === other || (typeof one === "object" && JSON.stringify(one) === JSON.stringify(other));
}

function toHash(state) {
  const query = new URLSearchParams();
  Object.keys(INITIAL)
    .filter((key) => !same(state[key], INITIAL[key]))
    .forEach((key) => query.set(key, typeof state[key] === "string" ? state[key] : JSON.stringify(state[key])));
  return query.toString();
}

const isNames = (value) => Array.isArray(value) && value.every((one) => typeof one === "string");
const isStep = (value) => value === null || Number.isFinite(value);
const oneOf =
  (...words) =>
  (value) =>
    words.includes(value);
const ALLOWED = {
  others: isNames,
  step: isStep,
  step2: isStep,
  frame: (value) => value === null || (Number.isInteger(value) && value >= 0),
  measure: oneOf("lift", "share", "relevance"),
  scale: oneOf("log", "linear"),
  shown: (value) => value === null || isNames(value),
  sign: oneOf("all", "positive", "negative", "none"),
};

// Only keys and values that make sense come back: an address is written by anyone.
export function fromHash(hash) {
  const query = [...new URLSearchParams(hash.replace(/^#/, ""))].filter(([key]) => Object.hasOwn(INITIAL, key));
  return Object.fromEntries(
    query.map(([key, text]) => [key, parsed(key, text)]).filter(([key, value]) => fits(key, value)),
  );
}

function parsed(key, text) {
  if (typeof INITIAL[key] === "string") return text;
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function fits(key, value) {
  return ALLOWED[key] ? ALLOWED[key](value) : typeof value === typeof INITIAL[key];
}

// An address of its own, spelled out: a page with a <base> would take a bare "#…" for another page's.
export function keepInAddress(store) {
  let waiting = 0;
  const write = () => {
    waiting = 0;
    const hash = toHash(store.get());
    history.replaceState(null, "", location.pathname + location.search + (hash ? `#${hash}` : ""));
  };
  store.on(Object.keys(INITIAL), () => (waiting ||= setTimeout(write, 250)));
  window.addEventListener("hashchange", () =>
    store.set({ ...INITIAL, run: store.get().run, ...fromHash(location.hash) }),
  );
}

export function address(store) {
  const hash = toHash(store.get());
  return location.href.replace(/#.*$/, "") + (hash ? `#${hash}` : "");
}
