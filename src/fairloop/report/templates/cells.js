// The table of cells, its filters, and the panel of one cell or of two. All text is set as text, never as markup.
const STEP = 100;
const FIELDS = ["choice", "ablation", "level", "seed", "model", "study"];
const TITLES = { study: "study", model: "model", choice: "mitigation or method", ablation: "ablation", level: "initial bias", seed: "seed" };
const cells = DATA.cells.map(([name, study, model, choice, level, seed, ablation, settings, rows], index) => (
  { name, study, model, choice, level, seed, ablation, settings, rows, index }));
const form = document.querySelector("#filters");
const place = document.querySelector("#cell-table");
const more = document.querySelector("#more");
const panel = document.querySelector("#panel");
const state = { shown: STEP, column: null, sign: 1, pinned: null, opener: null };

function isolated(tag, text, attributes) {
  const made = element(tag, undefined, attributes);
  made.append(element("bdi", text));
  return made;
}

// A value of a field as the user chose it: an initial level by its option's name.
function called(field, value) {
  if (value === null || value === "") return "none";
  const name = field === "level" ? DATA.levels[String(value)] : undefined;
  return name === undefined ? String(value) : `${name} (${value})`;
}

function shown(value, metric) {
  if (value === null) return "–";
  if (DATA.counts.includes(metric)) return value.toFixed(0);
  return Math.abs(value) >= 1000 ? value.toFixed(0) : value.toFixed(3).replace(/^-(0\.000)$/, "$1");
}

// [generation, metric, value, low, high, remark] of a cell, unpacked from one flat list.
function measures(cell) {
  const found = [];
  for (let at = 0; at < cell.rows.length; at += 6) {
    const [generation, metric, value, low, high, remark] = cell.rows.slice(at, at + 6);
    found.push({ generation, metric: DATA.metrics[metric], value, low, high, remark: DATA.remarks[remark] });
  }
  return found;
}

function settings(cell) {
  const found = new Map();
  for (let at = 0; at < cell.settings.length; at += 2) {
    found.set(DATA.keys[cell.settings[at]], DATA.values[cell.settings[at + 1]]);
  }
  return found;
}

for (const cell of cells) {
  const last = new Map();
  for (const one of measures(cell)) {
    const before = last.get(one.metric);
    if (!before || one.generation >= before.generation) last.set(one.metric, one);
  }
  cell.courses = new Map();
  for (let at = 0; at < cell.rows.length; at += 6) {
    const [generation, metric, value, low, high] = cell.rows.slice(at, at + 6);
    if (generation === null) continue;
    if (!cell.courses.has(metric)) cell.courses.set(metric, new Map());
    cell.courses.get(metric).set(generation, { value, low, high });
  }
  cell.headline = DATA.headline.map(([metric]) => (last.has(metric) ? last.get(metric).value : null));
  cell.text = [cell.name, ...FIELDS.map((field) => called(field, cell[field])), ...[...settings(cell)].flat()].join(" ").toLowerCase();
}

function makeFilters() {
  const search = element("input", undefined, { type: "search", name: "text", autocomplete: "off" });
  form.append(labelled("text", search));
  for (const field of FIELDS) {
    const values = [...new Set(cells.map((cell) => cell[field] ?? ""))].sort((a, b) => compare(a, b, 1));
    if (values.length < 2) continue;
    const select = element("select", undefined, { name: field });
    select.append(element("option", "all", { value: "*" }));
    for (const value of values) select.append(element("option", called(field, value), { value }));
    form.append(labelled(TITLES[field], select));
  }
  form.append(element("button", "reset", { type: "reset" }));
  form.hidden = false;
  form.addEventListener("input", () => { state.shown = STEP; draw(); });
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(() => { state.shown = STEP; draw(); }, 0));
}

// The fields for which a value is chosen, with it.
function wantedFields() {
  const wanted = new FormData(form);
  return new Map(FIELDS.filter((field) => wanted.has(field) && wanted.get(field) !== "*").map((field) => [field, wanted.get(field)]));
}

function fitting() {
  const wanted = new FormData(form);
  const text = (wanted.get("text") ?? "").trim().toLowerCase();
  return cells.filter((cell) => cell.text.includes(text) && FIELDS.every(
    (field) => !wanted.has(field) || wanted.get(field) === "*" || wanted.get(field) === String(cell[field] ?? "")));
}

