// The interactive figures, drawn by Plotly. What the filters at the top leave out is left out here and in the tables.
const CHARTS = DATA.charts;
const COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00"];
const DASHES = ["solid", "dash", "dashdot", "dot", "longdash", "longdashdot"];
const MARKS = ["circle", "square", "triangle-up", "diamond", "triangle-down", "cross"];
const MOST_PANELS = 12, MOST_THIN = 12, MOST_POINTS = 3000;
const chosen = { metric: null, after: "" };

// Plotly reads <b>, <a> and entities in texts: names of the store must not be read so.
function plain(text) {
  return String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
}

function colour(name) { return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim(); }

function tinted(hex, alpha) {
  const [r, g, b] = [1, 3, 5].map((at) => Number.parseInt(hex.slice(at, at + 2), 16));
  return `rgba(${r},${g},${b},${alpha})`;
}

// The 95% interval of a mean over cells, as the report has it: of one cell its own, Student's t from three on.
function meanOf(found) {
  const values = found.filter((one) => one.value !== null);
  if (values.length === 0) return null;
  const mean = values.reduce((sum, one) => sum + one.value, 0) / values.length;
  if (values.length === 1) return { ...values[0], n: 1 };
  if (values.length === 2) return { value: mean, low: null, high: null, n: 2 };
  const squares = values.reduce((sum, one) => sum + (one.value - mean) ** 2, 0);
  const quantile = DATA.t[Math.min(values.length - 1, DATA.t.length) - 1];
  const half = quantile * Math.sqrt(squares / (values.length - 1) / values.length);
  return { value: mean, low: mean - half, high: mean + half, n: values.length };
}

function said(value, low, high, unit = "") {
  const text = (number) => (unit ? number.toFixed(0) : number.toFixed(3));
  return text(value) + unit + (low === null || high === null ? ", no interval" : ` [${text(low)}, ${text(high)}]`);
}

// What all figures share: the page's colours and letters, so that dark is dark; a place for each panel in a grid.
function layoutOf(panels, columns, height, titles, more = {}) {
  const rows = Math.ceil(panels / columns), gapX = 0.06, layout = {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", hoverlabel: { align: "left" },
    font: { family: "system-ui, sans-serif", size: 12, color: colour("ink") }, margin: { l: 56, r: 12, t: 58, b: 44 },
    modebar: { bgcolor: "rgba(0,0,0,0)", color: colour("faint"), activecolor: colour("accent") },
    height, dragmode: "zoom", hovermode: "closest", annotations: [], showlegend: true,
    legend: { orientation: "h", y: -60 / height, yanchor: "top", x: 0, itemclick: "toggle", itemdoubleclick: "toggleothers" }, ...more };
  const wide = (1 - gapX * (columns - 1)) / columns;
  const gapY = rows > 1 ? 84 / (height - 124) : 0, high = (1 - gapY * (rows - 1)) / rows;
  for (let at = 0; at < panels; at += 1) {
    const [column, row] = [at % columns, Math.floor(at / columns)], name = at ? String(at + 1) : "";
    const left = column * (wide + gapX), top = 1 - row * (high + gapY);
    const line = { gridcolor: colour("line"), zerolinecolor: colour("faint"), linecolor: colour("line"), automargin: true };
    layout[`xaxis${name}`] = { ...line, domain: [left, left + wide], anchor: `y${name}` };
    layout[`yaxis${name}`] = { ...line, domain: [Math.max(0, top - high), top], anchor: `x${name}` };
    if (titles[at]) {
      layout.annotations.push({ text: `<b>${plain(titles[at])}</b>`, xref: "paper", yref: "paper", x: left, y: top,
        xanchor: "left", yanchor: "bottom", yshift: 4, showarrow: false, font: { size: 12 } });
    }
  }
  return layout;
}

function columnsFor(box, least, panels) { return Math.max(1, Math.min(panels, Math.floor(box.clientWidth / least))); }

// A label in lines of so many characters.
function inLines(text, most) {
  const lines = [""];
  for (const word of text.split(" ")) {
    if (lines.at(-1) && lines.at(-1).length + word.length >= most) lines.push("");
    lines.push(`${lines.pop()} ${word}`.trim());
  }
  return lines.map((line) => plain(shortened(line, most + 4))).join("<br>");
}

function shortened(text, most) { return text.length > most ? `${text.slice(0, most - 1)}…` : text; }

