"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const by = (id) => document.getElementById(id);

function make(name, parent, { text, ...attributes } = {}) {
  const svg = parent.namespaceURI === "http://www.w3.org/2000/svg" || name === "svg";
  const node = svg
    ? document.createElementNS("http://www.w3.org/2000/svg", name)
    : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (text !== undefined) node.textContent = text;
  parent.append(node);
  return node;
}

function legend(parent, kinds) {
  const line = make("div", parent, { class: "legend" });
  for (const kind of kinds) {
    const entry = make("span", line);
    make("i", entry, { class: kind });
    entry.append(kind);
  }
}

/** Bars of stacked parts, `rows` of {name, value, parts: [[class, share of the width], …]}. */
function bars(parent, rows) {
  for (const row of rows) {
    const bar = make("div", parent, { class: "bar" });
    make("span", bar, { class: row.bad ? "name bad" : "name", text: row.name });
    const track = make("span", bar, { class: "track" });
    for (const [kind, share] of row.parts) {
      make("i", track, { class: kind }).style.width = `${100 * share}%`;
    }
    make("span", bar, { class: "value", text: row.value });
  }
}

function latency(parent, group) {
  make("h3", parent, { text: "Latency of a frame" });
  const most = Math.max(...group.milliseconds.flat());
  bars(parent, group.names.map((name, index) => {
    const [p50, p90, p99] = group.milliseconds[index];
    const parts = [["p50", p50 / most], ["p90", (p90 - p50) / most], ["p99", (p99 - p90) / most]];
    return { name, parts, value: `${p50.toPrecision(3)} ms`, bad: group.bad[index] };
  }));
  legend(parent, ["p50", "p90", "p99"]);
}

function nice(span) {
  const power = 10 ** Math.floor(Math.log10(span));
  return [1, 2, 5, 10].map((step) => step * power).find((step) => span / step <= 5);
}

function ticks(low, high) {
  const step = nice(high - low);
  const found = [];
  for (let at = Math.ceil(low / step); at * step <= high + 1e-9; at += 1) found.push(at * step);
  return found.map((value) => Number(value.toPrecision(6)));
}

/** Frames a second to the right, PSNR-Y upwards. */
function scatter(parent, group) {
  make("h3", parent, { text: "Speed against quality" });
  const [width, height, left, bottom, top, right] = [420, 260, 44, 42, 22, 14];
  const svg = make("svg", parent, { viewBox: `0 0 ${width} ${height}`, role: "img",
    "aria-label": "Frames a second against PSNR-Y" });
  const fast = 1.15 * Math.max(...group.frames_per_second);
  const values = [...group.psnr_y, group.bicubic];
  const low = Math.min(...values) - 0.25;
  const high = Math.max(...values) + 0.5;
  const x = (value) => left + (value / fast) * (width - left - right);
  const y = (value) => height - bottom - ((value - low) / (high - low)) * (height - bottom - top);
  for (const at of ticks(low, high)) {
    make("line", svg, { x1: left, x2: width - right, y1: y(at), y2: y(at) });
    make("text", svg, { class: "axis", x: left - 6, y: y(at) + 4, "text-anchor": "end", text: at });
  }
  for (const at of ticks(0, fast)) {
    make("text", svg, { class: "axis", x: x(at), y: height - bottom + 16, "text-anchor": "middle",
      text: at });
  }
  make("text", svg, { class: "axis", x: width - right, y: height - 6, "text-anchor": "end",
    text: "frames/s" });
  make("text", svg, { class: "axis", x: 0, y: 10, text: "PSNR-Y, dB" });
  make("line", svg, { x1: left, x2: width - right, y1: y(group.bicubic), y2: y(group.bicubic),
    style: "stroke: var(--quiet)", "stroke-dasharray": "4 4" });
  make("text", svg, { class: "axis", x: width - right, y: y(group.bicubic) - 5,
    "text-anchor": "end", text: "bicubic" });
  const points = group.names.map((name, index) => (
    { name, bad: group.bad[index], cx: x(group.frames_per_second[index]), cy: y(group.psnr_y[index]) }
  ));
  // From the right, each label below the one before, with a line to its point.
  let next = 0;
  for (const { name, cx, cy } of points.sort((one, other) => other.cx - one.cx)) {
    next = Math.max(cy + 22, next + 17);
    make("line", svg, { x1: cx, y1: cy, x2: cx, y2: next - 11, style: "stroke: var(--quiet)" });
    const end = cx + 7 * name.length > width;
    make("text", svg, { x: cx + (end ? 5 : -5), y: next, "text-anchor": end ? "end" : "start",
      text: name });
  }
  for (const { bad, cx, cy } of points) make("circle", svg, { cx, cy, r: 5, class: bad ? "bad" : "" });
}

