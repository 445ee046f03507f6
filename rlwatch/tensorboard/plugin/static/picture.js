// The page as it stands, as a PNG: a copy of its elements, drawn by the browser as one SVG image.

export async function pictureOf(element) {
  const ratio = window.devicePixelRatio || 1;
  const { width, height } = element.getBoundingClientRect();
  const copy = element.cloneNode(true);
  keepDrawings(element, copy);
  keepChoices(element, copy);
  pairs(element, copy, ".plot").forEach(([plot, other]) => (other.style.height = `${plot.offsetHeight}px`));
  copy.querySelectorAll(".share").forEach((one) => (one.style.visibility = "hidden")); // buttons, and not what they show
  const image = new Image();
  image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(svgAround(copy, width, height))}`;
  await image.decode();
  const canvas = Object.assign(document.createElement("canvas"), {
    width: Math.round(width * ratio),
    height: Math.round(height * ratio),
  });
  const context = canvas.getContext("2d");
  context.scale(ratio, ratio);
  context.drawImage(image, 0, 0);
  return new Promise((resolve, reject) =>
    canvas.toBlob((blob) => (blob ? resolve(blob) : reject(new Error("this browser cannot draw a page"))), "image/png"),
  );
}

function pairs(element, copy, selector) {
  const copies = copy.querySelectorAll(selector);
  return [...element.querySelectorAll(selector)].map((one, i) => [one, copies[i]]);
}

function keepDrawings(element, copy) {
  pairs(element, copy, "canvas").forEach(([canvas, other]) => {
    const image = document.createElement("img");
    [...canvas.attributes].forEach(({ name, value }) => image.setAttribute(name, value));
    if (canvas.width && canvas.height) image.src = canvas.toDataURL();
    image.style.width ||= `${canvas.offsetWidth}px`;
    image.style.height ||= `${canvas.offsetHeight}px`;
    other.replaceWith(image);
  });
}

function keepChoices(element, copy) {
  pairs(element, copy, "select").forEach(([select, other]) =>
    [...other.options].forEach((one, i) => one.toggleAttribute("selected", i === select.selectedIndex)),
  );
  pairs(element, copy, "input").forEach(([input, other]) => other.setAttribute("value", input.value));
  copy.querySelectorAll("details").forEach((one) => one.removeAttribute("open"));
}

function svgAround(copy, width, height) {
  const rules = [...document.styleSheets]
    .flatMap((sheet) => [...sheet.cssRules])
    .map((one) => one.cssText)
    .join("\n");
  const style = Object.assign(document.createElement("style"), { textContent: rules.replaceAll(":root", ".rootlike") });
  const frame = document.createElement("div");
  frame.className = `rootlike ${document.documentElement.className}`;
  frame.append(style, copy);
  const inner = new XMLSerializer().serializeToString(frame);
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}"><foreignObject width="100%" height="100%">${inner}</foreignObject></svg>`;
}