function courses(chart, box, left) {
  const metric = DATA.metrics.indexOf(chosen.metric);
  const panels = chart.panels.map((panel) => ({ label: panel.label, cells: panel.cells.map((at) => cells[at]).filter((cell) => left.has(cell)) }))
    .filter((panel) => panel.cells.some((cell) => cell.courses.has(metric)));
  const shownPanels = panels.slice(0, MOST_PANELS), traces = [], seen = new Set();
  const levels = [...new Set(cells.map((cell) => cell.level))].sort((a, b) => a - b);
  const columns = columnsFor(box, 300, shownPanels.length), rows = Math.ceil(shownPanels.length / columns);
  shownPanels.forEach((panel, at) => {
    const axis = { xaxis: at ? `x${at + 1}` : "x", yaxis: at ? `y${at + 1}` : "y" };
    for (const level of levels) {
      const own = panel.cells.filter((cell) => cell.level === level && cell.courses.has(metric));
      if (own.length === 0) continue;
      const place = levels.indexOf(level), hue = COLOURS[place % COLOURS.length], group = `level ${level}`;
      const times = [...new Set(own.flatMap((cell) => [...cell.courses.get(metric).keys()]))].sort((a, b) => a - b);
      const means = times.map((time) => meanOf(own.map((cell) => cell.courses.get(metric).get(time)).filter(Boolean)));
      const band = means.map((one, index) => ({ ...one, time: times[index] })).filter((one) => one.value !== undefined && one.low !== null);
      if (band.length > 0) {
        traces.push({ ...axis, type: "scatter", mode: "lines", x: [...band.map((one) => one.time), ...band.map((one) => one.time).reverse()],
          y: [...band.map((one) => one.low), ...band.map((one) => one.high).reverse()], fill: "toself", fillcolor: tinted(hue, 0.18),
          line: { width: 0 }, hoverinfo: "skip", legendgroup: group, showlegend: false });
      }
      if (own.length > 1 && own.length <= MOST_THIN) {
        for (const cell of own) {
          const course = cell.courses.get(metric), when = [...course.keys()];
          traces.push({ ...axis, type: "scatter", mode: "lines", x: when, y: when.map((time) => course.get(time).value), line: { width: 1, color: tinted(hue, 0.45) },
            text: when.map((time) => plain(`seed ${cell.seed}, generation ${time}: ${said(course.get(time).value, course.get(time).low, course.get(time).high)}`)),
            hovertemplate: "%{text}<extra></extra>", legendgroup: group, showlegend: false });
        }
      }
      const name = level === null ? "all cells" : `initial bias ${level}`;
      traces.push({ ...axis, type: "scatter", mode: "lines+markers", x: times, y: means.map((one) => one && one.value), name, legendgroup: group, showlegend: !seen.has(group),
        line: { color: hue, width: 2, dash: DASHES[place % DASHES.length] }, marker: { symbol: MARKS[place % MARKS.length], size: 8, color: hue },
        text: means.map((one, index) => (one ? plain(`${panel.label}\n${name}, generation ${times[index]}: ${said(one.value, one.low, one.high)}, ${one.n} cell${one.n === 1 ? "" : "s"}`).replace("\n", "<br>") : "")),
        hovertemplate: "%{text}<extra></extra>" });
      seen.add(group);
    }
  });
  const width = Math.floor(box.clientWidth / columns / 7.2);
  const layout = layoutOf(shownPanels.length, columns, 134 + 290 * rows, shownPanels.map((panel) => shortened(panel.label, width)));
  shownPanels.forEach((_, at) => {
    Object.assign(layout[`xaxis${at ? at + 1 : ""}`], { title: { text: "generation", standoff: 6 }, zeroline: false, nticks: 8, tickformat: "d", matches: at ? "x" : undefined });
    Object.assign(layout[`yaxis${at ? at + 1 : ""}`], { matches: at ? "y" : undefined });
  });
  return { traces, layout, note: panels.length > MOST_PANELS ? `The first ${MOST_PANELS} of ${panels.length} conditions: filter for others.` : "" };
}

