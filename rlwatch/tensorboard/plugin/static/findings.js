// What was found, as sentences that lead to their checkpoint; and the alarms, which stand on top of the page.
import { button, el, fill, isNumber, swatch, whole } from "./dom.js";
import { allOf, checkpointAt, coloursOf, sideOf, wordsOf } from "./model.js";

const WHEN = ["data", "run"];

export function findingsList({ store, data }) {
  const list = el("ol", { className: "findings" });
  const note = el("p", { className: "note" });
  store.on([...WHEN, "step"], (state) => {
    const { checkpoints = [] } = data.loaded.get(state.run) ?? {};
    const findings = [...(checkpoints.at(-1)?.findings ?? [])].sort((one, other) => one.step - other.step);
    const chosen = checkpointAt(data, sideOf(state, 0))?.step ?? 0;
    fill(list, ...findings.map((one) => item(one, coloursOf(data, state.run), chosen, () => goTo(store, one))));
    const notes = checkpointAt(data, sideOf(state, 0))?.notes ?? [];
    note.textContent = [findings.length ? "" : nothing(checkpoints), ...notes].filter(Boolean).join(" · ");
  });
  return el("section", { className: "card" }, el("header", {}, el("h2", { textContent: "Findings" })), list, note);
}

function nothing(checkpoints) {
  if (!checkpoints.length) return "No checkpoint yet, so nothing was found.";
  if (!Object.keys(checkpoints.at(-1).objects ?? {}).length)
    return "No findings: no objects are known in the probe, name places of your own under [regions].";
  return Object.keys(checkpoints.at(-1).untrained ?? {}).length
    ? "Nothing has stood above its untrained baseline in two checkpoints in a row."
    : "No findings: there is no untrained baseline to compare with.";
}

function goTo(store, { step, target, object }) {
  store.set({ step, target, object, map: "" });
}

function item({ text, target, object, step }, colours, chosen, onclick) {
  const link = button("", onclick, { className: "link", title: `Go to step ${whole(step)}` });
  link.append(swatch(colours[object] ?? "#9aa0ab"), text, el("small", { textContent: ` ${wordsOf(target).button}` }));
  return el("li", { className: step > chosen ? "later" : "" }, link);
}

export function alarmBanner({ store, data }) {
  const banner = el("div", { className: "alarms", role: "alert" });
  store.on(WHEN, (state) => {
    const { checkpoints = [], probe } = data.loaded.get(state.run) ?? {};
    const alarms = allOf(checkpoints, "alarms", (one) => `${one.step} ${one.name}`);
    banner.hidden = !alarms.length;
    fill(banner, ...alarms.map((one) => alarm(one, () => store.set({ step: one.step, ...frameOf(probe, one.frame) }))));
  });
  return banner;
}

function alarm({ step, name, text }, onclick) {
  const made = button("", onclick, { title: "Go to its checkpoint and frame" });
  made.append(el("b", { textContent: `▲ ${name.replaceAll("_", " ")}` }), ` from step ${whole(step)}: ${text}`);
  return made;
}

// A frame of the clip, where there is such a one.
export function frameOf(probe, frame) {
  return isNumber(frame) && frame >= 0 && frame < (probe?.indices.length ?? 0) ? { frame } : {};
}