function columns(chosen) {
  // First what the user chose and what came of it; what is the same everywhere stands in a cell's own panel.
  const varied = FIELDS.filter((field) => new Set(cells.map((cell) => cell[field])).size > 1);
  const fields = varied.length > 0 ? varied : ["choice"];
  const metrics = DATA.headline.map(([, title], at) => ({ title, at }))
    .filter(({ at }) => chosen.some((cell) => cell.headline[at] !== null));
  return [
    ...fields.map((field) => ({ title: TITLES[field], key: (cell) => cell[field], text: (cell) => called(field, cell[field]), label: true })),
    ...metrics.map(({ title, at }) => ({ title, key: (cell) => cell.headline[at], number: true, metric: DATA.headline[at][0] })),
    { title: "cell", key: (cell) => cell.name, label: true },
  ];
}

function draw() {
  const chosen = fitting();
  const found = columns(chosen);
  const sorted = found.find((column) => column.title === state.column);
  if (sorted) chosen.sort((one, other) => compare(sorted.key(one), sorted.key(other), state.sign) || one.index - other.index);
  const table = element("table");
  const head = table.createTHead().insertRow();
  for (const column of found) head.append(element("th", column.title, { scope: "col", class: column.number ? "number" : "label" }));
  const body = table.createTBody();
  for (const cell of chosen.slice(0, state.shown)) body.append(row(cell, found));
  const focused = place.contains(document.activeElement) ? document.activeElement.textContent : null;
  place.replaceChildren(table);
  place.hidden = false;
  const heads = Array.from(head.cells);
  sortable(heads, (at, sign) => { state.column = found[at].title; state.sign = sign; draw(); });
  const at = found.indexOf(sorted);
  if (at >= 0) heads[at].setAttribute("aria-sort", state.sign === 1 ? "ascending" : "descending");
  heads.find((one) => one.textContent === focused)?.querySelector("button").focus();
  const visible = Math.min(state.shown, chosen.length);
  document.querySelector("#shown").textContent = `${chosen.length} of ${cells.length} cells`
    + (visible < chosen.length ? `, the first ${visible} below` : "");
  more.hidden = visible === chosen.length;
}

function row(cell, found) {
  const made = element("tr");
  const opener = isolated("button", found[0].text(cell), { type: "button", class: "open" });
  opener.addEventListener("click", () => { state.opener = opener; open(cell); });
  const first = element("td", undefined, { class: "label" });
  first.append(opener);
  made.append(first);
  for (const column of found.slice(1)) {
    const value = column.key(cell);
    made.append(column.number ? element("td", shown(value, column.metric), { class: "number" })
      : isolated("td", value === null ? "–" : column.text ? column.text(cell) : String(value), { class: "label" }));
  }
  return made;
}

function title(cell) {
  return [cell.study, cell.model, cell.choice, cell.level === null ? null : `initial bias ${called("level", cell.level)}`, `seed ${cell.seed}`]
    .filter((part) => part !== null && part !== "").join(" · ");
}

function open(cell) {
  const pinned = state.pinned;
  const bar = element("div", undefined, { class: "bar" });
  bar.append(action("Close", close));
  if (pinned === null) bar.append(action("Compare with another cell", () => pin(cell)));
  else bar.append(action("Stop comparing", () => pin(null)));
  panel.replaceChildren(bar);
  if (pinned !== null && pinned !== cell) showTwo(pinned, cell);
  else showOne(cell);
  panel.hidden = false;
  panel.scrollTop = 0;
  panel.focus();
}

function action(text, does) {
  const button = element("button", text, { type: "button" });
  button.addEventListener("click", does);
  return button;
}

function pin(cell) {
  state.pinned = cell;
  document.querySelector("#pinned")?.remove();
  if (cell !== null) {
    const line = isolated("p", `Comparing with ${cell.name} (${title(cell)}): open a second cell.`, { id: "pinned", class: "pinned" });
    line.append(" ", action("Stop comparing", () => pin(null)));
    place.before(line);
  }
  close();
}

function close() {
  panel.hidden = true;
  panel.replaceChildren();
  if (state.opener?.isConnected) state.opener.focus();
}