function forest(chart, box, left, wanted) {
  const panels = chart.panels.map((panel) => ({ title: panel.title, rows: panel.rows.filter((row) => fits(row.about, wanted)) })).filter((panel) => panel.rows.length > 0);
  const columns = columnsFor(box, 330, panels.length), rows = Math.ceil(panels.length / columns), traces = [];
  const labels = [...new Set(panels.flatMap((panel) => panel.rows.map((row) => row.label)))];
  const series = [...new Set(chart.panels.flatMap((panel) => panel.rows.map((row) => row.series)))];
  const seen = new Set(), most = Math.max(14, Math.floor(box.clientWidth / 28));
  panels.forEach((panel, at) => {
    const here = series.filter((name) => panel.rows.some((row) => row.series === name));
    const aside = (name) => (here.indexOf(name) - (here.length - 1) / 2) * (0.5 / here.length);
    for (const name of here) {
      const own = panel.rows.filter((row) => row.series === name), place = series.indexOf(name);
      const hue = COLOURS[place % COLOURS.length], ends = own.map((row) => row.low !== null && row.high !== null);
      traces.push({ xaxis: at ? `x${at + 1}` : "x", yaxis: at ? `y${at + 1}` : "y", type: "scatter", mode: "markers", name: plain(name), legendgroup: name, showlegend: !seen.has(name),
        x: own.map((row) => row.value), y: own.map((row) => labels.indexOf(row.label) + aside(name)),
        marker: { color: hue, size: 8, symbol: MARKS[place % MARKS.length] },
        error_x: { type: "data", symmetric: false, array: own.map((row, i) => (ends[i] ? row.high - row.value : 0)), arrayminus: own.map((row, i) => (ends[i] ? row.value - row.low : 0)), color: hue, thickness: 1.6, width: 0 },
        text: own.map((row) => `${plain(row.label)}, ${plain(row.series)}<br>${plain(panel.title)}: ${said(row.value, row.low, row.high, chart.unit)}, n = ${row.n}`), hovertemplate: "%{text}<extra></extra>" });
      seen.add(name);
    }
  });
  const height = Math.max(220, 134 + rows * (70 + 30 * labels.length));
  const layout = layoutOf(panels.length, columns, height, panels.map((panel) => shortened(panel.title, Math.floor(box.clientWidth / columns / 7.5))), { showlegend: series.length > 1 });
  panels.forEach((_, at) => {
    Object.assign(layout[`xaxis${at ? at + 1 : ""}`], { zeroline: true, zerolinewidth: 1.5, rangemode: chart.from_zero ? "tozero" : "normal", ticksuffix: chart.unit, nticks: 5 });
    Object.assign(layout[`yaxis${at ? at + 1 : ""}`], { range: [labels.length - 0.5, -0.5], zeroline: false, tickvals: labels.map((_, place) => place), ticktext: labels.map((text) => inLines(text, most)), showticklabels: at % columns === 0 });
  });
  return { traces, layout, note: "" };
}

// Means over corpora against what is known of them, a line for each series.
function lines(chart, box, left, wanted) {
  const panels = chart.panels.map((panel) => ({ title: panel.title, rows: panel.rows.filter((row) => fits(row.about, wanted)) })).filter((panel) => panel.rows.length > 0);
  const columns = columnsFor(box, 300, panels.length), traces = [];
  const series = [...new Set(chart.panels.flatMap((panel) => panel.rows.map((row) => row.series)))], seen = new Set();
  panels.forEach((panel, at) => {
    for (const name of series) {
      const own = panel.rows.filter((row) => row.series === name), place = series.indexOf(name), hue = COLOURS[place % COLOURS.length];
      if (own.length === 0) continue;
      const bounded = own.map((row) => row.low !== null && row.high !== null);
      traces.push({ xaxis: at ? `x${at + 1}` : "x", yaxis: at ? `y${at + 1}` : "y", type: "scatter", mode: "lines+markers", name: plain(name), legendgroup: name, showlegend: !seen.has(name),
        x: own.map((row) => row.at), y: own.map((row) => row.value), line: { color: hue, width: 2, dash: DASHES[place % DASHES.length] }, marker: { color: hue, size: 7, symbol: MARKS[place % MARKS.length] },
        error_y: { type: "data", symmetric: false, array: own.map((row, i) => (bounded[i] ? row.high - row.value : 0)), arrayminus: own.map((row, i) => (bounded[i] ? row.value - row.low : 0)), color: hue, thickness: 1.4, width: 0 },
        text: own.map((row) => `${plain(panel.title)}, ${plain(name)}<br>${plain(row.label)}: ${said(row.value, row.low, row.high)}, n = ${row.n}`), hovertemplate: "%{text}<extra></extra>" });
      seen.add(name);
    }
  });
  const layout = layoutOf(panels.length, columns, 134 + 270 * Math.ceil(panels.length / columns), panels.map((panel) => shortened(panel.title, Math.floor(box.clientWidth / columns / 7.2))), { showlegend: series.length > 1 });
  panels.forEach((_, at) => Object.assign(layout[`xaxis${at ? at + 1 : ""}`], { title: { text: plain(chart.axes[0]), standoff: 6 }, zeroline: false, nticks: 6 }));
  return { traces, layout, note: "" };
}

