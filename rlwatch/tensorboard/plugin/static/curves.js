// Curves over the checkpoints of one run, and their mean over several.
import { isNumber } from "./dom.js";
import { objectsAt } from "./model.js";

// {steps, values, low, high}; NaN where nothing was measured, and low and high only where there is an interval.
export function curveOf(checkpoints, target, name, measure) {
  const at = (key) => checkpoints.map((one) => number(objectsAt(one, target)[name]?.[key]));
  const steps = checkpoints.map((one) => one.step);
  if (measure !== "lift") return { steps, values: at(measure), low: null, high: null };
  return { steps, values: at("lift"), low: at("low"), high: at("high") };
}

// The untrained networks' value of an object and, for lift, the extremes among them; null where nobody measured it.
export function untrainedOf(checkpoints, target, name, measure) {
  const last = checkpoints.findLast((one) => one.untrained?.[target]?.[name]);
  const found = last?.untrained[target][name];
  if (!found || !isNumber(found[measure])) return null;
  const isLift = measure === "lift";
  return { value: found[measure], low: isLift ? number(found.low) : NaN, high: isLift ? number(found.high) : NaN };
}

// The mean over runs on all of their steps, where every run has got that far; low and high are the extremes among them.
export function meanCurve(curves) {
  const some = curves.filter((one) => one.steps.length);
  const from = Math.max(...some.map((one) => one.steps[0]));
  const to = Math.min(...some.map((one) => one.steps.at(-1)));
  const steps = [...new Set(some.flatMap((one) => one.steps))].filter((step) => step >= from && step <= to);
  steps.sort((one, other) => one - other);
  const columns = some.map((one) => interpolated(one, steps));
  const over = (reduce) => steps.map((_, i) => reduce(columns.map((column) => column[i])));
  const mean = (values) => values.reduce((sum, one) => sum + one, 0) / values.length;
  return { steps, values: over(mean), low: over((all) => Math.min(...all)), high: over((all) => Math.max(...all)) };
}

function interpolated({ steps, values }, wanted) {
  let at = 0;
  return wanted.map((step) => {
    while (at < steps.length - 2 && steps[at + 1] < step) at++;
    const next = Math.min(at + 1, steps.length - 1);
    const part = steps[next] === steps[at] ? 0 : (step - steps[at]) / (steps[next] - steps[at]);
    if (part <= 0) return values[at];
    return part >= 1 ? values[next] : values[at] + part * (values[next] - values[at]);
  });
}

// The tag of a run's returns that is drawn where none was chosen: an evaluation's, which is not blurred by exploration,
// where it has some points, else the one that holds most; undefined where there is none.
export function usual(loaded) {
  const found = Object.entries(loaded?.returns ?? {});
  const evaluated = found.filter(([tag, points]) => /\beval/i.test(tag) && points.length > 2);
  const most = (best, one) => (best && best[1].length >= one[1].length ? best : one);
  return (evaluated.length ? evaluated : found).reduce(most, undefined)?.[0];
}

// What the training logged of its returns, under `tag` or else the usual one, or else what it told the monitor.
export function returnsOf(loaded, tag) {
  const chosen = Object.hasOwn(loaded.returns, tag) ? tag : usual(loaded);
  const points = loaded.returns[chosen] ?? [];
  const [steps, values] = [points.map(([step]) => step), points.map(([, value]) => number(value))];
  if (points.length) return { tag: chosen, steps, values };
  const told = loaded.checkpoints.filter((one) => isNumber(one.returns));
  return { tag: "returns", steps: told.map((one) => one.step), values: told.map((one) => one.returns) };
}

function number(value) {
  return isNumber(value) ? value : NaN;
}

// The index of the step that lies nearest.
export function nearest(steps, wanted) {
  let best = 0;
  steps.forEach((step, i) => (best = Math.abs(step - wanted) < Math.abs(steps[best] - wanted) ? i : best));
  return best;
}
