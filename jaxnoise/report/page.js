"use strict";

// Samples through training: one picture of many is shown.
for (const box of document.querySelectorAll(".samples")) {
  const pictures = [...box.querySelectorAll("img")];
  const slider = box.querySelector("input");
  const button = box.querySelector("button");
  if (!slider) continue;
  let timer = 0;
  const show = () => {
    const chosen = pictures[slider.value];
    pictures.forEach((picture) => { picture.hidden = picture !== chosen; });
    box.querySelector(".step").textContent = chosen.dataset.step;
    box.querySelector(".seen").textContent = chosen.dataset.seen;
    slider.setAttribute("aria-valuetext", chosen.alt);
  };
  const stop = () => {
    clearInterval(timer);
    timer = 0;
    button.textContent = "Play";
  };
  slider.addEventListener("input", () => { stop(); show(); });
  button.addEventListener("click", () => {
    if (timer) return stop();
    button.textContent = "Pause";
    if (slider.value === slider.max) { slider.value = 0; show(); }
    timer = setInterval(() => {
      slider.value = Number(slider.value) + 1;
      show();
      if (slider.value === slider.max) stop();
    }, Math.max(250, Math.min(900, 8000 / pictures.length)));
  });
  show();
}

// Charts: the values nearest to the pointer, or to where the arrow keys lead.
const SVG = "http://www.w3.org/2000/svg";
const number = (value) => Math.abs(value) >= 1e4 && Math.abs(value) < 1e9
  ? Math.round(value).toLocaleString("en-US") : String(Number(value.toPrecision(4)));
const quantity = (value) => {
  for (const [size, unit] of [[1e9, "B"], [1e6, "M"], [1e3, "k"]]) {
    if (Math.abs(value) >= size) return number(value / size) + unit;
  }
  return number(value);
};

function nearest(xs, x) {
  let low = 0;
  let high = xs.length - 1;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (xs[middle] <= x) low = middle; else high = middle;
  }
  return Math.abs(xs[low] - x) <= Math.abs(xs[high] - x) ? low : high;
}

for (const figure of document.querySelectorAll("figure.chart")) {
  const chart = JSON.parse(figure.querySelector("script").textContent);
  const svg = figure.querySelector("svg");
  const pointer = figure.querySelector(".pointer");
  const readout = figure.querySelector(".readout");
  const [width] = chart.size;
  const [left, right, top, bottom] = chart.box;
  const placeX = (x) => left + (right - left) * (x - chart.x[0]) / (chart.x[1] - chart.x[0]);
  const share = (y) => chart.log
    ? Math.log(y / chart.y[0]) / Math.log(chart.y[1] / chart.y[0])
    : (y - chart.y[0]) / (chart.y[1] - chart.y[0]);
  const placeY = (y) => bottom - (bottom - top) * share(y);
  const shown = (y) => chart.percent ? number(100 * y) + " %" : number(y);
  const reach = (chart.x[1] - chart.x[0]) * 0.03;
  const all = [...new Set(chart.lines.flatMap((line) => line.x))].sort((a, b) => a - b);
  let position = -1;

  const hide = () => {
    position = -1;
    readout.hidden = true;
    pointer.setAttribute("visibility", "hidden");
  };
  const show = (index) => {
    position = index;
    const x = all[index];
    pointer.replaceChildren();
    const rule = document.createElementNS(SVG, "line");
    for (const [key, value] of [["x1", placeX(x)], ["x2", placeX(x)], ["y1", top], ["y2", bottom]]) {
      rule.setAttribute(key, value);
    }
    pointer.append(rule);
    const head = document.createElement("b");
    head.textContent = quantity(x) + " images"
      + (chart.batch ? ", step " + Math.round(x / chart.batch).toLocaleString("en-US") : "");
    readout.replaceChildren(head);
    for (const line of chart.lines) {
      const i = nearest(line.x, x);
      if (Math.abs(line.x[i] - x) > reach) continue;
      const y = line.mean ? line.mean[i] : line.y[i];
      const dot = document.createElementNS(SVG, "circle");
      for (const [key, value] of
        [["cx", placeX(line.x[i])], ["cy", placeY(y)], ["r", 4], ["fill", line.color]]) {
        dot.setAttribute(key, value);
      }
      pointer.append(dot);
      const row = document.createElement("span");
      const swatch = document.createElement("i");
      swatch.style.background = line.color;
      const mean = line.mean ? " (mean " + shown(line.mean[i]) + ")" : "";
      row.append(swatch, line.name + " " + shown(line.y[i]) + mean);
      readout.append(row);
    }
    pointer.setAttribute("visibility", "visible");
    readout.hidden = false;
    // Beside the rule, on the side with more room.
    const scale = svg.getBoundingClientRect().width / width;
    const at = placeX(x) * scale;
    const beside = at > svg.getBoundingClientRect().width / 2 ? at - readout.offsetWidth - 12 : at + 12;
    readout.style.left = Math.max(0, beside) + "px";
  };
  svg.addEventListener("pointermove", (event) => {
    const bounds = svg.getBoundingClientRect();
    const at = (event.clientX - bounds.left) * width / bounds.width;
    const x = chart.x[0] + (chart.x[1] - chart.x[0]) * (at - left) / (right - left);
    show(nearest(all, x));
  });
  svg.addEventListener("pointerleave", hide);
  svg.addEventListener("blur", hide);
  svg.addEventListener("keydown", (event) => {
    const move = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!move) return;
    event.preventDefault();
    show(position < 0 ? (move > 0 ? 0 : all.length - 1)
      : Math.max(0, Math.min(all.length - 1, position + move)));
  });
}
