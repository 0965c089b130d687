// Buttons that copy what is shown, where the browser lets a page do so.
"use strict";

for (const shown of navigator.clipboard ? document.querySelectorAll("pre") : []) {
  const button = document.createElement("button");
  const said = document.createElement("span");
  button.type = "button";
  button.className = "copy";
  button.textContent = "Copy";
  button.setAttribute("aria-label", "Copy: " + shown.getAttribute("aria-label"));
  said.className = "sr";
  said.setAttribute("role", "status");
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(shown.textContent);
      button.textContent = "Copied";
      said.textContent = "Copied";
    } catch {
      button.textContent = "Select and copy by hand";
    }
    setTimeout(() => { button.textContent = "Copy"; said.textContent = ""; }, 2000);
  });
  const frame = document.createElement("div");
  frame.className = "frame";
  shown.replaceWith(frame);
  frame.append(shown, button, said);
}
