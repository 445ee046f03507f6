// The timeline's contents: which curves, axes and marks there are. Nothing is drawn here.
import { extent, extentOfLogarithms, linear, logarithmic } from "./axis.js";
import { curveOf, meanCurve, returnsOf, untrainedOf } from "./curves.js";
import { isNumber } from "./dom.js";
import { allOf, coloursOf, shownObjects } from "./model.js";
import { EPOCHS, PUBLISHED } from "./published.js";

const MARGINS = { left: 44, right: 106, top: 34, bottom: 34 };
const LETTER = 7; // pixels
export const LONGEST_NAME = 16;
export const NAMES = 48; // pixels between the plot and the names: room for "−12.5k" beside the axis of the return
// What a logarithmic axis always holds, and the least that it tells apart from 0: chance and twice chance for lifts.
const LOGARITHMIC = { lift: [[1, 2], 0.1], relevance: [[], 0] };
const DASHES = [[], [7, 4], [2, 3], [9, 3, 2, 3]];

export function makePlot(data, state, width, height) {
  const runs = [state.run, ...state.others.filter((run) => run !== state.run)].filter((run) => data.loaded.has(run));
  const names = shownObjects(data, state);
  const loaded = data.loaded.get(state.run);
  const lines = linesOf(data, state, runs, names);
  const untrained = untrainedLines(loaded, state, names, coloursOf(data, state.run));
  const returns = returnLines(data, state, runs);
  const published = state.published && canCompare(data, state) ? publishedLines(names, coloursOf(data, state.run)) : [];
  const axes = axesOf({ lines, untrained, returns, published, state }, width, height);
  return {
    ...axes,
    lines,
    untrained,
    returns,
    published,
    marks: marksOf(loaded, state, names, lines),
    steps: loaded.checkpoints.map((one) => one.step),
    state,
    runs,
  };
}

// Only the lifts of Breakout have a curve to lay over them.
export function canCompare(data, state) {
  return state.measure === "lift" && data.loaded.get(state.run)?.probe?.game === "breakout";
}

export function isLogarithmic(state) {
  return state.scale === "log" && state.measure !== "share";
}

function linesOf(data, state, runs, names) {
  const colours = coloursOf(data, state.run);
  const curve = (run, name) => curveOf(data.loaded.get(run).checkpoints, state.target, name, state.measure);
  if (state.mean && runs.length > 1) {
    const label = `mean of ${runs.length} runs`;
    return names.map((name) => ({
      name,
      run: label,
      colour: colours[name],
      dash: [],
      main: true,
      ...meanCurve(runs.map((run) => curve(run, name))),
    }));
  }
  return runs.flatMap((run, i) =>
    names.map((name) => ({
      name,
      run,
      colour: colours[name],
      dash: DASHES[i % DASHES.length],
      main: i === 0,
      ...curve(run, name),
    })),
  );
}

function untrainedLines(loaded, state, names, colours) {
  const found = names.map((name) => ({
    name,
    colour: colours[name],
    ...untrainedOf(loaded.checkpoints, state.target, name, state.measure),
  }));
  return found.filter((one) => isNumber(one.value));
}

function returnLines(data, state, runs) {
  const curves = runs.map((run) => ({ run, ...returnsOf(data.loaded.get(run), state.returns) }));
  if (!state.mean || runs.length < 2) return curves.map((one, i) => ({ ...one, dash: DASHES[i % DASHES.length] }));
  return [{ run: "mean", tag: curves[0].tag, dash: [], ...meanCurve(curves) }];
}

function publishedLines(names, colours) {
  const known = names.filter((name) => Object.hasOwn(PUBLISHED, name));
  return known.map((name) => ({ name, colour: colours[name], values: PUBLISHED[name] }));
}

function axesOf({ lines, untrained, returns, published, state }, width, height) {
  const isLog = isLogarithmic(state);
  const box = {
    left: MARGINS.left,
    right: width - roomForNames(lines),
    top: MARGINS.top,
    bottom: height - MARGINS.bottom,
  };
  const bounds = lines.filter((one) => one.main && one.high).flatMap((one) => [...one.low, ...one.high]);
  const levels = [...untrained.map((one) => one.value), ...published.flatMap((one) => one.values)];
  const values = [...lines.flatMap((one) => one.values), ...bounds, ...levels];
  const [low, high] = isLog ? extentOfLogarithms(values, ...LOGARITHMIC[state.measure]) : extent(values);
  const steps = [...lines, ...returns].flatMap((one) => (one.steps.length ? [one.steps[0], one.steps.at(-1)] : []));
  const [least, most] = extent(returns.flatMap((one) => one.values));
  return {
    box,
    isLog,
    low,
    x: linear(Math.min(...steps, 0), Math.max(...steps, 1), box.left, box.right),
    y: (isLog ? logarithmic : linear)(low, high, box.bottom, box.top),
    r: returns.some((one) => one.steps.length) ? linear(least, most, box.bottom, box.top) : null,
    epochs: linear(0, EPOCHS, box.left, box.right),
  };
}

// Beside the plot stand the axis of the return and the names of the curves.
function roomForNames(lines) {
  const longest = Math.max(...lines.map((one) => Math.min(one.name.length, LONGEST_NAME)), 0);
  return Math.max(MARGINS.right, NAMES + 6 + LETTER * longest);
}

// Onsets stand on their object's curve, births of strategies and alarms at the top.
function marksOf(loaded, state, names, lines) {
  const { checkpoints } = loaded;
  const here = (one) => one.target === state.target && names.includes(one.object);
  const onsets = checkpoints.at(-1)?.findings?.filter(here) ?? [];
  const births = allOf(checkpoints, "strategies", (one) => one.name).filter((one) => isNumber(one.step_born));
  const alarms = allOf(checkpoints, "alarms", (one) => `${one.step} ${one.name}`);
  return [
    ...onsets.map((one) => ({
      kind: "onset",
      step: one.step,
      text: one.text,
      line: lines.find((line) => line.name === one.object),
    })),
    ...births.map((one) => ({ kind: "birth", step: one.step_born, text: `strategy born: ${one.name}` })),
    ...alarms.map((one) => ({ kind: "alarm", step: one.step, text: `alarm: ${one.text}` })),
  ];
}
