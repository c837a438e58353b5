"use strict";
const rows = Array.from(document.querySelectorAll("#pairs tbody tr"));
const body = document.querySelector("#pairs tbody");
const controls = Array.from(document.querySelectorAll("#filters select, #filters input"));
const shown = document.querySelector("#shown");
function value(row, key) {
  const text = row.dataset[key];
  return text === "" ? Infinity : Number(text);
}
function update() {
  const wanted = Object.fromEntries(controls.map((control) => [control.name, control.value]));
  const text = wanted.text.trim().toLowerCase();
  let count = 0;
  for (const row of rows) {
    const fits = ["status", "reason", "attribute", "kind", "source"].every(
      (key) => wanted[key] === "" || row.dataset[key] === wanted[key]);
    row.hidden = !(fits && row.textContent.toLowerCase().includes(text));
    count += row.hidden ? 0 : 1;
  }
  const key = wanted.order.replace("-", "");
  const sign = wanted.order.startsWith("-") ? -1 : 1;
  rows.sort((a, b) => {
    const [x, y] = [value(a, key), value(b, key)];
    if (x === y) return value(a, "item") - value(b, "item");
    if (x === Infinity || y === Infinity) return x === Infinity ? 1 : -1;
    return sign * (x - y);
  });
  body.append(...rows);
  shown.textContent = `${count} of ${rows.length} pairs`;
}
for (const control of controls) control.addEventListener("input", update);
document.querySelector("#filters").addEventListener("submit", (event) => event.preventDefault());
document.querySelector("#filters").addEventListener("reset", () => setTimeout(update, 0));
document.querySelector("#filters").hidden = false;
update();
