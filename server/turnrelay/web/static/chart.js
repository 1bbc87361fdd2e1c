// A chart of the last minutes: one or two lines, drawn as SVG into a box whose size never changes.

import { make, setText } from "./elements.js";
import { duration } from "./format.js";

const SVG = "http://www.w3.org/2000/svg";
const LEAST_SECONDS = 60;
const WIDTH = 300;
const HEIGHT = 100;

function draw(tag, attributes) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

// The next of 1, 2, 5, 10, 20 ... so that the scale stays put while figures wander.
function ceiling(value) {
  const magnitude = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((step) => step * magnitude).find((step) => step >= value);
}

export class Chart {
  // `series`: functions from a sample to a figure, or to null where there is none; `keys`: their names;
  // `format`: a figure as text; `top`: the end of the scale, else it follows the figures from `least` on.
  constructor(box, { series, keys = [], format, top = null, least = 1, seconds = 300 }) {
    Object.assign(this, { series, keys, format, top, least, seconds });
    this.picture = draw("svg", {
      viewBox: `0 0 ${WIDTH} ${HEIGHT}`,
      preserveAspectRatio: "none",
      role: "img",
      "aria-label": "No figures yet",
    });
    for (const y of [0, HEIGHT / 2, HEIGHT]) {
      this.picture.append(draw("line", { class: "grid", x1: 0, x2: WIDTH, y1: y, y2: y }));
    }
    const classes = ["first", "second"];
    this.areas = series.map((_, index) => draw("path", { class: `area ${classes[index]}` }));
    this.lines = series.map((_, index) => draw("path", { class: `line ${classes[index]}` }));
    this.picture.append(this.areas[0], ...this.lines);
    this.scale = make("div", { class: "scale" });
    this.begin = make("span");
    const legend = keys.map((key, index) => make("span", { class: index ? "key two" : "key" }, key));
    box.append(this.scale, this.picture, make("div", { class: "axis" }, this.begin, ...legend, make("span", {}, "now")));
  }

  show(samples) {
    if (!samples.length) return;
    const now = samples.at(-1).at;
    // A relay that has just started has no five minutes to show.
    const seconds = Math.min(this.seconds, Math.max(LEAST_SECONDS, now - samples[0].at));
    const recent = samples.filter((sample) => sample.at >= now - seconds);
    const columns = this.series.map((read) => recent.map(read));
    const largest = Math.max(this.least, ...columns.flat().filter((value) => value !== null));
    const top = this.top ?? ceiling(largest);
    columns.forEach((column, index) => {
      const points = [];
      column.forEach((value, at) => {
        if (value === null) return;
        const x = WIDTH * (1 - (now - recent[at].at) / seconds);
        points.push(`${x.toFixed(1)},${(HEIGHT * (1 - value / top)).toFixed(1)}`);
      });
      const line = points.length ? `M${points.join("L")}` : "";
      this.lines[index].setAttribute("d", line);
      if (index === 0) {
        const first = points.length ? points[0].split(",")[0] : 0;
        this.areas[0].setAttribute("d", line && `${line}L${WIDTH},${HEIGHT}L${first},${HEIGHT}Z`);
      }
    });
    setText(this.scale, this.format(top));
    setText(this.begin, `${duration(seconds)} ago`);
    const last = columns.map((column, index) => {
      const value = column.at(-1);
      return `${this.keys[index] ?? "now"} ${value === null ? "unknown" : this.format(value)}`;
    });
    this.picture.setAttribute("aria-label", `${last.join(", ")}; highest ${this.format(largest)}`);
  }
}
