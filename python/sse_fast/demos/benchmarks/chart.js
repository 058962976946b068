/**
 * Two small charts in SVG: the run times of one run, and its median beside former runs.
 *
 * Owns: scales and shapes; drawn at the width there is, so that letters keep their size. Bars begin at zero, so that a length is a time. Every chart says in words what it shows.
 */

const SVG = "http://www.w3.org/2000/svg";

/** Every sample of a run as a bar, the median as a line. */
export function samplesChart({ samples, runtime_ms: median }, chartWidth) {
  const height = 130;
  const base = height - 16;
  const top = 14;
  const most = Math.max(...samples);
  const y = (value) => base - ((base - top) * value) / most;
  const step = chartWidth / samples.length;
  const svg = drawing(chartWidth, height, `${samples.length} run times, the median ${median.toFixed(2)} ms, the slowest ${most.toFixed(2)} ms`);
  samples.forEach((sample, index) => {
    const bar = shape("rect", { class: "bar own", x: index * step + 2, y: y(sample), width: step - 4, height: base - y(sample), rx: 2 });
    bar.append(text(shape("title", {}), `Run ${index + 1}: ${sample.toFixed(2)} ms`));
    svg.append(bar, text(shape("text", { x: (index + 0.5) * step, y: height - 3, "text-anchor": "middle" }), index + 1));
  });
  svg.append(shape("line", { class: "median", x1: 0, x2: chartWidth, y1: y(median), y2: y(median) }));
  return figure(`Run times in ms; the line is the median, ${median.toFixed(2)} ms`, svg);
}

/** This run's median beside those of the last former ones of the same kernel and size. */
export function comparison(row, former, chartWidth) {
  const rows = [row, ...former.slice(0, 5)];
  const line = 22;
  const left = 110;
  const right = 80;
  const most = Math.max(...rows.map(({ runtime_ms: time }) => time));
  const times = rows.map(({ id, runtime_ms: time }) => `${id} ${time.toFixed(2)} ms`);
  const svg = drawing(chartWidth, rows.length * line, `Median run times: ${times.join(", ")}`);
  rows.forEach(({ id, runtime_ms: time }, index) => {
    const own = index === 0 ? "own" : "";
    const y = index * line;
    const width = ((chartWidth - left - right) * time) / most;
    svg.append(
      text(shape("text", { class: own, x: 0, y: y + 15 }), own ? "this run" : shortened(id)),
      shape("rect", { class: `bar ${own}`, x: left, y: y + 4, width, height: line - 8, rx: 2 }),
      text(shape("text", { class: own, x: left + width + 6, y: y + 15 }), `${time.toFixed(2)} ms`),
    );
  });
  return figure(verdict(row, former), svg);
}

/** This run against the median of the former ones. */
function verdict({ runtime_ms: time }, former) {
  const times = former.map(({ runtime_ms: value }) => value).sort((one, other) => one - other);
  const middle = times.length >> 1;
  const usual = times.length % 2 ? times[middle] : (times[middle - 1] + times[middle]) / 2;
  const change = Math.round((time / usual - 1) * 100);
  const runs = former.length === 1 ? "the former run" : `the median of ${former.length} former runs`;
  if (change === 0) return `As fast as ${runs} (${usual.toFixed(2)} ms)`;
  return `${Math.abs(change)} % ${change < 0 ? "faster" : "slower"} than ${runs} (${usual.toFixed(2)} ms)`;
}

function drawing(width, height, label) {
  return shape("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label });
}

function figure(caption, svg) {
  const made = document.createElement("figure");
  made.append(text(document.createElement("figcaption"), caption), svg);
  return made;
}

function shape(name, attributes) {
  const made = document.createElementNS(SVG, name);
  for (const [attribute, value] of Object.entries(attributes)) made.setAttribute(attribute, value);
  return made;
}

function text(made, words) {
  made.textContent = words;
  return made;
}

const shortened = (id) => (id.length > 14 ? `${id.slice(0, 13)}…` : id);
