// How far the maps of a checkpoint can be trusted, as lights with plain words.
import { el, fill, isNumber, percent, whole } from "./dom.js";
import { checkpointAt, has, indexAt, sideOf } from "./model.js";

// `above`: the value of the figure above which the light is good; `below`: the value below which it is.
const CHECKS = [
  {
    key: "randomised_head",
    below: 0.9,
    good: "depends on the Q-head",
    bad: "does not depend on the Q-head",
    title: "Likeness to the maps of the network with its head drawn anew (Adebayo et al. 2018): 1 = the same maps",
  },
  {
    key: "gain_low",
    above: 0,
    good: "beats random maps",
    bad: "no power against random maps",
    title: "Lower end of the gain of flipping pixels in the maps' order over random orders: above 0 = beats them",
  },
  {
    key: "action",
    below: 0.9,
    good: "differs by action",
    bad: "same for other actions",
    title: "Likeness to the maps of the second-best action: 1 = the same maps",
  },
  {
    key: "shift",
    above: 0.5,
    good: "steady under shifts",
    bad: "unsteady under shifts",
    title: "Likeness when the picture is moved by one pixel: 1 = the maps move along",
  },
  {
    key: "agreement",
    above: 0.5,
    good: "methods agree",
    bad: "methods disagree",
    title: "Likeness to the maps of another composite: 1 = both say the same",
  },
];

export function trustLights({ store, data }) {
  const row = el("div", { className: "lights" });
  store.on(["data", "run", "target", "step"], (state) => {
    const { checkpoints = [] } = data.loaded.get(state.run) ?? {};
    const checkpoint = checkpointAt(data, sideOf(state, 0));
    const figures = checkpoint?.validity ?? {};
    row.hidden = !has(checkpoints, "validity");
    row.title = checkpoint?.trust ?? "";
    if (Object.keys(figures).length)
      fill(row, ...CHECKS.map((check) => trustLight(check, figures[`${check.key}_${state.target}`])));
    else fill(row, unchecked(checkpoints, state, store));
  });
  return row;
}

function trustLight(check, figure) {
  if (!isNumber(figure)) return null;
  const good = check.below === undefined ? figure > check.above : figure < check.below;
  const shown = check.key === "gain_low" ? percent(figure) : figure.toFixed(2);
  return el("span", {
    className: `light ${good ? "good" : "bad"}`,
    textContent: good ? check.good : check.bad,
    title: `${check.title}. Here: ${shown}`,
  });
}

// The budget has room for these checks at some checkpoints only; the nearest one before, or the first after, is a click away.
function unchecked(checkpoints, state, store) {
  const at = indexAt(checkpoints, state.step);
  const checked = (one) => Object.keys(one.validity ?? {}).length > 0;
  const other = checkpoints.slice(0, at).findLast(checked) ?? checkpoints.slice(at).find(checked);
  const title = "The budget had no room for the checks of validity at this checkpoint";
  const go =
    other &&
    el("a", {
      href: "#",
      textContent: `checked at step ${whole(other.step)}`,
      onclick: (event) => (event.preventDefault(), store.set({ step: other.step })),
    });
  return el("span", { className: "light unknown", title }, "maps not checked here; ", go ?? "");
}