function table(parent, group) {
  const node = make("table", make("div", parent, { class: "scroll", tabindex: "0" }));
  const head = make("tr", make("thead", node));
  make("th", head, { text: "" });
  for (const name of group.names) make("th", head, { scope: "col", text: name });
  const body = make("tbody", node);
  for (const [name, cells] of group.lines) {
    const row = make("tr", body);
    make("th", row, { scope: "row", text: name });
    cells.forEach((text, index) => {
      make("td", row, { text, class: group.bad[index] && name === "quality" ? "bad" : "" });
    });
  }
}

function ends() {
  if (!data.ends.length) return;
  by("ends").hidden = false;
  by("ends-source").textContent = `${data.ends[0].source}: seconds in which a stage is busy; `
    + "decoding and encoding run beside the network.";
  const most = Math.max(...data.ends.map((one) => one.busy.reduce((sum, part) => sum + part, 0)));
  bars(by("ends-bars"), data.ends.map((one) => ({
    name: one.name,
    value: `${one.frames_per_second.toPrecision(3)} fps`,
    parts: ["decode", "network", "encode"].map((kind, index) => [kind, one.busy[index] / most]),
  })));
  legend(by("ends-bars"), ["decode", "network", "encode"]);
}

function options(select, names, chosen) {
  select.replaceChildren();
  names.forEach((name, index) => make("option", select, { value: index, text: name }));
  select.value = chosen;
}

function pictures() {
  if (!data.pictures.length) return;
  by("pictures").hidden = false;
  options(by("photo"), data.pictures.map((one) => one.title), 0);
  options(by("gain"), [1, 4, 16, 64], 2);
  const share = () => by("compare").style.setProperty("--share", `${by("slider").value}%`);
  const choose = () => {
    const photo = data.pictures[by("photo").value];
    options(by("left"), photo.names, 1);
    // The last engine: the one furthest from the reference.
    options(by("right"), photo.names, photo.names.length - 2);
    by("strip").replaceChildren();
    photo.names.forEach((name, index) => {
      const figure = make("figure", by("strip"));
      make("img", figure, { src: photo.sources[index], alt: name });
      make("figcaption", figure, { text: name });
    });
    show();
  };
  const show = async () => {
    const photo = data.pictures[by("photo").value];
    const [left, right] = [by("left").value, by("right").value];
    for (const [id, index] of [["left-image", left], ["right-image", right]]) {
      by(id).src = photo.sources[index];
      by(id).alt = photo.names[index];
    }
    const names = [photo.names[left], photo.names[right]];
    by("compare-caption").textContent = `Left: ${names[0]}. Right: ${names[1]}. Drag to compare.`;
    await Promise.all([by("left-image").decode(), by("right-image").decode()]);
    difference(names);
  };
  by("photo").addEventListener("change", choose);
  for (const id of ["left", "right", "gain"]) by(id).addEventListener("change", show);
  by("slider").addEventListener("input", share);
  share();
  choose();
}

function pixels(image) {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(image, 0, 0);
  return context.getImageData(0, 0, canvas.width, canvas.height);
}

function difference(names) {
  const [first, second] = [pixels(by("left-image")), pixels(by("right-image"))];
  const gain = Number(by("gain").selectedOptions[0].textContent);
  const canvas = by("difference");
  [canvas.width, canvas.height] = [first.width, first.height];
  let most = 0;
  for (let index = 0; index < first.data.length; index += 1) {
    if (index % 4 === 3) continue;
    const apart = Math.abs(first.data[index] - second.data[index]);
    most = Math.max(most, apart);
    first.data[index] = gain * apart;
  }
  canvas.getContext("2d").putImageData(first, 0, 0);
  by("difference-caption").textContent = `Difference of ${names[0]} and ${names[1]}, ×${gain}; `
    + `the largest is ${most} of 255 levels.`;
}

const machine = data.machine;
by("machine").textContent = [
  machine.cpu && `${machine.cpu}, ${machine.cores} cores`,
  ...(machine.gpus || []),
  machine.system,
  Object.entries(machine.libraries || {}).filter(([name]) => ["torch", "openvino"].includes(name))
    .map((one) => one.join(" ")).join(", "),
  machine.date,
].filter(Boolean).join(" · ");
by("command").textContent = data.command;
for (const text of data.failures) make("li", by("notes"), { class: "bad", text });
for (const text of data.notes) make("li", by("notes"), { text });
for (const group of data.groups) {
  make("h2", by("groups"), { text: group.title });
  const charts = make("div", by("groups"), { class: "charts" });
  latency(make("div", charts), group);
  scatter(make("div", charts), group);
  table(by("groups"), group);
}
ends();
pictures();
