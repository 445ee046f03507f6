// The Q-values of all actions as bars, the greedy one marked. A click asks for the map of that action.
import { button, el } from "./dom.js";

export function actionBars(store) {
  const heading = el("div", { className: "heading" });
  const list = el("div", { className: "bars" });
  const choose = (action) => store.set({ map: store.get().map === `action=${action}` ? "" : `action=${action}` });
  const draw = (probe, values, map) => {
    const count = values?.length ?? 0;
    while (list.children.length > count) list.lastChild.remove();
    while (list.children.length < count) list.append(bar(list.children.length, choose));
    heading.textContent = values ? "Q-values" : "Q-values: not logged";
    if (values) setBars([...list.children], probe.actions, values, map);
    list.classList.toggle("many", count > 9);
  };
  return { element: el("div", { className: "actions" }, heading, list), draw };
}

function bar(action, choose) {
  const made = button("", () => choose(action), { className: "bar", dataset: { action } });
  made.append(
    el("span", { className: "name" }),
    el("span", { className: "track" }, el("i")),
    el("span", { className: "value" }),
  );
  return made;
}

function setBars(bars, names, values, map) {
  const best = values.indexOf(Math.max(...values));
  const [low, high] = [Math.min(...values), Math.max(...values)];
  bars.forEach((one, action) => {
    const [name, track, value] = one.children;
    const called = names.length === values.length ? names[action] : String(action);
    name.textContent = `${action === best ? "▸ " : ""}${called}`;
    track.firstChild.style.width = `${8 + 92 * ((values[action] - low) / (high - low || 1))}%`;
    value.textContent = values[action].toFixed(high - low > 0.5 ? 2 : 3);
    one.classList.toggle("best", action === best);
    one.setAttribute("aria-pressed", String(map === `action=${action}`));
    one.title = `${called}${action === best ? ", the greedy action" : ""}: click for its own map`;
  });
}
