// The Q-values of all actions as bars, the greedy one marked. A click asks for the map of that action.
import { button, decimals, el } from "./dom.js";
import { actionNames } from "./model.js";

const MANY = 9; // actions: more stand in two columns, by signs

export function actionBars(choose) {
  const told = el("span");
  const hint = el("small", { textContent: "click for its map" });
  const heading = el("div", { className: "heading" }, told, hint);
  const list = el("div", { className: "bars" });
  const draw = (probe, shown, frame) => {
    const values = shown?.maps?.q_values?.[frame];
    const count = values?.length ?? 0;
    while (list.children.length > count) list.lastChild.remove();
    while (list.children.length < count) list.append(bar(list.children.length, choose));
    told.textContent = values ? "Q-values" : "Q-values: not logged";
    hint.hidden = !values || !shown.checkpoint.all_actions;
    if (values) setBars([...list.children], actionNames(probe, count), values, shown.target);
    list.classList.toggle("many", count > MANY);
    list.title = count > MANY ? "○ NOOP · ● FIRE" : "";
  };
  return { element: el("div", { className: "actions" }, heading, list), draw };
}

function bar(action, choose) {
  const made = button("", () => choose(`action=${action}`), { className: "bar", dataset: { action } });
  made.append(
    el("span", { className: "name" }),
    el("span", { className: "track" }, el("i")),
    el("span", { className: "value" }),
  );
  return made;
}

function setBars(bars, names, values, target) {
  const isMany = values.length > MANY;
  const best = values.indexOf(Math.max(...values));
  const [low, high] = [Math.min(...values), Math.max(...values)];
  bars.forEach((one, action) => {
    const [name, , value] = one.children;
    name.textContent = isMany ? signOf(names[action]) : `${action === best ? "▸ " : ""}${names[action]}`;
    one.style.setProperty("--part", `${8 + 92 * ((values[action] - low) / (high - low || 1))}%`);
    value.textContent = decimals(values[action], high - low > 0.5 ? 2 : 3);
    one.classList.toggle("best", action === best);
    one.setAttribute("aria-pressed", String(target === `action=${action}`));
    one.title = `${names[action]}${action === best ? ", the greedy action" : ""}: click for its own map`;
  });
}

const ARROWS = {
  NOOP: "○",
  UP: "↑",
  RIGHT: "→",
  LEFT: "←",
  DOWN: "↓",
  UPRIGHT: "↗",
  UPLEFT: "↖",
  DOWNRIGHT: "↘",
  DOWNLEFT: "↙",
};

// An action's name as arrow and button, for where there are too many for words.
function signOf(name) {
  const [, way, fire] = /^(.*?)(FIRE)?$/.exec(name);
  return `${ARROWS[way] ?? way}${fire ? "●" : ""}`;
}
