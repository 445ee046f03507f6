// The player: the probe as film. Frames and checkpoints move independently; two sides move in step.
import { frameAmounts } from "./decode.js";
import { button, el, offer, segmented, toggle, whole } from "./dom.js";
import { momentStrip } from "./moments.js";
import { checkpointAt, indexAt, sideOf, targetsOf, wordsOf } from "./model.js";
import { playerSide } from "./side.js";
import { loadMaps } from "./source.js";

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
  const element = el("section", { className: "card player dark" }, controls(app, strip), secondSide(app), stage, strip.element);
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
  strip.amounts = amounts(first.view.shown, state.compare ? second.view.shown : null);
  strip.draw(app, app.store.get());
  element.dataset.shown = first.view.shown?.checkpoint?.step ?? "";
  element.dataset.painted = performance.now();
  prefetch(app, app.store.get());
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
  const alike = !other || other.maps.shape.join() === one.maps.shape.join();
  if (amountsOf.key?.[0] !== one.levels || amountsOf.key?.[1] !== (other?.levels ?? null)) {
    amountsOf = { key: [one.levels, other?.levels ?? null], values: alike ? frameAmounts(part(one), other && part(other)) : null };
  }
  return amountsOf.values;
}

// The neighbours of the chosen checkpoint, so that a step to them is instant.
function prefetch({ data }, state) {
  const { checkpoints = [] } = data.loaded.get(state.run) ?? {};
  const at = indexAt(checkpoints, state.step);
  [at - 1, at + 1].filter((i) => checkpoints[i]).forEach((i) => loadMaps(state.run, checkpoints[i].step).catch(() => null));
}

function controls({ store, data }, strip) {
  const playing = toggle("▶ play", () => store.set({ playing: !store.get().playing }), { title: "Play or stop (space)" });
  const signs = segmented("sign", SIGNS, (sign) => store.set({ sign }));
  const differ = button("most different ⤳", () => strip.jump(), { title: "Go to the frames where the two sides differ most, one after the other", id: "differ" });
  const compare = toggle("compare", () => store.set(compared(store.get(), data)), { title: "Two checkpoints, targets or runs side by side", id: "compare" });
  const scales = toggle("own scales", () => store.set({ ownScales: !store.get().ownScales }), { title: "Each side on its own colour scale, instead of both on the larger one", id: "scales" });
  const object = button("", () => store.set({ object: "" }), { className: "chip", title: "Outline all objects again" });
  store.on(["data", "playing", ...HOW, "compare", "ownScales"], (state) => {
    playing.press(state.playing);
    playing.element.textContent = state.playing ? "❚❚ stop" : "▶ play";
    signs.press(state.sign);
    compare.press(state.compare);
    differ.hidden = scales.element.hidden = !state.compare;
    scales.press(state.ownScales);
    Object.assign(object, { hidden: !state.object, textContent: `only ${state.object} ✕` });
  });
  return el("header", {}, el("h2", { textContent: "Player" }), playing.element, signs.element, object, differ, scales.element, compare.element);
}

// Comparing begins with the first checkpoint on the left and the chosen one beside it.
function compared(state, data) {
  if (state.compare) return { compare: false };
  const { checkpoints = [] } = data.loaded.get(state.run) ?? {};
  return { compare: true, step2: state.step2 ?? checkpoints[0]?.step ?? 0 };
}

function secondSide({ store, data }) {
  const run = el("select", { ariaLabel: "run of side B", id: "run2", onchange: () => store.set({ run2: run.value }) });
  const target = el("select", { ariaLabel: "target of side B", id: "target2", onchange: () => store.set({ target2: target.value }) });
  const slider = el("input", { type: "range", min: 0, ariaLabel: "checkpoint of side B", id: "step2" });
  const told = el("span", { className: "number" });
  const element = el("div", { className: "second" }, el("b", { className: "letter", textContent: "B" }), run, target, slider, told);
  const checkpoints = () => data.loaded.get(sideOf(store.get(), 1).run)?.checkpoints ?? [];
  slider.oninput = () => store.set({ step2: checkpoints()[+slider.value]?.step ?? 0 });
  store.on(WHAT, (state) => {
    element.hidden = !state.compare;
    const side = sideOf(state, 1);
    offer(run, data.runs.map((one) => one.run), side.run);
    offer(target, targetsOf(data, side.run), side.target, (one) => wordsOf(one).button);
    slider.max = Math.max(0, checkpoints().length - 1);
    slider.value = indexAt(checkpoints(), side.step);
    told.textContent = `step ${whole(checkpointAt(data, side)?.step ?? 0)}`;
  });
  return element;
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

