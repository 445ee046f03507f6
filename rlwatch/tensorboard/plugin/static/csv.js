// The numbers of the chosen runs and both targets, checkpoint by checkpoint and object by object.
import { causalAt, objectsAt, targetsOf } from "./model.js";

const FIGURES = ["lift", "low", "high", "share", "share_negative", "relevance", "frames"];
const HEADINGS = [
  "run",
  "step",
  "return",
  "method",
  "target",
  "object",
  ...FIGURES,
  "untrained_lift",
  "causal_effect",
  "causal_control",
];

export function csvOf(data, runs) {
  const rows = runs.flatMap((run) =>
    (data.loaded.get(run)?.checkpoints ?? []).flatMap((one) =>
      targetsOf(data, run).flatMap((target) => rowsAt(run, one, target)),
    ),
  );
  return [HEADINGS, ...rows].map((row) => row.map(cell).join(",")).join("\r\n") + "\r\n";
}

function rowsAt(run, checkpoint, target) {
  const { step, returns, method, untrained } = checkpoint;
  return Object.entries(objectsAt(checkpoint, target)).map(([name, figures]) => {
    const { effect, control } = causalAt(checkpoint, target)[name] ?? {};
    return [
      run,
      step,
      returns,
      method,
      target,
      name,
      ...FIGURES.map((key) => figures[key]),
      untrained?.[target]?.[name]?.lift,
      effect,
      control,
    ];
  });
}

// A text that a spreadsheet would take for a formula gets an apostrophe before it.
function cell(value) {
  if (value === null || value === undefined) return "";
  if (typeof value === "number") return String(value);
  const safe = /^[=+\-@\t\r]/.test(value) ? `'${value}` : String(value);
  return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}
