// The player: the probe as film. Frames and checkpoints move independently; two sides move in step.
import { frameAmounts } from "./decode.js";
import { button, el, flag, segmented, toggle } from "./dom.js";
import { momentStrip } from "./moments.js";
import { indexAt, sideOf } from "./model.js";
import { secondSide } from "./second.js";
import { mapsWith, playerSide } from "./side.js";

const SIGNS = [
  ["all", "all", "Relevance for and against"],
  ["positive", "for", "Positive relevance only: what speaks for"],
  ["negative", "against", "Negative relevance only: what speaks against"],
  ["none", "screen", "The game's own colours, without heat"],
];
const WHAT = ["data", "run", "target", "step", "map", "compare", "run2", "target2", "step2", "ownScales"];
const HOW = ["frame", "sign", "object"];
const PLAYED = 1000 / 30;

export function player(app) {
  const { store } = app;
  const sides = [playerSide(app, 0), playerSide(app, 1)];
  const strip = momentStrip(store);
  app.sides = sides.map((side) => side.view);
  const stage = el("div", { className: "sides" }, ...sides.map((side) => side.element));
  const element = el(
    "section",
    { className: "card player dark" },
    playerControls(app, strip),
    secondSide(app),
    stage,
    strip.element,
  );
  const drawn = () => {
    sides.forEach((side) => side.draw());
    strip.draw(app, store.get());
  };
  store.on(WHAT, () => reload(app, sides, strip, element));
  store.on(HOW, drawn);
  new ResizeObserver(drawn).observe(stage);
  play(store, app);
  return element;
}

async function reload(app, sides, strip, element) {
  const state = app.store.get();
  const [first, second] = sides;
  element.classList.toggle("comparing", state.compare);
  second.element.hidden = !state.compare;
  await Promise.all([first.load(), state.compare ? second.load() : null]);
  sides.forEach((side) => side.view.shown && shareScale(side.view.shown, sides, app.store.get()));
  if (state.compare) sides.forEach((side) => side.draw());
  element.dataset.shown = first.view.shown?.checkpoint?.step ?? "";
  element.dataset.painted = performance.now();
  setTimeout(() => afterwards(app, sides, strip, element));
}

// What may come a moment after the picture: the strip's bars, and the checkpoints that are likely to be next.
function afterwards(app, [first, second], strip, element) {
  const state = app.store.get();
  strip.amounts = amounts(first.view.shown, state.compare ? second.view.shown : null);
  if (state.frame === null && strip.amounts)
    app.store.set({ frame: strip.amounts.indexOf(Math.max(...strip.amounts)) });
  strip.draw(app, app.store.get());
  element.dataset.settled = performance.now();
  prefetch(app, state);
}

// One colour scale for both sides, the larger one, so that a pale map is one of little relevance.
function shareScale(shown, sides, { compare, ownScales }) {
  const ends = sides.map((side) => side.view.shown?.own).filter(Number.isFinite);
  shown.end = compare && !ownScales ? Math.max(...ends) : shown.own;
}

let amountsOf = { key: null, values: null };

function amounts(one, other) {
  if (!one?.levels || (other && !other.levels)) return null;
  const part = ({ levels, unit, maps }) => ({ levels, unit, shape: maps.shape });
  const alike = !other || (other.maps.shape.join() === one.maps.shape.join() && isOfSameProbe(one, other));
  if (amountsOf.key?.[0] !== one.levels || amountsOf.key?.[1] !== (other?.levels ?? null)) {
    amountsOf = {
      key: [one.levels, other?.levels ?? null],
      values: alike ? frameAmounts(part(one), other && part(other)) : null,
    };
  }
  return amountsOf.values;
}

// Frames of two probes have nothing to do with one another.
function isOfSameProbe(one, other) {
  return one.checkpoint.probe === other.checkpoint.probe;
}

// The neighbours of the chosen checkpoint, so that a step to them is instant.
function prefetch({ data }, state) {
  const { checkpoints = [] } = data.loaded.get(state.run) ?? {};
  const at = indexAt(checkpoints, state.step);
  [at - 1, at + 1]
    .filter((i) => checkpoints[i])
    .forEach((i) => mapsWith(state.run, checkpoints[i], sideOf(state, 0).target).catch(() => null));
}

function playerControls({ store, data }, strip) {
  const signs = segmented("sign", SIGNS, (sign) => store.set({ sign }));
  const playing = flag(store, "playing", "", { title: "Play or stop (space)", id: "play" });
  const differ = button("most different ⤳", () => strip.jump(), {
    title: "Go to the frames that differ most",
    id: "differ",
  });
  const scales = flag(store, "ownScales", "own scales", { title: "Each side on its own colour scale", id: "scales" });
  const title = "Two checkpoints, targets or runs side by side";
  const compare = toggle("compare", () => store.set(compared(store.get(), data)), { title, id: "compare" });
  const object = button("", () => store.set({ object: "" }), { className: "chip", title: "Outline all objects again" });
  store.on(["data", "playing", ...HOW, "compare"], (state) => {
    playing.textContent = state.playing ? "❚❚ stop" : "▶ play";
    signs.press(state.sign);
    compare.press(state.compare);
    differ.hidden = scales.hidden = !state.compare;
    Object.assign(object, { hidden: !state.object, textContent: `only ${state.object} ✕` });
  });
  const heading = el("h2", { textContent: "Player" });
  return el("header", {}, heading, playing, signs.element, object, differ, scales, compare.element);
}

// Comparing begins with the first checkpoint on the left and the chosen one beside it.
function compared(state, data) {
  if (state.compare) return { compare: false };
  const { checkpoints = [] } = data.loaded.get(state.run) ?? {};
  return { compare: true, step2: state.step2 ?? checkpoints[0]?.step ?? 0 };
}

function play(store, { data }) {
  let last = 0;
  const tick = (now) => {
    const state = store.get();
    if (!state.playing) return;
    const frames = data.loaded.get(state.run)?.probe?.indices.length ?? 1;
    if (now - last >= PLAYED - 2) {
      last = now;
      store.set({ frame: (state.frame + 1) % frames });
    }
    requestAnimationFrame(tick);
  };
  store.on(["playing"], (state) => state.playing && requestAnimationFrame(tick));
}