function showOne(cell) {
  panel.append(isolated("h3", title(cell), { id: "panel-title" }), element("p", cell.name, { class: "faint" }));
  panel.append(element("h4", "Settings that differ from the common configuration"));
  const rows = [...settings(cell)].map(([key, value]) => [key, value]);
  panel.append(rows.length ? grid(["setting", "value"], rows, 2) : element("p", "None."));
  panel.append(element("h4", "Measures"), byGeneration(cell));
  if (measures(cell).some((one) => one.remark && one.low !== null)) panel.append(element("p", DATA.note, { class: "faint" }));
  panel.append(element("h4", "Sentences"));
  const sentences = document.querySelector(`#sentences-${cell.index}`);
  if (sentences === null) panel.append(element("p", "Not kept in this page: see the note above the table."));
  else panel.append(...Array.from(sentences.childNodes, (node) => node.cloneNode(true)));
}

function byGeneration(cell) {
  const found = measures(cell);
  const generations = [...new Set(found.map((one) => one.generation))];
  const rows = [...new Set(found.map((one) => one.metric))].map((metric) => [metric, ...generations.map((generation) => {
    const one = found.find((other) => other.metric === metric && other.generation === generation);
    return one ? interval(one.value, one.low, one.high, false, metric, one.remark) : "";
  })]);
  return grid(["metric", ...generations.map((one) => (one === null ? "whole cell" : `gen ${one}`))], rows, 1);
}

function interval(value, low, high, signed = false, metric = null, remark = "") {
  if (value === null) return "–";
  const sign = (number) => (signed && number > 0 ? "+" : "") + shown(number, metric);
  if (low !== null && high !== null) return `${sign(value)} [${sign(low)}, ${sign(high)}]${remark}`;
  return remark === "" ? sign(value) : `${sign(value)} (${remark})`;
}

// B - A with the interval that follows from the two cells' own ones, taken as independent (Zou and Donner 2008).
function difference(one, other) {
  if (one.value === null || other.value === null) return [null, null, null];
  const change = other.value - one.value;
  if ([one.low, one.high, other.low, other.high].includes(null)) return [change, null, null];
  return [change, change - Math.hypot(other.value - other.low, one.high - one.value),
    change + Math.hypot(other.high - other.value, one.value - one.low)];
}

function showTwo(first, second) {
  panel.append(element("h3", "A against B", { id: "panel-title" }));
  panel.append(isolated("p", `A: ${first.name} (${title(first)})`), isolated("p", `B: ${second.name} (${title(second)})`));
  const [one, other] = [settings(first), settings(second)];
  const keys = [...new Set([...one.keys(), ...other.keys()])].filter((key) => one.get(key) !== other.get(key));
  panel.append(element("h4", "Settings that differ"));
  panel.append(keys.length ? grid(["setting", "A", "B"], keys.map((key) => [key, one.get(key) ?? "", other.get(key) ?? ""]), 3)
    : element("p", "None."));
  const found = measures(second);
  const rows = measures(first).flatMap((measure) => {
    const match = found.find((candidate) => candidate.metric === measure.metric && candidate.generation === measure.generation);
    if (!match) return [];
    const change = difference(measure, match);
    const apart = change[1] !== null && (change[1] > 0 || change[2] < 0) ? " *" : "";
    return [[measure.metric, measure.generation === null ? "" : String(measure.generation), shown(measure.value, measure.metric),
      shown(match.value, measure.metric), interval(...change, true, null, change[1] === null ? measure.remark || match.remark : "") + apart]];
  });
  panel.append(element("h4", "Measures"), grid(["metric", "gen", "A", "B", "B − A"], rows, 1));
  panel.append(element("p", "Intervals of B − A follow from the two cells' own intervals, as if the cells were independent; "
    + "* excludes zero, one measure at a time. fairloop-report A B tests them together.", { class: "faint" }));
}

function grid(titles, rows, labels) {
  const box = element("div", undefined, { class: "wide", tabindex: "0", role: "region", "aria-label": titles.join(", ") });
  const table = element("table");
  const head = table.createTHead().insertRow();
  const kind = (at) => ({ class: at < labels ? "label" : "number" });
  titles.forEach((text, at) => head.append(element("th", text, { scope: "col", ...kind(at) })));
  const body = table.createTBody();
  for (const texts of rows) {
    const line = body.insertRow();
    texts.forEach((text, at) => line.append(isolated("td", text, kind(at))));
  }
  box.append(table);
  return box;
}

document.addEventListener("keydown", (event) => { if (event.key === "Escape" && !panel.hidden) close(); });
more.addEventListener("click", () => { state.shown += STEP; draw(); });
document.querySelector("#cell-list").hidden = true;
makeFilters();
draw();
