// What one sends to others: the view as a picture, the clip as a GIF, the numbers as a table, the address.
import { csvOf } from "./csv.js";
import { button, el } from "./dom.js";
import { filmColours, filmFrames } from "./film.js";
import { encodeGif } from "./gif.js";
import { pictureOf } from "./picture.js";
import { address } from "./state.js";

const MILLISECONDS = 100;

export function shareButtons(app, page) {
  const told = el("span", { className: "told", role: "status" });
  const made = (name, ending, make) => guarded(told, async () => download(await make(), fileName(app, name, ending)));
  const say = (done) => ((told.textContent = `GIF: frame ${done}`), new Promise((resolve) => setTimeout(resolve)));
  const view = made("view", "png", () => pictureOf(page()));
  const clip = made("clip", "gif", () => encodeGif(filmFrames(app), MILLISECONDS, filmColours(app), say));
  const numbers = made(
    "numbers",
    "csv",
    () => new Blob([csvOf(app.data, [app.store.get().run, ...app.store.get().others])], { type: "text/csv" }),
  );
  return el(
    "div",
    { className: "share" },
    button("PNG", view, { title: "This view as a picture", id: "png" }),
    button("GIF", clip, { title: "The clip as an animated GIF", id: "gif" }),
    button("CSV", numbers, { title: "The numbers of the chosen runs", id: "csv" }),
    linkButton(app, told),
    told,
  );
}

// The address is shown as well: a page that came over plain http may not touch the clipboard.
function linkButton({ store }, told) {
  const field = el("input", {
    type: "text",
    readOnly: true,
    hidden: true,
    ariaLabel: "address of this view",
    id: "address",
    onblur: () => (field.hidden = true),
  });
  const show = async () => {
    Object.assign(field, { value: address(store), hidden: false });
    field.select();
    told.textContent = await (navigator.clipboard?.writeText(field.value) ?? Promise.reject()).then(
      () => "copied",
      () => "copy it from here",
    );
    setTimeout(() => (told.textContent = ""), 3000);
  };
  return el(
    "span",
    { className: "link" },
    button("Link", show, { title: "An address that opens this very view", id: "link" }),
    field,
  );
}

function guarded(told, act) {
  return async () => {
    told.textContent = "…";
    told.textContent = await act().then(
      () => "",
      (error) => error.message,
    );
  };
}

function fileName({ store, data }, name, ending) {
  const state = store.get();
  const { checkpoints = [] } = data.loaded.get(state.run) ?? {};
  const parts = [
    "rlwatch",
    state.run,
    state.target,
    name === "numbers" ? "" : `step${state.step ?? checkpoints.at(-1)?.step ?? 0}`,
    name,
  ];
  return `${parts
    .filter(Boolean)
    .join("_")
    .replaceAll(/[^\w.-]+/g, "-")}.${ending}`;
}

function download(blob, name) {
  const link = el("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}