function cloud(chart, box, left) {
  const after = chosen.after, traces = [], [x, y] = chart.axes;
  const names = chart.panels.map((panel) => panel.label);
  chart.panels.forEach((panel, at) => {
    const points = panel.cells.map((place) => cells[place]).filter((cell) => left.has(cell)).flatMap((cell) => {
      const pick = (metric) => cell.courses.get(DATA.metrics.indexOf(after + metric)) ?? cell.courses.get(DATA.metrics.indexOf(metric)) ?? new Map();
      const [across, up] = [pick(x), pick(y)];
      return [...across.keys()].filter((time) => time > 0 && up.has(time) && across.get(time).value !== null && up.get(time).value !== null)
        .map((time) => ({ cell, time, across: across.get(time), up: up.get(time) }));
    }).slice(0, Math.ceil(MOST_POINTS / names.length));
    if (points.length === 0) return;
    traces.push({ type: "scatter", mode: "markers", name: plain(shortened(panel.label, 60)), x: points.map((one) => one.across.value), y: points.map((one) => one.up.value),
      marker: { color: COLOURS[at % COLOURS.length], symbol: MARKS[at % MARKS.length], size: 8, opacity: 0.75 },
      text: points.map((one) => `${plain(panel.label)}<br>initial bias ${one.cell.level}, seed ${plain(one.cell.seed)}, generation ${one.time}<br>${plain(x)} ${said(one.across.value, one.across.low, one.across.high)}<br>${plain(y)} ${said(one.up.value, one.up.low, one.up.high)}`),
      hovertemplate: "%{text}<extra></extra>" });
  });
  const layout = layoutOf(1, 1, 440, []);
  layout.xaxis.title = { text: plain(DATA.titles[x] ?? x), standoff: 6 };
  layout.yaxis.title = { text: plain(DATA.titles[y] ?? y) };
  return { traces, layout, note: "" };
}

function fits(about, wanted) {
  return Object.entries(about).every(([key, value]) => !wanted.has(key) || wanted.get(key) === value);
}

function choiceOf(title, values, current, then) {
  const select = element("select");
  for (const [value, text] of values) select.append(element("option", text, { value }));
  select.value = current;
  select.addEventListener("input", () => { then(select.value); drawCharts(); });
  return labelled(title, select);
}

function controlsOf(chart) {
  const bar = element("div", undefined, { class: "filters" });
  if (chart.kind === "courses") {
    const measured = new Set(chart.panels.flatMap((panel) => panel.cells.flatMap((at) => [...cells[at].courses.keys()])));
    const names = DATA.metrics.filter((metric, at) => measured.has(at));
    const first = DATA.headline.map(([metric]) => metric).filter((metric) => names.includes(metric));
    const ordered = [...first, ...names.filter((metric) => !first.includes(metric))];
    chosen.metric = ordered[0];
    bar.append(choiceOf("measure", ordered.map((metric) => [metric, DATA.titles[metric] ?? metric]), chosen.metric, (value) => { chosen.metric = value; }));
  }
  if (chart.kind === "cloud" && DATA.metrics.some((metric) => metric.startsWith("mitigated/"))) {
    bar.append(choiceOf("measured", [["", "as written"], ["mitigated/", "after the mitigation"]], "", (value) => { chosen.after = value; }));
  }
  return bar;
}

function drawChart(chart, left, wanted) {
  const box = document.querySelector(`#${chart.id} .plot`);
  const { traces, layout, note } = { courses, forest, lines, cloud }[chart.kind](chart, box, left, wanted);
  const line = document.querySelector(`#${chart.id} .plot-note`);
  line.textContent = traces.length === 0 ? "The filters leave nothing of this figure." : note;
  box.hidden = traces.length === 0;
  if (traces.length === 0) return;
  const name = `${chart.id.replace("chart-", "")}`;
  Plotly.react(box, traces, { ...layout, uirevision: `${[...wanted]}${chosen.metric}${chosen.after}` }, { responsive: false, displaylogo: false, displayModeBar: true,
    modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"], toImageButtonOptions: { format: "svg", filename: name },
    modeBarButtonsToAdd: [{ name: "Download as PNG", icon: Plotly.Icons.disk, click: (plot) => Plotly.downloadImage(plot, { format: "png", scale: 3, filename: name }) }] });
}

function drawCharts() {
  const left = new Set(fitting()), wanted = wantedFields();
  for (const chart of CHARTS) drawChart(chart, left, wanted);
  for (const line of document.querySelectorAll("tr[data-about]")) line.hidden = !fits(JSON.parse(line.dataset.about), wanted);
}

for (const chart of CHARTS) document.querySelector(`#${chart.id} .plot`).before(controlsOf(chart));
for (const still of document.querySelectorAll("details.still")) {
  still.open = false;
  const link = still.querySelector("a");
  link.href = still.querySelector("img").src;
}
document.querySelector("#filter-note")?.removeAttribute("hidden");
form.addEventListener("input", drawCharts);
form.addEventListener("reset", () => setTimeout(drawCharts, 0));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawCharts);
let pending = 0, width = innerWidth;
addEventListener("resize", () => { if (innerWidth === width) return; width = innerWidth; clearTimeout(pending); pending = setTimeout(drawCharts, 150); });
drawCharts();
