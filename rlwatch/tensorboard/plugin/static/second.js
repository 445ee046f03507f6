// What side B of the player shows: its run, its target and its checkpoint.
import { el, offer, whole } from "./dom.js";
import { actionOf, checkpointAt, indexAt, nearestWithActions, sideOf, targetsOf, wordsOf } from "./model.js";

const WHAT_B_SHOWS = ["data", "run", "target", "compare", "run2", "target2", "step2", "map"];

export function secondSide({ store, data }) {
  const run = picker("run", (chosen) => store.set({ run2: chosen }));
  const target = picker("target", (chosen) => store.set({ target2: chosen }));
  const slider = el("input", { type: "range", min: 0, ariaLabel: "checkpoint of side B", id: "step2" });
  const told = el("span", { className: "number" });
  const letter = el("b", { className: "letter", textContent: "B" });
  const element = el("div", { className: "second" }, letter, run, target, slider, told);
  const checkpoints = () => data.loaded.get(sideOf(store.get(), 1).run)?.checkpoints ?? [];
  slider.oninput = () => store.set({ step2: checkpoints()[+slider.value]?.step ?? 0 });
  store.on(WHAT_B_SHOWS, (state) => {
    const side = sideOf(state, 1);
    const runs = data.runs.map((one) => one.run);
    element.hidden = !state.compare;
    offer(run, runs, side.run);
    run.title = side.run;
    const { probe } = data.loaded.get(side.run) ?? {};
    offer(target, offeredTargets(data, side), side.target, (one) => wordsOf(one, probe?.actions).button);
    slider.max = Math.max(0, checkpoints().length - 1);
    slider.value = indexAt(checkpoints(), side.step);
    told.textContent = `step ${whole(checkpointAt(data, side)?.step ?? 0)}`;
  });
  return element;
}

// The targets of its run, and the actions where their maps are logged or one is asked for.
function offeredTargets(data, { run, target }) {
  const { probe, checkpoints = [] } = data.loaded.get(run) ?? {};
  const offersActions = actionOf(target) !== null || nearestWithActions(checkpoints, 0);
  const actions = offersActions ? (probe?.actions ?? []).map((_, i) => `action=${i}`) : [];
  return [...new Set([...targetsOf(data, run), ...actions])];
}

function picker(what, onchoose) {
  const select = el("select", { ariaLabel: `${what} of side B`, id: `${what}2` });
  select.onchange = () => onchoose(select.value);
  return select;
}
