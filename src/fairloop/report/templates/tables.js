"use strict";
// Tables sort by a click on a column's head, or Enter on it; long ones get a field that narrows them.
const LONG = 12;

function order(text) {
  const cleaned = text.trim().replace(/^[<≈]/, "").replace("∞", "Infinity").replace(/^\+/, "").replace(/^\u2212/, "-");
  const number = Number.parseFloat(cleaned);
  return Number.isNaN(number) ? null : number;
}

// What is undefined comes last, whichever way the rest is sorted.
function compare(one, other, sign) {
  const blank = (value) => value === null || value === "" || value === "–";
  if (blank(one) || blank(other)) return Number(blank(one)) - Number(blank(other));
  if (typeof one === "number" && typeof other === "number") return sign * (one - other);
  return sign * String(one).localeCompare(String(other), undefined, { numeric: true });
}

// Turn the heads of a table into buttons; `sort(column, sign)` brings its rows into order.
function sortable(heads, sort) {
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    head.setAttribute("aria-sort", "none");
    button.addEventListener("click", () => {
      const sign = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
      for (const other of heads) other.setAttribute("aria-sort", "none");
      head.setAttribute("aria-sort", sign === 1 ? "ascending" : "descending");
      sort(column, sign);
    });
  });
}

function enliven(table) {
  const body = table.tBodies[0];
  const rows = Array.from(body.rows);
  sortable(Array.from(table.tHead.rows[0].cells), (column, sign) => {
    const keys = rows.map((row) => row.cells[column].textContent.trim());
    const numbers = keys.every((key) => order(key) !== null || key === "–" || key === "");
    const values = new Map(rows.map((row, place) => [row, numbers ? order(keys[place]) : keys[place]]));
    rows.sort((one, other) => compare(values.get(one), values.get(other), sign));
    body.append(...rows);
  });
  if (rows.length <= LONG) return;
  const field = document.createElement("input");
  field.type = "search";
  field.className = "narrow";
  field.placeholder = "narrow these rows";
  field.setAttribute("aria-label", `narrow the rows of: ${table.parentElement.getAttribute("aria-label")}`);
  field.addEventListener("input", () => {
    const wanted = field.value.trim().toLowerCase();
    for (const row of rows) row.hidden = !row.textContent.toLowerCase().includes(wanted);
  });
  table.parentElement.before(field);
}

for (const table of document.querySelectorAll("table.sortable")) enliven(table);
