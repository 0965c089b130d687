// Filters, and activity as it happens. Without it the page works as it was sent.
"use strict";

const filter = document.getElementById("filter");
const found = document.getElementById("found");

function applyFilter() {
  const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
  let shown = 0;
  for (const account of document.querySelectorAll(".account")) {
    let any = false;
    for (const role of account.querySelectorAll(".role")) {
      const fits = words.every((word) => role.dataset.search.includes(word));
      role.hidden = !fits;
      any = any || fits;
      shown += fits ? 1 : 0;
    }
    account.hidden = !any;
  }
  found.textContent = words.length === 0 ? "" : shown === 1 ? "1 role fits" : shown + " roles fit";
}
filter.addEventListener("input", applyFilter);
// The server has filtered by what was sent; only what it left out needs a request.
filter.form.addEventListener("submit", (event) => {
  if (!new URLSearchParams(location.search).get("q")) {
    event.preventDefault();
    applyFilter();
  }
});

const table = document.getElementById("lines");
const body = table.tBodies[0];
const empty = document.getElementById("line");
const live = document.getElementById("live");
const denials = document.getElementById("denials");
const most = 200;

function showDenials() {
  table.classList.toggle("only-denied", denials.checked);
}
denials.addEventListener("change", showDenials);
showDenials();

// What a line holds comes from clients, so it is only ever set as text.
function addLine(line) {
  const row = empty.content.firstElementChild.cloneNode(true);
  row.classList.toggle("denied", line.denied);
  for (const cell of row.querySelectorAll("[data-is]")) {
    cell.textContent = line[cell.dataset.is];
  }
  row.querySelector("time").dateTime = line.time;
  row.querySelector(".why").hidden = !line.advice && !line.statement;
  row.querySelector("pre").hidden = !line.statement;
  body.prepend(row);
  while (body.rows.length > most) {
    body.deleteRow(-1);
  }
}

const events = new EventSource(table.dataset.events);
events.addEventListener("open", () => { live.textContent = "Live: new calls appear on top."; });
events.addEventListener("message", (event) => { addLine(JSON.parse(event.data)); });
events.addEventListener("error", () => {
  live.textContent = events.readyState === EventSource.CLOSED ? "Not live any more: reload the page." : "The connection broke off; trying again.";
});
