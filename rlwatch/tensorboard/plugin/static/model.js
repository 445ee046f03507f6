// Questions to the loaded runs: which checkpoint is meant, what its objects are, in which colour.
import { isNumber } from "./dom.js";

// The colours of the outlines in rlwatch's clips: neither red nor blue, which mean relevance.
export const OUTLINES = [
  "rgb(255,224,70)",
  "rgb(70,225,130)",
  "rgb(240,130,240)",
  "rgb(255,160,60)",
  "rgb(255,255,255)",
  "rgb(60,220,220)",
  "rgb(190,235,60)",
  "rgb(200,160,120)",
  "rgb(175,150,255)",
  "rgb(255,190,200)",
];

const TARGETS = {
  greedy: {
    button: "value",
    title: "Target greedy: what the value of the best action rests on",
    rests: "the value rests on",
    explains: "what the value of the best action rests on",
    red: "raises the value",
    blue: "lowers it",
  },
  contrast: {
    button: "choice",
    title: "Target contrast: what the choice of the best action over the others rests on",
    rests: "the choice rests on",
    explains: "why the best action and not another",
    red: "speaks for it",
    blue: "for the others",
  },
  value: {
    button: "V",
    title: "Target value: what the state value V of a dueling head rests on",
    rests: "the state value rests on",
    explains: "what the state value V rests on",
    red: "raises it",
    blue: "lowers it",
  },
  advantage: {
    button: "A",
    title: "Target advantage: what the advantage A of the best action of a dueling head rests on",
    rests: "the advantage rests on",
    explains: "what the best action's advantage A rests on",
    red: "raises it",
    blue: "lowers it",
  },
};

export const MEASURES = {
  lift: {
    text: "lift",
    unit: "× average",
    title: "Mean relevance of the object's pixels / mean of all pixels; 1 = no preference",
  },
  share: {
    text: "share",
    unit: "of all positive relevance",
    title: "The object's part of all positive relevance; large objects get more",
  },
  relevance: {
    text: "relevance",
    unit: "Q units per frame",
    title: "Positive relevance on the object per frame that shows it, in Q units",
  },
};

// `actions`: the names of the actions, where a target may be `action=k`.
export function wordsOf(target, actions = []) {
  if (Object.hasOwn(TARGETS, target)) return TARGETS[target];
  const words = { button: target, title: `Target ${target}`, rests: `${target} rests on`, explains: target };
  if (actionOf(target) === null) return { ...words, red: "speaks for", blue: "speaks against" };
  const value = `Q of ${actions[actionOf(target)] ?? target}`;
  const told = { button: value, rests: `${value} rests on`, explains: `what ${value} rests on` };
  return { ...words, ...told, red: "raises it", blue: "lowers it" };
}

// The number of the action that a target `action=k` is about, else null.
export function actionOf(target) {
  const [, number] = /^action=(\d{1,3})$/.exec(target) ?? [];
  return number === undefined ? null : +number;
}

// The names of `count` actions: those of the probe, or numbers where a network has others.
export function actionNames(probe, count) {
  const names = probe?.actions ?? [];
  return count === undefined || names.length === count ? names : Array.from({ length: count }, (_, i) => String(i));
}

export function sideOf(state, side) {
  const target = state.map || state.target;
  if (side === 0) return { run: state.run, target, step: state.step };
  return { run: state.run2 || state.run, target: state.target2 || target, step: state.step2 ?? 0 };
}

// The checkpoint with the maps of every action that is nearest to a step; null where the run has none.
export function nearestWithActions(checkpoints, step) {
  const far = (one) => Math.abs(one.step - step);
  const nearer = (best, one) => (best && far(best) <= far(one) ? best : one);
  return checkpoints.filter((one) => one.all_actions).reduce(nearer, null);
}

// The index of the checkpoint at or nearest before `step`; the newest for null, -1 where there is none.
export function indexAt(checkpoints, step) {
  if (!isNumber(step)) return checkpoints.length - 1;
  let low = 0;
  let high = checkpoints.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (checkpoints[middle].step <= step) low = middle;
    else high = middle - 1;
  }
  return checkpoints.length ? low : -1;
}

