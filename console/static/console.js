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

// STS has yet to say more about the roles. What somebody has begun stays as it is.
const roles = document.getElementById("roles");
async function learnMore() {
  let begun = false;
  for (const event of ["input", "toggle"]) {
    roles.addEventListener(event, () => { begun = true; }, { capture: true });
  }
  const answer = await fetch(roles.dataset.from);
  if (answer.ok && !begun && !roles.contains(document.activeElement)) {
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    roles.replaceChildren(...document.importNode(page.getElementById("roles"), true).childNodes);
    applyFilter();
  }
  delete roles.dataset.unsure;
}
if ("unsure" in roles.dataset) {
  learnMore().catch(() => {}); // the page says what is known
}

// The person's menu closes as menus do.
const menu = document.querySelector(".person");
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && menu && menu.open) {
    menu.open = false;
    menu.querySelector("summary").focus();
  }
});
document.addEventListener("click", (event) => {
  if (menu && menu.open && !menu.contains(event.target)) {
    menu.open = false;
  }
});

const table = document.getElementById("lines");
const body = table.tBodies[0];
const empty = document.getElementById("line");
const live = document.getElementById("live");
const denials = document.getElementById("denials");
const nothing = document.getElementById("nothing");
const most = 200;

function showDenials() {
  table.classList.toggle("only-denied", denials.checked);
  nothing.hidden = body.querySelector(denials.checked ? ".denied" : "tr") !== null;
  nothing.textContent = denials.checked ? "Nothing was denied." : "No calls yet. They appear here as programs make them.";
}
denials.addEventListener("change", showDenials);
showDenials();

// The statement beside a denial can be copied, where the browser lets a page do so.
function offerCopy(row) {
  const copy = row.querySelector(".copy");
  copy.hidden = !navigator.clipboard || row.querySelector("pre").hidden;
  copy.textContent = "Copy statement";
}
for (const row of body.rows) {
  offerCopy(row);
}
body.addEventListener("click", async (event) => {
  const copy = event.target.closest(".copy");
  if (!copy) {
    return;
  }
  try {
    await navigator.clipboard.writeText(copy.closest("details").querySelector("pre").textContent);
    copy.textContent = "Copied";
  } catch {
    copy.textContent = "Select and copy by hand";
  }
  setTimeout(() => { copy.textContent = "Copy statement"; }, 2000);
});

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
  offerCopy(row);
  body.prepend(row);
  while (body.rows.length > most) {
    body.deleteRow(-1);
  }
  showDenials();
}

// Calls make sessions. The list comes from the server, at most once a second.
let renewal = 0;
function renewSessions() {
  renewal = renewal || setTimeout(async () => {
    renewal = 0;
    const old = document.getElementById("live-sessions");
    try {
      const answer = await fetch(old.dataset.from);
      if (answer.ok) {
        const page = new DOMParser().parseFromString(await answer.text(), "text/html");
        old.replaceWith(document.importNode(page.getElementById("live-sessions"), true));
      }
    } catch {
      // The next call tries again.
    }
  }, 1000);
}

// The stream of calls goes on from the mark of the latest one that is shown. Browsers
// have six connections for a host, so a page that nobody sees lets go of its own.
let mark = table.dataset.mark;
let events = null;
function state(text, on) {
  live.textContent = text;
  live.classList.toggle("on", on);
}
function listen() {
  if (events || document.hidden) {
    return;
  }
  events = new EventSource(table.dataset.events + "?after=" + encodeURIComponent(mark));
  events.addEventListener("open", () => { state("live", true); });
  events.addEventListener("message", (event) => {
    mark = event.lastEventId;
    addLine(JSON.parse(event.data));
    renewSessions();
  });
  events.addEventListener("error", (event) => {
    const over = event.target.readyState === EventSource.CLOSED;
    state(over ? "not live any more: reload the page, or close other windows of it" : "the connection broke off; trying again", false);
  });
}
function pause() {
  if (events) {
    events.close();
    events = null;
  }
}
document.addEventListener("visibilitychange", () => { document.hidden ? pause() : listen(); });
addEventListener("pagehide", pause);
addEventListener("pageshow", listen);
