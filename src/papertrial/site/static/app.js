// What a page does beyond being read: filter and sort what is there, follow a run. (What lays pictures over each
// other is shared with the report: papertrial/trial/templates/compare.js.)
// Everything works without it; nothing here loads anything but this site's own events.
"use strict";

// Filter: rows say their field, their verdicts and words of their own beside what they show.
for (const form of document.querySelectorAll("form[data-filter]")) {
  const rows = [...document.querySelectorAll("[data-row]")].map((element) => ({
    element,
    field: element.dataset.field,
    verdicts: (element.dataset.verdicts || "").split(","),
    text: `${element.textContent} ${element.dataset.more || ""}`.toLocaleLowerCase(),
  }));
  const groups = [...document.querySelectorAll("[data-group]")];
  const count = form.querySelector("[data-count]");
  const nothing = document.querySelector("[data-nothing]");
  const apply = () => {
    const words = form.elements.q.value.toLocaleLowerCase().split(/\s+/).filter(Boolean);
    const field = form.elements.field.value;
    const verdict = form.elements.verdict.value;
    let shown = 0;
    for (const row of rows) {
      const fits =
        (!field || row.field === field) &&
        (!verdict || row.verdicts.includes(verdict)) &&
        words.every((word) => row.text.includes(word));
      row.element.hidden = !fits;
      shown += fits ? 1 : 0;
    }
    for (const group of groups) {
      const own = [...group.querySelectorAll("[data-row]")];
      group.hidden = own.length > 0 && own.every((row) => row.hidden);
    }
    count.textContent = shown;
    nothing.hidden = shown > 0;
  };
  form.hidden = false;
  form.addEventListener("input", apply);
  form.addEventListener("change", apply);
  if (!form.querySelector("button")) form.addEventListener("submit", (event) => event.preventDefault());
}

// Sort: by what a column shows, verdicts in their own order; a second press turns the order round.
for (const table of document.querySelectorAll("table[data-sortable]")) {
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  const order = [...document.querySelectorAll("[data-filter] [name=verdict] option")].map((one) => one.value);
  const key = (row, column, name) =>
    name === "verdict" ? String(order.indexOf(row.dataset.verdicts)) : row.cells[column].textContent.trim();
  for (const [column, head] of heads.entries()) {
    if (!head.dataset.sort) continue;
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent.trim();
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const turned = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
      const rows = [...body.rows].map((row) => [key(row, column, head.dataset.sort), row]);
      rows.sort((one, other) => turned * one[0].localeCompare(other[0], undefined, { numeric: true }));
      body.append(...rows.map((pair) => pair[1]));
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", turned > 0 ? "ascending" : "descending");
    });
  }
}

// Follow a run: the server sends what the page would show, already escaped; at its end the page is read anew.
for (const region of document.querySelectorAll("[data-events]")) {
  const events = new EventSource(region.dataset.events);
  events.addEventListener("progress", (event) => {
    const focused = region.contains(document.activeElement);
    if (!focused) region.innerHTML = JSON.parse(event.data).html;
  });
  events.addEventListener("end", () => {
    events.close();
    window.location.reload();
  });
  window.addEventListener("pagehide", () => events.close());
}