export function checkpointAt(data, { run, step }) {
  const checkpoints = data.loaded.get(run)?.checkpoints ?? [];
  return checkpoints[indexAt(checkpoints, step)] ?? null;
}

// The digest of the probe that a run's checkpoints were asked about.
export function probeOf(data, run) {
  return data.loaded.get(run)?.checkpoints.at(-1)?.probe;
}

export function targetsOf(data, run) {
  return data.loaded.get(run)?.probe?.targets ?? ["greedy", "contrast"];
}

export function measuredAt(checkpoint, target) {
  const part = checkpoint?.target === target ? checkpoint : checkpoint?.[target];
  return part && part.objects ? part : null;
}

export function objectsAt(checkpoint, target) {
  return measuredAt(checkpoint, target)?.objects ?? {};
}

export function causalAt(checkpoint, target) {
  return checkpoint?.[target]?.causal ?? checkpoint?.causal ?? {};
}

// A run's objects: those of its probe, or where that is missing, those that were measured.
export function namesOf(data, run) {
  const { probe, checkpoints = [] } = data.loaded.get(run) ?? {};
  return probe?.objects ?? Object.keys(checkpoints.at(-1)?.objects ?? {});
}

// Each object's colour, in the order in which the frames of the clip first show them, as in rlwatch's clips.
const coloursOfProbe = new WeakMap();

export function coloursOf(data, run) {
  const probe = data.loaded.get(run)?.probe ?? { boxes: [], objects: namesOf(data, run) };
  if (!coloursOfProbe.has(probe)) {
    const seen = probe.boxes.flatMap((frame) => Object.keys(frame).filter((name) => frame[name].length));
    const names = [...new Set([...seen, ...probe.objects])];
    coloursOfProbe.set(probe, Object.fromEntries(names.map((name, i) => [name, OUTLINES[i % OUTLINES.length]])));
  }
  return coloursOfProbe.get(probe);
}

// The boxes to outline in a frame: of all objects, or of the one that was singled out.
export function outlined(probe, frame, object) {
  const all = probe.boxes[frame] ?? {};
  if (!object) return all;
  return Object.hasOwn(all, object) ? { [object]: all[object] } : {};
}

// The objects to draw: those that were asked for, or those that were ever looked at most, and always the one in focus.
export function shownObjects(data, state, most = 4) {
  const { checkpoints = [] } = data.loaded.get(state.run) ?? {};
  const names = namesOf(data, state.run);
  if (state.shown) return names.filter((name) => state.shown.includes(name) || name === state.object);
  const ranked = rankedObjects(checkpoints, state.target, names);
  return names.filter((name) => ranked.slice(0, most).includes(name) || name === state.object);
}

function rankedObjects(checkpoints, target, names) {
  const found =
    checkpoints
      .at(-1)
      ?.findings?.filter((one) => one.target === target)
      .map((one) => one.object) ?? [];
  const height = (name) => Math.max(...checkpoints.map((one) => objectsAt(one, target)[name]?.lift ?? 0), 0);
  const heights = new Map(names.map((name) => [name, height(name) + (found.includes(name) ? 1e6 : 0)]));
  return [...names].sort((one, other) => heights.get(other) - heights.get(one));
}

// From this lift on the agent counts as looking: twice the untrained networks' highest, or twice chance.
export function lookingFrom(checkpoint, target, name) {
  const untrained = checkpoint?.untrained?.[target]?.[name];
  return 2 * Math.max(1, ...[untrained?.lift, untrained?.high].filter(isNumber));
}

export function isLookedAt(checkpoint, target, name) {
  const low = objectsAt(checkpoint, target)[name]?.low;
  return isNumber(low) && low > lookingFrom(checkpoint, target, name);
}

// Everything of one kind that the checkpoints of a run tell, each once: findings, alarms, strategies.
export function allOf(checkpoints, kind, key) {
  const found = new Map();
  checkpoints.forEach((one) => (one[kind] ?? []).forEach((item) => found.set(key(item), item)));
  return [...found.values()];
}

export function has(checkpoints, kind) {
  return checkpoints.some((one) => one[kind] && Object.keys(one[kind]).length);
}
